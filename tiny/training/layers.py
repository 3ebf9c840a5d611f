"""Fits the linear layers of a small CLIP anew while both towers stay as they are: minutes instead of hours.

What the frozen tower says of a number of crops is kept on disk; then a step is a few small products of matrices. The
loss is put on each layer's map and, unlike in the training of the whole, on what the method makes of all of them: the
mean of their probabilities. So a layer whose tokens say little learns to keep still, without a weight of its own.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from tiny.synthetic.scene import TRAIN_FAMILIES
from tiny.training import loop
from tiny.training.cache import DatasetCache, make_batch
from tiny.training.clip.losses import dense_loss, verdict_loss
from tiny.training.clip.model import TrainModel, load_model, vision_tokens
from tiny.training.clip.recipe import PATCH, SCALE
from tiny.training.clip.tasks import normalise
from zsas.backbones.text import DEFAULT_OBJECT, prompt_sentences
from zsas.errors import ZsasError
from zsas.localizers.adapter import Adapter, read_adapter
from zsas.training.checkpoint import CurveLog, load_checkpoint, plot_curves, save_checkpoint

ENCODED_AT_ONCE = 8


@dataclass(frozen=True)
class LayersRecipe:
    """Everything that decides the fit, beside its images and its length.

    Attributes:
        sizes: Side of the frame in pixels, crops of it in the whole, crops a step: the sizes of the views, most of
            them as a tile is seen.
        window: Range of a crop's side as a fraction of the image's.
        layer, mean: Weight of the losses on each layer's map, and on the mean of all.
        focal, dice, highest: Weights of the losses on a map; see :mod:`tiny.training.clip.losses`.
        own_noun: Chance that a crop is compared with its own noun instead of "object".
        lr, decay: AdamW; the layers are drawn back to nothing but where they started.
        ema: Of the averaged weights.
        blocks: Blocks to read, counted from 1; empty keeps those of the start.
    """

    sizes: tuple[tuple[int, int, int], ...] = (
        (512, 1200, 12),
        (384, 600, 16),
        (256, 400, 24),
        (640, 200, 8),
    )
    window: tuple[float, float] = (0.5, 1.0)
    layer: float = 0.5
    mean: float = 1.0
    focal: float = 5.0
    dice: float = 1.0
    highest: float = 0.4
    own_noun: float = 0.3
    lr: float = 1e-3
    decay: float = 0.0
    ema: float = 0.99
    blocks: tuple[int, ...] = ()


def scaled(factor: float) -> LayersRecipe:
    """The recipe with more or fewer crops."""
    recipe = LayersRecipe()
    sizes = tuple((size, max(1, round(factor * n)), batch) for size, n, batch in recipe.sizes)
    return replace(recipe, sizes=sizes)


class Crops:
    """Tokens of crops of one size, kept on disk, with their masks and nouns.

    Args:
        folder: Where they lie; it is taken up again by a later run with the same parameters.
        count: How many.
        size: Side of the frame in pixels.
        blocks: Whose tokens are kept.
        width: Channels of the tower.
    """

    def __init__(
        self, folder: Path, count: int, size: int, blocks: Sequence[int], width: int
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.size, self.grid, self.blocks = size, size // PATCH, tuple(blocks)
        self._note = folder / f"{size}.json"
        fresh = not (folder / f"{size}.tokens").is_file()
        cells = self.grid * self.grid
        self.tokens = np.memmap(
            folder / f"{size}.tokens", np.float16, "w+" if fresh else "r+",
            shape=(count, len(blocks), cells, width),
        )  # fmt: skip
        self.mask = np.memmap(
            folder / f"{size}.mask", np.uint8, "w+" if fresh else "r+",
            shape=(count, size // 4, size // 4),
        )  # fmt: skip
        self.names: list[str] = []
        self.damaged: list[float] = []
        if not fresh and self._note.is_file():
            known = json.loads(self._note.read_text())
            self.names, self.damaged = known["names"], known["damaged"]

    def __len__(self) -> int:
        """How many crops are there."""
        return len(self.names)

    def add(
        self,
        tokens: Tensor,
        defect_map: NDArray[np.uint8],
        names: Sequence[str],
        found: Sequence[tuple[str, ...]],
    ) -> None:
        """Keep some more crops, as many as there is room for."""
        at, n = len(self), min(len(names), len(self.tokens) - len(self))
        self.tokens[at : at + n] = tokens[:n].half().numpy()
        full = torch.from_numpy((defect_map[:n] > 0).astype(np.float32))
        self.mask[at : at + n] = np.round(255 * F.avg_pool2d(full[:, None], 4)[:, 0].numpy())
        for i in range(n):
            # An image with a defect that can hardly be seen is neither.
            plain = 0.0 if not defect_map[i].any() else -1.0
            self.damaged.append(1.0 if found[i] else plain)
        self.names += list(names[:n])
        self._note.write_text(json.dumps({"names": self.names, "damaged": self.damaged}))

    def take(self, index: NDArray[np.int64], blocks: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Tokens (B, L, cells, width) of some crops and blocks, and masks (B, size / 4, size / 4), fp32."""
        rows = [self.blocks.index(block) for block in blocks]
        kept = np.stack([self.tokens[i][rows] for i in index])
        mask = torch.from_numpy(np.stack([self.mask[i] for i in index])).float() / 255
        return torch.from_numpy(kept).float(), mask


