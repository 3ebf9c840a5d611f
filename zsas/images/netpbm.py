"""PBM, PGM, PPM, PAM and PFM. The maximum in the header decides what white is, not the brightest pixel."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError
from zsas.images.content import Content, unreadable
from zsas.images.raster import Raster, ReadOptions, check_page, check_size, damaged, not_read

_FIELD = re.compile(rb"(?:\s|#[^\n]*\n)*([^\s#]+)")


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`; of several images in one file, the first.

    Raises:
        ZsasError: If it is cut off, too large, or holds values above its maximum.
    """
    name, data = content.name, content.read()
    check_page(options.page, 1, name)
    if data[:2] == b"P7":
        return _pam(data, options, name)
    kind = chr(data[1])
    fields, at = _fields(data, 2 if kind in "14" else 3, name)
    try:
        width, height = int(fields[0]), int(fields[1])
        top = float(fields[2]) if kind in "Ff" else int(fields[2]) if len(fields) > 2 else 1
    except ValueError:
        raise unreadable(name) from None
    check_size(height, width, options.max_pixels, name)
    shape = (height, width, 3) if kind in "36F" else (height, width)
    if kind in "Ff":
        return _floats(data[at:], shape, top, name)
    white = int(top)
    if not 0 < white < 65536:
        raise unreadable(name)
    if kind in "123":
        values = _numbers(data[at:], shape, kind == "1", name)
    elif kind == "4":
        row = (width + 7) // 8
        packed = _array(data, at, np.dtype(np.uint8), (height, row), name)
        values = np.unpackbits(packed, axis=1)[:, :width]
    else:
        values = _array(data, at, _type(white), shape, name)
    if kind in "14":
        values = 1 - values  # 1 is ink
    return _raster(values, white, name)


def count(content: Content) -> int:
    """1: only the first image of a file is read."""
    return 1


def _type(white: int) -> np.dtype[np.unsignedinteger]:
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


def _fields(data: bytes, count: int, name: str) -> tuple[list[bytes], int]:
    """The header's next fields, and where the pixels begin."""
    fields, at = [], 2
    for _ in range(count):
        found = _FIELD.match(data, at)
        if found is None or len(found[1]) > 32:
            raise unreadable(name)
        fields.append(found[1])
        at = found.end()
    return fields, at + 1


def _array(
    data: bytes, at: int, kind: np.dtype[np.generic], shape: tuple[int, ...], name: str
) -> NDArray[Any]:
    number = int(np.prod(shape))
    if len(data) < at + number * kind.itemsize:
        raise damaged(name)
    return np.frombuffer(data, kind, number, at).reshape(shape)


def _numbers(text: bytes, shape: tuple[int, ...], single: bool, name: str) -> NDArray[Any]:
    """Values written in digits; those of PBM need no space between them."""
    if b"#" in text:
        text = re.sub(rb"#[^\n]*", b"", text)
    number = int(np.prod(shape))
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


def _floats(data: bytes, shape: tuple[int, ...], scale: float, name: str) -> Raster:
    """PFM: rows from below; the sign of the scale is the byte order."""
    if abs(scale) != 1:
        raise not_read(
            name, f"has values in units of {abs(scale):g}", "save it with the scale 1 or -1"
        )
    values = _array(data, 0, np.dtype("<f4" if scale < 0 else ">f4"), shape, name)
    colour: Literal["grey", "rgb"] = "grey" if len(shape) == 2 else "rgb"
    return Raster(values[::-1].astype(np.float32), colour, None, "Netpbm", 32)


def _pam(data: bytes, options: ReadOptions, name: str) -> Raster:
    head, end, _ = data[:4096].partition(b"ENDHDR\n")
    if not end:
        raise unreadable(name)
    fields = dict(
        line.split(None, 1)
        for line in head.splitlines()[1:]
        if line.strip() and not line.startswith(b"#") and b" " in line.strip()
    )
    try:
        width, height = int(fields[b"WIDTH"]), int(fields[b"HEIGHT"])
        depth, white = int(fields[b"DEPTH"]), int(fields[b"MAXVAL"])
    except (KeyError, ValueError):
        raise unreadable(name) from None
    check_size(height, width, options.max_pixels, name)
    kind = fields.get(b"TUPLTYPE", b"").strip().decode("ascii", "replace")
    by_depth = {1: "GRAYSCALE", 2: "GRAYSCALE_ALPHA", 3: "RGB", 4: "RGB_ALPHA"}
    kind = kind or by_depth.get(depth, "")
    base = kind.removesuffix("_ALPHA")
    channels = {"BLACKANDWHITE": 1, "GRAYSCALE": 1, "RGB": 3}.get(base, 0)
    with_alpha = kind.endswith("_ALPHA")
    if not channels or depth != channels + with_alpha or not 0 < white < 65536:
        raise not_read(name, f"holds {depth} channels of the kind {kind or 'unknown'}")
    values = _array(data, len(head) + len(end), _type(white), (height, width, depth), name)
    raster = _raster(values[..., :channels] if channels == 3 else values[..., 0], white, name)
    if with_alpha:
        raster.alpha, raster.alpha_white = values[..., -1].astype(np.uint16), white
        raster.alpha = np.minimum(raster.alpha, white)
    return raster
