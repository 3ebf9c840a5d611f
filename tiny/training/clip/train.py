"""Trains the small CLIP from scratch and exports what it has learned.

Several cores train as several processes as well, each with a fraction of the batch:
``torchrun --nproc-per-node 2 -m tiny train clip``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from tiny.synthetic.defects import PHRASES
from tiny.synthetic.scene import TRAIN_FAMILIES
from tiny.training import loop
from tiny.training.cache import DatasetCache
from tiny.training.clip.losses import losses
from tiny.training.clip.model import TrainModel, load_model, tokenizer_folder
from tiny.training.clip.recipe import RECIPES, SCALE, Recipe, recipe_from
from tiny.training.clip.start import build, start_from_clip
from tiny.training.clip.stream import TaskStream
from tiny.training.clip.tasks import Sentences, Task, turned
from tiny.training.tokenizer import load_tokenizer
from zsas.backbones.text import ENSEMBLE
from zsas.errors import ZsasError
from zsas.localizers.adapter import Adapter, AdapterCard
from zsas.training.checkpoint import CurveLog, load_checkpoint, plot_curves, save_checkpoint

BACKBONE = "zsas/tiny"
"""Name that the exported adapter gives for the backbone it belongs to."""

TTA_VIEWS = ((1.0, False), (0.5, True))
"""How the exported model looks at an image: plainly, and mirrored at half of the size."""

COLUMNS = (
    "step", "minutes", "images", "images_per_second", "resolution", "lr", "loss", "focal", "dice",
    "defect_type", "image", "highest", "contrast", "grad",
)  # fmt: skip


LOSSES = ("focal", "dice", "defect_type", "image", "highest", "contrast")


def train(
    run: loop.Run,
    *,
    caches: Sequence[Path],
    recipe: Recipe | None = None,
    sam: Path | None = None,
    start: Path | None = None,
) -> Path:
    """Train the small CLIP.

    Args:
        run: Folder, length, seed.
        caches: Folders with synthetic images; each batch is of one of them, drawn by their sizes.
        recipe: Sizes and weights; by default "pretrain", or "continue" with `start`.
        sam: Checkpoint of a small SAM whose encoder the vision tower starts from; None starts from nothing.
        start: Checkpoint of an earlier training to start from, or the folder of an exported model; its tokenizer is
            taken over.

    Returns:
        The checkpoint's path.

    Raises:
        ZsasError: If a folder holds no cache, or the caches number the defect types differently.
    """
    torch.set_num_threads(run.threads)
    sources = [DatasetCache(folder) for folder in caches]
    if any(source.defect_types != sources[0].defect_types for source in sources):
        raise ZsasError(
            f"The caches {', '.join(map(str, caches))} do not have the same defect types: "
            "fill them with one version of the generator."
        )
    training = _Training(run, sources, recipe, sam, start)
    training.go()
    return training.checkpoint


class _Training:
    """State of one training: model, optimizer, average, progress."""

    def __init__(
        self,
        run: loop.Run,
        caches: Sequence[DatasetCache],
        recipe: Recipe | None,
        sam: Path | None,
        start: Path | None,
    ) -> None:
        self.run, self.caches = run, caches
        self.group = loop.DistributedGroup()
        self.checkpoint = run.out / "checkpoint.pt"
        state = (
            load_checkpoint(self.checkpoint) if run.resume and self.checkpoint.is_file() else None
        )
        if state is not None:
            model = TrainModel(recipe_from(state["recipe"]), load_tokenizer(run.out / "tokenizer"))
            model.load_state_dict(state["model"])
        else:
            model = _first_model(run, recipe, caches[0], sam, start)
        self.model = model.train().to(run.device)
        self.recipe = model.recipe
        self.optimizer = make_optimizer(model)
        self.ema = loop.EMA(model, self.recipe.ema)
        self.step, self.seen = 0, 0
        self.budget = loop.Budget(run.steps, run.minutes)
        if state is not None:
            self.optimizer.load_state_dict(state["optimizer"])
            self.ema.load_state_dict(state["ema"])
            self.step, self.seen = int(state["step"]), int(state["images"])
            self.budget.seconds_before = float(state["seconds"])
        self.log = (
            CurveLog(run.out / "curve.csv", COLUMNS, resume=state is not None)
            if self.group.rank == 0
            else None
        )

    def go(self) -> None:
        """Train until the budget is spent."""
        totals: dict[str, float] = {}
        since, counted, saved = self.budget.seconds, 0, self.budget.seconds
        tasks = (
            loop.moved(task, self.run.device)
            for task in loop.in_advance(self._tasks, self.run.workers)
        )
        for task in loop.revisited(tasks, self.recipe.visits, turned):
            progress = self.group.from_leader(self.budget.progress(self.step))
            if progress >= 1.0:
                break
            for name, value in self._learn(task, progress).items():
                totals[name] = totals.get(name, 0.0) + value
            counted += len(task.image) * self.group.size
            now = self.budget.seconds
            if self.step % self.run.report_every == 0 and self.log is not None:
                self.log.write(
                    {name: value / self.run.report_every for name, value in totals.items()}
                    | {
                        "step": self.step, "minutes": now / 60, "images": self.seen,
                        "images_per_second": counted / max(1e-9, now - since),
                        "resolution": task.image.shape[1],
                        "lr": self.recipe.lr * loop.cosine_lr(progress),
                    }
                )  # fmt: skip
                totals, since, counted = {}, now, 0
            if now - saved > 60 * self.run.save_minutes and self.log is not None:
                self._save()
                saved = now
        if self.log is not None:
            self._save()
        self.group.leave()

    def _tasks(self, worker: int, workers: int) -> Iterator[Task]:
        """The tasks that one of several processes makes, one of `workers` steps each."""
        own = self.group.rank * workers + worker
        draw = Sentences(
            load_tokenizer(self.run.out / "tokenizer"),
            PHRASES,
            np.random.default_rng([self.run.seed, self.step, own]),
        )
        apart = self.recipe.visits
        steps = itertools.count(self.step + apart * worker, apart * workers)
        return iter(TaskStream(self.caches, self.recipe, draw, self.budget, steps, self.group.size))

    def _learn(self, task: Task, progress: float) -> dict[str, float]:
        """One step; all losses, their sum and the norm of the gradient."""
        recipe, model = self.recipe, self.model
        loop.set_lr(self.optimizer, loop.cosine_lr(progress))
        for part in (model.clip.text_model, model.clip.text_projection):
            part.requires_grad_(progress >= recipe.text_from)
        found = losses(model, task, own=progress >= recipe.own_from)
        loss = cast(Tensor, sum(getattr(recipe, name) * found[name] for name in LOSSES))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.group.average_gradients(model)
        norm = nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        if torch.isfinite(norm):
            self.optimizer.step()
            self.ema.update(model)
        self.step += 1
        self.seen += len(task.image) * self.group.size
        names, values = zip(*{**found, "loss": loss, "grad": norm}.items(), strict=True)
        # One wait for a GPU, not one for each value.
        return dict(
            zip(names, torch.stack([v.detach().float() for v in values]).tolist(), strict=True)
        )

    def _save(self) -> None:
        save_checkpoint(
            self.checkpoint,
            {
                "recipe": json.dumps(asdict(self.recipe)),
                "model": self.model.state_dict(),
                "ema": self.ema.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "images": self.seen,
                "seconds": self.budget.seconds,
                "seed": self.run.seed,
                "cached_images": sum(map(len, self.caches)),
                "defect_types": list(self.caches[0].defect_types),
            },
        )
        plot_curves(self.run.out / "curve.csv", self.run.out / "curve.png")


def _first_model(
    run: loop.Run,
    recipe: Recipe | None,
    cache: DatasetCache,
    sam: Path | None,
    start: Path | None,
) -> TrainModel:
    """The model that a new training begins with; its tokenizer is written to the run's folder."""
    run.out.mkdir(parents=True, exist_ok=True)
    if start is None:
        return build(recipe or RECIPES["pretrain"], run.out, cache, run.seed, sam)
    load_tokenizer(tokenizer_folder(start)).save_pretrained(run.out / "tokenizer")
    model = TrainModel(recipe or RECIPES["continue"], load_tokenizer(run.out / "tokenizer"))
    start_from_clip(model, start)
    return model


