"""Trains the small SAM from scratch: features first, then prompts, then the cascade.

The model is transformers' own ``SamModel``, only smaller. Three things keep SAM from learning when
it is started from transformers' initial values instead of Meta's weights, and all are mended here
(:func:`build`): the Fourier position embedding has sigma = hidden_size / 2 where Meta's has 1, the
encoder's matrices start at 1e-10, and the embeddings that tell a positive from a negative point
start 35 times smaller than the position they are added to.

Most steps use crops of 256 px that keep their place in the 512 px frame: the crop of the encoder's
position embedding, of the decoder's position grid and the prompts' coordinates are those of the
frame, so that the last part, on whole frames, goes on where the crops ended.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import (
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from zsas.errors import ZsasError
from zsas.training import loop, prompts
from zsas.training.prompts import CELL, Crop, Target

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""SAM's own normalisation of RGB in [0, 1]."""

PATCH = 16


class Images(Protocol):
    """Made images by index: the part of the training pool that is used here."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 (N, S, S, 3) RGB."""
        ...

    @property
    def mask(self) -> NDArray[np.uint8]:
        """uint8 (N, S, S), nonzero on defects."""
        ...

    @property
    def parts(self) -> NDArray[np.int16]:
        """int16 (N, S, S), 0 = background."""
        ...


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training, beside its pool and budget.

    Attributes:
        width, depth, heads, windows: Encoder; the blocks in ``global_blocks`` see all tokens.
        hidden: Channels of features, prompts and decoder.
        frame: Input size in pixels.
        stages: Until which part of the training, crops of how many pixels, how many a step.
        per_image: Prompts an image, half of them boxes.
        cascade_from: Part of the training after which logits are fed back.
        lr: Learning rate of Muon, which moves the matrices.
        lr_rest: Learning rate of AdamW, which moves everything else.
        weight_decay, ema: Decay of the matrices, and the average of the weights that is kept.
        held_out: Images at the start of the pool that are only measured on.
    """

    width: int = 192
    depth: int = 6
    heads: int = 3
    windows: int = 8
    global_blocks: tuple[int, ...] = (2, 5)
    hidden: int = 128
    frame: int = 512
    stages: tuple[tuple[float, int, int], ...] = ((0.12, 128, 12), (0.75, 256, 7), (1.0, 512, 2))
    cascade_from: float = 0.35
    per_image: int = 4
    lr: float = 2e-3
    lr_rest: float = 1e-3
    weight_decay: float = 0.05
    ema: float = 0.998
    held_out: int = 64


def config_of(recipe: Recipe) -> SamConfig:
    """The transformers configuration of a recipe's model."""
    return SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=recipe.width,
            mlp_dim=4 * recipe.width,
            output_channels=recipe.hidden,
            num_hidden_layers=recipe.depth,
            num_attention_heads=recipe.heads,
            image_size=recipe.frame,
            patch_size=PATCH,
            use_rel_pos=False,
            window_size=recipe.windows,
            global_attn_indexes=list(recipe.global_blocks),
            num_pos_feats=recipe.hidden // 2,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=recipe.hidden, image_size=recipe.frame, patch_size=PATCH
        ),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=recipe.hidden,
            mlp_dim=4 * recipe.hidden,
            num_attention_heads=4,
            iou_head_hidden_dim=recipe.hidden,
        ),
    )


