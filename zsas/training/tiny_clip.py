"""Trains the small CLIP from scratch: patches against sentences, densely, and images against sentences.

The model is transformers' own ``CLIPModel`` with four linear layers beside it, exactly those of the
method (patch tokens after four blocks, scaled cosine with two text vectors). Losses:

* dense: focal + dice of each layer's map against the defect mask, with text vectors of the image's
  own noun (mostly), of "object", of a noun no image has, or, seldom, of another image's noun;
* kinds: a patch on a stain belongs to "... with a stain" rather than to "... with a scratch";
* image: the class token against its own sentence among the batch's, and sound against defective, which
  the highest patches of the map have to say as well.

One thread of a CPU is the machine this is made for: activations are bfloat16, attention keeps its
weights instead of computing them twice, and the mask is compared at half resolution. Two cores train
faster as two processes than as two threads: ``torchrun --nproc-per-node 2 -m zsas.training.tiny_clip``.
"""

from __future__ import annotations

import argparse
import json
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from zsas.clip import PIXEL_MEAN, PIXEL_STD
from zsas.localizers.linear import Adapter, AdapterCard
from zsas.text import DEFAULT_OBJECT, ENSEMBLE, TEMPLATES, prompt_sentences
from zsas.training import loop
from zsas.training.pool import Batch, Pool, make_batch, open_pool
from zsas.training.tokenizer import NOUNS, load_tokenizer, sentences, train_tokenizer

BACKBONE = "zsas/tiny"
"""Name that the exported adapter gives for the backbone it belongs to."""

COLUMNS = (
    "step", "minutes", "images", "images_per_second", "resolution", "lr", "loss", "focal", "dice",
    "kind", "image", "highest", "contrast", "grad",
)  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training, beside its pool and budget.

    Attributes:
        width, depth, heads: Vision tower.
        text_width, text_depth, text_heads, context: Text tower.
        projection: Channels of the space that patches, images and sentences share.
        blocks: Blocks whose tokens the linear layers read, counted from 1.
        nominal: Input size in pixels that the position embedding is made for.
        stages: (part of the training at which it begins, input px, batch, window scale) in order.
        samples: Sentences drawn a state and noun at each step.
        word_steps: Steps of :func:`teach_words`.
        text_lr: Learning rate of the text tower as a part of ``lr``.
        text_from: Part of the training until which the text tower stays as its words left it.
        own_from: Part of the training after which CLIP's own projection of patches learns, too.
        easy_until: Part of the training in which plainly visible defects are drawn more often, from all of the
            time at first to never at its end: a tower that starts among faint ones learns nothing for long.
        muon_lr: Learning rate of Muon, which moves the matrices of the vision blocks: its even steps keep patches
            apart where AdamW's, at batches this small, drive them all into one direction.
        lr, weight_decay, clip, ema: AdamW for the rest, gradient clipping and the average that is kept.
        names: Chances of the image's own noun, "object", a foreign noun, another image's noun.
        wrong_target: Target on defects when another image's noun is named.
        focal, dice, kind, image, highest, contrast: Weights of the losses.
    """

    width: int = 192
    depth: int = 8
    heads: int = 3
    text_width: int = 128
    text_depth: int = 3
    text_heads: int = 4
    context: int = 32
    projection: int = 128
    blocks: tuple[int, ...] = (3, 5, 7, 8)
    nominal: int = 384
    stages: tuple[tuple[float, int, int, float, float], ...] = (
        (0.0, 192, 12, 0.35, 0.75),
        (0.35, 256, 12, 0.5, 1.0),
        (0.78, 384, 8, 0.6, 1.0),
    )
    easy_until: float = 0.4
    samples: int = 2
    word_steps: int = 200
    text_lr: float = 0.15
    text_from: float = 0.3
    own_from: float = 0.5
    lr: float = 5e-4
    muon_lr: float = 1.5e-3
    weight_decay: float = 0.05
    clip: float = 1.0
    ema: float = 0.999
    names: tuple[float, float, float, float] = (0.72, 0.13, 0.07, 0.08)
    wrong_target: float = 0.5
    focal: float = 5.0
    dice: float = 1.0
    kind: float = 0.15
    image: float = 0.2
    highest: float = 0.2
    contrast: float = 0.15


SECOND_ROUND = Recipe(
    stages=((0.0, 192, 16, 0.35, 0.8), (0.25, 256, 12, 0.5, 1.0), (0.82, 384, 8, 0.6, 1.0)),
    easy_until=0.1,
    text_from=0.05,
    own_from=0.0,
)
"""Goes on from an earlier training: the words are known, and faint defects come early."""

THIRD_ROUND = replace(
    SECOND_ROUND,
    stages=((0.0, 192, 24, 0.35, 0.8), (0.2, 256, 20, 0.5, 1.0), (0.7, 384, 10, 0.6, 1.0)),
    easy_until=0.0,
    text_from=0.0,
    lr=4e-4,
    muon_lr=1.2e-3,
    image=0.4,
    highest=0.4,
)
"""Goes on once more, among faint defects from the start, with more weight on the photo's verdict."""

