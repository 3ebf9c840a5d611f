"""Eq. 1: the extreme region S_a, where the anomaly map exceeds the marking level.

The adaptive level is found for each map. Its background, a quantile of the map, gives two numbers: the level at which
regions are cut, and the peak that a region must reach to count. Regions that stay below the peak are left out, since
textures and edges of good images lie there. The constants were chosen on synthetic images and are stored in
`marking.json`; docs/results.md says how.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.frames import pieces_of_mask
from zsas.refiners.base import MarkSettings, ThresholdMode
from zsas.refiners.extent import to_half_height, without_grains

if TYPE_CHECKING:
    from zsas.localizers.base import Scored

CONSTANTS = Path(__file__).with_name("marking.json")
SIDE = 192
"""Statistics are taken on a copy of the map with this longest side, so that they do not depend on the image's size."""
_LEVELS = (0.55, 0.6)
"""Lowest and highest adaptive level. Lower ones helped on synthetic images but marked large parts of good photographs;
with these bounds, nothing is marked that the absolute level leaves out. Above the highest, regions lose borders."""
_EDGE = 1e-3


@dataclass(frozen=True)
class Constants:
    """The adaptive rule: logit(level) = a + b · logit(background), and the same for the peak.

    Attributes:
        level: (a, b) of the level.
        peak: (a, b) of the peak that a region must reach.
        quantile: The quantile of the map that is its background.
    """

    level: tuple[float, float]
    peak: tuple[float, float]
    quantile: float = 0.75


@cache
def constants() -> Constants:
    """The fitted constants, from `marking.json`."""
    stored = json.loads(CONSTANTS.read_text(encoding="utf-8"))
    level, peak = (tuple(map(float, stored[name])) for name in ("level", "peak"))
    return Constants((level[0], level[1]), (peak[0], peak[1]), float(stored["quantile"]))


@dataclass(frozen=True)
class Marked:
    """S_a and the level that marked it.

    Attributes:
        region: S_a, bool (H, W).
        level: The level as a value of the map, in [0, 1]. Every region reaches it; under `adaptive` the borders of a
            region may lie below it, as each region ends at a height of its own.
        words: The level in words, for captions: "0.55".
    """

    region: NDArray[np.bool_]
    level: float
    words: str


def mark_scored(scored: Scored, settings: MarkSettings) -> Marked:
    """S_a of a localizer's map, read-only; see `mark_region`. The adaptive result is kept with the map."""
    own = settings.threshold_mode == "adaptive"
    if own and "marked" in scored.answers:
        return scored.answers["marked"]
    marked = mark_region(scored.map, settings, scored.inside, scored.patch, scored.smooth)
    marked.region.setflags(write=False)
    if own:
        scored.answers["marked"] = marked
    return marked


def mark_region(
    anomaly_map: NDArray[np.float32],
    settings: MarkSettings,
    inside: NDArray[np.bool_] | None = None,
    patch: float = 0.0,
    smooth: NDArray[np.float32] | None = None,
) -> Marked:
    """S_a as the settings say.

    Args:
        anomaly_map: Map_a, float32 (H, W), in [0, 1].
        settings: Level and mode.
        inside: The region of interest, bool (H, W); None for the whole image.
        patch: Side of the square of image pixels that one patch of the backbone covers; 0 if it has no patches.
        smooth: The map before it was drawn along the image's edges, or None. Under `adaptive` it decides which regions
            there are, since a thin line has a lower peak in the drawn map; Map_a decides how far each reaches.
    """
    number = settings.threshold
    if settings.threshold_mode == "adaptive":
        found = anomaly_map if smooth is None else smooth
        level, peak = adaptive_levels(found, inside=inside)
        words = f"its own level of {level:.2f} with a peak of {peak:.2f} or more"
        region = with_peaks(found, level, peak, inside)
        if patch >= 1:
            region = to_half_height(anomaly_map, region, round(patch), inside)
        return Marked(region, level, words)
    words = {
        "absolute": f"{number:.2f}",
        "relative": f"{number:.2f} of the map's maximum",
        "quantile": f"the {number:.2f} quantile of the map",
        "otsu": "Otsu's level",
    }[settings.threshold_mode]
    region = extreme_region(anomaly_map, number, settings.threshold_mode, inside)
    if smooth is not None:  # the map was drawn along edges, which makes it grainy
        region = without_grains(region, round(patch))
    level = number
    if settings.threshold_mode != "absolute":
        level = float(anomaly_map[region].min()) if region.any() else float(anomaly_map.max())
    return Marked(region, level, words)


