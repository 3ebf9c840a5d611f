"""Trains the small weights of systems that learn inside the tower of the bundled CLIP, on synthetic images.

The recipes of the papers (`zsas.training.towers`) are for other towers and other data. Here masks are exact, so that
the losses are those of the small CLIP: focal and Dice at half of the image's size, and cross-entropy of image scores.
Sizes change from step to step, since the weights are used at several.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tiny.synthetic.scene import TRAIN_FAMILIES
from tiny.training import loop
from tiny.training.cache import Batch, DatasetCache, make_batch
from tiny.training.clip.losses import dense_loss
from tiny.training.clip.tasks import normalise
from zsas.backbones.clip import ClipBackbone
from zsas.errors import ZsasError
from zsas.models import ModelChoice, Models
from zsas.training.checkpoint import CurveLog, load_checkpoint, plot_curves, save_checkpoint
from zsas.training.learner import Losses
from zsas.training.towers import (
    AdaptedTower,
    TowerLearner,
    VisualTokens,
    apart_loss,
    fresh,
    fresh_visual,
    parameters_named,
)

SIZES = ((256, 16, 0.5), (384, 8, 0.35), (512, 5, 0.15))
"""Sides of the frame in pixels, images a step at each, and how often it comes: the sizes of the views."""
VIEWS = ((1.0, False), (0.75, True), (0.5, True))
"""How the exported weights look at an image: plainly at 512 px, and mirrored at three quarters and half of it."""
RANK, CHANNELS = 8, 64
TERMS = ("pixels", "image")
BLOCKS = (3, 5, 7, 8)
"""Blocks that VisualAD reads: those of the bundled linear layers."""
SHARPER = 4.0
"""Factor on VisualAD's cosines in the losses: from a small pool they learn faster so."""


class SmallTower(AdaptedTower):
    """AnomalyVFM with a small decoder, no confidence, and low-rank changes of full strength."""

    def __init__(self, clip: Any) -> None:
        chosen = replace(self.recipe, resolution=512, rank=RANK, channels=CHANNELS)
        super().__init__(clip, chosen)
        self.card = replace(self.card, alpha=float(RANK), filter=1, views=VIEWS)
        tensors = fresh(clip, RANK, CHANNELS, confidence=False)
        tensors["decoder.final.bias"] -= 2.0  # most pixels are normal
        self.module = parameters_named(tensors, clip)

    def losses(self, kept: Tensor, objects: Sequence[str], mask: Tensor) -> Losses:
        """See the module."""
        found, _, image = self.logits(kept)
        return exact_losses(found, image, mask)


class SmallVisual(VisualTokens):
    """VisualAD without the attention, whose table of positions belongs to one size; sharper maps in the losses."""

    attention = False

    def __init__(self, clip: ClipBackbone) -> None:
        super().__init__(clip, replace(self.recipe, resolution=512))
        self.card = replace(self.card, blocks=BLOCKS, views=VIEWS)
        tensors = fresh_visual(clip, BLOCKS, self.grid**2, attention=False)
        self.module = parameters_named(tensors, clip)
        self.module.register_buffer("level", torch.tensor([0.0, 1.0]))

    def losses(self, kept: Tensor, objects: Sequence[str], mask: Tensor) -> Losses:
        """See the module; the angle between the tokens as published."""
        found, tokens = self.layers(kept)
        total = found.sum(dim=1)
        wide = F.interpolate(total[:, None], mask.shape[-2:], mode="bilinear")[:, 0]
        if torch.is_grad_enabled():
            self.remember(wide, mask)
        exact = exact_losses(SHARPER * found, SHARPER * top(total), mask)
        terms = {**exact.terms, "apart": apart_loss(tokens)}
        return Losses(terms, exact.maps)


SMALL: Mapping[str, Callable[[ClipBackbone], TowerLearner]] = {
    "anomalyvfm": SmallTower,
    "visualad": SmallVisual,
}
"""What is trained here, by system."""


def exact_losses(logits: Tensor, image: Tensor, mask: Tensor) -> Losses:
    """Focal and Dice of the small CLIP's training at half of the image's size, and cross-entropy of two image scores.

    Args:
        logits: Of the masks, (B, h, w), or of each layer, (B, L, h, w).
        image: Of the image scores, (B,); the mean of the highest hundredth of the mask's logits is the other one.
        mask: 1 where anomalous, fp32 (B, R, R).
    """
    layers = logits if logits.ndim == 4 else logits[:, None]
    half = F.avg_pool2d(mask[:, None], 2)[:, 0]
    wide = F.interpolate(layers, half.shape[-2:], mode="bilinear")
    focal, dice = dense_loss(wide, half, mask.new_ones(len(mask)))
    damaged = mask.flatten(1).amax(1)
    scores = (image, top(layers.mean(dim=1)))
    verdicts = [F.binary_cross_entropy_with_logits(one, damaged) for one in scores]
    terms = {"pixels": 5.0 * focal + dice, "image": 0.2 * (verdicts[0] + verdicts[1])}
    return Losses(terms, wide.detach().mean(dim=1).sigmoid())