ROUNDS = (Recipe(), SECOND_ROUND, THIRD_ROUND)
"""The shipped model's trainings, in order; all but the first go on from the one before."""

PATCH = 16
SCALE = 20.0
"""Factor on the cosines of patches; from scratch, CLIP's 100 freezes the text tower at the start."""


def config_of(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPConfig:
    """The transformers configuration of a recipe's model."""
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": recipe.text_width,
        "intermediate_size": 4 * recipe.text_width,
        "num_hidden_layers": recipe.text_depth,
        "num_attention_heads": recipe.text_heads,
        "max_position_embeddings": recipe.context,
        "hidden_act": "gelu",
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": recipe.width,
        "intermediate_size": 4 * recipe.width,
        "num_hidden_layers": recipe.depth,
        "num_attention_heads": recipe.heads,
        "image_size": recipe.nominal,
        "patch_size": PATCH,
        "hidden_act": "gelu",
    }
    return CLIPConfig(
        text_config=text, vision_config=vision, projection_dim=recipe.projection,
        logit_scale_init_value=2.6592,
    )  # fmt: skip


class _Attention(torch.autograd.Function):
    """softmax(q k^T) v with the weights kept for the way back: on CPUs faster than flash attention."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = torch.softmax(q @ k.transpose(-1, -2), -1)
        out = weights @ v
        ctx.save_for_backward(q, k, v, weights, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, weights, out = ctx.saved_tensors
        grad = grads[0].contiguous()
        inner = grad @ v.transpose(-1, -2)
        scores = inner.sub_((grad * out).sum(-1, keepdim=True)).mul_(weights)
        return scores @ k, scores.transpose(-1, -2) @ q, weights.transpose(-1, -2) @ grad


def vision_tokens(
    model: CLIPModel, image: Tensor, blocks: Sequence[int], dtype: torch.dtype = torch.bfloat16
) -> tuple[list[Tensor], Tensor]:
    """The vision tower of transformers' ``CLIPModel``, the same numbers in less time.

    Args:
        model: Its weights are used (and get gradients).
        image: (B, R, R, 3) normalised RGB, R a multiple of the patch size.
        blocks: Blocks whose tokens are wanted, counted from 1.
        dtype: Number format of the matrix products.

    Returns:
        Tokens (B, 1 + g * g, width) after each of ``blocks``, and after the last block.
    """
    vision = model.vision_model
    embeddings = vision.embeddings
    size, grid = image.shape[0], image.shape[1] // PATCH
    patches = image.view(size, grid, PATCH, grid, PATCH, 3).permute(0, 1, 3, 5, 2, 4)
    flat = patches.reshape(size, grid * grid, -1).to(dtype)
    kernel = embeddings.patch_embedding.weight
    tokens = F.linear(flat, kernel.view(kernel.shape[0], -1).to(dtype)).float()
    position = embeddings.position_embedding.weight
    side = round((position.shape[0] - 1) ** 0.5)
    place = position[1:].view(1, side, side, -1).permute(0, 3, 1, 2)
    if side != grid:
        place = F.interpolate(place, size=(grid, grid), mode="bicubic", align_corners=False)
    tokens = tokens + place.flatten(2).transpose(1, 2)
    first = (embeddings.class_embedding + position[0]).expand(size, 1, -1)
    x = vision.pre_layrnorm(torch.cat([first, tokens], 1))

    def product(layer: nn.Linear, value: Tensor) -> Tensor:
        return F.linear(value, layer.weight.to(dtype), layer.bias.to(dtype))

    kept: list[Tensor] = []
    last = x
    for number, layer in enumerate(vision.encoder.layers, start=1):
        attention = layer.self_attn
        width = x.shape[-1]
        heads = attention.num_heads
        shape = (size, -1, 3, heads, width // heads)
        scale = (width // heads) ** -0.5
        q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
        weight = torch.cat([q.weight * scale, k.weight, v.weight]).to(dtype)
        bias = torch.cat([q.bias * scale, k.bias, v.bias]).to(dtype)
        normed = layer.layer_norm1(x).to(dtype)
        split = F.linear(normed, weight, bias).view(shape).permute(2, 0, 3, 1, 4)
        mixed = _Attention.apply(*(part.contiguous() for part in split.unbind(0)))
        x = x + product(attention.out_proj, mixed.transpose(1, 2).reshape(x.shape))
        hidden = F.gelu(product(layer.mlp.fc1, layer.layer_norm2(x).to(dtype)))
        x = x + product(layer.mlp.fc2, hidden)
        last = x
        if number in blocks:
            kept.append(x)
    return kept, last


class Learner(nn.Module):
    """The small CLIP with its linear layers, as one thing to train.

    Args:
        recipe: Sizes.
        tokenizer: Decides the vocabulary.
    """

    def __init__(self, recipe: Recipe, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.recipe = recipe
        config = config_of(recipe, tokenizer)
        config.text_config._attn_implementation = "eager"  # faster backwards on short sentences
        self.clip = CLIPModel(config)
        # Its steps add up over 768 alike pixels and would drown all but brightness: kept as it starts.
        self.clip.vision_model.embeddings.patch_embedding.weight.requires_grad_(False)
        self.layers = nn.ModuleList(
            nn.Linear(recipe.width, recipe.projection) for _ in recipe.blocks
        )

    def see(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Look at images.

        Args:
            image: (B, R, R, 3) normalised RGB.

        Returns:
            Normalised projected patches of each layer (B, L, g * g, D), those of the last layer
            through CLIP's own projection (B, g * g, D), and image embeddings (B, D), all fp32.
        """
        dtype = torch.bfloat16 if self.training else torch.float32
        kept, last = vision_tokens(self.clip, image, self.recipe.blocks, dtype)
        patches = torch.stack(
            [
                F.normalize(layer(tokens[:, 1:].float()), dim=-1)
                for layer, tokens in zip(self.layers, kept, strict=True)
            ],
            1,
        )
        own = self.clip.visual_projection(self.clip.vision_model.post_layernorm(last))
        own = F.normalize(own, dim=-1)
        return patches, own[:, 1:], own[:, 0]

    def read(self, ids: Tensor) -> Tensor:
        """Normalised sentence embeddings, (n, D) fp32, of token ids (n, length)."""
        with loop.autocast(self.training):
            output = self.clip.get_text_features(input_ids=ids)
        return F.normalize(output.pooler_output.float(), dim=-1)


