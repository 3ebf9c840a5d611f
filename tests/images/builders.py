"""Files of many formats, made in memory from one plate."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

H, W = 48, 64


def _plate() -> NDArray[np.uint8]:
    """Ramps that differ along both axes and in each channel, with a scratch: no turn or swap leaves it as it is."""
    y, x = np.mgrid[:H, :W]
    plate = np.stack([x * 255 // (W - 1), y * 255 // (H - 1), (x + y) * 255 // (H + W - 2)], -1)
    plate[8:12, 20:50] = [250, 30, 20]
    return plate.astype(np.uint8)


RGB = _plate()
GREY = RGB[..., 0] // 2 + RGB[..., 1] // 2
DEEP = GREY.astype(np.uint16) * 257
OPACITY = np.ascontiguousarray(np.broadcast_to(np.arange(W) * 255 // (W - 1), (H, W))).astype(
    np.uint8
)


def three(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey as RGB."""
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def stretched(values: NDArray[Any], white: float) -> NDArray[np.uint8]:
    """Grey values as RGB, 255 for white."""
    return three(np.rint(values.astype(float) * 255 / white))


def on_white(colours: NDArray[np.uint8], opacity: NDArray[np.uint8]) -> NDArray[np.uint8]:
    share = opacity[..., None] / 255
    return np.rint(colours * share + 255 * (1 - share)).astype(np.uint8)


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    """One page by tifffile."""
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


def pages(*written: tuple[NDArray[Any], dict[str, Any]], **options: Any) -> bytes:
    """Several pages by tifffile."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, **options) as writer:
        for values, page in written:
            writer.write(values, **page)
    return stream.getvalue()


def saved(image: Image.Image | NDArray[Any], kind: str, **options: Any) -> bytes:
    """A file by Pillow."""
    stream = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(stream, kind, **options)
    return stream.getvalue()


def stored(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """What a camera stores so that a viewer shows `image`."""
    return np.ascontiguousarray(
        {
            1: lambda a: a,
            2: lambda a: a[:, ::-1],
            3: lambda a: a[::-1, ::-1],
            4: lambda a: a[::-1],
            5: lambda a: a.swapaxes(0, 1),
            6: lambda a: np.rot90(a),
            7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
            8: lambda a: np.rot90(a, -1),
        }[orientation](image)
    )


def apart(found: NDArray[np.uint8], right: NDArray[np.uint8]) -> int:
    """The largest difference, 256 where the shapes differ."""
    return int(np.abs(found.astype(int) - right).max()) if found.shape == right.shape else 256
