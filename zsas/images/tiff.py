"""TIFF and BigTIFF, read by tifffile with imagecodecs: what a tag says is honoured, or refused in a sentence."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError, reason
from zsas.extras import require
from zsas.images.content import Content
from zsas.images.raster import (
    MAX_BYTES,
    Raster,
    ReadOptions,
    check_page,
    check_size,
    damaged,
    not_read,
    turn,
)

# What it logs about broken tags is either refused here or does not matter.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_LOSSY = {6, 7, 33003, 33004, 33005, 33007, 34712, 34892, 50001, 50002, 52546}
"""Compressions that change values: JPEG, JPEG 2000, WebP, JPEG XL. Some can be lossless; nobody knows from the tag."""

_KINDS = {
    4: "is a transparency mask and no image",
    8: "is in CIE Lab colours",
    9: "is in ICC Lab colours",
    10: "is in ITU Lab colours",
    32844: "is in LogL",
    32845: "is in LogLuv colours",
    51177: "is a depth map",
}
_RAW = (32803, 34892)
_LOOKED_AT = 2000
"""Pages whose kind is looked at; those behind are counted as full images."""


def decode(content: Content, options: ReadOptions) -> Raster:
    """See `Raster`.

    Raises:
        ZsasError: If it is damaged, too large, or says something that is not supported.
    """
    name = content.name
    with _file(content) as tif:
        pages = _full_images(tif, name)
        check_page(options.page, len(pages), name)
        page = pages[max(0, options.page - 1)]
        page = tif.pages[page] if isinstance(page, int) else page
        if page.photometric in _RAW or 50706 in page.tags:
            from zsas.images import raw

            return raw.decode(content, options)
        _check(page, options, content.size, name)
        if page.compression in (2, 3, 4):
            _check_fax(content, page, name)
        raster = _raster(page, _values(page, name), options.bits, name)
        raster.page, raster.pages = max(1, options.page), len(pages)
        if len(pages) == 1 and len(tif.pages) > 1:
            raster.notes.append("its smaller copies were passed over")
    return raster.turned(_orientation(page))


def count(content: Content) -> int:
    """How many full images there are; reduced copies and masks are none.

    Raises:
        ZsasError: If it is damaged.
    """
    with _file(content) as tif:
        return len(_full_images(tif, content.name))


@contextlib.contextmanager
def _file(content: Content) -> Iterator[Any]:
    """The open file; whatever a foreign file makes the reader raise is a sentence."""
    require("images")
    import tifffile

    content.stream.seek(0)
    try:
        with tifffile.TiffFile(content.stream, _multifile=False) as tif:
            yield tif
    except ZsasError:
        raise
    except MemoryError:
        raise damaged(content.name) from None
    except Exception as error:
        raise _of_reader(error, content.name) from None


def _of_reader(error: Exception, name: str) -> ZsasError:
    words = str(error).lower()
    if isinstance(error, NotImplementedError) or re.search(
        r"not support|unsupported|requires|not implemented|not available|do not match", words
    ):
        return not_read(name, f"is a TIFF of a kind ({reason(error)})")
    return damaged(name)


def _full_images(tif: Any, name: str) -> list[Any]:
    """The pages that are images of their own, as pages or as numbers of pages that were not looked at.

    Where the first is a smaller copy, the full image may be in its sub-IFDs, as cameras write it.
    """
    number = len(tif.pages)
    if not number:
        raise damaged(name)
    pages = [tif.pages[i] for i in range(min(number, _LOOKED_AT))]
    full: list[Any] = [page for page in pages if not _is_aside(page)]
    first = pages[0]
    if first.is_reduced and first.subifds:
        full = [page for page in first.pages or () if not _is_aside(page)] + full
    full += range(len(pages), number)
    return full or [first]


def _is_aside(page: Any) -> bool:
    """Whether a page says that it is a smaller copy or a transparency mask of another."""
    old = page.tags.valueof(255)
    return bool(page.is_reduced or page.is_mask or page.photometric == 4 or old == 2)


_TYPES = {
    **dict.fromkeys((258, 259, 262, 266, 274, 277, 284, 317, 338, 339), (3, 4)),
    **dict.fromkeys((256, 257, 273, 278, 279, 322, 323, 324, 325), (3, 4, 16)),
    320: (3,),
}
"""Types (short, long, long of 64 bits) of the tags that decide about pixels."""


def _check_tags(page: Any, name: str) -> None:
    """Refuse tags that stand twice or have a type they cannot have: readers make different values of them."""
    for code, types in _TYPES.items():
        tags = page.tags.getall(code) or ()
        if len(tags) > 1 or any(int(tag.dtype) not in types for tag in tags):
            raise damaged(name)
    for code, values in ((266, (1, 2)), (284, (1, 2)), (274, range(1, 9)), (317, (1, 2, 3))):
        value = page.tags.valueof(code, values[0])
        if not isinstance(value, int) or value not in values:
            raise not_read(name, f"has the value {value} in its tag {code}")
    bits = page.tags.get(258)
    if bits is not None and bits.count not in (1, page.samplesperpixel):
        raise damaged(name)


def _check(page: Any, options: ReadOptions, size: int, name: str) -> None:
    """Refuse before decoding: too large, out of the file, or of a kind that is not read."""
    check_size(page.imagelength, page.imagewidth, options.max_pixels, name)
    _check_tags(page, name)
    if page.imagedepth > 1 or page.tiledepth > 1:
        raise not_read(name, "is a volume of several layers in one page")
    samples = page.samplesperpixel
    segment = max(page.tilewidth * page.tilelength, page.rowsperstrip * page.imagewidth, 1)
    segment = min(
        segment, max(page.tilewidth * page.tilelength, page.imagelength * page.imagewidth)
    )
    itemsize = max(1, np.dtype(page.dtype).itemsize if page.dtype is not None else 1)
    if max(segment, page.imagelength * page.imagewidth) * samples * itemsize > MAX_BYTES:
        raise ZsasError(
            f"{name} would take more than the {MAX_BYTES:,} bytes that are decoded; make it smaller."
        )
    photometric = int(page.photometric)
    if photometric in _KINDS:
        raise not_read(name, _KINDS[photometric], "save it as RGB or grey")
    if photometric not in (0, 1, 2, 3, 5, 6):
        raise not_read(
            name, f"is a TIFF of the colour kind {photometric}", "save it as RGB or grey"
        )
    if len(set(_each(page.bitspersample))) > 1 or len(set(_each(page.sampleformat))) > 1:
        raise not_read(name, "has channels of different depths")
    if page.dtype is None or page.sampleformat in (5, 6):
        raise not_read(
            name,
            f"holds {page.bitspersample}-bit values of the sample format {int(page.sampleformat)}",
        )
    offsets = np.asarray(page.dataoffsets, np.float64)
    counts = np.asarray(page.databytecounts, np.float64)
    needed = int(np.prod(page.chunked))
    if len(offsets) < needed or len(counts) < needed:
        raise damaged(name)
    offsets, counts = offsets[:needed], counts[:needed]
    if (counts <= 0).any() or (offsets <= 0).any() or (offsets + counts > size).any():
        raise damaged(name)


def _each(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)


def _values(page: Any, name: str) -> NDArray[Any]:
    """(H, W) or (H, W, samples), whatever the planes' order in the file."""
    if page.compression in (6, 7):
        _check_jpegs(page, name)
    unpacked = _unpacked_words(page)
    values = page.asarray(squeeze=False, maxworkers=1) if unpacked is None else unpacked
    # (separate samples, depth, H, W, samples side by side)
    values = np.moveaxis(values[:, 0], 0, 2).reshape(*values.shape[2:4], -1)
    if values.dtype.byteorder not in "=|":
        values = values.astype(values.dtype.newbyteorder("="))
    return values[..., 0] if values.shape[2] == 1 else values


