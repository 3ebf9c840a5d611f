"""Models like the bundled ones from nothing, in one run: `python -m tiny train full`."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tiny.photographs.fetching import fetch
from tiny.synthetic.real_surfaces import surfaces_in
from tiny.training import cache, clip, sam, towers
from tiny.training.clip.recipe import FULL as CLIP_RECIPE
from tiny.training.clip.recipe import Recipe as ClipRecipe
from tiny.training.loop import Run
from tiny.training.sam.recipe import FULL as SAM_RECIPE
from tiny.training.sam.recipe import Recipe as SamRecipe

CPU_SHARE = 8
"""A CPU learns from batches of an eighth, as often as there are more of them: a step of the whole one takes it half
a minute."""

AnyRecipe = TypeVar("AnyRecipe", ClipRecipe, SamRecipe)


@dataclass(frozen=True)
class Images:
    """The synthetic images: how many, how large, of which seed.

    Attributes:
        on_photographs: Fraction of them that has a photographed material.
        of_objects: Fraction of these that are objects; the others are surfaces.
    """

    count: int
    size: int
    seed: int
    on_photographs: float = 0.0
    of_objects: float = 0.0


@dataclass(frozen=True)
class Part:
    """Length of one training: its steps, and the minutes that it gets of a limit of time for all (in proportion)."""

    steps: int
    minutes: float


@dataclass(frozen=True)
class Plan:
    """What is drawn and trained, in this order; smaller in tests."""

    images: Images
    sam: Part
    sam_recipe: SamRecipe
    clip: Part
    clip_recipe: ClipRecipe
    anomalyvfm: Part


PLAN = Plan(
    images=Images(24_576, 512, 101, on_photographs=0.4, of_objects=0.4),
    sam=Part(6_300, 23.1),
    sam_recipe=SAM_RECIPE,
    clip=Part(16_000, 32.7),
    clip_recipe=CLIP_RECIPE,
    anomalyvfm=Part(4_300, 4.2),
)
"""An hour of one H100 with 16 cores. A third of it has been run, which was too little (`docs/training_log.md`)."""


def plan_of(images: int | None) -> Plan:
    """The plan, with another number of images where one is given."""
    return PLAN if images is None else replace(PLAN, images=replace(PLAN.images, count=images))


def train_full(
    run: Run, export: Path, *, photographs: Path | None = None, plan: Plan = PLAN
) -> Path:
    """Train the small SAM, the small CLIP from its encoder, and AnomalyVFM's weights on that, all from nothing.

    A run that was stopped goes on where it was.

    Args:
        run: Folder of everything, minutes of all trainings together (each one's own steps without them), seed, threads,
            device, and processes that make batches. Images are drawn by as many processes as there are threads or
            workers, whichever are more.
        export: Gets `clip` and `sam`, folders that the preset's `--clip`, `--adapter` and `--sam` read, and
            `anomalyvfm.safetensors`.
        photographs: Folder that `python -m tiny photographs` wrote; where None, they are fetched into the run's folder
            before anything is drawn, if the images need them.
        plan: What is drawn and trained.

    Returns:
        `export`.

    Raises:
        ZsasError: If photographs are needed and cannot be fetched or read.
    """
    if plan.images.on_photographs:
        photographs = _photographs(run, photographs)
    if not run.resume:
        for name in ("sam", "clip", "anomalyvfm"):  # all at once: the new run may be stopped, too
            shutil.rmtree(run.out / name, ignore_errors=True)
    images = _drawn(run, plan.images, photographs)
    parts = (plan.sam, plan.clip, plan.anomalyvfm)

    small_sam = _run(run, "sam", plan.sam, parts)
    sam.train(
        small_sam,
        caches=[cache.DatasetCache(images)],
        recipe=_recipe(run, plan.sam_recipe),
    )
    small_clip = _run(run, "clip", plan.clip, parts)
    checkpoint = clip.train(
        small_clip,
        caches=[images],
        recipe=_recipe(run, plan.clip_recipe),
        sam=small_sam.out / "last.pt",
    )
    clip.export(checkpoint, small_clip.out / "clip")
    tower = _run(run, "anomalyvfm", plan.anomalyvfm, parts)
    weights = towers.train(tower, "anomalyvfm", [images], small_clip.out / "clip")

    for folder in (small_sam.out / "sam", small_clip.out / "clip"):
        shutil.copytree(folder, export / folder.name, dirs_exist_ok=True)
    shutil.copy(weights, export)
    return export


def _run(run: Run, name: str, part: Part, parts: Sequence[Part]) -> Run:
    """The run of one training, in a folder of its own, with its part of the time."""
    whole = sum(each.minutes for each in parts)
    minutes = None if run.minutes is None else run.minutes * part.minutes / whole
    times = CPU_SHARE if run.device == "cpu" and name != "anomalyvfm" else 1
    return replace(run, out=run.out / name, minutes=minutes, steps=times * part.steps)


def _recipe(run: Run, recipe: AnyRecipe) -> AnyRecipe:
    """The recipe; on a CPU with smaller batches, each learned from once: it makes them faster than it learns."""
    if run.device != "cpu":
        return recipe
    stages: Any = tuple(map(_eighth, recipe.stages))
    return replace(recipe, stages=stages, visits=1)


def _eighth(stage: tuple[Any, ...]) -> tuple[Any, ...]:
    """A stage of a recipe with a CPU's batch."""
    return *stage[:2], max(1, stage[2] // CPU_SHARE), *stage[3:]


def _photographs(run: Run, folder: Path | None) -> Path:
    """The folder of the photographs, fetched if they are not there."""
    if folder is None:
        folder = run.out / "photographs"
        if not (folder / "manifest.json").is_file():
            fetch(folder)
    surfaces_in(folder)
    return folder


def _drawn(run: Run, images: Images, photographs: Path | None) -> Path:
    """The folder of the images, of which the missing ones are drawn first."""
    folder = run.out / f"images-{images.size}-{images.seed}"
    cache.fill(
        folder,
        count=images.count,
        size=images.size,
        seed=images.seed,
        workers=max(run.threads, run.workers),
        photographs=photographs if images.on_photographs else None,
        photograph_fraction=images.on_photographs,
        object_fraction=images.of_objects,
    )
    return folder
