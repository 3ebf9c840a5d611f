"""PNG, BMP, TGA, GIF, WebP and AVIF, read by Pillow; and any PIL image."""

from __future__ import annotations

import io
import re
import warnings

import numpy as np
from PIL import Image

from zsas.errors import ZsasError, reason
from zsas.images import bitmap, png
from zsas.images.content import Content, unreadable
from zsas.images.raster import (
    MAX_PIXELS,
    Raster,
    ReadOptions,
    check_page,
    check_size,
    damaged,
    not_read,
)

_ORIENTATION = 0x0112


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`.

    Raises:
        ZsasError: If it is damaged, too large, or of a kind that is not read.
    """
    found = content.format
    assert found is not None
    data = content.read()
    if found.name == "WebP":
        check_size(*webp_size(data, content.name), options.max_pixels, content.name)
    two = 0
    if found.pillow in (("BMP",), ("DIB",)):
        bitmap.check_bmp(data, content.name)
        two = bitmap.two_colours(data)
    whole = data
    if two:
        data = data[:two] + b"\xfe" + data[two + 1 :]
    elif found.name == "PNG":
        data = png.prepared(data, content.name)
    elif found.name == "TGA":
        data = bitmap.prepared_tga(data, content.name)
    with header(data, found.pillow, options.max_pixels, content.name) as image:
        pages = _frames(image, data)
        check_page(options.page, pages, content.name)
        if options.page > 1:
            image.seek(options.page - 1)
        image = decoded(image, content.name)
        if found.name == "PNG":
            png.set_key(data, image)
            if options.page < 2:
                png.check_rows(data, image, content.name)
        if found.name == "PNG" and data[24] == 16 and data[25] != 0 and options.page < 2:
            raster = png.deep(data, image).turned(_orientation(image))
        else:
            raster = raster_of(image, content.name)
    if found.name == "TGA":
        bitmap.set_tga_alpha(raster, whole)
    if two and raster.palette is not None:
        raster.palette[1] = 255
    raster.format = found.name
    raster.page, raster.pages = max(1, options.page), pages
    raster.lossy = found.name == "AVIF" or (found.name == "WebP" and _is_lossy_webp(data))
    return raster


def count(content: Content) -> int:
    """How many frames there are.

    Raises:
        ZsasError: If it cannot be read.
    """
    found = content.format
    assert found is not None
    data = content.read()
    if found.name == "WebP":
        check_size(*webp_size(data, content.name), MAX_PIXELS, content.name)
    with header(data, found.pillow, 2**62, content.name) as image:
        return _frames(image, data)


def _frames(image: Image.Image, data: bytes) -> int:
    """How many frames there are; a PNG's header may name more than the file holds."""
    frames = int(getattr(image, "n_frames", 1))
    return min(frames, data.count(b"fcTL") + 1) if image.format == "PNG" else frames


def header(data: bytes, formats: tuple[str, ...], max_pixels: int, name: str) -> Image.Image:
    """The image with only its header read and its size checked.

    Raises:
        ZsasError: If the header is damaged, or says too many pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our limit of pixels is lower, and errors are ours
            image = Image.open(io.BytesIO(data), formats=[each for each in formats if _known(each)])
    except Image.DecompressionBombError:
        raise ZsasError(
            f"{name} has more than the {max_pixels:,} pixels that are accepted; make it smaller."
        ) from None
    except Exception as error:  # a foreign file can make a decoder raise anything
        weak = {"TGA", "DIB"} & {*formats}  # their beginnings are not sure signs
        raise _of_decoder(error, name, unreadable(name) if weak else damaged(name)) from None
    try:
        check_size(image.height, image.width, max_pixels, name)
    except ZsasError:
        image.close()
        raise
    return image


def decoded(image: Image.Image, name: str) -> Image.Image:
    """The image with its pixels.

    Raises:
        ZsasError: If they are cut off, or of a kind that is not read.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except Exception as error:  # a foreign file can make a decoder raise anything
        raise _of_decoder(error, name, damaged(name)) from None
    return image


def raster_of(image: Image.Image, name: str) -> Raster:
    """The values of a decoded PIL image, upright.

    Raises:
        ZsasError: If its colour mode is not read.
    """
    mode, alpha = image.mode, None
    if mode in ("L", "RGB", "1") and "transparency" in image.info:
        with_alpha = image.convert("RGBA")
        values, alpha = np.asarray(image.convert("RGB")), np.asarray(with_alpha)[..., 3]
        return Raster(values, "rgb", 255, "", alpha=alpha).turned(_orientation(image))
    if mode in ("P", "PA"):
        return _palette(image).turned(_orientation(image))
    premultiplied = mode in ("La", "RGBa")
    values = np.asarray(image)
    if mode in ("LA", "La", "RGBA", "RGBa"):
        values, alpha = values[..., :-1], values[..., -1]
    if mode == "RGBX":
        values = values[..., :3]
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if mode == "1":
        raster = Raster(values.astype(np.uint8), "grey", 1, "", bits=1)
    elif mode in ("L", "LA", "La"):
        raster = Raster(values, "grey", 255, "")
    elif mode in ("RGB", "RGBA", "RGBa", "RGBX"):
        raster = Raster(values, "rgb", 255, "")
    elif mode == "CMYK":
        raster = Raster(values, "cmyk", 255, "")
    elif mode == "YCbCr":
        raster = Raster(np.asarray(image.convert("RGB")), "rgb", 255, "")
    elif mode.startswith("I;16"):
        # Big-endian modes give a big-endian array.
        deep = values.astype(np.uint16)
        raster = Raster(deep, "grey", 65535, "", bits=16, declared=False)
        key = image.info.get("transparency")
        if isinstance(key, int):
            raster.alpha = np.where(deep == key, 0, 255).astype(np.uint8)
    elif mode == "I":
        raster = Raster(values, "grey", 65535, "", bits=16, declared=False, signed=True)
    elif mode == "F":
        raster = Raster(values, "grey", None, "", bits=32)
    else:
        raise ZsasError(
            f"{name} has the colour mode {mode}, which is not read; save it as RGB or grey."
        )
    if alpha is not None:
        raster.alpha, raster.premultiplied = alpha, premultiplied
    return raster.turned(_orientation(image))


def _palette(image: Image.Image) -> Raster:
    values = np.asarray(image if image.mode == "P" else image.getchannel("P"))
    palette = image.palette
    rgba = palette is not None and palette.mode in ("RGBA", "RGBX", "RGBa")
    entries = image.getpalette("RGBA" if rgba else "RGB") or [0, 0, 0]
    colours = np.array(entries, np.uint8).reshape(-1, 4 if rgba else 3)
    opacity = np.full(max(256, len(colours)), 255, np.uint8)
    if rgba and palette is not None and palette.mode != "RGBX":
        opacity[: len(colours)] = colours[:, 3]
    key = image.info.get("transparency")
    if isinstance(key, bytes):
        opacity[: len(key)] = np.frombuffer(key, np.uint8)
    elif isinstance(key, int):
        opacity[key] = 0
    alpha = None if (opacity == 255).all() else opacity[values]
    if image.mode == "PA":
        alpha = np.asarray(image.getchannel("A"))
    return Raster(values, "palette", None, "", palette=colours[:, :3], alpha=alpha)


def _orientation(image: Image.Image) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = int(image.getexif().get(_ORIENTATION, 1))
            if "xmp" in image.info or "XML:com.adobe.xmp" in image.info:
                # Pillow would also follow the orientation in XMP, which browsers ignore and which editors leave behind.
                exif = Image.Exif()
                exif.load(image.info.get("exif", b""))
                found = int(exif.get(_ORIENTATION, 1))
            return found
    except Exception:  # unreadable EXIF says nothing about the rotation
        return 1


def _known(plugin: str) -> bool:
    Image.init()
    return plugin in Image.OPEN


def _of_decoder(error: Exception, name: str, otherwise: ZsasError) -> ZsasError:
    """The error for a decoder's complaint; a file that the decoder does not support is not called damaged."""
    words = str(error).lower()
    if isinstance(error, NotImplementedError) or re.search(
        r"unsupported|not supported|unknown|not implemented|unimplemented", words
    ):
        return not_read(name, f"is of a kind ({reason(error)})")
    return otherwise


def webp_size(data: bytes, name: str) -> tuple[int, int]:
    """Height and width of a WebP; Pillow takes memory for all its pixels as soon as it opens one.

    Raises:
        ZsasError: If its header is cut off.
    """
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise unreadable(name)
    if chunk == b"VP8X":
        width = 1 + int.from_bytes(body[4:7], "little")
        height = 1 + int.from_bytes(body[7:10], "little")
    elif chunk == b"VP8L":
        packed = int.from_bytes(body[1:5], "little")
        width, height = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    else:
        width = int.from_bytes(body[6:8], "little") & 0x3FFF
        height = int.from_bytes(body[8:10], "little") & 0x3FFF
    return height, width


def _is_lossy_webp(data: bytes) -> bool:
    """Whether any frame is coded as VP8; the lossless ones are VP8L."""
    at, end = 12, len(data)
    while at + 8 <= end:
        chunk, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if chunk == b"VP8 " or (chunk == b"ANMF" and data[at + 24 : at + 28] in (b"VP8 ", b"ALPH")):
            return True
        at += 8 + size + size % 2
    return False
