"""JPEG, with all its pixels or refused: where data are missing, decoders fill in grey without a word."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zsas.extras import require
from zsas.images import pillow
from zsas.images.content import Content
from zsas.images.raster import Raster, ReadOptions, check_page, check_size, damaged, not_read

_END = b"\xff\xd9"
_LS = 55
_FILL = np.random.default_rng(0).integers(1, 255, 2048, np.uint8).tobytes()
"""What a decoder reads in place of what is missing, if anything is; no byte of it begins a marker."""


@dataclass
class Frame:
    """What a JPEG's markers say.

    Attributes:
        end: Where the data of the last scan end; the end mark stands there, if there is one.
        ended: Whether there is an end mark.
        process: Lowest four bits of the start-of-frame marker: 0 and 1 sequential, 2 progressive, 3 lossless,
            from 9 arithmetic; 55 is JPEG-LS.
        bits: Bits of a sample.
        height: Rows.
        width: Columns.
        components: Their identifiers.
        missing: Coefficients, (component, frequency), not sent with all their bits.
        adobe: Whether there is Adobe's marker.
        sampling: For each component its horizontal and vertical sampling factor.
        interval: Units between restart markers; 0 for none.
        near: By how much values of JPEG-LS may be wrong.
        orderly: Whether each scan has had all of its restart markers, in order.
    """

    end: int = 0
    ended: bool = False
    process: int = -1
    bits: int = 8
    height: int = 0
    width: int = 0
    components: tuple[int, ...] = ()
    missing: set[tuple[int, int]] = field(default_factory=set)
    adobe: bool = False
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    interval: int = 0
    near: int = 0
    orderly: bool = True


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`.

    Raises:
        ZsasError: If pixels are missing, or it is of a kind that is not read.
    """
    name, data = content.name, content.read()
    pages = _count(data, name)
    check_page(options.page, pages, name)
    if options.page > 1:
        return _further(data, options, pages, name)
    frame = markers(data)
    if frame.process < 0 or not frame.end:
        # Pillow says which it is: no image at all, or one whose header is cut off.
        pillow.header(data, ("JPEG",), options.max_pixels, name).close()
        raise damaged(name)
    if not frame.height:
        raise not_read(name, "is a JPEG that says its height at its end (DNL)")
    check_size(frame.height, frame.width, options.max_pixels, name)
    if frame.process == _LS:
        return _by_charls(data, frame, name)
    if not frame.ended and _has_scans(data[frame.end :]):
        raise damaged(name)
    whole = data[: frame.end] + _END
    if frame.process in (5, 6, 7, 11, 13, 14, 15):
        raise not_read(name, "is a JPEG of a rare kind (hierarchical or lossless arithmetic)")
    raster = (
        _deep(whole, frame, name)
        if frame.bits > 8 or frame.process == 3
        else _usual(whole, frame, options, name)
    )
    raster.format, raster.pages, raster.lossy = "JPEG", pages, frame.process != 3
    return raster


def count(content: Content) -> int:
    """How many images a multi-picture file has; 1 for any other JPEG."""
    return _count(content.read(), content.name)


def markers(data: bytes) -> Frame:
    """What the markers of the first image in `data` say; reading ends at its end mark, or where there is no more."""
    frame = Frame()
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes before a marker are allowed
            at += 1
            continue
        if marker == 0xD9:
            frame.ended = True
            break
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:
            break
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : at + 2 + length]
        if length < 2 or len(body) != length - 2:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and len(body) >= 6:
            _start_of_frame(frame, marker & 0x0F, body)
        if marker == 0xF7 and len(body) >= 6:
            _start_of_frame(frame, _LS, body)
        if marker == 0xDD and len(body) >= 2:
            frame.interval = int.from_bytes(body[:2], "big")
        if marker == 0xEE and body[:5] == b"Adobe":
            frame.adobe = True
        at += 2 + length
        if marker == 0xDA and frame.process == _LS:
            frame.end, frame.near = at, body[-3] if len(body) > 3 else 0
            return frame
        if marker == 0xDA:
            at, restarts = _scan_end(data, at)
            frame.end = at
            _scan(frame, body, restarts)
    if data[at : at + 2] == _END:
        frame.ended = True
    return frame