def _check_fax(content: Content, page: Any, name: str) -> None:
    """Refuse fax codes of which two decoders make different pixels; they carry no check of their own."""
    from PIL import Image

    content.stream.seek(0)
    with Image.open(io.BytesIO(content.read()), formats=["TIFF"]) as image:
        while image.tell() < page.index and image.tell() + 1 < image.n_frames:  # type: ignore[attr-defined]
            image.seek(image.tell() + 1)
        other = np.asarray(image.convert("1"))
    mine = page.asarray(maxworkers=1).astype(bool)
    same = turn(mine if page.photometric else ~mine, _orientation(page))
    if other.shape not in (mine.shape, same.shape) or not any(
        np.array_equal(other, each) for each in (same, mine, ~mine)
    ):
        raise damaged(name)


def _check_jpegs(page: Any, name: str) -> None:
    """Refuse strips and tiles of JPEG that are cut off; decoders fill the rest with grey."""
    from zsas.images.jpeg import is_whole

    decode_segment = page.keyframe.decode
    extra = {"jpegtables": page.jpegtables, "jpegheader": page.keyframe.jpegheader}
    if extra["jpegheader"] is not None:  # the segments have no markers of their own
        return
    stream = page.parent.filehandle
    for index, (offset, length) in enumerate(
        zip(page.dataoffsets, page.databytecounts, strict=False)
    ):
        stream.seek(offset)
        data = stream.read(length)

        def decode(data: bytes, index: int = index) -> NDArray[Any]:
            return decode_segment(data, index, **extra)[0]

        if data[:2] == b"\xff\xd8" and not is_whole(data, decode):
            raise damaged(name)


