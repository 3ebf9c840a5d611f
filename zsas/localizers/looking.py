"""Features and scores of an image with a region of interest: nothing outside of it counts.

The map is made from whole tiles and then set to 0 outside the region. A patch near the border of the region has still
been influenced by its surroundings, as in any vision transformer, but no pixel outside is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError
from zsas.frames import Window
from zsas.localizers.base import MAP, TOP_FRACTION, Scored
from zsas.localizers.patches import PatchFeatures
from zsas.stages import Area, HeatMap, Stage, StageSpec

if TYPE_CHECKING:
    from zsas.region import RegionOfInterest

LOOKED = StageSpec(
    "looked_at",
    "Region looked at",
    "",
    "",
    "Where the image is looked at; what lies outside never counts.",
    "Left out: the whole image is looked at.",
)
_HALF = 0.5
"""Fraction of a cell that must lie inside the region for the cell to count; the most covered cell always does."""


def only_inside(features: Any, inside: NDArray[np.bool_]) -> Any:
    """Features limited to a region: tiles wholly outside are dropped, and in the others the cells inside are marked.

    Args:
        features: Of any localizer; features without places are returned unchanged.
        inside: The region of interest, bool (H, W), at least one.

    Raises:
        ZsasError: If tiles that are looked at were left out when the image was encoded.
    """
    if not isinstance(features, PatchFeatures):
        return features.only_inside(inside) if hasattr(features, "only_inside") else features
    covered = np.zeros(inside.shape, bool)
    tiles = []
    for tile in features.tiles:
        x0, y0, x1, y1 = tile.window
        covered[y0:y1, x0:x1] = True
        part = inside[y0:y1, x0:x1]
        if part.any():
            tiles.append(replace(tile, inside=cells_inside(part, tile.layers.shape[2:4])))
    if (inside & ~covered).any():
        raise ZsasError(
            "The image was encoded for another region, which left out tiles that are looked at now; encode it again."
        )
    return replace(features, tiles=tuple(tiles))


def look_at(features: Any, shape: Sequence[int], region: RegionOfInterest | None) -> Any:
    """The features of an image, limited to a region of interest if there is one.

    Args:
        features: Of any localizer.
        shape: (H, W, …) of the image.
        region: The region; None for the whole image.

    Raises:
        ZsasError: If the region does not fit the image, or tiles inside it were left out when the image was encoded.
    """
    height, width = shape[:2]
    if region:
        return only_inside(features, region.on(height, width))
    whole = (0, 0, width, height)
    if isinstance(features, PatchFeatures) and features.tiles[0].window != whole:
        only_inside(features, np.ones((height, width), bool))
    return features


def cells_inside(inside: NDArray[np.bool_], grid: Sequence[int]) -> NDArray[np.bool_]:
    """The cells of a grid that count: at least half of the cell lies inside; if there is none, the most covered cells.

    Args:
        inside: The region of interest in a tile, bool (h, w), at least one pixel.
        grid: Rows and columns of the grid, (g_h, g_w).

    Returns:
        bool (g_h, g_w).
    """
    rows, columns = grid
    cover = cv2.resize(inside.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(cover >= min(_HALF, float(cover.max())))


def score_inside(scored: Scored, features: Any, inside: NDArray[np.bool_]) -> Scored:
    """A score limited to a region of interest.

    Maps of all stages are 0 outside. The evidence `map` is computed anew: for each tile the mean of its highest pixels
    inside, as many pixels as without a region, so that the same anomaly keeps its score; the highest tile counts.
    `clip` scores whole tiles and is therefore left out; the image score then follows from the map alone.

    Args:
        scored: The score of the whole image.
        features: The features that it was made from.
        inside: The region of interest, bool (H, W), read-only.
    """
    anomaly_map = np.where(inside, scored.map, np.float32(0))
    anomaly_map.setflags(write=False)
    height, width = inside.shape
    windows: list[Window] = [(0, 0, width, height)]
    if isinstance(features, PatchFeatures):
        windows = [tile.window for tile in features.tiles]
    left_out = ("clip", "map_alone")  # of the whole image
    evidence = {name: value for name, value in scored.evidence.items() if name not in left_out}
    evidence["map"] = max(_top(anomaly_map, inside, window) for window in windows)
    stages = tuple(_inside(stage, inside) for stage in scored.stages)
    return replace(
        scored,
        map=anomaly_map,
        evidence=evidence,
        stages=(_looked(inside), *stages),
        inside=inside,
    )


def _top(anomaly_map: NDArray[np.float32], inside: NDArray[np.bool_], window: Window) -> float:
    """Mean of the highest pixels of a window (XYXY) that lie inside; 0 if none do."""
    x0, y0, x1, y1 = window
    values = anomaly_map[y0:y1, x0:x1][inside[y0:y1, x0:x1]]
    if not values.size:
        return 0.0
    count = min(max(1, round((y1 - y0) * (x1 - x0) * TOP_FRACTION)), values.size)
    return float(np.partition(values, -count)[-count:].mean())


def _inside(stage: Stage, inside: NDArray[np.bool_]) -> Stage:
    """A stage with its maps set to 0 outside the region, bool (H, W)."""
    layers = tuple(
        HeatMap(np.where(inside, layer.values, np.float32(0)))
        if isinstance(layer, HeatMap)
        else layer
        for layer in stage.layers
    )
    stage = replace(stage, layers=layers)
    values = stage.heat
    if stage.spec != MAP or values is None:
        return stage
    row, column = np.unravel_index(int(np.argmax(values)), values.shape)
    peak = float(values[row, column])
    caption = f"{stage.caption} In the region that is looked at it reaches {peak:.2f} at ({column}, {row})."
    return replace(stage, caption=caption, data={**stage.data, "peak": round(peak, 6)})


def _looked(inside: NDArray[np.bool_]) -> Stage:
    pixels, fraction = int(np.count_nonzero(inside)), float(inside.mean())
    caption = (
        f"{percent(fraction)} of the image is looked at; what lies outside counts for nothing, and CLIP's answer for "
        "the image as a whole is left out."
    )
    data = {"pixels": pixels, "fraction": round(fraction, 6)}
    return Stage(LOOKED, caption, (Area(inside, "spot"),), data)


def percent(fraction: float) -> str:
    """A fraction as a percentage in words: "62 %", "0.4 %"."""
    value = 100 * fraction
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"
