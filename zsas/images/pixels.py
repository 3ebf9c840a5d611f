"""Values of any depth and colour → uint8 RGB, by what the file says and never by its brightest pixel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError
from zsas.images.raster import Raster

_ROUNDING = 1e-3
"""Tolerance of a float image's range [0, 1]: less than one grey level, as arithmetic on an image may exceed it."""

_VISIBLE = 3
"""Alpha below this hides everything: 0, and 1 where somebody meant "opaque" on a scale of 0 to 1."""

_ROWS = 4_000_000
"""Values converted at once, so that no temporary array is larger than some tens of megabytes."""


def to_rgb(raster: Raster, bits: int, name: str) -> tuple[NDArray[np.uint8], Raster]:
    """uint8 RGB (H, W, 3) in memory of its own, and the raster with its notes.

    Args:
        raster: What was read.
        bits: Bits that count in values of more than 8; 0 for what the file says.
        name: For messages.

    Raises:
        ZsasError: If values are out of range, or all is transparent.
    """
    if raster.colour == "palette":
        colours = _looked_up(raster, name)
    else:
        colours = scaled(raster, bits, name)
        if raster.colour == "cmyk":
            colours = _ink_to_light(colours)
    if raster.alpha is None:
        return _three(colours), raster
    if np.issubdtype(raster.alpha.dtype, np.integer):
        lowest, highest = int(raster.alpha.min()), int(raster.alpha.max())
        if lowest < 0 or highest > raster.alpha_white:
            raise ZsasError(
                f"{name} holds a transparency from {lowest:,} to {highest:,}, but 0 to {raster.alpha_white:,} was "
                "expected; save it without transparency."
            )
    alpha = to_uint8(raster.alpha, raster.alpha_white, name)
    if alpha.max() < _VISIBLE:
        if _is_one_colour(colours):
            raise ZsasError(f"{name} is wholly transparent; save it without transparency.")
        raster.notes.append("its transparency hides everything and was ignored")
        return _three(colours), raster
    return on_white(_three(colours), alpha, raster.premultiplied), raster


def scaled(raster: Raster, bits: int, name: str) -> NDArray[np.uint8]:
    """The values as uint8, 255 for white; notes what looks wrong about the depth.

    Raises:
        ZsasError: If values are out of range.
    """
    values, white = raster.values, raster.white
    if values.dtype == np.bool_:
        values, white = values.astype(np.uint8), 1
    if np.issubdtype(values.dtype, np.integer) and white is not None:
        if raster.signed and values.size and values.min() < 0:
            raise ZsasError(
                f"{name} holds values from {values.min():,} to {values.max():,}, and does not say which is "
                "black; save it with 8 or 16 bits, from 0."
            )
        brightest = int(values.max())
        if bits and raster.bits > 8:
            white = 2**bits - 1
            raster.bits, raster.declared = bits, True
        if brightest > white:
            raise ZsasError(
                f"{name} holds values up to {brightest:,}, but {white:,} is the most that {raster.bits} bits hold; "
                "say with --bits how many are used."
            )
        if not raster.declared:
            _note_depth(raster, brightest, white)
        result = to_uint8(values, white, name)
    else:
        in_bits = bool(bits) and np.issubdtype(values.dtype, np.floating)
        result = to_uint8(values, 2**bits - 1 if in_bits else None, name)
    return np.uint8(255) - result if raster.inverted else result


def _note_depth(raster: Raster, brightest: int, white: int) -> None:
    """Note that deep values below a camera's usual limit probably use only that many bits."""
    for bits in (8, 10, 12, 14):
        if 0 < brightest < 2**bits and white >= 2 ** (bits + 2) - 1:
            raster.notes.append(
                f"brightest value {brightest:,} of {white:,}: "
                + (f"a {bits}-bit camera?" if bits > 8 else "8 bits?")
                + f" --bits {bits}"
            )
            return


