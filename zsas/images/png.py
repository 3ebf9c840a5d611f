"""What Pillow does not read of a PNG as it is meant: missing rows, deep colours, one transparent grey."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from zsas.extras import require
from zsas.images.raster import Raster, damaged, not_read, without_alpha

_BEGIN = 8
_LEFT_OUT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""Texts and colour profiles: nothing of them is used, and Pillow refuses an image whose texts are long."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""Adam7: first column, first row, and steps of each pass."""


def prepared(data: bytes, name: str) -> bytes:
    """The same file without texts and profiles.

    Raises:
        ZsasError: If it is of Apple's own kind, whose pixels are packed in another way.
    """
    if data[12:16] == b"CgBI":
        raise not_read(name, "is a PNG in Apple's own form (CgBI)", "save it as a common PNG")
    kept, end, dropped = [data[:_BEGIN]], _BEGIN, False
    for kind, start, stop in _chunks(data):
        end = stop
        if kind in _LEFT_OUT:
            dropped = True
        else:
            kept.append(data[start:stop])
    return b"".join([*kept, data[end:]]) if dropped else data


def set_key(data: bytes, image: Image.Image) -> None:
    """Scale a transparent grey of 2 or 4 bits, as Pillow does with the pixels alone."""
    key = image.info.get("transparency")
    if data[25] == 0 and data[24] in (2, 4) and isinstance(key, int):
        image.info["transparency"] = key * (255 // (2 ** data[24] - 1))


def check_rows(data: bytes, image: Image.Image, name: str) -> None:
    """Refuse an image whose data end before its last pixel; Pillow leaves such pixels 0 without a word.

    Raises:
        ZsasError: See above.
    """
    interlaced = data[28] == 1
    if not interlaced and np.asarray(image.crop((0, image.height - 1, *image.size))).any():
        return
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    bits = data[24] * _CHANNELS.get(data[25], 1)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    expected = sum(_length(width, height, bits, *each) for each in passes)
    unpacker, found = zlib.decompressobj(), 0
    for kind, start, stop in _chunks(data):
        if kind != b"IDAT":
            continue
        left = data[start + 8 : stop - 4]
        while left and found < expected:
            found += len(unpacker.decompress(left, 1 << 24))
            left = unpacker.unconsumed_tail
    if found < expected:
        raise damaged(name)


def deep(data: bytes, image: Image.Image) -> Raster:
    """Colour of 16 bits, of which Pillow keeps 8; Pillow has found the file whole before."""
    require("images")
    import imagecodecs

    values, alpha = without_alpha(imagecodecs.png_decode(data))
    key = image.info.get("transparency")
    if alpha is None and isinstance(key, tuple) and len(key) == 3:
        alpha = np.where((values == np.array(key)).all(axis=2), 0, 65535)
    colour: Any = "grey" if values.ndim == 2 else "rgb"
    white = 65535
    return Raster(
        values, colour, white, "", bits=16, declared=False, alpha=alpha, alpha_white=white
    )


def _length(width: int, height: int, bits: int, left: int, top: int, across: int, down: int) -> int:
    """Bytes of a pass, with a byte for each row's filter."""
    columns, rows = -(-(width - left) // across), -(-(height - top) // down)
    return rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, beginning and end of each chunk that is whole."""
    at = _BEGIN
    while at + 12 <= len(data):
        stop = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if stop > len(data):
            return
        yield data[at + 4 : at + 8], at, stop
        at = stop
