"""Trains the small SAM from scratch, features first, then prompts, then the cascade, and exports it.

Several cores train as several processes as well, each with a fraction of the batch:
``torchrun --nproc-per-node 2 -m tiny train sam``.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from tiny.training import loop
from tiny.training.cache import DatasetCache
from tiny.training.sam.batches import (
    MEAN,
    STD,
    Batch,
    Images,
    make_batch,
    normalise,
    stacked,
    turned,
)
from tiny.training.sam.losses import dense_loss, prompt_losses
from tiny.training.sam.measure import measure
from tiny.training.sam.model import TrainModel
from tiny.training.sam.prompts import CELL, Crop
from tiny.training.sam.recipe import RECIPES, Recipe
from tiny.training.sam.start import start_patches
from zsas.errors import ZsasError
from zsas.training.checkpoint import CurveLog, load_checkpoint, plot_curves, save_checkpoint

COLUMNS = (
    "step",
    "progress",
    "loss",
    "dense",
    "together",
    "click",
    "box",
    "click_last",
    "box_last",
    "images_s",
)
MEASURES = (
    "step",
    "click_defect",
    "click_part",
    "click_region",
    "box_defect",
    "box_part",
    "box_region",
    "m1",
    "m2",
    "m3",
)

HEADS_ALONE = 0.05
"""Part of a training from an exported model in which its new dense heads learn by themselves."""


def train(
    run: loop.Run,
    *,
    caches: Sequence[Images],
    recipe: Recipe | None = None,
    start: Path | None = None,
) -> Path:
    """Train the small SAM and export it.

    Args:
        run: Folder (gets `last.pt`, `curve.csv`, `measures.csv` and `sam/`), length, seed.
        caches: Synthetic images, held as arrays; each batch is of one of them, drawn by their sizes. The first
            `recipe.held_out` of each are never learned from; those of the first cache are measured on.
        recipe: Sizes and schedule; by default "pretrain", or "finetune" with `start`.
        start: Checkpoint `last.pt` of an earlier training whose average is the start, or folder of an
            exported model, as the shipped one.

    Returns:
        The folder of the exported model.
    """
    torch.set_num_threads(run.threads)
    cv2.setNumThreads(1)  # batches are made in a thread of their own
    training = _Training(
        run, caches, recipe or RECIPES["pretrain" if start is None else "finetune"], start
    )
    training.go()
    return training.finish()


class _Training:
    """State of one training: model, optimizers, average, progress."""

    def __init__(
        self, run: loop.Run, caches: Sequence[Images], recipe: Recipe, start: Path | None
    ) -> None:
        self.run, self.caches, self.recipe, self.start = run, caches, recipe, start
        self.last = run.out / "last.pt"
        self.group = loop.DistributedGroup()
        self.leads = self.group.rank == 0
        torch.manual_seed(run.seed)
        self.model = TrainModel(recipe, run.seed).to(run.device)
        self.optimizers = make_optimizers(self.model)
        self.ema = loop.EMA(self.model, recipe.ema)
        self.step, before = 0, 0.0
        if run.resume and self.last.is_file():
            state = load_checkpoint(self.last)
            self.model.load_state_dict(state["model"])
            for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(kept)
            self.ema.load_state_dict(state["ema"])
            self.step, before = int(state["step"]), float(state["seconds"])
        elif start is not None:
            self.model.go_on_from(start)
            self.ema = loop.EMA(self.model, recipe.ema)
        self.budget = loop.Budget(run.steps, run.minutes, before)
        if self.leads:
            resumed = self.step > 0
            self.curve = CurveLog(run.out / "curve.csv", COLUMNS, resume=resumed)
            self.measures = CurveLog(run.out / "measures.csv", MEASURES, resume=resumed)
        if self.step == 0 and start is None:
            start_patches(self.model.sam, _some_pixels(caches[0], recipe).to(run.device))

    def go(self) -> None:
        """Train until the budget is spent."""
        run, group = self.run, self.group
        sums: dict[str, float] = {}
        seen, since, saved = 0, time.monotonic(), time.monotonic()
        batches = (
            loop.moved(batch, run.device) for batch in loop.in_advance(self._batches, run.workers)
        )
        for batch in loop.revisited(batches, self.recipe.visits, turned):
            progress = group.from_leader(self.budget.progress(self.step))
            if progress >= 1.0:
                break
            for name, value in self._learn(batch, progress).items():
                sums[name] = sums.get(name, 0.0) + value / run.report_every
            seen += len(batch.pixels) * group.size
            if not all(math.isfinite(value) for value in sums.values()):
                raise ZsasError(
                    f"The loss is not a number at step {self.step}: lower the learning rate and resume."
                )
            if self.step % run.report_every == 0:
                now = time.monotonic()
                if self.leads:
                    speed = seen / (now - since)
                    self.curve.write(
                        sums | {"step": self.step, "progress": progress, "images_s": speed}
                    )
                sums, seen, since = {}, 0, now
            if self.leads and time.monotonic() - saved > 60 * run.save_minutes:
                self._save()
                self._measure()
                saved = since = time.monotonic()
                seen = 0
        group.leave()

    def finish(self) -> Path:
        """Save, measure and export; returns the folder of the exported model."""
        folder = self.run.out / "sam"
        if not self.leads:
            return folder
        self._save()
        self._measure()
        plot_curves(self.run.out / "curve.csv", self.run.out / "curve.png")
        return export(self.last, folder)

    def _batches(self, worker: int, workers: int) -> Iterator[Batch]:
        """What one of several processes makes, one of `workers` steps each."""
        apart = self.recipe.visits
        steps = itertools.count(self.step + apart * worker, apart * workers)
        return _batches(self.caches, self.recipe, self.budget, self.run.seed, steps, self.group)

    def _learn(self, batch: Batch, progress: float) -> dict[str, float]:
        """One step; its losses by name."""
        recipe, model = self.recipe, self.model
        rng = np.random.default_rng((self.run.seed, self.step, 1))
        torch.manual_seed(self.run.seed * 1_000_003 + self.step)
        calls = int(rng.choice((1, 1, 2, 3, 3))) if progress >= recipe.cascade_from else 1
        for optimizer in self.optimizers:
            loop.set_lr(optimizer, loop.cosine_lr(progress))
        with loop.autocast(batch.pixels.device):
            features = model.features(normalise(batch.pixels, batch.extents), batch.place)
            from_export = self.start is not None and self.start.is_dir()
            dense, together = dense_loss(
                model, features, batch, heads_only=from_export and progress < HEADS_ALONE
            )
            asked, report = prompt_losses(model, features, batch, rng, calls)
        weight, beside = 1.0, 0.5
        if recipe.features_first:
            weight, beside = min(1.0, 0.2 + 8.0 * progress), 1.0 if progress < 0.3 else 0.5
        loss = weight * asked + beside * (dense + together)
        model.zero_grad(set_to_none=True)
        loss.backward()
        self.group.average_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.ema.update(model)
        self.step += 1
        parts = {"loss": loss, "dense": dense, "together": together}
        return report | {name: float(value.detach()) for name, value in parts.items()}

    def _save(self) -> None:
        save_checkpoint(
            self.last,
            {
                "model": self.model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "ema": self.ema.state_dict(),
                "step": self.step,
                "seconds": self.budget.seconds,
                "recipe": asdict(self.recipe),
                "seed": self.run.seed,
            },
        )

    def _measure(self) -> None:
        """Measure the averaged weights on the held-out images."""
        kept = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.ema.shadow)
        images = self.caches[0]
        found = measure(self.model, images, range(_held_out(images, self.recipe)))
        self.model.load_state_dict(kept)
        self.measures.write({"step": self.step} | found)


def _some_pixels(images: Images, recipe: Recipe) -> Tensor:
    """Up to 64 whole images at the frame's size, for the first filters."""
    first = _held_out(images, recipe)
    some = [images.image[i] for i in range(first, min(first + 64, len(images.image)))]
    scaled = [np.asarray(cv2.resize(i, (recipe.frame, recipe.frame)), np.uint8) for i in some]
    none = np.zeros((0, 0), np.int32)
    return normalise(*stacked([Crop(image, none, none, *image.shape[:2]) for image in scaled]))


