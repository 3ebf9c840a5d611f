from __future__ import annotations

import io
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zsas.errors import ZsasError
from zsas.images import (
    ReadOptions,
    find_images,
    load_image,
    read_image,
    read_mask,
    scan_images,
)

# Top left red, top right green, bottom left blue, bottom right white: every turn looks different.
PHOTO = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
PHOTO = PHOTO.repeat(8, axis=0).repeat(12, axis=1)


def saved(folder: Path, name: str, image: Image.Image, **options: object) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tiff", "a.ppm", "a.tga"])
def test_a_lossless_file_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, name, Image.fromarray(PHOTO))
    image = load_image(path)
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, PHOTO)
    np.testing.assert_array_equal(load_image(str(path)), PHOTO)


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.avif", "a.jp2"])
def test_a_lossy_file_comes_back_nearly_as_it_was(tmp_path: Path, name: str) -> None:
    grey = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    image = load_image(saved(tmp_path, name, Image.fromarray(grey).convert("RGB"), quality=95))
    assert np.abs(image.astype(int) - grey[..., None]).mean() < 4


def test_the_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", Image.fromarray(PHOTO))
    np.testing.assert_array_equal(load_image(path.rename(tmp_path / "a.jpg")), PHOTO)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_rotation_is_applied(tmp_path: Path, orientation: int) -> None:
    # What a camera stores so that a viewer shows PHOTO.
    stored = {
        1: PHOTO,
        2: PHOTO[:, ::-1],
        3: PHOTO[::-1, ::-1],
        4: PHOTO[::-1],
        5: PHOTO.transpose(1, 0, 2),
        6: np.rot90(PHOTO),
        7: PHOTO[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PHOTO, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, "a.png", Image.fromarray(np.ascontiguousarray(stored)), exif=exif)
    np.testing.assert_array_equal(load_image(path), PHOTO)


def test_unreadable_exif_does_not_spoil_a_photo(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.jpg", Image.fromarray(PHOTO), exif=b"Exif\x00\x00broken", quality=100)
    assert load_image(path).shape == PHOTO.shape


def test_cmyk_ink_becomes_light(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.tiff", Image.new("CMYK", (3, 2), (255, 0, 0, 0)))
    assert load_image(path)[0, 0].tolist() == [0, 255, 255]


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    assert load_image(saved(tmp_path, "a.png", image)).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_a_palette_with_a_transparent_colour_lies_on_white(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 50])
    path = saved(tmp_path, "a.png", image, transparency=0)
    assert load_image(path).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [100, 100, 100, 51]]], np.uint8)
    expected = [[[255] * 3, [0] * 3, [224] * 3]]
    assert load_image(saved(tmp_path, "a.png", Image.fromarray(rgba))).tolist() == expected
    assert load_image(rgba).tolist() == expected


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_sixteen_bits_are_scaled_and_not_cut(tmp_path: Path, name: str) -> None:
    deep = np.array([[0, 257, 257 * 100, 65535]], np.uint16)
    path = saved(tmp_path, name, Image.fromarray(deep))
    assert load_image(path)[..., 0].tolist() == [[0, 1, 100, 255]]
    assert load_image(deep)[..., 2].tolist() == [[0, 1, 100, 255]]


def test_integers_of_32_bits_hold_16_however_bright_they_are(tmp_path: Path) -> None:
    grey = np.array([[0, 1, 100, 255]], np.uint8)
    Image.fromarray(grey.astype(np.int32) * 257).save(tmp_path / "wide.tif")
    np.testing.assert_array_equal(load_image(tmp_path / "wide.tif")[..., 0], grey)
    Image.fromarray(grey.astype(np.int32)).save(tmp_path / "dark.tif")
    dark = read_image(tmp_path / "dark.tif")
    assert dark.pixels.max() == 1
    assert dark.info.notes == ("brightest value 255 of 65,535: 8 bits? --bits 8",)
    np.testing.assert_array_equal(load_image(tmp_path / "dark.tif", bits=8)[..., 0], grey)


def test_a_dark_sixteen_bit_image_stays_dark() -> None:
    assert load_image(np.full((2, 2), 2570, np.uint16)).max() == 10


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", Image.fromarray(np.array([[False, True]])))
    assert load_image(path)[..., 1].tolist() == [[0, 255]]


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tiff"])
def test_of_several_pictures_the_first_is_taken(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("black", "white")]
    path = saved(tmp_path, name, frames[0], save_all=True, append_images=frames[1:])
    image = load_image(path)
    assert image.shape == (3, 4, 3)
    assert image.max() == 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1)])
