"""JPEG 2000: 8 bits by Pillow, deeper ones by imagecodecs, whose values are those of the file."""

from __future__ import annotations

from typing import Any

import numpy as np

from zsas.extras import require
from zsas.images import pillow
from zsas.images.content import Content, unreadable
from zsas.images.raster import Raster, ReadOptions, check_page, check_size, not_read, without_alpha


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`.

    Raises:
        ZsasError: If it is damaged, too large, or of a kind that is not read.
    """
    name, data = content.name, content.read()
    check_page(options.page, 1, name)
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or len(data) < start + 46:
        raise unreadable(name)
    width, height, left, top = (
        int.from_bytes(data[at : at + 4], "big") for at in range(start + 8, start + 24, 4)
    )
    check_size(height - top, width - left, options.max_pixels, name)
    components = int.from_bytes(data[start + 40 : start + 42], "big")
    depths = data[start + 42 : start + 42 + 3 * components : 3]
    if any(each & 0x80 for each in depths):
        raise not_read(name, "holds signed values", "save it with values from 0")
    if len(set(depths)) > 1:
        raise not_read(name, "has channels of different depths")
    bits = (depths[0] & 0x7F) + 1 if depths else 8
    # Pillow fills up values of fewer bits with zeros, so that white is not white.
    raster = _usual(data, options.max_pixels, name) if bits == 8 else _deep(data, bits, name)
    _set_alpha(raster, data[:start])
    coding = data.find(b"\xff\x52", start)
    raster.format, raster.lossy = (
        "JPEG 2000",
        coding > 0 and data[coding + 13 : coding + 14] != b"\1",
    )
    return raster


def _set_alpha(raster: Raster, boxes: bytes) -> None:
    """Keep as alpha what the channel definition box calls opacity alone (ISO/IEC 15444-1, I.5.3.6)."""
    if raster.alpha is None:
        return
    at = boxes.rfind(b"cdef")
    number = int.from_bytes(boxes[at + 4 : at + 6], "big") if at >= 0 else 0
    entries = boxes[at + 6 : at + 6 + 6 * number]
    kinds = {int.from_bytes(entries[i + 2 : i + 4], "big") for i in range(0, len(entries), 6)}
    if not kinds & {1, 2}:
        raster.alpha = None
        raster.notes.append("a channel that is neither colour nor alpha passed over")
    raster.premultiplied = 2 in kinds


def count(content: Content) -> int:
    """1: a file holds one image."""
    return 1


def _usual(data: bytes, max_pixels: int, name: str) -> Raster:
    image = pillow.header(data, ("JPEG2000",), max_pixels, name)
    return pillow.raster_of(pillow.decoded(image, name), name)


def _deep(data: bytes, bits: int, name: str) -> Raster:
    require("images")
    import imagecodecs

    values: Any = imagecodecs.jpeg2k_decode(data)
    if values.ndim == 3 and values.shape[2] == 4 and b"colr\1\0\0\0\0\0\x0c" in data[:4096]:
        raise not_read(name, f"is CMYK of {bits} bits")
    values, alpha = without_alpha(values)
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise not_read(name, f"has the shape {values.shape}")
    white = 2**bits - 1
    if alpha is not None:
        alpha = np.minimum(alpha, white)
    return Raster(
        values,
        "grey" if values.ndim == 2 else "rgb",
        white,
        "JPEG 2000",
        bits,
        declared=bits != 16,
        alpha=alpha,
        alpha_white=white,
    )
