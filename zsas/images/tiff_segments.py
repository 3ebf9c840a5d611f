"""Strips and tiles of a TIFF that are files of their own: whole, and no larger than the tags say."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError
from zsas.images.content import Content
from zsas.images.raster import damaged, turn
from zsas.images.tiff_pages import orientation_of

_HEAD = 4096


def check_segments(page: Any, name: str) -> None:
    """Refuse what lacks pixels, and what says in its own header that it is larger than its strip or tile.

    Raises:
        ZsasError: See above.
    """
    if page.compression in (6, 7):
        _check_jpegs(page, name)
        return
    size_of = _SIZES.get(int(page.compression))
    if size_of is None:
        return
    rows = page.tilelength or min(page.rowsperstrip, page.imagelength)
    most = rows * (page.tilewidth or page.imagewidth)
    packed = _packed(page)
    room = most * page.samplesperpixel * np.dtype(page.dtype).itemsize + 16 * _HEAD
    for _, head in _segments(page, -1 if packed else _HEAD):
        try:
            height, width = size_of(_unpacked(head, packed, 2 * room) if packed else head)
        except (ZsasError, IndexError, RuntimeError):
            raise damaged(name) from None
        if not 0 < height * width <= most:
            raise damaged(name)


def _packed(page: Any) -> int:
    """How LERC's strips and tiles are packed once more, by LercParameters: 0 not, 1 Deflate, 2 Zstandard."""
    said = page.tags.valueof(50674)
    several = page.compression == 34887 and isinstance(said, tuple) and len(said) > 1
    return int(said[1]) if several else 0


def _unpacked(data: bytes, packed: int, room: int) -> bytes:
    import imagecodecs

    decode: Any = imagecodecs.zlib_decode if packed == 1 else imagecodecs.zstd_decode
    return bytes(decode(data, out=room))[:_HEAD]


def _segments(page: Any, most: int = -1) -> Iterator[tuple[int, bytes]]:
    """Each strip or tile with its number, or its first bytes."""
    stream = page.parent.filehandle
    pairs = zip(page.dataoffsets, page.databytecounts, strict=False)
    for index, (offset, length) in enumerate(pairs):
        stream.seek(offset)
        yield index, stream.read(length if most < 0 else min(length, most))


def _png(head: bytes) -> tuple[int, int]:
    return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")


def _jxl(head: bytes) -> tuple[int, int]:
    from zsas.images.jxl import size_of

    return size_of(head)


def _webp(head: bytes) -> tuple[int, int]:
    from zsas.images.pillow import webp_size

    return webp_size(head, "")


def _jpeg2000(head: bytes) -> tuple[int, int]:
    at = head.index(b"\xff\x4f\xff\x51") if b"\xff\x4f\xff\x51" in head else len(head)
    width, height, left, top = (
        int.from_bytes(head[i : i + 4], "big") for i in range(at + 8, at + 24, 4)
    )
    return height - top, width - left


def _lerc(head: bytes) -> tuple[int, int]:
    """Of the second format; the first is too old to be met in a TIFF."""
    if head[:6] != b"Lerc2 ":
        return 0, 0
    at = 14 if int.from_bytes(head[6:10], "little") >= 3 else 10
    return int.from_bytes(head[at : at + 4], "little"), int.from_bytes(
        head[at + 4 : at + 8], "little"
    )


_SIZES = {
    33003: _jpeg2000,
    33004: _jpeg2000,
    33005: _jpeg2000,
    34712: _jpeg2000,
    34887: _lerc,
    34933: _png,
    50001: _webp,
    50002: _jxl,
    52546: _jxl,
}
"""Height and width in the header of a strip or tile, by compression."""


def check_fax(content: Content, page: Any, name: str) -> None:
    """Refuse fax codes of which two decoders make different pixels; they carry no check of their own.

    Raises:
        ZsasError: See above.
    """
    mine = page.asarray(maxworkers=1).astype(bool)
    same = turn(mine if page.photometric else ~mine, orientation_of(page))
    content.stream.seek(0)
    data = content.read()
    for filling in (0, 255):
        # Pillow leaves what it cannot decode as it was in memory: filled here, so that it shows.
        np.full(mine.size, filling, np.uint8)
        other = _by_pillow(data, page.index)
        if not any(np.array_equal(other, each) for each in (same, mine, ~mine)):
            raise damaged(name)


def _by_pillow(data: bytes, index: int) -> NDArray[np.bool_]:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["TIFF"]) as image:
        while image.tell() < index and image.tell() + 1 < image.n_frames:  # type: ignore[attr-defined]
            image.seek(image.tell() + 1)
        return np.asarray(image.convert("1"))


def _check_jpegs(page: Any, name: str) -> None:
    """Refuse strips and tiles of JPEG that are cut off; decoders fill the rest with grey."""
    from zsas.images.jpeg import is_whole

    decode_segment = page.keyframe.decode
    extra = {"jpegtables": page.jpegtables, "jpegheader": page.keyframe.jpegheader}
    if extra["jpegheader"] is not None:  # the segments have no markers of their own
        return
    for index, data in _segments(page):

        def decode(data: bytes, index: int = index) -> NDArray[Any]:
            return decode_segment(data, index, **extra)[0]

        if data[:2] == b"\xff\xd8" and not is_whole(data, decode):
            raise damaged(name)