@torch.no_grad()
def encode_crops(
    model: TrainModel,
    caches: Sequence[DatasetCache],
    folder: Path,
    recipe: LayersRecipe,
    blocks: Sequence[int],
    seed: int,
) -> list[Crops]:
    """What the frozen tower says of random crops of the images; goes on where it was stopped."""
    lengths = np.array([len(cache) for cache in caches], float)
    width = model.recipe.width
    held = []
    for size, count, _ in recipe.sizes:
        crops = Crops(folder, count, size, blocks, width)
        while len(crops) < count:
            rng = np.random.default_rng([seed, size, len(crops)])
            cache = caches[int(rng.choice(len(caches), p=lengths / lengths.sum()))]
            index = rng.choice(len(cache), ENCODED_AT_ONCE, replace=False)
            batch = make_batch(cache, rng, index, size, recipe.window)
            kept, _ = vision_tokens(model.clip, normalise(torch.from_numpy(batch.image)), blocks)
            tokens = torch.stack([one[:, 1:] for one in kept], 1)
            crops.add(tokens, batch.defect_map, batch.names, batch.defect_types)
        held.append(crops)
    return held


@torch.no_grad()
def directions(model: TrainModel, tokenizer: Any, names: Sequence[str]) -> dict[str, Tensor]:
    """For each noun the difference of its anomalous and normal text vectors, (D,), as the method makes them."""
    found = {}
    end = int(tokenizer.eos_token_id)
    for name in {DEFAULT_OBJECT, *names}:
        states = []
        for sentences in prompt_sentences(name):
            rows = [tokenizer(line)["input_ids"] for line in sentences]
            longest = max(map(len, rows))
            ids = torch.tensor([row + [end] * (longest - len(row)) for row in rows])
            states.append(F.normalize(model.encode_text(ids).mean(0), dim=-1))
        found[name] = states[1] - states[0]
    return found