def make_optimizer(model: TrainModel) -> loop.OptimizerGroup:
    """Muon for the matrices of the vision blocks, AdamW for everything else, the text tower slowly."""
    recipe = model.recipe
    slow, matrices = set(), []
    for name, parameter in model.named_parameters():
        if "text_" in name:
            slow.add(id(parameter))
        elif parameter.ndim == 2 and "vision_model.encoder.layers" in name:
            matrices.append(parameter)
    moved = {id(parameter) for parameter in matrices}
    groups = [
        {
            **group,
            "params": [
                p for p in group["params"] if (id(p) in slow) == is_text and id(p) not in moved
            ],
            "lr": rate,
        }
        for group in loop.parameter_groups(model, recipe.weight_decay)
        for is_text, rate in ((False, recipe.lr), (True, recipe.lr * recipe.text_lr))
    ]
    return loop.OptimizerGroup(
        torch.optim.Muon(
            matrices,
            lr=recipe.muon_lr,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True),
    )


def export(
    checkpoint: Path,
    folder: Path,
    *,
    resolution: int = 512,
    earlier: Mapping[Path, float] | None = None,
) -> Path:
    """Write the averaged weights as a transformers folder with tokenizer and adapter.

    Args:
        checkpoint: File written by :func:`train`.
        folder: Gets config.json, model.safetensors (fp16), tokenizer files, adapter.safetensors.
        resolution: Side of the CLIP frame, in pixels, at which the adapter is used.
        earlier: Checkpoints or exported folders of earlier trainings and their parts of the mixture: it forgets less
            than the last training alone.
    """
    model, tokenizer = load_model(checkpoint)
    state = model.state_dict()
    mixture = {name: value.clone() for name, value in state.items()}
    for path, fraction in (earlier or {}).items():
        before = load_model(path)[0].state_dict()
        for name, value in mixture.items():
            if value.is_floating_point():
                value += fraction * (before[name] - state[name])
    model.load_state_dict(mixture)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    recipe = model.recipe
    card = AdapterCard(
        backbone=BACKBONE,
        blocks=recipe.blocks,
        resolution=resolution,
        activation="gelu",
        trained_on="synthetic",
        trained_categories=TRAIN_FAMILIES,
        text_ensemble=ENSEMBLE,
        scale=SCALE,
        views=TTA_VIEWS,
    )
    Adapter(
        card,
        tuple(layer.weight.detach().clone() for layer in model.layers),
        tuple(layer.bias.detach().clone() for layer in model.layers),
    ).save(folder / "adapter.safetensors")
    model.clip.half().save_pretrained(folder)
    return folder


def parts(texts: Sequence[str]) -> dict[Path, float]:
    """`["runs/a/checkpoint.pt=0.25"]` as `export` takes it.

    Raises:
        ZsasError: If a text is not CHECKPOINT=FRACTION, or the fractions leave nothing of the last training.
    """
    found: dict[Path, float] = {}
    for text in texts:
        path, _, fraction = text.rpartition("=")
        try:
            found[Path(path)] = float(fraction)
        except ValueError:
            raise ZsasError(
                f"--mix {text} must read CHECKPOINT=FRACTION, for example runs/tiny-clip/checkpoint.pt=0.25."
            ) from None
    if any(fraction <= 0 for fraction in found.values()) or sum(found.values()) >= 1:
        raise ZsasError("The fractions of --mix must be positive and together less than 1.")
    return found
