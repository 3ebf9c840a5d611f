"""Whether an image was enlarged by interpolation, and by which factor: it is then encoded at its former size."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 96
"""Side of the square blocks that are compared, pixels."""
BLOCKS = 16
"""How many blocks are compared: those with most detail, so that one sharp place suffices to call the image sharp."""
COARSEST = 4
"""Largest factor that is tried."""
_RELATIVE = 0.23
"""Rms of what halving takes away, as a part of the rms of first differences: measured 0.05 to 0.23 on images enlarged
two and three times by cubic, linear and Lanczos interpolation, 0.27 to 0.5 on photographs and synthetic images."""
_RELATIVE_ODD = 0.08
"""The same for a factor of three, where interpolation leaves every third pixel unchanged."""
_GREY_LEVELS = 0.5
"""An rms below this, in grey levels, is rounding."""
_MARGIN = 9
_INTERPOLATIONS = (cv2.INTER_CUBIC, cv2.INTER_LINEAR, cv2.INTER_NEAREST)


def detail_factor(image: NDArray[np.uint8]) -> int:
    """How many times smaller the image could be without losing detail: 1, 2, 3 or 4.

    Args:
        image: uint8 RGB (H, W, 3).

    Returns:
        1 for an image as a camera gives it, and wherever one block shows detail of single pixels.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if min(grey.shape) < 2 * BLOCK:
        return 1
    blocks = _sharpest(grey)
    if not any(_loses(block, 3) for block in blocks):
        return 3
    factor = 1
    while factor < COARSEST and not any(_loses(block, 2) for block in blocks):
        factor *= 2
        size = (grey.shape[1] // 2, grey.shape[0] // 2)
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        if min(grey.shape) < 2 * BLOCK:
            break
        blocks = _sharpest(grey)
    return factor


def _sharpest(grey: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The blocks with most detail."""
    height, width = grey.shape
    edges = np.abs(cv2.Laplacian(grey, cv2.CV_16S))
    rows, columns = height // BLOCK, width // BLOCK
    sums = cv2.resize(
        edges[: rows * BLOCK, : columns * BLOCK].astype(np.float32),
        (columns, rows),
        interpolation=cv2.INTER_AREA,
    )
    best = np.argsort(-sums.ravel(), kind="stable")[:BLOCKS]
    corners = [(i // columns * BLOCK, i % columns * BLOCK) for i in map(int, best)]
    return [grey[y : y + BLOCK, x : x + BLOCK].astype(np.float32) for y, x in corners]


def _loses(block: NDArray[np.float32], times: int) -> bool:
    """Whether shrinking removes more detail than interpolation could have added.

    Made three times as large, an image keeps its pixels in every third one; made twice as large, between them.
    """
    if times % 2:
        smaller = np.ascontiguousarray(block[times // 2 :: times, times // 2 :: times])
    else:
        side = BLOCK // times
        smaller = cv2.resize(block, (side, side), interpolation=cv2.INTER_AREA)
    inner = np.s_[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    lost = min(
        _rms((block - cv2.resize(smaller, (BLOCK, BLOCK), interpolation=how))[inner])
        for how in _INTERPOLATIONS
    )
    seen = block[inner]
    steps = np.hypot(_rms(np.diff(seen, axis=0)), _rms(np.diff(seen, axis=1)))
    least = _RELATIVE_ODD if times % 2 else _RELATIVE
    return bool(lost > _GREY_LEVELS and lost > least * steps)


def _rms(values: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(values).mean()))
