"""What defects and normal irregularities are drawn with: places, shapes, tones, visible change.

Frames: arrays are (S, S[, 3]) float32 in [0, 1]; points are (x, y) in pixels; lengths scale with
the object through :func:`extent`, so one recipe serves 256 and 512 px images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tiny.synthetic.noise import fractal
from tiny.synthetic.surface import Surface

Array = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]
Rng = np.random.Generator
Painter = Callable[[Rng, Surface, float], tuple[Array, Array]]
Defect = Callable[[Rng, Surface], tuple[Array, Mask]]

REFERENCE = 384.0
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A number in [low, high] whose logarithm is uniform: small values are as frequent as large."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def blur(field: Any, sigma: float) -> Array:
    """Gaussian blur of a field; no-op below 0.2 px. Wide blurs run on a smaller grid."""
    field = np.asarray(field, np.float32)
    if sigma < 0.2:
        return field
    if sigma > 6.0:
        step = int(sigma // 3)
        size = (max(2, field.shape[1] // step), max(2, field.shape[0] // step))
        small = cv2.resize(field, size, interpolation=cv2.INTER_AREA)
        small = cv2.GaussianBlur(small, (0, 0), sigma / step)
        return np.asarray(
            cv2.resize(small, (field.shape[1], field.shape[0]), interpolation=cv2.INTER_LINEAR),
            np.float32,
        )
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma), np.float32)


def noise(rng: Rng, size: int, cell: float, octaves: int = 1, stretch: float = 1.0) -> Array:
    """Smooth noise (size, size), zero mean, unit deviation; detail of `cell` px and finer."""
    return fractal(rng, size, max(1.0, cell), octaves, 0.6, stretch)


@dataclass
class CloseUp(Surface):
    """A square cut out of a surface, which keeps the measures of the whole.

    Attributes:
        whole: side of the whole picture in px.
        side: :func:`extent` of the whole object in px.
    """

    whole: int = 0
    side: float = 0.0


def px(surface: Surface, length: float) -> float:
    """A length given for a 384 px image, in the pixels of this surface."""
    whole = surface.whole if isinstance(surface, CloseUp) else surface.rgb.shape[0]
    return length * whole / REFERENCE


def extent(surface: Surface) -> float:
    """Side in px of the square with the object's area: what "large" is measured against."""
    if isinstance(surface, CloseUp):
        return surface.side
    return float(np.sqrt(max(1.0, float(surface.region.sum()))))


def place(
    rng: Rng, surface: Surface, margin: float = 0.0, edge: bool = False
) -> tuple[float, float]:
    """A point (x, y) of the object, at least `margin` px inside, or on its outline when `edge`."""
    region: Any = surface.region.astype(np.uint8)
    size = region.shape[0]
    if edge:
        if region.all():
            t, side = rng.uniform(0, size - 1), int(rng.integers(4))
            last = size - 1.0
            return [(t, 0.0), (t, last), (0.0, t), (last, t)][side]
        region = region - cv2.erode(region, np.ones((3, 3), np.uint8), borderValue=0)
    elif margin >= 1:
        kernel = np.ones((2 * int(margin) + 1,) * 2, np.uint8)
        inner = cv2.erode(region, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0)
        region = inner if inner.any() else region
    spots = np.flatnonzero(region)
    if not len(spots):
        return size / 2.0, size / 2.0
    y, x = divmod(int(spots[rng.integers(len(spots))]), size)
    return float(x), float(y)


def polygon(size: int, points: Any) -> Array:
    """Antialiased filled polygon, (size, size) in [0, 1]; `points` (n, 2) in px."""
    canvas = np.zeros((size, size), np.uint8)
    corners = np.round(np.asarray(points, np.float64) * 16).astype(np.int32)
    cv2.fillPoly(canvas, [corners], 255, lineType=cv2.LINE_AA, shift=4)
    return canvas.astype(np.float32) / 255


def outline(
    rng: Rng,
    centre: tuple[float, float],
    radius: float,
    aspect: float = 1.0,
    wobble: float = 0.25,
    corners: int = 48,
    angle: float | None = None,
) -> NDArray[np.float64]:
    """Points (corners, 2) of a closed irregular curve; `wobble` 0: an ellipse, 0.5: a splash."""
    theta = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    r = np.ones(corners)
    for k in range(2, 8):
        r += wobble * rng.normal() / k**0.8 * np.cos(k * theta + rng.uniform(0, 6.3))
    r = radius * np.clip(r, 0.25, 2.0)
    turn = rng.uniform(0, np.pi) if angle is None else angle
    x, y = r * np.cos(theta) * np.sqrt(aspect), r * np.sin(theta) / np.sqrt(aspect)
    c, s = np.cos(turn), np.sin(turn)
    return np.stack([centre[0] + c * x - s * y, centre[1] + s * x + c * y], 1)