def _unpacked_words(page: Any) -> NDArray[Any] | None:
    """10, 12 or 14 bits in words of 16, as some frame grabbers write: twice as long as packed ones would be."""
    bits, shape = page.bitspersample, page.shaped
    if page.compression != 1 or bits not in (9, 10, 11, 12, 13, 14, 15) or page.is_tiled:
        return None
    if sum(page.databytecounts) != 2 * int(np.prod(shape)):
        return None
    stream = page.parent.filehandle
    parts = []
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=False):
        stream.seek(offset)
        parts.append(stream.read(length))
    words = np.frombuffer(b"".join(parts), page.parent.byteorder + "u2")
    return words.astype(np.uint16).reshape(shape)


def _raster(page: Any, values: NDArray[Any], bits_asked: int, name: str) -> Raster:
    photometric = int(page.photometric)
    bits = int(page.bitspersample)
    colours = {2: 3, 5: 4, 6: 3}.get(photometric, 1)
    samples = 1 if values.ndim == 2 else values.shape[2]
    raster = Raster(values, "grey", None, "TIFF", bits, signed=page.sampleformat == 2)
    raster.lossy = int(page.compression) in _LOSSY
    _check_colours(page, photometric, samples, colours, name)
    if samples > colours:
        _set_extra(raster, page, values, colours, name)
        values = values[..., :colours] if colours > 1 else values[..., 0]
    raster.values = values
    if np.issubdtype(values.dtype, np.floating):
        _set_float_range(raster, page, name)
    else:
        _set_depth(raster, page, bits_asked, name)
    if photometric == 0:
        raster.inverted = True
    elif photometric == 3:
        raster.colour, raster.palette = "palette", _palette(page, name)
    elif photometric == 5:
        raster.colour = "cmyk"
        if raster.white not in (255, 65535):
            raise not_read(name, f"is CMYK of {bits} bits")
    elif photometric == 2 or (photometric == 6 and raster.lossy):
        raster.colour = "rgb"  # decoders of JPEG have made RGB of YCbCr
    elif photometric == 6:
        raster.colour, raster.values = "rgb", _ycbcr_to_rgb(page, values, name)
    return raster


def _check_colours(page: Any, photometric: int, samples: int, colours: int, name: str) -> None:
    if samples < colours:
        raise damaged(name)
    if photometric == 5 and page.tags.valueof(332, 1) != 1:
        raise not_read(name, "is printed with other inks than CMYK", "save it as RGB")
    extra = samples - colours
    if (
        photometric in (0, 1)
        and extra
        and not (extra == 1 or 2 in _extras(page) or 1 in _extras(page))
    ):
        raise not_read(
            name,
            f"has {samples} bands that are declared to be no colours",
            "save the band to examine, or three as RGB",
        )


def _extras(page: Any) -> tuple[int, ...]:
    return tuple(int(each) for each in _each(page.tags.valueof(338, ())))


def _set_extra(raster: Raster, page: Any, values: NDArray[Any], colours: int, name: str) -> None:
    """The first extra sample that is declared alpha is; others are none."""
    extras = _extras(page)
    declared = [
        i for i, kind in enumerate(extras) if kind in (1, 2) and colours + i < values.shape[2]
    ]
    others = values.shape[2] - colours - bool(declared)
    if others:
        channels = "a channel that is" if others == 1 else f"{others} channels that are"
        raster.notes.append(f"{channels} neither colour nor alpha passed over")
    if not declared:
        return
    raster.alpha = values[..., colours + declared[0]]
    raster.premultiplied = extras[declared[0]] == 1
    if np.issubdtype(values.dtype, np.floating):
        raster.alpha_white = 1
    elif values.dtype == np.bool_:
        raster.alpha, raster.alpha_white = raster.alpha.astype(np.uint8), 1
    else:
        raster.alpha_white = 2 ** min(int(page.bitspersample), 16) - 1


