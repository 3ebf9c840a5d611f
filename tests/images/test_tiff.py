"""TIFF: what its tags say is in the pixels, or refused. Where two other readers agree, they agree with this one."""

from __future__ import annotations

import io
import struct
import time
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
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
    pages,
    saved,
    stored,
    stretched,
    three,
    tiff,
)
from zsas.errors import ZsasError
from zsas.images import (
    ReadOptions,
    count_pages,
    load_image,
    read_image,
    read_mask,
    read_window,
)

ORIENTATION = 274
CMYK = np.dstack([255 - RGB, np.zeros((H, W), np.uint8)])
BLACK_WHITE = GREY >= 100
PALETTE = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16) * 257
SIXTEEN = Image.fromarray(RGB).quantize(16)
RGBA = np.dstack([RGB, OPACITY])
PREMULTIPLIED = np.dstack([np.rint(RGB * (OPACITY / 255)[..., None]).astype(np.uint8), OPACITY])


def twelve() -> NDArray[np.uint16]:
    return GREY.astype(np.uint16) * 16


def in_words(bits: int) -> bytes:
    """BitsPerSample says 10 to 14, but each value has a word of its own."""
    data = bytearray(tiff(twelve()))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        where = file.pages[0].tags[258].valueoffset
    data[where : where + 2] = struct.pack("<H", bits)
    return bytes(data)


