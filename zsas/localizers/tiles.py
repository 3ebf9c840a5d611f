"""Tiles (windows of the image) and the test-time views of each. Pure functions on numbers.

CLIP's frame is a square of a few hundred pixels. A long image squeezed into it loses its shape, and a large one its
small defects; tiles show the image at its own resolution and keep the aspect ratio.
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
"""Largest side of a tile under `auto`, as a multiple of the frame's side; such a tile is shrunk to two thirds."""
HARDLY_LARGER = 1.05
"""An image whose longest side is at most this many times a tile's stays one tile."""
LARGEST_ASPECT = 4.0
"""Largest aspect ratio of a frame; CLIP's position embeddings were trained on a square."""
_LEAST_WEIGHT = 0.02
"""Smallest weight of a tile's pixels in the blend, so that a pixel that only borders of tiles cover has a weight."""


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
    """One test-time view of a window: the size to which it is resized for the backbone, and whether it is mirrored.

    Attributes:
        height: Height of the frame in pixels, a multiple of the patch size.
        width: Width of the frame in pixels, a multiple of the patch size.
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
    """The tiles of an image; they follow from its size alone.

    Args:
        height: Of the image, pixels.
        width: Of the image, pixels.
        settings: How images are divided into tiles.
        frame: Side of the localizer's square frame, pixels.
        patch: Side of a patch, pixels.
        tta: For each test-time view its size as a fraction of the frame, and whether it is mirrored.
        wanted: Which views are used: all, one at the size of the frame, or (`auto`) all if there is a single tile.
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
    """The tiles that contain a pixel of the region of interest; all tiles if there is no region.

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
    """How many tiles there would be without `max_tiles`; 1 if tiles are off."""
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
    """How many tiles with a side of `size` pixels cover an image."""
    return _count(height, size, settings) * _count(width, size, settings)


def _count(length: int, size: float, settings: TileSettings) -> int:
    """How many tiles with a side of `size` pixels cover one axis of the image."""
    if length <= size:
        return 1
    shared = settings.tile_overlap * size
    return math.ceil((length - shared) / (size - shared))


def _starts(length: int, size: int, settings: TileSettings) -> list[int]:
    count = _count(length, size, settings)
    return [round(i * (length - size) / (count - 1)) for i in range(count)] if count > 1 else [0]


def _frame_of(height: int, width: int, side: float, patch: int) -> tuple[int, int]:
    """Height and width in pixels of a frame with the window's aspect ratio and about as many patches as side × side."""
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
