"""Random windows of synthetic images: turned, lit, tinted, repainted and damaged once more, at training time.

A cache is finite; what is drawn here makes every visit to one of its images another picture. The
generator's defects are modelled one by one, the ones here are blind (some region looks as it should
not), so that a model cannot live on knowing the generator's brushes.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from tiny.synthetic.defects.common import difference
from tiny.training.structured_normals import arrange

Picture = NDArray[np.uint8]


def random_crop(
    rng: np.random.Generator,
    image: NDArray[np.uint8],
    defect_map: NDArray[np.uint8],
    size: int,
    scale: tuple[float, float],
    parts: NDArray[np.int16] | None = None,
    values: Mapping[str, int] | None = None,
    donor: NDArray[np.uint8] | None = None,
    donor_is_normal: bool = False,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A square window, flipped, turned and resized, with jittered light and colour.

    Args:
        rng: Source of all chance.
        image: uint8 (S, S, 3) RGB.
        defect_map: uint8 (S, S).
        size: Side of the result in pixels.
        scale: Range of the window's side as a fraction of S.
        parts: int16 (S, S), 0 on the background: with it, backgrounds get other colours now and then.
        values: defect type → its value in the defect map: with it, paint and blind damage are added now and then.
        donor: uint8 (T, T, 3), another image that blind damage may take its material from.
        donor_is_normal: Whether the donor shows no defect: then half of the windows become normal things made of it
            (:mod:`tiny.training.structured_normals`).

    Returns:
        uint8 (size, size, 3) and uint8 (size, size).
    """
    side, window = _window(rng, defect_map, scale)
    method = cv2.INTER_AREA if side > 1.3 * size else cv2.INTER_LINEAR
    picture = cv2.resize(image[window], (size, size), interpolation=method)
    labels = cv2.resize(defect_map[window], (size, size), interpolation=cv2.INTER_NEAREST)
    inside = np.ones((size, size), bool)
    if parts is not None:
        inside = cv2.resize(parts[window], (size, size), interpolation=cv2.INTER_NEAREST) > 0
        inside |= labels > 0
        if rng.random() < 0.4:
            picture = repaint_background(rng, picture, inside)
    if values and donor_is_normal and donor is not None and rng.random() < 0.5:
        picture, labels, inside = arrange(rng, picture, labels, inside, donor, values)
    if rng.random() < 0.35:
        picture = shade(rng, picture)
    if values and rng.random() < 0.1:
        picture, labels = paint(rng, picture, labels, values["colour"])
    if values and rng.random() < (0.2 if labels.any() else 0.4):
        picture, labels = damage(rng, picture, labels, inside, values, donor)
    turn = int(rng.integers(4))
    picture, labels = np.rot90(picture, turn), np.rot90(labels, turn)
    if rng.random() < 0.5:
        picture, labels = picture[:, ::-1], labels[:, ::-1]
    light = jitter(rng, np.ascontiguousarray(picture))
    return light, np.ascontiguousarray(labels)


def _window(
    rng: np.random.Generator, defect_map: NDArray[np.uint8], scale: tuple[float, float]
) -> tuple[int, tuple[slice, slice]]:
    """Width of a random window in pixels, and its rows and columns; most windows show what is to be learned."""
    full = defect_map.shape[0]
    side = round(full * rng.uniform(*scale))
    x, y = (int(v) for v in rng.integers(0, full - side + 1, 2))
    spots = np.flatnonzero(defect_map[::4, ::4])
    if len(spots) and rng.random() < 0.6:
        row, column = divmod(int(spots[rng.integers(len(spots))]), len(range(0, full, 4)))
        low, high = side // 8, side - side // 8
        x = int(np.clip(4 * column - rng.integers(low, high), 0, full - side))
        y = int(np.clip(4 * row - rng.integers(low, high), 0, full - side))
    squeeze = 1.0 if rng.random() < 0.6 else float(rng.uniform(0.5, 1.0))
    # Frames that do not keep the aspect squeeze images that are not square.
    rows = max(8, int(side * squeeze)) if squeeze < 1.0 else side
    return side, np.s_[y : y + rows, x : x + side]


