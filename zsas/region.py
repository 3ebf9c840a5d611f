"""A region of interest: where to look on an image, and what to leave out of sight.

Polygons, rectangles, brush strokes and masks, in image pixels or as fractions of the image's sides. What lies outside
never counts; `docs/parts.md` describes the JSON.
"""

from __future__ import annotations

import codecs
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError, reason
from zsas.images import read_image, read_mask
from zsas.shapes import (
    Point,
    Shape,
    Unit,
    check_aspect,
    cover,
    list_of_shapes,
    mask_counts,
    read_shape,
    read_size,
)

FORMAT = 1
"""Version of the JSON."""
MOST_BYTES = 16_000_000
"""Size of a JSON file at most."""


@dataclass(frozen=True)
class RegionOfInterest:
    """Where to look, and what to ignore.

    Attributes:
        look: Shapes whose union is looked at; none means the whole image.
        ignore: Shapes that are taken away from it.
        unit: Of all points: image pixels, or fractions of width and height.
        size: Width and height of the image on which pixels were drawn; None where the unit says all, or where the
            pixels are those of whatever image is looked at.
    """

    look: tuple[Shape, ...] = ()
    ignore: tuple[Shape, ...] = ()
    unit: Unit = "px"
    size: tuple[int, int] | None = None

    def __bool__(self) -> bool:
        return bool(self.look or self.ignore)

    @cached_property
    def key(self) -> str:
        """Digest of all that it says."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def on(self, height: int, width: int) -> NDArray[np.bool_]:
        """The region on an image of a size, bool (H, W), True inside; read-only.

        Fractions fit every image. Pixels and masks that come with the size of their image are scaled to an image of
        the same shape, and refused where the shape is another one.

        Raises:
            ZsasError: If it does not fit the image, or leaves nothing of it.
        """
        return _on(self, height, width)

    def without(self, other: RegionOfInterest | None) -> RegionOfInterest:
        """This region, from which the areas that another one ignores are removed as well.

        Raises:
            ZsasError: If the two are in different units or for images of different sizes.
        """
        if not other:
            return self
        if not self:
            return other
        drawn = [one for one in (self, other) if one._has_points]
        if len({(one.unit, one.size) for one in drawn}) > 1:
            raise ZsasError(
                "The region and what is to be ignored are in different units or for images of different sizes; write "
                "both in the same."
            )
        frame = drawn[0] if drawn else self
        look = (*self.look, *other.look)
        return RegionOfInterest(look, (*self.ignore, *other.ignore), frame.unit, frame.size)

    @property
    def _has_points(self) -> bool:
        return any(shape.mask is None for shape in (*self.look, *self.ignore))

    def to_dict(self) -> dict[str, Any]:
        """As JSON types; `from_dict` reads them."""
        facts: dict[str, Any] = {"format": FORMAT, "unit": self.unit}
        if self.size is not None:
            facts["size"] = list(self.size)
        for name, shapes in (("region", self.look), ("ignore", self.ignore)):
            if shapes:
                facts[name] = [shape.to_dict() for shape in shapes]
        return facts

    @classmethod
    def from_dict(cls, values: Any, *, name: str = "The region") -> RegionOfInterest:
        """From JSON types.

        Args:
            values: `{"region": [shape, …], "ignore": [shape, …], "unit": "px" or "fraction", "size": [width, height]}`,
                or a list of shapes, or the corners of one polygon. A shape is `{"polygon": [[x, y], …]}`,
                `{"rectangle": [x0, y0, x1, y1]}`, `{"brush": [[x, y], …], "width": w}` or `{"mask": {"size": [H, W],
                "counts": COCO's text}}`.
            name: What it is called in messages.

        Raises:
            ZsasError: If it is no region; names what is wrong.
        """
        return _read(values, name)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> RegionOfInterest:
        """From the entry `region` of `result.json`, which also holds the number of pixels inside."""
        return cls.from_dict({k: v for k, v in facts.items() if k not in ("fraction", "pixels")})

    @classmethod
    def from_mask(cls, mask: NDArray[np.bool_], *, ignore: bool = False) -> RegionOfInterest:
        """What a mask marks, bool (H, W).

        Raises:
            ZsasError: If it marks nothing.
        """
        if mask.ndim != 2 or not mask.any():
            raise ZsasError("The mask of the region marks nothing; paint white where to look.")
        shape = Shape("mask", mask=(*mask.shape, mask_counts(mask)))
        return cls(ignore=(shape,)) if ignore else cls(look=(shape,))

    @classmethod
    def load(cls, file: str | Path, *, ignore: bool = False) -> RegionOfInterest:
        """From a file: JSON, or an image that is white where to look, or where to ignore.

        Args:
            file: `.json`, or an image.
            ignore: The file says what to leave out of sight.

        Raises:
            ZsasError: If it cannot be read or is no region.
        """
        path = Path(file)
        if path.suffix.lower() != ".json":
            return cls._of_image(path, ignore, path.name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise ZsasError(f"There is no file {path}; check the path.") from None
        except OSError as error:
            raise ZsasError(f"{path} cannot be read ({error.strerror or reason(error)}).") from None
        return cls.parse(data, ignore=ignore, name=path.name)

    @classmethod
    def from_bytes(cls, data: bytes, *, ignore: bool = False) -> RegionOfInterest:
        """From what a file holds; JSON is known by its first character. See `load`."""
        text = data.removeprefix(codecs.BOM_UTF8)  # which Windows' editors write
        if text.lstrip()[:1] in (b"{", b"["):
            return cls.parse(data, ignore=ignore)
        return cls._of_image(data, ignore, "The region")

    @classmethod
    def _of_image(cls, source: Path | bytes, ignore: bool, name: str) -> RegionOfInterest:
        try:
            pixels = read_image(source).pixels
            mask = read_mask(source, (pixels.shape[0], pixels.shape[1]), name)
        except ZsasError as error:
            raise ZsasError(str(error).replace("The image", name, 1)) from None
        try:
            return cls.from_mask(mask, ignore=ignore)
        except ZsasError:
            raise ZsasError(f"{name} marks nothing; it must be white somewhere.") from None

    @classmethod
    def parse(
        cls, text: str | bytes, *, ignore: bool = False, name: str = "The region"
    ) -> RegionOfInterest:
        """From JSON text.

        Args:
            text: See `from_dict`.
            ignore: The shapes of a plain list, and those under "region" alone, are to be ignored.
            name: What it is called in messages.

        Raises:
            ZsasError: If it is no JSON or no region.
        """
        if len(text) > MOST_BYTES:
            raise ZsasError(f"{name} is larger than {MOST_BYTES // 10**6} MB.")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
            raise ZsasError(f"{name} is no JSON ({reason(error)}).") from None
        found = cls.from_dict(values, name=name)
        if ignore and not found.ignore:
            return cls((), found.look, found.unit, found.size)
        return found


def load_regions(region: str | Path | None, ignore: str | Path | None) -> RegionOfInterest | None:
    """The region of `--region FILE` without those of `--ignore FILE`; None if neither is given.

    Raises:
        ZsasError: If one cannot be read, or they do not go together.
    """
    look = RegionOfInterest.load(region) if region else RegionOfInterest()
    return look.without(RegionOfInterest.load(ignore, ignore=True) if ignore else None) or None


@lru_cache(maxsize=8)
def _on(region: RegionOfInterest, height: int, width: int) -> NDArray[np.bool_]:
    scale = _scale(region, height, width)
    inside = np.zeros((height, width), bool) if region.look else np.ones((height, width), bool)
    for shape in region.look:
        inside |= cover(shape, scale, height, width)
    for shape in region.ignore:
        inside &= ~cover(shape, scale, height, width)
    if not inside.any():
        raise ZsasError(
            f"The region leaves nothing of an image of {width} × {height} px to look at; draw a larger one, or ignore "
            "less."
        )
    inside.setflags(write=False)
    return inside


def _scale(region: RegionOfInterest, height: int, width: int) -> Point:
    """Factors (x, y) from the region's unit to image pixels."""
    if region.unit == "fraction":
        return width, height
    if region.size is None:
        _check_within(region, width, height)
        return 1.0, 1.0
    check_aspect(region.size, width, height)
    return width / region.size[0], height / region.size[1]


