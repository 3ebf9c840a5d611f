"""What the samples of a TIFF page mean: colours, alpha, depth, palette."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.images.raster import Raster, damaged, not_read

_LOSSY = {6, 7, 33003, 33004, 33005, 33007, 34712, 34892, 50001, 50002, 52546}
"""Compressions that change values: JPEG, JPEG 2000, WebP, JPEG XL. Some can be lossless; nobody knows from the tag."""


Ends = tuple[float, float]
"""Lowest and highest value of a page's colours."""


def tiff_raster(
    page: Any, values: NDArray[Any], bits_asked: int, name: str, ends: Ends | None = None
) -> Raster:
    """The values of a page, or of a part of it, with what its tags say of them: colours, bits, alpha.

    Args:
        page: The page.
        values: (H, W) or (H, W, samples).
        bits_asked: See `ReadOptions`.
        name: For messages.
        ends: From `ends_of`, where `values` are a part; None where they are all.
    """
    photometric = photometric_of(page, name)
    bits = int(page.bitspersample)
    colours = _COLOURS.get(photometric, 1)
    samples = 1 if values.ndim == 2 else values.shape[2]
    raster = Raster(values, "grey", None, "TIFF", bits, signed=page.sampleformat == 2)
    raster.lossy = int(page.compression) in _LOSSY
    if photometric != page.photometric:
        raster.notes.append("does not say what its values mean; taken for RGB")
    _check_colours(page, photometric, samples, colours, name)
    if samples > colours:
        _set_extra(raster, page, values, colours, name)
        values = _of_colour(values, colours)
    raster.values = values
    if np.issubdtype(values.dtype, np.floating):
        _set_float_range(raster, page, ends)
    else:
        _set_depth(raster, page, bits_asked, name, ends)
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


def ends_of(page: Any, parts: Iterable[NDArray[Any]], name: str) -> Ends | None:
    """The ends of a page that is read in parts, where it follows from them whether its tags are believed; else None."""
    in_floats = np.issubdtype(page.dtype, np.floating)
    if not (_range_by_tags(page) if in_floats else _declared_bits(page, int(page.bitspersample))):
        return None
    colours = _COLOURS.get(photometric_of(page, name), 1)
    seen = (_of_colour(part, colours) for part in parts)  # one band in memory at a time
    ends = [(float(part.min()), float(part.max())) for part in seen]
    return min(low for low, _ in ends), max(high for _, high in ends)


def _of_colour(values: NDArray[Any], colours: int) -> NDArray[Any]:
    if values.ndim == 2:
        return values
    return values[..., :colours] if colours > 1 else values[..., 0]


def photometric_of(page: Any, name: str) -> int:
    """PhotometricInterpretation; three values and more are RGB where it is missing.

    Raises:
        ZsasError: If it is missing for grey: tifffile would take 0 for white, others refuse it or take it for black.
    """
    if 262 in page.tags or page.compression in (2, 3, 4, 6, 7):
        return int(page.photometric)
    if page.samplesperpixel < 3:
        raise not_read(
            name, "does not say whether 0 is black or white (its photometric tag is missing)"
        )
    return 2


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


_COLOURS = {2: 3, 5: 4, 6: 3}
"""Samples of a colour by PhotometricInterpretation; one of all others."""


def _extras(page: Any) -> tuple[int, ...]:
    return tuple(int(each) for each in each_of(page.tags.valueof(338, ())))


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


def _set_depth(raster: Raster, page: Any, bits_asked: int, name: str, ends: Ends | None) -> None:
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
    if declared and (raster.values.max() if ends is None else ends[1]) < 2**declared:
        raster.white, raster.bits, raster.declared = 2**declared - 1, declared, True


def _declared_bits(page: Any, bits: int) -> int:
    """Bits that count by MaxSampleValue, OME's SignificantBits or Micro-Manager's BitDepth; 0 if nothing says so."""
    most = page.tags.valueof(281)
    # The tag may hold the brightest pixel; only an end of a range says something about depth.
    found = [
        value.bit_length()
        for value in (each_of(most) if most is not None else ())
        if isinstance(value, int) and value & (value + 1) == 0
    ]
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


def _range_by_tags(page: Any) -> Ends | None:
    """SMinSampleValue and SMaxSampleValue, where they say that black and white are something else than 0 and 1."""
    low, high = page.tags.valueof(340), page.tags.valueof(341)
    if low is None or high is None:
        return None
    low, high = min(each_of(low)), max(each_of(high))
    said = np.isfinite(low) and np.isfinite(high) and high > low and (low, high) != (0, 1)
    return (low, high) if said else None


def _set_float_range(raster: Raster, page: Any, ends: Ends | None) -> None:
    said = _range_by_tags(page)
    if said is None or not np.isfinite(raster.values).all():
        return
    low, high = said
    extremes = ends or (float(raster.values.min()), float(raster.values.max()))
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
    return (colours >> 8).astype(np.uint8)  # right for colours written times 256 and times 257


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
    flat: tuple[float, ...] = each_of(value)
    if len(flat) == 2 * len(default):
        flat = tuple(n / d if d else 0.0 for n, d in zip(flat[::2], flat[1::2], strict=True))
    return flat if len(flat) == len(default) else default


def each_of(value: Any) -> tuple[Any, ...]:
    """A tag's value, or its values, as a tuple."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,)
