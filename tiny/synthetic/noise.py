"""Fast building blocks shared by textures, objects, defects and the camera.

Everything works on float32 square fields and draws only from the generator it is given, so an
image is a function of its seed. Fractal noise is made by resizing small Gaussian fields, which
costs a few hundred microseconds at 384 px where evaluating a lattice noise would cost ten times
that.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Field = NDArray[np.float32]
Array = NDArray[Any]
Rng = np.random.Generator


def rescale(field: Array) -> Field:
    """Stretch a field linearly so that it spans [0, 1]."""
    low, high, _, _ = cv2.minMaxLoc(field)
    return np.asarray((field - low) * (1.0 / max(high - low, 1e-6)), np.float32)


def standard(field: Array) -> Field:
    """Shift and scale a field to zero mean and unit standard deviation."""
    mean, deviation = cv2.meanStdDev(field)
    return np.asarray(
        (field - float(mean.flat[0])) * (1.0 / max(float(deviation.flat[0]), 1e-6)),
        np.float32,
    )


def white(rng: Rng, height: int, width: int | None = None) -> Field:
    """White Gaussian noise, zero mean and unit variance."""
    return rng.standard_normal((height, width or height), dtype=np.float32)


def _spline(size: int, spacing: float, phase: float) -> Field:
    """Cubic B-spline weights ``(size, knots)`` of each pixel, rows scaled to unit norm.

    Unit rows keep independent unit Gaussian knots at unit variance on every pixel.
    """
    position = np.arange(size, dtype=np.float32)[:, None] / np.float32(spacing) + phase
    knots = np.arange(-1, int(size / spacing) + 4, dtype=np.float32)[None, :]
    t = np.abs(position - knots)
    near = 2 / 3 - t * t * (1 - t / 2)
    far = np.maximum(2 - t, 0) ** 3 / 6
    weights = np.where(t < 1, near, far)
    return np.asarray(weights / np.sqrt((weights**2).sum(1, keepdims=True)), np.float32)


def smooth(rng: Rng, size: int, scale: float, scale_y: float | None = None) -> Field:
    """One octave of noise whose features are ``scale`` pixels wide (``scale_y`` high).

    Coarse axes interpolate Gaussian knots by a cubic B-spline (a product with a narrow matrix);
    fine ones enlarge white noise.

    Args:
        rng: source of randomness.
        size: side of the field in pixels.
        scale: horizontal feature size in pixels; may exceed the image.
        scale_y: vertical feature size in pixels; equal to ``scale`` by default.

    Returns:
        float32 ``(size, size)``, zero mean and unit variance in expectation.
    """
    tall = scale if scale_y is None else scale_y
    across, down = (
        _spline(size, 0.8 * s, float(rng.random())) if s > size / 10 else None
        for s in (scale, tall)
    )
    columns = across.shape[1] if across is not None else min(size, round(size / max(scale, 1.0)))
    rows = down.shape[1] if down is not None else min(size, round(size / max(tall, 1.0)))
    if across is None and down is None:
        field = np.ascontiguousarray(grain(rng, max(rows, columns))[:rows, :columns])
    else:
        field = white(rng, rows, columns)
    if down is not None:
        field = down @ field
    if across is not None:
        field = field @ across.T
    if field.shape == (size, size):
        return np.asarray(field, np.float32)
    # The cubic kernel of resize lowers the variance between the samples to 0.86 an axis.
    gain = np.prod([np.float32(1.078) for side in field.shape if side != size])
    big = cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(big * gain, np.float32)


def fractal(
    rng: Rng,
    size: int,
    scale: float,
    octaves: int = 4,
    gain: float = 0.5,
    stretch: float = 1.0,
) -> Field:
    """Sum of octaves from ``scale`` downwards, each half as wide and ``gain`` times as strong.

    Args:
        rng: source of randomness.
        size: side of the field in pixels.
        scale: width of the largest features, in pixels.
        octaves: at most this many octaves; those finer than a pixel are left out.
        gain: strength of an octave relative to the one before.
        stretch: features are this many times longer along x than along y.

    Returns:
        float32 ``(size, size)``, zero mean and unit variance.
    """
    total = np.zeros((size, size), np.float32)
    strength = 1.0
    for octave in range(octaves):
        wavelength = scale / 2**octave
        if wavelength < 1.0 and octave:
            break
        total += strength * smooth(rng, size, wavelength * stretch, wavelength)
        strength *= gain
    return standard(total)


def rotated(field: Field, angle: float, size: int) -> Field:
    """The central ``size`` square of a larger field after a turn; edges are mirrored.

    The field's x axis then points along ``angle``, in radians from x (right) towards y (down), as
    in :func:`coordinates`.
    """
    height, width = field.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), -float(np.degrees(angle)), 1.0)
    turn[:, 2] += (size - width) / 2, (size - height) / 2
    return np.asarray(
        cv2.warpAffine(
            field,
            turn,
            (size, size),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )
    )


def streaks(rng: Rng, size: int, length: float, width: float = 1.0, angle: float = 0.0) -> Field:
    """Anisotropic noise: streaks ``length`` by ``width`` pixels along ``angle`` (unit variance)."""
    if abs(np.sin(2 * angle)) < 1e-3:
        field = smooth(rng, size, length, width)
        return standard(field if abs(np.sin(angle)) < 0.5 else np.ascontiguousarray(field.T))
    return standard(rotated(smooth(rng, int(size * 1.42) + 2, length, width), angle, size))


def coordinates(
    size: int,
    angle: float = 0.0,
    warp: float = 0.0,
    rng: Rng | None = None,
    warp_scale: float = 80.0,
) -> tuple[Field, Field]:
    """Pixel coordinates turned by ``angle`` and, with ``rng``, smoothly bent by ``warp`` pixels.

    Returns:
        Two float32 ``(size, size)`` fields, x along the turned axis and y across it, in pixels.
    """
    axis = np.arange(size, dtype=np.float32)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x = cosine * axis[None, :] + sine * axis[:, None]
    y = cosine * axis[:, None] - sine * axis[None, :]
    if rng is not None and warp > 0:
        x += warp * smooth(rng, size, warp_scale)
        y += warp * smooth(rng, size, warp_scale)
    return x, y


def warped(rng: Rng, image: Field, amount: float, scale: float) -> Field:
    """Bend a field or an image smoothly by about ``amount`` pixels over ``scale`` pixels."""
    size = image.shape[0]
    axis = np.arange(size, dtype=np.float32)
    x = amount * smooth(rng, size, scale) + axis[None, :]
    y = amount * smooth(rng, size, scale) + axis[:, None]
    return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def cells(
    rng: Rng, size: int, scale: float, jitter: float = 1.0
) -> tuple[NDArray[np.int32], Field]:
    """Voronoi cells of jittered seeds on a grid, by a labelled distance transform.

    Args:
        rng: source of randomness.
        size: side of the field in pixels.
        scale: mean distance between seeds in pixels.
        jitter: 0 for a regular grid, 1 for fully random seeds.

    Returns:
        int32 ``(size, size)`` labels 0..n-1 and float32 distance in pixels to the nearest seed.
    """
    count = max(2, int(np.ceil(size / scale)) + 1)
    grid = (np.stack(np.meshgrid(np.arange(count), np.arange(count)), -1) + 0.5).reshape(-1, 2)
    seeds = grid + jitter * rng.uniform(-0.5, 0.5, grid.shape)
    seeds = np.clip((seeds * scale).astype(np.int32), 0, size - 1)
    canvas = np.full((size, size), 255, np.uint8)
    canvas[seeds[:, 1], seeds[:, 0]] = 0
    distance, labels = cv2.distanceTransformWithLabels(
        canvas, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    return np.asarray(labels, np.int32) - 1, np.asarray(distance, np.float32)


def cell_edges(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Pixels whose right or lower neighbour belongs to another cell."""
    edge = np.zeros(labels.shape, bool)
    edge[:, :-1] |= labels[:, 1:] != labels[:, :-1]
    edge[:-1] |= labels[1:] != labels[:-1]
    return edge


