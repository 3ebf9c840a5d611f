"""The other formats: a table of files with their right pixels, and what is refused in a sentence."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
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
)
from zsas.errors import ZsasError
from zsas.images import count_pages, load_image, read_image
from zsas.images.formats import FORMATS, recognised, suffixes

BLACK_WHITE = GREY >= 100
PALETTED = Image.fromarray(RGB).quantize(64)
OF_PALETTE = np.asarray(PALETTED.convert("RGB"))
ALPHA = on_white(RGB, OPACITY)
OTHER = Image.fromarray(255 - RGB)
LA = np.dstack([GREY, OPACITY])
LA_ON_WHITE = on_white(three(GREY), OPACITY)
RGBA = np.dstack([RGB, OPACITY])
HIDDEN = np.dstack([RGB, 0 * OPACITY])
TWELVE = GREY.astype(np.uint16) * 16


def bmp(alpha: NDArray[np.uint8], mask: int, compression: int = 3, header: int = 124) -> bytes:
    """32 bits a pixel, with a V5 header (124), V4 (108) or the plain one (40)."""
    pixels = np.dstack([RGB[..., ::-1], alpha])[::-1].tobytes()
    head = struct.pack("<IiiHHIIiiII", header, W, H, 1, 32, compression, len(pixels), 0, 0, 0, 0)
    if header > 40:
        head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, mask) + b"BGRs"
        head += bytes(header - len(head))
    at = 14 + len(head)
    return b"BM" + struct.pack("<IHHI", at + len(pixels), 0, 0, at) + head + pixels


def tga(alpha: NDArray[np.uint8], bits: int, attribute: int | None = None) -> bytes:
    """32 bits a pixel, with so many alpha bits by the header and a kind of alpha by the extension area."""
    head = struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, W, H, 32, bits | 0x20)
    data = head + np.dstack([RGB[..., ::-1], alpha]).tobytes()
    if attribute is None:
        return data
    area = bytearray(495)
    area[:2], area[494] = struct.pack("<H", 495), attribute
    return data + bytes(area) + struct.pack("<II", len(data), 0) + b"TRUEVISION-XFILE.\0"


def netpbm(kind: str, white: int | None, pixels: bytes) -> bytes:
    text = f"{kind}\n# made\n{W} {H}\n" + ("" if white is None else f"{white}\n")
    return text.encode() + pixels


def pam(depth: int, white: int, kind: str, pixels: bytes) -> bytes:
    head = f"P7\nWIDTH {W}\nHEIGHT {H}\nDEPTH {depth}\nMAXVAL {white}\nTUPLTYPE {kind}\nENDHDR\n"
    return head.encode() + pixels


def heic(image: NDArray[np.uint8], **options: Any) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(image)).save(stream, quality=-1, chroma=444, **options)
    return stream.getvalue()


def jxl(values: NDArray[Any], **options: Any) -> bytes:
    return imagecodecs.jpegxl_encode(values, lossless=True, **options)


def jp2(values: NDArray[Any], **options: Any) -> bytes:
    return imagecodecs.jpeg2k_encode(values, level=0, reversible=True, **options)


def png(values: NDArray[Any]) -> bytes:
    return imagecodecs.png_encode(values)


ONES = b"\n".join(b"".join(b"01"[i : i + 1] for i in row) for row in (~BLACK_WHITE).astype(int))
# (name, file, right pixels, levels they may differ)
TABLE: list[tuple[str, bytes, NDArray[np.uint8], int]] = [
    ("PNG", png(RGB), RGB, 0),
    ("PNG, grey of 16 bits", png(DEEP), three(GREY), 0),
    ("PNG, RGB of 16 bits", png(RGB.astype(np.uint16) * 257), RGB, 0),
    ("PNG, RGBA of 16 bits", png(RGBA.astype(np.uint16) * 257), ALPHA, 1),
    ("PNG, grey and alpha of 16 bits", png(LA.astype(np.uint16) * 257), LA_ON_WHITE, 1),
    ("PNG, grey and alpha", png(LA), LA_ON_WHITE, 1),
    ("PNG, palette", saved(PALETTED, "PNG"), OF_PALETTE, 0),
    ("PNG, 1 bit", saved(BLACK_WHITE, "PNG"), three(BLACK_WHITE * 255), 0),
    ("PNG, one grey transparent", saved(GREY, "PNG", transparency=77), three(np.where(GREY == 77, 255, GREY)), 0),
    ("PNG, alpha 0 everywhere", png(HIDDEN), RGB, 0),
    ("PNG, animated", saved(RGB, "PNG", save_all=True, append_images=[OTHER]), RGB, 0),
    ("BMP", saved(RGB, "BMP"), RGB, 0),
    ("BMP, palette", saved(PALETTED, "BMP"), OF_PALETTE, 0),
    ("BMP, 1 bit", saved(BLACK_WHITE, "BMP"), three(BLACK_WHITE * 255), 0),
    ("BMP, alpha", bmp(OPACITY, 0xFF000000), ALPHA, 1),
    ("BMP, alpha 0 everywhere", bmp(0 * OPACITY, 0xFF000000), RGB, 0),
    ("BMP, fourth byte without a mask", bmp(OPACITY, 0), RGB, 0),
    ("BMP, fourth byte of a plain header", bmp(0 * OPACITY, 0, 0, 40), RGB, 0),
    ("BMP, no bit fields", bmp(0 * OPACITY, 0xFF000000, 0, 108), RGB, 0),
    ("bare bitmap", saved(RGB, "DIB"), RGB, 0),
    ("TGA", saved(RGB, "TGA"), RGB, 0),
    ("TGA, run lengths", saved(RGB, "TGA", compression="tga_rle"), RGB, 0),
    ("TGA, palette", saved(PALETTED, "TGA"), OF_PALETTE, 0),
    ("TGA, alpha", tga(OPACITY, 8), ALPHA, 1),
    ("TGA, 0 alpha bits", tga(OPACITY, 0), RGB, 0),
    ("TGA, 0 alpha bits, all 0", tga(0 * OPACITY, 0), RGB, 0),
    ("TGA, alpha 0 everywhere", tga(0 * OPACITY, 8), RGB, 0),
    ("TGA, alpha declared undefined", tga(OPACITY, 8, 2), RGB, 0),
    ("TGA, alpha declared useful", tga(OPACITY, 8, 3), ALPHA, 1),
    ("GIF", saved(PALETTED, "GIF"), OF_PALETTE, 0),
    ("WebP, lossless", saved(RGB, "WEBP", lossless=True), RGB, 0),
    ("WebP, alpha 0 everywhere", saved(HIDDEN, "WEBP", lossless=True, exact=True), RGB, 0),
    ("WebP, animated", saved(RGB, "WEBP", lossless=True, save_all=True, append_images=[OTHER]), RGB, 0),
    ("AVIF", saved(RGB, "AVIF", quality=95, subsampling="4:4:4"), RGB, 16),
    ("HEIC", heic(RGB), RGB, 4),
    ("JPEG 2000", jp2(RGB), RGB, 0),
    ("JPEG 2000, bare codestream", jp2(RGB, codecformat="j2k"), RGB, 0),
    ("JPEG 2000, 16 bits", jp2(DEEP), three(GREY), 0),
    ("JPEG 2000, 12 bits", jp2(TWELVE, bitspersample=12), stretched(TWELVE, 4095), 0),
    ("JPEG XL", jxl(RGB), RGB, 0),
    ("JPEG XL in a container", jxl(RGB, usecontainer=True), RGB, 0),
    ("JPEG XL, 16 bits", jxl(DEEP), three(GREY), 0),
    ("JPEG XL, float", jxl((GREY / 255).astype("f4")), three(GREY), 0),
    ("JPEG XL, alpha", jxl(RGBA), ALPHA, 1),
    ("JPEG XL, lossy", imagecodecs.jpegxl_encode(RGB, distance=0.5), RGB, 32),
    ("PGM", netpbm("P5", 255, GREY.tobytes()), three(GREY), 0),
    ("PGM, maximum 1023", netpbm("P5", 1023, (TWELVE // 4).astype(">u2").tobytes()), stretched(TWELVE // 4, 1023), 0),
    ("PGM, maximum 65535, dark", netpbm("P5", 65535, GREY.astype(">u2").tobytes()), stretched(GREY, 65535), 0),
    ("PGM, maximum 100", netpbm("P5", 100, (GREY // 3).tobytes()), stretched(GREY // 3, 100), 1),
    ("PGM in digits", netpbm("P2", 255, " ".join(map(str, GREY.ravel())).encode()), three(GREY), 0),
    ("PPM", netpbm("P6", 255, RGB.tobytes()), RGB, 0),
    ("PPM in digits", netpbm("P3", 255, "\n".join(map(str, RGB.ravel())).encode()), RGB, 0),
    ("PBM", netpbm("P4", None, np.packbits(~BLACK_WHITE, axis=1).tobytes()), three(BLACK_WHITE * 255), 0),
    ("PBM in digits", netpbm("P1", None, ONES), three(BLACK_WHITE * 255), 0),
    ("PAM, RGB", pam(3, 255, "RGB", RGB.tobytes()), RGB, 0),
    ("PAM, RGBA", pam(4, 255, "RGB_ALPHA", RGBA.tobytes()), ALPHA, 1),
    ("PAM, 1 is white", pam(1, 1, "BLACKANDWHITE", BLACK_WHITE.tobytes()), three(BLACK_WHITE * 255), 0),
    ("PFM, grey", b"Pf\n%d %d\n-1.0\n" % (W, H) + (GREY / 255).astype("<f4")[::-1].tobytes(), three(GREY), 0),
    ("PFM, colour", b"PF\n%d %d\n1.0\n" % (W, H) + (RGB / 255).astype(">f4")[::-1].tobytes(), RGB, 0),
]  # fmt: skip


NAMES = [row[0] for row in TABLE]


@pytest.mark.parametrize(("data", "right", "levels"), [row[1:] for row in TABLE], ids=NAMES)
def test_the_right_pixels(data: bytes, right: NDArray[np.uint8], levels: int) -> None:
    found = read_image(data)
    assert apart(found.pixels, right) <= levels
    assert found.info.format in {each.name for each in FORMATS if each.reader}


@pytest.mark.parametrize(
    "data",
    [row[1] for row in TABLE if "digits" not in row[0]],
    ids=[row[0] for row in TABLE if "digits" not in row[0]],
)
def test_half_a_file_is_refused(data: bytes) -> None:
    with pytest.raises(ZsasError, match=r"cut off or damaged|not an image that can be read"):
        load_image(data[: len(data) // 2])


NOT_READ = {
    "Photoshop": b"8BPS\0\1",
    "OpenEXR": b"v/1\x01\2\0\0\0",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "PDF": b"%PDF-1.7\n",
    "SVG": b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "icon": b"\0\0\1\0\1\0\x10\x10\0\0",
    "QOI": b"qoif\0\0\0\1",
    "FITS": b"SIMPLE  =                    T / made",
    "film": b"\0\0\0\x18ftypisom\0\0\0\0isomavc1",
}


@pytest.mark.parametrize("name", NOT_READ)
def test_what_is_not_supported_is_never_called_damaged(name: str) -> None:
    with pytest.raises(ZsasError, match=f"format {name}, which is not read") as caught:
        load_image(NOT_READ[name] + bytes(200))
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (netpbm("P5", 100, GREY.tobytes()), "its header says that 100 is the most"),
        (jp2(GREY.astype(np.int16)), "signed"),
        (png(0 * RGBA), "wholly transparent"),
        (saved(Image.new("RGBA", (4, 4)), "WEBP", lossless=True), "wholly transparent"),
        (b"BM" + bmp(OPACITY, 0)[2:30] + b"\4" + bmp(OPACITY, 0)[31:], "holds a JPEG"),
        (b"Pf\n4 4\n-2.0\n" + bytes(64), "units of 2"),
        (pam(5, 255, "MADE", bytes(5 * H * W)), "5 channels of the kind MADE"),
    ],
)
def test_what_is_not_read_is_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(ZsasError, match=words) as caught:
        load_image(data)
    assert str(caught.value).endswith(".")
    assert "damaged" not in str(caught.value)


def huge_webp() -> bytes:
    body = b"\x10\0\0\0" + (16382).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + body


@pytest.mark.parametrize(
    "data",
    [
        huge_webp(),
        netpbm("P5", 255, b"").replace(b"%d %d" % (W, H), b"60000 60000"),
        b"\xff\x0a"
        + (2 << 1 | 60_000 << 3 | 1 << 21).to_bytes(8, "little"),  # 60,001 high and as wide
        bmp(OPACITY, 0)[:18] + struct.pack("<ii", 60_000, 60_000) + bmp(OPACITY, 0)[26:],
    ],
)
def test_the_size_is_told_before_anything_is_decoded(data: bytes) -> None:
    with pytest.raises(ZsasError, match=r"at most 50,000,000|than the 50,000,000"):
        load_image(data)


@pytest.mark.parametrize(
    "data",
    [
        saved(RGB, "PNG", save_all=True, append_images=[Image.fromarray(255 - RGB)]),
        saved(
            RGB, "WEBP", lossless=True, save_all=True, append_images=[Image.fromarray(255 - RGB)]
        ),
        jxl(np.stack([RGB, 255 - RGB])),
    ],
    ids=["PNG", "WebP", "JPEG XL"],
)
def test_each_frame_can_be_read(data: bytes) -> None:
    assert count_pages(data) == 2
    for page, right in ((0, RGB), (1, RGB), (2, 255 - RGB)):
        found = read_image(data, options(page))
        np.testing.assert_array_equal(found.pixels, right)
        assert (found.info.page, found.info.pages) == (max(1, page), 2)
        assert any("only page 1 of 2" in note for note in found.info.notes) == (page == 0)
    with pytest.raises(ZsasError, match="has 2 pages, but page 3"):
        read_image(data, options(3))


def test_frames_that_are_only_named_are_not_counted() -> None:
    data = bytearray(saved(RGB, "PNG", save_all=True, append_images=[OTHER]))
    at = data.find(b"acTL")
    data[at + 4 : at + 8] = (2**31 - 1).to_bytes(4, "big")
    data[at + 12 : at + 16] = zlib.crc32(data[at : at + 12]).to_bytes(4, "big")
    assert count_pages(bytes(data)) <= 3


def options(page: int) -> Any:
    from zsas.images import ReadOptions

    return ReadOptions(page=page)


@pytest.mark.parametrize("name", ["png", "tiff"])
def test_deep_values_that_use_fewer_bits_get_a_word_and_a_setting(name: str) -> None:
    data = png(TWELVE) if name == "png" else imagecodecs.tiff_encode(TWELVE)
    found = read_image(data)
    brightest = int(TWELVE.max())
    assert found.info.notes == (
        f"brightest value {brightest:,} of 65,535: a 12-bit camera? --bits 12",
    )
    assert apart(found.pixels, stretched(TWELVE, 65535)) == 0
    as_said = load_image(data, bits=12)
    np.testing.assert_array_equal(as_said, stretched(TWELVE, 4095))
    with pytest.raises(ZsasError, match="1,023 is the most that 10 bits hold"):
        load_image(data, bits=10)


def test_bits_say_nothing_about_8_bits() -> None:
    np.testing.assert_array_equal(load_image(png(RGB), bits=12), RGB)
    np.testing.assert_array_equal(load_image(RGB, bits=12), RGB)


def test_bits_scale_deep_arrays_and_floats() -> None:
    for values in (TWELVE, TWELVE.astype(np.int32), TWELVE.astype(np.float32)):
        np.testing.assert_array_equal(load_image(values, bits=12), stretched(TWELVE, 4095))


def test_a_bright_deep_image_has_no_note() -> None:
    assert read_image(png(DEEP)).info.notes == ()


@pytest.mark.parametrize(("page", "bits"), [(-1, 0), (0, -1), (0, 33)])
def test_impossible_options_are_refused(page: int, bits: int) -> None:
    with pytest.raises(ZsasError, match="cannot be read"):
        load_image(RGB, page=page, bits=bits)


def test_file_objects_are_read_from_their_beginning_and_left_where_they_were(
    tmp_path: Path,
) -> None:
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "PNG")
    where = stream.tell()
    np.testing.assert_array_equal(load_image(stream), RGB)
    assert stream.tell() == where
    (tmp_path / "a.png").write_bytes(stream.getvalue())
    with open(tmp_path / "a.png", "rb") as file:
        np.testing.assert_array_equal(load_image(file), RGB)
    with (
        open(tmp_path / "a.png", encoding="latin-1") as text,
        pytest.raises(ZsasError, match='"rb"'),
    ):
        load_image(text)  # type: ignore[arg-type]
    with pytest.raises(ZsasError, match="is empty"):
        load_image(io.BytesIO())
    np.testing.assert_array_equal(load_image(bytearray(stream.getvalue())), RGB)  # type: ignore[arg-type]


def test_the_suffixes_are_those_of_the_readers() -> None:
    known = suffixes()
    for suffix, plugin in Image.registered_extensions().items():
        if any(plugin in each.pillow for each in FORMATS):
            assert suffix in known
    for suffix in (".apng", ".dib", ".jpx", ".jxl", ".heic", ".avif", ".pfm", ".dcm", ".dng"):
        assert suffix in known
    read = suffixes(read=True)
    assert {".png", ".heic", ".tif", ".dcm", ".dng"} <= read < known
    assert not {".psd", ".svg", ".eps"} & read
    assert not {".eps", ".txt", ".json"} & {each for each in known if each in (".txt", ".json")}


def test_each_format_has_a_reader_or_a_name() -> None:
    import importlib

    for each in FORMATS:
        if each.reader:
            module = importlib.import_module(f"zsas.images.{each.reader}")
            assert callable(module.decode)
            assert callable(module.count)
    assert recognised(b"no image at all, by any means") is None