def _check_within(region: RegionOfInterest, width: int, height: int) -> None:
    xy = [p for shape in (*region.look, *region.ignore) for p in shape.points]
    if xy and (max(x for x, _ in xy) > width + 1 or max(y for _, y in xy) > height + 1):
        x, y = max(x for x, _ in xy), max(y for _, y in xy)
        raise ZsasError(
            f"The region reaches to ({x:g}, {y:g}), but the image has {width} × {height} px; say on which size it was "
            'drawn with "size": [width, height], or give it in fractions.'
        )


def _read(values: Any, name: str) -> RegionOfInterest:
    if isinstance(values, list):
        is_polygon = bool(values) and all(isinstance(one, list) for one in values)
        values = {"region": [{"polygon": values}] if is_polygon else values}
    if not isinstance(values, Mapping):
        raise ZsasError(f'{name} must be {{"region": [shape, …], "ignore": [shape, …]}}.')
    known = ("format", "unit", "size", "region", "ignore")
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ZsasError(f"{name} has an entry {unknown[0]!r}; it may have {', '.join(known)}.")
    version = values.get("format", FORMAT)
    if not isinstance(version, int) or version > FORMAT:
        raise ZsasError(f"{name} was written by a newer version of zsas; update this one.")
    unit = values.get("unit", "px")
    if unit not in ("px", "fraction"):
        raise ZsasError(f'{name} has the unit {unit!r}, but it must be "px" or "fraction".')
    size = values.get("size")
    if size is not None:
        size = read_size(size, name)
    look, ignore = (
        tuple(
            read_shape(one, unit, size, name) for one in list_of_shapes(values.get(key, []), name)
        )
        for key in ("region", "ignore")
    )
    points = [point for shape in (*look, *ignore) for point in shape.points]
    if points and "unit" not in values and max(map(max, points)) <= 1:
        raise ZsasError(
            f"{name} names no unit, and all of its points lie in the first pixel; write "
            '"unit": "fraction" if they are fractions of width and height.'
        )
    if not look and not ignore:
        raise ZsasError(f'{name} has no shape; give some under "region" or "ignore".')
    return RegionOfInterest(look, ignore, unit, size if unit == "px" else None)
