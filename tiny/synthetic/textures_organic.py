"""Wood, leather, paper, foam, and textiles."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.noise import (
    cell_edges,
    cells,
    colour,
    coordinates,
    fractal,
    grain,
    ramp,
    relief,
    smooth,
    streaks,
    times,
    tint,
)
from tiny.synthetic.texture import Painted, Rng, Texture, direction, enter, log_uniform, one_of

FAMILIES: dict[str, Texture] = {}
family = partial(enter, FAMILIES)


@family("wood", "wood", "wooden board", "timber")
def wood(rng: Rng, size: int, unit: float) -> Painted:
    """Planed wood: bent growth rings, fibres and pores."""
    angle = direction(rng, 0.85)
    along, across = coordinates(size, angle)
    bend = (
        rng.uniform(3, 30)
        * unit
        * streaks(rng, size, rng.uniform(300, 900) * unit, rng.uniform(60, 250) * unit, angle)
    )
    bend += 0.6 * unit * streaks(rng, size, 80 * unit, 8 * unit, angle)
    rings = (across + bend) / (log_uniform(rng, 6, 50) * unit)
    if rng.random() < 0.35:  # cathedral figure
        middle = size * rng.uniform(0.2, 0.8)
        arch = (across - middle) / (rng.uniform(30, 90) * unit)
        rings += np.sqrt(arch * arch + 1) * along / (rng.uniform(40, 120) * unit)
    table = np.interp(np.linspace(0, 512, 4096), np.arange(513), rng.normal(0, 1, 513))
    tone = table.astype(np.float32)[((rings * 8).astype(np.int32)) % 4096]
    tone = np.asarray(cv2.GaussianBlur(tone, (0, 0), 0.8 * unit), np.float32)
    saw = (rings % 1) * rng.uniform(0, 1)
    fibre = streaks(rng, size, log_uniform(rng, 30, 200) * unit, 1.1 * unit, angle)
    pores = np.minimum(streaks(rng, size, 18 * unit, 1.2 * unit, angle) + 1.5, 0)
    field = 0.6 + rng.uniform(0.02, 0.13) * tone - rng.uniform(0, 0.15) * saw
    field += rng.uniform(0.02, 0.07) * fibre + rng.uniform(0, 0.15) * pores
    field += 0.03 * fractal(rng, size, 200 * unit, 2)
    light = colour(rng, (22, 38), (0.15, 0.6), (0.6, 0.97))
    dark = light * colour(rng, (10, 30), (0.1, 0.5), (0.25, 0.6))
    return Painted(ramp(field, [dark, light]), 4 * unit)


@family("leather", "leather", "artificial leather")
def leather(rng: Rng, size: int, unit: float) -> Painted:
    """Leather: pebbles between fine creases, gently bent."""
    scale = log_uniform(rng, 5, 17) * unit
    labels, distance = cells(rng, size, scale, rng.uniform(0.7, 1))
    crease = cv2.GaussianBlur(cell_edges(labels).astype(np.float32), (0, 0), 0.09 * scale + 0.5)
    height = -crease * 2 - 0.25 * (distance / scale) ** 2
    height = noise.warped(rng, height, 0.22 * scale, scale) + 0.15 * fractal(rng, size, scale, 3)
    shade = noise.standard(relief(height, rng.uniform(0, 6))) + 0.6 * noise.standard(height)
    value = rng.uniform(0.2, 0.85) * (1 + log_uniform(rng, 0.04, 0.2) * shade)
    value *= 1 + 0.05 * fractal(rng, size, 150 * unit, 2)
    tone = colour(rng, (0, 45), (0.1, 0.75), (0.7, 1)) if rng.random() < 0.7 else colour(rng)
    return Painted(tint(value, tone), scale)


@family("paper", "paper", "cardboard", "packaging")
def paper(rng: Rng, size: int, unit: float) -> Painted:
    """Paper or board: cloudy formation, fibres, sometimes faint corrugation."""
    cloud = fractal(rng, size, log_uniform(rng, 8, 50) * unit, 4, 0.6)
    fibre = streaks(rng, size, 14 * unit, 1.2 * unit, rng.uniform(0, np.pi))
    value = 1 + log_uniform(rng, 0.008, 0.04) * cloud + rng.uniform(0, 0.025) * fibre
    if rng.random() < 0.3:
        along, _ = coordinates(size, direction(rng))
        value += rng.uniform(0.01, 0.06) * np.sin(
            along * (2 * np.pi / (log_uniform(rng, 8, 30) * unit))
        )
    brown = rng.random() < 0.4
    tone = (
        colour(rng, (20, 40), (0.2, 0.5), (0.5, 0.8))
        if brown
        else colour(rng, (0, 360), (0, 0.15), (0.6, 0.95))
    )
    return Painted(tint(value.astype(np.float32), tone), 4 * unit)


@family("foam", "foam", "sponge")
def foam(rng: Rng, size: int, unit: float) -> Painted:
    """Open foam: rounded pores of mixed size with bright walls."""
    scale = log_uniform(rng, 5, 22) * unit
    labels, distance = cells(rng, size, scale)
    wall = noise.warped(rng, distance / scale, 0.2 * scale, scale)
    depth = rng.uniform(0.2, 1.0, int(labels.max()) + 1).astype(np.float32)
    pore = np.clip(1 - wall * rng.uniform(1.6, 2.6), 0, 1) * depth[labels]
    pore = cv2.GaussianBlur(pore, (0, 0), 0.12 * scale)
    value = rng.uniform(0.4, 0.9) * (1 - rng.uniform(0.2, 0.8) * pore)
    value *= 1 + 0.04 * fractal(rng, size, 4 * unit, 2) + 0.04 * fractal(rng, size, 150 * unit, 2)
    return Painted(tint(value, colour(rng, (0, 360), (0, 0.5), (0.5, 1))), scale)


@family("fabric", "fabric", "woven fabric", "textile", "cloth")
def fabric(rng: Rng, size: int, unit: float) -> Painted:
    """Plain, twill or satin weave of uneven yarns; sometimes coloured stripes."""
    pitch = log_uniform(rng, 2.6, 15) * unit
    angle = one_of(rng, 0.0, rng.normal(0, 0.04), np.pi / 4, rng.uniform(0, np.pi))
    x, y = coordinates(size, angle, rng.uniform(0, 0.25) * pitch, rng, 90 * unit)
    u, v = x / pitch + 1000, y / (pitch * rng.uniform(0.8, 1.3)) + 1000
    iu, iv = u.astype(np.int32), v.astype(np.int32)
    repeat, float_length, step = one_of(rng, (2, 1, 1), (3, 1, 1), (4, 2, 1), (5, 1, 2))
    over = (iu + step * iv) % repeat < float_length
    across_warp, across_weft = u - iu - 0.5, v - iv - 0.5
    roundness = rng.uniform(1.5, 3.8)
    height = np.where(over, 1 - roundness * across_warp**2, 0.92 - roundness * across_weft**2)
    uneven = rng.uniform(0.0, 0.12)
    warp_tone = 1 + uneven * rng.standard_normal(2048).astype(np.float32)[iu % 2048]
    weft_tone = 1 + uneven * rng.standard_normal(2048).astype(np.float32)[iv % 2048]
    warp_rgb = colour(rng, (0, 360), (0, 0.7), (0.2, 0.95))
    weft_rgb = warp_rgb if rng.random() < 0.6 else colour(rng, (0, 360), (0, 0.7), (0.2, 0.95))
    shade = 1 + rng.uniform(0.15, 0.9) * (height - 0.8)
    shade *= 1 + rng.uniform(0.01, 0.07) * grain(rng, size)
    shade *= 1 + 0.04 * fractal(rng, size, 130 * unit, 2)
    value = np.where(over, warp_tone, weft_tone) * shade
    planes = [np.where(over, a, b) * value for a, b in zip(warp_rgb, weft_rgb, strict=True)]
    return Painted(cv2.merge([plane.astype(np.float32) for plane in planes]), pitch)


@family("knit", "knitted fabric", "knit", "textile")
def knit(rng: Rng, size: int, unit: float) -> Painted:
    """Knitted stitches: columns of V shapes."""
    pitch = log_uniform(rng, 5, 22) * unit
    x, y = coordinates(size, direction(rng, 0.8), rng.uniform(0.02, 0.2) * pitch, rng, 50 * unit)
    u = x / pitch + 500
    side = np.abs(u - np.floor(u) - 0.5)
    v = y / (pitch * rng.uniform(0.5, 0.9)) + side * rng.uniform(0.8, 1.8)
    yarn = 0.5 + 0.5 * np.cos(2 * np.pi * v)
    groove = np.clip(1 - np.abs(side - 0.25) * 3.4, 0, 1)
    shade = yarn * groove
    value = 1 - rng.uniform(0.2, 0.7) * (1 - shade) + rng.uniform(0.01, 0.06) * grain(rng, size)
    value *= 1 + 0.05 * fractal(rng, size, 100 * unit, 3)
    return Painted(tint(value, colour(rng, (0, 360), (0, 0.7), (0.3, 1))), pitch)


@family("carpet", "carpet", "rug", "felt")
def carpet(rng: Rng, size: int, unit: float) -> Painted:
    """Carpet or felt: tufts on a loose grid, mixed yarn colours, fuzzy fibres."""
    pitch = log_uniform(rng, 4, 13) * unit
    x, y = coordinates(size, direction(rng, 0.6), 0.25 * pitch, rng, 3 * pitch)
    k = np.float32(2 * np.pi / pitch)
    tuft = np.cos(k * x) * np.cos(k * y * rng.uniform(0.5, 1.2)) * rng.uniform(0, 1)
    fuzz = fractal(rng, size, log_uniform(rng, 2, 6) * unit, 3, 0.8)
    mix = np.clip(0.5 + 0.35 * smooth(rng, size, pitch) + 0.3 * fuzz, 0, 1)
    first = colour(rng, (0, 360), (0, 0.5), (0.2, 0.9))
    second = np.clip(first * rng.uniform(0.7, 1.25) + rng.normal(0, 0.04, 3), 0.03, 1)
    value = 1 + 0.16 * tuft + log_uniform(rng, 0.05, 0.2) * fuzz
    value *= 1 + 0.05 * fractal(rng, size, 150 * unit, 2)
    return Painted(times(ramp(mix, np.stack([first, second])), value), pitch)
