"""What must hold for any file at all: right pixels or a sentence, in 5 s and 1 GB; and a second reader."""

from __future__ import annotations

import io
import resource
import time
import warnings
from typing import Any

import cv2
import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from zsas.errors import ZsasError
from zsas.images import ReadImage, read_image
from zsas.images.formats import HEAD, recognised

SECONDS = 5
MEGABYTES = 1000
LOSSY = {"JPEG", "WebP", "AVIF", "JPEG 2000", "TIFF"}


class Wrong(AssertionError):
    """A file that breaks a promise."""


def check(data: bytes) -> ReadImage | None:
    """Read a file and hold the reader to its promises.

    Returns:
        What was read; None where it was refused.

    Raises:
        Wrong: If there is another error than a sentence, too much time or memory, or a second reader has other pixels.
    """
    begun, before = time.process_time(), _peak()  # a busy machine is no hang
    try:
        found = read_image(data)
    except ZsasError as error:
        found = None
        text = str(error)
        if "\n" in text or not text.endswith((".", ".'")):
            raise Wrong(f"no sentence: {text!r}") from None
    except BaseException as error:
        raise Wrong(f"{type(error).__name__}: {error}") from error
    took = time.process_time() - begun
    if took > SECONDS:
        raise Wrong(f"{took:.1f} s")
    if _peak() - before > MEGABYTES:
        raise Wrong(f"{_peak() - before:.0f} MB")
    if found is not None:
        _compare(found, data)
    return found


def _peak() -> float:
    """Largest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _compare(found: ReadImage, data: bytes) -> None:
    other = second(data)
    if other is None or other.shape != found.pixels.shape:
        return
    apart = np.abs(found.pixels.astype(int) - other)
    allowed = 2 if found.info.format in LOSSY else 0
    if apart.max() > allowed:
        raise Wrong(
            f"{found.info}: {(apart.max(axis=2) > allowed).mean():.1%} of the pixels differ, by up to "
            f"{apart.max()}"
        )


def second(data: bytes) -> NDArray[np.uint8] | None:
    """Pixels by another library than the one that reads the format here; None where it refuses, or rightly differs.

    They rightly differ in these cases: transparency, more or (JPEG 2000) fewer than 8 bits, CMYK, later pages,
    depth by a header's maximum.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _second(data)


def _second(data: bytes) -> NDArray[np.uint8] | None:
    kind = recognised(data[:HEAD])
    name = kind.name if kind else ""
    try:
        if name in ("TIFF", "Netpbm"):
            return _by_pillow(data)
        if name == "JPEG 2000" and data[data.find(b"\xff\x4f\xff\x51") + 42] != 7:
            return None
        if name in ("PNG", "JPEG", "WebP", "JPEG 2000", "AVIF"):
            decode = {
                "PNG": imagecodecs.png_decode,
                "JPEG": imagecodecs.jpeg8_decode,
                "WebP": imagecodecs.webp_decode,
                "JPEG 2000": imagecodecs.jpeg2k_decode,
                "AVIF": imagecodecs.avif_decode,
            }[name]
            values: Any = decode(data)
            return _plain(values, data)
        if name == "BMP":
            level = cv2.utils.logging.setLogLevel(0)
            values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            cv2.utils.logging.setLogLevel(level)
            return None if values is None else _plain(values[..., ::-1], data)
    except Exception:
        return None
    return None


def _plain(values: NDArray[Any], data: bytes) -> NDArray[np.uint8] | None:
    """8-bit grey or RGB, upright by its EXIF; None for anything else."""
    with Image.open(io.BytesIO(data)) as image:
        if image.has_transparency_data or image.mode not in ("L", "RGB", "P"):
            return None
        if getattr(image, "n_frames", 1) > 1:
            return None
        orientation = image.getexif().get(0x0112, 1)
    if values.dtype != np.uint8 or orientation != 1:
        return None
    if values.ndim == 3 and values.shape[2] in (2, 4):
        if values[..., -1].min() < 255:
            return None
        values = values[..., :-1]
    values = values.reshape(*values.shape[:2], -1)
    return np.ascontiguousarray(np.broadcast_to(values, (*values.shape[:2], 3)))


def _by_pillow(data: bytes) -> NDArray[np.uint8] | None:
    with Image.open(io.BytesIO(data)) as image:
        if image.mode not in ("1", "L", "RGB", "P") or image.has_transparency_data:
            return None
        if data[:1] == b"P" and image.mode == "L" and b"255" not in data[:40]:
            return None
        if getattr(image, "n_frames", 1) > 1:
            return None
        if image.mode == "P" and not any(image.getpalette() or ()):
            return None  # a colour map of 8 bits, of which Pillow makes black
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
