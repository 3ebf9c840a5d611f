"""The sizes at which maps and masks are compared: the image's own, a longest side, or a published square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zsas.datasets.defects import Defect
from zsas.evaluation.metrics import Truth


def truth_at(
    mask: NDArray[np.bool_],
    inside: NDArray[np.bool_] | None,
    side: int,
    square: int = 0,
    *,
    averaged: bool = False,
    defects: Sequence[Defect] = (),
) -> Truth:
    """A ground-truth mask prepared for comparison: resized, and limited to the region of interest.

    Args:
        mask: bool (H, W).
        inside: The region of interest, bool (H, W); None for the whole image.
        side: See `zsas.evaluation.run.measure`.
        square: See `zsas.evaluation.conditions.Condition`.
        averaged: See there.
        defects: The annotated defects whose union it is, if there are some.
    """

    def sized(one: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return covered(one, square) > 127 if averaged and square else at_size(one, side, square)

    small = sized(mask)
    each = [replace(one, mask=sized(one.mask)) for one in defects]
    looked_at = None if inside is None else at_size(inside, side, square)
    return Truth.of(small, looked_at, each, small.size / mask.size)


def covered(mask: NDArray[np.bool_], side: int) -> NDArray[np.uint8]:
    """How much of each pixel of a square a mask, bool (H, W), covers: uint8 (side, side), 255 for all of it.

    Pillow's bilinear resizing with antialiasing, which is torchvision's default for masks in the public code of most
    systems; there a pixel is anomalous above one half.
    """
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))


def at_size(array: NDArray[Any], side: int, square: int) -> NDArray[Any]:
    """As `_at_side`; if `square` is not 0, squeezed into a square of that side, as for published figures."""
    return _resized(array, (square, square)) if square else _at_side(array, side)


def _at_side(array: NDArray[Any], side: int) -> NDArray[Any]:
    """A map (bilinear) or mask (nearest), resized to a longest side of `side`; unchanged for 0."""
    height, width = array.shape
    if side == 0 or max(height, width) == side:
        return array
    scale = side / max(height, width)
    return _resized(array, (max(1, round(width * scale)), max(1, round(height * scale))))


def _resized(array: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """At (width, height) in pixels."""
    if array.dtype == bool:
        return cv2.resize(array.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
    return np.clip(cv2.resize(array, size, interpolation=cv2.INTER_LINEAR), 0.0, 1.0)
