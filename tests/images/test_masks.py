"""Masks: one rule for every container."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from PIL import Image

from tests.images.builders import H, W, saved, tiff
from zsas.errors import ZsasError
from zsas.images import read_mask

MARKED = np.zeros((H, W), bool)
MARKED[10:20, 30:45] = True
WHITE = MARKED * np.uint8(255)
BLACK_AND_WHITE = [0, 0, 0, 255, 255, 255]
WHITE_FIRST = [255, 255, 255, 0, 0, 0]


SOFT = Image.fromarray(WHITE)
for _x in range(30, 45):
    SOFT.putpixel((_x, 10), 90)
    SOFT.putpixel((_x, 19), 200)


def paletted(index: Any, colours: list[int]) -> Image.Image:
    image = Image.fromarray(np.asarray(index, np.uint8), "P")
    image.putpalette(colours)
    return image


def heic(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=60)
    return stream.getvalue()


MASKS: list[tuple[str, bytes]] = [
    *((f"grey {kind}", saved(WHITE, kind)) for kind in ("PNG", "BMP", "TIFF", "GIF", "TGA", "PPM")),
    *((f"1 bit {kind}", saved(MARKED, kind)) for kind in ("PNG", "BMP", "TIFF", "PPM")),
    ("labels 0 and 1", saved(MARKED * np.uint8(1), "PNG")),
    ("16 bits", saved(MARKED.astype(np.uint16), "PNG")),
    ("RGB", saved(np.dstack([WHITE, 0 * WHITE, 0 * WHITE]), "PNG")),
    ("opaque alpha", saved(np.dstack([WHITE] * 3 + [0 * WHITE + 255]), "PNG")),
    *(
        (f"{name} {kind}", saved(paletted(index, colours), kind))
        for kind in ("PNG", "BMP", "TIFF", "GIF", "TGA")
        for name, index, colours in (
            ("black first", MARKED, BLACK_AND_WHITE),
            ("white first", ~MARKED, WHITE_FIRST),
            ("white first, nearly", ~MARKED, [252, 253, 254, 2, 1, 0]),
            ("labels in dark red", MARKED, [0, 0, 0, 128, 0, 0]),
            ("labels in a grey ramp", MARKED, [0, 0, 0, 1, 1, 1, 255, 255, 255]),
        )
    ),
    ("black twice", saved(paletted(np.where(MARKED, 2, np.arange(W) % 2), [0, 0, 0, *BLACK_AND_WHITE]), "PNG")),
    ("white twice", saved(paletted(np.where(MARKED, np.arange(W) % 2, 2), [255, 255, 255, *WHITE_FIRST]), "PNG")),
    ("labels in an empty palette", saved(paletted(MARKED, [0, 0, 0, 0, 0, 0]), "PNG")),
    ("quantised", saved(Image.fromarray(WHITE).convert("RGB").quantize(2), "PNG")),
    ("adaptive", saved(Image.fromarray(WHITE).convert("P", palette=Image.Palette.ADAPTIVE), "PNG")),
    *(
        (f"soft edges in {number} greys", saved(SOFT.convert("RGB").quantize(number), "PNG"))
        for number in (4, 8, 16)
    ),
    ("JPEG", saved(WHITE, "JPEG", quality=60)),
    ("lossy WebP", saved(Image.fromarray(WHITE).convert("RGB"), "WEBP", quality=60)),
    ("lossless WebP of labels", saved(Image.fromarray(MARKED * np.uint8(1)).convert("RGB"), "WEBP", lossless=True)),
    ("AVIF", saved(Image.fromarray(WHITE).convert("RGB"), "AVIF", quality=70)),
    ("HEIC", heic(Image.fromarray(WHITE).convert("RGB"))),
    ("lossy JPEG 2000", imagecodecs.jpeg2k_encode(WHITE, level=40)),
    ("lossless JPEG 2000 of labels", imagecodecs.jpeg2k_encode(MARKED * np.uint8(1), level=0, reversible=True)),
    ("lossy JPEG XL", imagecodecs.jpegxl_encode(WHITE, distance=2)),
    ("lossless JPEG XL of labels", imagecodecs.jpegxl_encode(MARKED * np.uint8(1), lossless=True)),
    ("TIFF with white 0", tiff(~MARKED, photometric="miniswhite")),
    ("TIFF with white 0, 16 bits", tiff((~MARKED).astype(np.uint16) * 65535, photometric="miniswhite")),
    ("TIFF with JPEG", tiff(WHITE, compression="jpeg", compressionargs={"level": 60})),
    ("TIFF of floats", tiff(MARKED.astype(np.float32))),
    ("TIFF of 32 bits", tiff(MARKED.astype(np.int32))),
]  # fmt: skip


@pytest.mark.parametrize("data", [data for _, data in MASKS], ids=[name for name, _ in MASKS])
def test_the_same_mask_by_one_rule(data: bytes) -> None:
    np.testing.assert_array_equal(read_mask(data, (H, W)), MARKED)


def test_the_codec_decides_and_not_the_suffix(tmp_path: Any) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(saved(WHITE, "JPEG", quality=60))
    np.testing.assert_array_equal(read_mask(path, (H, W)), MARKED)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_mask(image, (H, W)), MARKED)
    other = tmp_path / "mask.jpg"
    other.write_bytes(saved(MARKED * np.uint8(1), "PNG"))
    np.testing.assert_array_equal(read_mask(other, (H, W)), MARKED)


@pytest.mark.parametrize("white_first", [True, False])
def test_a_mask_without_a_mark_in_either_order(white_first: bool) -> None:
    image = paletted(np.full((H, W), white_first), WHITE_FIRST if white_first else BLACK_AND_WHITE)
    assert not read_mask(saved(image, "PNG"), (H, W)).any()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (saved(np.dstack([WHITE] * 4), "PNG"), "partly transparent"),
        (saved(paletted(MARKED, BLACK_AND_WHITE), "PNG", transparency=0), "partly transparent"),
        (saved(Image.fromarray(WHITE).convert("CMYK"), "TIFF"), "CMYK"),
        (saved(Image.fromarray(WHITE).convert("CMYK"), "JPEG"), "CMYK"),
        (tiff(MARKED.astype(np.int16)), "signed"),
        (tiff(-MARKED.astype(np.int32)), "signed"),
        (tiff(np.where(MARKED, np.nan, 0).astype(np.float32)), "NaN"),
        (saved(MARKED * np.uint8(3), "JPEG", quality=95), "lossy JPEG whose brightest value is"),
    ],
)
def test_what_cannot_be_a_mask_is_a_sentence(data: bytes, words: str) -> None:
    with pytest.raises(ZsasError, match=words) as caught:
        read_mask(data, (H, W))
    assert str(caught.value).endswith(".")
