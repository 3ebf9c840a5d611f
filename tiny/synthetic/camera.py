"""From an ideal surface to a photograph: light, lens, sensor and file.

No step moves a pixel, so a mask drawn on the surface stays exact on the photograph. The strengths
are those of ordinary inspection rigs: enough to change what a picture looks like, seldom enough to
hide a weak defect.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tiny.synthetic import noise
from tiny.synthetic.surface import FloatImage

Rng = np.random.Generator
_LUMA = np.array([[0.299, 0.587, 0.114]], np.float32)


def lighting(rng: Rng, size: int) -> NDArray[np.float32]:
    """Relative brightness of the light over the image: gradient, spot, vignette, soft shadow.

    Returns:
        float32 ``(size, size)`` around 1, smooth, positive. Computed at 64 px and enlarged.
    """
    n = 64
    axis = np.linspace(-1, 1, n, dtype=np.float32)
    x, y = np.meshgrid(axis, axis)
    light = np.ones((n, n), np.float32)
    if rng.random() < 0.7:
        angle = rng.uniform(0, 2 * np.pi)
        light += rng.exponential(0.12) * (np.cos(angle) * x + np.sin(angle) * y)
    if rng.random() < 0.35:
        centre = rng.uniform(-0.9, 0.9, 2)
        reach = rng.uniform(0.4, 1.4)
        distance = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
        light += rng.uniform(0.05, 0.45) * np.exp(-distance / reach**2)
    if rng.random() < 0.4:
        light *= 1 - rng.uniform(0.05, 0.35) * (x**2 + y**2) ** rng.uniform(0.8, 2.0) / 2
    if rng.random() < 0.3:
        light += rng.uniform(0.02, 0.1) * noise.fractal(rng, n, rng.uniform(20, 60), 2)
    if rng.random() < 0.1:
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.6, 0.9)
        across = (np.cos(angle) * x + np.sin(angle) * y - offset) / rng.uniform(0.2, 0.9)
        light *= 1 - rng.uniform(0.1, 0.35) / (1 + np.exp(-np.clip(4 * across, -30, 30)))
    light = np.clip(light, 0.25, 2.0)
    return np.asarray(cv2.resize(light, (size, size), interpolation=cv2.INTER_CUBIC))


def _motion_kernel(length: float, angle: float) -> NDArray[np.float32]:
    """Line kernel centred on its middle pixel, so that it blurs without displacing."""
    side = 2 * int(np.ceil(length / 2)) + 1
    canvas = np.zeros((side, side), np.float32)
    reach = length / 2 * np.array([np.cos(angle), np.sin(angle)])
    middle = side // 2
    first, last = np.round((middle - reach) * 16), np.round((middle + reach) * 16)
    cv2.line(
        canvas,
        first.astype(int).tolist(),
        last.astype(int).tolist(),
        1.0,
        1,
        cv2.LINE_8,
        4,
    )
    canvas += canvas[::-1, ::-1]
    return np.asarray(canvas / canvas.sum(), np.float32)


def blurred(
    rng: Rng, image: NDArray[np.float32], scale: float | None = None
) -> NDArray[np.float32]:
    """Mild defocus or motion blur; often none. `scale` is 1 for the blur of a 384 px image, by default size / 384."""
    scale = image.shape[0] / 384 if scale is None else scale
    choice = rng.random()
    if choice < 0.55:
        sigma = float(np.clip(0.25 + rng.exponential(0.45), 0.25, 2.2)) * scale
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma))
    if choice < 0.62:
        kernel = _motion_kernel(rng.uniform(1.5, 4.5) * scale, rng.uniform(0, np.pi))
        return np.asarray(cv2.filter2D(image, -1, kernel))
    if choice < 0.74:
        size = image.shape[0]
        small = round(size * rng.uniform(0.5, 0.85))
        reduced = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(reduced, (size, size), interpolation=cv2.INTER_LINEAR))
    if choice < 0.82:
        soft = cv2.GaussianBlur(image, (0, 0), 1.2 * scale)
        return np.asarray(cv2.addWeighted(image, 1.5, soft, -0.5, 0.0))
    return image


def photograph(
    rng: Rng, rgb: FloatImage, *, grey: bool | None = None, blur_scale: float | None = None
) -> NDArray[np.uint8]:
    """Photograph a surface.

    Args:
        rng: source of randomness.
        rgb: float32 ``(S, S, 3)`` in [0, 1].
        grey: force a grey (True) or colour (False) picture; by default grey two times in five.
        blur_scale: 1 for the lens blur of a 384 px image; by default it grows with the size.

    Returns:
        uint8 RGB ``(S, S, 3)``; three equal channels when grey.
    """
    size = rgb.shape[0]
    is_grey = bool(rng.random() < 0.4) if grey is None else grey
    if is_grey:
        image = cv2.transform(np.ascontiguousarray(rgb), _LUMA).reshape(size, size, 1)
    else:
        warm, green = rng.normal(0, 0.045), rng.normal(0, 0.012)
        cast = np.exp(np.array([warm, green, -warm]))
        faded = 1.0 if rng.random() < 0.7 else rng.uniform(0.4, 1.2)
        mix = faded * np.eye(3) + (1 - faded) * np.repeat(_LUMA, 3, 0)
        image = cv2.transform(np.ascontiguousarray(rgb), (cast[:, None] * mix).astype(np.float32))
    light = lighting(rng, size)
    image = image * light[..., None] if is_grey else noise.times(image, light)

    image = exposed(rng, image)
    image = blurred(rng, image, blur_scale).reshape(size, size, -1)
    if rng.random() < 0.85:
        image = noisy(rng, image)
    np.clip(image, 0, 1, out=image)
    result = np.asarray(cv2.convertScaleAbs(image, alpha=255), np.uint8).reshape(size, size, -1)
    if rng.random() < 0.6:
        result = _through_jpeg(result, int(rng.integers(60, 99)))
    return np.repeat(result, 3, 2) if is_grey else np.ascontiguousarray(result)


def exposed(rng: Rng, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Exposure around the surface's own brightness, haze, tone; rarely burns out more than a few pixels."""
    sample = image[::8, ::8]
    mean, bright = max(float(sample.mean()), 0.02), float(np.quantile(sample, 0.98))
    wanted = float(np.clip(mean * np.exp(rng.normal(0, 0.2)), 0.1, 0.75))
    if rng.random() < 0.9:
        wanted = min(wanted, 0.98 * mean / max(bright, 0.02))
    image *= np.float32(wanted / mean)
    if rng.random() < 0.3:
        haze = rng.uniform(0.03, 0.22)
        image = image * np.float32(1 - haze) + np.float32(haze * rng.uniform(0.3, 0.9))
    # Tone: a gentle parabola stands for gamma, a slope for contrast.
    np.clip(image, 0, 1.1, out=image)
    bow = np.float32(np.clip(rng.normal(0, 0.16), -0.4, 0.4))
    image = image * (1 + bow - bow * image)
    contrast = np.float32(np.exp(rng.normal(0, 0.12)))
    return np.asarray((image - np.float32(wanted)) * contrast + np.float32(wanted), np.float32)