def _set_depth(raster: Raster, page: Any, bits_asked: int, name: str) -> None:
    """White by BitsPerSample; by what else declares fewer bits, where there is something."""
    bits = raster.bits
    if raster.values.dtype == np.bool_:
        raster.values, raster.white = raster.values.astype(np.uint8), 1
        return
    if raster.signed and bits < 32 and not (bits_asked and bits > 8):
        raise not_read(
            name,
            f"holds signed {bits}-bit values",
            "save it with values from 0, or say with --bits how many bits are used",
        )
    if bits <= 8 or bits in (10, 12, 14):
        raster.white = 2**bits - 1
        return
    raster.white = 2 ** min(bits, 16) - 1
    raster.declared = False
    declared = _declared_bits(page, bits)
    if declared and raster.values.max() < 2**declared:
        raster.white, raster.bits, raster.declared = 2**declared - 1, declared, True


def _declared_bits(page: Any, bits: int) -> int:
    """Bits that count by MaxSampleValue, OME's SignificantBits or Micro-Manager's BitDepth; 0 if nothing says so."""
    found: list[int] = []
    most = page.tags.valueof(281)
    for value in _each(most) if most is not None else ():
        # The tag may hold the brightest pixel; only an end of a range says something about depth.
        if isinstance(value, int) and value & (value + 1) == 0:
            found.append(value.bit_length())
    text = page.parent.pages[0].tags.valueof(270)
    if isinstance(text, str):
        found += [int(each) for each in re.findall(r'SignificantBits="(\d{1,2})"', text)[:1]]
    manager = page.tags.valueof(51123)
    if isinstance(manager, str):
        with contextlib.suppress(ValueError):
            manager = json.loads(manager)
    if isinstance(manager, dict) and str(manager.get("BitDepth", "")).isdigit():
        found.append(int(manager["BitDepth"]))
    return next((each for each in found if 8 <= each < bits), 0)


def _set_float_range(raster: Raster, page: Any, name: str) -> None:
    """SMinSampleValue and SMaxSampleValue say what is black and white; else it is 0 and 1."""
    low, high = page.tags.valueof(340), page.tags.valueof(341)
    if low is None or high is None:
        return
    low, high = min(_each(low)), max(_each(high))
    if not (np.isfinite(low) and np.isfinite(high) and high > low):
        return
    if (low, high) == (0, 1) or not np.isfinite(raster.values).all():
        return
    extremes = float(raster.values.min()), float(raster.values.max())
    if np.allclose(extremes, (low, high), rtol=1e-6) and not (low == 0 and (high + 1) % 256 == 0):
        # Many writers put the extremes of the pixels there, which would stretch each image by itself.
        return
    raster.values = (raster.values - low) / (high - low)
    raster.notes.append(f"{low:g} is black and {high:g} white, by its tags")


def _palette(page: Any, name: str) -> NDArray[np.uint8]:
    if page.colormap is None or page.colormap.size != 3 * 2 ** int(page.bitspersample):
        raise damaged(name)
    colours = np.asarray(page.colormap).astype(np.uint32).T
    if 0 < colours.max() < 256:  # written with 8 bits, against the specification
        return colours.astype(np.uint8)
    return ((colours * 255 + 32767) // 65535).astype(np.uint8)


def _ycbcr_to_rgb(page: Any, values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Luma and chroma without subsampling, by the coefficients and the reference levels of the tags."""
    if page.bitspersample != 8:
        raise not_read(name, "is in YCbCr of other than 8 bits", "save it as RGB")
    red, green, blue = _numbers(page.tags.valueof(529), (0.299, 0.587, 0.114))
    levels = _numbers(page.tags.valueof(532), (0, 255, 128, 255, 128, 255))
    if not green or len(levels) != 6 or any(levels[i] == levels[i + 1] for i in (0, 2, 4)):
        raise damaged(name)
    wide = values.astype(np.float32)
    luma = (wide[..., 0] - levels[0]) * 255 / (levels[1] - levels[0])
    chroma_b = (wide[..., 1] - levels[2]) * 127 / (levels[3] - levels[2])
    chroma_r = (wide[..., 2] - levels[4]) * 127 / (levels[5] - levels[4])
    r = chroma_r * (2 - 2 * red) + luma
    b = chroma_b * (2 - 2 * blue) + luma
    g = (luma - red * r - blue * b) / green
    return np.rint(np.clip(np.stack([r, g, b], axis=-1), 0, 255)).astype(np.uint8)


def _numbers(value: Any, default: tuple[float, ...]) -> tuple[float, ...]:
    """A tag of fractions, which tifffile gives as numerator, denominator, numerator, ..."""
    if value is None:
        return default
    flat: tuple[float, ...] = _each(value)
    if len(flat) == 2 * len(default):
        flat = tuple(n / d if d else 0.0 for n, d in zip(flat[::2], flat[1::2], strict=True))
    return flat if len(flat) == len(default) else default


def _orientation(page: Any) -> int:
    value = page.tags.valueof(274, 1)
    return int(value) if isinstance(value, int) else 1
