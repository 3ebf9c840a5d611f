"""How far a region reaches: to half of its height above the ground around it, each region for itself.

One level for a whole map cuts a strong anomaly too wide and a weak one too narrow. What an optical system blurs is
measured at half its height; a map is the blurred picture of an anomaly.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.frames import parts_with_margin, pieces_of_mask
from zsas.refiners.masks import without_crumbs

Slices = tuple[slice, slice]
HEIGHT = 0.45
"""Where a region ends, as a part of the rise from the ground around it to its peak. Chosen on synthetic images."""


def to_half_height(
    anomaly_map: NDArray[np.float32],
    region: NDArray[np.bool_],
    reach: int,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Regions that end at half of their height, bool (H, W).

    Each connected region (8 neighbours) becomes what of it, and of its surroundings, is above the level of its own,
    without crumbs.

    Args:
        anomaly_map: Map_a, float32 (H, W), in [0, 1].
        region: What was marked, bool (H, W).
        reach: How wide the ground around a region is, and how far the region may grow, in pixels.
        inside: The pixels that are looked at, bool (H, W); None for all of them.
    """
    found = np.zeros_like(region)
    for window, piece in extents(anomaly_map, region, reach, inside):
        found[window] |= piece
    return found


def without_grains(region: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """A region, bool (H, W), without the crumbs that a level leaves of a grainy map around the pieces that count.

    Pieces nearer to each other than `reach` pixels are of one kind, and crumbs among them are left out; a small piece
    far from all others stays.
    """
    if reach < 1:
        return region
    near, found = np.zeros((2, *region.shape), bool)
    for part in parts_with_margin(pieces_of_mask(region), reach, region.shape):
        away = cv2.distanceTransform((~part.mask).view(np.uint8), cv2.DIST_L2, 3)
        near[part.slices] |= away <= reach / 2
    for piece in pieces_of_mask(near):
        found[piece.slices] |= without_crumbs(region[piece.slices] & piece.mask)
    return found


def extents(
    anomaly_map: NDArray[np.float32],
    region: NDArray[np.bool_],
    reach: int,
    inside: NDArray[np.bool_] | None = None,
) -> Iterator[tuple[Slices, NDArray[np.bool_]]]:
    """Each connected region of `to_half_height` by itself, in reading order: where it lies, and its mask there."""
    height, width = region.shape
    for (x0, y0, x1, y1), piece in pieces_of_mask(region):
        left, top, right, bottom = (min(room, reach) for room in (x0, y0, width - x1, height - y1))
        window = np.s_[y0 - top : y1 + bottom, x0 - left : x1 + right]
        whole = np.pad(piece, ((top, bottom), (left, right)))
        near = cv2.distanceTransform((~whole).view(np.uint8), cv2.DIST_L2, 3) <= reach
        if inside is not None:
            near &= inside[window]
        values = anomaly_map[window]
        around = values[near & ~whole]
        if around.size:
            ground, peak = float(np.median(around)), float(values[whole].max())
            # A map that follows edges is grainy, and its grains are no regions of their own.
            yield window, without_crumbs(near & (values > ground + HEIGHT * (peak - ground)))
        else:
            yield window, whole