def test_tiny_and_thin_images_are_images(tmp_path: Path, shape: tuple[int, int]) -> None:
    path = saved(tmp_path, "a.png", Image.new("L", shape[::-1], 7))
    assert load_image(path).shape == (*shape, 3)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing: decoding would fail, not be refused."""
    stream = io.BytesIO()
    Image.new("L", (1, 1)).save(stream, "PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize("side", [12_000, 10_000, 60_000])
def test_too_many_pixels_are_refused_from_the_header(tmp_path: Path, side: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png_header(side, side))
    with pytest.raises(ZsasError, match="50,000,000"):
        load_image(path)


def test_the_pixel_limit_holds_for_everything(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", Image.fromarray(PHOTO))
    for source in (path, Image.fromarray(PHOTO), PHOTO):
        assert load_image(source, max_pixels=PHOTO[..., 0].size).shape == PHOTO.shape
        with pytest.raises(ZsasError, match="24 × 16"):
            load_image(source, max_pixels=PHOTO[..., 0].size - 1)


def broken(folder: Path) -> dict[str, tuple[Path, str]]:
    whole = saved(folder, "whole.png", Image.effect_noise((64, 64), 50)).read_bytes()
    jpeg = saved(folder, "whole.jpg", Image.effect_noise((64, 64), 50)).read_bytes()
    contents = {
        "cut.png": (whole[: len(whole) // 2], "cut off or damaged"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "cut off or damaged"),
        "beginning.png": (whole[:20], "cut off or damaged"),
        "empty.png": (b"", "is empty"),
        "words.png": (b"These are words, not pixels.", "not an image"),
        "program.png": (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "PostScript, which is not read",
        ),
    }
    found = {}
    for name, (content, words) in contents.items():
        path = folder / name
        path.write_bytes(content)
        found[name] = (path, words)
    found["folder"] = (folder, "is a folder")
    found["missing"] = (folder / "missing.png", "There is no file")
    found["long"] = (folder / ("x" * 5000 + ".png"), "not an image")
    found["null"] = (Path("a\0b.png"), "not an image|no file")
    return found


BROKEN = (
    *("cut.png", "cut.jpg", "beginning.png", "empty.png", "words.png", "program.png"),
    *("folder", "missing", "long", "null"),
)


@pytest.mark.parametrize("case", BROKEN)
def test_a_bad_file_is_one_sentence_with_its_name(tmp_path: Path, case: str) -> None:
    path, words = broken(tmp_path)[case]
    with pytest.raises(ZsasError, match=words) as caught:
        load_image(path)
    sentence = str(caught.value)
    assert str(path) in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_file_that_may_not_be_read_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, "a.png", Image.fromarray(PHOTO))
    path.chmod(0)
    if os.access(path, os.R_OK):  # the superuser may read everything

        def refuse(*args: object, **options: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ZsasError, match="may not be read"):
        load_image(path)


@pytest.mark.parametrize("name", ["~gear.png", "x" * 300 + ".png"])
def test_names_that_mean_something_else_elsewhere_are_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZsasError, match=r"There is no file|not an image"):
        load_image(name)
    if len(name) < 200:
        saved(tmp_path, name, Image.fromarray(PHOTO))
        np.testing.assert_array_equal(load_image(name), PHOTO)


def test_a_folder_below_that_cannot_be_listed_is_left_out_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, "a.png", Image.fromarray(PHOTO))
    (tmp_path / "lost+found").mkdir()
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    scan = scan_images([tmp_path])
    assert scan.images == [tmp_path / "a.png"]
    assert scan.sentence == "1 left out: 1 cannot be listed, Permission denied (lost+found)."
    assert scan.unreadable == scan.left_out
    with pytest.raises(ZsasError, match="check its permissions"):
        find_images([tmp_path / "lost+found"])


def test_arrays_of_many_kinds_mean_the_same_photo() -> None:
    kinds = [
        PHOTO,
        PHOTO.astype(np.int64),
        PHOTO / 255,
        (PHOTO / 255).astype(np.float16),
        PHOTO > 0,
    ]
    for array in kinds:
        np.testing.assert_array_equal(load_image(array), PHOTO)
    np.testing.assert_array_equal(load_image(PHOTO[:, ::-1])[:, ::-1], PHOTO)


def test_grey_is_repeated() -> None:
    grey = np.array([[0, 9], [200, 255]], np.uint8)
    for array in (grey, grey[..., None]):
        np.testing.assert_array_equal(load_image(array), np.stack([grey] * 3, axis=-1))


def test_the_array_returned_is_not_the_array_given() -> None:
    given = PHOTO.copy()
    load_image(given)[:] = 0
    np.testing.assert_array_equal(given, PHOTO)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((2, 2), np.nan), "NaN"),
        (np.array([[0.5, np.inf]]), "infinite"),
        (np.array([[0.0, 1.01]]), "0 to 1 was expected"),
        (np.array([[0.0, 128.0]]), "0 to 1 was expected"),
        (np.array([[-0.2, 0.5]]), "0 to 1 was expected"),
        (np.array([[0, 300]]), "0 to 255 was expected"),
        (np.array([[-1, 3]]), "0 to 255 was expected"),
        (np.zeros((3, 20, 30), np.uint8), "shape"),
        (np.zeros((20, 30, 2), np.uint8), "shape"),
        (np.zeros(9, np.uint8), "shape"),
        (np.zeros((0, 5, 3), np.uint8), "no pixels"),
        (np.zeros((2, 2), complex), "complex128"),
        (np.array([["a", "b"]], object), "object"),
        (None, "NoneType"),
        (b"bytes", "The image is not an image that can be read"),
    ],
)
def test_a_bad_array_is_one_sentence(array: object, words: str) -> None:
    with pytest.raises(ZsasError, match=words):
        load_image(array)  # type: ignore[arg-type]


def test_find_images_walks_folders_and_keeps_named_files(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", "notes.txt", "deep/er/c.tif", ".hidden/d.png", "._a.jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    named = [tmp_path / "notes.txt", tmp_path / "missing.png"]
    found = find_images([*named, tmp_path, tmp_path / "a.jpg"])
    assert found == [*named, tmp_path / "a.jpg", tmp_path / "b.PNG", tmp_path / "deep/er/c.tif"]


def test_a_mask_is_true_where_it_is_not_black(tmp_path: Path) -> None:
    values = np.array([[0, 1, 255]], np.uint8)
    for image in (
        Image.fromarray(values),
        Image.fromarray(np.stack([values, 0 * values, 0 * values], -1)),
    ):
        assert read_mask(saved(tmp_path, "m.png", image), (1, 3)).tolist() == [[False, True, True]]


def test_traces_of_jpeg_compression_are_not_part_of_a_mask(tmp_path: Path) -> None:
    truth = np.zeros((64, 64), bool)
    truth[10:41, 20:51] = True
    path = saved(tmp_path, "m.jpg", Image.fromarray(truth.astype(np.uint8) * 255), quality=60)
    np.testing.assert_array_equal(read_mask(path, (64, 64)), truth)


def test_a_mask_of_another_size_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, "m.png", Image.new("L", (5, 4)))
    with pytest.raises(ZsasError, match="5 × 4 pixels, but its image has 7 × 4"):
        read_mask(path, (4, 7))


def test_the_rounding_of_arithmetic_is_no_error() -> None:
    found = load_image(np.array([[-1e-7, 1.0000001, 0.5]]))
    assert found[..., 0].tolist() == [[0, 255, 128]]


@pytest.mark.parametrize(
    ("kind", "opacity", "bits"),
    [(np.uint16, 65535, 12), (np.int64, 300, 0), (np.int64, -1, 0), (np.uint32, 70_000, 0)],
)
def test_a_transparency_out_of_its_range_is_a_sentence(
    kind: type[np.integer], opacity: int, bits: int
) -> None:
    image = np.zeros((2, 2, 4), kind)
    image[..., 3] = opacity
    with pytest.raises(ZsasError, match="holds a transparency from"):
        load_image(image, bits=bits)


@pytest.mark.parametrize("options", [{"page": "2"}, {"page": 1.5}, {"bits": "12"}, {"bits": None}])
def test_how_to_read_is_said_in_whole_numbers(options: Any) -> None:
    with pytest.raises(ZsasError, match="must be a whole number"):
        ReadOptions(**options)


def test_a_pil_image_with_impossible_facts_is_a_sentence() -> None:
    image = Image.new("P", (4, 4))
    image.info["transparency"] = 300
    with pytest.raises(ZsasError, match="damaged"):
        load_image(image)