def relief(height: Array, angle: float, depth: float = 1.0) -> Field:
    """Shading of a height field lit from ``angle`` (radians): its slope towards the light."""
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], np.float32) * 0.125 * depth
    kernel = (np.cos(angle) * sobel + np.sin(angle) * sobel.T).astype(np.float32)
    return np.asarray(cv2.filter2D(height, cv2.CV_32F, kernel), np.float32)


def ramp(field: Array, colours: ArrayLike, stops: Sequence[float] | None = None) -> Field:
    """Colour a field by linear interpolation between colours.

    Args:
        field: float32 ``(H, W)``; values are clipped to [0, 1].
        colours: ``(n, 3)`` colours in [0, 1].
        stops: n increasing positions in [0, 1]; evenly spread by default.

    Returns:
        float32 ``(H, W, 3)``.
    """
    table = np.asarray(colours, np.float32)
    positions = np.linspace(0, 1, len(table)) if stops is None else np.asarray(stops)
    samples = np.linspace(0, 1, 256)
    index = cv2.convertScaleAbs(np.clip(field, 0, 1), alpha=255)
    planes = [
        cv2.LUT(index, np.interp(samples, positions, table[:, channel]).astype(np.float32))
        for channel in range(3)
    ]
    return np.asarray(cv2.merge(planes), np.float32)


def tint(field: Array, colour: ArrayLike) -> Field:
    """Multiply a brightness field by a colour: float32 ``(H, W, 3)``, clipped to [0, 1]."""
    bright = np.asarray(field, np.float32)
    planes = [np.clip(bright * np.float32(shade), 0, 1) for shade in np.asarray(colour)]
    return np.asarray(cv2.merge(planes), np.float32)


