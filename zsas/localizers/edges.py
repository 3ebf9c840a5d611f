"""The map follows the edges of the image: what one patch says is drawn with the image's own contours.

CLIP says one value for each patch, 16 pixels wide or more, so a map ends half a patch beside what it is about, and a
hairline is as wide as a patch. Around each pixel the map is fitted as a linear function of the colour (the guided
filter of He, Sun and Tang, 2013), and the mean of the fits that cover a pixel is its value: where the image has an edge
the map has one, and where it has none the map is only smoothed a little. No other image and no weights are needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, setting
from zsas.localizers.base import MAP, MAP_RANGE, Scored, map_range
from zsas.localizers.patches import PatchFeatures
from zsas.stages import HeatMap, Stage

SMOOTH = 1e-4
"""Added to the variance of each colour (values in [0, 1]): differences below 2.5 grey levels count as noise."""
REDUCED = 4
"""The fits are made on a copy of the image that is smaller by this factor."""
STRIP = 2_000_000
"""Number of pixels drawn at once, which bounds the memory for large images."""
_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class EdgeSettings(SettingsGroup, key="edges", title="Edges"):
    """Whether the map is drawn with the contours of the image."""

    edge_radius: float = setting(
        0.0,
        "Map follows edges within",
        "How far from a patch the map may be drawn along the image's own edges, in patches of CLIP; 0 leaves it as "
        "smooth as the patches make it.",
        low=0.0,
        high=4.0,
        step=0.05,
        unit="patches",
    )


def patch_side(features: Any) -> float:
    """Side of the square of image pixels that one patch covers; 0 if the features are no patches."""
    if not isinstance(features, PatchFeatures):
        return 0.0
    tile = features.tiles[0]
    x0, y0, x1, y1 = tile.window
    rows, columns = tile.layers.shape[2:4]
    return math.sqrt((y1 - y0) / rows * (x1 - x0) / columns)


def draw_edges(
    scored: Scored,
    before: _Floats,
    image: NDArray[np.uint8],
    features: Any,
    settings: EdgeSettings,
) -> Scored:
    """A score with its map drawn along the image's edges; the evidence is not changed.

    Args:
        scored: Of the image.
        before: Its map as it was before pixels outside a region of interest became 0, float32 (H, W).
        image: uint8 RGB (H, W, 3).
        features: What it was made from.
        settings: How far.
    """
    side = patch_side(features)
    scored = replace(scored, patch=side)
    radius = round(settings.edge_radius * side)
    if radius < 1:
        return scored
    drawn = along_edges(before, image, radius)
    if scored.inside is not None:
        drawn *= scored.inside
    drawn.setflags(write=False)
    stages = tuple(_drawn(one, drawn) if one.spec == MAP else one for one in scored.stages)
    return replace(scored, map=drawn, stages=stages, smooth=scored.map)


def along_edges(values: _Floats, image: NDArray[np.uint8], radius: int) -> _Floats:
    """A map drawn along the edges of an image.

    The fits are made on a copy a quarter as large, which costs a tenth and was a little better on synthetic images
    (He and Sun's fast guided filter, 2015); they are applied to the image's own pixels.

    Args:
        values: float32 (H, W), in [0, 1].
        image: uint8 RGB (H, W, 3).
        radius: Of the square in which the map is fitted, pixels, at least 1.

    Returns:
        float32 (H, W), in [0, 1].
    """
    height, width = values.shape
    times = max(1, min(REDUCED, radius, height, width))
    size = (width // times, height // times)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    fits = _fits(coarse, small, max(1, round(radius / times)))
    found = np.empty_like(values)
    rows = max(1, STRIP // width)
    step_x, step_y = size[0] / width, size[1] / height
    for top in range(0, height, rows):
        part = image[top : top + rows].astype(np.float32) / np.float32(255)
        # Pixel (x, y) reads the fits at ((x + 0.5) * step - 0.5), the rule of aligned pixel areas.
        to_fits = np.array(
            [[step_x, 0.0, 0.5 * step_x - 0.5], [0.0, step_y, (top + 0.5) * step_y - 0.5]]
        )
        here = cv2.warpAffine(
            fits,
            to_fits,
            (width, part.shape[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        found[top : top + rows] = np.einsum("hwc,hwc->hw", here[..., :3], part) + here[..., 3]
    return np.clip(found, 0.0, 1.0, out=found)


def _fits(values: _Floats, image: NDArray[np.uint8], radius: int) -> _Floats:
    """The guided filter's mean fits by three colours: slopes and constant, (H, W, 4); Cramer's rule solves each."""

    def mean(x: _Floats) -> _Floats:
        return cv2.blur(x, (2 * radius + 1, 2 * radius + 1))

    colours = [channel.astype(np.float32) / np.float32(255) for channel in cv2.split(image)]
    means = [mean(one) for one in colours]
    mean_value = mean(values)
    with_value = [mean(c * values) - m * mean_value for c, m in zip(colours, means, strict=True)]

    def shared(i: int, j: int) -> _Floats:
        product = mean(colours[i] * colours[j]) - means[i] * means[j]
        return product + np.float32(SMOOTH) if i == j else product

    rr, gg, bb, rg, rb, gb = (shared(*p) for p in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)))
    inverse = (
        (gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb),
        (gb * rb - rg * bb, rr * bb - rb * rb, rb * rg - rr * gb),
        (rg * gb - gg * rb, rb * rg - rr * gb, rr * gg - rg * rg),
    )
    determinant = rr * inverse[0][0] + rg * inverse[0][1] + rb * inverse[0][2]
    fits, constant = [], mean_value
    for row, mean_colour in zip(inverse, means, strict=True):
        slope = row[0] * with_value[0] + row[1] * with_value[1] + row[2] * with_value[2]
        slope /= determinant
        constant = constant - slope * mean_colour
        fits.append(slope)
    return mean(np.dstack([*fits, constant]))


def _drawn(stage: Stage, drawn: _Floats) -> Stage:
    """The stages with the anomaly map replaced by the one that follows edges."""
    layers = tuple(HeatMap(drawn) if isinstance(x, HeatMap) else x for x in stage.layers)
    data = {**stage.data, "peak": round(float(drawn.max()), 6)}
    said = MAP_RANGE.sub(map_range(drawn), stage.caption)
    caption = f"{said} It is drawn along the edges of the image."
    return replace(stage, caption=caption, layers=layers, data=data)
