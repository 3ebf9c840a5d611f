"""Any photo in, one kind of array out: uint8 RGB, upright, shape = (H, W, 3).

Files are recognised by their content, never by their suffix, and only the formats in `FORMATS` are
opened, so that no file can start a foreign program (as an EPS file would). What cannot be read
right is a `ZsasError` of one sentence.

Choices where a photo says more than RGB can hold:

- transparent pixels are laid on white, as a browser shows them;
- 16-bit values are scaled by 255 / 65535, the same for every image, never stretched;
- 32-bit integers are taken for 16 bits, or for 8 where all are below 256, as arrays of integers are;
- of an animation or a file with several pages, the first picture is taken;
- an EXIF rotation is applied.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from zsas.errors import ZsasError, reason

FORMATS = ("PNG", "JPEG", "MPO", "TIFF", "BMP", "WEBP", "GIF", "PPM", "JPEG2000", "AVIF", "TGA")
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".webp", ".gif"),
    *(".mpo", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".tga"),
)

_ROUNDING = 1e-3
"""How far a float image may leave [0, 1]: what arithmetic on a photo does, and less than one grey level."""


class FarFile(Protocol):
    """A file at an address, as a `upath.UPath` is one."""

    def read_bytes(self) -> bytes: ...


ImageSource = str | Path | FarFile | bytes | Image.Image | NDArray[Any]
"""What a photo may come as; see `load_image`."""

MAX_PIXELS = 50_000_000


def load_image(source: ImageSource, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """A photo as uint8 RGB, shape = (H, W, 3), upright, in memory of its own.

    Args:
        source: A file, here or far away; the bytes of one; a PIL image of any mode (its current frame); or an array,
            shape = (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), of uint8, uint16, bool, float in [0, 1], or another
            whole-number type holding 0 to 255.
        max_pixels: Most pixels accepted; read from the header of a file, before it is decoded.

    Raises:
        ZsasError: If it is no image, damaged, too large, out of reach, or has values out of range.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels, "The image array")
    if isinstance(source, Image.Image):
        return _from_pil(source, max_pixels, "The image")
    if isinstance(source, bytes):
        with _header(io.BytesIO(source), max_pixels, "The image") as image:
            return _from_pil(image, max_pixels, "The image")
    if isinstance(source, (str, Path)) or hasattr(source, "read_bytes"):
        name, image = _open(source, max_pixels)
        with image:
            return _from_pil(image, max_pixels, name)
    raise ZsasError(
        "An image was expected as a path, a PIL image, an array or a file's bytes, but this is a "
        f"{type(source).__name__}."
    )


def read_mask(
    source: str | Path | FarFile | Image.Image, shape: tuple[int, int], name: str = "The mask"
) -> NDArray[np.bool_]:
    """A ground-truth mask: bool, shape = (H, W), True where a pixel is not 0.

    In a JPEG, whose compression leaves traces around every edge, True is a value of 128 and more.
    Of a palette image the index counts, not the colour; of a transparent one what can be seen.

    Args:
        source: The file, or a picture that is open already.
        shape: (H, W) of the photo that the mask belongs to.
        name: Of an open picture, for messages.

    Raises:
        ZsasError: If it cannot be read, or has another size than the photo.
    """
    if isinstance(source, Image.Image):
        image = source
    else:
        name, image = _open(source, MAX_PIXELS)
    with image:
        values = np.asarray(_upright(_decoded(image, name)))
        lowest = 128 if image.format in ("JPEG", "MPO") else 1e-9
        if image.mode in ("LA", "RGBA"):
            values = values[..., :-1] * (values[..., -1:] > 0)
    mask = np.asarray(values.reshape(*values.shape[:2], -1).max(axis=2) >= lowest)
    if mask.shape != tuple(shape):
        raise ZsasError(
            f"{name} is a mask of {_size(mask.shape)} pixels, but its photo has {_size(shape)}; "
            "a mask must have the size of its photo."
        )
    return mask


