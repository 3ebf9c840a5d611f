"""`zsas compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsas import flags
from zsas.cli.root import complain, names, say, say_json
from zsas.settings import Settings

if TYPE_CHECKING:
    from zsas.models import ModelChoice


# Long because every flag is declared here.
@flags.with_settings
@flags.with_models
def compare(
    image: Annotated[str, typer.Argument(help="An image.", metavar="IMAGE")],
    settings: Settings,
    choice: ModelChoice,
    out: Annotated[
        Path, typer.Option(help="Folder for the comparison.", metavar="DIR", file_okay=False)
    ],
    systems: Annotated[
        str | None,
        typer.Option(
            help="Systems, separated by commas; table1 means those of papers.",
            metavar="A,B,C",
            show_default="all of them",
        ),
    ] = None,
    refiners: Annotated[
        str | None,
        typer.Option(
            help="Refiners behind each system's map, separated by commas; own is the system's own.",
            metavar="A,B",
            show_default="own",
        ),
    ] = None,
    mask: Annotated[
        str | None,
        typer.Option(
            help="Its ground truth, black where normal: adds pixel AUROC, F1-max and AP.",
            metavar="FILE",
        ),
    ] = None,
    references: flags.References = None,
    part: flags.Part = None,
    region: flags.Region = None,
    ignore: flags.Ignore = None,
    json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print what is in compare.json on stdout.")
    ] = False,
) -> None:
    """Run several systems on one image and lay their answers side by side.

    DIR gets sheet.png (image, truth, each map and mask), table.md, compare.json, and a folder of results for each
    system. Systems that share an encoder run it once. What cannot run here stands in the table with the reason.
    """
    if settings.system != "auto" or settings.refiner != "own":
        raise typer.BadParameter("say which systems and refiners with --systems and --refiners")
    from zsas import comparison
    from zsas.cli.beside import opened
    from zsas.images import read_image, read_mask

    chosen = comparison.combinations(names(systems), names(refiners))
    beside = opened(part, settings, choice, region, ignore)
    if beside is not None:
        settings, choice = beside.settings.replace(system=None, refiner=None), beside.models
    read = read_image(image)
    truth = None
    if mask is not None:
        from zsas.extras import require

        require("evaluate")
        truth = read_mask(mask, (read.pixels.shape[0], read.pixels.shape[1]))
    segmenter = comparison.load_for(choice, [one.settings(settings) for one in chosen])
    rows = comparison.compare(segmenter, read, chosen, settings, truth, references or (), beside)
    found = comparison.write(rows, out, read, truth, Path(image).name)
    if json:
        say_json(found, sys.stdout)
    else:
        say(comparison.table(found["rows"], found["image"]), sys.stdout)
    for row in found["rows"]:
        if row["error"]:
            complain(f"{row['name']}: {row['error']}")
    if all(row["error"] for row in found["rows"]):
        raise typer.Exit(2)
