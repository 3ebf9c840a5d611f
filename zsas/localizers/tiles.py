"""Where a localizer looks: windows of the image (tiles) and, in each, test-time views. Pure functions on numbers.

CLIP's frame is a square of a few hundred pixels. Squeezed into it, a long image loses its shape and a large one its
small defects; tiles look at the image at its own resolution, with its aspect ratio kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, setting
from zsas.frames import Window

LONGEST_TILE = 1.5
"""Largest side of a tile that `auto` chooses, as a multiple of the frame's: it is shown at two thirds of its size."""
HARDLY_LARGER = 1.05
"""An image that is longer than a tile by less than this factor stays whole."""
LARGEST_ASPECT = 4.0
"""A frame is at most so many times as long as wide: the positions that CLIP was trained on are a square's."""
_LEAST_WEIGHT = 0.02
"""Weight of a tile at its border in the blend, so that a pixel that only one border covers still has one."""


@dataclass(frozen=True)
class TileSettings(SettingsGroup, key="tiles", title="Native resolution"):
    """How closely the image is looked at."""

    tiles: int | str = setting(
        "off",
        "Tiles",
        "Pixels that one tile covers; off squeezes the whole image into one square; auto decides from the image's size "
        "(that of its detail, if it was enlarged) and shape, keeps its aspect ratio, and leaves an image whole that is "
        "hardly larger than CLIP's frame.",
        low=0,
        high=8192,
        step=16,
        unit="px",
        encoding=True,
        words=("off", "auto"),
        floor=64,
    )
    tile_overlap: float = setting(
        0.1,
        "Tile overlap",
        "Fraction of a tile that it shares with the next one at least; maps are blended there.",
        low=0.0,
        high=0.5,
        step=0.05,
        encoding=True,
    )
    max_tiles: int = setting(
        16,
        "Tiles at most",
        "Time grows with the number of tiles; where more would be needed, tiles are made larger instead.",
        low=1,
        high=256,
        step=1,
        encoding=True,
    )


ONCE = ((1.0, False),)
"""A window is seen in the frame itself."""

Views = Literal["auto", "one", "all"]


@dataclass(frozen=True)
class ViewSettings(SettingsGroup, key="views", title="Test-time augmentation"):
    """How often each tile is seen."""

    views: Views = setting(
        "auto",
        "Test-time views",
        "How often each tile is seen, mirrored and at other sizes: once at the localizer's own size, or in all views "
        "that the trained layers come with; auto takes all for an image that stays whole and one for each tile.",
        encoding=True,
    )


@dataclass(frozen=True)
class View:
    """One look at a window.

    Attributes:
        height: Of the frame, in pixels; whole patches.
        width: Of the frame, in pixels; whole patches.
        mirrored: Whether left and right are exchanged.
    """

    height: int
    width: int
    mirrored: bool


@dataclass(frozen=True)
class Tile:
    """A window of the image and the views of it, of which the first gives the patch grid.

    Attributes:
        window: XYXY in image pixels, x1 and y1 exclusive.
        views: At least one.
    """

    window: Window
    views: tuple[View, ...]


def plan_tiles(
    height: int,
    width: int,
    settings: TileSettings,
    frame: int,
    patch: int,
    tta: Sequence[tuple[float, bool]] = ONCE,
    wanted: Views = "auto",
) -> tuple[Tile, ...]:
    """The tiles of an image, decided from its size and shape alone.

    Args:
        height: Of the image, pixels.
        width: Of the image, pixels.
        settings: How closely to look.
        frame: Side of the localizer's square frame, pixels.
        patch: Side of a patch, pixels.
        tta: For each test-time view the fraction of the frame, and whether it is mirrored.
        wanted: Whether they are taken; otherwise the window is seen once, in the frame itself.
    """
    squeezed = settings.tiles == "off"
    windows = [(0, 0, width, height)]
    if not squeezed:
        windows = _windows(height, width, settings, frame)
    several = wanted == "all" or (wanted == "auto" and len(windows) == 1)
    tiles = []
    for window in windows:
        x0, y0, x1, y1 = window
        views = []
        for fraction, mirrored in tta if several else ONCE:
            square = max(1, int(round(fraction * frame) // patch)) * patch
            sides = (square, square)
            if not squeezed:
                sides = _frame_of(y1 - y0, x1 - x0, fraction * frame, patch)
            views.append(View(*sides, mirrored))
        tiles.append(Tile(window, tuple(views)))
    return tuple(tiles)


def looked_at(tiles: tuple[Tile, ...], inside: NDArray[np.bool_] | None) -> tuple[Tile, ...]:
    """The tiles that hold a pixel that is looked at; all where there is no region.

    Args:
        tiles: From `plan_tiles`.
        inside: The region of interest, bool (H, W).
    """
    if inside is None:
        return tiles
    kept = []
    for tile in tiles:
        x0, y0, x1, y1 = tile.window
        if inside[y0:y1, x0:x1].any():
            kept.append(tile)
    return tuple(kept)


def _windows(height: int, width: int, settings: TileSettings, frame: int) -> list[Window]:
    wanted = _size(height, width, settings, frame)
    while tiles_of(height, width, wanted, settings) > settings.max_tiles:
        wanted *= 1.05
    size = math.ceil(wanted)
    return [
        (x, y, min(x + size, width), min(y + size, height))
        for y in _starts(height, size, settings)
        for x in _starts(width, size, settings)
    ]


def tiles_wanted(height: int, width: int, settings: TileSettings, frame: int) -> int:
    """How many tiles there would be without `max_tiles`; 1 where they are off."""
    if settings.tiles == "off":
        return 1
    return tiles_of(height, width, _size(height, width, settings, frame), settings)


def _size(height: int, width: int, settings: TileSettings, frame: int) -> float:
    """Side of a tile in image pixels, before `max_tiles`."""
    if settings.tiles != "auto":
        return float(settings.tiles)
    size = max(float(frame), min(height, width, LONGEST_TILE * frame))
    longest = max(height, width)
    return longest if longest <= HARDLY_LARGER * size else size


def tiles_of(height: int, width: int, size: float, settings: TileSettings) -> int:
    """How many tiles of a size cover an image."""
    return _count(height, size, settings) * _count(width, size, settings)


def _count(length: int, size: float, settings: TileSettings) -> int:
    """How many tiles of a size cover a length."""
    if length <= size:
        return 1
    shared = settings.tile_overlap * size
    return math.ceil((length - shared) / (size - shared))


def _starts(length: int, size: int, settings: TileSettings) -> list[int]:
    count = _count(length, size, settings)
    return [round(i * (length - size) / (count - 1)) for i in range(count)] if count > 1 else [0]


def _frame_of(height: int, width: int, side: float, patch: int) -> tuple[int, int]:
    """A frame of a window's shape with as many patches as a square of `side`, in pixels."""
    aspect = min(max(height / width, 1 / LARGEST_ASPECT), LARGEST_ASPECT)
    rows = max(1, round(side * math.sqrt(aspect) / patch))
    columns = max(1, round(side / math.sqrt(aspect) / patch))
    return rows * patch, columns * patch


def blend_weight(height: int, width: int) -> NDArray[np.float32]:
    """Weight of a tile's pixels in the blend: a cosine that falls from the middle to the borders, float32 (H, W)."""

    def profile(length: int) -> NDArray[np.float64]:
        return np.sin(np.pi * (np.arange(length) + 0.5) / length)

    weight = np.outer(profile(height), profile(width))
    return np.maximum(weight, _LEAST_WEIGHT).astype(np.float32)