def digest(photo: NDArray[np.uint8]) -> str:
    """A photo's key: digest of its size and pixels, 32 hex digits."""
    found = hashlib.blake2b(repr(photo.shape).encode(), digest_size=16)
    found.update(np.ascontiguousarray(photo).data)
    return found.hexdigest()


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """The image files that are meant by files and folders.

    A folder gives the files below it with an image's suffix, at any depth, sorted; hidden files and
    folders are left out. A file that is named is kept whatever its suffix, even if it is missing,
    so that `load_image` can say what is wrong with it. Doubles are dropped.

    A folder below the named one that cannot be listed is left out with a warning in the log of `zsas`.

    Raises:
        ZsasError: If a named folder cannot be listed.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if not os.path.isdir(path):
            found[path] = None
            continue

        def cannot_list(error: OSError, root: Path = path) -> None:
            why = f"The folder {error.filename} cannot be listed ({error.strerror})"
            if Path(error.filename) == root:
                raise ZsasError(f"{why}; check its permissions.") from None
            logging.getLogger("zsas").warning("%s; it is left out.", why)

        below = []
        for folder, folders, files in os.walk(path, onerror=cannot_list):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below += [
                Path(folder, name)
                for name in files
                if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
            ]
        found.update(dict.fromkeys(sorted(below)))
    return list(found)


def is_result(path: Path) -> bool:
    """Whether a file is a picture that `Result.save` wrote: beside its `result.json`, or among its stages."""
    if path.parent.name == "stages":
        return os.path.isfile(path.parent.parent / "result.json")
    ours = path.name in ("mask.png", "score.png", "overlay.png")
    return ours and os.path.isfile(path.parent / "result.json")


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _open(path: str | Path | FarFile, max_pixels: int) -> tuple[str, Image.Image]:
    """The name for messages, and the image with only its header read and its size checked."""
    name = str(path)
    # A text is never an address: what a stranger writes must not make us fetch something.
    if not isinstance(path, (str, Path)):
        return name, _header(io.BytesIO(_fetched(path, name)), max_pixels, name)
    try:
        path = Path(os.path.expanduser(path))  # `Path.expanduser` takes "~gear.png" for a user
        if path.is_dir():
            raise ZsasError(
                f"{name or 'The empty path'} is a folder, but an image file was expected."
            )
        if not path.exists():
            raise ZsasError(f"There is no file {name}; check the path.")
        if not path.is_file():
            raise ZsasError(f"{name} is not a regular file, but an image file was expected.")
        if path.stat().st_size == 0:
            raise ZsasError(f"{name} is empty; take a complete image file.")
        return name, _header(path, max_pixels, name)
    except PermissionError:
        raise ZsasError(
            f"{name} may not be read; give yourself permission to read it, or take another file."
        ) from None
    except ZsasError:
        raise
    except (OSError, ValueError):  # a name that no file can have
        raise _unreadable(name) from None


def _fetched(file: FarFile, name: str) -> bytes:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise ZsasError(f"There is no file {name}; check the address.") from None
    except Exception as error:  # every kind of storage has errors of its own
        why = reason(error)
        raise ZsasError(f"{name} cannot be read ({why}).") from None
    if not data:
        raise ZsasError(f"{name} is empty; take a complete image file.")
    return data


def _unreadable(name: str) -> ZsasError:
    return ZsasError(
        f"{name} is not an image that can be read, or its beginning is damaged; "
        "PNG, JPEG, TIFF, BMP, WebP and GIF can be read."
    )


def _header(source: Path | io.BytesIO, max_pixels: int, name: str) -> Image.Image:
    """The image with only its header read and its size checked."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower
            image = Image.open(source, formats=_formats())
    except PermissionError:
        raise
    except Image.DecompressionBombError:
        raise ZsasError(
            f"{name} has more than the {max_pixels:,} pixels that are accepted; make it smaller."
        ) from None
    except Exception:  # a foreign file can make a decoder raise anything
        raise _unreadable(name) from None
    try:
        _check_size(image.height, image.width, max_pixels, name)
    except ZsasError:
        image.close()
        raise
    return image