def blob(
    rng: Rng,
    surface: Surface,
    centre: tuple[float, float],
    radius: float,
    *,
    aspect: float | None = None,
    wobble: float = 0.25,
    ragged: float = 0.0,
    soft: float = 0.7,
    cell: float = 0.0,
    clip: bool = True,
) -> Array:
    """Irregular patch as opacity: `soft` px of edge blur, `ragged` strength of edge noise."""
    size = surface.rgb.shape[0]
    aspect = log_uniform(rng, 1, 2.5) if aspect is None else aspect
    patch = polygon(size, outline(rng, centre, radius, aspect, wobble))
    if ragged > 0:
        spread = blur(patch, max(0.8, 0.35 * radius))
        grit = noise(rng, size, cell or max(2.0, 0.5 * radius), 3)
        patch = np.clip((spread + 0.25 * ragged * grit * (spread > 0.02) - 0.5) * 8 + 0.5, 0, 1)
    patch = blur(patch, soft)
    return patch * surface.region if clip else patch


def walk(
    rng: Rng,
    start: tuple[float, float],
    length: float,
    heading: float,
    curl: float = 0.2,
    jitter: float = 0.0,
    steps: int = 40,
) -> NDArray[np.float64]:
    """A wandering line (steps, 2) px: `curl` radians of slow turning, `jitter` radians of kinks."""
    t = np.linspace(0, 1, steps)
    turn = curl * (rng.normal() * t + rng.normal() * np.sin(2 * np.pi * t * rng.uniform(0.3, 1.5)))
    angles = heading + turn + jitter * rng.standard_normal(steps)
    step = length / (steps - 1)
    moves = step * np.stack([np.cos(angles), np.sin(angles)], 1)
    line = np.cumsum(moves, 0)
    return line - line[len(line) // 2] + np.asarray(start)


def stroke(size: int, line: NDArray[np.float64], widths: Any) -> Array:
    """A line of varying width in px, as opacity; widths under one pixel become fainter instead."""
    widths = np.broadcast_to(np.asarray(widths, np.float64), (len(line),))
    direction = np.gradient(line, axis=0)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True) + 1e-9
    side = (
        np.stack([-direction[:, 1], direction[:, 0]], 1)
        * (np.maximum(widths - 0.8, 0.1) / 2)[:, None]
    )
    drawn = polygon(size, np.concatenate([line + side, (line - side)[::-1]]))
    thin = float(widths.mean())
    return drawn * min(1.0, 0.35 + 0.65 * thin)


def taper(steps: int, width: float, ends: float = 0.2) -> NDArray[np.float64]:
    """Widths along a line that thin out at both ends."""
    t = np.linspace(0, 1, steps)
    return width * (ends + (1 - ends) * np.sin(np.pi * t) ** 0.6)


def mean_colour(surface: Surface, where: Array) -> Array:
    """Mean colour (3,) of the surface under an opacity, or of the object when that is empty."""
    weight = where if float(where.sum()) > 0.5 else surface.region.astype(np.float32)
    return np.array(cv2.mean(surface.rgb, (weight > 0.15).astype(np.uint8))[:3], np.float32)


def contrast(
    rng: Rng, surface: Surface, where: Array, gain: float, low: float = 0.06, high: float = 0.6
) -> float:
    """Strength of a tone change, at most 0.95, log-uniform; grows with the texture around it."""
    spots = surface.rgb[where > 0.15]
    texture = float(np.std(spots[:, 1])) if len(spots) > 8 else 0.0
    return min(0.95, gain * (log_uniform(rng, low, high) + 0.6 * min(texture, 0.2)))


def tint(
    rng: Rng, base: Array, amount: float, *, dark: float = 0.65, chroma: float = 0.35
) -> Array:
    """A colour (3,) that differs from `base` by about `amount`: darker with probability `dark`."""
    level = float(base @ LUMA)
    sign = -1.0 if rng.random() < dark else 1.0
    if sign < 0 and level < 0.3 * amount + 0.03:
        sign = 1.0
    elif sign > 0 and level > 1 - 0.3 * amount:
        sign = -1.0
    amount = min(amount, max(0.05, 0.9 * level if sign < 0 else 0.95 * (1 - level)))
    hue = rng.standard_normal(3).astype(np.float32)
    return np.clip(base + sign * amount + chroma * amount * (hue - hue.mean()), 0, 1).astype(
        np.float32
    )


