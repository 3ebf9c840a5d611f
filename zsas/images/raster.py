"""What a reader returns: the values as stored in the file, and their meaning.

Every container ends here, so that there is one rule for images (`pixels.to_rgb`) and one for masks (`masks.to_mask`).
"""

from __future__ import annotations

import numbers
import os
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError

MAX_PIXELS = 50_000_000
"""Most pixels of an image that are read at once."""

LARGEST_PIXELS = 1_000_000_000
"""Most pixels of a TIFF that is read in bands and reduced to `MAX_PIXELS`; `LARGEST_VARIABLE` says otherwise."""

LARGEST_VARIABLE = "ZSAS_MAX_PIXELS"
"""Environment variable: another number for `LARGEST_PIXELS`; 0 refuses what has more than `MAX_PIXELS`."""

MAX_BYTES = 600_000_000
"""Most bytes of a file that are read into memory, and of values that are decoded."""


def largest_pixels() -> int:
    """`LARGEST_PIXELS`, or what the environment says.

    Raises:
        ZsasError: If that is no whole number.
    """
    text = os.environ.get(LARGEST_VARIABLE, "").replace("_", "").replace(",", "").strip()
    if text and not text.isdecimal():
        raise ZsasError(
            f"{LARGEST_VARIABLE} is {text!r}, but it must be a whole number of pixels, as 400000000."
        )
    return int(text) if text else LARGEST_PIXELS


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file.

    Attributes:
        page: Which page or frame, from 1; 0 is the one that the format means: the first that is no preview.
        bits: How many bits of each value are used, where a file holds more than 8; 0 believes the file.
        max_pixels: Most pixels of what is read, told from the header, before anything is decoded.
        reduce_up_to: Most pixels of a TIFF that has more than `max_pixels`: it is read in bands and reduced by a whole
            factor until it fits; see `zsas.images.large`. 0 refuses it.
    """

    page: int = 0
    bits: int = 0
    max_pixels: int = MAX_PIXELS
    reduce_up_to: int = field(default_factory=largest_pixels)

    def __post_init__(self) -> None:
        for what, value in (("page", self.page), ("bits", self.bits)):
            if not isinstance(value, numbers.Integral):
                raise ZsasError(f"{what} is {value!r}, but it must be a whole number.")
        if self.page < 0:
            raise ZsasError(
                f"Page {self.page} cannot be read; pages count from 1, and 0 is the first."
            )
        if not 0 <= self.bits <= 32:
            raise ZsasError(
                f"{self.bits} bits cannot be read; 1 to 32 was expected, or 0 for what the file says."
            )


@dataclass(frozen=True)
class ReadInfo:
    """What was read.

    Attributes:
        format: The format's name, as in the table of `formats`; "array" and "PIL image" for what was in memory.
        page: The page or frame examined, from 1.
        pages: How many pages or frames there are.
        bits: How many bits a value has.
        notes: Sentences on what a person should know, without the file's name.
        reduced: How many pixels of the file one pixel of the image stands for, along each side.
        sha256: Digest of the file's bytes, "" for what was in memory.
    """

    format: str
    page: int = 1
    pages: int = 1
    bits: int = 8
    notes: tuple[str, ...] = ()
    reduced: int = 1
    sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "format": self.format,
            "bits": self.bits,
            "page": self.page,
            "pages": self.pages,
            "notes": list(self.notes),
            **({"reduced": self.reduced} if self.reduced > 1 else {}),
            "sha256": self.sha256,
        }


@dataclass(frozen=True)
class ReadImage:
    """An image, and what was read.

    Attributes:
        pixels: uint8 RGB, (H, W, 3), upright.
        info: See `ReadInfo`.
    """

    pixels: NDArray[np.uint8]
    info: ReadInfo

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        return self.pixels.nbytes


@dataclass
class Raster:
    """The values of a file as stored, upright.

    Attributes:
        values: (H, W) for grey and palette, (H, W, 3) for RGB, (H, W, 4) for CMYK (white is no ink).
        colour: What the values are.
        white: The value that means white (or full ink); None where the type of the values tells it.
        format: Name of the format.
        bits: Bits of a value.
        declared: Whether the file says how many bits count, so that the values need no second thought.
        inverted: Whether 0 is white.
        palette: uint8 (N, 3).
        alpha: (H, W), from 0 to `alpha_white`.
        premultiplied: Whether the colours were multiplied by alpha.
        signed: Whether the values may be negative by their type.
        lossy: Whether the codec changes values.
        page: The page read, from 1.
        pages: Number of pages.
        notes: What a person should know.
        sha256: Digest of the file's bytes.
    """

    values: NDArray[Any]
    colour: Literal["grey", "rgb", "cmyk", "palette"]
    white: int | None
    format: str
    bits: int = 8
    declared: bool = True
    inverted: bool = False
    palette: NDArray[np.uint8] | None = None
    alpha: NDArray[Any] | None = None
    alpha_white: int = 255
    premultiplied: bool = False
    signed: bool = False
    lossy: bool = False
    page: int = 1
    pages: int = 1
    notes: list[str] = field(default_factory=list)
    sha256: str = ""

    def turned(self, orientation: int) -> Raster:
        """The same, upright, from an orientation of EXIF or TIFF (1 to 8; anything else is upright)."""
        self.values = turn(self.values, orientation)
        if self.alpha is not None:
            self.alpha = turn(self.alpha, orientation)
        return self


def without_alpha(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Decoded values as (H, W) or (H, W, 3), and the last of two or four channels, which is alpha; None without."""
    alpha = None
    if values.ndim == 3 and values.shape[2] in (2, 4):
        values, alpha = values[..., :-1], values[..., -1]
    return (values[..., 0] if values.ndim == 3 and values.shape[2] == 1 else values), alpha


def turn(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Undo an orientation of EXIF or TIFF: (H, W, ...) as stored to (H, W, ...) as meant to be seen."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def check_size(height: int, width: int, max_pixels: int, name: str) -> None:
    """Refuse an image with no pixels, or with too many.

    Raises:
        ZsasError: See above.
    """
    if height < 1 or width < 1:
        raise ZsasError(f"{name} has no pixels; take an image of at least 1 × 1.")
    if height * width > max_pixels:
        raise ZsasError(
            f"{name} has {size_text((height, width))} = {height * width:,} pixels, but at most "
            f"{max_pixels:,} are accepted; make it smaller."
        )


def size_text(shape: tuple[int, ...]) -> str:
    """Width × height, as people say it."""
    return f"{shape[1]} × {shape[0]}"


def unseen_pages(raster: Raster, options: ReadOptions) -> tuple[str, ...]:
    """A note that other pages are not looked at, where nobody chose one; a JPEG's are previews and gain maps."""
    if raster.pages < 2 or options.page or raster.format == "JPEG":
        return ()
    others = "zsas segment --page takes another, --page all each"
    return (f"only page {raster.page} of {raster.pages} is looked at: {others}",)


def check_page(page: int, pages: int, name: str) -> None:
    """Refuse a page that the file does not have.

    Raises:
        ZsasError: See above.
    """
    if page > pages:
        raise ZsasError(
            f"{name} has {pages} page{'s' if pages != 1 else ''}, but page {page} was asked for; "
            f"take one from 1 to {pages}."
        )


def damaged(name: str) -> ZsasError:
    """The error for a file that is cut off or damaged."""
    return ZsasError(f"{name} is cut off or damaged; take the complete file.")


def not_read(name: str, what: str, instead: str = "save it as PNG or TIFF") -> ZsasError:
    """The error for a complete file of a kind that is not supported."""
    return ZsasError(f"{name} {what}, which is not read; {instead}.")