def is_whole(data: bytes, decode: Callable[[bytes], NDArray[Any]]) -> bool:
    """Whether a JPEG inside another file has all its pixels.

    Args:
        data: From its first marker on.
        decode: Makes pixels of such data.
    """
    frame = markers(data)
    if not frame.end or frame.missing or not frame.orderly:
        return False
    if frame.ended:
        return True
    if frame.process == 3 or frame.process >= 9:
        return False
    body = data[: frame.end]
    return np.array_equal(decode(body + _END), decode(body + _FILL + _END))


def _has_scans(rest: bytes) -> bool:
    """Whether more scans of the same image follow what could be followed: its markers are damaged between."""
    return b"\xff\xda" in rest.partition(b"\xff\xd8\xff")[0]


def _start_of_frame(frame: Frame, process: int, body: bytes) -> None:
    frame.process, frame.bits = process, body[0]
    frame.height = int.from_bytes(body[1:3], "big")
    frame.width = int.from_bytes(body[3:5], "big")
    frame.components = tuple(body[6 : 6 + 3 * body[5] : 3])
    factors = body[7 : 6 + 3 * body[5] : 3]
    frame.sampling = {
        each: (max(1, factor >> 4), max(1, factor & 0x0F))
        for each, factor in zip(frame.components, factors, strict=False)
    }
    frequencies = range(64) if process in (2, 10) else range(1)
    frame.missing = {(each, k) for each in frame.components for k in frequencies}


def _scan(frame: Frame, body: bytes, restarts: list[int]) -> None:
    """A scan sends some coefficients; progressive ones are whole when the approximation is 0."""
    if not body or len(body) < 4 + 2 * body[0]:
        return
    named = body[1 : 1 + 2 * body[0] : 2]
    first, last, approximation = body[-3], body[-2], body[-1] & 0x0F
    if frame.process not in (2, 10):
        first, last, approximation = 0, 0, 0
    if frame.interval and frame.process != 3:
        expected = (_units(frame, named) - 1) // frame.interval
        frame.orderly &= restarts == [i % 8 for i in range(expected)]
    if not approximation:
        frame.missing -= {(each, k) for each in named for k in range(first, last + 1)}


