"""All trainings that make a small SAM and a small CLIP from nothing, in their order: `python -m tiny train full`."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tiny.photographs.fetching import fetch
from tiny.synthetic.real_surfaces import surfaces_in
from tiny.training import cache, clip, sam
from tiny.training.clip.recipe import Recipe as ClipRecipe
from tiny.training.loop import Run
from tiny.training.sam.recipe import Recipe as SamRecipe


@dataclass(frozen=True)
class Images:
    """A cache of synthetic images: how many, how large, of which seed, and which fraction lies on photographs."""

    count: int
    size: int
    seed: int
    on_photographs: float = 0.0


FIRST_SET = Images(20_000, 384, 1)
LARGE_SET = Images(22_016, 384, 11)
SHARP_SET = Images(20_032, 512, 17)
"""Images as large as the largest view, so that there is detail to see."""
BROAD_SET = Images(14_336, 512, 71, on_photographs=0.45)


@dataclass(frozen=True)
class Phase:
    """One training.

    Attributes:
        model: What is trained.
        recipe: Name of its recipe.
        steps: Its length.
        minutes: About how long that takes two shared cores with AMX; with a limit of time for the whole chain, the
            phase gets its part of it.
        images: Caches that it draws from.
        keep: Part of the model before that is mixed into what is exported: it forgets less.
        from_export: Whether it starts from what the phase before exported, mixed as it is, and not from its averaged
            weights.
    """

    model: Literal["sam", "clip"]
    recipe: str
    steps: int
    minutes: float
    images: tuple[Images, ...]
    keep: float = 0.0
    from_export: bool = False

    @property
    def checkpoint(self) -> str:
        """File of the averaged weights in the folder of the phase."""
        return "last.pt" if self.model == "sam" else "checkpoint.pt"


PHASES = (
    Phase("sam", "pretrain", 7_610, 318, (FIRST_SET,)),
    Phase("sam", "finetune", 7_433, 181, (FIRST_SET, SHARP_SET)),
    Phase("clip", "pretrain", 2_800, 52, (FIRST_SET,)),
    Phase("clip", "continue", 5_200, 131, (FIRST_SET,)),
    Phase("clip", "finetune", 11_710, 361, (FIRST_SET, LARGE_SET)),
    Phase("clip", "multiscale", 9_295, 166, (SHARP_SET,), keep=0.25),
    Phase("clip", "broad", 3_100, 410, (BROAD_SET,), keep=0.25, from_export=True),
    Phase("sam", "broad", 2_104, 210, (BROAD_SET,), from_export=True),
)
"""The rounds that the shipped models went through, those of one recipe taken together.

