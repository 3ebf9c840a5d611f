"""JPEG XL, read by imagecodecs; its size and codec are told from the header."""

from __future__ import annotations

from typing import Any

import numpy as np

from zsas.extras import require
from zsas.images.content import Content, unreadable
from zsas.images.raster import Raster, ReadOptions, check_page, check_size, damaged, not_read


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`.

    Raises:
        ZsasError: If it is damaged, too large, or of a kind that is not read.
    """
    require("images")
    import imagecodecs

    name, data = content.name, content.read()
    height, width, lossy = _header(_codestream(data), name)
    check_size(height, width, options.max_pixels, name)
    try:
        values: Any = imagecodecs.jpegxl_decode(data)
    except Exception:  # a foreign file can make a decoder raise anything
        raise damaged(name) from None
    pages = _frames(values)
    check_page(options.page, pages, name)
    if pages > 1:
        values = values[max(1, options.page) - 1]
    alpha = None
    if values.ndim == 3 and values.shape[2] in (2, 4):
        values, alpha = values[..., :-1], values[..., -1]
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3) or (values.ndim == 3 and values.shape[2] != 3):
        raise not_read(name, f"has the shape {values.shape}")
    kind = values.dtype
    white = {"u1": 255, "u2": 65535}.get(kind.str[1:])
    return Raster(
        values,
        "grey" if values.ndim == 2 else "rgb",
        white,
        "JPEG XL",
        8 * kind.itemsize,
        declared=kind != np.uint16,
        alpha=alpha,
        alpha_white=white or 1,
        lossy=lossy,
        pages=pages,
        page=max(1, options.page),
    )


def count(content: Content) -> int:
    """How many frames there are; they are counted by decoding them."""
    return decode(content, ReadOptions()).pages


def size_of(data: bytes) -> tuple[int, int]:
    """Height and width by the header.

    Raises:
        ZsasError: If there is none.
    """
    return _header(_codestream(data), "")[:2]


def _frames(values: Any) -> int:
    """Of (frames, H, W, channels); a still image has one axis less."""
    return int(values.shape[0]) if values.ndim == 4 else 1


def _codestream(data: bytes) -> bytes:
    """The beginning of the codestream, out of its container if it is in one."""
    if data[:2] == b"\xff\x0a":
        return data[:64]
    at = 0
    while at + 8 <= len(data):
        size, kind, header = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], 8
        if size == 1:
            size, header = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        if kind == b"jxlc":
            return data[at + header : at + header + 64]
        if kind == b"jxlp":
            return data[at + header + 4 : at + header + 68]
        if size < header:
            break
        at += size
    return b""


def _header(stream: bytes, name: str) -> tuple[int, int, bool]:
    """Height, width, and whether the codec may change values (ISO/IEC 18181-1, SizeHeader and ImageMetadata)."""
    if len(stream) < 4:
        raise unreadable(name)
    bits, at = int.from_bytes(stream[2:], "little"), 0

    def take(count: int) -> int:
        nonlocal at
        value = bits >> at & ((1 << count) - 1)
        at += count
        return value

    def length(small: bool) -> int:
        return 8 * (take(5) + 1) if small else take((9, 13, 18, 30)[take(2)]) + 1

    small = bool(take(1))
    height = length(small)
    ratio = take(3)
    if ratio:
        over, under = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio - 1]
        width = height * over // under
    else:
        width = length(small)
    return height, width, _may_be_lossy(take)


def _may_be_lossy(take: Any) -> bool:
    """False only where the metadata are short enough to be sure that no XYB is used."""
    if take(1):  # all by default, XYB among it
        return True
    if take(1):  # orientation, animation and more
        return True
    if take(1):  # float samples
        return True
    if take(2) == 3:  # bits of a sample: 8, 10, 12 or else
        take(6)
    take(1)  # modular with 16 bits
    extra = take(2)
    if extra > 1 or (extra == 1 and not take(1)):  # more than one plain alpha channel
        return True
    return bool(take(1))
