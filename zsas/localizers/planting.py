"""Whether good images are worth believing, tried on themselves: flaws are planted on copies of them.

Each copy is compared with the other good images. Where they show the same part, the planted flaws lie far from them and
what else the map points at does not, so that lowering the map where the copy looks like the others makes the flaws
stand out. Where every good image shows another part, the flaws drown. How flaws are planted follows CutPaste
(2104.04015): patches of the image itself elsewhere, and strokes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.localizers.calming import MOST_LOWERED, SMOOTH, likely
from zsas.localizers.patches import PatchFeatures, seen

COPIES = 8
"""Copies with planted flaws altogether; of more good images that many, drawn evenly, have one each."""
FLAWS = 6
"""Flaws on a copy, patches and strokes by turns."""
RADII = (0.03, 0.06)
"""How large they are, from the middle, as fractions of the image's shorter side."""
BELIEVED = 0.5
"""Gain from which on good images are wholly believed; synthetic images of one part mostly have more, of others none."""
_COVERED, _CLEAR = 0.4, 0.01
"""Cells that a flaw covers so much show one, or half as much as the most covered where cells are larger than flaws;
those that it covers less than the second show none."""
_SMALLEST = 16


class Planted(NamedTuple):
    """A copy of a good image with flaws planted on it.

    Attributes:
        features: Of the copy.
        anomaly_map: What the localizer says of it by itself, float32 (H, W).
        flaws: Where they are, bool (H, W).
        image: Number of the good image.
    """

    features: PatchFeatures
    anomaly_map: NDArray[np.float32]
    flaws: NDArray[np.bool_]
    image: int


def planned(count: int) -> list[tuple[int, int]]:
    """Numbers of the good images that get a copy with flaws, each with the seed of its flaws; none for a single one."""
    if count < 2:
        return []
    each = max(1, COPIES // count)
    asked = range(0, count, -(-count // COPIES))
    return [(i, i + count * k) for i in asked for k in range(each)]


# Long because each flaw is drawn in the order of its random numbers.
def plant(
    image: NDArray[np.uint8], seed: int, inside: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A copy with flaws.

    Args:
        image: uint8 RGB (H, W, 3).
        seed: Of places, sizes and strengths.
        inside: Pixels that are looked at, bool (H, W), where the flaws' middles lie; None for all.

    Returns:
        The copy, and where its flaws are, bool (H, W); none on an image of less than 16 pixels.
    """
    height, width = image.shape[:2]
    side = min(height, width)
    flaws = np.zeros((height, width), bool)
    if side < _SMALLEST:
        return image, flaws
    generator = np.random.default_rng(seed)
    found = image.astype(np.float32)
    strength = float(image.reshape(-1, 3).std(0).mean())
    places = None if inside is None else np.argwhere(inside)
    blur = max(0.7, side / 500)
    for number in range(FLAWS):
        radius = max(2, int(side * generator.uniform(*RADII)))
        low, high = (radius, radius), (height - radius, width - radius)
        y, x = generator.integers(low, high)
        if places is not None:
            y, x = np.clip(places[generator.integers(len(places))], low, np.subtract(high, 1))
        reach = radius + math.ceil(4 * blur) + 3
        top, left = max(0, int(y) - reach), max(0, int(x) - reach)
        around = (slice(top, int(y) + reach), slice(left, int(x) + reach))
        before = found[around]
        y, x = int(y) - top, int(x) - left
        cover = np.zeros(before.shape[:2], np.float32)
        if number % 2 == 0:
            v, u = generator.integers(low, high)
            square = image[v - radius : v + radius, u - radius : u + radius]
            turned = np.rot90(square, int(generator.integers(1, 4)))
            changed = before.copy()
            changed[y - radius : y + radius, x - radius : x + radius] = turned
            axes = (radius, max(2, int(radius * generator.uniform(0.4, 1))))
            cv2.ellipse(cover, (x, y), axes, float(generator.uniform(0, 180)), 0, 360, 1.0, -1)
        else:
            angle = generator.uniform(0, math.pi)
            dx, dy = radius * math.cos(angle), radius * math.sin(angle)
            ends = ((int(x - dx), int(y - dy)), (int(x + dx), int(y + dy)))
            cv2.line(cover, *ends, 1.0, max(1, int(side * 0.012)), cv2.LINE_AA)
            lighter = generator.choice([-1, 1])
            changed = before + lighter * max(12.0, strength * generator.uniform(0.5, 1))
        cover = cv2.GaussianBlur(cover, (0, 0), blur)
        before += cover[..., None] * (changed - before)
        flaws[around] |= cover > 0.3
    if inside is not None:
        flaws &= inside
    return np.clip(np.rint(found), 0, 255).astype(np.uint8), flaws


def gain(planted: Sequence[Planted], z_tiles: Sequence[Sequence[NDArray[np.float32]]]) -> float:
    """How much the planted flaws stand out more in the lowered maps than in the maps as they are.

    Args:
        planted: Copies with flaws.
        z_tiles: Of each copy and each of its tiles how far its cells lie from the other good images, in standard
            deviations above their level, float32 (g_h, g_w).

    Returns:
        Logarithm of the average precision, over all cells of all copies, of the lowered maps over that of the maps;
        infinite where no cell shows a flaw.
    """
    cells = [_cells(one, tiles) for one, tiles in zip(planted, z_tiles, strict=True)]
    flawed, value, z = (np.concatenate(rows) for rows in zip(*cells, strict=True))
    if not flawed.any():
        return math.inf
    lowered = value * (1 - MOST_LOWERED + MOST_LOWERED * likely(z))
    return math.log(average_precision(flawed, lowered) / average_precision(flawed, value))


def trust_in(gained: float) -> float:
    """How much good images deserve to be believed that make planted flaws stand out by so much, in [0, 1]."""
    return min(max(gained / BELIEVED, 0.0), 1.0)


def average_precision(anomalous: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Mean precision at each anomalous one, from the highest score to the lowest; both (n,), at least one anomalous."""
    hits = anomalous[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean())


def _cells(
    one: Planted, z_tiles: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.float32]]:
    """Of the cells that show a flaw or none: whether they do, the map there, and how far they are; each (n,)."""
    found = []
    for tile, z in zip(one.features.tiles, z_tiles, strict=True):
        x0, y0, x1, y1 = tile.window
        size = (z.shape[1], z.shape[0])
        cover, value = (
            cv2.resize(whole[y0:y1, x0:x1].astype(np.float32), size, interpolation=cv2.INTER_AREA)
            for whole in (one.flaws, one.anomaly_map)
        )
        smooth = cv2.GaussianBlur(np.ascontiguousarray(z), (0, 0), SMOOTH)
        found.append([seen(values, tile.inside) for values in (cover, value, smooth)])
    cover, value, smooth = (np.concatenate(rows) for rows in zip(*found, strict=True))
    flawed = cover > max(_CLEAR, min(_COVERED, float(cover.max()) / 2))
    counted = flawed | (cover < _CLEAR)
    return flawed[counted], value[counted], smooth[counted]
