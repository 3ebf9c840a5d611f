"""`zsas train`: the small models on made images, and the paper's linear layers on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zsas import flags

if TYPE_CHECKING:
    from zsas.training.pool import Pool

app = typer.Typer(
    help="Train the small models or the linear layers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Pools = Annotated[
    list[Path] | None,
    typer.Option(
        "--pool",
        help="Folder of the made images, by default runs/pool, filled first where it is not; "
        "several if repeated.",
        file_okay=False,
    ),
]
ImageCount = Annotated[int, typer.Option(help="How many images an empty pool gets.", min=64)]
Minutes = Annotated[
    float | None,
    typer.Option(help="Length of the whole training; the steps decide without it.", min=0.01),
]
Steps = Annotated[int, typer.Option(help="Length in steps, without --minutes.", min=1)]
Seed = Annotated[int, typer.Option(help="Seed of weights, batches and prompts.")]
Threads = Annotated[int, typer.Option(help="Threads of the training.", min=1)]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", metavar="", help="Start anew instead of from the last checkpoint."),
]
Start = Annotated[
    Path | None,
    typer.Option(help="Checkpoint, or folder of an exported model, to go on from."),
]
Export = Annotated[
    Path | None,
    typer.Option(help="Write the finished model to this folder too.", file_okay=False),
]


@app.command("tiny-clip")
def tiny_clip(
    out: Annotated[Path, typer.Option(help="Folder of the run.", file_okay=False)] = Path(
        "runs/tiny-clip"
    ),
    minutes: Minutes = None,
    steps: Steps = 6000,
    seed: Seed = 0,
    pool: Pools = None,
    images: ImageCount = 20_000,
    threads: Threads = 1,
    fresh: Fresh = False,
    export: Export = None,
    sam: Annotated[
        Path | None, typer.Option(help="Checkpoint of a small SAM whose encoder is the start.")
    ] = None,
    start: Start = None,
    round: Annotated[
        int | None,
        typer.Option(help="Recipe; by default 2 with --start, else 1.", min=1, max=7),
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHECKPOINT_OR_FOLDER=SHARE",
            help="Earlier training or exported model that is mixed in on export, with its part.",
        ),
    ] = None,
) -> None:
    """Train the small CLIP, its tokenizer and its linear layers on made images."""
    from zsas.training import tiny_clip as training

    pools = pool or [Path("runs/pool")]
    for folder in pools:
        _filled(folder, images, threads)
    checkpoint = training.train(
        out,
        minutes=minutes,
        steps=steps,
        seed=seed,
        pools=pools,
        resume=not fresh,
        threads=threads,
        sam=sam,
        start=start,
        recipe=training.ROUNDS[round - 1] if round else None,
    )
    print(
        checkpoint
        if export is None
        else training.export(checkpoint, export, earlier=training.parts(mix or []))
    )


@app.command("tiny-sam")
def tiny_sam(
    out: Annotated[Path, typer.Option(help="Folder of the run.", file_okay=False)] = Path(
        "runs/tiny-sam"
    ),
    minutes: Minutes = None,
    steps: Steps = 20_000,
    seed: Seed = 0,
    pool: Pools = None,
    images: ImageCount = 20_000,
    threads: Threads = 1,
    fresh: Fresh = False,
    export: Export = None,
    start: Start = None,
    round: Annotated[
        int | None,
        typer.Option(help="Recipe; by default 2 with --start, else 1.", min=1, max=2),
    ] = None,
) -> None:
    """Train the small SAM on parts, regions and defects of made images."""
    from zsas.training import tiny_sam as training

    training.train(
        out,
        minutes=minutes,
        steps=steps,
        seed=seed,
        pools=[_filled(folder, images, threads) for folder in pool or [Path("runs/pool")]],
        resume=not fresh,
        threads=threads,
        start=start,
        recipe=training.ROUNDS[round - 1] if round else None,
    )
    print(out if export is None else training.export(out / "last.pt", export))


@app.command("adapters")
def adapters(
    dataset: Annotated[
        str,
        typer.Argument(
            help="mvtec, visa, folder (MVTec-AD's layout), flat or made; its test split."
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
    epochs: Annotated[
        int | None, typer.Option(help="By default 3 for mvtec and 15 for everything else.", min=1)
    ] = None,
    batch: Annotated[int, typer.Option(help="Images a step.", min=1)] = 16,
    lr: Annotated[float, typer.Option(help="Adam's step.", min=0)] = 1e-3,
    resolution: Annotated[int, typer.Option(help="Side of the CLIP frame in pixels.")] = 518,
    blocks: Annotated[
        str,
        typer.Option(
            help="Blocks with a layer, as 6,12,18,24; every quarter of the depth by default."
        ),
    ] = "",
    holdout: Annotated[
        float, typer.Option(help="Share of the images for the validation curve; 0 trains on all.")
    ] = 0.05,
    seed: Annotated[int, typer.Option(help="Seed of weights and order.")] = 0,
    device: flags.Device = None,
    precision: flags.Precision = flags.PrecisionName.auto,
    cache_gb: Annotated[
        float,
        typer.Option(
            help="Most disk for frozen features; a larger data set is encoded each epoch.", min=0
        ),
    ] = 8.0,
    fresh: Fresh = False,
    push_to_hub: Annotated[
        str | None, typer.Option(help="Upload to this model repository.")
    ] = None,
) -> None:
    """Train the linear layers of the paper's localizer on a data set, with CLIP frozen.

    Judge them on another data set: train on mvtec to test on visa, and the other way round.
    """
    from zsas.data.datasets import load_dataset
    from zsas.device import pick_device
    from zsas.errors import ZsasError
    from zsas.models import load_clip, preset_named
    from zsas.training import adapters as training

    chosen = preset_named(preset)
    try:
        numbers = tuple(int(block) for block in blocks.split(",") if block.strip())
    except ValueError:
        raise ZsasError(f"The blocks {blocks!r} must be numbers, as 6,12,18,24.") from None
    recipe = training.Recipe(
        epochs=epochs or training.EPOCHS.get(dataset, training.OTHER_EPOCHS),
        batch=batch,
        lr=lr,
        resolution=resolution,
        blocks=numbers,
        holdout=holdout,
        seed=seed,
    )
    where = pick_device(device)  # said before anything is fetched
    data = load_dataset(dataset, root, revision=revision)
    if data.licence:
        typer.echo(data.licence, err=True)
    backbone = load_clip(
        clip or chosen.clip,
        name=clip or chosen.clip_name or chosen.clip,
        wanted_for=chosen.name,
        device=where,
        precision=precision.value,
    )
    path = training.train(
        backbone, data, out, recipe, resume=not fresh, cache_bytes=int(cache_gb * 1e9)
    )
    print(training.push_to_hub(out, push_to_hub) if push_to_hub else path)


def _filled(folder: Path, count: int, workers: int) -> Pool:
    """The pool of made images; made first where the folder has none."""
    from zsas.training.pool import Pool, fill

    if (folder / "pool.json").is_file():
        return Pool(folder)
    return fill(folder, count=count, workers=workers)
