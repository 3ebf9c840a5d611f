"""Close-ups for SAM: windows around small regions, which SAM encodes by themselves.

SAM sees the image in a square of a fixed side, and its masks have a quarter of that resolution. A small region covers a
few cells of a mask, and a hairline less than one. In a window of the image both are larger.

The windows depend on the anomaly map alone, not on the marking level or on clicks, so that a slider never runs an
encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from zsas.declare import SettingsGroup, setting
from zsas.frames import Window, pieces_of_mask
from zsas.refiners.base import MarkSettings
from zsas.refiners.marking import mark_scored

if TYPE_CHECKING:
    from zsas.localizers.base import Scored

AUTO = 4
"""Largest number of windows under `auto`."""
LEAST = 128
"""Smallest side of a window in pixels; a smaller one shows no further detail."""
MARGIN = 1.5
"""A window's side is at least this many times the longest side of its region."""
HALVINGS = 3
"""A window's side is the image's longest side, halved once or up to this many times."""
_STEPS = 8
"""Windows begin at multiples of 1/8 of their side, so that similar maps give the same windows."""


@dataclass(frozen=True)
class CropSettings(SettingsGroup, key="crops", title="SAM close up"):
    """Whether SAM looks at small regions by themselves."""

    sam_crops: int | str = setting(
        "off",
        "Close-ups for SAM",
        "In how many windows around small regions SAM encodes the image again, closer: off, a number at most, or auto: "
        "up to 4 where the image is larger than SAM's square. A window costs as much time as the whole image.",
        low=0,
        high=16,
        step=1,
        encoding=True,
        words=("off", "auto"),
        floor=1,
    )


def close_windows(scored: Scored, settings: CropSettings, side: int) -> list[Window]:
    """The windows (XYXY) that SAM encodes by themselves: around small regions of the map, the most anomalous first.

    Args:
        scored: The localizer's map.
        settings: The largest number of windows.
        side: Side of SAM's square, pixels.
    """
    if settings.sam_crops == "off":
        return []
    if settings.sam_crops == "auto" and max(scored.map.shape) <= side:
        return []
    most = AUTO if settings.sam_crops == "auto" else int(settings.sam_crops)
    anomaly_map = scored.map
    region = mark_scored(scored, MarkSettings(threshold_mode="adaptive")).region
    ranked = []
    for piece in pieces_of_mask(region):
        peak = float(anomaly_map[piece.slices][piece.mask].max())
        ranked.append((peak, np.count_nonzero(piece.mask), piece.window))
    found: list[Window] = []
    for *_, box in sorted(ranked, reverse=True):
        if len(found) == most:
            break
        window = close_window(box, *anomaly_map.shape)
        if window is not None and closest(found, box) is None:
            found.append(window)
    return found


def close_window(box: Window, height: int, width: int) -> Window | None:
    """The window around a box, XYXY; None if the box is too large for a window.

    Args:
        box: XYXY in image pixels, x1 and y1 exclusive.
        height: Of the image, pixels.
        width: Of the image, pixels.
    """
    x0, y0, x1, y1 = box
    wanted = max(LEAST, MARGIN * max(x1 - x0, y1 - y0))
    longest = max(height, width)
    sides = [longest / 2**halvings for halvings in range(1, HALVINGS + 1)]
    fitting = [int(side) for side in sides if side >= wanted]
    if not fitting:
        return None
    side = fitting[-1]
    (left, right), (top, bottom) = _placed(x0, x1, side, width), _placed(y0, y1, side, height)
    return left, top, right, bottom


def _placed(low: int, high: int, side: int, length: int) -> tuple[int, int]:
    """Begin and end of a window on one axis: about centred on the stretch from low to high, inside the image."""
    if side >= length:
        return 0, length
    step = max(1, side // _STEPS)
    start = round(((low + high) / 2 - side / 2) / step) * step
    start = min(max(start, 0), length - side)
    return start, start + side


def closest(windows: Sequence[Window], box: Window) -> Window | None:
    """The smallest of the windows that contains a box with some margin; None if none does."""
    x0, y0, x1, y1 = box
    holding = []
    for window in windows:
        left, top, right, bottom = window
        side = max(right - left, bottom - top)
        inside = left <= x0 and top <= y0 and x1 <= right and y1 <= bottom
        if inside and side * (1 + MARGIN) / 2 >= MARGIN * max(x1 - x0, y1 - y0):
            holding.append(window)
    return min(holding, key=lambda one: (one[2] - one[0]) * (one[3] - one[1]), default=None)


def lies_in(window: Window, pixel: tuple[int, int]) -> bool:
    """Whether a pixel, row and column, lies in a window."""
    x0, y0, x1, y1 = window
    return x0 <= pixel[1] < x1 and y0 <= pixel[0] < y1
