"""The two losses of the paper's recipe, on logit margins (anomalous minus normal)."""

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
