"""The losses of the recipes, on logit margins (anomalous minus normal)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def focal_loss(margin: Tensor, mask: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss of a softmax over two states, the mean over all pixels (Lin et al., ICCV 2017).

    Args:
        margin: Anomalous minus normal logit, (..., H, W); its sigmoid is the anomalous channel.
        mask: 1 where anomalous and 0 elsewhere, of a shape that broadcasts to `margin`.
        gamma: How little pixels count that are right already; 0 gives plain cross-entropy.
    """
    mask = mask.expand_as(margin)
    entropy = F.binary_cross_entropy_with_logits(margin, mask, reduction="none")
    missed = torch.sigmoid(torch.where(mask > 0.5, -margin, margin))
    return (missed.pow(gamma) * entropy).mean()


def dice_loss(margin: Tensor, mask: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the Dice overlap of anomalous channel and mask, the mean over images (Milletari et al., 2016).

    Args:
        margin: Anomalous minus normal logit, (..., H, W).
        mask: As in `focal_loss`.
        smooth: Added above and below, so that a normal image with an empty map has no loss.
    """
    found, mask = margin.sigmoid().flatten(-2), mask.expand_as(margin).flatten(-2)
    overlap = 2.0 * (found * mask).sum(-1) + smooth
    return (1.0 - overlap / (found.sum(-1) + mask.sum(-1) + smooth)).mean()


def each_layer(margin: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Focal and Dice loss of each layer's margin (B, L, H, W), summed over the layers."""
    return {
        name: torch.stack([loss(one, mask) for one in margin.unbind(1)]).sum()
        for name, loss in (("focal", focal_loss), ("dice", dice_loss))
    }


def alpha_focal_loss(
    logits: Tensor, truth: Tensor, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Focal loss of a sigmoid, each anomalous element weighted alpha and each normal one 1 − alpha; of their shape.

    Args:
        logits: Any shape.
        truth: 1 where anomalous and 0 elsewhere, of the same shape.
        alpha: Weight of what is anomalous.
        gamma: As in `focal_loss`.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    sure = torch.sigmoid(logits) * (2 * truth - 1) + (1 - truth)
    return (alpha * truth + (1 - alpha) * (1 - truth)) * (1 - sure).pow(gamma) * entropy
