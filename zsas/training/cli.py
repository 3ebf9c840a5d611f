"""`zsas train`: the small models on made images, and the paper's linear layers on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from zsas.training.pool import Pool

app = typer.Typer(
    help="Train the small models or the linear layers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

PoolFolder = Annotated[
    Path,
    typer.Option(help="Folder of the made images; filled first where it is not.", file_okay=False),
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
    bool, typer.Option("--fresh", help="Start anew instead of from the last checkpoint.")
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
    pool: PoolFolder = Path("runs/pool"),
    images: ImageCount = 20_000,
    threads: Threads = 1,
    fresh: Fresh = False,
    export: Export = None,
) -> None:
    """Train the small CLIP, its tokenizer and its linear layers on made images."""
    from zsas.training import tiny_clip as training

    _filled(pool, images, threads)
    checkpoint = training.train(
        out,
        minutes=minutes,
        steps=steps,
        seed=seed,
        pool=pool,
        resume=not fresh,
        threads=threads,
    )
    print(checkpoint if export is None else training.export(checkpoint, export))


@app.command("tiny-sam")
def tiny_sam(
    out: Annotated[Path, typer.Option(help="Folder of the run.", file_okay=False)] = Path(
        "runs/tiny-sam"
    ),
    minutes: Minutes = None,
    steps: Steps = 20_000,
    seed: Seed = 0,
    pool: PoolFolder = Path("runs/pool"),
    images: ImageCount = 20_000,
    threads: Threads = 1,
    fresh: Fresh = False,
    export: Export = None,
) -> None:
    """Train the small SAM on parts, regions and defects of made images."""
    from zsas.training import tiny_sam as training

    training.train(
        out,
        minutes=minutes,
        steps=steps,
        seed=seed,
        images=_filled(pool, images, threads),
        resume=not fresh,
        threads=threads,
    )
    print(out if export is None else training.export(out / "last.pt", export))


def _filled(folder: Path, count: int, workers: int) -> Pool:
    """The pool of made images; made first where the folder has none."""
    from zsas.training.pool import fill, open_pool

    if (folder / "pool.json").is_file():
        return open_pool(folder)
    return fill(folder, count=count, workers=workers)
