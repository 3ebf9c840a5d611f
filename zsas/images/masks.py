"""One rule for what a ground-truth mask marks, whatever it is stored in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError
from zsas.images.load import ImageSource, decode
from zsas.images.raster import Raster, ReadOptions, size_text

_NEARLY = 8
"""Levels by which a quantiser may miss black and white."""


def read_mask(
    source: ImageSource, shape: tuple[int, int], name: str = "The mask"
) -> NDArray[np.bool_]:
    """A ground-truth mask: bool, shape = (H, W), True where a pixel is not 0.

    Where the codec is lossy, which leaves traces around every edge, True is half of white and more. Of a palette the
    colour counts where it holds black, white and greys only, and the index elsewhere, as in Pascal VOC.

    Args:
        source: The file, or anything else that `load_image` takes.
        shape: (H, W) of the image that the mask belongs to.
        name: Of what has no name of its own, for messages.

    Raises:
        ZsasError: If it cannot be read, is no mask (transparent, CMYK, signed), or has another size than the image.
    """
    name, raster = decode(source, ReadOptions(), name)
    mask = to_mask(raster, name)
    if mask.shape != tuple(shape):
        raise ZsasError(
            f"{name} is a mask of {size_text(mask.shape)} pixels, but its image has {size_text(shape)}; "
            "a mask must have the size of its image."
        )
    return mask


def to_mask(raster: Raster, name: str) -> NDArray[np.bool_]:
    """Which pixels are marked: bool (H, W).

    Raises:
        ZsasError: If the values cannot be those of a mask.
    """
    instead = "save it as a grey PNG, black for normal"
    if raster.alpha is not None and raster.alpha.min() < raster.alpha_white:
        raise ZsasError(f"{name} is partly transparent, which a mask cannot be; {instead}.")
    if raster.colour == "cmyk":
        raise ZsasError(f"{name} is a mask in CMYK, where 0 is white; {instead}.")
    values = raster.values
    if raster.colour == "palette":
        by_colour = _by_colour(raster)
        return np.asarray(values != 0) if by_colour is None else by_colour[values]
    if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
        raise ZsasError(f"{name} is a mask with NaN or infinite values; {instead}.")
    if (raster.signed and values.dtype.itemsize < 4) or (values.size and values.min() < 0):
        raise ZsasError(f"{name} is a mask of signed values; {instead}.")
    white = 1 if raster.white is None else raster.white
    if values.ndim == 3:
        values = values.max(axis=2) if not raster.inverted else values.min(axis=2)
    if raster.inverted:
        values = white - values
    if not raster.lossy:
        return np.asarray(values > (1e-9 if np.issubdtype(values.dtype, np.floating) else 0))
    brightest = values.max()
    if 0 < brightest < (white + 1) / 2:
        raise ZsasError(
            f"{name} is a lossy {raster.format} whose brightest value is {brightest:g} of {white:,}, "
            f"so that marks and traces of compression cannot be told apart; {instead}."
        )
    return np.asarray(values >= (white + 1) / 2)


def _by_colour(raster: Raster) -> NDArray[np.bool_] | None:
    """For each index whether it is marked, where the palette is of greys from black on; None where the index counts."""
    palette = raster.palette
    assert palette is not None
    used = np.flatnonzero(np.bincount(raster.values.ravel(), minlength=len(palette)))
    if used[-1] >= len(palette):
        return None
    if len(used) > 1 and len(np.unique(palette[used], axis=0)) == 1:
        return None  # the colours tell nothing apart, as where a palette was left empty
    # One colour alone does not say what the others mean; where there are more, the palette may be padded with black.
    for colours in (palette[used], palette) if len(used) > 1 else (palette,):
        levels = colours.max(axis=1)
        is_grey = (levels - colours.min(axis=1) <= _NEARLY).all()
        if is_grey and levels.min() <= _NEARLY and levels.max() > 0:
            # Where there is white, a quantiser may have made nearly black of black.
            black = levels.min() if levels.max() >= 255 - _NEARLY else 0
            return np.asarray(palette.max(axis=1) > black)
    return None