class Sentences:
    """Draws sentences and turns them into token ids, each sentence once.

    Args:
        tokenizer: The tokenizer.
        phrases: Kind of defect → noun phrases.
        rng: Source of chance.
    """

    def __init__(
        self, tokenizer: CLIPTokenizer, phrases: dict[str, list[str]], rng: np.random.Generator
    ) -> None:
        self.tokenizer = tokenizer
        self.phrases = phrases
        self.rng = rng
        self._ids: dict[str, list[int]] = {}

    def tokens(self, lines: Sequence[str]) -> Tensor:
        """Token ids (n, longest), padded with the end token."""
        for line in lines:
            if line not in self._ids:
                self._ids[line] = self.tokenizer(line)["input_ids"]
        rows = [self._ids[line] for line in lines]
        end = int(self.tokenizer.eos_token_id)
        longest = max(map(len, rows))
        return torch.tensor([row + [end] * (longest - len(row)) for row in rows])

    def states(self, noun: str, samples: int) -> list[str]:
        """``samples`` sound sentences, then as many defective ones, of one noun."""
        return [
            group[int(i)]
            for group in prompt_sentences(noun)
            for i in self.rng.integers(0, len(group), samples)
        ]

    def with_kind(self, noun: str, kind: str) -> str:
        """A sentence that names a kind of defect: "a photo of a plate with a stain."."""
        options = self.phrases[kind]
        phrase = options[int(self.rng.integers(len(options)))]
        template = TEMPLATES[int(self.rng.integers(len(TEMPLATES)))]
        return template.format(f"{noun} with {phrase}")


@dataclass(frozen=True)
class Task:
    """A batch with everything the losses need, as tensors.

    Attributes:
        image: fp32 (B, R, R, 3), normalised.
        mask: fp32 (B, R / 2, R / 2), covered part of each half-resolution pixel.
        target: fp32 (B,), what the map shall be on defects.
        state_ids: ids of ``2 * samples`` sentences a distinct noun.
        noun: int64 (B,), which of the nouns each image is compared with.
        own_ids: ids (B, n) of one sentence an image.
        own_label: int64 (B,), equal where sentences mean the same.
        kind_ids: ids (K, n) of one sentence a kind.
        patch_kind: int64 (B, g * g): 0 sound, 1..K kind, -1 neither clearly.
        damaged: fp32 (B,), 1 defective, 0 sound, -1 hardly visible.
    """

    image: Tensor
    mask: Tensor
    target: Tensor
    state_ids: Tensor
    noun: Tensor
    own_ids: Tensor
    own_label: Tensor
    kind_ids: Tensor
    patch_kind: Tensor
    damaged: Tensor


def normalise(image: NDArray[np.float32]) -> Tensor:
    """RGB in [0, 1] (..., 3) → CLIP's normalised pixels."""
    return (torch.from_numpy(image) - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)


