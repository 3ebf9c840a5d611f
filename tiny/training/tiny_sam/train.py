"""Trains the small SAM from scratch, features first, then prompts, then the cascade, and exports it.

Several cores train as several processes as well, each with a share of the batch:
``torchrun --nproc-per-node 2 -m tiny.training.tiny_sam``.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from tiny.training import loop
from tiny.training.pool import Pool
from tiny.training.tiny_sam.batches import MEAN, STD, Batch, Images, make_batch, normalise
from tiny.training.tiny_sam.losses import dense_loss, prompt_losses
from tiny.training.tiny_sam.measure import measure
from tiny.training.tiny_sam.model import Learner
from tiny.training.tiny_sam.prompts import CELL, Crop
from tiny.training.tiny_sam.recipe import ROUNDS, Recipe
from tiny.training.tiny_sam.start import start_patches
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
    out: str | Path,
    *,
    minutes: float | None = None,
    steps: int = 20_000,
    seed: int = 0,
    pools: Sequence[Images],
    recipe: Recipe | None = None,
    start: Path | None = None,
    resume: bool = True,
    threads: int = 1,
    report_every: int = 50,
    measure_minutes: float = 6.0,
) -> Path:
    """Train the small SAM and export it.

    Args:
        out: Folder of the run: ``last.pt``, ``curve.csv``, ``measures.csv`` and ``sam/``.
        minutes: Time budget of the whole training; ``steps`` counts when it is None.
        steps: Steps of the whole training without a time budget.
        seed: Seed of weights, crops and prompts.
        pools: Made images, held as arrays; each batch is of one of them, drawn by their sizes. The first
            ``recipe.held_out`` of each are never learned from; those of the first pool are measured on.
        recipe: Sizes and schedule; by default those of the first round, or of the second with ``start``.
        start: Checkpoint ``last.pt`` of an earlier training whose average is the start, or folder of an
            exported model, as the shipped one.
        resume: Go on from ``last.pt`` where there is one.
        threads: Threads of torch and OpenCV.
        report_every: Steps between two rows of the curve.
        measure_minutes: Minutes between two measurements on held-out images.

    Returns:
        The folder of the exported model.
    """
    recipe = recipe or ROUNDS[0 if start is None else 1]
    out = Path(out)
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)  # batches are made in a thread of their own
    team = loop.Team()
    torch.manual_seed(seed)
    learner = Learner(recipe, seed)
    optimizers = make_optimizers(learner)
    ema = loop.EMA(learner, recipe.ema)
    step, before, last = 0, 0.0, out / "last.pt"
    if resume and last.is_file():
        state = load_checkpoint(last)
        learner.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        ema.load_state_dict(state["ema"])
        step, before = int(state["step"]), float(state["seconds"])
    elif start is not None:
        learner.go_on_from(start)
        ema = loop.EMA(learner, recipe.ema)
    budget = loop.Budget(steps, minutes, before)
    leads = team.rank == 0
    if leads:
        curve = CurveLog(out / "curve.csv", COLUMNS, resume=step > 0)
        measures = CurveLog(out / "measures.csv", MEASURES, resume=step > 0)
    images = pools[0]
    first = _held_out(images, recipe)
    if step == 0 and start is None:
        some = [images.image[i] for i in range(first, min(first + 64, len(images.image)))]
        scaled = [np.asarray(cv2.resize(i, (recipe.frame, recipe.frame)), np.uint8) for i in some]
        whole = [
            Crop(i, np.zeros((0, 0), np.int32), np.zeros((0, 0), np.int32), *i.shape[:2])
            for i in scaled
        ]
        start_patches(learner.sam, normalise(whole))
    measured_at = time.monotonic()
    sums: dict[str, float] = {}
    seen, since = 0, time.monotonic()

    def save() -> None:
        save_checkpoint(
            last,
            {
                "model": learner.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                "ema": ema.state_dict(),
                "step": step,
                "seconds": budget.seconds,
                "recipe": asdict(recipe),
                "seed": seed,
            },
        )

    def look() -> None:
        kept = {name: value.clone() for name, value in learner.state_dict().items()}
        learner.load_state_dict(ema.shadow)
        found = measure(learner, images, range(first))
        learner.load_state_dict(kept)
        measures.write({"step": step} | found)

    for batch in loop.prefetch(_batches(pools, recipe, budget, seed, step, team)):
        progress = team.leaders(budget.progress(step))
        if progress >= 1.0:
            break
        rng = np.random.default_rng((seed, step, 1))
        torch.manual_seed(seed * 1_000_003 + step)
        calls = int(rng.choice((1, 1, 2, 3, 3))) if progress >= recipe.cascade_from else 1
        for optimizer in optimizers:
            loop.set_lr(optimizer, loop.cosine_lr(progress))
        with loop.autocast():
            features = learner.features(batch.pixels, batch.place)
            new_heads = start is not None and start.is_dir() and progress < HEADS_ALONE
            dense, together = dense_loss(learner, features, batch, heads_only=new_heads)
            asked, report = prompt_losses(learner, features, batch, rng, calls)
        weight, beside = 1.0, 0.5
        if recipe.features_first:
            weight, beside = min(1.0, 0.2 + 8.0 * progress), 1.0 if progress < 0.3 else 0.5
        loss = weight * asked + beside * (dense + together)
        learner.zero_grad(set_to_none=True)
        loss.backward()
        team.average_gradients(learner)
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        ema.update(learner)
        step += 1
        seen += len(batch.pixels) * team.size
        for name, value in (
            report
            | {
                "loss": float(loss.detach()),
                "dense": float(dense.detach()),
                "together": float(together.detach()),
            }
        ).items():
            sums[name] = sums.get(name, 0.0) + value / report_every
        if not all(math.isfinite(value) for value in sums.values()):
            raise ZsasError(
                f"The loss is not a number at step {step}: lower the learning rate and resume."
            )
        if step % report_every == 0:
            now = time.monotonic()
            if leads:
                curve.write(
                    sums | {"step": step, "progress": progress, "images_s": seen / (now - since)}
                )
            sums, seen, since = {}, 0, now
        if leads and time.monotonic() - measured_at > 60 * measure_minutes:
            save()
            look()
            measured_at = since = time.monotonic()
            seen = 0
    team.leave()
    if not leads:
        return out / "sam"
    save()
    look()
    plot_curves(out / "curve.csv", out / "curve.png")
    return export(last, out / "sam")


def _held_out(images: Images, recipe: Recipe) -> int:
    return min(recipe.held_out, len(images.image) // 4)


def _batches(
    pools: Sequence[Images],
    recipe: Recipe,
    budget: loop.Budget,
    seed: int,
    step: int,
    team: loop.Team,
) -> Iterator[Batch]:
    """One process's batches from ``step`` on, without end, each decided by seed, step and process."""
    while True:
        if step % 500 == 0:
            for pool in pools:
                if isinstance(pool, Pool):
                    pool.refresh()
        progress = budget.progress(step)
        later = (stage for stage in recipe.stages if progress < stage[0])
        _, side, size = next(later, recipe.stages[-1])
        rng = np.random.default_rng((seed, step, team.rank))
        parts = np.array([len(pool.image) for pool in pools])
        pool = pools[int(rng.choice(len(pools), p=parts / parts.sum()))]
        yield make_batch(
            rng, pool, _held_out(pool, recipe), recipe, side, max(1, size // team.size)
        )
        step += 1


def make_optimizers(learner: Learner) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between hidden layers, AdamW for everything else."""
    recipe = learner.recipe
    matrices, decayed, plain = [], [], []
    for name, parameter in learner.named_parameters():
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
    learner = Learner(Recipe(**fields))
    learner.load_state_dict(state["ema"]["shadow"])
    sam, folder = learner.sam, Path(folder)
    sam.config._attn_implementation = None
    # fp16 rounds the Fourier matrix by parts in a thousand, alike in both places.
    sam.half().save_pretrained(folder)
    frame = learner.recipe.frame
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
