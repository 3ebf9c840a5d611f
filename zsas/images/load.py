"""Any image in, one kind of array out: uint8 RGB, upright, shape = (H, W, 3).

What cannot be read right is a `ZsasError` of one sentence. Choices where a file says more than RGB can hold:

- transparent pixels are laid on white, as a browser shows them; transparency that hides everything is ignored where
  there is an image below it, and refused where there is none;
- 16-bit values are scaled by 255 / 65535, the same for every image, never stretched; `ReadOptions.bits` says that
  fewer bits are used, and a note says where that looks likely;
- 32-bit integers are taken for 16 bits; larger values need `bits`;
- of an animation or a file with several pages, the first that is no preview is taken, or `ReadOptions.page`;
- an orientation of EXIF, TIFF or HEIF is applied; colour profiles are not.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from zsas.errors import ZsasError
from zsas.images.content import Content, FarFile, opened, unreadable
from zsas.images.pixels import to_rgb
from zsas.images.raster import (
    MAX_PIXELS,
    Raster,
    ReadImage,
    ReadInfo,
    ReadOptions,
    check_size,
    damaged,
    not_read,
    unseen_pages,
)

ImageSource = str | Path | FarFile | bytes | BinaryIO | Image.Image | NDArray[Any] | ReadImage
"""What an image may come as; see `load_image`."""


def load_image(
    source: ImageSource, max_pixels: int = MAX_PIXELS, *, page: int = 0, bits: int = 0
) -> NDArray[np.uint8]:
    """An image as uint8 RGB, shape = (H, W, 3), upright, in memory of its own.

    Args:
        source: A file, here or far away; the bytes of one; an open file (read from its beginning, and left where it
            was); a PIL image of any mode (its current frame); or an array, shape = (H, W), (H, W, 1), (H, W, 3) or
            (H, W, 4), of uint8, uint16, bool, float in [0, 1], or another whole-number type holding 0 to 255.
        max_pixels: Most pixels accepted; read from the header of a file, before it is decoded.
        page: See `ReadOptions`.
        bits: See `ReadOptions`.

    Raises:
        ZsasError: If it is no image, damaged, too large, out of reach, or has values out of range.
    """
    options = ReadOptions(page=page, bits=bits, max_pixels=max_pixels, reduce_up_to=0)
    return read_image(source, options).pixels


def read_image(source: ImageSource, options: ReadOptions | None = None) -> ReadImage:
    """An image, and what was read: format, page, bits, notes; see `load_image`. One that was read already is itself.

    A TIFF of more than `max_pixels` is read in bands and reduced; see `zsas.images.large`.

    Raises:
        ZsasError: See `load_image`.
    """
    if isinstance(source, ReadImage):
        return source
    options = options or ReadOptions()
    if isinstance(source, (np.ndarray, Image.Image)):
        name, raster = decode(source, options, "The image")
        return _shown(raster, options, name)
    with opened(
        source, "The image"
    ) as content:  # once: a stream or a far file may give it once only
        large = _large_tiff(content, options)
        return large or _shown(_decoded(content, options), options, content.name)


def _large_tiff(content: Content, options: ReadOptions) -> ReadImage | None:
    """A TIFF that is too large to be read at once, reduced; None for all else."""
    if content.format is None or content.format.name != "TIFF":
        return None
    if options.reduce_up_to <= options.max_pixels:
        return None
    from zsas.images import large

    found = large.read_reduced(content, options)
    if found is None:
        return None
    return replace(found, info=replace(found.info, sha256=content.sha256()))


def _shown(raster: Raster, options: ReadOptions, name: str) -> ReadImage:
    pixels, raster = to_rgb(raster, options.bits, name)
    info = ReadInfo(
        raster.format,
        raster.page,
        raster.pages,
        raster.bits,
        (*raster.notes, *unseen_pages(raster, options)),
        sha256=raster.sha256,
    )
    return ReadImage(pixels, info)


def several(images: Iterable[Any], *, lazily: bool = False) -> Sequence[Any]:
    """Several images, which may come one by one, as a sequence.

    Args:
        images: Images as `load_image` takes them, or anything made of one; an array (N, H, W, 3) is N images.
        lazily: Whether what comes one by one stays so.

    Raises:
        ZsasError: If it is a single image, or nothing that holds images.
    """
    one = (str, bytes, bytearray, memoryview, os.PathLike, Image.Image, ReadImage)
    single = isinstance(images, one) or hasattr(images, "read") or not isinstance(images, Iterable)
    if single or (
        isinstance(images, np.ndarray) and images.dtype.kind in "biuf" and images.ndim < 4
    ):
        raise ZsasError(
            f"Several images were expected, as a list, but this is of the type {type(images).__name__}; put a single "
            "image in brackets."
        )
    return images if lazily or isinstance(images, Sequence) else list(images)  # type: ignore[return-value]


def read_window(
    source: ImageSource,
    box_xyxy: tuple[int, int, int, int],
    options: ReadOptions | None = None,
) -> ReadImage:
    """A part of a TIFF that may be larger than what is read at once; only its strips or tiles are decoded.

    Args:
        source: A TIFF.
        box_xyxy: x0, y0, x1, y1 in pixels; x1 and y1 exclusive.
        options: `max_pixels` holds for the part.

    Raises:
        ZsasError: If it is no TIFF, the box is not inside it, or it cannot be read.
    """
    options = options or ReadOptions()
    with opened(source, "The image") as content:
        if content.format is None or content.format.name != "TIFF":
            raise ZsasError(
                f"{content.name} is no TIFF, and parts are read of TIFF only; read the whole image."
            )
        with _foreign(content.name):
            raster = _reader(content).decode_window(content, box_xyxy, options)
        return _shown(raster, options, content.name)


def count_pages(source: ImageSource) -> int:
    """How many pages or frames there are to examine; 1 for arrays and PIL images.

    Raises:
        ZsasError: If it cannot be read.
    """
    if isinstance(source, (np.ndarray, Image.Image, ReadImage)):
        return 1
    with opened(source, "The image") as content:
        reader = _reader(content)
        with _foreign(content.name):
            return int(reader.count(content))


def digest(image: NDArray[np.uint8]) -> str:
    """An image's key: digest of its size and pixels, 32 hex digits."""
    found = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    found.update(np.ascontiguousarray(image).data)
    return found.hexdigest()