def make_task(
    batch: Batch, recipe: Recipe, draw: Sentences, kinds: Sequence[str], known: Sequence[str]
) -> Task:
    """Choose nouns and sentences for a batch.

    Args:
        batch: Crops.
        recipe: Chances and sizes.
        draw: Sentences.
        kinds: All kinds of the pool, as its kind map numbers them.
        known: Nouns of the pool.
    """
    rng = draw.rng
    nouns, target = [], []
    for name in batch.names:
        way = int(rng.choice(4, p=recipe.names))
        foreign = NOUNS[int(rng.integers(len(NOUNS)))]
        other = known[int(rng.integers(len(known)))]
        nouns.append((name, DEFAULT_OBJECT, foreign, other)[way])
        target.append(recipe.wrong_target if way == 3 and other != name else 1.0)
    distinct = sorted(set(nouns))
    own, labels = [], []
    for name, found in zip(batch.names, batch.kinds, strict=True):
        if found and rng.random() < 0.6:
            kind = found[int(rng.integers(len(found)))]
            own.append(draw.with_kind(name, kind))
            labels.append((name, kind))
        else:
            sound, damaged = draw.states(name, 1)
            own.append(damaged if found else sound)
            labels.append((name, "damaged" if found else "sound"))
    places = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    size = batch.kind_map.shape[1]
    grid = size // PATCH
    cells = batch.kind_map.reshape(-1, grid, PATCH, grid, PATCH)
    largest = cells.max(axis=(2, 4)).astype(np.int64)
    covered = (cells > 0).mean(axis=(2, 4))
    patch_kind = np.where(covered >= 0.1, largest, np.where(covered == 0, 0, -1))
    full = torch.from_numpy((batch.kind_map > 0).astype(np.float32))
    area = batch.kind_map.reshape(len(nouns), -1)
    visible = (area > 0).sum(1)
    damaged_flag = [
        1.0 if found else (0.0 if count == 0 else -1.0)
        for found, count in zip(batch.kinds, visible, strict=True)
    ]
    common = DEFAULT_OBJECT if rng.random() < 0.5 else known[int(rng.integers(len(known)))]
    return Task(
        image=normalise(batch.image),
        mask=F.avg_pool2d(full[:, None], 2)[:, 0],
        target=torch.tensor(target),
        state_ids=draw.tokens([s for noun in distinct for s in draw.states(noun, recipe.samples)]),
        noun=torch.tensor([distinct.index(noun) for noun in nouns]),
        own_ids=draw.tokens(own),
        own_label=torch.tensor([places[label] for label in labels]),
        kind_ids=draw.tokens([draw.with_kind(common, kind) for kind in kinds]),
        patch_kind=torch.from_numpy(patch_kind.reshape(len(nouns), -1)),
        damaged=torch.tensor(damaged_flag),
    )


