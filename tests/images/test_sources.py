"""What an image may come as: arrays of any kind, streams of any kind, and what is none."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.images.builders import DEEP, GREY, OPACITY, RGB, H, W, apart, on_white, saved, three
from zsas.errors import ZsasError
from zsas.images import load_image, read_image

FILE = saved(RGB, "PNG")


class Subclass(np.ndarray):
    """An array of another type."""


class Pieces(io.RawIOBase):
    """A pipe or socket: it gives as much as it has, and can be read once."""

    def __init__(self, data: bytes, most: int = 37) -> None:
        self._rest, self._most = io.BytesIO(data), most

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._rest.read(min(self._most, len(buffer)))
        buffer[: len(data)] = data
        return len(data)


class Far:
    """A file at an address, which may not be fetched twice."""

    def __init__(self) -> None:
        self.fetched = 0

    def read_bytes(self) -> bytes:
        self.fetched += 1
        return FILE


def test_arrays_of_other_byte_orders_mean_the_same() -> None:
    rgba = np.dstack([RGB, OPACITY]).astype(np.uint16) * 257
    for array, right in (
        (DEEP.astype(">u2"), three(GREY)),
        ((RGB.astype(np.uint16) * 257).astype(">u2"), RGB),
        (rgba.astype(">u2"), on_white(RGB, OPACITY)),
        (GREY.astype(">i4"), three(GREY)),
        ((GREY / 255).astype(">f4"), three(GREY)),
        ((GREY / 255).astype(np.longdouble), three(GREY)),
    ):
        assert apart(load_image(array), right) <= 1, array.dtype
    assert read_image(DEEP.astype(">u2") // 16).info.notes == read_image(DEEP // 16).info.notes


def test_arrays_in_any_layout_mean_the_same() -> None:
    fixed = RGB.copy()
    fixed.setflags(write=False)
    for array, right in (
        (RGB[::-1, ::-1], RGB[::-1, ::-1]),
        (RGB[..., ::-1], RGB[..., ::-1]),
        (RGB[::2, ::3], RGB[::2, ::3]),
        (np.asfortranarray(RGB), RGB),
        (fixed, RGB),
        (RGB.view(Subclass), RGB),
        (np.broadcast_to(np.uint8(7), (H, W)), three(np.full((H, W), 7))),
        (np.asmatrix(GREY), three(GREY)),
        (np.ma.masked_array(GREY, GREY > 100), three(GREY)),
        (np.dstack([RGB > 100, np.ones((H, W), bool)]), (RGB > 100) * np.uint8(255)),
        (np.dstack([RGB > 100, GREY > 100]), on_white((RGB > 100) * np.uint8(255), (GREY > 100) * np.uint8(255))),
    ):  # fmt: skip
        found = load_image(array)
        np.testing.assert_array_equal(found, right)
        assert type(found) is np.ndarray
        assert found.flags.writeable


@pytest.mark.parametrize(
    "array",
    [
        GREY.astype(object),
        GREY.astype(str),
        GREY.astype(np.complex64),
        np.zeros((4, 4), "M8[s]"),
        np.zeros((4, 4), [("a", "u1")]),
        RGB.transpose(2, 0, 1),
        RGB[None],
        np.zeros((0, 5), np.uint8),
        np.array(5.0),
        DEEP.astype(np.uint32),
        -DEEP.astype(np.int32),
        np.full((4, 4), np.inf),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_other_arrays_are_a_sentence(array: Any) -> None:
    with pytest.raises(ZsasError) as caught:
        load_image(array)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("way", ["pieces", "big pieces", "view", "every second byte", "middle"])
def test_bytes_in_any_form_are_the_file(way: str) -> None:
    source: Any = {
        "pieces": lambda: Pieces(FILE),
        "big pieces": lambda: Pieces(FILE, 65536),
        "view": lambda: memoryview(FILE),
        "every second byte": lambda: memoryview(np.frombuffer(FILE, np.uint8).repeat(2))[::2],
        "middle": lambda: _at(100),
    }[way]()
    np.testing.assert_array_equal(read_image(source).pixels, RGB)


def _at(where: int) -> io.BytesIO:
    stream = io.BytesIO(FILE)
    stream.seek(where)
    return stream


def test_a_far_file_is_fetched_once() -> None:
    far = Far()
    np.testing.assert_array_equal(read_image(far).pixels, RGB)
    assert far.fetched == 1


def test_what_gives_no_bytes_is_a_sentence(tmp_path: Path) -> None:
    closed = io.BytesIO(FILE)
    closed.close()
    image = Image.open(io.BytesIO(FILE))
    image.close()

    class Late:
        def read(self, size: int = -1) -> bytes:
            raise TimeoutError("timed out")

    sources: list[Any] = [
        *(closed, image, Late(), io.StringIO("words"), None, 5, RGB.tolist(), object()),
        *("a\0b.png", "", "x" * 5000, "caf\udce9.png", tmp_path, Pieces(b"")),
    ]
    for source in sources:
        with pytest.raises(ZsasError) as caught:
            load_image(source)
        assert str(caught.value).endswith(".")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["https://example.com/a.png", "file:///tmp/a.png", "data:image/png;base64,AAAA"]
)
def test_a_text_is_never_fetched_and_an_address_is_called_one(address: str) -> None:
    with pytest.raises(ZsasError, match="is an address, but a path was expected"):
        load_image(address)


def test_pil_images_in_big_endian_words() -> None:
    image = Image.frombytes("I;16B", (W, H), DEEP.astype(">u2").tobytes())
    np.testing.assert_array_equal(load_image(image), three(GREY))