def top(logits: Tensor) -> Tensor:
    """Mean of the highest hundredth of (B, h, w), (B,)."""
    cells = logits.flatten(1)
    return cells.topk(max(1, cells.shape[1] // 100), 1).values.mean(1)


def train(
    run: loop.Run, system: str, caches: Sequence[Path], clip: Path | None = None, lr: float = 1e-3
) -> Path:
    """Train the small weights of a system on the small CLIP.

    Args:
        run: Folder, length, seed.
        system: One of `SMALL`.
        caches: Folders with synthetic images.
        clip: Folder of the CLIP; None: the bundled one.
        lr: AdamW's largest step; it falls along half a cosine.

    Returns:
        Path of the weights.

    Raises:
        ZsasError: If nothing is trained for the system, or a folder holds no images.
    """
    # Long because the training stands here in its order: what it goes on from, its steps, what it keeps.
    if system not in SMALL:
        raise ZsasError(f"Nothing is trained here for {system!r}; choose {' or '.join(SMALL)}.")
    torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    chosen = ModelChoice("tiny", None if clip is None else str(clip), device=run.device)
    learner: Any = SMALL[system](Models(chosen).clip)
    average = loop.EMA(learner.module, 0.998)
    decoder = [p for name, p in learner.module.items() if name.startswith(("decoder", "predictor"))]
    tower = [
        p for name, p in learner.module.items() if not name.startswith(("decoder", "predictor"))
    ]
    groups = [{"params": tower, "lr": lr}, {"params": decoder, "lr": 2 * lr}]
    optimizer = torch.optim.AdamW(groups, lr, (0.9, 0.98), weight_decay=0.01)
    checkpoint, step, budget = run.out / "checkpoint.pt", 0, loop.Budget(run.steps, run.minutes)
    going_on = run.resume and checkpoint.is_file()
    if going_on:
        state = load_checkpoint(checkpoint)
        learner.module.load_state_dict(state["module"])
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        step, budget.seconds_before = int(state["step"]), float(state["seconds"])
    columns = ("step", "minutes", "loss", *TERMS, "lr")
    log = CurveLog(run.out / "curve.csv", columns, resume=going_on)
    sums, saved = dict.fromkeys(("loss", *TERMS), 0.0), budget.seconds

    def save() -> None:
        save_checkpoint(
            checkpoint,
            {
                "module": learner.module.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.state_dict(),
                "step": step,
                "seconds": budget.seconds,
            },
        )
        export(learner, average, run.out / learner.file)

    sources = [DatasetCache(folder) for folder in caches]

    def batches(worker: int, workers: int) -> Iterator[Batch]:
        return _batches(sources, [run.seed, step * workers + worker])

    for batch in loop.in_advance(batches, run.workers):
        progress = budget.progress(step)
        if progress >= 1.0:
            break
        loop.set_lr(optimizer, loop.cosine_lr(progress))
        losses = _losses(learner, batch, run.device)
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(learner.module.parameters(), 1.0)
        optimizer.step()
        average.update(learner.module)
        step += 1
        for name, value in {"loss": losses.total, **losses.terms}.items():
            if name in sums:
                sums[name] += float(value.detach()) / run.report_every
        if step % run.report_every == 0:
            rate = optimizer.param_groups[0]["lr"]
            log.write({"step": step, "minutes": budget.seconds / 60, "lr": rate, **sums})
            sums = dict.fromkeys(sums, 0.0)
        if budget.seconds - saved > 60 * run.save_minutes:
            save()
            saved = budget.seconds
    save()
    plot_curves(run.out / "curve.csv", run.out / "curve.png")
    return run.out / learner.file


def _batches(caches: Sequence[DatasetCache], seed: Sequence[int]) -> Iterator[Batch]:
    """Endless random crops, each batch of one cache and of one of `SIZES`."""
    rng = np.random.default_rng(list(seed))
    lengths = np.array([len(cache) for cache in caches], float)
    while True:
        cache = caches[int(rng.choice(len(caches), p=lengths / lengths.sum()))]
        size, batch, _ = SIZES[int(rng.choice(len(SIZES), p=[often for _, _, often in SIZES]))]
        index = rng.choice(cache.refresh(), batch, replace=False)
        yield make_batch(cache, rng, index, size, (0.5, 1.0))


def _losses(learner: TowerLearner, batch: Batch, device: str) -> Losses:
    pixels = normalise(torch.from_numpy(batch.image).to(device)).permute(0, 3, 1, 2).contiguous()
    mask = torch.from_numpy((batch.defect_map > 0).astype(np.float32)).to(device)
    return learner.losses(pixels, batch.names, mask)


def export(learner: Any, average: loop.EMA, path: Path) -> None:
    """Write the averaged weights as fp16."""
    own = {name: value.clone() for name, value in learner.module.state_dict().items()}
    learner.module.load_state_dict(average.shadow)
    weights = learner.weights("synthetic", TRAIN_FAMILIES)
    weights.save(path, torch.float16)
    learner.module.load_state_dict(own)
