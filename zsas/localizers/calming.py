"""What good images make of a map: it is lowered where the image looks like them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.localizers.base import top_mean
from zsas.localizers.patches import PatchFeatures, TileFeatures, blend
from zsas.stages import HeatMap, Stage

GATE_Z = 2.0
"""Standard deviations above the references' own level at which the gate is half open."""
MOST_LOWERED = 0.9
"""Fraction of the map that references can take away at most: they can calm a place, not hide it."""
SMOOTH = 0.5
"""Standard deviation in cells of the blur that single cells' distances get before they weigh the map."""
LEAST_TRUST = 0.5
"""How much good images are believed at least where it is about the image as a whole."""
TOP_SIDE = 256
"""Every so many pixels of a map are asked for its highest thousandth that at least so many are left on a side."""
USUAL_LIMIT = 0.7
"""Limit of image scores without good images."""


def likely(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """How open the gate is at each place, in [0, 1], from distances in standard deviations above the level."""
    return np.asarray(1 / (1 + np.exp(-np.clip(z - GATE_Z, -30, 30))), np.float32)


def calmed(
    anomaly_map: NDArray[np.float32],
    z: NDArray[np.float32],
    trust: float,
    peaks: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], float]:
    """A map that is lowered where it looks like the good images.

    Args:
        anomaly_map: float32 (H, W), in [0, 1].
        z: Distances in standard deviations above the good images' own level, float32 (H, W).
        trust: How much they deserve to be believed, t, in [0, 1].
        peaks: Distances as in `z` of which none was smoothed away, see `in_frame`; z itself without.

    Returns:
        Map_a × (1 − 0.9 t + 0.9 t · sigmoid(z − 2)), read-only; and what becomes of its highest thousandth by the
        peaks, as a factor, with t at least 1/2: of an image as a whole even good images of other parts say something,
        and of a flaw of a single cell the smoothing must not take the verdict.
    """
    most = MOST_LOWERED * trust
    found = np.asarray(anomaly_map * (1 - most + most * likely(z)), np.float32)
    found.setflags(write=False)
    step = max(1, min(anomaly_map.shape) // TOP_SIDE)
    some = anomaly_map[::step, ::step]
    most = MOST_LOWERED * max(trust, LEAST_TRUST)
    kept = 1 - most + most * likely((z if peaks is None else peaks)[::step, ::step])
    before, after = top_mean(some), top_mean(some * kept)
    return found, min(1.0, after / before) if before > 0 else 1.0


def in_frame(
    z_tiles: Sequence[NDArray[np.float32]], features: PatchFeatures, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cells of all tiles, each float32 (g_h, g_w), as maps of the image, float32 (H, W).

    Returns:
        Smoothed a little; and the same where no cell is lower than it was.
    """
    smooth = [cv2.GaussianBlur(one, (0, 0), SMOOTH) for one in map(np.ascontiguousarray, z_tiles)]
    peaks = [np.maximum(one, other) for one, other in zip(smooth, z_tiles, strict=True)]
    windows = [tile.window for tile in features.tiles]

    def framed(tiles: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        frames = [to_frame(one, tile) for one, tile in zip(tiles, features.tiles, strict=True)]
        return blend(frames, windows, height, width)

    return framed(smooth), framed(peaks)


def to_frame(z: NDArray[np.float32], tile: TileFeatures) -> NDArray[np.float32]:
    """Cells of a tile, float32 (g_h, g_w), in its frame, bilinear."""
    height, width = tile.frame_hw
    return np.asarray(cv2.resize(z, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def calibrated(score: float, usual: float, spread: float, limit: float) -> float:
    """A score in [0, 1] that reaches the usual limit `limit` spreads above the usual score."""
    at_limit = math.log(USUAL_LIMIT / (1 - USUAL_LIMIT))
    logit = (score - usual) / spread - limit + at_limit
    return 1 / (1 + math.exp(-min(max(logit, -30.0), 30.0)))


def lowered(
    stages: Sequence[Stage], anomaly_map: NDArray[np.float32], why: str
) -> tuple[Stage, ...]:
    """A localizer's stages after its map was weighed.

    Args:
        stages: The last one is the map's.
        anomaly_map: Weighed, float32 (H, W).
        why: A sentence for the caption.
    """
    *before, stage = stages
    others = tuple(layer for layer in stage.layers if not isinstance(layer, HeatMap))
    data = {**stage.data, "peak": round(float(anomaly_map.max()), 6)}
    layers = (HeatMap(anomaly_map), *others)
    caption = f"{stage.caption} {why}"
    return (*before, replace(stage, caption=caption, layers=layers, data=data))


def calm(
    anomaly_map: NDArray[np.float32] | None,
    z_tiles: Sequence[NDArray[np.float32]],
    features: PatchFeatures,
    trust: float,
) -> float:
    """What becomes of the highest thousandth of a good image's map among the others, as a factor."""
    if anomaly_map is None:
        return 1.0
    height, width = anomaly_map.shape
    z, peaks = in_frame(z_tiles, features, height, width)
    return calmed(anomaly_map, z, trust, peaks)[1]