def build(recipe: Recipe, seed: int = 0) -> SamModel:
    """A small SAM that can learn: sensible initial values and a frozen Fourier embedding, sigma 1.

    Args:
        recipe: Sizes of the model.
        seed: Seed of the initial values.
    """
    torch.manual_seed(seed)
    config = config_of(recipe)
    config._attn_implementation = "eager"
    sam = SamModel(config)
    for module in sam.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    encoder = sam.vision_encoder
    for layer in encoder.layers:
        for linear in (layer.attn.qkv, layer.attn.proj, layer.mlp.lin1, layer.mlp.lin2):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
    nn.init.trunc_normal_(encoder.pos_embed, std=0.1)
    fix_positions(sam, torch.randn(2, recipe.hidden // 2))
    listen_to_positions(sam)
    return sam


def fix_positions(sam: SamModel, gaussian: Tensor) -> None:
    """Put the same Fourier matrix in both places that hold it, and freeze both.

    Args:
        sam: The model.
        gaussian: float (2, hidden / 2), standard normal (sigma = 1).
    """
    for holder in (sam.shared_image_embedding, sam.prompt_encoder.shared_embedding):
        holder.positional_embedding.data.copy_(gaussian)
        holder.positional_embedding.requires_grad_(False)


def listen_to_positions(sam: SamModel, sharpness: float = 2.2) -> None:
    """Let the attention between prompts and image start by comparing positions.

    Queries and keys begin as the same sines and cosines of the Fourier embedding, eight
    frequencies a head, so that a point first looks at the cell it lies on and a cell at the points
    near it. From random projections this alone takes most of a short training to appear, and
    until it does the decoder is blind to its prompts.

    Args:
        sam: The model, changed in place.
        sharpness: Factor of the sines and cosines in queries and in keys.
    """
    gaussian = sam.shared_image_embedding.positional_embedding
    finest = gaussian.norm(dim=0).argsort(descending=True)
    transformer = sam.mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
        for norm in (layer.layer_norm1, layer.layer_norm2, layer.layer_norm3, layer.layer_norm4):
            nn.init.constant_(norm.weight, 0.5)
    nn.init.constant_(sam.vision_encoder.neck.layer_norm2.weight, 0.5)
    # What a point is (positive, negative, corner, none) must not drown where it is.
    for embedding in (*sam.prompt_encoder.point_embed, sam.prompt_encoder.not_a_point_embed):
        nn.init.normal_(embedding.weight, std=0.25)
    with torch.no_grad():
        for attention in attentions:
            size = attention.internal_dim
            waves = finest[: size // 2].reshape(-1, attention.num_attention_heads).T
            rows = torch.cat([waves, waves + len(finest)], 1).flatten()
            chosen = F.one_hot(rows, 2 * len(finest)).float()
            for linear in (attention.q_proj, attention.k_proj):
                linear.weight.mul_(0.3).add_(sharpness * chosen)
                linear.bias.zero_()


def start_patches(sam: SamModel, pixels: Tensor) -> None:
    """Let the patch embedding start as a cosine transform with outputs of unit variance.

    The mean brightness of a patch varies a hundred times more than its fine detail; without this
    the first layer norm hides scratches behind it, and most of a short training goes by until the
    patch embedding has found it out.

    Args:
        sam: The model, changed in place.
        pixels: float (B, 3, H, W), normalised images to measure the variances on.
    """
    projection = sam.vision_encoder.patch_embed.projection
    count = projection.out_channels
    n = np.arange(PATCH)
    waves = np.cos(np.pi * (n[None] + 0.5) * n[:, None] / PATCH) * math.sqrt(2 / PATCH)
    waves[0] /= math.sqrt(2)
    order = sorted(((u, v) for u in n for v in n), key=lambda f: (f[0] ** 2 + f[1] ** 2, f))
    colours = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]]) / np.sqrt([[3], [2], [6]])
    bright = count - 2 * (count // 5)
    kernels = [
        colour[:, None, None] * np.outer(waves[u], waves[v])
        for colour, share in zip(colours, (bright, count // 5, count // 5), strict=True)
        for u, v in order[:share]
    ]
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(np.stack(kernels)))
        projection.bias.zero_()
        found = projection(pixels).transpose(0, 1).flatten(1)
        scale = 1 / (found.std(1) + 0.1)
        projection.weight.mul_(scale[:, None, None, None])
        projection.bias.copy_(-found.mean(1) * scale)


class Learner(nn.Module):
    """The small SAM with the dense heads that teach its encoder, both dropped after training.

    Args:
        recipe: Sizes of the model.
        seed: Seed of the initial values.
    """

    def __init__(self, recipe: Recipe, seed: int = 0) -> None:
        super().__init__()
        self.recipe = recipe
        self.sam = build(recipe, seed)
        hidden = recipe.hidden
        self.dense = nn.Conv2d(hidden, 3 * CELL * CELL, 1)
        self.anchor = nn.Sequential(
            nn.Linear(hidden + hidden // 8, hidden), nn.GELU(), nn.Linear(hidden, hidden // 8 + 1)
        )

    def features(self, pixels: Tensor, place: tuple[int, int] = (0, 0)) -> Tensor:
        """Encoder features of crops that lie at ``place`` (column, row in patches) of the frame.

        Args:
            pixels: float (B, 3, C, C), normalised.
            place: Left and upper patch of the crop.

        Returns:
            (B, hidden, C / 16, C / 16).
        """
        encoder = self.sam.vision_encoder
        tokens = encoder.patch_embed.projection(pixels).permute(0, 2, 3, 1)
        side, (left, top) = tokens.shape[1], place
        tokens = tokens + encoder.pos_embed[:, top : top + side, left : left + side]
        for layer in encoder.layers:
            tokens = _encoder_layer(layer, tokens)
        return encoder.neck(tokens)

    def decode(
        self,
        features: Tensor,
        place: tuple[int, int],
        *,
        points: tuple[Tensor, Tensor] | None = None,
        boxes: Tensor | None = None,
        logits: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Three masks for each prompt; prompts are in frame pixels.

        Args:
            features: (P, hidden, g, g), one row a prompt.
            place: Left and upper patch of the crop in the frame.
            points: Positions (P, K, 2) and labels (P, K).
            boxes: (P, 4) xyxy.
            logits: (P, 4 g, 4 g) of an earlier call.

        Returns:
            Logits (P, 3, 4 g, 4 g) and predicted IoU (P, 3), float32.
        """
        grid, (left, top) = features.shape[-1], place
        encoder = self.sam.prompt_encoder
        sparse, dense = encoder(
            None if points is None else points[0][:, None],
            None if points is None else points[1][:, None],
            None if boxes is None else boxes[:, None],
            None if logits is None else logits[:, None],
        )
        if logits is None:
            dense = dense[:, :, :grid, :grid]
        wide = self.sam.get_image_wide_positional_embeddings()
        wide = wide[:, :, top : top + grid, left : left + grid].expand(len(features), -1, -1, -1)
        masks, scores = self.sam.mask_decoder(features, wide, sparse, dense, True)
        return masks[:, 0].float(), scores[:, 0].float()

    def pixels_embedded(self, features: Tensor) -> Tensor:
        """Features brought to the logits' size by the decoder's own upscaling, before any prompt.

        Returns:
            (B, hidden / 8, 4 g, 4 g).
        """
        decoder = self.sam.mask_decoder
        wide = decoder.upscale_conv1(features)
        wide = decoder.activation(decoder.upscale_layer_norm(wide))
        return decoder.activation(decoder.upscale_conv2(wide))


def _encoder_layer(layer: nn.Module, tokens: Tensor) -> Tensor:
    """One encoder block, with attention written so that its gradient is fast on a CPU."""
    batch, height, width, channels = tokens.shape
    attention, window = layer.attn, layer.window_size or height
    normed = layer.layer_norm1(tokens)
    rows, columns = height // window, width // window
    windows = normed.reshape(batch, rows, window, columns, window, channels)
    windows = windows.transpose(2, 3).reshape(-1, window * window, channels)
    heads = attention.num_attention_heads
    qkv = attention.qkv(windows).reshape(len(windows), window * window, 3, heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    weights = (query * attention.scale) @ key.transpose(-2, -1)
    mixed = (weights.softmax(-1) @ value).transpose(1, 2).reshape_as(windows)
    mixed = attention.proj(mixed).reshape(batch, rows, columns, window, window, channels)
    tokens = tokens + mixed.transpose(2, 3).reshape(tokens.shape)
    return tokens + layer.mlp(layer.layer_norm2(tokens))


# --- one batch -----------------------------------------------------------------------------------


@dataclass
class Batch:
    """Crops at one place of the frame with their targets and first prompts.

    Attributes:
        pixels: float (B, 3, C, C), normalised, 0 in the padding.
        place: Left and upper patch of the crops in the frame.
        dense: float (B, 3, C / 4, C / 4): outlines of parts and defects, defects, foreground.
        segments: int64 (B, C / 4, C / 4), which part or defect each cell shows.
        owner: int64 (P,), the image of each prompt; the first half of an image's prompts are
            points, the other half boxes, both sorted by image.
        cover: float (P, C / 4, C / 4), target of each prompt.
        points: Positions (P / 2, K, 2) in frame pixels, and labels (P / 2, K).
        boxes: float (P / 2, 4) in frame pixels.
        true_boxes: float (P, 4) in frame pixels.
    """

    pixels: Tensor
    place: tuple[int, int]
    dense: Tensor
    segments: Tensor
    owner: Tensor
    cover: Tensor
    points: tuple[Tensor, Tensor]
    boxes: Tensor
    true_boxes: Tensor


def normalise(crops: Sequence[Crop]) -> Tensor:
    """RGB crops as the encoder takes them.

    Returns:
        float (B, 3, C, C), zero in the padding.
    """
    pixels = torch.from_numpy(np.stack([crop.image for crop in crops])).permute(0, 3, 1, 2)
    pixels = pixels.float() / 255
    pixels = (pixels - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    for row, crop in zip(pixels, crops, strict=True):
        row[:, crop.height :], row[:, :, crop.width :] = 0, 0
    return pixels.contiguous()


def dense_targets(crop: Crop) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Outlines, defects and foreground of a crop, and its segments, all in cells."""
    segments = np.where(crop.defects > 0, crop.defects + 100_000, crop.parts)
    edges = np.zeros(segments.shape, np.uint8)
    edges[:, 1:] |= segments[:, 1:] != segments[:, :-1]
    edges[1:] |= segments[1:] != segments[:-1]
    cells = (segments.shape[1] // CELL, segments.shape[0] // CELL)
    blocks = edges.reshape(cells[1], CELL, cells[0], CELL).max((1, 3))
    maps = [
        blocks.astype(np.float32),
        prompts.soft_cells(crop.defects > 0),
        prompts.soft_cells(crop.parts > 0),
    ]
    middle = segments[CELL // 2 :: CELL, CELL // 2 :: CELL]
    return np.stack(maps), middle.astype(np.int64)


def make_batch(
    rng: np.random.Generator, images: Images, first: int, recipe: Recipe, side: int, batch: int
) -> Batch:
    """Crops with targets and first prompts.

    Args:
        rng: Source of chance; the same state gives the same batch.
        images: Made images.
        first: Images before this one are held out.
        recipe: Sizes.
        side: Crop size in pixels.
        batch: Number of crops.

    Raises:
        ZsasError: The images show nothing that a prompt could ask for.
    """
    crops: list[Crop] = []
    wanted: list[list[Target]] = []
    count = len(images.image)
    for _ in range(batch * 30):
        index = int(rng.integers(first, count))
        crop = prompts.make_crop(
            rng, images.image[index], images.mask[index], images.parts[index], side, recipe.frame
        )
        targets = prompts.targets_of(crop)
        if targets and (rng.random() < 0.8 or any(t.kind == "defect" for t in targets)):
            crops.append(crop)
            wanted.append(targets)
            if len(crops) == batch:
                break
    if len(crops) < batch:
        raise ZsasError(
            "The images show no parts and no defects to learn from: make them with both."
        )
    room = (recipe.frame - side) // PATCH
    place = (int(rng.integers(room + 1)), int(rng.integers(room + 1)))
    offset = np.array(place, np.float32) * PATCH
    half = max(1, recipe.per_image // 2)
    most = int(rng.choice([1, 1, 2, 3, 5, 8]))
    covers: list[list[NDArray[np.float32]]] = [[], []]
    true_boxes: list[list[NDArray[np.float32]]] = [[], []]
    points, boxes = [], []
    for targets in wanted:
        for group in (0, 1):
            for target in prompts.choose_targets(rng, targets, half):
                cover = prompts.soft_cells(target.mask)
                box = prompts.tight_box(target.mask)
                covers[group].append(cover)
                true_boxes[group].append(box)
                if group:
                    boxes.append(prompts.jitter_box(rng, box, side))
                elif most > 1 and target.kind == "defect" and rng.random() < 0.75:
                    ups = int(rng.integers(1, most))
                    downs = int(rng.integers(0, most - ups + 1))
                    points.append(prompts.map_prompts(rng, cover, ups, downs))
                else:
                    ups = int(rng.integers(1, min(most, 3) + 1))
                    downs = int(rng.integers(0, min(3, most - ups) + 1))
                    points.append(prompts.clicks(rng, target.mask, ups, downs))
    xy, labels = prompts.pad_points(points)
    maps, segments = zip(*(dense_targets(crop) for crop in crops), strict=True)
    shift = np.tile(offset, 2)
    owner = torch.arange(batch).repeat_interleave(half)
    return Batch(
        normalise(crops),
        place,
        torch.from_numpy(np.stack(maps)),
        torch.from_numpy(np.stack(segments)),
        torch.cat([owner, owner]),
        torch.from_numpy(np.stack(covers[0] + covers[1])),
        (torch.from_numpy(xy + offset), torch.from_numpy(labels)),
        torch.from_numpy(np.stack(boxes) + shift),
        torch.from_numpy(np.stack(true_boxes[0] + true_boxes[1]) + shift),
    )


# --- losses --------------------------------------------------------------------------------------


def mask_losses(logits: Tensor, cover: Tensor) -> Tensor:
    """Cross-entropy, weighed so that small targets count as much as large ones, plus dice.

    Args:
        logits: (P, M, h, w).
        cover: (P, h, w) in [0, 1].

    Returns:
        (P, M).
    """
    target = cover[:, None].expand_as(logits)
    area = cover.sum((-2, -1))[:, None]
    cells = cover.shape[-1] * cover.shape[-2]
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none").sum((-2, -1))
    cross = cross / (2 * area + 0.02 * cells).clamp(min=0.04 * cells, max=cells)
    soft = logits.sigmoid()
    overlap = (soft * target).sum((-2, -1))
    dice = 1 - (2 * overlap + 1) / (soft.sum((-2, -1)) + area + 1)
    return cross + dice


@torch.no_grad()
def cell_iou(logits: Tensor, cover: Tensor) -> Tensor:
    """IoU of thresholded masks with the targets, in cells: (P, M)."""
    mask, target = logits > 0, (cover > 0.5)[:, None]
    overlap = (mask & target).sum((-2, -1)).float()
    union = (mask | target).sum((-2, -1)).float()
    return overlap / union.clamp(min=1)


def call_loss(
    logits: Tensor, scores: Tensor, cover: Tensor, others: float
) -> tuple[Tensor, Tensor]:
    """Best of three learns; the others a little, so that none is forgotten; IoU by squared error.

    Args:
        logits: (P, 3, h, w).
        scores: (P, 3), predicted IoU.
        cover: (P, h, w).
        others: Weight of the mean over all three masks.

    Returns:
        The loss and the best IoU of each prompt (P,).
    """
    losses = mask_losses(logits, cover)
    iou = cell_iou(logits, cover)
    best = losses.min(1).values.mean()
    loss = best + others * losses.mean() + F.mse_loss(scores, iou)
    return loss, iou.max(1).values


def dense_loss(learner: Learner, features: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """What the encoder must know about every cell: outlines, defects, foreground, who belongs to whom.

    For the last, some cells are anchors: an anchor's embedding, compared with the embedding of
    every cell through the decoder's own upscaling, must find the cells of its segment.
    """
    maps = F.pixel_shuffle(learner.dense(features), CELL).float()
    weight = torch.tensor([2.0, 3.0, 1.0]).view(1, 3, 1, 1)
    positive = torch.tensor([2.0, 4.0, 1.0]).view(1, 3, 1, 1)
    dense = F.binary_cross_entropy_with_logits(maps, batch.dense, weight, pos_weight=positive)

    embedded = learner.pixels_embedded(features)
    count, cells = len(features), batch.segments.shape[-1]
    segments = batch.segments.reshape(count, -1)
    # Half of the anchors at random, half where segments are rare: defects are small.
    rare = torch.rand(segments.shape)
    rare = rare + 2.0 * (segments >= 100_000) * (torch.rand(count, 1) < 0.9)
    anchors = torch.cat([rare.topk(6, 1).indices, torch.randint(0, cells**2, (count, 6))], 1)
    rows = torch.arange(count)[:, None]
    at_anchor = embedded.flatten(2).transpose(1, 2)[rows, anchors]
    coarse = anchors // cells // CELL * (cells // CELL) + anchors % cells // CELL
    around = features.flatten(2).transpose(1, 2)[rows, coarse]
    query = learner.anchor(torch.cat([around, at_anchor], -1))
    logits = (query[..., :-1] @ embedded.flatten(2) + query[..., -1:]).float()
    same = (segments[:, None] == segments[rows, anchors][..., None]).float()
    shape = (count * anchors.shape[1], 1, cells, cells)
    together = mask_losses(logits.reshape(shape), same.reshape(shape)[:, 0]).mean()
    return dense, together


def _mask_boxes(logits: Tensor, fallback: Tensor, place: tuple[int, int]) -> Tensor:
    """Tight boxes of masks in frame pixels; ``fallback`` where a mask is empty."""
    masks = logits.numpy() > 0
    boxes = fallback.clone()
    offset = np.tile(np.array(place, np.float32) * PATCH, 2)
    for i, mask in enumerate(masks):
        if mask.any():
            boxes[i] = torch.from_numpy(prompts.tight_box(mask) * CELL + offset)
    return boxes


def prompt_losses(
    learner: Learner, features: Tensor, batch: Batch, rng: np.random.Generator, calls: int
) -> tuple[Tensor, dict[str, float]]:
    """Points and boxes, then up to two calls more with the logits fed back (eqs. 9 to 12).

    Args:
        learner: The model.
        features: (B, hidden, g, g).
        batch: Targets and first prompts.
        rng: Source of corrective clicks.
        calls: 1, 2 or 3.

    Returns:
        The loss, and the mean best IoU of the first and last call as ``click``, ``box``,
        ``click_last`` and ``box_last``.
    """
    half = len(batch.owner) // 2
    place = batch.place
    report: dict[str, float] = {}
    total = torch.zeros(())
    for name, rows in (("click", slice(0, half)), ("box", slice(half, None))):
        own = features[batch.owner[rows]]
        cover = batch.cover[rows]
        points = batch.points if name == "click" else None
        boxes = batch.boxes if name == "box" else None
        logits = None
        for call in range(calls):
            masks, scores = learner.decode(own, place, points=points, boxes=boxes, logits=logits)
            loss, best = call_loss(masks, scores, cover, others=0.05 if call == 0 else 0.2)
            total = total + loss / calls
            report.setdefault(name, float(best.mean()))
            report[f"{name}_last"] = float(best.mean())
            if call + 1 == calls:
                break
            picked = scores.detach().argmax(1)
            logits = masks.detach()[torch.arange(len(picked)), picked].clamp(-20, 20)
            if rng.random() < 0.4:
                points = _corrected(rng, points, logits, cover, place)
            if name == "click" and call == 1:
                boxes = _mask_boxes(logits, batch.true_boxes[rows], place)
    return total, report


def _corrected(
    rng: np.random.Generator,
    points: tuple[Tensor, Tensor] | None,
    logits: Tensor,
    cover: Tensor,
    place: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """The prompts' points and one click more where each present mask is wrong."""
    found = [
        prompts.correction(rng, mask, wanted)
        for mask, wanted in zip(logits.numpy() > 0, cover.numpy() > 0.5, strict=True)
    ]
    xy = torch.from_numpy(np.stack([where for where, _ in found]))[:, None]
    xy = xy + torch.tensor(place, dtype=torch.float32) * PATCH
    labels = torch.tensor([[label] for _, label in found])
    if points is None:
        return xy, labels
    return torch.cat([points[0], xy], 1), torch.cat([points[1], labels], 1)


# --- measuring -----------------------------------------------------------------------------------


@torch.no_grad()
def measure(
    learner: Learner, images: Images, indices: Sequence[int], seed: int = 7
) -> dict[str, float]:
    """One-click and one-box IoU (best of three) and the cascade, on whole frames, at frame pixels.

    Args:
        learner: The model, with the weights to measure.
        images: Made images.
        indices: Which of them.
        seed: Seed of the prompts.

    Returns:
        Mean over targets of ``click_defect``, ``click_part``, ``click_region``, ``box_defect``,
        ``box_part``, ``box_region`` and, on defects from simulated map prompts with the mask of
        highest predicted IoU, ``m1``, ``m2``, ``m3`` (F1).
    """
    recipe = learner.recipe
    values: dict[str, list[float]] = {}
    for index in indices:
        rng = np.random.default_rng((seed, index))
        crop = prompts.make_crop(
            None, images.image[index], images.mask[index], images.parts[index], recipe.frame
        )
        targets = prompts.targets_of(crop)
        if not targets:
            continue
        chosen = prompts.choose_targets(rng, targets, 6)
        with loop.autocast():
            features = learner.features(normalise([crop])).float()
        own = features.expand(len(chosen), -1, -1, -1)
        clicked = prompts.pad_points([prompts.clicks(rng, t.mask, 1, 0) for t in chosen])
        points = torch.from_numpy(clicked[0]), torch.from_numpy(clicked[1])
        boxes = torch.from_numpy(np.stack([prompts.tight_box(t.mask) for t in chosen]))
        by_click = learner.decode(own, (0, 0), points=points)[0]
        by_box = learner.decode(own, (0, 0), boxes=boxes)[0]
        for i, target in enumerate(chosen):
            for name, logits in (("click", by_click[i]), ("box", by_box[i])):
                best = max(_iou(mask, target.mask) for mask in _to_pixels(logits))
                values.setdefault(f"{name}_{target.kind}", []).append(best)
        for target in [t for t in chosen if t.kind == "defect"][:3]:
            for call, score in enumerate(cascade(learner, features, target, rng)):
                values.setdefault(f"m{call + 1}", []).append(score)
    return {name: float(np.mean(value)) for name, value in sorted(values.items())}


def cascade(
    learner: Learner, features: Tensor, target: Target, rng: np.random.Generator
) -> list[float]:
    """F1 of the three calls of the cascade on one defect, each by its highest predicted IoU."""
    cover = prompts.soft_cells(target.mask)
    xy, labels = prompts.map_prompts(rng, cover, 3, 3)
    points = torch.from_numpy(xy)[None], torch.from_numpy(labels)[None]
    logits, boxes, found = None, None, []
    for call in range(3):
        masks, scores = learner.decode(features, (0, 0), points=points, boxes=boxes, logits=logits)
        logits = masks[:, int(scores[0].argmax())]
        iou = _iou(_to_pixels(logits)[0], target.mask)
        found.append(2 * iou / (1 + iou))
        if call == 1 and bool((logits > 0).any()):
            boxes = _mask_boxes(logits, torch.zeros(1, 4), (0, 0))
    return found


def _to_pixels(logits: Tensor) -> NDArray[np.bool_]:
    """Masks (M, C, C) of logits (M, C / 4, C / 4), upsampled before the threshold."""
    wide = F.interpolate(logits[None], scale_factor=CELL, mode="bilinear", align_corners=False)
    return (wide[0] > 0).numpy()


def _iou(mask: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    return float((mask & target).sum() / max(1, (mask | target).sum()))


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


# --- the training --------------------------------------------------------------------------------

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


def train(
    out: str | Path,
    *,
    minutes: float | None = None,
    steps: int = 20_000,
    seed: int = 0,
    images: Images,
    recipe: Recipe | None = None,
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
        images: Made images, held as arrays; the last ``recipe.held_out`` are measured on only.
        recipe: Sizes and schedule.
        resume: Go on from ``last.pt`` where there is one.
        threads: Threads of torch and OpenCV.
        report_every: Steps between two rows of the curve.
        measure_minutes: Minutes between two measurements on held-out images.

    Returns:
        The folder of the exported model.
    """
    recipe = recipe or Recipe()
    out = Path(out)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    torch.manual_seed(seed)
    learner = Learner(recipe, seed)
    optimizers = make_optimizers(learner)
    ema = loop.EMA(learner, recipe.ema)
    step, before, last = 0, 0.0, out / "last.pt"
    if resume and last.is_file():
        state = loop.load_checkpoint(last)
        learner.load_state_dict(state["model"])
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        ema.load_state_dict(state["ema"])
        step, before = int(state["step"]), float(state["seconds"])
    budget = loop.Budget(steps, minutes, before)
    curve = loop.CurveLog(out / "curve.csv", COLUMNS, resume=step > 0)
    measures = loop.CurveLog(out / "measures.csv", MEASURES, resume=step > 0)
    first = min(recipe.held_out, len(images.image) // 4)
    if step == 0:
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
        loop.save_checkpoint(
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

    while budget.running(step):
        rng = np.random.default_rng((seed, step))
        torch.manual_seed(seed * 1_000_003 + step)
        progress = budget.progress(step)
        side, size = next((c, b) for until, c, b in recipe.stages if progress < until)
        batch = make_batch(rng, images, first, recipe, side, size)
        calls = int(rng.choice((1, 1, 2, 3, 3))) if progress >= recipe.cascade_from else 1
        for optimizer in optimizers:
            loop.set_lr(optimizer, loop.cosine_lr(progress))
        with loop.autocast():
            features = learner.features(batch.pixels, batch.place)
            dense, together = dense_loss(learner, features, batch)
            asked, report = prompt_losses(learner, features, batch, rng, calls)
        # Features first: prompts weigh little until the encoder has something to tell.
        weight = min(1.0, 0.2 + 8.0 * progress)
        loss = weight * asked + (1.0 if progress < 0.3 else 0.5) * (dense + together)
        learner.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        ema.update(learner)
        step += 1
        seen += size
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
            curve.write(
                sums | {"step": step, "progress": progress, "images_s": seen / (now - since)}
            )
            sums, seen, since = {}, 0, now
        if step % 500 == 0 and hasattr(images, "refresh"):
            images.refresh()
        if time.monotonic() - measured_at > 60 * measure_minutes:
            save()
            look()
            measured_at = since = time.monotonic()
            seen = 0
    save()
    look()
    loop.plot_curves(out / "curve.csv", out / "curve.png")
    return export(last, out / "sam")


def export(checkpoint: str | Path, folder: str | Path) -> Path:
    """Write the averaged weights of a training as a folder that ``SamModel`` loads.

    Args:
        checkpoint: File ``last.pt`` of a training.
        folder: Where ``config.json``, ``model.safetensors`` (float16) and
            ``preprocessor_config.json`` go.

    Returns:
        The folder.
    """
    state = loop.load_checkpoint(Path(checkpoint))
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Train from the shell: ``python -m zsas.training.tiny_sam --minutes 90 --out runs/tiny-sam``."""
    from zsas.training.pool import Pool

    parser = argparse.ArgumentParser(description="Train the small SAM on made images.")
    parser.add_argument("--out", type=Path, default=Path("runs/tiny-sam"))
    parser.add_argument("--pool", type=Path, default=Path("runs/pool"))
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args(arguments)
    train(
        given.out,
        minutes=given.minutes,
        steps=given.steps,
        seed=given.seed,
        images=Pool(given.pool),
        threads=given.threads,
    )


if __name__ == "__main__":
    main()
