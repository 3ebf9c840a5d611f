"""TIFF and BigTIFF, read by tifffile with imagecodecs: what a tag says is honoured, or refused in a sentence."""

from __future__ import annotations

import contextlib
import logging
import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError, reason
from zsas.extras import require
from zsas.images.content import Content
from zsas.images.raster import (
    MAX_BYTES,
    Raster,
    ReadOptions,
    check_page,
    check_size,
    damaged,
    not_read,
    size_text,
)
from zsas.images.tiff_colour import each_of, ends_of, photometric_of, tiff_raster
from zsas.images.tiff_pages import full_images, orientation_of
from zsas.images.tiff_segments import check_fax, check_segments

# What it logs about broken tags is either refused here or does not matter.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_KINDS = {
    4: "is a transparency mask and no image",
    8: "is in CIE Lab colours",
    9: "is in ICC Lab colours",
    10: "is in ITU Lab colours",
    32844: "is in LogL",
    32845: "is in LogLuv colours",
    51177: "is a depth map",
}
_RAW = (32803, 34892)


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`.

    Raises:
        ZsasError: If it is damaged, too large, or says something that is not supported.
    """
    name = content.name
    with _file(content) as tif:
        page, pages = _chosen(tif, options, name)
        if page.photometric in _RAW or 50706 in page.tags:
            from zsas.images import raw

            return raw.decode(content, options)
        check_size(page.imagelength, page.imagewidth, options.max_pixels, name)
        _check_bytes(page, page.imagelength * page.imagewidth, name)
        _check(page, content.size, name)
        check_segments(page, name)
        if page.compression in (2, 3, 4):
            check_fax(content, page, name)
        raster = tiff_raster(page, _values(page, name), options.bits, name)
        raster.page, raster.pages = max(1, options.page), pages
        if pages == 1 and len(tif.pages) > 1:
            raster.notes.append("its smaller copies were passed over")
    return raster.turned(orientation_of(page))


def decode_window(
    content: Content, box_xyxy: tuple[int, int, int, int], options: ReadOptions
) -> Raster:
    """A part of a page: only the strips or tiles that it touches are decoded.

    Args:
        content: The file.
        box_xyxy: x0, y0, x1, y1 in pixels as they are stored; x1 and y1 exclusive.
        options: `max_pixels` holds for the part.

    Raises:
        ZsasError: As for `decode`; if the box is not inside the image, or the image is stored turned.
    """
    name = content.name
    x0, y0, x1, y1 = box_xyxy
    with _file(content) as tif:
        page, pages = _chosen(tif, options, name)
        if not (0 <= x0 < x1 <= page.imagewidth and 0 <= y0 < y1 <= page.imagelength):
            raise ZsasError(
                f"The window {box_xyxy} is not inside {name}, which has "
                f"{size_text((page.imagelength, page.imagewidth))} pixels."
            )
        check_size(y1 - y0, x1 - x0, options.max_pixels, name)
        _check_bytes(page, (y1 - y0) * (x1 - x0), name)
        _check(page, content.size, name)
        check_segments(page, name)
        if orientation_of(page) != 1 or page.compression in (2, 3, 4):
            raise not_read(name, "is stored turned or as fax codes", "read it as a whole")
        if _unpacked_words(page) is not None:
            raise not_read(name, "has values in words of another length", "read it as a whole")
        raster = tiff_raster(page, _part(page, box_xyxy), options.bits, name)
        raster.page, raster.pages = max(1, options.page), pages
    return raster


def decode_bands(content: Content, options: ReadOptions, most_values: int) -> Iterator[Raster]:
    """A page as it is stored, from top to bottom; every strip or tile is decoded once, or twice.

    Twice where a tag says what is white, and is believed or not by the values of the whole page.

    Args:
        content: The file.
        options: `max_pixels` is not read.
        most_values: How many values a band has at most, if one row has no more.

    Raises:
        ZsasError: See `decode_window`; also where one strip or tile alone is too large.
    """
    name = content.name
    with _file(content) as tif:
        page, pages = _chosen(tif, options, name)
        width, height = page.imagewidth, page.imagelength
        plain = page.is_contiguous and page.compression == 1 and page.bitspersample in (8, 16, 32)
        if not plain:
            _check_bytes(page, width, name)
        _check(page, content.size, name)
        check_segments(page, name)
        if page.compression in (2, 3, 4) or _unpacked_words(page) is not None:
            raise not_read(name, "is too large to be read at once, and stored as codes or words")
        step = max(1, most_values // max(1, width * page.samplesperpixel))
        down = step if plain else page.tilelength or min(page.rowsperstrip, height)
        chunk = max(step // down, 1) * down

        def bands() -> Iterator[NDArray[Any]]:
            for top in range(0, height, chunk):
                bottom = min(top + chunk, height)
                values = _rows(page, top, bottom) if plain else _part(page, (0, top, width, bottom))
                for start in range(0, len(values), step):
                    yield values[start : start + step]

        ends = ends_of(page, bands(), name)
        for part in bands():
            raster = tiff_raster(page, part, options.bits, name, ends)
            raster.page, raster.pages = max(1, options.page), pages
            yield raster


def size_of(content: Content, options: ReadOptions) -> tuple[int, int, int] | None:
    """Height and width of the page asked for, as it is stored, and its orientation; None for a camera's raw file."""
    with _file(content) as tif:
        page, _ = _chosen(tif, options, content.name)
        if page.photometric in _RAW or 50706 in page.tags:
            return None
        return int(page.imagelength), int(page.imagewidth), orientation_of(page)


def _rows(page: Any, top: int, bottom: int) -> NDArray[Any]:
    """Rows of values that lie in the file one behind the other, uncompressed; a strip may be all of them."""
    separate, _, _, width, samples = page.shaped
    dtype = np.dtype(page.parent.byteorder + np.dtype(page.dtype).char)
    start = page.dataoffsets[0]
    stream = page.parent.filehandle
    row, plane = width * samples * dtype.itemsize, page.imagelength * width * samples
    parts = []
    for index in range(separate):
        stream.seek(start + index * plane * dtype.itemsize + top * row)
        data = stream.read((bottom - top) * row)
        parts.append(np.frombuffer(data, dtype).reshape(bottom - top, width, samples))
    values = np.concatenate(parts, axis=2).astype(dtype.newbyteorder("="), copy=False)
    return values[..., 0] if values.shape[2] == 1 else values


def _part(page: Any, box_xyxy: tuple[int, int, int, int]) -> NDArray[Any]:
    x0, y0, x1, y1 = box_xyxy
    separate, _, _, _, samples = page.shaped
    result = np.zeros((separate, y1 - y0, x1 - x0, samples), page.dtype)
    extra = {}
    if page.compression in (6, 7):
        extra = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
    across = page.tilewidth or page.imagewidth
    down = page.tilelength or page.rowsperstrip
    columns, rows = -(-page.imagewidth // across), -(-page.imagelength // down)
    stream = page.parent.filehandle
    for plane in range(separate):
        for row in range(y0 // down, -(-y1 // down)):
            for column in range(x0 // across, -(-x1 // across)):
                index = (plane * rows + row) * columns + column
                stream.seek(page.dataoffsets[index])
                data = stream.read(page.databytecounts[index])
                segment = page.decode(data, index, **extra)[0][0]
                top, left = row * down, column * across
                cut = segment[max(0, y0 - top) : y1 - top, max(0, x0 - left) : x1 - left]
                at_y, at_x = max(0, top - y0), max(0, left - x0)
                room = result[plane, at_y : at_y + len(cut), at_x : at_x + cut.shape[1]]
                room[:] = cut[: room.shape[0], : room.shape[1]]
    values = np.moveaxis(result, 0, 2).reshape(y1 - y0, x1 - x0, -1)
    return values[..., 0] if values.shape[2] == 1 else values


def _chosen(tif: Any, options: ReadOptions, name: str) -> tuple[Any, int]:
    """The page asked for, and how many there are."""
    pages = full_images(tif, name)
    check_page(options.page, len(pages), name)
    page = pages[max(0, options.page - 1)]
    page = tif.pages[page] if isinstance(page, int) else page
    _check_tags(page, name)
    return page, len(pages)


def count(content: Content) -> int:
    """How many full images there are; reduced copies and masks are none.

    Raises:
        ZsasError: If it is damaged.
    """
    with _file(content) as tif:
        return len(full_images(tif, content.name))


@contextlib.contextmanager
def _file(content: Content) -> Iterator[Any]:
    """The open file; whatever a foreign file makes the reader raise is a sentence."""
    require("images")
    import tifffile

    content.stream.seek(0)
    try:
        with tifffile.TiffFile(content.stream, _multifile=False) as tif:
            yield tif
    except ZsasError:
        raise
    except MemoryError:
        raise damaged(content.name) from None
    except Exception as error:
        raise _of_reader(error, content.name) from None


def _of_reader(error: Exception, name: str) -> ZsasError:
    words = str(error).lower()
    if isinstance(error, struct.error):  # "requires a buffer of 4 bytes"
        return damaged(name)
    if isinstance(error, NotImplementedError) or re.search(
        r"not support|unsupported|requires|not implemented|not available|do not match|not a known",
        words,
    ):
        return not_read(name, f"is a TIFF of a kind ({reason(error)})")
    return damaged(name)


_TYPES = {
    **dict.fromkeys((258, 259, 262, 266, 274, 277, 284, 317, 338, 339), (3, 4)),
    **dict.fromkeys((256, 257, 273, 278, 279, 322, 323, 324, 325), (3, 4, 16)),
    320: (3,),
}
"""Types (short, long, long of 64 bits) of the tags that decide about pixels."""


_SINGLE = {256, 257, 259, 262, 266, 274, 277, 278, 284, 317, 322, 323}
"""Tags that hold one value."""


def _check_tags(page: Any, name: str) -> None:
    """Refuse tags that stand twice or have a type they cannot have: readers make different values of them."""
    for code, types in _TYPES.items():
        tags = page.tags.getall(code) or ()
        if len(tags) > 1 or any(int(tag.dtype) not in types for tag in tags):
            raise damaged(name)
        if code in _SINGLE and any(tag.count != 1 for tag in tags):
            raise damaged(name)
    for code, values in ((266, (1, 2)), (284, (1, 2)), (274, range(1, 9)), (317, (1, 2, 3))):
        value = page.tags.valueof(code, values[0])
        if not isinstance(value, int) or value not in values:
            raise not_read(name, f"has the value {value} in its tag {code}")
    bits = page.tags.get(258)
    if bits is not None and bits.count not in (1, page.samplesperpixel):
        raise damaged(name)


def _check_bytes(page: Any, pixels: int, name: str) -> None:
    """Refuse values, or a strip or tile, that take too much memory."""
    rows = min(page.rowsperstrip, page.imagelength) if not page.tilewidth else 0
    segment = max(page.tilewidth * page.tilelength, rows * page.imagewidth)
    itemsize = np.dtype(page.dtype).itemsize if page.dtype is not None else 1
    if max(segment, pixels) * page.samplesperpixel * itemsize > MAX_BYTES:
        raise ZsasError(
            f"{name} would take more than the {MAX_BYTES:,} bytes that are decoded; make it smaller."
        )


def _check(page: Any, size: int, name: str) -> None:
    """Refuse before decoding: out of the file, contradicting itself, or of a kind that is not read."""
    if page.imagedepth > 1 or page.tiledepth > 1:
        raise not_read(name, "is a volume of several layers in one page")
    photometric = photometric_of(page, name)
    if photometric in _KINDS:
        raise not_read(name, _KINDS[photometric], "save it as RGB or grey")
    if photometric not in (0, 1, 2, 3, 5, 6):
        raise not_read(
            name, f"is a TIFF of the colour kind {photometric}", "save it as RGB or grey"
        )
    if len(set(each_of(page.bitspersample))) > 1 or len(set(each_of(page.sampleformat))) > 1:
        raise not_read(name, "has channels of different depths")
    if page.dtype is None or page.sampleformat in (5, 6):
        raise not_read(
            name,
            f"holds {page.bitspersample}-bit values of the sample format {int(page.sampleformat)}",
        )
    offsets = np.asarray(page.dataoffsets, np.float64)
    counts = np.asarray(page.databytecounts, np.float64)
    needed = int(np.prod(page.chunked))
    if len(offsets) < needed or len(counts) < needed:
        raise damaged(name)
    offsets, counts = offsets[:needed], counts[:needed]
    if (counts <= 0).any() or (offsets <= 0).any() or (offsets + counts > size).any():
        raise damaged(name)


def _values(page: Any, name: str) -> NDArray[Any]:
    """(H, W) or (H, W, samples), whatever the planes' order in the file."""
    unpacked = _unpacked_words(page)
    values = page.asarray(squeeze=False, maxworkers=1) if unpacked is None else unpacked
    # (separate samples, depth, H, W, samples side by side)
    values = np.moveaxis(values[:, 0], 0, 2).reshape(*values.shape[2:4], -1)
    if values.dtype.byteorder not in "=|":
        values = values.astype(values.dtype.newbyteorder("="))
    return values[..., 0] if values.shape[2] == 1 else values


def _unpacked_words(page: Any) -> NDArray[Any] | None:
    """10, 12 or 14 bits in words of 16, as some frame grabbers write: twice as long as packed ones would be."""
    bits, shape = page.bitspersample, page.shaped
    if page.compression != 1 or bits not in (9, 10, 11, 12, 13, 14, 15) or page.is_tiled:
        return None
    if sum(page.databytecounts) != 2 * int(np.prod(shape)):
        return None
    stream = page.parent.filehandle
    parts = []
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        stream.seek(offset)
        parts.append(stream.read(length))
    words = np.frombuffer(b"".join(parts), page.parent.byteorder + "u2")
    return words.astype(np.uint16).reshape(shape)
