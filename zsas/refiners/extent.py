"""The extent of a marked region: it ends where the map has fallen to about half of its height above the background.

One level for a whole map marks a strong anomaly too wide and a weak one too narrow. A map is a blurred picture of the
anomaly, and the width of a blurred object is measured at half of its height.
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
"""Height at which a region ends: 0 is the background around it, 1 its peak. Chosen on synthetic images."""


def to_half_height(
    anomaly_map: NDArray[np.float32],
    region: NDArray[np.bool_],
    reach: int,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Redraw each connected region (8 neighbours) at a level of its own, `HEIGHT` of the way from background to peak.

    A region may shrink, or grow by at most `reach` pixels; crumbs are removed.

    Args:
        anomaly_map: Map_a, float32 (H, W), in [0, 1].
        region: The marked regions, bool (H, W).
        reach: Width of the band around a region whose median is its background, in pixels.
        inside: The region of interest, bool (H, W); None for the whole image.

    Returns:
        bool (H, W).
    """
    found = np.zeros_like(region)
    for window, piece in extents(anomaly_map, region, reach, inside):
        found[window] |= piece
    return found


def without_grains(region: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """A region, bool (H, W), without the crumbs that thresholding a grainy map leaves.

    Pieces nearer to each other than `reach` pixels belong together, and the crumbs among them are removed. A small
    piece far from all others stays.
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
    """The regions of `to_half_height` one by one, in reading order: rows and columns, and the mask there."""
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
            # A map drawn along the image's edges is grainy; single grains are no regions.
            yield window, without_crumbs(near & (values > ground + HEIGHT * (peak - ground)))
        else:
            yield window, whole