def _held_out(images: Images, recipe: Recipe) -> int:
    return min(recipe.held_out, len(images.image) // 4)


def _batches(
    caches: Sequence[Images],
    recipe: Recipe,
    budget: loop.Budget,
    seed: int,
    steps: Iterator[int],
    group: loop.DistributedGroup,
) -> Iterator[Batch]:
    """The batches of these steps, without end, each decided by seed, step and rank."""
    for number, step in enumerate(steps):
        if number % 500 == 0:
            for cache in caches:
                if isinstance(cache, DatasetCache):
                    cache.refresh()
        progress = budget.progress(step)
        later = (stage for stage in recipe.stages if progress < stage[0])
        _, side, size = next(later, recipe.stages[-1])
        rng = np.random.default_rng((seed, step, group.rank))
        parts = np.array([len(cache.image) for cache in caches])
        cache = caches[int(rng.choice(len(caches), p=parts / parts.sum()))]
        batch = max(1, size // group.size)
        yield make_batch(rng, cache, _held_out(cache, recipe), recipe, side, batch)


def make_optimizers(model: TrainModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between hidden layers, AdamW for everything else."""
    recipe = model.recipe
    matrices, decayed, plain = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim == 2 and min(parameter.shape) > 8 and "embed" not in name:
            matrices.append(parameter)
        elif parameter.ndim == 4 and "pos_embed" not in name:
            decayed.append(parameter)
        else:
            plain.append(parameter)
    return [
        torch.optim.Muon(
            matrices,
            lr=recipe.lr,
            weight_decay=recipe.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        ),
        torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
            lr=recipe.lr_rest,
            betas=(0.9, 0.98),
        ),
    ]


def export(checkpoint: str | Path, folder: str | Path) -> Path:
    """Write the averaged weights of a training as a folder that ``SamModel`` loads.

    Args:
        checkpoint: File ``last.pt`` of a training.
        folder: Where ``config.json``, ``model.safetensors`` (float16) and
            ``preprocessor_config.json`` go.

    Returns:
        The folder.
    """
    state = load_checkpoint(Path(checkpoint))
    fields = dict(state["recipe"])
    fields["stages"] = tuple(tuple(stage) for stage in fields["stages"])
    fields["global_blocks"] = tuple(fields["global_blocks"])
    model = TrainModel(Recipe(**fields))
    model.load_state_dict(state["ema"]["shadow"])
    sam, folder = model.sam, Path(folder)
    sam.config._attn_implementation = None
    # fp16 rounds the Fourier matrix by parts in a thousand, alike in both places.
    sam.half().save_pretrained(folder)
    frame = model.recipe.frame
    preprocessor = {
        "image_processor_type": "SamImageProcessor",
        "size": {"longest_edge": frame},
        "pad_size": {"height": frame, "width": frame},
        "mask_size": {"longest_edge": frame // CELL},
        "mask_pad_size": {"height": frame // CELL, "width": frame // CELL},
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_pad": True,
        "do_convert_rgb": True,
        "resample": 2,
        "rescale_factor": 1 / 255,
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")
    return folder
