"""`python -m tiny`: synthetic images, training of the bundled models, and their figures.

Exit codes: 0 all done, 1 a bug, 2 bad usage or input. What a person can mend is one sentence on stderr. Nothing heavy
is imported before it is needed.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tiny.photographs.command import photographs
from tiny.training.commands import ImageCount, train_app
from zsas.errors import ZsasError

app = typer.Typer(
    help="How the bundled small models are made: synthetic images, training, figures.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(train_app, name="train")


@app.command()
def synthesize(  # long because each flag is declared here
    root: Annotated[Path, typer.Option(help="Folder to write to.", file_okay=False)],
    seed: Annotated[int, typer.Option(help="Seed of the images.", min=0)] = 1_000_000,
    per_category: Annotated[int, typer.Option(help="Test images of each family.", min=2)] = 40,
    size: Annotated[int, typer.Option(help="Width and height in pixels.", min=64)] = 384,
    families: Annotated[
        str,
        typer.Option(
            help='Textures and objects, by name, separated by commas; "held-out" (never trained on) or "all".'
        ),
    ] = "held-out",
    proxies: Annotated[
        bool,
        typer.Option(
            "--proxies",
            metavar="",
            help="Instead of families, stand-ins for four kinds of photographs, of their own sizes: long parts, "
            "tilted objects, rough ground, soft defects on metal. Half of the images are good.",
        ),
    ] = False,
    one_part: Annotated[
        bool,
        typer.Option(
            "--one-part",
            metavar="",
            help="The same part in all images of a family, once aligned and once at any angle: for good images and "
            "batches.",
        ),
    ] = False,
    photographs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of `python -m tiny photographs`: the proxies' surfaces are its photographs that no training "
            "uses.",
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Write synthetic images in MVTec-AD's layout, for `zsas evaluate folder --root DIR`."""
    from tiny.synthetic import dataset, scene
    from tiny.synthetic.one_part import PARTS

    if photographs and not proxies:
        raise ZsasError("--photographs gives proxies their surfaces: add --proxies.")
    if proxies:
        print(
            dataset.write_proxies_once(
                root, seed=seed, per_category=per_category, photographs=photographs
            )
        )
        return
    names = [name.strip() for name in families.split(",") if name.strip()]
    if one_part:
        parts = PARTS if names == ["held-out"] else names
        print(
            dataset.write_parts_once(
                root, seed=seed, per_category=per_category, size=size, families=parts
            )
        )
        return
    if names == ["all"]:
        names = list(scene.FAMILIES)
    elif names == ["held-out"]:
        names = list(scene.HELD_OUT_FAMILIES)
    print(dataset.write_once(root, seed=seed, per_category=per_category, size=size, families=names))


@app.command()
def cache(
    out: Annotated[Path, typer.Option(help="Folder of the images.", file_okay=False)] = Path(
        "runs/cache"
    ),
    count: ImageCount = 20_000,
    size: Annotated[int, typer.Option(help="Width and height in pixels.", min=64)] = 384,
    seed: Annotated[int, typer.Option(help="Seed of the images.", min=0)] = 1,
    workers: Annotated[int, typer.Option(help="Processes that draw images.", min=1)] = 1,
    photographs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of `python -m tiny photographs`: some images get a real surface.",
            file_okay=False,
        ),
    ] = None,
    photograph_fraction: Annotated[
        float, typer.Option(help="How many images get one.", min=0, max=1)
    ] = 0.3,
    object_fraction: Annotated[
        float,
        typer.Option(
            help="How many of these are objects, of a photographed material or on such a ground.",
            min=0,
            max=1,
        ),
    ] = 0.0,
) -> None:
    """Draw the synthetic images that a training reads; goes on where it was stopped."""
    from tiny.training.cache import fill

    done = fill(
        out, count=count, size=size, seed=seed, workers=workers,
        photographs=photographs, photograph_fraction=photograph_fraction, object_fraction=object_fraction,
    )  # fmt: skip
    print(f"{len(done)} images in {out}")


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Folder of the report.", file_okay=False)] = Path(
        "runs/tiny-report"
    ),
    per_category: Annotated[int, typer.Option(help="Synthetic images a family.", min=2)] = 10,
    targets: Annotated[int, typer.Option(help="Synthetic images for SAM alone.", min=1)] = 150,
    words: Annotated[
        int, typer.Option(help="Synthetic images for the effect of text.", min=1)
    ] = 120,
    root: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of photographs in MVTec-AD's layout; several if repeated."),
    ] = None,
    clip: Annotated[str | None, typer.Option(help="CLIP folder, not the bundled one.")] = None,
    sam: Annotated[str | None, typer.Option(help="SAM folder, not the bundled one.")] = None,
    adapter: Annotated[str | None, typer.Option(help="Adapter that belongs to --clip.")] = None,
) -> None:
    """Measure the small models through the engine that a user runs."""
    from tiny.training.report import write_report

    text = write_report(
        out,
        per_category=per_category,
        targets_count=targets,
        words_count=words,
        roots=root or [],
        model={"preset": "tiny", "clip": clip, "sam": sam, "adapter": adapter},
    )
    print(text)


@app.command()
def marking(
    root: Annotated[
        list[Path],
        typer.Option(
            help="Folder of images with masks in MVTec-AD's layout, as `synthesize` writes them; each counts alike.",
            exists=True,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write, not the one that the package reads.")
    ] = None,
) -> None:
    """Fit the constants of the adaptive marking level with the bundled model's maps."""
    from tiny.training.marking import fit_marking

    print(fit_marking(root, out))


app.command()(photographs)


@app.command()
def examples(
    out: Annotated[Path, typer.Option(help="Folder to write to.", file_okay=False)],
) -> None:
    """Draw images as those in `examples/`, with masks and index."""
    from tiny.synthetic.examples import write_examples

    write_examples(out)
    print(out)


def main() -> None:
    """Run the command; the entry point of the package."""
    try:
        app(prog_name="python -m tiny")
    except ZsasError as error:
        print(f"tiny: {error}", file=sys.stderr)
        sys.exit(2)