def times(image: Array, field: Array) -> Field:
    """Multiply the three channels of an image by a field."""
    plane = np.asarray(field, np.float32)
    return np.asarray(cv2.multiply(image, cv2.merge([plane, plane, plane])), np.float32)


def plus(image: Array, field: Array) -> Field:
    """Add a field to the three channels of an image."""
    plane = np.asarray(field, np.float32)
    return np.asarray(cv2.add(image, cv2.merge([plane, plane, plane])), np.float32)


def plain(size: int, colour: ArrayLike) -> Field:
    """An image of one colour, float32 ``(size, size, 3)``."""
    return np.asarray(np.full((size, size, 3), np.asarray(colour, np.float32)), np.float32)


def blend(below: Array, above: Array, cover: Array) -> Field:
    """Lay one image over another: ``below * (1 - cover) + above * cover``."""
    weight = np.asarray(cover, np.float32)
    return np.asarray(cv2.blendLinear(below, above, 1 - weight, weight), np.float32)


def colour(
    rng: Rng,
    hue: tuple[float, float] = (0, 360),
    saturation: tuple[float, float] = (0, 0.6),
    value: tuple[float, float] = (0.2, 0.9),
) -> Field:
    """A random colour, float32 ``(3,)``, from ranges of hue (degrees), saturation and value.

    Weak colours are more frequent than strong ones within the range, as in real materials.
    """
    h, v = rng.uniform(*hue) % 360 / 60, rng.uniform(*value)
    s = saturation[0] + (saturation[1] - saturation[0]) * rng.random() ** 1.6
    # Foley and van Dam: each channel is v(1 - s * clip(min(k, 4 - k), 0, 1)), k = (n + h) mod 6.
    k = (np.array([5.0, 3.0, 1.0]) + h) % 6
    return np.asarray(v - v * s * np.clip(np.minimum(k, 4 - k), 0, 1), np.float32)


def metal_colour(rng: Rng, value: tuple[float, float] = (0.25, 0.75)) -> Field:
    """A nearly neutral grey, slightly warm or cold, float32 ``(3,)``."""
    cast = rng.normal(0, 0.015)
    return np.asarray(rng.uniform(*value) * np.array([1 + cast, 1.0, 1 - cast]), np.float32)


def curve(
    rng: Rng,
    start: tuple[float, float],
    length: float,
    angle: float,
    bend: float = 0.3,
    jag: float = 0.0,
    steps: int = 40,
) -> NDArray[np.float32]:
    """A random open curve as points, for scratches, cracks, hairs and veins.

    Args:
        rng: source of randomness.
        start: (x, y) of the first point in pixels.
        length: arc length in pixels.
        angle: first direction in radians.
        bend: standard deviation of the total smooth turn, in radians.
        jag: standard deviation of the independent turn at each step, in radians.
        steps: number of segments.

    Returns:
        float32 ``(steps + 1, 2)`` points (x, y).
    """
    slow = np.interp(np.arange(steps), np.linspace(0, steps, 5), rng.normal(0, 1, 5))
    heading = angle + np.cumsum(slow) * bend / np.sqrt(steps * 4) + jag * rng.normal(0, 1, steps)
    step = length / steps * np.stack([np.cos(heading), np.sin(heading)], -1)
    return np.vstack([[start], np.asarray(start) + np.cumsum(step, 0)]).astype(np.float32)


def specks(rng: Rng, size: int, count: int, radius: tuple[float, float]) -> Field:
    """Coverage in [0, 1] of ``count`` small antialiased dots with radii from a range (pixels)."""
    canvas = np.zeros((size, size), np.uint8)
    centres = rng.uniform(0, size, (count, 2))
    radii = rng.uniform(*radius, count)
    for (x, y), r in zip(centres, radii, strict=True):
        cv2.circle(
            canvas,
            (int(x * 8), int(y * 8)),
            max(int(r * 8), 3),
            255,
            -1,
            cv2.LINE_AA,
            3,
        )
    return np.asarray(canvas.astype(np.float32) / 255.0, np.float32)


@lru_cache(maxsize=1)
def _noise_bank() -> Field:
    """Fixed white noise to cut windows from; drawing it once saves milliseconds an image."""
    return np.random.default_rng(2024).standard_normal((1536, 1536), dtype=np.float32)


def grain(rng: Rng, size: int) -> Field:
    """A randomly placed and mirrored window of a fixed field of white noise (unit variance).

    Several times faster than :func:`white`, for noise of which only the statistics matter.
    """
    bank = _noise_bank()
    if size > bank.shape[0] - 64:
        return white(rng, size)
    row, column = rng.integers(0, bank.shape[0] - size, 2)
    window = bank[row : row + size, column : column + size]
    flips = rng.integers(0, 4)
    window = window[::-1] if flips & 1 else window
    return np.ascontiguousarray(window[:, ::-1] if flips & 2 else window)
