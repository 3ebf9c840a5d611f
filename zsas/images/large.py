"""TIFFs with more pixels than are read at once (line scans): read in bands and reduced by a whole factor.

One pixel of the result is the mean of k × k pixels of the file; columns and rows at the right and lower border that do
not fill one are left out, so that a box of the result times k is the box in the file. Map, mask and boxes of a result
belong to the reduced image, and `ReadInfo.reduced` says k.

Memory: the reduced image (at most 3 bytes for each of `ReadOptions.max_pixels`: 150 MB), and about 200 MB for a band;
more only where one strip or tile of a compressed file is larger, at most `MAX_BYTES`.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError
from zsas.images import tiff
from zsas.images.content import Content
from zsas.images.pixels import to_rgb
from zsas.images.raster import (
    LARGEST_VARIABLE,
    Raster,
    ReadImage,
    ReadInfo,
    ReadOptions,
    size_text,
    turn,
    unseen_pages,
)

BAND_VALUES = 12_000_000
"""Values of a band; some copies of it, of up to four bytes a value, are in memory at once."""


def read_reduced(content: Content, options: ReadOptions) -> ReadImage | None:
    """A TIFF with more than `max_pixels`, reduced; None for one that can be read at once.

    Args:
        content: The file.
        options: `max_pixels` of the result, `reduce_up_to` of the file.

    Raises:
        ZsasError: If the file has more than `reduce_up_to`, naming the variable; see also `tiff.decode_bands`.
    """
    found = tiff.size_of(content, options)
    if found is None or found[0] * found[1] <= options.max_pixels:
        return None
    height, width, orientation = found
    if height * width > options.reduce_up_to:
        raise ZsasError(
            f"{content.name} has {size_text((height, width))} = {height * width:,} pixels, but at most "
            f"{options.reduce_up_to:,} are read in bands; make it smaller, or set {LARGEST_VARIABLE}."
        )
    factor = factor_for(height, width, options.max_pixels)
    small = np.empty((height // factor, width // factor, 3), np.uint8)
    rest = np.empty((0, width, 3), np.uint8)
    raster: Raster | None = None
    row = 0
    for raster in tiff.decode_bands(content, options, BAND_VALUES):
        raster.alpha = None  # what lies under transparency is examined
        band, raster = to_rgb(raster, options.bits, content.name)
        band = np.concatenate([rest, band]) if len(rest) else band
        part = _reduced(band, factor)
        rest = band[len(part) * factor :].copy()
        small[row : row + len(part)] = part
        row += len(part)
    assert raster is not None
    info = ReadInfo(raster.format, raster.page, raster.pages, raster.bits, (), factor)
    note = (
        f"{size_text((height, width))} pixels were read in bands and reduced to "
        f"{size_text(small.shape)}: boxes and areas count pixels of {factor} × {factor}"
    )
    pixels = np.ascontiguousarray(turn(small, orientation))
    return ReadImage(pixels, replace(info, notes=(note, *unseen_pages(raster, options))))


def factor_for(height: int, width: int, max_pixels: int) -> int:
    """The smallest whole factor after which an image has at most `max_pixels`; no side becomes shorter than a pixel."""
    factor = 1
    while (height // factor) * (width // factor) > max_pixels and factor < min(height, width):
        factor += 1
    return factor


def _reduced(band: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Means of k × k pixels, uint8 (h // k, w // k, 3)."""
    height, width = band.shape[0] // factor, band.shape[1] // factor
    if not height:
        return np.empty((0, width, 3), np.uint8)
    cut = band[: height * factor, : width * factor]
    return cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA)