def _check_size(height: int, width: int, max_pixels: int, name: str) -> None:
    if height < 1 or width < 1:
        raise ZsasError(f"{name} has no pixels; take an image of at least 1 × 1.")
    if height * width > max_pixels:
        raise ZsasError(
            f"{name} has {_size((height, width))} = {height * width:,} pixels, but at most "
            f"{max_pixels:,} are accepted; make it smaller."
        )


def _size(shape: tuple[int, ...]) -> str:
    """Width × height, as people say it."""
    return f"{shape[1]} × {shape[0]}"


def _decoded(image: Image.Image, name: str) -> Image.Image:
    try:
        image.load()
    except Exception:  # a foreign file can make a decoder raise anything
        raise ZsasError(f"{name} is cut off or damaged; take the complete file.") from None
    return image


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # unreadable EXIF says nothing about the rotation
        return image


def _from_pil(image: Image.Image, max_pixels: int, name: str) -> NDArray[np.uint8]:
    _check_size(image.height, image.width, max_pixels, name)
    image = _upright(_decoded(image, name))
    if image.mode.startswith("I;16"):
        # Big-endian modes give a big-endian array.
        return _from_array(np.asarray(image).astype(np.uint16), max_pixels, name)
    if image.mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise ZsasError(
                f"{name} holds values from {values.min()} to {values.max()}, but 0 to 65535 is the "
                "most that is read; save it with 8 or 16 bits."
            )
        kind = np.uint8 if values.max() < 256 else np.uint16
        return _from_array(values.astype(kind), max_pixels, name)
    if image.mode == "F":
        return _from_array(np.asarray(image), max_pixels, name)
    try:
        if image.has_transparency_data:
            return _on_white(np.asarray(image.convert("RGBA")))
        return np.array(image.convert("RGB"))
    except ValueError:
        raise ZsasError(
            f"{name} has the colour mode {image.mode}, which is not read; save it as RGB or grey."
        ) from None


def _from_array(array: NDArray[Any], max_pixels: int, name: str) -> NDArray[np.uint8]:
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ZsasError(
            f"{name} has the shape {array.shape}, but (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) "
            "was expected."
        )
    _check_size(array.shape[0], array.shape[1], max_pixels, name)
    values = _to_uint8(array, name)
    if values.ndim == 2:
        values = values[..., None]
    if values.shape[2] == 4:
        return _on_white(values)
    return np.array(np.broadcast_to(values, (*values.shape[:2], 3)), order="C")


def _to_uint8(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint16:
        return ((array.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise ZsasError(
                f"{name} holds NaN or infinite values; replace them with numbers from 0 to 1."
            )
        if array.min() < -_ROUNDING or array.max() > 1 + _ROUNDING:
            raise ZsasError(
                f"{name} holds float values from {array.min():g} to {array.max():g}, but 0 to 1 "
                "was expected; divide by the largest possible value, or pass uint8."
            )
        return np.rint(np.clip(array.astype(np.float32), 0, 1) * 255).astype(np.uint8)
    if np.issubdtype(array.dtype, np.integer):
        if array.min() < 0 or array.max() > 255:
            raise ZsasError(
                f"{name} holds {array.dtype} values from {array.min()} to {array.max()}, but 0 to "
                "255 was expected; pass uint8 or uint16."
            )
        return array.astype(np.uint8)
    raise ZsasError(
        f"{name} holds {array.dtype} values, but uint8, uint16, bool or float was expected."
    )


def _on_white(rgba: NDArray[np.uint8]) -> NDArray[np.uint8]:
    alpha = rgba[..., 3:].astype(np.uint32)
    colour = rgba[..., :3].astype(np.uint32)
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
