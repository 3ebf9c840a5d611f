"""Shapes of a region of interest: what they cover of an image, and how they are read from JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError
from zsas.images import MAX_PIXELS
from zsas.rle import decode, pack_counts, unpack_counts

MOST_SHAPES = 200
MOST_POINTS = 2000
"""Points of one shape at most."""
SAME_ASPECT = 0.02
"""How far the aspect ratios of two images may differ, as a fraction, so that a region of one is scaled to the other."""

_THICKEST = 32767
"""Pixels of a line that OpenCV draws at most."""

Unit = Literal["px", "fraction"]
Kind = Literal["polygon", "rectangle", "brush", "mask"]
Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """One area.

    Attributes:
        kind: What it is.
        points: (x, y): a polygon's corners, a rectangle's first and last corner (the last one exclusive), the way of a
            brush; none for a mask.
        width: Diameter of the brush, in the unit of the points; 0 for others.
        mask: Height, width and run-length code of a mask (COCO's), None for others.
    """

    kind: Kind
    points: tuple[Point, ...] = ()
    width: float = 0.0
    mask: tuple[int, int, str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in the JSON."""
        if self.mask is not None:
            height, width, counts = self.mask
            return {"mask": {"size": [height, width], "counts": counts}}
        if self.kind == "rectangle":
            return {"rectangle": [value for point in self.points for value in point]}
        points = [list(point) for point in self.points]
        return {self.kind: points, **({"width": self.width} if self.kind == "brush" else {})}


def check_aspect(size: Sequence[int], width: int, height: int) -> None:
    """Whether something drawn on an image of one size can be scaled to another."""
    drawn, wanted = size[0] / size[1], width / height
    # Of a small image one pixel is more than the tolerance.
    within = max(SAME_ASPECT, 1.5 / min(width, height))
    if abs(drawn / wanted - 1) > within:
        raise ZsasError(
            f"The region belongs to an image of {size[0]} × {size[1]} px, and this one of {width} × {height} px has "
            "another shape; draw it anew, or give it in fractions."
        )


def cover(shape: Shape, scale: Point, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of a shape, those whose middle lies in it; bool (H, W)."""
    if shape.mask is not None:
        return _scaled_mask(shape.mask, height, width)
    points = np.array(shape.points, np.float64) * scale
    if shape.kind == "polygon":
        return polygon_mask(points, height, width)
    inside = np.zeros((height, width), np.uint8)
    if shape.kind == "rectangle":
        (x0, y0), (x1, y1) = np.ceil(points - 0.5).astype(int).clip(0)
        inside[y0:y1, x0:x1] = 1
    else:
        thick = min(max(1, round(shape.width * math.sqrt(scale[0] * scale[1]))), _THICKEST)
        way = np.rint(points - 0.5).astype(np.int32)
        cv2.polylines(inside, [way], False, 1, thick)
        for x, y in way[:: max(1, len(way) - 1)]:  # both ends are round
            cv2.circle(inside, (int(x), int(y)), thick // 2, 1, -1)
    return inside > 0


def _scaled_mask(mask: tuple[int, int, str], height: int, width: int) -> NDArray[np.bool_]:
    found = decode({"size": mask[:2], "counts": mask[2]})
    if found.shape == (height, width):
        return found
    check_aspect((mask[1], mask[0]), width, height)
    return cv2.resize(found.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST) > 0


def polygon_mask(points: NDArray[np.float64], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels whose middle lies in a polygon (even-odd), bool (H, W).

    Args:
        points: Corners (x, y) in pixels, shape (n, 2); the pixel (0, 0) covers 0 to 1.
        height: Of the image.
        width: Of the image.

    Example:
        >>> polygon_mask(np.array([(1, 0), (3, 0), (3, 2), (1, 2)], float), 3, 4).astype(int).tolist()
        [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    crossings = np.zeros((height, width + 1), np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        low, high = (math.ceil(y - 0.5) for y in sorted((y0, y1)))
        rows = np.arange(min(max(low, 0), height), min(max(high, 0), height))
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * (x1 - x0) / (y1 - y0)
            np.add.at(crossings, (rows, np.ceil(x - 0.5).astype(int).clip(0, width)), 1)
    return np.asarray(np.cumsum(crossings[:, :width], axis=1) % 2 == 1)


def mask_counts(mask: NDArray[np.bool_]) -> str:
    """COCO's text of a whole mask."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    bounds = np.concatenate([[0], edges, [flat.size]])
    counts = np.diff(bounds)
    return pack_counts(np.concatenate([[0], counts]) if flat[0] else counts)


# From JSON, where everything may be wrong.


def list_of_shapes(values: Any, name: str) -> list[Any]:
    """A list of not too many shapes, still to be read; `name` is what the region is called in messages."""
    if not isinstance(values, list) or len(values) > MOST_SHAPES:
        raise ZsasError(f"{name} needs a list of at most {MOST_SHAPES} shapes.")
    return values


def read_size(values: Any, name: str) -> tuple[int, int]:
    """Two numbers of pixels, each at least 1."""
    if not (
        isinstance(values, list)
        and len(values) == 2
        and all(isinstance(v, int) and not isinstance(v, bool) and 0 < v < 10**6 for v in values)
    ):
        raise ZsasError(f'{name} has a "size" that is not [width, height] in pixels.')
    return values[0], values[1]


def read_shape(values: Any, unit: str, size: tuple[int, int] | None, name: str) -> Shape:
    """A shape from JSON types.

    Args:
        values: See `zsas.region.RegionOfInterest.from_dict`.
        unit: Of its points.
        size: Width and height of the image on which it was drawn, where that is known.
        name: What the region is called in messages.

    Raises:
        ZsasError: If it is none, or its points lie outside of its image.
    """
    kinds = ("polygon", "rectangle", "brush", "mask")
    given = [kind for kind in kinds if isinstance(values, Mapping) and kind in values]
    if len(given) != 1 or set(values) - {given[0], "width"}:
        raise ZsasError(f"{name} has a shape that is not one of {', '.join(kinds)}.")
    (kind,) = given
    if kind == "mask":
        return Shape("mask", mask=_mask(values["mask"], name))
    is_rectangle = kind == "rectangle"
    points = _rectangle(values[kind], name) if is_rectangle else _points(values[kind], kind, name)
    _check_range(points, unit, size, name)
    if kind == "polygon":
        _check_polygon(points, name)
        return Shape("polygon", points)
    if is_rectangle:
        return Shape("rectangle", points)
    width = values.get("width")
    if not _is_number(width) or not 0 < width <= (1 if unit == "fraction" else 10**6):
        raise ZsasError(f"{name} has a brush without a width above 0.")
    return Shape("brush", points, float(width))


def _is_number(value: Any) -> bool:
    # Compared, not converted: JSON may hold a whole number that no float can.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e100


def _points(values: Any, kind: str, name: str) -> tuple[Point, ...]:
    least = 3 if kind == "polygon" else 1
    if not isinstance(values, list) or not least <= len(values) <= MOST_POINTS:
        raise ZsasError(f"{name} has a {kind} that is not {least} to {MOST_POINTS} points [x, y].")
    for one in values:
        if not isinstance(one, list) or len(one) != 2 or not all(map(_is_number, one)):
            raise ZsasError(f"{name} has a {kind} with a point {one!r:.40}, which is not [x, y].")
    return tuple((float(x), float(y)) for x, y in values)


def _rectangle(values: Any, name: str) -> tuple[Point, ...]:
    right = isinstance(values, list) and len(values) == 4 and all(map(_is_number, values))
    if not right or not (values[0] < values[2] and values[1] < values[3]):
        raise ZsasError(
            f"{name} has a rectangle that is not [x0, y0, x1, y1] with x0 < x1 and y0 < y1."
        )
    x0, y0, x1, y1 = map(float, values)
    return (x0, y0), (x1, y1)


def _check_range(
    points: Sequence[Point], unit: str, size: tuple[int, int] | None, name: str
) -> None:
    """Points lie in their image, as far as its size is known; one pixel beyond its border is forgiven."""
    wide, high = (1.001, 1.001) if unit == "fraction" else (math.inf, math.inf)
    if unit == "px" and size is not None:
        wide, high = size[0] + 1, size[1] + 1
    below = -0.001 if unit == "fraction" else -1
    for x, y in points:
        if not (below <= x <= wide and below <= y <= high):
            what = "fractions from 0 to 1" if unit == "fraction" else "pixels of its image"
            raise ZsasError(f"{name} has a point ({x:g}, {y:g}), but points are {what}.")


def _check_polygon(points: Sequence[Point], name: str) -> None:
    corners = np.array(points, np.float64)
    nxt = np.roll(corners, -1, axis=0)
    area = abs(float(np.sum(corners[:, 0] * nxt[:, 1] - nxt[:, 0] * corners[:, 1]))) / 2
    if crosses_itself(corners):
        raise ZsasError(f"{name} has a polygon that crosses itself; draw its corners in order.")
    if area <= 1e-12:
        raise ZsasError(f"{name} has a polygon without an area.")


def crosses_itself(corners: NDArray[np.float64]) -> bool:
    """Whether two sides of a closed polygon cross, corners (n, 2).

    Example:
        >>> bool(crosses_itself(np.array([(0, 0), (1, 1), (1, 0), (0, 1)], float)))
        True
    """
    starts, ends = corners, np.roll(corners, -1, axis=0)

    def side(a: NDArray[Any], b: NDArray[Any], p: NDArray[Any]) -> NDArray[Any]:
        """On which side of the line from a to b each p lies, (n, m)."""
        along, to = (b - a)[:, None], p[None] - a[:, None]
        return np.sign(along[..., 0] * to[..., 1] - along[..., 1] * to[..., 0])

    apart = side(starts, ends, starts) * side(starts, ends, ends) < 0
    return bool((apart & apart.T).any())


def _mask(values: Any, name: str) -> tuple[int, int, str]:
    """A run-length code whose runs fill its size exactly."""
    wrong = ZsasError(
        f'{name} has a mask that is not {{"size": [height, width], "counts": text}} as COCO writes it.'
    )
    if not isinstance(values, Mapping) or not isinstance(values.get("counts"), str):
        raise wrong
    height, width = read_size(values.get("size"), name)
    if height * width > MAX_PIXELS:
        raise wrong
    try:
        counts = unpack_counts(values["counts"])
    except (ValueError, IndexError):
        raise wrong from None
    if not counts.size or (counts < 0).any() or int(counts.sum()) != height * width:
        raise wrong
    return height, width, values["counts"]
