"""What the small SAM is asked to get right: every cell first, then prompts, then the cascade."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tiny.training.sam import prompts
from tiny.training.sam.batches import Batch
from tiny.training.sam.model import TrainModel
from tiny.training.sam.prompts import CELL
from tiny.training.sam.recipe import PATCH


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


def dense_loss(
    model: TrainModel, features: Tensor, batch: Batch, *, heads_only: bool = False
) -> tuple[Tensor, Tensor]:
    """What the encoder must know about every cell: outlines, defects, foreground, who belongs to whom.

    For the last, some cells are anchors: an anchor's embedding, compared with the embedding of
    every cell through the decoder's own upscaling, must find the cells of its segment.

    Args:
        model: The model.
        features: (B, hidden, g, g).
        batch: Targets.
        heads_only: Whether only the dense heads learn: new heads would disturb a trained encoder.

    Returns:
        Loss of the maps and loss of who belongs to whom.
    """
    if heads_only:
        features = features.detach()
    maps = F.pixel_shuffle(model.dense(features), CELL).float()
    device = features.device
    weight = torch.tensor([2.0, 3.0, 1.0], device=device).view(1, 3, 1, 1)
    positive = torch.tensor([2.0, 4.0, 1.0], device=device).view(1, 3, 1, 1)
    dense = F.binary_cross_entropy_with_logits(maps, batch.dense, weight, pos_weight=positive)

    embedded = model.pixels_embedded(features)
    if heads_only:
        embedded = embedded.detach()
    count, cells = len(features), batch.segments.shape[-1]
    segments = batch.segments.reshape(count, -1)
    # Half of the anchors at random, half where segments are rare: defects are small.
    rare = torch.rand(segments.shape, device=device)
    rare = rare + 2.0 * (segments >= 100_000) * (torch.rand(count, 1, device=device) < 0.9)
    anywhere = torch.randint(0, cells**2, (count, 6), device=device)
    anchors = torch.cat([rare.topk(6, 1).indices, anywhere], 1)
    rows = torch.arange(count, device=device)[:, None]
    at_anchor = embedded.flatten(2).transpose(1, 2)[rows, anchors]
    coarse = anchors // cells // CELL * (cells // CELL) + anchors % cells // CELL
    around = features.flatten(2).transpose(1, 2)[rows, coarse]
    query = model.anchor(torch.cat([around, at_anchor], -1))
    logits = (query[..., :-1] @ embedded.flatten(2) + query[..., -1:]).float()
    same = (segments[:, None] == segments[rows, anchors][..., None]).float()
    shape = (count * anchors.shape[1], 1, cells, cells)
    together = mask_losses(logits.reshape(shape), same.reshape(shape)[:, 0]).mean()
    return dense, together


def prompt_losses(
    model: TrainModel, features: Tensor, batch: Batch, rng: np.random.Generator, calls: int
) -> tuple[Tensor, dict[str, float]]:
    """Points and boxes, then up to two calls more with the logits fed back (eqs. 9 to 12).

    Args:
        model: The model.
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
    total = features.new_zeros((), dtype=torch.float32)
    for name, rows in (("click", slice(0, half)), ("box", slice(half, None))):
        own = features[batch.owner[rows]]
        cover = batch.cover[rows]
        points = batch.points if name == "click" else None
        boxes = batch.boxes if name == "box" else None
        logits = None
        for call in range(calls):
            masks, scores = model.decode(own, place, points=points, boxes=boxes, logits=logits)
            loss, best = call_loss(masks, scores, cover, others=0.05 if call == 0 else 0.2)
            total = total + loss / calls
            report.setdefault(name, float(best.mean()))
            report[f"{name}_last"] = float(best.mean())
            if call + 1 == calls:
                break
            picked = scores.detach().argmax(1)
            logits = masks.detach()[torch.arange(len(picked), device=masks.device), picked].clamp(
                -20, 20
            )
            if rng.random() < 0.4:
                points = corrected(points, logits, cover, place)
            if name == "click" and call == 1:
                boxes = mask_boxes(logits, batch.true_boxes[rows], place)
    return total, report


def mask_boxes(logits: Tensor, fallback: Tensor, place: tuple[int, int]) -> Tensor:
    """Tight boxes of masks in frame pixels, (P, 4); ``fallback`` where a mask is empty."""
    masks = (logits > 0).float()
    edges = []
    for line in (masks.amax(1), masks.amax(2)):  # columns, rows
        edges += [line.argmax(1), line.shape[1] - line.flip(1).argmax(1)]
    left, right, top, bottom = edges
    offset = torch.tensor(place, device=masks.device).repeat(2) * PATCH
    boxes = torch.stack([left, top, right, bottom], 1) * CELL + offset
    return torch.where(masks.amax((1, 2))[:, None] > 0, boxes.to(fallback), fallback)


def corrected(
    points: tuple[Tensor, Tensor] | None, logits: Tensor, cover: Tensor, place: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The prompts' points and one click more in a cell where each present mask is wrong, positive or negative."""
    wanted = (cover > 0.5).flatten(1)
    wrong = (logits > 0).flatten(1) != wanted
    chosen = (wrong * (1.0 - torch.rand_like(wrong, dtype=torch.float32))).argmax(1, keepdim=True)
    width = cover.shape[-1]
    cell = torch.cat([chosen % width, chosen // width], 1)[:, None]
    xy = CELL * (cell + 0.5) + PATCH * torch.tensor(place, device=cover.device)
    labels = wanted.gather(1, chosen).long()
    labels = torch.where(wrong.gather(1, chosen), labels, prompts.PAD)
    if points is None:
        return xy, labels
    return torch.cat([points[0], xy], 1), torch.cat([points[1], labels], 1)
