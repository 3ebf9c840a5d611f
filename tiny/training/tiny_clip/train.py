"""Trains the small CLIP from scratch and exports what it has learned.

Several cores train as several processes as well, each with a share of the batch:
``torchrun --nproc-per-node 2 -m tiny.training.tiny_clip``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from tiny.synthetic.scene import TRAIN_FAMILIES
from tiny.training import loop
from tiny.training.pool import Pool, make_batch
from tiny.training.tiny_clip.losses import losses
from tiny.training.tiny_clip.model import Learner, load_learner, tokenizer_folder
from tiny.training.tiny_clip.recipe import ROUNDS, SCALE, Recipe, recipe_from
from tiny.training.tiny_clip.start import build, start_from_clip
from tiny.training.tiny_clip.tasks import Sentences, Task, make_task, plainly_visible
from tiny.training.tokenizer import load_tokenizer
from zsas.errors import ZsasError
from zsas.localizers.linear import Adapter, AdapterCard
from zsas.text import ENSEMBLE
from zsas.training.checkpoint import CurveLog, load_checkpoint, plot_curves, save_checkpoint

BACKBONE = "zsas/tiny"
"""Name that the exported adapter gives for the backbone it belongs to."""

LOOKS = ((1.0, False), (0.75, True), (0.5, True), (1.25, True))
"""How the exported model looks at a photo: plainly, and mirrored at 3/4, half and 5/4 of the size."""

COLUMNS = (
    "step", "minutes", "images", "images_per_second", "resolution", "lr", "loss", "focal", "dice",
    "kind", "image", "highest", "contrast", "grad",
)  # fmt: skip


def train(
    out: Path,
    *,
    minutes: float | None = None,
    steps: int = 6000,
    seed: int = 0,
    pools: Sequence[Path] = (Path("runs/pool"),),
    resume: bool = True,
    threads: int = 1,
    recipe: Recipe | None = None,
    sam: Path | None = None,
    start: Path | None = None,
    report_every: int = 25,
    save_minutes: float = 3.0,
) -> Path:
    """Train the small CLIP.

    Args:
        out: Folder for checkpoint, tokenizer, curves.
        minutes: Length of the training in minutes, over all resumed parts; None: ``steps`` decide.
        steps: Length in steps if ``minutes`` is None.
        seed: Seed of weights and batches.
        pools: Folders with made images; each batch is of one of them, drawn by their sizes.
        resume: Go on from ``out/checkpoint.pt`` if it is there.
        threads: Threads of torch.
        recipe: Sizes and weights; by default those of the shipped model's first round, or of its second with ``start``.
        sam: Checkpoint of a small SAM whose encoder the vision tower starts from; None starts from nothing.
        start: Checkpoint of an earlier training to start from, or the folder of an exported model, words and all; its
            tokenizer is taken over.
        report_every: Steps between two rows of ``out/curve.csv``.
        save_minutes: Minutes between two checkpoints.

    Returns:
        The checkpoint's path.

    Raises:
        ZsasError: If a folder holds no pool, or the pools number the kinds of defects differently.
    """
    from tiny.synthetic.defects import PHRASES

    torch.set_num_threads(threads)
    team = loop.Team()
    sources = [Pool(folder) for folder in pools]
    images = sources[0]
    if any(source.kinds != images.kinds for source in sources):
        raise ZsasError(
            f"The pools {', '.join(map(str, pools))} do not have the same kinds of defects: "
            "fill them with one version of the generator."
        )
    checkpoint = out / "checkpoint.pt"
    state = load_checkpoint(checkpoint) if resume and checkpoint.is_file() else None
    if state is not None:
        recipe = recipe_from(state["recipe"])
        learner = Learner(recipe, load_tokenizer(out / "tokenizer"))
        learner.load_state_dict(state["model"])
    else:
        recipe = recipe or ROUNDS[0 if start is None else 1]
        out.mkdir(parents=True, exist_ok=True)
        if start is None:
            learner = build(recipe, out, images, seed, sam)
        else:
            load_tokenizer(tokenizer_folder(start)).save_pretrained(out / "tokenizer")
            learner = Learner(recipe, load_tokenizer(out / "tokenizer"))
            start_from_clip(learner, start)
    tokenizer = load_tokenizer(out / "tokenizer")
    learner.train()
    text = nn.ModuleList([learner.clip.text_model, learner.clip.text_projection])
    optimizer = make_optimizer(learner)
    ema = loop.EMA(learner, recipe.ema)
    step, seen = 0, 0
    budget = loop.Budget(steps, minutes)
    if state is not None:
        optimizer.load_state_dict(state["optimizer"])
        ema.load_state_dict(state["ema"])
        step, seen = int(state["step"]), int(state["images"])
        budget.seconds_before = float(state["seconds"])
    if team.rank == 0:
        log = CurveLog(out / "curve.csv", COLUMNS, resume=state is not None)
    weights = {
        name: getattr(recipe, name)
        for name in ("focal", "dice", "kind", "image", "highest", "contrast")
    }

    def save() -> None:
        save_checkpoint(
            checkpoint,
            {
                "recipe": json.dumps(asdict(recipe)), "model": learner.state_dict(),
                "ema": ema.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
                "images": seen, "seconds": budget.seconds, "seed": seed,
                "pool": sum(map(len, sources)),
                "kinds": list(images.kinds),
            },
        )  # fmt: skip
        plot_curves(out / "curve.csv", out / "curve.png")

    current = _stage(recipe, budget.progress(step))

    def tasks() -> Iterator[Task]:
        """Endless tasks; looks at the stage each time, so a stage begins a few batches late."""
        rng = np.random.default_rng([seed, step, team.rank])
        draw = Sentences(tokenizer, PHRASES, rng)
        orders = [np.zeros(0, np.int64) for _ in sources]
        easily = recipe.easy_until > 0
        plain = [plainly_visible(source) if easily else np.zeros(0, np.int64) for source in sources]
        known: list[str] = []
        while True:
            size, whole, scale = current
            batch = max(1, whole // team.size)
            parts = np.array([len(source) for source in sources])
            which = int(rng.choice(len(sources), p=parts / parts.sum()))
            source, order = sources[which], orders[which]
            if len(order) < batch:
                order = rng.permutation(source.refresh())
                share = 1.0 - budget.progress(step) / max(recipe.easy_until, 1e-9)
                if share > 0 and len(plain[which]):
                    easy = rng.random(len(order)) < share
                    order = np.where(easy, rng.choice(plain[which], len(order)), order)[:600]
                known = sorted({record.name for each in sources for record in each.records})
                if len(order) < batch:
                    raise ZsasError(
                        f"The pool has {len(order)} images, fewer than one batch of {batch}: fill it first."
                    )
            index, orders[which] = order[:batch], order[batch:]
            made = make_batch(source, rng, index, size, scale)
            yield make_task(made, recipe, draw, source.kinds, known)

    totals: dict[str, float] = {}
    since, counted, saved = budget.seconds, 0, budget.seconds
    for task in loop.prefetch(tasks()):
        progress = team.leaders(budget.progress(step))
        if progress >= 1.0:
            break
        current = _stage(recipe, progress)
        factor = loop.cosine_lr(progress)
        loop.set_lr(optimizer, factor)
        text.requires_grad_(progress >= recipe.text_from)
        parts = losses(learner, task, own=progress >= recipe.own_from)
        loss = cast(Tensor, sum(weights[name] * value for name, value in parts.items()))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        team.average_gradients(learner)
        norm = nn.utils.clip_grad_norm_(learner.parameters(), recipe.clip)
        if torch.isfinite(norm):
            optimizer.step()
            ema.update(learner)
        step += 1
        seen += len(task.image) * team.size
        counted += len(task.image) * team.size
        for name, value in {**parts, "loss": loss, "grad": norm}.items():
            totals[name] = totals.get(name, 0.0) + float(value.detach())
        if step % report_every == 0 and team.rank == 0:
            now = budget.seconds
            log.write(
                {name: value / report_every for name, value in totals.items()}
                | {
                    "step": step, "minutes": now / 60, "images": seen,
                    "images_per_second": counted / max(1e-9, now - since),
                    "resolution": task.image.shape[1], "lr": recipe.lr * factor,
                }
            )  # fmt: skip
            totals, since, counted = {}, now, 0
        if budget.seconds - saved > 60 * save_minutes and team.rank == 0:
            save()
            saved = budget.seconds
    if team.rank == 0:
        save()
    team.leave()
    return checkpoint


def _stage(recipe: Recipe, progress: float) -> tuple[int, int, tuple[float, float]]:
    """Input size, batch and window scale at a part of the training."""
    stage = [stage for stage in recipe.stages if stage[0] <= progress][-1]
    return stage[1], stage[2], (stage[3], stage[4])


def make_optimizer(learner: Learner) -> loop.Together:
    """Muon for the matrices of the vision blocks, AdamW for everything else, the text tower slowly."""
    recipe = learner.recipe
    slow, matrices = set(), []
    for name, parameter in learner.named_parameters():
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
        for group in loop.parameter_groups(learner, recipe.weight_decay)
        for is_text, rate in ((False, recipe.lr), (True, recipe.lr * recipe.text_lr))
    ]
    return loop.Together(
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
        earlier: Checkpoints or exported folders of earlier rounds and their parts of the mixture: it forgets less
            than the last round.
    """
    learner, tokenizer = load_learner(checkpoint)
    state = learner.state_dict()
    mixture = {name: value.clone() for name, value in state.items()}
    for path, share in (earlier or {}).items():
        before = load_learner(path)[0].state_dict()
        for name, value in mixture.items():
            if value.is_floating_point():
                value += share * (before[name] - state[name])
    learner.load_state_dict(mixture)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    recipe = learner.recipe
    card = AdapterCard(
        backbone=BACKBONE,
        blocks=recipe.blocks,
        resolution=resolution,
        activation="gelu",
        trained_on="synthetic",
        trained_categories=TRAIN_FAMILIES,
        text_ensemble=ENSEMBLE,
        scale=SCALE,
        looks=LOOKS,
    )
    Adapter(
        card,
        tuple(layer.weight.detach().clone() for layer in learner.layers),
        tuple(layer.bias.detach().clone() for layer in learner.layers),
    ).save(folder / "adapter.safetensors")
    learner.clip.half().save_pretrained(folder)
    return folder


def parts(texts: Sequence[str]) -> dict[Path, float]:
    """`["runs/a/checkpoint.pt=0.25"]` as `export` takes it.

    Raises:
        ZsasError: If a text is not CHECKPOINT=SHARE, or the shares leave nothing of the last round.
    """
    found: dict[Path, float] = {}
    for text in texts:
        path, _, share = text.rpartition("=")
        try:
            found[Path(path)] = float(share)
        except ValueError:
            raise ZsasError(
                f"--mix {text} must read CHECKPOINT=SHARE, for example runs/tiny-clip/checkpoint.pt=0.25."
            ) from None
    if any(share <= 0 for share in found.values()) or sum(found.values()) >= 1:
        raise ZsasError("The shares of --mix must be positive and together less than 1.")
    return found