def _units(frame: Frame, named: bytes) -> int:
    """Units of a scan between which restart markers count: blocks of one component, or blocks of all side by side."""
    factors = frame.sampling.values()
    widest, highest = max(h for h, _ in factors), max(v for _, v in factors)
    h, v = (1, 1) if len(named) > 1 else frame.sampling.get(named[0], (1, 1)) if named else (1, 1)
    columns = -(-frame.width * h // (8 * widest))
    rows = -(-frame.height * v // (8 * highest))
    return columns * rows


def _scan_end(data: bytes, at: int) -> tuple[int, list[int]]:
    """Where the entropy-coded data that begin at `at` end, and the numbers of their restart markers.

    They end at a marker that is no restart, or at the file's end.
    """
    restarts: list[int] = []
    while True:
        start = data.find(b"\xff", at)
        if start < 0:
            return len(data), restarts
        at = start + 1
        while data[at : at + 1] == b"\xff":  # a marker may begin with several
            at += 1
        marker = data[at] if at < len(data) else 0xFF
        if 0xD0 <= marker <= 0xD7:
            restarts.append(marker - 0xD0)
        elif marker:
            return start, restarts
        at += 1


def _usual(whole: bytes, frame: Frame, options: ReadOptions, name: str) -> Raster:
    """8 bits, by Pillow; refused where pixels are missing."""
    image = pillow.decoded(pillow.header(whole, ("JPEG",), options.max_pixels, name), name)
    raster = pillow.raster_of(image, name)
    if frame.missing or not frame.orderly:
        raise damaged(name)
    if frame.process >= 9:
        # Arithmetic coding may leave out zeros at the end, so that only the end mark tells.
        if not frame.ended:
            raise damaged(name)
    elif not _is_complete(whole, image, frame.ended and frame.process != 2, name):
        raise damaged(name)
    if raster.colour == "cmyk" and not frame.adobe:
        raster.notes.append("CMYK without Adobe's marker, read as inverted, as Adobe's is")
    return raster


def _is_complete(whole: bytes, image: Image.Image, quick: bool, name: str) -> bool:
    """Whether the data of the last scan reach to the last pixel.

    A decoder reads zeros where data are missing, and passes over data that are too many. So it gives other pixels
    with random bytes before the end mark if pixels are missing, and the same if none is. With an end mark, an eighth
    of the size is compared, which takes half the time and shows all but the last details of a progressive file.
    """
    filled = pillow.header(whole[:-2] + _FILL + _END, ("JPEG",), image.width * image.height, name)
    if quick:
        reduced = pillow.header(whole, ("JPEG",), image.width * image.height, name)
        size = (max(1, image.width // 8), max(1, image.height // 8))
        for each in (filled, reduced):
            each.draft(None, size)
        image = pillow.decoded(reduced, name)
    return bool(np.array_equal(np.asarray(pillow.decoded(filled, name)), np.asarray(image)))


def _deep(whole: bytes, frame: Frame, name: str) -> Raster:
    """12 bits, or lossless with 2 to 16."""
    require("images")
    import imagecodecs

    decoder: Any = imagecodecs.ljpeg_decode if frame.process == 3 else imagecodecs.jpeg8_decode
    values = decoder(whole)
    if frame.missing or not frame.ended:
        raise damaged(name)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.ndim == 3 and values.shape[2] != 3:
        raise not_read(name, f"is a {frame.bits}-bit JPEG of {values.shape[2]} colours")
    return Raster(
        values,
        "grey" if values.ndim == 2 else "rgb",
        2**frame.bits - 1,
        "JPEG",
        frame.bits,
        declared=frame.bits < 16,
    )


def _by_charls(data: bytes, frame: Frame, name: str) -> Raster:
    """JPEG-LS of 2 to 16 bits, as x-ray detectors write it."""
    values = charls(data, frame.end)
    if values.ndim == 3 and values.shape[2] != 3:
        raise not_read(name, f"is a JPEG-LS of {values.shape[2]} colours")
    return Raster(
        values,
        "grey" if values.ndim == 2 else "rgb",
        2**frame.bits - 1,
        "JPEG-LS",
        frame.bits,
        declared=frame.bits < 16,
        lossy=frame.near > 0,
    )


def charls(data: bytes, begin: int = 0) -> Any:
    """The values of a JPEG-LS whose coded data begin at `begin`; raises what imagecodecs raises."""
    require("images")
    import imagecodecs

    # Without an end mark all of the pixels may be there; where they are not, CharLS looks for them for seconds.
    return imagecodecs.jpegls_decode(data if _END in data[begin:] else data + _END)


def _count(data: bytes, name: str) -> int:
    if b"MPF\0" not in data[: 1 << 20]:
        return 1
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            return int(getattr(image, "n_frames", 1))
    except Exception:  # the first image can still be whole
        return 1


def _further(data: bytes, options: ReadOptions, pages: int, name: str) -> Raster:
    """A later image of a multi-picture file."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        image.seek(options.page - 1)
        check_size(image.height, image.width, options.max_pixels, name)
        raster = pillow.raster_of(pillow.decoded(image, name), name)
    raster.format, raster.page, raster.pages, raster.lossy = "JPEG", options.page, pages, True
    return raster
