"""How well the small SAM does on images it never learned from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from tiny.training import loop
from tiny.training.sam import prompts
from tiny.training.sam.batches import Images, normalise, stacked
from tiny.training.sam.losses import mask_boxes
from tiny.training.sam.model import TrainModel
from tiny.training.sam.prompts import CELL, Target


@torch.no_grad()
def measure(
    model: TrainModel, images: Images, indices: Sequence[int], seed: int = 7
) -> dict[str, float]:
    """One-click and one-box IoU (best of three) and the cascade, on whole frames, at frame pixels.

    Args:
        model: The model, with the weights to measure.
        images: Synthetic images.
        indices: Which of them.
        seed: Seed of the prompts.

    Returns:
        Mean over targets of ``click_defect``, ``click_part``, ``click_region``, ``box_defect``,
        ``box_part``, ``box_region`` and, on defects from simulated map prompts with the mask of
        highest predicted IoU, ``m1``, ``m2``, ``m3`` (F1).
    """
    recipe, device = model.recipe, next(model.parameters()).device
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
        with loop.autocast(device):
            pixels, extents = (each.to(device) for each in stacked([crop]))
            features = model.features(normalise(pixels, extents)).float()
        own = features.expand(len(chosen), -1, -1, -1)
        clicked = prompts.pad_points([prompts.clicks(rng, t.mask, 1, 0) for t in chosen])
        points = torch.from_numpy(clicked[0]).to(device), torch.from_numpy(clicked[1]).to(device)
        boxes = torch.from_numpy(np.stack([prompts.tight_box(t.mask) for t in chosen])).to(device)
        by_click = model.decode(own, (0, 0), points=points)[0]
        by_box = model.decode(own, (0, 0), boxes=boxes)[0]
        for i, target in enumerate(chosen):
            for name, logits in (("click", by_click[i]), ("box", by_box[i])):
                best = max(_iou(mask, target.mask) for mask in _to_pixels(logits))
                values.setdefault(f"{name}_{target.kind}", []).append(best)
        for target in [t for t in chosen if t.kind == "defect"][:3]:
            for call, score in enumerate(cascade(model, features, target, rng)):
                values.setdefault(f"m{call + 1}", []).append(score)
    return {name: float(np.mean(value)) for name, value in sorted(values.items())}


def cascade(
    model: TrainModel, features: Tensor, target: Target, rng: np.random.Generator
) -> list[float]:
    """F1 of the three calls of the cascade on one defect, each by its highest predicted IoU."""
    cover = prompts.soft_cells(target.mask)
    xy, labels = prompts.map_prompts(rng, cover, 3, 3)
    device = features.device
    points = torch.from_numpy(xy)[None].to(device), torch.from_numpy(labels)[None].to(device)
    logits, boxes, found = None, None, []
    for call in range(3):
        masks, scores = model.decode(features, (0, 0), points=points, boxes=boxes, logits=logits)
        logits = masks[:, int(scores[0].argmax())]
        iou = _iou(_to_pixels(logits)[0], target.mask)
        found.append(2 * iou / (1 + iou))
        if call == 1 and bool((logits > 0).any()):
            boxes = mask_boxes(logits, torch.zeros(1, 4, device=device), (0, 0))
    return found


def _to_pixels(logits: Tensor) -> NDArray[np.bool_]:
    """Masks (M, C, C) of logits (M, C / 4, C / 4), upsampled before the threshold."""
    wide = F.interpolate(logits[None], scale_factor=CELL, mode="bilinear", align_corners=False)
    return (wide[0] > 0).cpu().numpy()


def _iou(mask: NDArray[np.bool_], target: NDArray[np.bool_]) -> float:
    return float((mask & target).sum() / max(1, (mask | target).sum()))