def decode(source: ImageSource, options: ReadOptions, name: str) -> tuple[str, Raster]:
    """The name for messages, and the values as the file holds them.

    Raises:
        ZsasError: If it cannot be read.
    """
    if isinstance(source, ReadImage):
        source = source.pixels
    if isinstance(source, np.ndarray):
        name = f"{name} array" if name == "The image" else name
        return name, _from_array(source, options, name)
    if isinstance(source, Image.Image):
        return name, _from_pil(source, options, name)
    with opened(source, name) as content:
        return content.name, _decoded(content, options)


def _decoded(content: Content, options: ReadOptions) -> Raster:
    reader = _reader(content)
    with _foreign(content.name):
        raster: Raster = reader.decode(content, options)
        return replace(raster, sha256=content.sha256())


@contextlib.contextmanager
def _foreign(name: str) -> Iterator[None]:
    """A foreign file can make a decoder raise anything, in any of its parts: it is a sentence."""
    try:
        yield
    except ZsasError:
        raise
    except MemoryError:
        raise ZsasError(f"{name} is too large for the memory; make it smaller.") from None
    except Exception:
        logging.getLogger("zsas").debug("%s", name, exc_info=True)
        raise damaged(name) from None


def _reader(content: Content) -> Any:
    """The module that reads a file: `decode(content, options)` and `count(content)`."""
    found = content.format
    if found is None:
        raise unreadable(content.name)
    if not found.reader:
        raise not_read(
            content.name, found.what or f"is a file of the format {found.name}", found.instead
        )
    return importlib.import_module(f"zsas.images.{found.reader}")


def _from_array(array: NDArray[Any], options: ReadOptions, name: str) -> Raster:
    array = np.asarray(array)  # a matrix keeps two axes whatever is done to it
    if array.dtype.kind in "uif" and not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ZsasError(
            f"{name} has the shape {array.shape}, but (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) "
            "was expected."
        )
    check_size(array.shape[0], array.shape[1], options.max_pixels, name)
    alpha = array[..., 3] if array.ndim == 3 and array.shape[2] == 4 else None
    values = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    white = None
    bits = 8 * array.dtype.itemsize if array.dtype.kind in "uif" else 8
    if array.dtype.kind in "ui" and (options.bits or array.dtype == np.uint16) and bits > 8:
        white = 2 ** (options.bits or 16) - 1
    scale = white or {"u": 255, "i": 255, "b": 1}.get(array.dtype.kind, 1)
    if alpha is not None and (array.dtype.kind not in "uifb"):
        alpha = None  # the colours raise the error
    return Raster(
        values if alpha is None else values[..., :3],
        "grey" if values.ndim == 2 else "rgb",
        white,
        "array",
        bits,
        declared=array.dtype != np.uint16,
        alpha=alpha,
        alpha_white=scale,
        signed=array.dtype.kind == "i",
    )


def _from_pil(image: Image.Image, options: ReadOptions, name: str) -> Raster:
    """A PIL image that is a file not yet decoded goes to the file's own reader, which knows more than Pillow."""
    from zsas.images import pillow

    check_size(image.height, image.width, options.max_pixels, name)
    if isinstance(image, ImageFile.ImageFile) and image.tile and not image.tell():
        stream = image.fp
        if stream is not None and not image.decoderconfig and stream.seekable():
            with opened(stream, name) as content:
                found = content.format
                if found is not None and found.reader:
                    return _decoded(content, options)
    with _foreign(name):
        raster = pillow.raster_of(pillow.decoded(image, name), name)
    raster.format = image.format or "PIL image"
    return raster
