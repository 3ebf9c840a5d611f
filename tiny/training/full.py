"""All trainings that make a small SAM and a small CLIP from nothing, in their order: `python -m tiny train full`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tiny.training import cache, clip, sam
from tiny.training.clip.recipe import Recipe as ClipRecipe
from tiny.training.loop import Run
from tiny.training.sam.recipe import Recipe as SamRecipe

MINUTES = 1209.0
"""What the shipped models took in all, on two shared cores with AMX."""


@dataclass(frozen=True)
class Images:
    """A cache of synthetic images: how many, how large, of which seed."""

    count: int
    size: int
    seed: int


LARGE_SET = Images(22_016, 384, 11)
FIRST_SET = Images(20_000, 384, 1)
SHARP_SET = Images(20_032, 512, 17)
"""Images as large as the largest view, so that there is detail to see."""


@dataclass(frozen=True)
class Phase:
    """One training.

    Attributes:
        model: What is trained.
        recipe: Name of its recipe.
        fraction: Part of the whole time.
        images: Caches that it draws from.
        keep: Part of the model before that is mixed into what is exported: it forgets less.
    """

    model: Literal["sam", "clip"]
    recipe: str
    fraction: float
    images: tuple[Images, ...]
    keep: float = 0.0


PHASES = (
    Phase("sam", "pretrain", 318 / MINUTES, (FIRST_SET,)),
    Phase("sam", "finetune", 181 / MINUTES, (FIRST_SET, SHARP_SET)),
    Phase("clip", "pretrain", 52 / MINUTES, (FIRST_SET,)),
    Phase("clip", "continue", 131 / MINUTES, (FIRST_SET,)),
    Phase("clip", "finetune", 361 / MINUTES, (FIRST_SET, LARGE_SET)),
    Phase("clip", "multiscale", 166 / MINUTES, (SHARP_SET,), keep=0.25),
)
"""The rounds that the shipped models went through, those of one recipe taken together."""


def train_full(
    run: Run,
    export: Path,
    *,
    phases: Sequence[Phase] = PHASES,
    clip_recipes: Mapping[str, ClipRecipe] = clip.RECIPES,
    sam_recipes: Mapping[str, SamRecipe] = sam.RECIPES,
) -> Path:
    """Train both models from nothing; a run that was stopped goes on where it was.

    Args:
        run: Folder, minutes of all phases together (steps of each without them), seed, threads.
        export: Gets `clip` and `sam`, folders that the preset's `--clip`, `--adapter` and `--sam` read.
        phases: What is trained, in order.
        clip_recipes: Recipes by name.
        sam_recipes: Recipes by name.

    Returns:
        `export`.
    """
    before: dict[str, Path] = {}
    for number, phase in enumerate(phases, start=1):
        out = run.out / f"{number}-{phase.model}-{phase.recipe}"
        folders = [_filled(run.out, images, run.threads) for images in phase.images]
        minutes = None if run.minutes is None else run.minutes * phase.fraction
        here = replace(run, out=out, minutes=minutes, seed=run.seed + number)
        start = before.get(phase.model)
        if phase.model == "sam":
            caches = [cache.DatasetCache(folder) for folder in folders]
            sam.train(here, caches=caches, recipe=sam_recipes[phase.recipe], start=start)
            before["sam"] = out / "last.pt"
            continue
        before["clip"] = clip.train(
            here,
            caches=folders,
            recipe=clip_recipes[phase.recipe],
            start=start,
            sam=before.get("sam") if start is None else None,
        )
        earlier = {start: phase.keep} if start is not None and phase.keep else {}
        clip.export(before["clip"], export / "clip", earlier=earlier)
    if "sam" in before:
        shutil.copytree(before["sam"].parent / "sam", export / "sam", dirs_exist_ok=True)
    return export


def _filled(out: Path, images: Images, workers: int) -> Path:
    folder = out / f"images-{images.size}-{images.seed}"
    cache.fill(folder, count=images.count, size=images.size, seed=images.seed, workers=workers)
    return folder
