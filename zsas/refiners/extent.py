"""How far a region reaches: to half of its height above the ground around it, each region for itself.

One level for a whole map cuts a strong anomaly too wide and a weak one too narrow. What an optical system blurs is
measured at half its height; a map is the blurred picture of an anomaly.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.frames import pieces_of_mask

HEIGHT = 0.45
"""Where a region ends, as a part of the rise from the ground around it to its peak. Chosen on synthetic images."""


def to_half_height(
    anomaly_map: NDArray[np.float32],
    region: NDArray[np.bool_],
    reach: int,
    inside: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Regions that end at half of their height, bool (H, W).

    Each connected region (8 neighbours) becomes what of it, and of its surroundings, is above the level of its own.

    Args:
        anomaly_map: Map_a, float32 (H, W), in [0, 1].
        region: What was marked, bool (H, W).
        reach: How wide the ground around a region is, and how far the region may grow, in pixels.
        inside: The pixels that are looked at, bool (H, W); None for all of them.
    """
    found = np.zeros_like(region)
    height, width = region.shape
    for (x0, y0, x1, y1), piece in pieces_of_mask(region):
        margins = min(x0, reach), min(y0, reach), min(width - x1, reach), min(height - y1, reach)
        left, top, right, bottom = margins
        window = np.s_[y0 - top : y1 + bottom, x0 - left : x1 + right]
        whole = np.pad(piece, ((top, bottom), (left, right)))
        distance = cv2.distanceTransform((~whole).view(np.uint8), cv2.DIST_L2, 3)
        near = distance <= reach
        if inside is not None:
            near &= inside[window]
        values = anomaly_map[window]
        around = values[near & ~whole]
        if not around.size:
            found[window] |= whole
            continue
        ground, peak = float(np.median(around)), float(values[whole].max())
        found[window] |= near & (values > ground + HEIGHT * (peak - ground))
    return found
