"""`zsas train`: trains a localizer's own weights on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zsas import flags

app = typer.Typer(
    help="Train what a localizer needs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    """Train what a localizer needs."""  # a callback keeps `adapters` a subcommand


# Long because every flag is declared here.
@app.command("adapters")
def adapters(
    dataset: Annotated[
        str,
        typer.Argument(
            help="mvtec, visa, loco, folder (MVTec-AD's layout) or flat; its test split."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.", file_okay=False)],
    root: Annotated[
        str | None,
        typer.Option(
            help="Folder of the data set, or an address such as s3://bucket/folder; mvtec and visa come from "
            "the Hub without it."
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Revision of the data set on the Hub.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Whose CLIP the layers are for.")] = "paper",
    clip: flags.Clip = None,
    system: Annotated[
        str,
        typer.Option(
            help="Whose weights: april-gan (linear layers, which paper and auto use too), sdp+, anomalyclip, clipsam, "
            "anomalyvfm or visualad."
        ),
    ] = "april-gan",
    epochs: Annotated[
        int | None,
        typer.Option(
            help="By default the recipe's: for april-gan 3 on mvtec and 15 on everything else, 5 for sdp+, 15 for "
            "anomalyclip, 6 for clipsam, 1 on visa and 2 elsewhere for visualad; anomalyvfm counts steps.",
            min=1,
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps instead of epochs; 500 for anomalyvfm.", min=1),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Images a step; 16 for april-gan, 32 for anomalyvfm, 8 for the others.", min=1
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Adam's step; 1e-3, for sdp+, clipsam, anomalyvfm and visualad 1e-4.", min=0
        ),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(
            help="Side of the CLIP frame in pixels; 518, for sdp+ 240, for anomalyvfm 672."
        ),
    ] = None,
    blocks: Annotated[
        str,
        typer.Option(
            help="Blocks with a layer, as 6,12,18,24; every quarter of the depth by default."
        ),
    ] = "",
    hidden: Annotated[
        int | None, typer.Option(help="Channels inside UMCI, clipsam alone; 384.", min=1)
    ] = None,
    kernels: Annotated[
        str, typer.Option(help="Sides of UMCI's poolings in patches, clipsam alone; 3,9.")
    ] = "",
    shared: Annotated[
        bool | None,
        typer.Option(
            "--shared/--not-shared",
            help="Whether UMCI's stages share all but their first layer, clipsam alone; they do not.",
        ),
    ] = None,
    rank: Annotated[
        int | None,
        typer.Option(help="Of anomalyvfm's low-rank changes; 64.", min=1),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(help="Of anomalyvfm's decoder; by default the tower's.", min=8),
    ] = None,
    holdout: Annotated[
        float, typer.Option(help="Share of the images for the validation curve; 0 trains on all.")
    ] = 0.05,
    seed: Annotated[
        int | None, typer.Option(help="Seed of weights and order; by default the recipe's.")
    ] = None,
    device: flags.Device = None,
    precision: flags.Precision = flags.PrecisionName.auto,
    cache_gb: Annotated[
        float,
        typer.Option(
            help="Most disk for frozen features; a larger data set is encoded each epoch.", min=0
        ),
    ] = 8.0,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", metavar="", help="Start anew instead of from the last checkpoint."),
    ] = False,
    push_to_hub: Annotated[
        str | None, typer.Option(help="Upload to this model repository.")
    ] = None,
) -> None:
    """Train what a system learns on a data set, with CLIP frozen: layers, prompts, UMCI, or small changes of the tower.

    Judge them on another data set: train on mvtec to test on visa, and the other way round.
    """
    from zsas.datasets.load import load_dataset
    from zsas.errors import ZsasError
    from zsas.models import ModelChoice, Models
    from zsas.systems import system_named
    from zsas.training import adapters as training

    try:
        numbers = tuple(int(block) for block in blocks.split(",") if block.strip())
    except ValueError:
        raise ZsasError(f"The blocks {blocks!r} must be numbers, as 6,12,18,24.") from None
    try:
        sides = tuple(int(side) for side in kernels.split(",") if side.strip())
    except ValueError:
        raise ZsasError(f"The kernels {kernels!r} must be numbers, as 3,9.") from None
    recipe = training.recipe_for(
        system,
        dataset,
        epochs=epochs,
        steps=steps,
        rank=rank,
        channels=channels,
        batch=batch,
        lr=lr,
        resolution=resolution,
        blocks=numbers or None,
        hidden=hidden,
        kernels=sides or None,
        shared=shared,
        holdout=holdout,
        seed=seed,
    )
    models = Models(ModelChoice(preset, clip=clip, device=device, precision=precision.value))
    models.check()  # a wrong device is said before anything is fetched
    data = load_dataset(dataset, root, revision=revision)
    for line in filter(None, (data.licence, *data.notes)):
        typer.echo(line, err=True)
    path = training.train(
        models.clip_for(system_named(system).localizers[0]),
        data,
        out,
        recipe,
        system=system,
        resume=not fresh,
        cache_bytes=int(cache_gb * 1e9),
    )
    print(training.push_to_hub(out, push_to_hub) if push_to_hub else path)
