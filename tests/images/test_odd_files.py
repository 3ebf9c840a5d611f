"""Files that people have and that readers take for something else: a table with their right pixels, and sentences."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.images.builders import (
    DEEP,
    GREY,
    OPACITY,
    RGB,
    H,
    W,
    apart,
    on_white,
    saved,
    stretched,
    three,
    tiff,
)
from zsas.errors import ZsasError
from zsas.images import ReadOptions, count_pages, load_image, read_image

TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x03\0\0\0\0\0\0\0"
"""EXIF that says "upside down"."""
Table = list[tuple[str, bytes, NDArray[np.uint8], int]]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    values: NDArray[Any],
    bits: int = 8,
    colour: int = 0,
    *chunks: tuple[bytes, bytes],
    after: tuple[bytes, bytes] | None = None,
    interlaced: bool = False,
) -> bytes:
    """A PNG by hand, its rows as they are or (8 and 16 bits) in the passes of Adam7."""
    head = struct.pack(">IIBBBBB", W, H, bits, colour, 0, 0, interlaced)
    steps = [(0, 0, 1, 1)]
    if interlaced:
        steps = [
            (0, 0, 8, 8),
            (4, 0, 8, 8),
            (0, 4, 4, 8),
            (2, 0, 4, 4),
            (0, 2, 2, 4),
            (1, 0, 2, 2),
            (0, 1, 1, 2),
        ]
    rows = [row for x, y, dx, dy in steps for row in values[y::dy, x::dx]]
    packed = b"".join(b"\0" + _packed(row, bits) for row in rows)
    parts = [chunk(b"IHDR", head), *(chunk(*each) for each in chunks)]
    parts += [chunk(b"IDAT", zlib.compress(packed))]
    parts += [chunk(*after)] if after else []
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


def _packed(row: NDArray[Any], bits: int) -> bytes:
    if bits >= 8:
        return row.astype(">u2" if bits == 16 else np.uint8).tobytes()
    text = "".join(f"{int(each):0{bits}b}" for each in row)
    text += "0" * (-len(text) % 8)
    return bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8))


def few(bits: int) -> NDArray[np.int64]:
    """The grey plate in few bits."""
    return (GREY.astype(np.int64) * (2**bits - 1) + 127) // 255


def white_where(marked: NDArray[np.bool_], shown: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(marked[..., None], np.uint8(255), shown)


def key(*values: int) -> tuple[bytes, bytes]:
    return b"tRNS", struct.pack(f">{len(values)}H", *values)


LOW_BYTE = RGB.astype(np.uint16) * 257
LOW_BYTE[20:30, 20:30] = [250 * 257, 30 * 257, 20 * 257 + 1]
SCRATCH = np.zeros((H, W), bool)
SCRATCH[8:12, 20:50] = True
LONG_TEXT = (b"zTXt", b"k\0\0" + zlib.compress(b"a" * 3_000_000))
PNGS: Table = [
    *(
        (
            f"PNG, {bits} bits, grey {grey} transparent",
            png(few(bits), bits, 0, key(grey)),
            white_where(few(bits) == grey, stretched(few(bits), 2**bits - 1)),
            0,
        )
        for bits, grey in ((1, 0), (1, 1), (2, 0), (2, 1), (2, 3), (4, 0), (4, 5), (4, 15))
    ),
    (
        "PNG, 16 bits, one grey transparent",
        png(DEEP, 16, 0, key(77 * 257)),
        white_where(GREY == 77, three(GREY)),
        0,
    ),
    (
        "PNG, 16 bits, one colour transparent to its low byte",
        png(LOW_BYTE, 16, 2, key(250 * 257, 30 * 257, 20 * 257)),
        white_where(SCRATCH, np.rint(LOW_BYTE / 257).astype(np.uint8)),
        0,
    ),
    ("PNG, interlaced", png(RGB, 8, 2, interlaced=True), RGB, 0),
    ("PNG, interlaced, 16 bits", png(RGB.astype(np.uint16) * 257, 16, 2, interlaced=True), RGB, 0),
    ("PNG, turned by EXIF", png(GREY[::-1, ::-1], 8, 0, (b"eXIf", TURNED)), three(GREY), 0),
    (
        "PNG, turned by EXIF behind its pixels",
        png(GREY[::-1, ::-1], after=(b"eXIf", TURNED)),
        three(GREY),
        0,
    ),
    (
        "PNG, colour of 16 bits turned by EXIF",
        png(LOW_BYTE[::-1, ::-1], 16, 2, (b"eXIf", TURNED)),
        np.rint(LOW_BYTE / 257).astype(np.uint8),
        0,
    ),
    ("PNG with a text of 3 MB", png(GREY, 8, 0, LONG_TEXT), three(GREY), 0),
    (
        "PNG, gamma and transfer curve not applied",
        png(GREY, 8, 0, (b"gAMA", struct.pack(">I", 100_000)), (b"cICP", bytes([9, 16, 0, 1]))),
        three(GREY),
        0,
    ),
    (
        "PNG with a profile that is none",
        png(GREY, 8, 0, (b"iCCP", b"x\0\0" + zlib.compress(b"none"))),
        three(GREY),
        0,
    ),
    (
        "PNG, black below",
        png(np.where(np.arange(H)[:, None] < 30, GREY, 0)),
        three(np.where(np.arange(H)[:, None] < 30, GREY, 0)),
        0,
    ),
]

FIVES = RGB.astype(int) >> 3
IN_555 = (FIVES[..., 0] << 10 | FIVES[..., 1] << 5 | FIVES[..., 2]).astype("<u2")
OF_555 = np.rint(FIVES * 255 / 31).astype(np.uint8)
BGR = RGB[..., ::-1]


def tga(
    kind: int,
    bits: int,
    pixels: bytes,
    colours: bytes = b"",
    *,
    of: int = 0,
    first: int = 0,
    flags: int = 0x20,
) -> bytes:
    """A TGA with a colour map of entries of `of` bits."""
    number = len(colours) // ((of + 7) // 8) if of else 0
    head = struct.pack(
        "<BBBHHBHHHHBB", 5, bool(colours), kind, first, number, of, 0, 0, W, H, bits, flags
    )
    return head + b"a tga" + colours + pixels


RAMP = bytes(each for i in range(256) for each in (i, 255 - i, i // 2))
OF_RAMP = np.stack([GREY // 2, 255 - GREY, GREY], -1)
FIVE_RAMP = b"".join(struct.pack("<H", i << 10 | i << 5 | i) for i in range(32))
BITMAPS: Table = [
    ("TGA of 15 bits", tga(2, 15, IN_555.tobytes()), OF_555, 1),
    (
        "TGA of 16 bits, alpha bit set",
        tga(2, 16, (IN_555 | 0x8000).tobytes(), flags=0x21),
        OF_555,
        1,
    ),
    ("TGA, right to left", tga(2, 24, BGR[:, ::-1].tobytes(), flags=0x30), RGB, 0),
    ("TGA, from below", tga(2, 24, BGR[::-1].tobytes(), flags=0), RGB, 0),
    ("TGA, colour map", tga(1, 8, GREY.tobytes(), RAMP, of=24), OF_RAMP, 0),
    (
        "TGA, colour map from 10",
        tga(1, 8, (GREY // 2 + 10).tobytes(), RAMP[: 3 * 128], of=24, first=10),
        np.stack([GREY // 2 // 2, 255 - GREY // 2, GREY // 2], -1),
        0,
    ),
    (
        "TGA, colour map of 16 bits",
        tga(1, 8, (GREY // 8).tobytes(), FIVE_RAMP, of=16),
        stretched(GREY // 8, 31),
        1,
    ),
    (
        "TGA, colour map of 32 bits",
        tga(
            1,
            8,
            GREY.tobytes(),
            b"".join(RAMP[3 * i : 3 * i + 3] + b"\xff" for i in range(256)),
            of=32,
        ),
        OF_RAMP,
        0,
    ),
    ("TGA, true colour with a colour map", tga(2, 24, BGR.tobytes(), RAMP, of=24), RGB, 0),
]


def pnm(kind: str, pixels: bytes, white: str = "255\n", size: str = f"{W} {H}\n") -> bytes:
    return f"{kind}\n{size}{white}".encode() + pixels


NETPBMS: Table = [
    (
        "PGM, comments everywhere",
        pnm("P5 # a\n# b", GREY.tobytes(), size=f"{W}# c\n {H} # d\n"),
        three(GREY),
        0,
    ),
    (
        "PAM, grey and alpha",
        f"P7\nWIDTH {W}\n# c\nHEIGHT {H}\nDEPTH 2\nMAXVAL 255\nTUPLTYPE GRAYSCALE_ALPHA\nENDHDR\n".encode()
        + np.dstack([GREY, OPACITY]).tobytes(),
        on_white(three(GREY), OPACITY),
        1,
    ),
]

CODECS: Table = [
    *(
        (
            f"JPEG XL of {bits} bits",
            imagecodecs.jpegxl_encode(
                few(bits).astype(np.uint8 if bits <= 8 else np.uint16),
                lossless=True,
                bitspersample=bits,
            ),
            stretched(few(bits), 2**bits - 1),
            0,
        )
        for bits in (1, 4, 10, 12, 14)
    ),
    (
        "JPEG XL, lossy, of 10 bits",
        imagecodecs.jpegxl_encode(few(10).astype(np.uint16), distance=0.3, bitspersample=10),
        three(GREY),
        4,
    ),
    *(
        (
            f"JPEG 2000 of {bits} bits",
            imagecodecs.jpeg2k_encode(
                few(bits).astype(np.uint8), level=0, reversible=True, bitspersample=bits
            ),
            stretched(few(bits), 2**bits - 1),
            0,
        )
        for bits in (1, 2, 4, 6)
    ),
    (
        "JPEG 2000, alpha declared",
        saved(np.dstack([RGB, OPACITY]), "JPEG2000"),
        on_white(RGB, OPACITY),
        1,
    ),
    (
        "JPEG 2000, a fourth channel",
        imagecodecs.jpeg2k_encode(np.dstack([RGB, OPACITY]), level=0, reversible=True),
        RGB,
        0,
    ),
    ("JPEG-LS", imagecodecs.jpegls_encode(GREY), three(GREY), 0),
    ("JPEG-LS in colour", imagecodecs.jpegls_encode(RGB), RGB, 0),
    ("JPEG-LS of 16 bits", imagecodecs.jpegls_encode(DEEP), three(GREY), 0),
    ("JPEG-LS without its end mark", imagecodecs.jpegls_encode(GREY)[:-2], three(GREY), 0),
]


def without(data: bytes, tag: int) -> bytes:
    """A TIFF whose first directory lacks a tag."""
    at = struct.unpack_from("<I", data, 4)[0]
    number = struct.unpack_from("<H", data, at)[0]
    entries = [data[at + 2 + 12 * i : at + 14 + 12 * i] for i in range(number)]
    kept = [each for each in entries if struct.unpack("<H", each[:2])[0] != tag]
    assert len(kept) < number
    directory = struct.pack("<H", len(kept)) + b"".join(kept) + data[at + 2 + 12 * number :][:4]
    data += bytes(len(data) % 2)
    return data[:4] + struct.pack("<I", len(data)) + data[8:] + directory


TIFFS: Table = [
    ("TIFF that does not say that it is RGB", without(tiff(RGB, photometric="rgb"), 262), RGB, 0),
    ("TIFF without rows in a strip", without(tiff(GREY), 278), three(GREY), 0),
]
TABLE = [*PNGS, *BITMAPS, *NETPBMS, *CODECS, *TIFFS]


@pytest.mark.parametrize(
    ("data", "right", "levels"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_right_pixels(data: bytes, right: NDArray[np.uint8], levels: int) -> None:
    assert apart(load_image(data), right) <= levels


def test_a_fewer_bit_white_is_white() -> None:
    for bits in (1, 2, 4):
        full = np.full((H, W), 2**bits - 1, np.uint8)
        for data in (
            imagecodecs.jpeg2k_encode(full, level=0, reversible=True, bitspersample=bits),
            imagecodecs.jpegxl_encode(full, lossless=True, bitspersample=bits),
        ):
            assert load_image(data).min() == 255


def embedded(packing: int) -> bytes:
    """A bitmap that holds a JPEG (4) or a PNG (5)."""
    inside = saved(RGB, "PNG")
    head = struct.pack("<IiiHHIIiiII", 40, W, H, 1, 0, packing, len(inside), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(inside), 0, 0, 54) + head + inside


def height_at_the_end() -> bytes:
    data = bytearray(saved(RGB, "JPEG"))
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 7] = b"\0\0"
    return bytes(data[:-2]) + b"\xff\xdc\0\4" + struct.pack(">H", H) + b"\xff\xd9"


def with_compression(code: int) -> bytes:
    data = bytearray(tiff(GREY))
    at = data.find(struct.pack("<HHI", 259, 3, 1))
    data[at + 8 : at + 10] = struct.pack("<H", code)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (embedded(4), "holds a JPEG file"),
        (embedded(5), "holds a PNG file"),
        (height_at_the_end(), "height at its end"),
        (without(tiff(GREY), 262), "0 is black or white"),
        (with_compression(999), "999 is not a known"),
        (
            saved(RGB, "PNG")[:8] + chunk(b"CgBI", b"P\0 \2") + saved(RGB, "PNG")[8:],
            "Apple's own form",
        ),
        (tga(1, 8, GREY.tobytes(), RAMP, of=12), "colour map of 12 bits"),
    ],
)
def test_what_is_not_read_is_a_sentence_and_no_damage(data: bytes, words: str) -> None:
    with pytest.raises(ZsasError, match=words) as caught:
        load_image(data)
    assert "not read" in str(caught.value)
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        png(GREY[:20]),
        png(RGB[:47], 8, 2),
        png(GREY[:40], interlaced=True),
        png(few(1)[:9], 1),
        imagecodecs.jpegls_encode(GREY)[:300],
        imagecodecs.jpegls_encode(RGB)[:60],
        tga(1, 8, b"", RAMP[:-1] + b"", of=24)[: 18 + 5 + 700],
    ],
    ids=[
        "rows",
        "one row of colour",
        "interlaced",
        "1 bit",
        "JPEG-LS",
        "JPEG-LS, few bytes",
        "colour map",
    ],
)
def test_missing_pixels_are_refused(data: bytes) -> None:
    with pytest.raises(ZsasError, match="cut off or damaged"):
        load_image(data)


def test_several_netpbm_images_in_one_file_are_pages() -> None:
    data = pnm("P5", GREY.tobytes()) + pnm("P6", RGB.tobytes()) + pnm("P5", (255 - GREY).tobytes())
    assert count_pages(data) == 3
    for page, right in ((0, three(GREY)), (2, RGB), (3, three(255 - GREY))):
        found = read_image(data, ReadOptions(page=page))
        np.testing.assert_array_equal(found.pixels, right)
        assert (found.info.page, found.info.pages) == (max(1, page), 3)
    with pytest.raises(ZsasError, match="has 3 pages, but page 4"):
        load_image(data, page=4)


def test_what_is_left_over_behind_netpbm_pixels_gets_a_word() -> None:
    """Such as a comment, or a line end of Windows, which the format takes for a pixel."""
    for white, words in (
        ("255 # end\n", "6 bytes behind its last pixel were"),
        ("255\r\n", "1 byte behind its last pixel was"),
    ):
        found = read_image(pnm("P5", GREY.tobytes(), white))
        assert found.info.notes == (f"{words} passed over",)


def test_an_orientation_of_xmp_alone_is_not_applied() -> None:
    """Browsers and OpenCV do not read it, and editors leave it behind."""
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:tiff="a" tiff:Orientation="6"/>'
    plain = saved(RGB, "JPEG", quality=95)
    data = plain[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + plain[2:]
    with Image.open(io.BytesIO(data)) as image:
        assert image.getexif().get(0x0112) == 6  # as Pillow has it
    np.testing.assert_array_equal(load_image(data), load_image(plain))
