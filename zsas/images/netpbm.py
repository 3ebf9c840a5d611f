"""PBM, PGM, PPM, PAM and PFM. The maximum in the header decides what white is, not the brightest pixel.

A file may hold several images, one behind the other (of the kinds in bytes); each is a page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError
from zsas.images.content import Content, unreadable
from zsas.images.raster import Raster, ReadOptions, check_page, check_size, damaged, not_read

_FIELD = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")
_NEXT = re.compile(rb"\s*(P[1-7Ff][\s#])")
_MOST_HEAD = 4096
_MOST_PAGES = 100_000


@dataclass(frozen=True)
class _Head:
    """A header.

    Attributes:
        kind: The letter or digit behind the P.
        shape: (H, W) or (H, W, channels).
        white: The maximum; for PFM the scale.
        begin: Where the pixels begin.
        size: Bytes of the pixels; -1 where they are written in digits.
        tuples: What a PAM's channels are.
    """

    kind: str
    shape: tuple[int, ...]
    white: float
    begin: int
    size: int
    tuples: str = ""


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`.

    Raises:
        ZsasError: If it is cut off, too large, or holds values above its maximum.
    """
    name, data = content.name, content.read()
    heads = list(_heads(data, name))
    check_page(options.page, len(heads), name)
    head = heads[max(1, options.page) - 1]
    check_size(head.shape[0], head.shape[1], options.max_pixels, name)
    raster = _pixels(data, head, name)
    raster.page, raster.pages = max(1, options.page), len(heads)
    last = heads[-1]
    behind = len(data[last.begin + last.size :].strip()) if last.size >= 0 else 0
    if behind and len(data) >= last.begin + last.size:
        many = (
            "bytes behind its last pixel were" if behind > 1 else "byte behind its last pixel was"
        )
        raster.notes.append(f"{behind:,} {many} passed over")
    return raster


def count(content: Content) -> int:
    """How many images there are.

    Raises:
        ZsasError: If the first header cannot be read.
    """
    return len(list(_heads(content.read(), content.name)))


def _heads(data: bytes, name: str) -> Iterator[_Head]:
    """The first image's header, and those of whole images behind it."""
    head = _head(data, 0, name)
    yield head
    for _ in range(_MOST_PAGES if head.size >= 0 else 0):
        end = head.begin + head.size
        found = _NEXT.match(data, end)
        if found is None:
            return
        try:
            head = _head(data, found.start(1), name)
        except ZsasError:
            return
        if head.size < 0 or len(data) < head.begin + head.size:
            return
        yield head