def random_colour(rng: np.random.Generator) -> NDArray[np.float32]:
    """A random colour, mostly a saturated one, float32 (3,) in [0, 255]."""
    hsv = np.array([[[rng.integers(180), rng.integers(60, 256), rng.integers(30, 256)]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def repaint_background(
    rng: np.random.Generator, picture: NDArray[np.uint8], inside: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Another colour behind an object, with the old one's light and shadow; textures stay as they are.

    People lay things on coloured paper: an object must not be called a stain on it.
    """
    if not 0.05 < np.count_nonzero(inside) / inside.size < 0.9:
        return picture
    light = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    behind = light[~inside]
    shade = (light / max(8.0, float(behind.mean()))) ** rng.uniform(0.4, 1.0)
    edge = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.7)[..., None]
    repainted = np.clip(shade[..., None] * random_colour(rng), 0, 255)
    return np.round(edge * picture + (1.0 - edge) * repainted).astype(np.uint8)


def paint(
    rng: np.random.Generator,
    picture: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    defect_type: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """One to three plainly visible strokes or blots of one colour, with their mask."""
    size = picture.shape[0]
    cover = np.zeros((size, size), np.uint8)
    middle = rng.uniform(0.2, 0.8, 2) * size
    for _ in range(int(rng.integers(1, 4))):
        start = middle + rng.normal(0, 0.08, 2) * size
        walk = np.cumsum(rng.normal(0, 0.04, (int(rng.integers(1, 6)), 2)) * size, axis=0) + start
        width = max(2, round(size * float(np.exp(rng.uniform(np.log(0.008), np.log(0.07))))))
        cv2.polylines(cover, [np.round(walk).astype(np.int32)], False, 255, width, cv2.LINE_AA)
    colour = random_colour(rng)
    soft = cv2.GaussianBlur(cover, (0, 0), 0.8).astype(np.float32)[..., None] / 255
    light = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None].astype(np.float32) / 255
    painted = colour * (0.75 + 0.25 * light)
    mixed = picture + rng.uniform(0.6, 1.0) * soft * (painted - picture)
    mixed = mixed.astype(np.float32)
    # Labelled is where the paint can be told from what it covers.
    changed = difference(mixed, picture.astype(np.float32)) > 24
    labels = np.where(changed & (soft[..., 0] > 0.4), np.uint8(defect_type), labels)
    return np.round(mixed).astype(np.uint8), labels


def shade(rng: np.random.Generator, picture: Picture) -> Picture:
    """Uneven light that is no defect: a slope, a broad highlight or shadow, or slow waves."""
    size = picture.shape[0]
    row, column = np.mgrid[0:size, 0:size].astype(np.float32) / np.float32(size)
    way = rng.random()
    if way < 0.35:
        angle = rng.uniform(0, 2 * np.pi)
        field = (row - 0.5) * np.float32(np.sin(angle)) + (column - 0.5) * np.float32(np.cos(angle))
    elif way < 0.7:
        y, x = rng.uniform(-0.2, 1.2, 2)
        wide, high = np.exp(rng.uniform(np.log(0.2), np.log(0.8), 2))
        field = np.exp(-(((row - y) / high) ** 2) - ((column - x) / wide) ** 2) - np.float32(0.3)
    else:
        field = _slow(rng, size, int(rng.integers(2, 5))) * np.float32(0.4)
    gain = np.exp(field * rng.uniform(0.1, 0.5) * rng.choice((-1, 1)))
    return np.clip(picture * gain[..., None], 0, 255).astype(np.uint8)


def _slow(rng: np.random.Generator, size: int, knots: int) -> NDArray[np.float32]:
    """Smooth noise of unit variance at its knots, float32 (size, size)."""
    field = rng.standard_normal((knots + 1, knots + 1), dtype=np.float32)
    return np.asarray(cv2.resize(field, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def random_shape(
    rng: np.random.Generator, size: int, inside: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """A region of random form with a soft edge around a random place of ``inside``.

    Args:
        rng: Source of chance.
        size: Side in pixels.
        inside: bool (size, size), where its middle lies; anywhere when empty.

    Returns:
        float32 (size, size) in [0, 1].
    """
    spots = np.flatnonzero(inside[::4, ::4])
    if len(spots):
        place = divmod(int(spots[rng.integers(len(spots))]), len(range(0, size, 4)))
        y, x = (4.0 * float(v) for v in place)
    else:
        y, x = rng.uniform(0.1, 0.9, 2) * size
    radius = size * float(np.exp(rng.uniform(np.log(0.015), np.log(0.2))))
    cover = np.zeros((size, size), np.uint8)
    form = rng.random()
    if form < 0.35:  # a cloud
        row, column = np.mgrid[0:size, 0:size].astype(np.float32)
        far = np.hypot(row - np.float32(y), column - np.float32(x)) / np.float32(radius)
        knots = int(np.clip(size / radius * rng.uniform(0.7, 4), 3, size // 3))
        cloud = _slow(rng, size, knots) * np.float32(rng.uniform(0.1, 0.8)) + 1.2 - far
        cover[cloud > 0] = 255
    elif form < 0.65:  # a stroke
        steps = int(rng.integers(2, 9))
        course = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, rng.uniform(0, 0.6), steps))
        stride = 3 * radius / steps
        heading = np.stack([np.cos(course), np.sin(course)], 1)
        walk = np.cumsum(stride * heading, axis=0) + np.array((x, y))
        width = max(1, round(size * float(np.exp(rng.uniform(np.log(0.004), np.log(0.03))))))
        cv2.polylines(cover, [np.round(walk).astype(np.int32)], False, 255, width, cv2.LINE_AA)
    elif form < 0.85:  # a shard
        count = int(rng.integers(3, 8))
        angles = np.sort(rng.uniform(0, 2 * np.pi, count))
        reach = radius * rng.uniform(0.4, 1.2, count)
        corners = np.stack([x + reach * np.cos(angles), y + reach * np.sin(angles)], 1)
        cv2.fillPoly(cover, [np.round(corners).astype(np.int32)], 255, cv2.LINE_AA)
    else:  # spots
        for _ in range(int(rng.integers(1, 9))):
            middle = np.round(rng.normal((x, y), radius)).astype(int)
            axes = np.maximum(1, rng.uniform(0.08, 0.35, 2) * radius).astype(int)
            cv2.ellipse(
                cover, middle.tolist(), axes.tolist(), rng.uniform(0, 180), 0, 360, 255, -1,
                cv2.LINE_AA,
            )  # fmt: skip
    soft = float(np.exp(rng.uniform(np.log(0.4), np.log(max(0.5, 0.3 * radius)))))
    if 0.35 <= form < 0.65:
        soft = min(soft, 1.0)
    return cv2.GaussianBlur(cover, (0, 0), soft).astype(np.float32) / np.float32(255)


def damage(
    rng: np.random.Generator,
    picture: Picture,
    labels: NDArray[np.uint8],
    inside: NDArray[np.bool_],
    values: Mapping[str, int],
    donor: Picture | None = None,
) -> tuple[Picture, NDArray[np.uint8]]:
    """Blind damage: in a region of random form the picture becomes another, where it can be told from what was there.

    The other picture is a piece of the donor (contamination), of the window itself (misplaced), the same
    lighter or darker (stain), blurred or grainy (roughness), or pulled out of place (bent).

    Args:
        rng: Source of chance.
        picture: uint8 (S, S, 3) RGB.
        labels: uint8 (S, S), defect types that are there already.
        inside: bool (S, S), the object, where most damage goes.
        values: defect type → its value in ``labels``.
        donor: uint8 (T, T, 3), T >= S / 4.

    Returns:
        Picture and labels; unchanged if the damage cannot be seen.
    """
    size = picture.shape[0]
    anywhere = rng.random() < 0.12
    soft = random_shape(rng, size, np.ones_like(inside) if anywhere else inside)
    ways = ("contamination", "misplaced", "stain", "roughness", "bent")
    defect_type = str(rng.choice(ways, p=(0.28, 0.14, 0.34, 0.12, 0.12)))
    before = picture.astype(np.float32)
    touched = soft > 0.3
    if not touched.any():
        return picture, labels
    if defect_type == "contamination" and donor is None:
        defect_type = "stain"
    other = _otherwise(rng, defect_type, before, soft, donor)
    strength = rng.uniform(0.45, 1.0)
    mixed = np.clip(before + np.float32(strength) * soft[..., None] * (other - before), 0, 255)
    ring = cv2.dilate(touched.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    _, spread = cv2.meanStdDev(
        cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), mask=ring.astype(np.uint8)
    )
    change = cv2.blur(difference(mixed, before), (5, 5))
    visible = (change > 8 + 0.2 * float(spread[0, 0])) & (soft > 0.25)
    if np.count_nonzero(visible) < max(10, 0.3 * np.count_nonzero(touched)):
        return picture, labels
    return mixed.astype(np.uint8), np.where(visible, np.uint8(values[defect_type]), labels)


def _otherwise(
    rng: np.random.Generator,
    defect_type: str,
    before: NDArray[np.float32],
    soft: NDArray[np.float32],
    donor: Picture | None,
) -> NDArray[np.float32]:
    """What the picture, float32 (S, S, 3), becomes where it is damaged."""
    size = before.shape[0]
    if defect_type == "contamination" and donor is not None:
        side = int(donor.shape[0] * rng.uniform(0.25, 1.0))
        y, x = (int(v) for v in rng.integers(0, donor.shape[0] - side + 1, 2))
        piece = np.asarray(cv2.resize(donor[y : y + side, x : x + side], (size, size)), np.float32)
        if rng.random() < 0.4:  # the same brightness, so that only its texture gives it away
            touched = soft > 0.3
            piece = piece + before[touched].mean(0) - piece[touched].mean(0)
        return piece
    if defect_type == "misplaced":
        shift = rng.integers(size // 8, size - size // 8, 2)
        return np.rot90(np.roll(before, tuple(shift), (0, 1)), int(rng.integers(4)))
    if defect_type == "roughness":
        if rng.random() < 0.5:
            return np.asarray(cv2.GaussianBlur(before, (0, 0), float(rng.uniform(1.5, 6.0))))
        grain = rng.standard_normal((size, size), dtype=np.float32) * rng.uniform(12, 45)
        grain = cv2.GaussianBlur(grain, (0, 0), float(rng.uniform(0.4, 1.2)))
        return before + np.float32(3) * grain[..., None]
    if defect_type == "bent":
        pull = rng.uniform(-0.06, 0.06, 2) * size
        row, column = np.mgrid[0:size, 0:size].astype(np.float32)
        wide = cv2.GaussianBlur(soft, (0, 0), 2.0)
        moved = cv2.remap(
            before, column + wide * np.float32(pull[0]), row + wide * np.float32(pull[1]),
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT,
        )  # fmt: skip
        return np.asarray(moved)
    step = np.float32(rng.uniform(0.12, 0.8) * (1 if rng.random() < 0.4 else -1))
    tint = rng.normal(0, 0.12, 3) if rng.random() < 0.35 else np.zeros(3)
    return before * np.exp(step + tint).astype(np.float32) + np.float32(40) * max(
        step, np.float32(0)
    )


def jitter(rng: np.random.Generator, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey now and then, contrast (seldom a low one), brightness, tint, gamma, blur, JPEG, noise; RGB as before."""
    if rng.random() < 0.25:
        picture = cv2.cvtColor(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    elif rng.random() < 0.2:
        picture = np.ascontiguousarray(picture[..., rng.permutation(3)])
    contrast = rng.uniform(0.7, 1.3) if rng.random() < 0.7 else 1.0
    if rng.random() < 0.15:
        contrast *= rng.uniform(0.4, 0.8)
    shift = rng.uniform(-0.12, 0.12) if rng.random() < 0.7 else 0.0
    tint = rng.uniform(0.93, 1.07, 3) if rng.random() < 0.4 else np.ones(3)
    gamma = np.exp(rng.normal(0, 0.2))
    levels = np.linspace(0, 1, 256)[:, None] ** gamma
    table = np.round(255 * np.clip((levels - 0.5) * contrast * tint + 0.5 + shift, 0, 1))
    if rng.random() < 0.15:
        picture = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.5)))
    if rng.random() < 0.15:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))]
        _, packed = cv2.imencode(".jpg", picture, quality)
        picture = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    light = np.asarray(cv2.LUT(picture, table[None].astype(np.uint8)), np.uint8)
    if rng.random() < 0.2:
        noise = np.asarray(rng.standard_normal(picture.shape[:2], np.float32))
        noisy = light + noise[..., None] * np.float32(rng.uniform(1.3, 10))
        light = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    return light
