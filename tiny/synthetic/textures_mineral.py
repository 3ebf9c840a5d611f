"""Stone, concrete, plaster, bricks, tiles, sandpaper."""

from __future__ import annotations

from functools import partial

import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.noise import (
    blend,
    cells,
    colour,
    fractal,
    grain,
    plain,
    plus,
    ramp,
    relief,
    smooth,
    tint,
)
from tiny.synthetic.texture import Painted, Rng, Texture, compact, enter, grid_cells, log_uniform

FAMILIES: dict[str, Texture] = {}
family = partial(enter, FAMILIES)


@family("concrete", "concrete", "concrete wall", "cement")
def concrete(rng: Rng, size: int, unit: float) -> Painted:
    """Concrete: clouds, sand, a few pores."""
    cloud = fractal(rng, size, log_uniform(rng, 80, 300) * unit, 4, 0.5)
    sand = fractal(rng, size, log_uniform(rng, 2, 8) * unit, 3, 0.8)
    value = (
        rng.uniform(0.35, 0.75)
        + rng.uniform(0.01, 0.055) * cloud
        + log_uniform(rng, 0.012, 0.07) * sand
    )
    if rng.random() < 0.6:
        pores = noise.specks(rng, size, int(rng.integers(5, 120)), (0.4 * unit, 1.8 * unit))
        value -= rng.uniform(0.05, 0.2) * pores
    return Painted(tint(value, colour(rng, (20, 60), (0, 0.12), (1, 1))), 5 * unit)


@family("asphalt", "asphalt", "road surface", "pavement")
def asphalt(rng: Rng, size: int, unit: float) -> Painted:
    """Asphalt: dark binder with bright aggregate."""
    stone = fractal(rng, size, log_uniform(rng, 3, 9) * unit, 3, 0.8)
    shade = noise.standard(relief(stone, rng.uniform(0, 6)))
    spots = np.clip(stone - rng.uniform(0.6, 1.4), 0, 1.2)
    value = rng.uniform(0.15, 0.45) + 0.05 * shade + rng.uniform(0.1, 0.3) * spots
    value += 0.03 * fractal(rng, size, 150 * unit, 3)
    return Painted(tint(value, colour(rng, (0, 360), (0, 0.08), (1, 1))), 5 * unit)


@family("granite", "granite", "stone")
def granite(rng: Rng, size: int, unit: float) -> Painted:
    """Granite: interlocked grains of three or four minerals."""
    scale = log_uniform(rng, 4, 14) * unit
    labels, _ = cells(rng, size, scale)
    count = int(labels.max()) + 1
    minerals = np.stack([colour(rng, (0, 60), (0, 0.35), (0.1, 0.95)) for _ in range(4)])
    weights = rng.dirichlet([2, 2, 1, 1])
    palette = minerals[rng.choice(4, count, p=weights)] * rng.normal(1, 0.06, (count, 1))
    mean = (weights[:, None] * minerals).sum(0)
    palette = mean + (palette - mean) * rng.uniform(0.25, 0.9)
    rgb = np.take(palette.astype(np.float32), labels, axis=0)
    rgb = noise.warped(rng, rgb, 0.25 * scale, 0.7 * scale)
    return Painted(plus(rgb, 0.03 * fractal(rng, size, 2 * scale, 4, 0.7)), scale)


@family("terrazzo", "terrazzo", "composite stone", "floor")
def terrazzo(rng: Rng, size: int, unit: float) -> Painted:
    """Terrazzo: sparse chips of stone in a plain binder."""
    scale = log_uniform(rng, 10, 34) * unit
    labels, distance = cells(rng, size, scale)
    count = int(labels.max()) + 1
    radii = (rng.uniform(0.0, 0.6, count) * scale).astype(np.float32)
    ragged = distance + 0.12 * scale * smooth(rng, size, 0.35 * scale)
    cover = np.clip(np.take(radii, labels) - ragged + 0.5, 0, 1)
    binder = colour(rng, (0, 360), (0, 0.2), (0.3, 0.95))
    chips = binder + np.stack([colour(rng, (0, 70), (0, 0.4), (0, 1)) - 0.5 for _ in range(6)])
    chip_rgb = np.take(chips[rng.integers(0, 6, count)].astype(np.float32), labels, axis=0)
    rgb = blend(plain(size, binder), chip_rgb, cover)
    rgb = plus(rgb, 0.015 * fractal(rng, size, 6 * unit, 3, 0.8))
    return Painted(rgb, scale)