def noisy(rng: Rng, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Noise of reading and of light, sometimes coloured; float32 (S, S, 1) or (S, S, 3)."""
    size, is_grey = image.shape[0], image.shape[2] == 1
    read = float(np.clip(rng.exponential(0.008), 0.0, 0.035))
    shot = float(np.clip(rng.exponential(0.008), 0.0, 0.03))
    field = noise.grain(rng, size)
    if rng.random() < 0.35:
        soft = cv2.GaussianBlur(field, (0, 0), rng.uniform(0.5, 1.0))
        field = np.asarray(1.6 * soft, np.float32)
    brightness = np.clip(image[..., 0 if is_grey else 1], 0, 1)
    field = field * (np.sqrt(brightness) * np.float32(shot) + np.float32(read))
    if is_grey:
        return np.asarray(image + field[..., None])
    if rng.random() < 0.5:
        red, blue = (np.float32(0.7 * read) * noise.grain(rng, size) for _ in range(2))
        return np.asarray(cv2.add(image, cv2.merge([field + red, field, field + blue])))
    return noise.plus(image, field)


def _through_jpeg(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    single = image.shape[2] == 1
    coded = image[..., 0] if single else image[..., ::-1]
    _, data = cv2.imencode(".jpg", np.ascontiguousarray(coded), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if single:
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)[..., None]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