def _head(data: bytes, start: int, name: str) -> _Head:
    kind = chr(data[start + 1])
    if kind == "7":
        return _pam_head(data, start, name)
    fields, at = _fields(data, start + 2, 2 if kind in "14" else 3, name)
    try:
        width, height = int(fields[0]), int(fields[1])
        white = float(fields[2]) if kind in "Ff" else int(fields[2]) if len(fields) > 2 else 1
    except ValueError:
        raise unreadable(name) from None
    if kind not in "Ff" and not 0 < white < 65536:
        raise unreadable(name)
    shape = (height, width, 3) if kind in "36F" else (height, width)
    if kind in "123":
        size = -1
    elif kind == "4":
        size = height * ((width + 7) // 8)
    else:
        size = math.prod(shape) * (4 if kind in "Ff" else _type(white).itemsize)
    return _Head(kind, shape, white, at, size)


def _fields(data: bytes, at: int, count: int, name: str) -> tuple[list[bytes], int]:
    """The header's next fields, and where the pixels begin."""
    fields = []
    for _ in range(count):
        found = _FIELD.match(data, at)
        if found is None or len(found[1]) > 32:
            raise unreadable(name)
        fields.append(found[1])
        at = found.end()
    return fields, at + 1


def _pam_head(data: bytes, start: int, name: str) -> _Head:
    text, end, _ = data[start : start + _MOST_HEAD].partition(b"ENDHDR\n")
    if not end:
        raise unreadable(name)
    fields = dict(
        line.split(None, 1)
        for line in text.splitlines()[1:]
        if line.strip() and not line.startswith(b"#") and b" " in line.strip()
    )
    try:
        width, height = int(fields[b"WIDTH"]), int(fields[b"HEIGHT"])
        depth, white = int(fields[b"DEPTH"]), int(fields[b"MAXVAL"])
    except (KeyError, ValueError):
        raise unreadable(name) from None
    kind = fields.get(b"TUPLTYPE", b"").strip().decode("ascii", "replace")
    by_depth = {1: "GRAYSCALE", 2: "GRAYSCALE_ALPHA", 3: "RGB", 4: "RGB_ALPHA"}
    if not 0 < white < 65536 or depth < 1 or width < 1 or height < 1:
        raise unreadable(name)
    size = width * height * depth * _type(white).itemsize
    begin = start + len(text) + len(end)
    return _Head(
        "7", (height, width, depth), white, begin, size, kind or by_depth.get(depth, "unknown")
    )


def _pixels(data: bytes, head: _Head, name: str) -> Raster:
    if head.kind == "7":
        return _pam(data, head, name)
    if head.kind in "Ff":
        return _floats(data, head, name)
    if head.kind in "123":
        values = _numbers(data[head.begin :], head.shape, head.kind == "1", name)
    elif head.kind == "4":
        height, width = head.shape
        packed = _array(data, head, np.dtype(np.uint8), (height, (width + 7) // 8), name)
        values = np.unpackbits(packed, axis=1)[:, :width]
    else:
        values = _array(data, head, _type(head.white), head.shape, name)
    if head.kind in "14":
        values = 1 - values  # 1 is ink
    return _raster(values, int(head.white), name)


def _type(white: float) -> np.dtype[np.unsignedinteger]:
    return np.dtype(np.uint8) if white < 256 else np.dtype(">u2")


def _raster(values: NDArray[Any], white: int, name: str) -> Raster:
    if values.dtype.byteorder == ">":
        values = values.astype(np.uint16)
    if values.max() > white:
        raise ZsasError(
            f"{name} holds values up to {values.max():,}, but its header says that {white:,} is the most; "
            "mend the maximum in its header."
        )
    return Raster(
        values,
        "grey" if values.ndim == 2 else "rgb",
        white,
        "Netpbm",
        white.bit_length(),
        declared=white != 65535,
    )


def _array(
    data: bytes, head: _Head, kind: np.dtype[np.generic], shape: tuple[int, ...], name: str
) -> NDArray[Any]:
    number = math.prod(shape)
    if len(data) < head.begin + number * kind.itemsize:
        raise damaged(name)
    return np.frombuffer(data, kind, number, head.begin).reshape(shape)


def _numbers(text: bytes, shape: tuple[int, ...], single: bool, name: str) -> NDArray[Any]:
    """Values written in digits; those of PBM need no space between them."""
    if b"#" in text:
        text = re.sub(rb"#[^\n]*", b"", text)
    number = math.prod(shape)
    if single:
        digits = np.frombuffer(re.sub(rb"\s+", b"", text), np.uint8)[:number]
        values = digits.astype(np.int64) - ord("0")
        bad = bool((values > 1).any())
    else:
        try:
            values = np.array(text.split(maxsplit=number)[:number], dtype=np.int64)
        except (ValueError, OverflowError):
            raise damaged(name) from None
        bad = bool((values > 65535).any())
    if len(values) < number or bad or (values < 0).any():
        raise damaged(name)
    return values.astype(np.uint16).reshape(shape)


def _floats(data: bytes, head: _Head, name: str) -> Raster:
    """PFM: rows from below; the sign of the scale is the byte order."""
    if abs(head.white) != 1:
        raise not_read(
            name, f"has values in units of {abs(head.white):g}", "save it with the scale 1 or -1"
        )
    values = _array(data, head, np.dtype("<f4" if head.white < 0 else ">f4"), head.shape, name)
    colour: Literal["grey", "rgb"] = "grey" if len(head.shape) == 2 else "rgb"
    return Raster(values[::-1].astype(np.float32), colour, None, "Netpbm", 32)


def _pam(data: bytes, head: _Head, name: str) -> Raster:
    depth, white = head.shape[2], int(head.white)
    base = head.tuples.removesuffix("_ALPHA")
    channels = {"BLACKANDWHITE": 1, "GRAYSCALE": 1, "RGB": 3}.get(base, 0)
    with_alpha = head.tuples.endswith("_ALPHA")
    if not channels or depth != channels + with_alpha:
        raise not_read(name, f"holds {depth} channels of the kind {head.tuples}")
    values = _array(data, head, _type(white), head.shape, name)
    raster = _raster(values[..., :channels] if channels == 3 else values[..., 0], white, name)
    if with_alpha:
        raster.alpha, raster.alpha_white = values[..., -1].astype(np.uint16), white
        raster.alpha = np.minimum(raster.alpha, white)
    return raster