@family("marble", "marble", "marble tile", "polished stone")
def marble(rng: Rng, size: int, unit: float) -> Painted:
    """Marble: clouds and soft branching veins."""
    base = fractal(rng, size, log_uniform(rng, 80, 260) * unit, 4, 0.55)
    vein = fractal(rng, size, log_uniform(rng, 60, 240) * unit, 5, 0.5, rng.uniform(0.5, 1.6))
    lines = np.exp(-np.abs(vein) * log_uniform(rng, 3, 12)) * np.clip(0.5 + 0.5 * base, 0, 1)
    field = 0.75 + 0.07 * base - rng.uniform(0.15, 0.5) * lines
    hue = rng.uniform(0, 360)
    light = colour(rng, (hue, hue + 10), (0, 0.2), (0.7, 1))
    dark = colour(rng, (hue, hue + 40), (0, 0.35), (0.05, 0.5))
    if rng.random() < 0.3:
        light, dark = dark, light
    return Painted(plus(ramp(field, [dark, light]), 0.004 * grain(rng, size)), 12 * unit)


@family("plaster", "plaster", "wall", "painted wall")
def plaster(rng: Rng, size: int, unit: float) -> Painted:
    """Plaster or stucco: lit relief, from fine grit to trowel strokes."""
    scale = log_uniform(rng, 4, 40) * unit
    height = fractal(rng, size, scale, 4, 0.6, log_uniform(rng, 0.5, 3))
    shade = noise.standard(relief(height, rng.uniform(0, 6)))
    value = rng.uniform(0.5, 0.9) * (1 + log_uniform(rng, 0.02, 0.1) * shade + 0.015 * height)
    return Painted(tint(value, colour(rng, (0, 360), (0, 0.25), (1, 1))), scale)


@family("bricks", "brick wall", "tiled wall", "tiles", "paving")
def bricks(rng: Rng, size: int, unit: float) -> Painted:
    """Bricks or tiles with joints; every unit has its own shade."""
    pitch = log_uniform(rng, 40, 150) * unit
    flat = rng.random() < 0.5
    pitch_y = pitch if flat else pitch * rng.uniform(0.3, 0.6)
    shift = tuple(rng.uniform(0, pitch, 2))
    labels, near = grid_cells(size, pitch, pitch_y, 0.0 if flat else 0.5, shift)
    joint = log_uniform(rng, 1.0, 5) * unit
    if rng.random() < 0.6:
        near = near + rng.uniform(0.2, 1.0) * unit * fractal(rng, size, 12 * unit, 3)
    cover = np.clip((near - joint) / unit + 0.5, 0, 1)
    count = int(labels.max()) + 1
    face = 1 + rng.normal(0, rng.uniform(0.0, 0.12), count).astype(np.float32)[labels]
    face *= 1 + log_uniform(rng, 0.01, 0.1) * fractal(
        rng, size, log_uniform(rng, 3, 40) * unit, 4, 0.7
    )
    base = colour(rng, (0, 360) if flat else (5, 35), (0, 0.5), (0.3, 0.95))
    grout = np.float32(rng.uniform(0.2, 0.85)) * (1 + 0.06 * grain(rng, size))
    rgb = blend(tint(grout, colour(rng, (0, 360), (0, 0.15), (0.9, 1))), tint(face, base), cover)
    return Painted(rgb, pitch, parts=compact(labels, cover > 0.5))


@family("ceramic_tile", "ceramic tile", "tile", "glazed ceramic")
def ceramic_tile(rng: Rng, size: int, unit: float) -> Painted:
    """Glazed tile: plain or clouded glaze with fine speckle."""
    base = colour(rng, (0, 360), (0, 0.35), (0.35, 0.97))
    cloud = fractal(rng, size, log_uniform(rng, 30, 200) * unit, 3) * rng.uniform(0, 0.05)
    rgb = tint(1 + cloud, base)
    speck = smooth(rng, size, log_uniform(rng, 1.5, 5) * unit)
    cover = np.clip((speck - rng.uniform(0.8, 2.0)) * 3, 0, 1) * rng.uniform(0.1, 0.7)
    rgb = blend(rgb, plain(size, colour(rng, (0, 360), (0, 0.3), (0.05, 0.95))), cover)
    return Painted(plus(rgb, 0.004 * grain(rng, size)), 3 * unit)


@family("sandpaper", "sandpaper", "abrasive", "sandblasted surface")
def sandpaper(rng: Rng, size: int, unit: float) -> Painted:
    """Abrasive paper: dense grit."""
    scale = log_uniform(rng, 1.5, 5) * unit
    grit = fractal(rng, size, scale, 2, 0.8)
    field = np.clip(
        0.5 + rng.uniform(0.1, 0.28) * grit + 0.03 * fractal(rng, size, 120 * unit, 2),
        0,
        1,
    )
    dark = colour(rng, (0, 360), (0, 0.5), (0.05, 0.3))
    return Painted(ramp(field, [dark, colour(rng, (15, 50), (0, 0.5), (0.5, 0.9))]), scale)