def fit_losses(
    layers: nn.ModuleList,
    tokens: Tensor,
    mask: Tensor,
    direction: Tensor,
    damaged: Tensor,
    recipe: LayersRecipe,
) -> dict[str, Tensor]:
    """Losses of a batch by name, not weighted.

    Args:
        layers: One linear layer a block.
        tokens: (B, L, g * g, width).
        mask: (B, h, w) in [0, 1].
        direction: Difference of the text vectors, (B, D).
        damaged: 1 anomalous, 0 normal, -1 hardly visible, (B,).
        recipe: Whether a loss is needed at all.
    """
    patches = torch.stack(
        [F.normalize(layer(tokens[:, i]), dim=-1) for i, layer in enumerate(layers)], 1
    )
    logits = SCALE * torch.einsum("blnd,bd->bln", patches, direction)
    grid = round(logits.shape[2] ** 0.5)
    wide = F.interpolate(
        logits.unflatten(2, (grid, grid)), mask.shape[1:], mode="bilinear", align_corners=False
    )
    together = torch.logit(wide.sigmoid().mean(1, keepdim=True), eps=1e-5)
    whole = torch.ones(len(mask))
    found: dict[str, Tensor] = {}
    found["focal"], found["dice"] = dense_loss(together, mask, whole)
    if recipe.layer:
        found["layer_focal"], found["layer_dice"] = dense_loss(wide, mask, whole)
    cells = torch.logit(logits.sigmoid().mean(1), eps=1e-5)
    highest = cells.topk(max(1, cells.shape[1] // 100), 1).values.mean(1)
    found["highest"] = verdict_loss(highest, damaged)
    return found


def _total(found: Mapping[str, Tensor], recipe: LayersRecipe) -> Tensor:
    total = recipe.mean * (recipe.focal * found["focal"] + recipe.dice * found["dice"])
    if recipe.layer:
        each = recipe.focal * found["layer_focal"] + recipe.dice * found["layer_dice"]
        total = total + recipe.layer * each
    return total + recipe.highest * found["highest"]


def train(
    run: loop.Run,
    start: Path,
    caches: Sequence[Path],
    recipe: LayersRecipe | None = None,
    *,
    keep: float = 0.0,
) -> Path:
    """Fit the linear layers of an exported model anew.

    Args:
        run: Folder, length in steps, seed; minutes are not read.
        start: Folder of an exported model, whose layers are the start.
        caches: Folders with synthetic images.
        recipe: See the class.
        keep: Part of the layers of the start that is mixed into the written ones.

    Returns:
        Path of the adapter.

    Raises:
        ZsasError: If a folder holds no images.
    """
    # Long because the training stands here in its order: what it goes on from, its steps, what it keeps.
    recipe = recipe or LayersRecipe()
    if not 0 <= keep < 1:
        raise ZsasError(
            f"The part of the earlier layers is {keep}; it must be at least 0 and less than 1."
        )
    torch.set_num_threads(run.threads)
    torch.manual_seed(run.seed)
    model, tokenizer = load_model(start)
    before = read_adapter(start / "adapter.safetensors")
    blocks = recipe.blocks or before.card.blocks
    images = [DatasetCache(folder) for folder in caches]
    held = encode_crops(model, images, run.out / "crops", recipe, blocks, run.seed)
    texts = directions(model, tokenizer, [name for crops in held for name in crops.names])
    layers = _layers(before, blocks)
    average = loop.EMA(layers, recipe.ema)
    optimizer = torch.optim.AdamW(layers.parameters(), recipe.lr, weight_decay=recipe.decay)
    checkpoint, step, began = run.out / "layers.pt", 0, time.monotonic()
    going_on = run.resume and checkpoint.is_file()
    if going_on:
        state = load_checkpoint(checkpoint)
        layers.load_state_dict(state["layers"])
        optimizer.load_state_dict(state["optimizer"])
        average.load_state_dict(state["average"])
        step = int(state["step"])
    columns = ("step", "minutes", "size", "loss", "focal", "dice", "highest")
    log = CurveLog(run.out / "curve.csv", columns, resume=going_on)
    chance = np.array([count for _, count, _ in recipe.sizes], float)

    def save() -> Path:
        save_checkpoint(
            checkpoint,
            {
                "layers": layers.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.state_dict(),
                "step": step,
            },
        )
        return _export(average, before, blocks, run.out / "adapter.safetensors", keep)

    while step < run.steps:
        rng = np.random.default_rng([run.seed, step, 1])
        which = int(rng.choice(len(held), p=chance / chance.sum()))
        crops, batch = held[which], recipe.sizes[which][2]
        index = np.sort(rng.choice(len(crops), min(batch, len(crops)), replace=False))
        nouns = [
            crops.names[i] if rng.random() < recipe.own_noun else DEFAULT_OBJECT for i in index
        ]
        direction = torch.stack([texts[noun] for noun in nouns])
        damaged = torch.tensor([crops.damaged[i] for i in index])
        tokens, mask = crops.take(index, blocks)
        found = fit_losses(layers, tokens, mask, direction, damaged, recipe)
        total = _total(found, recipe)
        loop.set_lr(optimizer, loop.cosine_lr(step / run.steps))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        average.update(layers)
        step += 1
        if step % run.report_every == 0:
            terms = {name: float(value.detach()) for name, value in found.items()}
            row = {name: terms[name] for name in ("focal", "dice", "highest")}
            minutes = (time.monotonic() - began) / 60
            log.write(
                {
                    "step": step,
                    "minutes": minutes,
                    "size": crops.size,
                    "loss": float(total.detach()),
                }
                | row
            )
        if step % 500 == 0:
            save()
    path = save()
    plot_curves(run.out / "curve.csv", run.out / "curve.png")
    (run.out / "recipe.json").write_text(json.dumps(asdict(recipe)) + "\n")
    return path


def _layers(before: Adapter, blocks: Sequence[int]) -> nn.ModuleList:
    """The layers of the start; one of a new block begins as that of the nearest one."""
    layers = nn.ModuleList()
    for block in blocks:
        gaps = [abs(block - other) for other in before.card.blocks]
        i = gaps.index(min(gaps))
        weight, bias = before.weights[i], before.biases[i]
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight.clone(), "bias": bias.clone()})
        layers.append(layer)
    return layers


def _export(
    average: loop.EMA, before: Adapter, blocks: Sequence[int], path: Path, keep: float
) -> Path:
    """Write the averaged layers with the card of those before, which stay in them with a part."""
    old = _layers(before, blocks).state_dict()
    mixed = {name: (1 - keep) * value + keep * old[name] for name, value in average.shadow.items()}
    count = range(len(blocks))
    card = replace(before.card, blocks=tuple(blocks), trained_categories=TRAIN_FAMILIES)
    Adapter(
        card,
        tuple(mixed[f"{i}.weight"].detach().clone() for i in count),
        tuple(mixed[f"{i}.bias"].detach().clone() for i in count),
    ).save(path)
    return path
