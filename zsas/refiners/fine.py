"""Fine detail: the score map at the resolution of the image, by evidence from the image alone.

A patch of CLIP's covers many pixels, so its map is a soft spot where the image shows a crack one pixel wide. Within
such a spot the pixels that stand out from their surroundings keep their score, and the others lose up to a fixed part
of it. What "stands out" means is taken from the image itself: on a rough surface all pixels differ from their
surroundings, and few stand out. Nothing is raised, so that a clean edge of a part is no anomaly; mask, regions' places
and verdict are decided before and stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.cache import ByteBudgetCache
from zsas.declare import SettingsGroup, setting
from zsas.refiners.base import Refined
from zsas.stages import HeatMap, Stage, StageSpec

Grey = NDArray[np.float32]

SCALES = (1, 2)
"""Widths of the details that are looked for: a pixel's near mean is a Gaussian of 0.7 of this, its surroundings are a
square of 10 times this and one pixel."""
STANDS_OUT = 4.5
"""How many times the image's median difference makes a pixel stand out half."""
LOWERED = 0.15
"""Part of the score that a pixel loses that does not stand out at all. Both were chosen on synthetic images and on
synthetic defects on photographed surfaces; docs/benchmark.md has the trials."""
LARGEST = 16_000_000
"""Larger images are looked at made smaller, so that memory stays bounded."""
_LEAST = 0.4
"""Added to the median difference, in grey levels: rounding of an even surface is no texture."""

FINE = StageSpec(
    "fine_detail",
    "Fine detail",
    "",
    "",
    "Which pixels stand out from their surroundings.",
    "Left out: it is switched off.",
)


@dataclass(frozen=True)
class FineSettings(SettingsGroup, key="fine", title="Fine detail"):
    """How sharp the score map is; read by the engine, whatever the system."""

    fine_detail: bool = setting(
        False,
        "Fine detail",
        "In the score map, lower the pixels that do not stand out from their surroundings in the image, at most by "
        "15 %: thin cracks and scratches become sharp. Mask and verdict stay the same.",
    )


def standing_out(
    image: NDArray[np.uint8], factor: int = 1, inside: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """How much each pixel stands out from its surroundings.

    d_s = |G(0.7 s) ∗ I − B(10 s + 1) ∗ I| of the grey values, G a Gaussian, B a square's mean; over the mean of
    d_s / (median d_s + 0.4) for s = 1 and 2, the sigmoid of how far it lies above `STANDS_OUT`.

    Args:
        image: uint8 RGB (H, W, 3).
        factor: How many times larger the image is than its detail; it is looked at made that much smaller.
        inside: The region of interest, bool (H, W), which alone count; None for all of them.

    Returns:
        float32 (H, W), in [0, 1], read-only; 0 where it is not looked at.
    """
    height, width = image.shape[:2]
    values = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    weight = None if inside is None else inside.astype(np.float32)
    factor = max(factor, math.ceil(math.sqrt(values.size / LARGEST)))
    if factor > 1:
        size = (max(1, width // factor), max(1, height // factor))
        values, weight = _weighted(values, weight, partial(_smaller, size=size))
    total = np.zeros_like(values)
    for scale in SCALES:
        near, around = (
            _weighted(values, weight, partial(mean, scale=scale))[0] for mean in (_near, _around)
        )
        apart = cv2.absdiff(near, around)
        usual = apart[::3, ::3] if weight is None else apart[weight > 0]
        total += apart * np.float32(1 / (len(SCALES) * (float(np.median(usual)) + _LEAST)))
    found = 1 / (1 + np.exp(np.clip(np.float32(STANDS_OUT) - total, -30, 30)))
    if factor > 1:
        found = cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
    found = np.asarray(found if inside is None else found * inside, np.float32)
    found.setflags(write=False)
    return found


def _weighted(
    values: Grey, weight: Grey | None, mean: Callable[[Grey], Grey]
) -> tuple[Grey, Grey | None]:
    """Filter values by their mean over the pixels that count, those with a weight.

    Args:
        values: Grey values, float32 (H, W).
        weight: 1 inside the region of interest and 0 outside, or fractions after an earlier filter; None: all count.
        mean: The filter.

    Returns:
        The filtered values, and the filtered weights or None.
    """
    if weight is None:
        return mean(values), None
    weights = mean(weight)
    share = mean(values * weight) / np.maximum(weights, np.float32(1e-6))
    return np.asarray(share, np.float32), weights


def _smaller(values: Grey, size: tuple[int, int]) -> Grey:
    return cv2.resize(values, size, interpolation=cv2.INTER_AREA)


def _near(values: Grey, scale: int) -> Grey:
    return cv2.GaussianBlur(values, (0, 0), 0.7 * scale, borderType=cv2.BORDER_REPLICATE)


def _around(values: Grey, scale: int) -> Grey:
    side = 10 * scale + 1
    return cv2.blur(values, (side, side), borderType=cv2.BORDER_REPLICATE)


class Seen(Protocol):
    """What is read of an encoded image."""

    @property
    def key(self) -> str:
        """Digest of its pixels."""
        ...

    @property
    def image(self) -> NDArray[np.uint8]:
        """Its pixels, RGB (H, W, 3)."""
        ...

    @property
    def features(self) -> Any:
        """What the localizer keeps of it; some know that it was enlarged."""
        ...


def with_detail(
    refined: Refined,
    cache: ByteBudgetCache[Any],
    seen: Seen,
    inside: NDArray[np.bool_] | None = None,
    where: Hashable = None,
) -> tuple[Stage, Refined]:
    """The stage that shows what stands out, and a decision whose score map is the sharper for it.

    Args:
        refined: Any refiner's.
        cache: Keeps what `standing_out` finds, which no setting changes.
        seen: The image.
        inside: The region of interest, bool (H, W); None for the whole image.
        where: Key of the region that they make up.
    """
    factor = getattr(seen.features, "enlarged", 1)
    found = cache.get_or_make(
        ("fine", seen.key, factor, where), lambda: standing_out(seen.image, factor, inside)
    )
    score_map = found * np.float32(LOWERED)
    score_map += np.float32(1 - LOWERED)
    score_map *= refined.score_map
    layers = tuple(
        HeatMap(score_map) if isinstance(layer, HeatMap) else layer
        for layer in refined.stage.layers
    )
    fraction = int(np.count_nonzero(found > 0.5)) / found.size
    caption = (
        f"{100 * fraction:.1f} % of the pixels stand out from their surroundings; the others lose up to "
        f"{100 * LOWERED:.0f} % of their score."
    )
    stage = Stage(FINE, caption, (HeatMap(found),), {"fraction": round(fraction, 6)})
    shown = replace(refined.stage, layers=layers)
    return stage, replace(refined, score_map=score_map, stage=shown)