def to_uint8(array: NDArray[Any], white: int | None, name: str) -> NDArray[np.uint8]:
    """Numbers as uint8, 255 for white.

    Args:
        array: Integers from 0 to `white`, or numbers of a type that tells its white: uint8, uint16, bool, float in
            [0, 1], or another whole-number type that holds 0 to 255.
        white: The value that means white; None by the type.
        name: For messages.

    Raises:
        ZsasError: If values are out of range, or no numbers.
    """
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if white is None:
        if array.dtype == np.uint8:
            return array
        if array.dtype == np.uint16:
            white = 65535
        elif np.issubdtype(array.dtype, np.floating):
            return _from_float(array, 1, name)
        elif np.issubdtype(array.dtype, np.integer):
            if array.min() < 0 or array.max() > 255:
                raise ZsasError(
                    f"{name} holds {array.dtype} values from {array.min()} to {array.max()}, but 0 to "
                    "255 was expected; pass uint8 or uint16."
                )
            return array.astype(np.uint8)
        else:
            raise ZsasError(
                f"{name} holds {array.dtype} values, but uint8, uint16, bool or float was expected."
            )
    if np.issubdtype(array.dtype, np.floating):
        return _from_float(array, white, name)
    if white == 255:
        return array.astype(np.uint8, copy=False)
    if white <= 65535:
        steps = np.arange(white + 1, dtype=np.uint32)
        return ((steps * 255 + white // 2) // white).astype(np.uint8)[array]
    return _by_rows(array, lambda rows: np.rint(rows.astype(np.float64) * (255 / white)))


def _from_float(array: NDArray[Any], white: float, name: str) -> NDArray[np.uint8]:
    lowest, highest = array.min(), array.max()
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        raise ZsasError(
            f"{name} holds NaN or infinite values; replace them with numbers from 0 to 1."
        )
    if lowest < -_ROUNDING * white or highest > (1 + _ROUNDING) * white:
        raise ZsasError(
            f"{name} holds float values from {lowest:g} to {highest:g}, but 0 to {white:g} "
            "was expected; divide by the largest possible value, or save it with 8 or 16 bits."
        )
    # float16 cannot hold 65535.
    return _by_rows(
        array,
        lambda rows: np.rint(np.clip(rows.astype(np.float32) / np.float32(white), 0, 1) * 255),
    )


def _by_rows(array: NDArray[Any], convert: Any) -> NDArray[np.uint8]:
    result = np.empty(array.shape, np.uint8)
    for rows in _bands(array):
        result[rows] = convert(array[rows])
    return result


def _bands(array: NDArray[Any]) -> Iterator[slice]:
    """Rows that are converted at once."""
    step = max(1, _ROWS // max(1, array[0].size))
    return (slice(top, top + step) for top in range(0, len(array), step))


def _looked_up(raster: Raster, name: str) -> NDArray[np.uint8]:
    palette = raster.palette
    assert palette is not None
    if raster.values.max() >= len(palette):
        raise ZsasError(
            f"{name} names colour {raster.values.max()}, but its palette has {len(palette)}; save it as RGB."
        )
    return palette[raster.values]


def _ink_to_light(cmyk: NDArray[np.uint8]) -> NDArray[np.uint8]:
    result = np.empty((*cmyk.shape[:2], 3), np.uint8)
    for rows in _bands(cmyk):
        paper = 255 - cmyk[rows].astype(np.uint32)
        result[rows] = (paper[..., :3] * paper[..., 3:] + 127) // 255
    return result


def _three(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey repeated, RGB as it is; in memory of its own."""
    if values.ndim == 2:
        values = values[..., None]
    return np.array(np.broadcast_to(values, (*values.shape[:2], 3)), order="C")


def _is_one_colour(values: NDArray[np.uint8]) -> bool:
    return bool((values == values[:1, :1]).all())


def on_white(
    colours: NDArray[np.uint8], alpha: NDArray[np.uint8], premultiplied: bool = False
) -> NDArray[np.uint8]:
    """RGB laid on white, as a browser shows it: (H, W, 3) and (H, W) → (H, W, 3)."""
    if alpha.min() == 255:
        return colours
    for rows in _bands(colours):
        share = alpha[rows, :, None].astype(np.uint32)
        light = colours[rows].astype(np.uint32)
        light = light * 255 if premultiplied else light * share
        colours[rows] = np.minimum((light + 255 * (255 - share) + 127) // 255, 255)
    return colours
