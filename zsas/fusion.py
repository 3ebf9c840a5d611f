"""Masks and map → one continuous score map, an image score and a verdict.

The paper reports AUROC and AP, which need a continuous map, but does not say how its masks become one; what is here
is our choice, measured in `docs/benchmark.md`.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.cascade import Step
from zsas.frames import SamFrame
from zsas.settings import Settings

_SOFT_EDGE = 6.0
"""Logits below minus this count as 0: a probability under 0.25 %."""

TOP_SHARE = 0.001
"""Share of the hottest pixels whose mean stands for the map in the image score."""


def agreement(step: Step, region: NDArray[np.bool_]) -> float:
    """The share of one of SAM's masks that lies in the region that asked for it, in [0, 1]; 0 for an empty mask.

    Args:
        step: The mask.
        region: The part of S_a that the cascade was asked about, bool (H, W).
    """
    if step.window is None or step.mask is None:
        return 0.0
    x0, y0, x1, y1 = step.window
    return float(np.count_nonzero(step.mask & region[y0:y1, x0:x1]) / np.count_nonzero(step.mask))


def has_run_away(step: Step | None, region: NDArray[np.bool_], settings: Settings) -> bool:
    """Whether the region itself should stand in the final mask, because SAM's mask left it or is empty.

    Args:
        step: The kept step of the region's cascade, None where all its masks are empty.
        region: The part of S_a that the cascade was asked about, bool (H, W).
        settings: `agreement`; at 0 every mask stays.
    """
    return (0.0 if step is None else agreement(step, region)) < settings.agreement


def trust(step: Step, heat: float, region: NDArray[np.bool_]) -> float:
    """How far one of SAM's masks is believed, in [0, 1]: three doubts, multiplied.

    The map's (a sharp mask around a faint suspicion stays a faint suspicion), SAM's own (its predicted IoU), and
    where the two disagree: a mask that spreads from a scratch over the whole screw lies mostly outside the region
    that asked for it.

    Args:
        step: The mask.
        heat: Hottest Map_a of the region, in [0, 1].
        region: The part of S_a that the cascade was asked about, bool (H, W).

    Returns:
        `heat` × predicted IoU × `agreement`.
    """
    return heat * min(max(step.score, 0.0), 1.0) * agreement(step, region)


def soft_mask(steps: list[tuple[Step, float]], frame: SamFrame) -> NDArray[np.float32]:
    """SAM's masks of several regions as one map.

    Each mask's probability (sigmoid of its logits) is multiplied by the trust in it; the maximum is taken where masks
    overlap.

    Args:
        steps: A step of each region's cascade with the trust in it, in [0, 1].
        frame: The photo's geometry.

    Returns:
        float32 (H, W) in [0, 1].
    """
    merged = np.zeros((frame.height, frame.width), np.float32)
    for step, trusted in steps:
        window = frame.window_of_cells(step.logits > -_SOFT_EDGE)
        if window is None:
            continue
        x0, y0, x1, y1 = window
        odds = frame.grid_to_photo(-step.logits, window)
        np.exp(np.clip(odds, -30, 30, out=odds), out=odds)
        part = merged[y0:y1, x0:x1]
        np.maximum(part, np.float32(trusted) / (1 + odds), out=part)
    return merged


def fuse(
    anomaly_map: NDArray[np.float32], soft: NDArray[np.float32], settings: Settings
) -> NDArray[np.float32]:
    """The score map: a weighted mean of SAM's soft mask and CLIP's map, or one of the two.

    Args:
        anomaly_map: Map_a, float32 (H, W), in [0, 1].
        soft: From `soft_mask`, float32 (H, W), in [0, 1].
        settings: `fusion` and `fusion_weight`.

    Returns:
        float32 (H, W) in [0, 1].
    """
    weight = {"map": 0.0, "mask": 1.0, "weighted": settings.fusion_weight}[settings.fusion]
    return cv2.addWeighted(anomaly_map, 1.0 - weight, soft, weight, 0.0)


def hottest(anomaly_map: NDArray[np.float32]) -> float:
    """Mean of the hottest `TOP_SHARE` of Map_a, at least of one pixel, in [0, 1]."""
    count = max(1, round(anomaly_map.size * TOP_SHARE))
    return float(np.partition(anomaly_map.ravel(), -count)[-count:].mean())


def image_score(hottest: float, image_probability: float, settings: Settings) -> float:
    """How anomalous the photo is as a whole, in [0, 1].

    It does not depend on thresholds or on SAM, so that a good photo keeps its verdict while a person moves sliders.

    Args:
        hottest: From `hottest`.
        image_probability: CLIP's own zero-shot answer for the whole photo, in [0, 1].
        settings: `image_weight`, the share of the latter.
    """
    return (1.0 - settings.image_weight) * hottest + settings.image_weight * image_probability
