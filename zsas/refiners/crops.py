"""Where SAM looks closer: windows around small regions, encoded by themselves.

SAM sees the image in a square of a fixed side, and its masks have a quarter of that. What is small against the image is
a few cells there, and a hairline less than one. In a window of the image it is larger.

The windows follow from the map alone, not from the marking level or from clicks: a slider never runs an encoder.
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
"""Windows at most where the number is `auto`."""
LEAST = 128
"""Smallest side of a window in pixels: below it there is nothing more to see."""
MARGIN = 1.5
"""A window is at least so many times as long as the region in it."""
HALVINGS = 3
"""A window's side is the image's longest one, halved one to so many times."""
_STEPS = 8
"""Windows begin at eighths of their side, so that a map that differs little has the same ones."""


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
    """The windows that SAM encodes by themselves, from the map alone: around its small regions, the highest first.

    Args:
        scored: What the localizer made of the image.
        settings: How many at most.
        side: Of SAM's square, pixels.
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
    """The window in which SAM looks at a box, or None where the box is not small against the image.

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
    """Where a window of a side begins and ends on one axis: about in the middle of a stretch, inside the image."""
    if side >= length:
        return 0, length
    step = max(1, side // _STEPS)
    start = round(((low + high) / 2 - side / 2) / step) * step
    start = min(max(start, 0), length - side)
    return start, start + side


def closest(windows: Sequence[Window], box: Window) -> Window | None:
    """The smallest window that holds a box with some room around it; None if there is none."""
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
