"""Mosaics: images put together from several pictures of the same size, for example by cameras side by side.

The seams between the pictures are straight, cross the whole image and divide it evenly. CLIP would take them for
cracks, so each picture is encoded by itself.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.frames import Window

MOST = 8
"""Pictures in a row or column at most."""
LEAST = 96
"""Smallest side of a picture, pixels."""
_STRIPS = 16
"""In how many strips along a seam its jump is measured."""
_WIDE = 2
"""Pixels on either side of a seam that are compared."""
_CLEAR, _FAINT = 10.0, 3.0
"""How far the jump at a seam stands out among its surroundings, in robust standard deviations: at every seam of one
direction, and at those of the other once these were found. Mosaics of photographs: 16 to 133 in the clearer direction,
3.4 to 27 in the other; 6.7 at most on images that nothing divides."""
_JUMP = 2.0
"""What half of the strips jump by at least, in grey levels, beyond what the image changes by on either side."""


def pictures_of(image: NDArray[np.uint8]) -> tuple[Window, ...]:
    """The pictures of a mosaic (XYXY), in reading order; the whole image if it is no mosaic.

    Args:
        image: uint8 RGB (H, W, 3).
    """
    height, width = image.shape[:2]
    whole = ((0, 0, width, height),)
    if max(height, width) < 2 * LEAST:
        return whole
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    across, down = _jumps(grey), _jumps(cv2.transpose(grey))
    columns, rows = _count(across, _CLEAR), _count(down, _CLEAR)
    if columns == rows == 1:
        return whole
    columns, rows = _count(across, _FAINT), _count(down, _FAINT)
    xs, ys = _bounds(width, columns), _bounds(height, rows)
    return tuple((x0, y0, x1, y1) for y0, y1 in pairwise(ys) for x0, x1 in pairwise(xs))


def _bounds(length: int, count: int) -> list[int]:
    return [round(i * length / count) for i in range(count + 1)]


def _jumps(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Between each column and the one before it: mean jump of the strips, and half of them jump by at least, (2, W)."""
    height, width = grey.shape
    bounds = _bounds(height, min(_STRIPS, height))
    means = [
        cv2.reduce(grey[top:bottom], 0, cv2.REDUCE_AVG, dtype=cv2.CV_64F)[0]
        for top, bottom in pairwise(bounds)
    ]
    sums = np.cumsum(np.pad(means, ((0, 0), (1, 0))), axis=1)
    side = (sums[:, _WIDE:] - sums[:, :-_WIDE]) / _WIDE  # the mean from each column on
    found = np.zeros((2, width))
    if width < 4 * _WIDE:
        return found
    far_left, left = side[:, : -3 * _WIDE], side[:, _WIDE : -2 * _WIDE]
    right, far_right = side[:, 2 * _WIDE : -_WIDE], side[:, 3 * _WIDE :]
    jump = np.abs(right - left)
    change = np.maximum(np.abs(far_right - right), np.abs(left - far_left))
    found[:, 2 * _WIDE : width - 2 * _WIDE + 1] = (
        jump.mean(axis=0),
        np.median(jump - change, axis=0),
    )
    return found


def _count(jumps: NDArray[np.float64], clear: float) -> int:
    """Into how many equal parts seams divide an axis: the most, up to `MOST`, at all of whose bounds there is one."""
    length = jumps.shape[1]
    for count in range(min(MOST, length // LEAST), 1, -1):
        bounds = _bounds(length, count)[1:-1]
        if all(_is_seam(jumps, at, length // (2 * count), clear) for at in bounds):
            return count
    return 1


def _is_seam(jumps: NDArray[np.float64], at: int, around: int, clear: float) -> bool:
    mean, beyond = jumps[:, at - 1 : at + 2].max(axis=1)
    usual = jumps[0, max(0, at - around) : at + around]
    middle = float(np.median(usual))
    spread = 1.4826 * float(np.median(np.abs(usual - middle))) + 0.1
    return bool(beyond > _JUMP and mean - middle > clear * spread)
