"""JPEG: all pixels, or refused; whether the end mark is there does not decide it."""

from __future__ import annotations

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.images.builders import GREY, RGB, apart, saved, stretched, three
from zsas.errors import ZsasError
from zsas.images import count_pages, load_image, read_image

NOISE = np.random.default_rng(0).integers(0, 256, 300, np.uint8).tobytes()
CMYK = Image.fromarray(np.dstack([255 - RGB, 0 * GREY]), "CMYK")
KINDS: dict[str, bytes] = {
    "usual": saved(RGB, "JPEG"),
    "grey": saved(GREY, "JPEG"),
    "fine": saved(RGB, "JPEG", quality=97, subsampling=0),
    "progressive": saved(RGB, "JPEG", progressive=True),
    "restart markers": saved(RGB, "JPEG", restart_marker_blocks=2),
    "CMYK": saved(CMYK, "JPEG", quality=95),
    "thumbnail": saved(
        RGB, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0" + saved(GREY, "JPEG")
    ),
}
ENDS = {
    "no end mark": lambda whole: whole[:-2],
    "half an end mark": lambda whole: whole[:-1],
    "zeros for the end mark": lambda whole: whole[:-2] + bytes(500),
    "FF for the end mark": lambda whole: whole[:-2] + b"\xff" * 50,
    "garbage for the end mark": lambda whole: whole[:-2] + NOISE,
    "garbage behind": lambda whole: whole + NOISE,
    "another file behind": lambda whole: whole + saved(255 - RGB, "JPEG"),
}


def whole_pixels(data: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS)
def test_complete_pixels_are_read_whatever_stands_at_the_end(kind: str, end: str) -> None:
    whole = KINDS[kind]
    np.testing.assert_array_equal(load_image(ENDS[end](whole)), whole_pixels(whole))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", [0.1, 0.5, 0.75, 0.9, 0.98])
@pytest.mark.parametrize("mark", [b"", b"\xff\xd9"], ids=["bare", "with an end mark"])
def test_a_cut_file_is_refused_even_where_an_end_mark_was_added(
    kind: str, left: float, mark: bytes
) -> None:
    data = KINDS[kind]
    with pytest.raises(ZsasError, match="cut off or damaged"):
        load_image(data[: int(len(data) * left)] + mark)


def test_a_lost_restart_interval_is_refused() -> None:
    data = KINDS["restart markers"]
    first, second = data.find(b"\xff\xd0"), data.find(b"\xff\xd1")
    with pytest.raises(ZsasError, match="cut off or damaged"):
        load_image(data[:first] + data[second:])


def test_damaged_markers_between_scans_are_refused() -> None:
    data = KINDS["progressive"]
    second = data.find(b"\xff\xda", data.find(b"\xff\xda") + 2)
    tables = data.rfind(b"\xff\xc4", 0, second)
    broken = data[: tables + 1] + b"\x01" + data[tables + 2 :]
    with pytest.raises(ZsasError, match="cut off or damaged"):
        load_image(broken)


def test_cmyk_without_adobes_marker_is_read_as_with_it_and_said() -> None:
    data = KINDS["CMYK"]
    at = data.find(b"\xff\xee")
    bare = data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    assert apart(load_image(data), RGB) < 24
    np.testing.assert_array_equal(load_image(bare), load_image(data))
    (note,) = read_image(bare).info.notes
    assert "without Adobe's marker" in note
    assert not read_image(data).info.notes


def test_of_several_pictures_in_one_file_the_first_is_examined() -> None:
    data = saved(RGB, "MPO", save_all=True, append_images=[Image.fromarray(255 - RGB)])
    assert count_pages(data) == 2
    info = read_image(data).info
    assert (info.format, info.bits, info.page, info.pages, info.notes) == ("JPEG", 8, 1, 2, ())
    np.testing.assert_array_equal(load_image(data), whole_pixels(KINDS["usual"]))
    assert apart(load_image(data, page=2), 255 - RGB) < 100
    np.testing.assert_array_equal(load_image(data[:-200]), whole_pixels(KINDS["usual"]))
    with pytest.raises(ZsasError, match="has 2 pages, but page 3"):
        load_image(data, page=3)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_one_without_its_end_mark_is_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(RGB, "JPEG", exif=exif)
    turned = np.rot90(whole_pixels(data), {3: 2, 6: -1, 8: 1}[orientation])
    np.testing.assert_array_equal(load_image(data[:-2]), turned)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_jpeg_of_any_depth(bits: int) -> None:
    values = np.rint(GREY / 255 * (2**bits - 1)).astype(np.uint16 if bits > 8 else np.uint8)
    data = imagecodecs.ljpeg_encode(values, bitspersample=bits)
    np.testing.assert_array_equal(load_image(data), stretched(values, 2**bits - 1))
    with pytest.raises(ZsasError, match="cut off or damaged"):
        load_image(data[: len(data) // 2])


def test_lossy_jpeg_of_12_bits() -> None:
    values: Any = GREY.astype(np.uint16) * 16
    data = imagecodecs.jpeg8_encode(values, bitspersample=12, level=95)
    assert read_image(data).info.bits == 12
    assert apart(load_image(data), stretched(values, 4095)) <= 12


def test_a_pil_image_of_one_without_its_end_mark() -> None:
    with Image.open(io.BytesIO(KINDS["fine"][:-2])) as image:
        np.testing.assert_array_equal(load_image(image), whole_pixels(KINDS["fine"]))
    assert three(GREY).shape == load_image(KINDS["grey"]).shape