def window(field: Any, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the tight box around what is not zero, plus a margin, inside the picture.

    Defects are small: working in their box only is what makes them cheap.
    """
    x, y, w, h = cv2.boundingRect(np.asarray(field, bool).astype(np.uint8))
    return (slice(max(0, y - margin), y + h + margin), slice(max(0, x - margin), x + w + margin))


def luma(rgb: Array) -> Array:
    """Brightness (S, S) of an RGB picture."""
    return np.asarray(cv2.transform(rgb, LUMA[None, :]), np.float32).reshape(rgb.shape[:2])


def spread(field: Array) -> Array:
    """(h, w) to three equal channels."""
    return np.asarray(cv2.merge([field, field, field]), np.float32)


def mix(rgb: Array, colour: Any, alpha: Array) -> Array:
    """`rgb` covered by `colour` ((3,) or (S, S, 3)) with opacity `alpha` (S, S)."""
    box = window(alpha)
    result = np.array(rgb, np.float32)
    if (box[0].stop - box[0].start) <= 0:
        return result
    cover = np.asarray(colour, np.float32)
    part = result[box]
    over = cover[box] if cover.ndim == 3 else np.broadcast_to(cover, part.shape)
    part += (over - part) * spread(np.ascontiguousarray(alpha[box], np.float32))
    return result


def soak(rgb: Array, base: Array, colour: Array, alpha: Array) -> Array:
    """Shift the surface from tone `base` towards `colour` and keep its texture: dye, not paint."""
    box = window(alpha)
    result = np.array(rgb, np.float32)
    local = np.ascontiguousarray(alpha[box], np.float32)
    if local.size:
        shift = [float(step) for step in np.asarray(colour - base).ravel()]
        moved = result[box] + cv2.merge([local * step for step in shift])
        result[box] = np.clip(moved, 0, 1)
    return result


def relief(rgb: Array, height: Array, rng: Rng, amount: float) -> Array:
    """Light a height field (px) from a random side: slopes towards the lamp brighten."""
    angle = rng.uniform(0, 2 * np.pi)
    dx = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=0.125)
    dy = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=0.125)
    slope = dx * np.float32(np.cos(angle)) + dy * np.float32(np.sin(angle))
    peak = float(np.abs(slope).max())
    if peak < 1e-6:
        return rgb
    box = window(np.abs(slope) > 0.004 * peak)
    lit = spread(np.ascontiguousarray(slope[box] * np.float32(amount / peak)))
    result = np.array(rgb, np.float32)
    result[box] = np.clip(result[box] * (1 + 1.2 * lit) + 0.35 * lit, 0, 1)
    return result


def displace(rgb: Array, dx: Array, dy: Array) -> Array:
    """Resample so that the pixel at (x, y) shows what was at (x + dx, y + dy)."""
    box = window(np.abs(dx) + np.abs(dy) > 0.03)
    result = np.array(rgb, np.float32)
    rows = np.arange(box[0].start, min(box[0].stop, rgb.shape[0]), dtype=np.float32)[:, None]
    columns = np.arange(box[1].start, min(box[1].stop, rgb.shape[1]), dtype=np.float32)[None, :]
    if rows.size and columns.size:
        x, y = dx[box].astype(np.float32) + columns, dy[box].astype(np.float32) + rows
        moved = cv2.remap(rgb, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
        result[box] = np.clip(moved, 0, 1)
    return result


def turning(centre: Any, degrees: float, scale: float = 1.0) -> NDArray[np.float64]:
    """2 x 3 matrix that turns the picture about a point (x, y)."""
    x, y = (float(value) for value in centre)
    return np.array(cv2.getRotationMatrix2D((x, y), float(degrees), scale), np.float64)


def warp(field: Any, matrix: NDArray[np.float64]) -> Array:
    """A field or picture moved by a 2 x 3 matrix; drawings get empty borders, pictures mirrored."""
    size = (field.shape[1], field.shape[0])
    border = cv2.BORDER_REFLECT if field.ndim == 3 else cv2.BORDER_CONSTANT
    return np.asarray(cv2.warpAffine(field, matrix, size, borderMode=border), np.float32)


def shift(field: Array, dx: float, dy: float) -> Array:
    """A drawing moved by (dx, dy) px."""
    return warp(field, np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]]))


def difference(one: NDArray[np.generic], other: NDArray[np.generic]) -> NDArray[np.float32]:
    """Largest difference of any channel of two pictures (S, S, 3) of one dtype, float32 (S, S)."""
    # OpenCV, as NumPy's largest of three channels takes many times longer.
    red, green, blue = cv2.split(cv2.absdiff(one, other))
    return cv2.max(cv2.max(red, green), blue).astype(np.float32)