def dense_loss(margin: Tensor, mask: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Focal (gamma 2) and dice of abnormal maps.

    Args:
        margin: Abnormal minus normal logit, (B, L, h, w).
        mask: (B, h, w) in [0, 1].
        target: (B,), what the map shall be on defects: 1, or less where another noun is named.

    Returns:
        Focal loss: the mean over pixels plus a fifth of the mean over defect pixels, so that small
        defects count; dice loss over images with defects and target 1. Both averaged over layers.
    """
    goal = (mask * target[:, None, None])[:, None]
    probability = torch.sigmoid(margin)
    entropy = F.softplus(margin) - goal * margin
    focal = (goal - probability).square() * entropy
    area = mask.sum((1, 2))
    on_defects = (focal * mask[:, None]).sum((2, 3)) / area.clamp_min(1.0)[:, None]
    has = (area > 0.5).float()
    focal_loss = focal.mean() + 0.2 * (on_defects * has[:, None]).mean()
    use = has * (target == 1.0).float()
    overlap = (probability * mask[:, None]).sum((2, 3))
    total = probability.sum((2, 3)) + area[:, None]
    dice = 1.0 - (2.0 * overlap + 1.0) / (total + 1.0)
    dice_loss = (dice.mean(1) * use).sum() / use.sum().clamp_min(1.0)
    return focal_loss, dice_loss


def losses(learner: Learner, task: Task, *, own: bool = True) -> dict[str, Tensor]:
    """All losses of a batch by name, not yet weighted.

    Args:
        learner: The model.
        task: The batch.
        own: Whether the dense loss is put on CLIP's own projection of the last patches, too.
    """
    recipe = learner.recipe
    patches, own_patches, image = learner.see(task.image)
    width = max(task.state_ids.shape[1], task.own_ids.shape[1], task.kind_ids.shape[1])
    groups = (task.state_ids, task.own_ids, task.kind_ids)
    end = int(learner.clip.config.text_config.eos_token_id)
    padded = [F.pad(ids, (0, width - ids.shape[1]), value=end) for ids in groups]
    states, said, kinds = learner.read(torch.cat(padded)).split([len(ids) for ids in groups])
    pairs = F.normalize(states.view(-1, 2, recipe.samples, states.shape[-1]).mean(2), dim=-1)
    chosen = pairs[task.noun]
    direction = chosen[:, 1] - chosen[:, 0]

    grid = round(patches.shape[2] ** 0.5)
    every = torch.cat([patches, own_patches[:, None]], 1) if own else patches
    margin = SCALE * torch.einsum("blnd,bd->bln", every, direction)
    together = margin[:, : patches.shape[1]].mean(1, keepdim=True)
    margin = torch.cat([margin, together], 1)
    highest = together[:, 0].topk(max(1, together.shape[2] // 100), 1).values.mean(1)
    margin = F.interpolate(
        margin.unflatten(2, (grid, grid)), size=task.mask.shape[1:], mode="bilinear",
        align_corners=False,
    )  # fmt: skip
    focal, dice = dense_loss(margin, task.mask, task.target)

    sound = F.normalize(pairs[:, 0].mean(0), dim=-1)
    words = torch.cat([sound[None], kinds])
    flat = task.patch_kind.reshape(-1)
    hits = (flat > 0).nonzero()[:, 0]
    plain = (flat == 0).nonzero()[:, 0]
    plain = plain[torch.randperm(len(plain))[: max(8, len(hits))]]
    chosen_patches = torch.cat([hits, plain])
    seen = patches.transpose(1, 2).flatten(0, 1)[chosen_patches]
    scores = SCALE * torch.einsum("nld,kd->nlk", seen, words)
    truth = flat[chosen_patches][:, None].expand(-1, scores.shape[1])
    kind = F.cross_entropy(scores.flatten(0, 1), truth.reshape(-1))

    scale = learner.clip.logit_scale.exp().clamp(max=100.0)
    clear = task.damaged >= 0
    verdict = scale * (image * direction).sum(-1)
    verdict_loss, highest_loss = (
        torch.nan_to_num(F.binary_cross_entropy_with_logits(said_so[clear], task.damaged[clear]))
        for said_so in (verdict, highest)
    )
    alike = scale * image @ said.T
    same = (task.own_label[:, None] == task.own_label[None]).float()
    same = same / same.sum(1, keepdim=True)
    contrast = -0.5 * (
        (same * alike.log_softmax(1)).sum(1).mean() + (same * alike.log_softmax(0)).sum(1).mean()
    )
    return {
        "focal": focal,
        "dice": dice,
        "kind": kind,
        "image": verdict_loss,
        "highest": highest_loss,
        "contrast": contrast,
    }


def _prefetch(source: Iterator[Task], depth: int = 3) -> Iterator[Task]:
    """The same items, made by a thread in advance."""
    items: queue.Queue[Task | Exception] = queue.Queue(depth)
    stop = threading.Event()

    def work() -> None:
        try:
            for item in source:
                while not stop.is_set():
                    try:
                        items.put(item, timeout=0.5)
                        break
                    except queue.Full:
                        continue
                if stop.is_set():
                    return
        except Exception as wrong:  # handed to whoever reads
            items.put(wrong)

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            item = items.get()
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()


def _stage(recipe: Recipe, progress: float) -> tuple[int, int, tuple[float, float]]:
    """Input size, batch and window scale at a part of the training."""
    stage = [stage for stage in recipe.stages if stage[0] <= progress][-1]
    return stage[1], stage[2], (stage[3], stage[4])


def plainly_visible(images: Pool, most: int = 8000) -> NDArray[np.int64]:
    """Indices of images whose defects are large and stand out, and of a third as many sound ones.

    A defect stands out by the difference of its mean colour from its surroundings', in units of their spread.
    """
    strength = np.zeros(min(most, len(images)), np.float32)
    for i in range(len(strength)):
        mask = (images.kind_map[i, ::2, ::2] > 0).astype(np.uint8)
        if mask.sum() < 40:
            continue
        picture = cv2.cvtColor(images.image[i, ::2, ::2], cv2.COLOR_RGB2LAB)
        ring = cv2.dilate(mask, np.ones((15, 15), np.uint8)) - mask
        inside, _ = cv2.meanStdDev(picture, mask=mask)
        outside, deviation = cv2.meanStdDev(picture, mask=ring)
        strength[i] = np.abs(inside - outside).max() / (6.0 + deviation.max())
    seen = strength[strength > 0]
    strong = np.flatnonzero(strength > np.quantile(seen, 0.55)) if len(seen) else np.zeros(0, int)
    sound = np.flatnonzero([not record.kinds for record in images.records[: len(strength)]])
    return np.concatenate([strong, sound[: len(strong) // 3]]).astype(np.int64)


@torch.no_grad()
def start_from_patches(learner: Learner, pool: Pool, seed: int) -> None:
    """Give the first layer filters that tell patches apart, instead of noise.

    A random filter sees little but brightness, and a tower that starts so learns nothing for long.
    Here the filters are cosine waves as JPEG's, slow ones first, each scaled to the same spread over the
    pool's patches; three in four read grey, the others colour. Positions
    start as slow waves, so that resizing them to other grids keeps their meaning.
    """
    width = learner.recipe.width
    rng = np.random.default_rng([seed, 2])
    place = (np.arange(PATCH) + 0.5) / PATCH
    waves = np.cos(np.pi * np.arange(PATCH)[:, None] * place[None])
    order = sorted(np.ndindex(PATCH, PATCH), key=lambda pair: pair[0] ** 2 + pair[1] ** 2)
    grey = width - 2 * (width // 8)
    colours = np.array([[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]]) / np.array([[3], [2], [2]])
    counts = (grey, width // 8, width // 8)
    kernels = np.concatenate(
        [
            np.stack(
                [colours[c][:, None, None] * np.outer(waves[u], waves[v]) for u, v in order[:n]]
            )
            for c, n in enumerate(counts)
        ]
    )
    index = np.sort(rng.choice(len(pool), min(64, len(pool)), replace=False))
    pixels = normalise(pool.image[index].astype(np.float32) / np.float32(255)).permute(0, 3, 1, 2)
    weight = torch.from_numpy(kernels.astype(np.float32))
    found = F.conv2d(pixels, weight, stride=PATCH).permute(1, 0, 2, 3).flatten(1)
    spread = found.std(1)
    floor = torch.cat([part.median().expand(len(part)) for part in spread.split(counts)])
    embeddings = learner.clip.vision_model.embeddings
    embeddings.patch_embedding.weight.copy_(weight / (spread + 0.3 * floor)[:, None, None, None])
    side = learner.recipe.nominal // PATCH
    row, column = torch.meshgrid(*2 * [torch.linspace(-1, 1, side)], indexing="ij")
    rates = torch.pi * torch.linspace(0.25, 3.0, -(-width // 4))[:, None, None]
    slow = [f(rates * axis) for axis in (row, column) for f in (torch.sin, torch.cos)]
    position = torch.cat(slow).flatten(1).T[:, torch.randperm(4 * len(rates))[:width]]
    embeddings.position_embedding.weight[1:] = 0.2 * position


@torch.no_grad()
def centre(learner: Learner, pool: Pool, draw: Sentences) -> None:
    """Take what all sentences and all images have in common out of their embeddings.

    Fresh towers map everything to nearly one point, where cosines say nothing and gradients cancel.
    The biases of the last norms are set so that the means are zero.
    """
    clip = learner.clip
    nouns = [record.name for record in pool.records[:48]]
    lines = [line for noun in nouns for line in draw.states(noun, 2)]
    text = clip.text_model(input_ids=draw.tokens(lines)).pooler_output
    clip.text_model.final_layer_norm.bias.sub_(text.mean(0))
    step = max(1, len(pool) // 32)
    pixels = normalise(pool.image[::step][:32, ::2, ::2].astype(np.float32) / np.float32(255))
    _, last = vision_tokens(clip, pixels, learner.recipe.blocks, torch.float32)
    norm = clip.vision_model.post_layernorm
    norm.bias.sub_(norm(last[:, 0]).mean(0))


@torch.no_grad()
def expect_sound(learner: Learner, draw: Sentences, margin: float = -2.2) -> None:
    """Let the linear layers call every patch sound at first, quietly.

    If fresh maps are noise, the quickest way to a lower loss is to silence it: all tokens become
    one, and nothing is learned from then on. So the layers begin with a bias that gives the
    ``margin`` of a rare defect, and with weights too small to be heard.
    """
    states = learner.read(draw.tokens(draw.states(DEFAULT_OBJECT, 32))).view(2, 32, -1).mean(1)
    states = F.normalize(states, dim=-1)
    direction = states[1] - states[0]
    length = direction.norm()
    for layer in cast(Sequence[nn.Linear], learner.layers):
        aside = torch.randn(len(direction))
        aside -= (aside @ direction) / length.square() * direction
        slope = margin / (SCALE * length)
        layer.weight.mul_(0.1)
        layer.bias.copy_(
            slope * direction / length + (1.0 - slope.square()).sqrt() * F.normalize(aside, dim=0)
        )


def teach_words(learner: Learner, nouns: Sequence[str], draw: Sentences, steps: int) -> float:
    """Let the text tower tell states, kinds and nouns apart before images are compared with it.

    Args:
        learner: Its text tower is trained, with linear readers that are thrown away.
        nouns: Nouns to tell apart.
        draw: Sentences.
        steps: Steps of 96 sentences.

    Returns:
        The last steps' mean loss.
    """
    rng, kinds = draw.rng, sorted(draw.phrases)
    width = learner.recipe.projection
    readers = nn.ModuleList(nn.Linear(width, n) for n in (len(kinds), len(nouns)))
    tower = [*learner.clip.text_model.parameters(), *learner.clip.text_projection.parameters()]
    optimizer = torch.optim.AdamW([*tower, *readers.parameters()], lr=1e-3, weight_decay=0.01)
    history: list[float] = []
    for step in range(steps):
        loop.set_lr(optimizer, loop.cosine_lr(step / steps, warmup=0.1))
        noun = rng.integers(0, len(nouns), 32)
        kind = rng.integers(0, len(kinds), 32)
        pairs = [draw.states(nouns[i], 1) for i in noun]
        named = [draw.with_kind(nouns[i], kinds[k]) for i, k in zip(noun, kind, strict=True)]
        lines = [sound for sound, _ in pairs] + [damaged for _, damaged in pairs] + named
        sound, damaged, by_kind = learner.read(draw.tokens(lines)).split(32)
        answers = torch.from_numpy(noun), torch.from_numpy(kind)
        apart = (sound @ torch.cat([damaged, by_kind]).T + 0.3).clamp_min(0).mean()
        together = 1.0 - (damaged @ by_kind.T).mean()
        loss = 4.0 * apart + together + F.cross_entropy(readers[0](10.0 * by_kind), answers[1])
        for one in (sound, damaged):
            loss = loss + 0.25 * F.cross_entropy(readers[1](10.0 * one), answers[0])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        history.append(float(loss.detach()))
    return float(np.mean(history[-20:]))


def build(recipe: Recipe, folder: Path, pool: Pool, seed: int, sam: Path | None = None) -> Learner:
    """A new learner with a tokenizer of its own, which is saved in ``folder/tokenizer``."""
    from zsas.data.made.defects import PHRASES

    phrases = [phrase for group in PHRASES.values() for phrase in group]
    names = [record.name for record in pool.records]
    tokenizer = train_tokenizer(sentences(names, phrases), context=recipe.context)
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(seed)
    learner = Learner(recipe, tokenizer)
    start_from_patches(learner, pool, seed)
    with torch.no_grad():
        for block in learner.clip.vision_model.encoder.layers:
            for branch in (block.self_attn.out_proj, block.mlp.fc2):
                branch.weight.mul_((2.0 * recipe.depth) ** -0.5)
    if sam is not None:
        start_from_sam(learner, sam)
    draw = Sentences(tokenizer, PHRASES, np.random.default_rng([seed, 1]))
    centre(learner, pool, draw)
    missed = teach_words(learner, sorted({*names, *NOUNS}), draw, recipe.word_steps)
    expect_sound(learner, draw)
    print(f"words before images: loss {missed:.3f}", flush=True)
    return learner


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


@torch.no_grad()
def start_from_sam(learner: Learner, checkpoint: Path) -> None:
    """Take over the encoder of a small SAM in training: it has learned edges, parts and defects of made images.

    The two towers are of one width; SAM's patch bias goes into the positions, its missing first norm is
    approximated by the tokens' own spread, and blocks it does not have start almost silent.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["ema"]["shadow"]
    first = next(name for name in state if name.endswith("vision_encoder.pos_embed"))
    prefix = first.removesuffix("pos_embed")

    def of(name: str) -> Tensor:
        return state[prefix + name].float()

    vision = learner.clip.vision_model
    kernel = of("patch_embed.projection.weight")
    vision.embeddings.patch_embedding.weight.copy_(kernel)
    side = learner.recipe.nominal // PATCH
    place = F.interpolate(
        of("pos_embed").permute(0, 3, 1, 2), size=(side, side), mode="bicubic", align_corners=False
    )
    place = place.flatten(2)[0].T + of("patch_embed.projection.bias")
    vision.embeddings.position_embedding.weight[1:] = place
    spread = (kernel.square().sum((1, 2, 3)) + place.var(0)).mean().sqrt()
    vision.pre_layrnorm.weight.fill_(float(spread))
    for number, layer in enumerate(vision.encoder.layers):
        name = f"layers.{number}."
        if f"{prefix}{name}attn.qkv.weight" not in state:
            layer.self_attn.out_proj.weight.mul_(0.1)
            layer.mlp.fc2.weight.mul_(0.1)
            continue
        attention = layer.self_attn
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        weights, biases = of(name + "attn.qkv.weight").chunk(3), of(name + "attn.qkv.bias").chunk(3)
        for part, weight, bias in zip(parts, weights, biases, strict=True):
            part.weight.copy_(weight)
            part.bias.copy_(bias)
        for mine, its in (
            (attention.out_proj, "attn.proj"),
            (layer.mlp.fc1, "mlp.lin1"),
            (layer.mlp.fc2, "mlp.lin2"),
            (layer.layer_norm1, "layer_norm1"),
            (layer.layer_norm2, "layer_norm2"),
        ):
            mine.weight.copy_(of(f"{name}{its}.weight"))
            mine.bias.copy_(of(f"{name}{its}.bias"))


@torch.no_grad()
def start_from_clip(learner: Learner, checkpoint: Path) -> None:
    """Take over an earlier training's averaged weights; a linear layer starts as that of the nearest block.

    Args:
        learner: With the sizes and the tokenizer of the earlier one; its blocks may be others.
        checkpoint: The earlier training's checkpoint.
    """
    earlier, _ = load_learner(checkpoint)
    learner.clip.load_state_dict(earlier.clip.state_dict())
    for layer, block in zip(learner.layers, learner.recipe.blocks, strict=True):
        gaps = [abs(block - other) for other in earlier.recipe.blocks]
        layer.load_state_dict(earlier.layers[gaps.index(min(gaps))].state_dict())


def train(
    out: Path,
    *,
    minutes: float | None = None,
    steps: int = 6000,
    seed: int = 0,
    pool: Path = Path("runs/pool"),
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
        pool: Folder with made images.
        resume: Go on from ``out/checkpoint.pt`` if it is there.
        threads: Threads of torch.
        recipe: Sizes and weights; by default those of the shipped model's first round, or of its second with ``start``.
        sam: Checkpoint of a small SAM whose encoder the vision tower starts from; None starts from nothing.
        start: Checkpoint of an earlier training to start from, words and all; its tokenizer is taken over.
        report_every: Steps between two rows of ``out/curve.csv``.
        save_minutes: Minutes between two checkpoints.

    Returns:
        The checkpoint's path.
    """
    from zsas.data.made.defects import PHRASES

    torch.set_num_threads(threads)
    team = loop.Team()
    images = open_pool(pool)
    checkpoint = out / "checkpoint.pt"
    state = loop.load_checkpoint(checkpoint) if resume and checkpoint.is_file() else None
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
            load_tokenizer(start.parent / "tokenizer").save_pretrained(out / "tokenizer")
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
        log = loop.CurveLog(out / "curve.csv", COLUMNS, resume=state is not None)
    weights = {
        name: getattr(recipe, name)
        for name in ("focal", "dice", "kind", "image", "highest", "contrast")
    }

    def save() -> None:
        loop.save_checkpoint(
            checkpoint,
            {
                "recipe": json.dumps(asdict(recipe)), "model": learner.state_dict(),
                "ema": ema.state_dict(), "optimizer": optimizer.state_dict(), "step": step,
                "images": seen, "seconds": budget.seconds, "seed": seed, "pool": len(images),
                "kinds": list(images.kinds),
            },
        )  # fmt: skip
        loop.plot_curves(out / "curve.csv", out / "curve.png")

    current = _stage(recipe, budget.progress(step))

    def tasks() -> Iterator[Task]:
        """Endless tasks; looks at the stage each time, so a stage begins a few batches late."""
        rng = np.random.default_rng([seed, step, team.rank])
        draw = Sentences(tokenizer, PHRASES, rng)
        order = np.zeros(0, np.int64)
        plain = plainly_visible(images)
        known: list[str] = []
        while True:
            size, whole, scale = current
            batch = max(1, whole // team.size)
            if len(order) < batch:
                order = rng.permutation(images.refresh())
                share = 1.0 - budget.progress(step) / max(recipe.easy_until, 1e-9)
                if share > 0 and len(plain):
                    easy = rng.random(len(order)) < share
                    order = np.where(easy, rng.choice(plain, len(order)), order)[:600]
                known = sorted({record.name for record in images.records})
                if len(order) < batch:
                    raise ValueError("the pool is smaller than a batch")
            index, order = order[:batch], order[batch:]
            made = make_batch(images, rng, index, size, scale)
            yield make_task(made, recipe, draw, images.kinds, known)

    totals: dict[str, float] = {}
    since, counted, saved = budget.seconds, 0, budget.seconds
    for task in _prefetch(tasks()):
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
    return checkpoint


def recipe_from(text: str) -> Recipe:
    """A recipe from a checkpoint's JSON."""
    fields = json.loads(text)
    for name in ("blocks", "names"):
        fields[name] = tuple(fields[name])
    fields["stages"] = tuple(tuple(stage) for stage in fields["stages"])
    return Recipe(**fields)


def load_learner(checkpoint: Path, *, ema: bool = True) -> tuple[Learner, CLIPTokenizer]:
    """A trained learner for evaluation, with the averaged weights unless ``ema`` is False."""
    state = loop.load_checkpoint(checkpoint)
    tokenizer = load_tokenizer(checkpoint.parent / "tokenizer")
    learner = Learner(recipe_from(state["recipe"]), tokenizer)
    learner.load_state_dict(state["ema"]["shadow"] if ema else state["model"])
    return learner.eval().requires_grad_(False), tokenizer


def export(checkpoint: Path, folder: Path, *, resolution: int = 384) -> Path:
    """Write the averaged weights as a transformers folder with tokenizer and adapter.

    Args:
        checkpoint: File written by :func:`train`.
        folder: Gets config.json, model.safetensors (fp16), tokenizer files, adapter.safetensors.
        resolution: Side of the CLIP frame, in pixels, at which the adapter is used.
    """
    learner, tokenizer = load_learner(checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    recipe = learner.recipe
    card = AdapterCard(
        backbone=BACKBONE,
        blocks=recipe.blocks,
        resolution=resolution,
        activation="gelu",
        trained_on="made",
        text_ensemble=ENSEMBLE,
        scale=SCALE,
    )
    Adapter(
        card,
        tuple(layer.weight.detach().clone() for layer in learner.layers),
        tuple(layer.bias.detach().clone() for layer in learner.layers),
    ).save(folder / "adapter.safetensors")
    learner.clip.half().save_pretrained(folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the shell: ``python -m zsas.training.tiny_clip --minutes 80 --out runs/tiny-clip``."""
    parser = argparse.ArgumentParser(description="Train the small CLIP on made images.")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny-clip"))
    parser.add_argument("--pool", type=Path, default=Path("runs/pool"))
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="start anew, not from the checkpoint")
    parser.add_argument(
        "--sam", type=Path, default=None, help="checkpoint of a small SAM to start from"
    )
    parser.add_argument(
        "--start", type=Path, default=None, help="checkpoint of an earlier training to go on from"
    )
    parser.add_argument(
        "--round", type=int, choices=(1, 2, 3), help="recipe; by default 2 with --start, else 1"
    )
    parser.add_argument("--export", type=Path, default=None, help="only export to this folder")
    given = parser.parse_args(arguments)
    if given.export is None:
        train(
            given.out, minutes=given.minutes, steps=given.steps, seed=given.seed, pool=given.pool,
            resume=not given.fresh, threads=given.threads, sam=given.sam, start=given.start,
            recipe=ROUNDS[given.round - 1] if given.round else None,
        )  # fmt: skip
    else:
        export(given.out / "checkpoint.pt", given.export)


if __name__ == "__main__":
    main()