Steps are those of `docs/training_log.md`. `broad` ran on a GPU: its minutes are estimated from the image-steps.
"""


@dataclass(frozen=True)
class Chain:
    """What is trained, in order, with which recipes; parts of it are exchanged in tests.

    Attributes:
        phases: The trainings.
        clip_recipes: Recipes of the small CLIP by name.
        sam_recipes: Recipes of the small SAM by name.
    """

    phases: Sequence[Phase] = PHASES
    clip_recipes: Mapping[str, ClipRecipe] = field(default_factory=lambda: clip.RECIPES)
    sam_recipes: Mapping[str, SamRecipe] = field(default_factory=lambda: sam.RECIPES)


SHIPPED = Chain()
"""What made the bundled models."""


def train_full(
    run: Run,
    export: Path,
    *,
    photographs: Path | None = None,
    chain: Chain = SHIPPED,
) -> Path:
    """Train both models from nothing; a run that was stopped goes on where it was.

    A phase that is finished leaves a file `done` in its folder.

    Args:
        run: Folder of everything, minutes of all phases together (each phase's own steps without them), seed, threads,
            device, and processes that make batches. Images are drawn by as many processes as there are threads or
            workers, whichever are more.
        export: Gets `clip` and `sam`, folders that the preset's `--clip`, `--adapter` and `--sam` read.
        photographs: Folder that `python -m tiny photographs` wrote; where None, they are fetched into the run's folder
            before anything is trained, if a phase needs them.
        chain: What is trained.

    Returns:
        `export`.

    Raises:
        ZsasError: If photographs are needed and cannot be fetched or read.
    """
    photographs = _photographs(run, chain.phases, photographs)
    whole = sum(phase.minutes for phase in chain.phases)
    names = [f"{i}-{phase.model}-{phase.recipe}" for i, phase in enumerate(chain.phases, start=1)]
    if not run.resume:
        for name in names:  # all at once: the new run may be stopped, too
            shutil.rmtree(run.out / name, ignore_errors=True)
    before: dict[str, Path] = {}
    for number, (phase, name) in enumerate(zip(chain.phases, names, strict=True), start=1):
        out = run.out / name
        earlier, before[phase.model] = before.get(phase.model), out
        done = out / "done"
        if done.is_file():
            continue
        minutes = None if run.minutes is None else run.minutes * phase.minutes / whole
        here = replace(run, out=out, minutes=minutes, steps=phase.steps, seed=run.seed + number)
        folders = [_drawn(run, images, photographs) for images in phase.images]
        if phase.model == "sam":
            _train_sam(here, phase, folders, earlier, chain)
        else:
            _train_clip(here, phase, folders, earlier, before.get("sam"), chain)
        done.touch()
    for model, out in before.items():
        shutil.copytree(out / model, export / model, dirs_exist_ok=True)
    return export


def _start(phase: Phase, earlier: Path | None) -> Path | None:
    """What a phase starts from, given the folder of the phase of its model before; None for nothing."""
    if earlier is None:
        return None
    return earlier / (phase.model if phase.from_export else phase.checkpoint)


def _train_sam(
    run: Run, phase: Phase, folders: Sequence[Path], earlier: Path | None, chain: Chain
) -> None:
    """One training of the small SAM; its folder gets `last.pt` and the exported model, `sam`."""
    caches = [cache.DatasetCache(folder) for folder in folders]
    recipe = chain.sam_recipes[phase.recipe]
    sam.train(run, caches=caches, recipe=recipe, start=_start(phase, earlier))


def _train_clip(
    run: Run,
    phase: Phase,
    folders: Sequence[Path],
    earlier: Path | None,
    small_sam: Path | None,
    chain: Chain,
) -> None:
    """One training of the small CLIP; its folder gets `checkpoint.pt` and the exported model, `clip`."""
    start = _start(phase, earlier)
    encoder = small_sam / "last.pt" if start is None and small_sam is not None else None
    recipe = chain.clip_recipes[phase.recipe]
    checkpoint = clip.train(run, caches=folders, recipe=recipe, start=start, sam=encoder)
    mixed_in = {start: phase.keep} if start is not None and phase.keep else {}
    clip.export(checkpoint, run.out / "clip", earlier=mixed_in)


def _photographs(run: Run, phases: Sequence[Phase], folder: Path | None) -> Path | None:
    """The folder of the photographs, fetched if they are needed and not there; None if no phase needs any."""
    if not any(images.on_photographs for phase in phases for images in phase.images):
        return None
    if folder is None:
        folder = run.out / "photographs"
        if not (folder / "manifest.json").is_file():
            fetch(folder)
    surfaces_in(folder)
    return folder


def _drawn(run: Run, images: Images, photographs: Path | None) -> Path:
    """The folder of a cache, whose missing images are drawn first."""
    folder = run.out / f"images-{images.size}-{images.seed}"
    cache.fill(
        folder,
        count=images.count,
        size=images.size,
        seed=images.seed,
        workers=max(run.threads, run.workers),
        photographs=photographs if images.on_photographs else None,
        photograph_fraction=images.on_photographs,
    )
    return folder