def adaptive_levels(
    anomaly_map: NDArray[np.float32],
    rule: Constants | None = None,
    inside: NDArray[np.bool_] | None = None,
) -> tuple[float, float]:
    """The level at which regions of this map are cut, and the peak that each must reach, at least as high.

    Args:
        anomaly_map: Map_a, float32 (H, W), in [0, 1].
        rule: Other constants than those that were fitted.
        inside: The region of interest, bool (H, W); None for the whole image.
    """
    rule = rule or constants()
    values = reduced(anomaly_map)
    if inside is not None and inside.any():
        size = (values.shape[1], values.shape[0])
        near = cv2.resize(inside.view(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        values = values[near] if near.any() else anomaly_map[inside]
    return levels_of(logit(float(np.quantile(values, rule.quantile))), rule)


def levels_of(ground: float, rule: Constants) -> tuple[float, float]:
    """Level and peak of a map whose background has this logit."""
    level = min(max(_sigmoid(rule.level[0] + rule.level[1] * ground), _LEVELS[0]), _LEVELS[1])
    peak = min(max(_sigmoid(rule.peak[0] + rule.peak[1] * ground), level), 1.0)
    return level, peak


def reduced(anomaly_map: NDArray[np.float32]) -> NDArray[np.float32]:
    """The map with its longest side at most `SIDE`."""
    height, width = anomaly_map.shape
    scale = SIDE / max(height, width)
    if scale >= 1:
        return anomaly_map
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(anomaly_map, size, interpolation=cv2.INTER_AREA)


def with_peaks(
    anomaly_map: NDArray[np.float32],
    level: float,
    peak: float,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """The connected regions (8 neighbours) above a level that reach a peak somewhere, bool (H, W)."""
    above = anomaly_map > level if inside is None else (anomaly_map > level) & inside
    kept = np.zeros(above.shape, bool)
    for piece in pieces_of_mask(above):
        if anomaly_map[piece.slices][piece.mask].max() >= peak:
            kept[piece.slices] |= piece.mask
    return kept


def logit(value: float) -> float:
    """Log odds of a probability, which may be 0 or 1."""
    value = min(max(value, _EDGE), 1 - _EDGE)
    return float(np.log(value / (1 - value)))


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def extreme_region(
    anomaly_map: NDArray[np.float32],
    level: float,
    mode: ThresholdMode,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """S_a: where Map_a lies above the marking level.

    Args:
        anomaly_map: Map_a, shape (H, W), in [0, 1].
        level: In [0, 1], read as `mode` says.
        mode: The level is a value of the map (absolute), a fraction of its maximum (relative), a quantile of its
            pixels, Otsu's, or the map's own (adaptive).
        inside: The region of interest, bool (H, W); None for the whole image.

    Returns:
        S_a, bool (H, W). A map without contrast has no region under `quantile` and `otsu`.
    """
    if mode == "adaptive":
        levels = adaptive_levels(anomaly_map, inside=inside)
        return with_peaks(anomaly_map, *levels, inside)
    if inside is not None:
        found = np.zeros(anomaly_map.shape, bool)
        found[inside] = extreme_region(anomaly_map[inside][None], level, mode)[0]
        return found
    if mode == "absolute":
        return anomaly_map > level if level < 1.0 else anomaly_map >= 1.0
    high = float(anomaly_map.max())
    low = float(anomaly_map.min())
    if mode == "relative":
        return (anomaly_map >= level * high) & (anomaly_map > 0)
    if high - low < 1e-6:
        return np.zeros(anomaly_map.shape, bool)
    if mode == "quantile":
        return anomaly_map > np.quantile(anomaly_map, level)
    grey = np.round((anomaly_map - low) / (high - low) * 255).astype(np.uint8)
    otsu, _ = cv2.threshold(grey, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    return grey > otsu
