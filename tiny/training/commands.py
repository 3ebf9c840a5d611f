"""`python -m tiny train …`: the commands, with their options; nothing heavy is imported before it is needed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zsas.errors import ZsasError

if TYPE_CHECKING:
    from tiny.training.cache import DatasetCache

train_app = typer.Typer(
    help="Train a small model.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Caches = Annotated[
    list[Path] | None,
    typer.Option(
        "--cache",
        help="Folder of the synthetic images, by default runs/cache, filled first where it is not; "
        "several if repeated.",
        file_okay=False,
    ),
]
ImageCount = Annotated[int, typer.Option(help="How many images an empty cache gets.", min=64)]
Minutes = Annotated[
    float | None,
    typer.Option(help="Length of the whole training; the steps decide without it.", min=0.01),
]
Steps = Annotated[int, typer.Option(help="Length in steps, without --minutes.", min=1)]
Seed = Annotated[int, typer.Option(help="Seed of weights, batches and prompts.")]
Threads = Annotated[int, typer.Option(help="Threads of the training.", min=1)]
Device = Annotated[
    str, typer.Option(help="Where the model learns: cpu, cuda, or auto, which takes a GPU if any.")
]
Workers = Annotated[
    int,
    typer.Option(help="Processes that make the batches; 0: a thread of the training.", min=0),
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", metavar="", help="Start anew instead of from the last checkpoint."),
]
BUNDLED_CLIP = Path("zsas/weights/tiny/clip")
Start = Annotated[
    Path | None,
    typer.Option(help="Checkpoint, or folder of an exported model, to go on from."),
]
Export = Annotated[
    Path | None,
    typer.Option(help="Write the finished model to this folder too.", file_okay=False),
]


@train_app.command("clip")
def train_clip(
    out: Annotated[Path, typer.Option(help="Folder of the run.", file_okay=False)] = Path(
        "runs/clip"
    ),
    minutes: Minutes = None,
    steps: Steps = 6000,
    seed: Seed = 0,
    cache: Caches = None,
    images: ImageCount = 20_000,
    threads: Threads = 1,
    device: Device = "auto",
    workers: Workers = 0,
    fresh: Fresh = False,
    export: Export = None,
    sam: Annotated[
        Path | None, typer.Option(help="Checkpoint of a small SAM whose encoder is the start.")
    ] = None,
    start: Start = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="pretrain, continue, finetune, multiscale, broad or full; continue with --start, pretrain without."
        ),
    ] = None,
    mix: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CHECKPOINT_OR_FOLDER=FRACTION",
            help="Earlier training or exported model that is mixed in on export, with its part.",
        ),
    ] = None,
) -> None:
    """Train the small CLIP, its tokenizer and its linear layers on synthetic images."""
    from tiny.training import clip as training
    from tiny.training.loop import Run, chosen_device

    chosen = _recipe(training.RECIPES, recipe)
    earlier = training.parts(mix or [])
    caches = cache or [Path("runs/cache")]
    for folder in caches:
        _filled(folder, images, threads)
    run = Run(
        out, minutes, steps, seed, resume=not fresh, threads=threads,
        device=chosen_device(device), workers=workers,
    )  # fmt: skip
    checkpoint = training.train(run, caches=caches, recipe=chosen, sam=sam, start=start)
    if _leads():
        print(training.export(checkpoint, export, earlier=earlier) if export else checkpoint)


@train_app.command("sam")
def train_sam(
    out: Annotated[Path, typer.Option(help="Folder of the run.", file_okay=False)] = Path(
        "runs/sam"
    ),
    minutes: Minutes = None,
    steps: Steps = 20_000,
    seed: Seed = 0,
    cache: Caches = None,
    images: ImageCount = 20_000,
    threads: Threads = 1,
    device: Device = "auto",
    workers: Workers = 0,
    fresh: Fresh = False,
    export: Export = None,
    start: Start = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="pretrain, finetune, broad or full; finetune with --start, pretrain without."
        ),
    ] = None,
) -> None:
    """Train the small SAM on parts, regions and defects of synthetic images."""
    from tiny.training import sam as training
    from tiny.training.loop import Run, chosen_device

    chosen = _recipe(training.RECIPES, recipe)
    caches = [_filled(folder, images, threads) for folder in cache or [Path("runs/cache")]]
    run = Run(
        out, minutes, steps, seed, resume=not fresh, threads=threads,
        report_every=50, save_minutes=6.0, device=chosen_device(device), workers=workers,
    )  # fmt: skip
    training.train(run, caches=caches, recipe=chosen, start=start)
    if _leads():
        print(training.export(out / "last.pt", export) if export else out)


@train_app.command("tower")
def train_tower(
    out: Annotated[Path, typer.Option(help="Folder of the run.", file_okay=False)],
    system: Annotated[
        str, typer.Option(help="Whose small weights: anomalyvfm or visualad.")
    ] = "anomalyvfm",
    minutes: Minutes = None,
    steps: Steps = 6000,
    seed: Seed = 0,
    cache: Caches = None,
    images: ImageCount = 20_000,
    threads: Threads = 1,
    device: Device = "auto",
    workers: Workers = 0,
    fresh: Fresh = False,
    clip: Annotated[
        Path | None, typer.Option(help="CLIP folder, not the bundled one.", file_okay=False)
    ] = None,
) -> None:
    """Train the small weights of a system that learns inside the tower, on the bundled CLIP."""
    from tiny.training import towers
    from tiny.training.loop import Run, chosen_device

    caches = cache or [Path("runs/cache")]
    for folder in caches:
        _filled(folder, images, threads)
    run = Run(
        out, minutes, steps, seed, resume=not fresh, threads=threads,
        device=chosen_device(device), workers=workers,
    )  # fmt: skip
    print(towers.train(run, system, caches, clip))


@train_app.command("layers")
def train_layers(
    out: Annotated[Path, typer.Option(help="Folder of the run.", file_okay=False)],
    start: Annotated[
        Path, typer.Option(help="Folder of an exported model, which stays.", file_okay=False)
    ] = BUNDLED_CLIP,
    steps: Steps = 1500,
    seed: Seed = 0,
    cache: Caches = None,
    images: ImageCount = 20_000,
    threads: Threads = 1,
    fresh: Fresh = False,
    keep: Annotated[
        float, typer.Option(help="Part of the earlier layers in the written ones.", min=0, max=0.99)
    ] = 0.0,
    crops: Annotated[
        float, typer.Option(help="Factor on the number of crops that are kept.", min=0.001)
    ] = 1.0,
) -> None:
    """Fit the linear layers of a small CLIP anew; both towers stay as they are."""
    from tiny.training import layers
    from tiny.training.loop import Run

    caches = cache or [Path("runs/cache")]
    for folder in caches:
        _filled(folder, images, threads)
    run = Run(out, None, steps, seed, resume=not fresh, threads=threads)
    print(layers.train(run, start, caches, layers.scaled(crops), keep=keep))


@train_app.command("full")
def train_full(
    out: Annotated[
        Path, typer.Option(help="Folder of all runs and images.", file_okay=False)
    ] = Path("runs/full"),
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Length of all trainings together; their steps decide without it.", min=0.1
        ),
    ] = None,
    seed: Seed = 0,
    threads: Threads = 2,
    device: Device = "auto",
    workers: Workers = 0,
    fresh: Fresh = False,
    photographs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of `python -m tiny photographs`; fetched first without it.",
            file_okay=False,
        ),
    ] = None,
    images: Annotated[
        int | None,
        typer.Option(help="How many images are drawn; by default those of the plan.", min=256),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Gets `clip`, `sam` and AnomalyVFM's weights; DIR/model without it."),
    ] = None,
) -> None:
    """Train both small models from nothing, and AnomalyVFM's weights on them; goes on where it was stopped."""
    from tiny.training import full
    from tiny.training.loop import Run, chosen_device

    if "WORLD_SIZE" in os.environ:
        raise ZsasError(
            "`train full` is one process: start it without torchrun, and with --workers for more."
        )
    run = Run(
        out, minutes, seed=seed, resume=not fresh, threads=threads,
        save_minutes=6.0, device=chosen_device(device), workers=workers,
    )  # fmt: skip
    plan = full.plan_of(images)
    print(full.train_full(run, export or out / "model", photographs=photographs, plan=plan))


def _recipe(recipes: Mapping[str, Any], name: str | None) -> Any:
    """The recipe of a name; None, the training's own choice, without one."""
    if name is not None and name not in recipes:
        raise ZsasError(f"There is no recipe {name!r}; choose from {', '.join(recipes)}.")
    return recipes[name] if name is not None else None


def _leads() -> bool:
    """Whether this process is the first of those that `torchrun` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _filled(folder: Path, count: int, workers: int) -> DatasetCache:
    """The cache of synthetic images; made first where the folder has none."""
    from tiny.training.cache import DatasetCache, fill

    if (folder / "cache.json").is_file():
        return DatasetCache(folder)
    if "WORLD_SIZE" in os.environ:
        raise ZsasError(
            f"There are no synthetic images in {folder}: draw them first with `python -m tiny cache --out {folder}`, "
            "since several processes would draw them at once."
        )
    return fill(folder, count=count, workers=workers)