def planes(image: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


# (name, file, right pixels, levels they may differ)
TABLE: list[tuple[str, bytes, NDArray[np.uint8], int]] = [
    ("grey", tiff(GREY), three(GREY), 0),
    ("grey of 16 bits", tiff(DEEP), three(GREY), 0),
    ("big-endian", tiff(DEEP, byteorder=">"), three(GREY), 0),
    ("RGB", tiff(RGB, photometric="rgb"), RGB, 0),
    ("RGB of 16 bits", tiff(RGB.astype(np.uint16) * 257, photometric="rgb"), RGB, 0),
    ("BigTIFF", tiff(RGB, photometric="rgb", bigtiff=True), RGB, 0),
    ("tiles", tiff(RGB, photometric="rgb", tile=(32, 32)), RGB, 0),
    ("planes", tiff(planes(RGB), photometric="rgb", planarconfig="separate"), RGB, 0),
    (
        "planes in tiles",
        tiff(
            planes(RGB),
            photometric="rgb",
            planarconfig="separate",
            tile=(32, 32),
            compression="zlib",
        ),
        RGB,
        0,
    ),
    ("predictor", tiff(DEEP, compression="zlib", predictor=2), three(GREY), 0),
    (
        "float predictor",
        tiff((GREY / 255).astype("f4"), compression="zlib", predictor=3),
        three(GREY),
        0,
    ),
    ("white is zero, 8 bits", tiff(255 - GREY, photometric="miniswhite"), three(GREY), 0),
    ("white is zero, 16 bits", tiff(65535 - DEEP, photometric="miniswhite"), three(GREY), 0),
    (
        "white is zero, 1 bit",
        tiff(~BLACK_WHITE, photometric="miniswhite"),
        three(BLACK_WHITE * 255),
        0,
    ),
    (
        "black is zero, 1 bit",
        tiff(BLACK_WHITE, photometric="minisblack"),
        three(BLACK_WHITE * 255),
        0,
    ),
    (
        "white is zero, float",
        tiff(1 - (GREY / 255).astype("f4"), photometric="miniswhite"),
        three(GREY),
        0,
    ),
    ("10 bits packed", tiff(twelve() // 4, bitspersample=10), stretched(twelve() // 4, 1023), 0),
    ("12 bits packed", tiff(twelve(), bitspersample=12), stretched(twelve(), 4095), 0),
    ("14 bits packed", tiff(twelve(), bitspersample=14), stretched(twelve(), 16383), 0),
    ("4 bits packed", tiff(GREY // 16, bitspersample=4), stretched(GREY // 16, 15), 0),
    ("12 bits in words", in_words(12), stretched(twelve(), 4095), 0),
    (
        "12 bits declared by MaxSampleValue",
        tiff(twelve(), extratags=[(281, "H", 1, 4095, True)]),
        stretched(twelve(), 4095),
        0,
    ),
    ("32 bits hold 16", tiff(DEEP.astype(np.uint32)), three(GREY), 0),
    ("float16", tiff((GREY / 255).astype("f2")), three(GREY), 0),
    ("float32", tiff((GREY / 255).astype("f4")), three(GREY), 0),
    ("float64", tiff(GREY / 255), three(GREY), 0),
    (
        "float with declared ends",
        tiff(GREY.astype("f4"), extratags=[(340, "f", 1, 0.0, True), (341, "f", 1, 255.0, True)]),
        three(GREY),
        0,
    ),
    (
        "palette",
        tiff(GREY, photometric="palette", colormap=PALETTE),
        (PALETTE // 257).T[GREY].astype(np.uint8),
        0,
    ),
    (
        "palette of 8 bits",
        tiff(GREY, photometric="palette", colormap=PALETTE // 257),
        (PALETTE // 257).T[GREY].astype(np.uint8),
        0,
    ),
    (
        "palette of 4 bits, colours times 256",
        saved(SIXTEEN, "TIFF"),
        np.asarray(SIXTEEN.convert("RGB")),
        0,
    ),
    ("CMYK", tiff(CMYK, photometric="separated"), RGB, 0),
    ("YCbCr", saved(Image.fromarray(RGB).convert("YCbCr"), "TIFF", compression="tiff_lzw"), RGB, 3),
    (
        "YCbCr in JPEG",
        saved(Image.fromarray(RGB).convert("YCbCr"), "TIFF", compression="jpeg", quality=95),
        RGB,
        24,
    ),
    ("group 3 fax", saved(BLACK_WHITE, "TIFF", compression="group3"), three(BLACK_WHITE * 255), 0),
    ("group 4 fax", saved(BLACK_WHITE, "TIFF", compression="group4"), three(BLACK_WHITE * 255), 0),
    (
        "alpha",
        tiff(RGBA, photometric="rgb", extrasamples=["unassalpha"]),
        on_white(RGB, OPACITY),
        1,
    ),
    (
        "premultiplied",
        tiff(PREMULTIPLIED, photometric="rgb", extrasamples=["assocalpha"]),
        on_white(RGB, OPACITY),
        1,
    ),
    ("alpha that is none", tiff(RGBA, photometric="rgb", extrasamples=["unspecified"]), RGB, 0),
    (
        "alpha 0 everywhere",
        tiff(np.dstack([RGB, 0 * OPACITY]), photometric="rgb", extrasamples=["unassalpha"]),
        RGB,
        0,
    ),
    (
        "grey with alpha",
        tiff(
            np.dstack([GREY, OPACITY]),
            photometric="minisblack",
            planarconfig="contig",
            extrasamples=["unassalpha"],
        ),
        on_white(three(GREY), OPACITY),
        1,
    ),
    (
        "smaller copy first",
        pages(
            (RGB[::4, ::4], {"subfiletype": 1, "photometric": "rgb"}), (RGB, {"photometric": "rgb"})
        ),
        RGB,
        0,
    ),
    (
        "full image in a sub-IFD",
        pages(
            (RGB[::4, ::4], {"subfiletype": 1, "subifds": 1, "photometric": "rgb"}),
            (RGB, {"photometric": "rgb"}),
        ),
        RGB,
        0,
    ),
    *(
        (
            f"{name} in {'tiles' if tile else 'strips'}",
            tiff(RGB, photometric="rgb", compression=name, tile=tile),
            RGB,
            0,
        )
        for name in ("lzw", "zlib", "zstd", "packbits", "lzma", "png", "lerc")
        for tile in (None, (32, 32))
    ),
    (
        "WebP inside",
        tiff(RGB, photometric="rgb", compression="webp", compressionargs={"lossless": True}),
        RGB,
        0,
    ),
    (
        "JPEG XL inside",
        tiff(RGB, photometric="rgb", compression="jpegxl", compressionargs={"lossless": True}),
        RGB,
        0,
    ),
    (
        "JPEG 2000 inside",
        tiff(
            RGB,
            photometric="rgb",
            compression="jpeg2000",
            compressionargs={"level": 0, "reversible": True},
        ),
        RGB,
        0,
    ),
    *(
        (
            f"LERC packed by {name}",
            tiff(DEEP, compression="lerc", compressionargs={"compression": name}, tile=tile),
            three(GREY),
            0,
        )
        for name in ("deflate", "zstd")
        for tile in (None, (32, 32))
    ),
    ("LERC of floats", tiff((GREY / 255).astype("f4"), compression="lerc"), three(GREY), 0),
    *(
        (
            f"{name}, orientation {number}",
            tiff(stored(image, number), extratags=[(ORIENTATION, "H", 1, number, True)], **options),
            right,
            0,
        )
        for name, image, right, options in (
            ("grey", GREY, three(GREY), {}),
            ("16 bits", DEEP, three(GREY), {}),
            ("RGB", RGB, RGB, {"photometric": "rgb", "compression": "lzw"}),
            ("CMYK", CMYK, RGB, {"photometric": "separated"}),
            (
                "palette",
                GREY,
                (PALETTE // 257).T[GREY].astype(np.uint8),
                {"photometric": "palette", "colormap": PALETTE},
            ),
        )
        for number in range(1, 9)
    ),
]


def by_others(data: bytes) -> list[NDArray[np.uint8]]:
    """Pixels by Pillow from a stream, and by OpenCV; of the readers that can read it."""
    found = []
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr"):
                found.append(np.asarray(image.convert("RGB")))
    except Exception:
        pass
    try:
        log = cv2.utils.logging.setLogLevel(0)
        image_bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        cv2.utils.logging.setLogLevel(log)
        found += [] if image_bgr is None else [np.ascontiguousarray(image_bgr[..., ::-1])]
    except cv2.error:
        pass
    return found


@pytest.mark.parametrize(
    ("data", "right", "levels"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_what_the_tags_say_is_in_the_pixels(
    data: bytes, right: NDArray[np.uint8], levels: int
) -> None:
    found = load_image(data)
    assert apart(found, right) <= levels
    others = by_others(data)
    if len(others) == 2 and apart(*others) <= 1 and min(apart(each, right) for each in others) <= 2:
        assert all(apart(found, each) <= max(levels, 2) for each in others)


@pytest.mark.parametrize("way", ["path", "stream", "file", "PIL"])
def test_every_way_gives_the_same_pixels(way: str, tmp_path: Any) -> None:
    data = tiff(stored(GREY, 6), extratags=[(ORIENTATION, "H", 1, 6, True)])
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    with open(path, "rb") as file, Image.open(path) as image:
        source: Any = {"path": path, "stream": io.BytesIO(data), "file": file, "PIL": image}[way]
        np.testing.assert_array_equal(load_image(source), three(GREY))


REFUSED = [
    ("5 bands", tiff(np.stack([GREY] * 5, -1), photometric="minisblack", planarconfig="contig"), "5 bands"),
    ("signed 8 bits", tiff((GREY // 2).astype(np.int8)), "signed 8-bit"),
    ("signed 16 bits", tiff(GREY.astype(np.int16)), "signed 16-bit"),
    ("32 bits above 16", tiff(DEEP.astype(np.uint32) * 2), "--bits"),
    ("negative", tiff(-DEEP.astype(np.int32)), "does not say which is black"),
    ("complex", tiff(GREY.astype(np.complex64)), "sample format 6"),
    ("float of 0 to 255", tiff(GREY.astype(np.float32)), "0 to 1 was expected"),
    ("NaN", tiff(np.full((4, 4), np.nan, np.float32)), "NaN"),
    ("CIE Lab", tiff(RGB, photometric="cielab"), "CIE Lab"),
    ("volume", tiff(np.stack([GREY] * 4), volumetric=True, tile=(4, 32, 32), photometric="minisblack"), "volume"),
    ("transparent", tiff(0 * RGBA, photometric="rgb", extrasamples=["unassalpha"]), "wholly transparent"),
    ("later page", pages((GREY, {}), (GREY, {})), "has 2 pages"),
    ("a beginning alone", b"II*\0", "cut off or damaged"),
    ("cut in the middle", tiff(RGB, photometric="rgb", rowsperstrip=8)[:4000], "cut off or damaged"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_is_not_read_is_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(ZsasError, match=words) as caught:
        load_image(data, page=3 if words == "has 2 pages" else 0)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    "compression",
    ["zlib", "lzw", "zstd", "packbits", "lzma", "jpeg", "webp", "png", "lerc", "jpegxl"],
)
def test_a_strip_that_lacks_its_end_is_refused(compression: str) -> None:
    data = bytearray(tiff(RGB, photometric="rgb", compression=compression, rowsperstrip=H))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        tag = file.pages[0].tags[279]
        length = file.pages[0].databytecounts[0] * 2 // 3
        kind = "<H" if int(tag.dtype) == 3 else "<I"
    data[tag.valueoffset : tag.valueoffset + struct.calcsize(kind)] = struct.pack(kind, length)
    with pytest.raises(ZsasError, match="cut off or damaged"):
        load_image(bytes(data))


def test_each_page_can_be_read_and_is_named() -> None:
    shifted = [np.roll(RGB, 5 * i, axis=0) for i in range(3)]
    data = pages(
        (RGB[::2, ::2], {"subfiletype": 1, "photometric": "rgb"}),
        *((each, {"photometric": "rgb"}) for each in shifted),
    )
    assert count_pages(data) == 3
    for number, right in enumerate(shifted, 1):
        np.testing.assert_array_equal(load_image(data, page=number), right)
    info = read_image(data).info
    assert (info.format, info.page, info.pages, info.bits) == ("TIFF", 1, 3, 8)
    only = "only page 1 of 3 is looked at: zsas segment --page takes another, --page all each"
    assert info.notes == (only,)
    assert read_image(data, ReadOptions(page=1)).info.notes == ()


@pytest.mark.parametrize(
    ("values", "options"),
    [
        (RGB, {"photometric": "rgb", "rowsperstrip": 7}),
        (RGB, {"photometric": "rgb", "tile": (16, 32), "compression": "zlib", "predictor": 2}),
        (planes(RGB), {"photometric": "rgb", "planarconfig": "separate", "tile": (16, 16)}),
        (RGB, {"photometric": "rgb", "tile": (16, 16), "compression": "jpeg"}),
        (DEEP, {"tile": (16, 16)}),
        (65535 - DEEP, {"photometric": "miniswhite", "compression": "lzw"}),
    ],
)
@pytest.mark.parametrize("box", [(0, 0, W, H), (0, 0, 1, 1), (13, 5, 49, 41), (W - 3, H - 3, W, H)])
def test_a_window_is_the_part_of_the_whole(
    values: NDArray[Any], options: dict[str, Any], box: tuple[int, int, int, int]
) -> None:
    data = tiff(values, **options)
    x0, y0, x1, y1 = box
    right = load_image(data)[y0:y1, x0:x1]
    np.testing.assert_array_equal(read_window(data, box).pixels, right)


def test_a_window_of_an_image_above_the_limit_can_be_read() -> None:
    data = tiff(RGB, photometric="rgb", tile=(16, 16))
    few = ReadOptions(max_pixels=200, reduce_up_to=0)
    with pytest.raises(ZsasError, match="at most 200"):
        read_image(data, few)
    assert read_window(data, (10, 10, 20, 30), few).pixels.shape == (20, 10, 3)
    with pytest.raises(ZsasError, match="is not inside"):
        read_window(data, (10, 10, W + 1, 30), few)
    with pytest.raises(ZsasError, match="is no TIFF"):
        read_window(saved(RGB, "PNG"), (0, 0, 1, 1))


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_pages_of_a_long_stack_are_found_at_once(options: dict[str, Any]) -> None:
    small = [np.full((4, 4), i % 256, np.uint8) for i in range(500)]
    data = pages(
        *((each, {"subfiletype": i % 2, "metadata": None}) for i, each in enumerate(small)),
        **options,
    )
    assert count_pages(data) == 250
    begun = time.perf_counter()
    assert [load_image(data, page=page)[0, 0, 0] for page in (1, 2, 250)] == [0, 2, 498 % 256]
    assert time.perf_counter() - begun < 2


def test_a_stack_of_imagej_is_counted() -> None:
    data = tiff(np.stack([DEEP, DEEP // 2]), imagej=True)
    assert count_pages(data) == 2
    assert apart(load_image(data, page=2), three(GREY // 2)) <= 1


def test_a_mask_is_read_by_the_same_rules() -> None:
    marked = GREY > 200
    for data in (
        tiff(~marked, photometric="miniswhite"),
        tiff((~marked).astype(np.uint16) * 65535, photometric="miniswhite"),
        tiff(stored(marked * np.uint8(255), 8), extratags=[(ORIENTATION, "H", 1, 8, True)]),
        tiff(marked.astype(np.float32)),
        tiff(marked * np.uint8(255), compression="jpeg", compressionargs={"level": 60}),
    ):
        np.testing.assert_array_equal(read_mask(data, (H, W)), marked)
