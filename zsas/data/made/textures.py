"""Texture families: sound industrial surfaces that fill the picture.

Each family is a function of a generator and a size. Lengths are given for a 384 px image and scale
with the size. Every family varies in scale, contrast, direction, colour and in its own sound
irregularity, since a model that has seen only tidy textures calls every irregularity a defect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from zsas.data.made import noise
from zsas.data.made.noise import (
    Field,
    blend,
    cell_edges,
    cells,
    colour,
    coordinates,
    fractal,
    grain,
    metal_colour,
    plain,
    plus,
    ramp,
    relief,
    smooth,
    streaks,
    times,
    tint,
)
from zsas.data.made.surface import Labels, Mask, Surface

Rng = np.random.Generator
Texture = Callable[[Rng, int], Surface]


@dataclass
class _Look:
    """What a family's painter returns; the rest of a Surface follows from it."""

    rgb: Field
    grain: float
    name: str = ""
    parts: Labels | None = None
    region: Mask | None = None


TEXTURES: dict[str, Texture] = {}


def _family(key: str, *names: str) -> Callable[[Callable[[Rng, int, float], _Look]], Texture]:
    """Register a painter ``(rng, size, unit) -> _Look`` under ``key``; unit is pixels at 384."""

    def register(paint: Callable[[Rng, int, float], _Look]) -> Texture:
        def make(rng: Rng, size: int) -> Surface:
            look = paint(rng, size, size / 384)
            name = look.name or str(rng.choice(names))
            shape = (size, size)
            region = np.ones(shape, bool) if look.region is None else look.region
            parts = np.zeros(shape, np.int32) if look.parts is None else look.parts
            rgb = np.clip(look.rgb, 0, 1).astype(np.float32, copy=False)
            return Surface(rgb, region, parts, name, key, float(look.grain))

        make.__name__ = key
        make.__doc__ = paint.__doc__
        TEXTURES[key] = make
        return make

    return register


def _log(rng: Rng, low: float, high: float) -> float:
    """Log-uniform draw."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _direction(rng: Rng, upright: float = 0.7) -> float:
    """Mostly along an image axis (with a slight tilt), otherwise any direction, in radians."""
    if rng.random() < upright:
        tilt = 0.0 if rng.random() < 0.6 else rng.normal(0, 0.03)
        return float(rng.integers(0, 2) * np.pi / 2 + tilt)
    return float(rng.uniform(0, np.pi))


def _any(rng: Rng, *options: Any) -> Any:
    return options[int(rng.integers(len(options)))]


# --- metals --------------------------------------------------------------------------------------


def _grinding(rng: Rng, size: int, unit: float, angle: float) -> Field:
    """Faint lines of several lengths with a few strong ones: unit variance, heavy upper tail."""
    length = _log(rng, 25, 900) * unit
    fine = streaks(rng, size, length, _log(rng, 1.0, 1.8) * unit, angle)
    broad = streaks(rng, size, 3 * length, _log(rng, 3, 14) * unit, angle)
    lines = fine + rng.uniform(0.1, 0.6) * broad
    if rng.random() < 0.6:
        strong = streaks(rng, size, _log(rng, 80, 1200) * unit, rng.uniform(1, 2.2) * unit, angle)
        lines += rng.uniform(0.5, 2.5) * np.maximum(strong - rng.uniform(1.4, 2.2), 0)
    if rng.random() < 0.5:
        lines *= 1 + 0.5 * np.clip(smooth(rng, size, size * rng.uniform(0.2, 0.6)), -1.5, 2)
    return lines


def _sheen(rng: Rng, size: int, angle: float) -> Field:
    """Bands of soft light across ``angle``, as a curved or uneven metal reflects a lamp."""
    _, across = coordinates(size, angle)
    position = (across - across.min()) / max(float(np.ptp(across)), 1.0)
    profile = np.zeros(256, np.float32)
    axis = np.linspace(0, 1, 256, dtype=np.float32)
    for _ in range(int(rng.integers(1, 4))):
        width = _log(rng, 0.06, 0.5)
        bump = np.exp(-(((axis - rng.uniform(-0.1, 1.1)) / width) ** 2))
        profile += rng.uniform(-0.35, 0.7) * bump
    field = profile[(position * 255).astype(np.uint8)]
    patch = smooth(rng, size, size * rng.uniform(0.3, 1.0)) * rng.uniform(0.05, 0.25)
    return np.asarray(field * (1 + 1.5 * patch) + patch, np.float32)


def _wear(rng: Rng, size: int, unit: float) -> Field:
    """Relative brightness of a handled but sound plate: mottle, faint scuffs, dried rings."""
    value = np.ones((size, size), np.float32)
    if rng.random() < 0.7:
        mottle = fractal(rng, size, _log(rng, 8, 80) * unit, 4, rng.uniform(0.5, 0.8))
        value += _log(rng, 0.008, 0.05) * mottle
    if rng.random() < 0.4:  # dried coolant: a faint step along a wandering line
        marks = fractal(rng, size, rng.uniform(60, 200) * unit, 3)
        value += rng.uniform(0.01, 0.04) * np.tanh(3 * marks)
    if rng.random() < 0.5:  # scuffs: many, thin and much weaker than a scratch
        canvas = np.zeros((size, size), np.uint8)
        for _ in range(int(rng.integers(3, 40))):
            start = tuple(rng.uniform(0, size, 2))
            length = _log(rng, 6, 60) * unit
            path = noise.curve(rng, start, length, rng.uniform(0, 6.3), 2.0, 0.1, 12)
            points = np.round(path * 16).astype(np.int32)
            tone = int(rng.integers(60, 255))
            cv2.polylines(canvas, [points], False, tone, 1, cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), rng.uniform(0.5, 1.2) * unit)
        value -= soft * (_log(rng, 0.03, 0.18) * _any(rng, 1, 1, -1) / 255)
    if rng.random() < 0.15:
        canvas = np.zeros((size, size), np.uint8)
        centre = rng.integers(0, size, 2).tolist()
        radius = int(rng.uniform(8, 50) * unit)
        cv2.circle(canvas, centre, radius, 255, max(1, int(rng.uniform(1, 5) * unit)), cv2.LINE_AA)
        soft = cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), rng.uniform(1, 4) * unit)
        value += soft * (rng.normal(0, 0.03) / 255)
    return value


def _ground_plate(rng: Rng, size: int, unit: float, angle: float) -> Field:
    """Brightness of a ground plate: grinding lines and wear under soft, uneven light."""
    base = _log(rng, 0.16, 0.6)
    light = np.clip(1 + _sheen(rng, size, angle) * rng.uniform(0.4, 1.3), 0.25, 2.6)
    lines = _log(rng, 0.02, 0.13) * _grinding(rng, size, unit, angle)
    if rng.random() < 0.5:  # a glare in which the lines glitter
        x, y = coordinates(size)
        at, reach = rng.uniform(0, size, 2), rng.uniform(25, 110, 2) * unit
        glare = np.exp(-(((x - at[0]) / reach[0]) ** 2) - ((y - at[1]) / reach[1]) ** 2)
        light = light + rng.uniform(0.1, 0.8) * glare
        lines = lines * (1 + rng.uniform(0, 2.5) * glare)
    value = base * light * (1 + lines) * _wear(rng, size, unit)
    if rng.random() < 0.3:  # chatter across the lines
        along, _ = coordinates(size, angle, 2 * unit, rng, 100 * unit)
        wave = np.sin(along * (2 * np.pi / (_log(rng, 4, 40) * unit)))
        value *= 1 + rng.uniform(0.003, 0.018) * wave
    return np.asarray(value + rng.uniform(0.002, 0.012) * grain(rng, size), np.float32)


@_family("ground_metal", "ground metal plate", "metal surface", "metal plate")
def ground_metal(rng: Rng, size: int, unit: float) -> _Look:
    """A ground metal face that fills the picture."""
    angle = _direction(rng, 0.85)
    value = _ground_plate(rng, size, unit, angle)
    return _Look(tint(value, metal_colour(rng, (1, 1))), 2 * unit)


def _plate_outline(rng: Rng, size: int, unit: float) -> tuple[Field, Mask]:
    """Distance in pixels to the rim of a slightly crooked, curved plate, and the plate itself."""
    axis = np.arange(size, dtype=np.float32)
    often = np.array([0.8, 0.8, 0.5, 0.5])
    inset = rng.exponential(9.0, 4).clip(1, 34) * unit * (rng.random(4) < often)
    rough = min(rng.exponential(0.3), 1.5) * unit
    bow = rng.normal(0, 5, 4) * unit * (rng.random(4) < 0.6)
    arch = 1 - (2 * axis / size - 1) ** 2
    rims = []
    for side in range(4):
        wobble = np.interp(axis, np.linspace(0, size, 40), rng.normal(0, 1, 40)) * rough
        slope = rng.normal(0, 0.008) * (axis - size / 2)
        free = 1.0 if inset[side] > 0 else 0.0
        start = inset[side] + free * (wobble + slope + bow[side] * arch)
        rims.append(start.astype(np.float32) if free else np.full(size, -1e3, np.float32))
    left, right, top, bottom = rims
    distance = np.minimum(axis[None, :] - left[:, None], size - 1 - axis[None, :] - right[:, None])
    distance = np.minimum(distance, axis[:, None] - top[None, :])
    distance = np.minimum(distance, size - 1 - axis[:, None] - bottom[None, :])
    return np.asarray(distance, np.float32), distance > 0


@_family("framed_plate", "metal tile", "magnetic tile", "metal part", "metal plate")
def framed_plate(rng: Rng, size: int, unit: float) -> _Look:
    """A ground plate that ends inside the picture: dark surround, worn rim, bright side faces."""
    turned = rng.random() < 0.35
    value = _ground_plate(rng, size, unit, np.pi / 2)
    distance, plate = _plate_outline(rng, size, unit)
    rim = _log(rng, 3, 22) * unit
    fall = np.clip(distance / rim, 0, 1)
    value *= 1 - rng.uniform(0, 0.65) * (1 - fall) ** 2
    if rng.random() < 0.5:  # a chamfer that catches or loses the light
        at, wide = rng.uniform(0, 10) * unit, rng.uniform(1, 5) * unit
        value *= 1 + rng.uniform(-0.5, 1.2) * np.exp(-(((distance - at) / wide) ** 2))
    surround = rng.uniform(0.01, 0.12) * (1 + 0.25 * smooth(rng, size, 40 * unit))
    if rng.random() < 0.6:  # side faces of the plate, ground too and often bright
        wide = _log(rng, 3, 22) * unit
        face = _log(rng, 0.2, 0.9) * (1 + 0.2 * _grinding(rng, size, unit, np.pi / 2))
        band = np.clip((distance + wide) / unit, 0, 1)
        axis = np.arange(size, dtype=np.float32)
        band *= 1 / (1 + np.exp(-np.clip((np.abs(axis - size / 2) - 0.44 * size) / unit, -30, 30)))
        surround = surround + (face - surround) * band
    cover = np.clip(distance / rng.uniform(1, 3) + 0.5, 0, 1)
    value = value * cover + surround * (1 - cover)
    rgb = tint(value, metal_colour(rng, (1, 1)))
    parts = plate.astype(np.int32)
    if turned:
        rgb = np.ascontiguousarray(rgb.swapaxes(0, 1))
        plate, parts = np.ascontiguousarray(plate.T), np.ascontiguousarray(parts.T)
    return _Look(rgb, 2 * unit, parts=parts, region=plate)


@_family("shaded_plate", "metal surface", "metal sheet", "steel part")
def shaded_plate(rng: Rng, size: int, unit: float) -> _Look:
    """Smooth, low-contrast grey metal or ceramic: broad gradients, dark edges, hardly a texture."""
    base = _log(rng, 0.1, 0.65)
    light = fractal(rng, size, size * rng.uniform(0.4, 1.3), 2)
    value = base * np.clip(1 + rng.uniform(0.05, 0.3) * light, 0.2, 2)
    x = np.linspace(-1, 1, size, dtype=np.float32)
    edges = np.abs(x) ** rng.uniform(3, 14)
    value = value * (1 - rng.uniform(0, 0.7) * edges[None, :])
    value *= 1 - rng.uniform(0, 0.5) * (rng.random() < 0.5) * edges[:, None]
    value *= _wear(rng, size, unit)
    weave = grain(rng, size) * rng.uniform(0.3, 1) + smooth(rng, size, _log(rng, 2, 8) * unit)
    value *= 1 + _log(rng, 0.008, 0.05) * weave
    if rng.random() < 0.4:
        value *= 1 + 0.02 * streaks(rng, size, 300 * unit, 1.5 * unit, _direction(rng))
    return _Look(tint(value, metal_colour(rng, (1, 1))), 3 * unit)


@_family("brushed_metal", "brushed metal", "aluminium", "stainless steel")
def brushed_metal(rng: Rng, size: int, unit: float) -> _Look:
    """Brushed aluminium or steel: long fine streaks, a soft highlight."""
    angle = _direction(rng, 0.6)
    lines = streaks(rng, size, _log(rng, 30, 500) * unit, 1.0, angle)
    lines += 0.6 * streaks(rng, size, 200 * unit, _log(rng, 2, 8) * unit, angle)
    value = rng.uniform(0.35, 0.8) * (1 + _log(rng, 0.02, 0.13) * lines)
    value *= 1 + rng.uniform(0, 0.5) * _sheen(rng, size, angle)
    value *= _wear(rng, size, unit) if rng.random() < 0.3 else 1.0
    cast = (
        metal_colour(rng, (1, 1))
        if rng.random() < 0.8
        else colour(rng, (20, 50), (0.1, 0.4), (0.9, 1))
    )
    return _Look(tint(value, cast), 2 * unit)


@_family("rolled_steel", "rolled steel", "steel strip", "steel sheet")
def rolled_steel(rng: Rng, size: int, unit: float) -> _Look:
    """Hot- or cold-rolled strip: mottled oxide, weak bands along the rolling direction."""
    angle = _direction(rng, 0.85)
    mottle = fractal(rng, size, _log(rng, 15, 120) * unit, 5, rng.uniform(0.5, 0.85))
    bands = streaks(rng, size, 500 * unit, _log(rng, 4, 50) * unit, angle)
    fine = streaks(rng, size, _log(rng, 6, 60) * unit, 1.2 * unit, angle)
    value = rng.uniform(0.2, 0.7) * (
        1
        + _log(rng, 0.03, 0.16) * mottle
        + rng.uniform(0, 0.08) * bands
        + rng.uniform(0, 0.07) * fine
    )
    rgb = tint(value, metal_colour(rng, (1, 1)))
    if rng.random() < 0.2:
        rust = np.clip(0.5 + 0.4 * mottle, 0, 1) * rng.uniform(0.1, 0.4)
        rgb = blend(rgb, tint(value, value.mean() * np.array([1.5, 1.1, 0.8])), rust)
    return _Look(rgb, 4 * unit)


@_family("cast_metal", "cast metal", "cast iron", "cast aluminium")
def cast_metal(rng: Rng, size: int, unit: float) -> _Look:
    """Sand- or die-cast skin: lit bumps of a random height field."""
    height = fractal(rng, size, _log(rng, 5, 22) * unit, 3, rng.uniform(0.5, 0.9))
    shade = noise.standard(relief(height, rng.uniform(0, 2 * np.pi)))
    value = rng.uniform(0.2, 0.6) * (1 + _log(rng, 0.05, 0.25) * shade + 0.06 * height)
    value *= 1 + 0.12 * fractal(rng, size, 200 * unit, 2)
    return _Look(tint(value, metal_colour(rng, (1, 1))), 6 * unit)


@_family("turned_metal", "turned metal part", "machined metal", "metal disc")
def turned_metal(rng: Rng, size: int, unit: float) -> _Look:
    """Turned or milled face: concentric or overlapping tool arcs with an anisotropic highlight."""
    centre = rng.uniform(-1.2, 2.2, 2) * size if rng.random() < 0.7 else np.full(2, size / 2)
    axis = np.arange(size, dtype=np.float32)
    dx, dy = (
        axis[None, :] - np.float32(centre[0]),
        axis[:, None] - np.float32(centre[1]),
    )
    radius = cv2.magnitude(*(np.broadcast_to(a, (size, size)).copy() for a in (dx, dy)))
    radius = radius + 0.4 * unit * smooth(rng, size, 60 * unit)
    step = _log(rng, 2.5, 14) * unit
    table = rng.standard_normal(4096).astype(np.float32)
    ring = table[np.minimum((radius / (1.3 * unit)).astype(np.int32), 4095)]
    groove = np.sin(radius * (2 * np.pi / step)) * rng.uniform(0.3, 1.2) + 0.6 * ring
    theta = np.arctan2(dy, dx)
    fan = np.cos(rng.integers(1, 4) * theta + rng.uniform(0, 6)) ** 2
    value = rng.uniform(0.25, 0.55) * (1 + rng.uniform(0.1, 0.7) * fan)
    value = value * (1 + _log(rng, 0.03, 0.15) * groove) + 0.01 * grain(rng, size)
    return _Look(tint(value, metal_colour(rng, (1, 1))), step)


# --- mineral -------------------------------------------------------------------------------------


@_family("concrete", "concrete", "concrete wall", "cement")
def concrete(rng: Rng, size: int, unit: float) -> _Look:
    """Concrete: clouds, sand, a few pores."""
    cloud = fractal(rng, size, _log(rng, 80, 300) * unit, 4, 0.5)
    sand = fractal(rng, size, _log(rng, 2, 8) * unit, 3, 0.8)
    value = (
        rng.uniform(0.35, 0.75) + rng.uniform(0.01, 0.055) * cloud + _log(rng, 0.012, 0.07) * sand
    )
    if rng.random() < 0.6:
        pores = noise.specks(rng, size, int(rng.integers(5, 120)), (0.4 * unit, 1.8 * unit))
        value -= rng.uniform(0.05, 0.2) * pores
    return _Look(tint(value, colour(rng, (20, 60), (0, 0.12), (1, 1))), 5 * unit)


@_family("asphalt", "asphalt", "road surface", "pavement")
def asphalt(rng: Rng, size: int, unit: float) -> _Look:
    """Asphalt: dark binder with bright aggregate."""
    stone = fractal(rng, size, _log(rng, 3, 9) * unit, 3, 0.8)
    shade = noise.standard(relief(stone, rng.uniform(0, 6)))
    spots = np.clip(stone - rng.uniform(0.6, 1.4), 0, 1.2)
    value = rng.uniform(0.15, 0.45) + 0.05 * shade + rng.uniform(0.1, 0.3) * spots
    value += 0.03 * fractal(rng, size, 150 * unit, 3)
    return _Look(tint(value, colour(rng, (0, 360), (0, 0.08), (1, 1))), 5 * unit)


@_family("granite", "granite", "stone")
def granite(rng: Rng, size: int, unit: float) -> _Look:
    """Granite: interlocked grains of three or four minerals."""
    scale = _log(rng, 4, 14) * unit
    labels, _ = cells(rng, size, scale)
    count = int(labels.max()) + 1
    minerals = np.stack([colour(rng, (0, 60), (0, 0.35), (0.1, 0.95)) for _ in range(4)])
    weights = rng.dirichlet([2, 2, 1, 1])
    palette = minerals[rng.choice(4, count, p=weights)] * rng.normal(1, 0.06, (count, 1))
    mean = (weights[:, None] * minerals).sum(0)
    palette = mean + (palette - mean) * rng.uniform(0.25, 0.9)
    rgb = np.take(palette.astype(np.float32), labels, axis=0)
    rgb = noise.warped(rng, rgb, 0.25 * scale, 0.7 * scale)
    return _Look(plus(rgb, 0.03 * fractal(rng, size, 2 * scale, 4, 0.7)), scale)


@_family("terrazzo", "terrazzo", "composite stone", "floor")
def terrazzo(rng: Rng, size: int, unit: float) -> _Look:
    """Terrazzo: sparse chips of stone in a plain binder."""
    scale = _log(rng, 10, 34) * unit
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
    return _Look(rgb, scale)


@_family("marble", "marble", "marble tile", "polished stone")
def marble(rng: Rng, size: int, unit: float) -> _Look:
    """Marble: clouds and soft branching veins."""
    base = fractal(rng, size, _log(rng, 80, 260) * unit, 4, 0.55)
    vein = fractal(rng, size, _log(rng, 60, 240) * unit, 5, 0.5, rng.uniform(0.5, 1.6))
    lines = np.exp(-np.abs(vein) * _log(rng, 3, 12)) * np.clip(0.5 + 0.5 * base, 0, 1)
    field = 0.75 + 0.07 * base - rng.uniform(0.15, 0.5) * lines
    hue = rng.uniform(0, 360)
    light = colour(rng, (hue, hue + 10), (0, 0.2), (0.7, 1))
    dark = colour(rng, (hue, hue + 40), (0, 0.35), (0.05, 0.5))
    if rng.random() < 0.3:
        light, dark = dark, light
    return _Look(plus(ramp(field, [dark, light]), 0.004 * grain(rng, size)), 12 * unit)


@_family("plaster", "plaster", "wall", "painted wall")
def plaster(rng: Rng, size: int, unit: float) -> _Look:
    """Plaster or stucco: lit relief, from fine grit to trowel strokes."""
    scale = _log(rng, 4, 40) * unit
    height = fractal(rng, size, scale, 4, 0.6, _log(rng, 0.5, 3))
    shade = noise.standard(relief(height, rng.uniform(0, 6)))
    value = rng.uniform(0.5, 0.9) * (1 + _log(rng, 0.02, 0.1) * shade + 0.015 * height)
    return _Look(tint(value, colour(rng, (0, 360), (0, 0.25), (1, 1))), scale)


def _grid_cells(
    size: int, pitch_x: float, pitch_y: float, offset: float, shift: tuple[float, float]
) -> tuple[Labels, Field]:
    """Labels 0.. of a (running-bond) grid and distance in pixels to the nearest joint."""
    axis = np.arange(size, dtype=np.float32)
    v = (axis + shift[1]) / pitch_y
    row = np.floor(v)
    u = (axis[None, :] + shift[0]) / pitch_x + offset * (row[:, None] % 2)
    column = np.floor(u)
    fx, fy = u - column, v - row
    near_x = np.minimum(fx, 1 - fx) * pitch_x
    near_y = (np.minimum(fy, 1 - fy) * pitch_y)[:, None]
    width = int(size / pitch_x) + 4
    labels = (row[:, None] * width + column).astype(np.int32)
    return labels - int(labels.min()), np.asarray(np.minimum(near_x, near_y), np.float32)


def _compact(labels: Labels, inside: Mask) -> Labels:
    """Renumber labels to 1..n, 0 outside."""
    values = np.zeros(int(labels.max()) + 1, np.int32)
    present = np.flatnonzero(np.bincount(labels[inside], minlength=len(values)))
    values[present] = np.arange(1, len(present) + 1)
    return np.asarray(np.where(inside, values[labels], 0), np.int32)


@_family("bricks", "brick wall", "tiled wall", "tiles", "paving")
def bricks(rng: Rng, size: int, unit: float) -> _Look:
    """Bricks or tiles with joints; every unit has its own shade."""
    pitch = _log(rng, 40, 150) * unit
    flat = rng.random() < 0.5
    pitch_y = pitch if flat else pitch * rng.uniform(0.3, 0.6)
    shift = tuple(rng.uniform(0, pitch, 2))
    labels, near = _grid_cells(size, pitch, pitch_y, 0.0 if flat else 0.5, shift)
    joint = _log(rng, 1.0, 5) * unit
    if rng.random() < 0.6:
        near = near + rng.uniform(0.2, 1.0) * unit * fractal(rng, size, 12 * unit, 3)
    cover = np.clip((near - joint) / unit + 0.5, 0, 1)
    count = int(labels.max()) + 1
    face = 1 + rng.normal(0, rng.uniform(0.0, 0.12), count).astype(np.float32)[labels]
    face *= 1 + _log(rng, 0.01, 0.1) * fractal(rng, size, _log(rng, 3, 40) * unit, 4, 0.7)
    base = colour(rng, (0, 360) if flat else (5, 35), (0, 0.5), (0.3, 0.95))
    grout = np.float32(rng.uniform(0.2, 0.85)) * (1 + 0.06 * grain(rng, size))
    rgb = blend(tint(grout, colour(rng, (0, 360), (0, 0.15), (0.9, 1))), tint(face, base), cover)
    return _Look(rgb, pitch, parts=_compact(labels, cover > 0.5))


@_family("ceramic_tile", "ceramic tile", "tile", "glazed ceramic")
def ceramic_tile(rng: Rng, size: int, unit: float) -> _Look:
    """Glazed tile: plain or clouded glaze with fine speckle."""
    base = colour(rng, (0, 360), (0, 0.35), (0.35, 0.97))
    cloud = fractal(rng, size, _log(rng, 30, 200) * unit, 3) * rng.uniform(0, 0.05)
    rgb = tint(1 + cloud, base)
    speck = smooth(rng, size, _log(rng, 1.5, 5) * unit)
    cover = np.clip((speck - rng.uniform(0.8, 2.0)) * 3, 0, 1) * rng.uniform(0.1, 0.7)
    rgb = blend(rgb, plain(size, colour(rng, (0, 360), (0, 0.3), (0.05, 0.95))), cover)
    return _Look(plus(rgb, 0.004 * grain(rng, size)), 3 * unit)


@_family("sandpaper", "sandpaper", "abrasive", "sandblasted surface")
def sandpaper(rng: Rng, size: int, unit: float) -> _Look:
    """Abrasive paper: dense grit."""
    scale = _log(rng, 1.5, 5) * unit
    grit = fractal(rng, size, scale, 2, 0.8)
    field = np.clip(
        0.5 + rng.uniform(0.1, 0.28) * grit + 0.03 * fractal(rng, size, 120 * unit, 2),
        0,
        1,
    )
    dark = colour(rng, (0, 360), (0, 0.5), (0.05, 0.3))
    return _Look(ramp(field, [dark, colour(rng, (15, 50), (0, 0.5), (0.5, 0.9))]), scale)


# --- organic -------------------------------------------------------------------------------------


@_family("wood", "wood", "wooden board", "timber")
def wood(rng: Rng, size: int, unit: float) -> _Look:
    """Planed wood: bent growth rings, fibres and pores."""
    angle = _direction(rng, 0.85)
    along, across = coordinates(size, angle)
    bend = (
        rng.uniform(3, 30)
        * unit
        * streaks(rng, size, rng.uniform(300, 900) * unit, rng.uniform(60, 250) * unit, angle)
    )
    bend += 0.6 * unit * streaks(rng, size, 80 * unit, 8 * unit, angle)
    rings = (across + bend) / (_log(rng, 6, 50) * unit)
    if rng.random() < 0.35:  # cathedral figure
        middle = size * rng.uniform(0.2, 0.8)
        arch = (across - middle) / (rng.uniform(30, 90) * unit)
        rings += np.sqrt(arch * arch + 1) * along / (rng.uniform(40, 120) * unit)
    table = np.interp(np.linspace(0, 512, 4096), np.arange(513), rng.normal(0, 1, 513))
    tone = table.astype(np.float32)[((rings * 8).astype(np.int32)) % 4096]
    tone = np.asarray(cv2.GaussianBlur(tone, (0, 0), 0.8 * unit), np.float32)
    saw = (rings % 1) * rng.uniform(0, 1)
    fibre = streaks(rng, size, _log(rng, 30, 200) * unit, 1.1 * unit, angle)
    pores = np.minimum(streaks(rng, size, 18 * unit, 1.2 * unit, angle) + 1.5, 0)
    field = 0.6 + rng.uniform(0.02, 0.13) * tone - rng.uniform(0, 0.15) * saw
    field += rng.uniform(0.02, 0.07) * fibre + rng.uniform(0, 0.15) * pores
    field += 0.03 * fractal(rng, size, 200 * unit, 2)
    light = colour(rng, (22, 38), (0.15, 0.6), (0.6, 0.97))
    dark = light * colour(rng, (10, 30), (0.1, 0.5), (0.25, 0.6))
    return _Look(ramp(field, [dark, light]), 4 * unit)


@_family("leather", "leather", "artificial leather")
def leather(rng: Rng, size: int, unit: float) -> _Look:
    """Leather: pebbles between fine creases, gently bent."""
    scale = _log(rng, 5, 17) * unit
    labels, distance = cells(rng, size, scale, rng.uniform(0.7, 1))
    crease = cv2.GaussianBlur(cell_edges(labels).astype(np.float32), (0, 0), 0.09 * scale + 0.5)
    height = -crease * 2 - 0.25 * (distance / scale) ** 2
    height = noise.warped(rng, height, 0.22 * scale, scale) + 0.15 * fractal(rng, size, scale, 3)
    shade = noise.standard(relief(height, rng.uniform(0, 6))) + 0.6 * noise.standard(height)
    value = rng.uniform(0.2, 0.85) * (1 + _log(rng, 0.04, 0.2) * shade)
    value *= 1 + 0.05 * fractal(rng, size, 150 * unit, 2)
    tone = colour(rng, (0, 45), (0.1, 0.75), (0.7, 1)) if rng.random() < 0.7 else colour(rng)
    return _Look(tint(value, tone), scale)


@_family("paper", "paper", "cardboard", "packaging")
def paper(rng: Rng, size: int, unit: float) -> _Look:
    """Paper or board: cloudy formation, fibres, sometimes faint corrugation."""
    cloud = fractal(rng, size, _log(rng, 8, 50) * unit, 4, 0.6)
    fibre = streaks(rng, size, 14 * unit, 1.2 * unit, rng.uniform(0, np.pi))
    value = 1 + _log(rng, 0.008, 0.04) * cloud + rng.uniform(0, 0.025) * fibre
    if rng.random() < 0.3:
        along, _ = coordinates(size, _direction(rng))
        value += rng.uniform(0.01, 0.06) * np.sin(along * (2 * np.pi / (_log(rng, 8, 30) * unit)))
    brown = rng.random() < 0.4
    tone = (
        colour(rng, (20, 40), (0.2, 0.5), (0.5, 0.8))
        if brown
        else colour(rng, (0, 360), (0, 0.15), (0.6, 0.95))
    )
    return _Look(tint(value.astype(np.float32), tone), 4 * unit)


@_family("foam", "foam", "sponge")
def foam(rng: Rng, size: int, unit: float) -> _Look:
    """Open foam: rounded pores of mixed size with bright walls."""
    scale = _log(rng, 5, 22) * unit
    labels, distance = cells(rng, size, scale)
    wall = noise.warped(rng, distance / scale, 0.2 * scale, scale)
    depth = rng.uniform(0.2, 1.0, int(labels.max()) + 1).astype(np.float32)
    pore = np.clip(1 - wall * rng.uniform(1.6, 2.6), 0, 1) * depth[labels]
    pore = cv2.GaussianBlur(pore, (0, 0), 0.12 * scale)
    value = rng.uniform(0.4, 0.9) * (1 - rng.uniform(0.2, 0.8) * pore)
    value *= 1 + 0.04 * fractal(rng, size, 4 * unit, 2) + 0.04 * fractal(rng, size, 150 * unit, 2)
    return _Look(tint(value, colour(rng, (0, 360), (0, 0.5), (0.5, 1))), scale)


# --- textile -------------------------------------------------------------------------------------


@_family("fabric", "fabric", "woven fabric", "textile", "cloth")
def fabric(rng: Rng, size: int, unit: float) -> _Look:
    """Plain, twill or satin weave of uneven yarns; sometimes coloured stripes."""
    pitch = _log(rng, 2.6, 15) * unit
    angle = _any(rng, 0.0, rng.normal(0, 0.04), np.pi / 4, rng.uniform(0, np.pi))
    x, y = coordinates(size, angle, rng.uniform(0, 0.25) * pitch, rng, 90 * unit)
    u, v = x / pitch + 1000, y / (pitch * rng.uniform(0.8, 1.3)) + 1000
    iu, iv = u.astype(np.int32), v.astype(np.int32)
    repeat, float_length, step = _any(rng, (2, 1, 1), (3, 1, 1), (4, 2, 1), (5, 1, 2))
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
    return _Look(cv2.merge([plane.astype(np.float32) for plane in planes]), pitch)


@_family("knit", "knitted fabric", "knit", "textile")
def knit(rng: Rng, size: int, unit: float) -> _Look:
    """Knitted stitches: columns of V shapes."""
    pitch = _log(rng, 5, 22) * unit
    x, y = coordinates(size, _direction(rng, 0.8), rng.uniform(0.02, 0.2) * pitch, rng, 50 * unit)
    u = x / pitch + 500
    side = np.abs(u - np.floor(u) - 0.5)
    v = y / (pitch * rng.uniform(0.5, 0.9)) + side * rng.uniform(0.8, 1.8)
    yarn = 0.5 + 0.5 * np.cos(2 * np.pi * v)
    groove = np.clip(1 - np.abs(side - 0.25) * 3.4, 0, 1)
    shade = yarn * groove
    value = 1 - rng.uniform(0.2, 0.7) * (1 - shade) + rng.uniform(0.01, 0.06) * grain(rng, size)
    value *= 1 + 0.05 * fractal(rng, size, 100 * unit, 3)
    return _Look(tint(value, colour(rng, (0, 360), (0, 0.7), (0.3, 1))), pitch)


@_family("carpet", "carpet", "rug", "felt")
def carpet(rng: Rng, size: int, unit: float) -> _Look:
    """Carpet or felt: tufts on a loose grid, mixed yarn colours, fuzzy fibres."""
    pitch = _log(rng, 4, 13) * unit
    x, y = coordinates(size, _direction(rng, 0.6), 0.25 * pitch, rng, 3 * pitch)
    k = np.float32(2 * np.pi / pitch)
    tuft = np.cos(k * x) * np.cos(k * y * rng.uniform(0.5, 1.2)) * rng.uniform(0, 1)
    fuzz = fractal(rng, size, _log(rng, 2, 6) * unit, 3, 0.8)
    mix = np.clip(0.5 + 0.35 * smooth(rng, size, pitch) + 0.3 * fuzz, 0, 1)
    first = colour(rng, (0, 360), (0, 0.5), (0.2, 0.9))
    second = np.clip(first * rng.uniform(0.7, 1.25) + rng.normal(0, 0.04, 3), 0.03, 1)
    value = 1 + 0.16 * tuft + _log(rng, 0.05, 0.2) * fuzz
    value *= 1 + 0.05 * fractal(rng, size, 150 * unit, 2)
    return _Look(times(ramp(mix, np.stack([first, second])), value), pitch)


# --- polymer, glass, paint -----------------------------------------------------------------------


@_family("moulded_plastic", "plastic", "plastic part", "moulded plastic")
def moulded_plastic(rng: Rng, size: int, unit: float) -> _Look:
    """Moulded plastic: fine spark-eroded grain, low contrast, any colour."""
    height = fractal(rng, size, _log(rng, 2, 9) * unit, 2, 0.7)
    shade = noise.standard(relief(height, rng.uniform(0, 6)))
    value = 1 + _log(rng, 0.01, 0.09) * shade
    value *= 1 + rng.uniform(0, 0.12) * fractal(rng, size, size * rng.uniform(0.5, 1.2), 2)
    return _Look(tint(value, colour(rng, (0, 360), (0, 0.85), (0.1, 0.92))), 3 * unit)


@_family("painted_metal", "painted metal", "car body", "coated panel")
def painted_metal(rng: Rng, size: int, unit: float) -> _Look:
    """Paint: orange peel under a soft highlight; sometimes metallic flakes."""
    height = smooth(rng, size, _log(rng, 6, 30) * unit)
    shade = noise.standard(relief(height, rng.uniform(0, 6)))
    value = 1 + _log(rng, 0.004, 0.05) * shade + 0.08 * fractal(rng, size, size * 0.8, 1)
    rgb = tint(value, colour(rng, (0, 360), (0, 0.9), (0.08, 0.95)))
    if rng.random() < 0.4:
        rgb = plus(rgb, rng.uniform(0.01, 0.05) * grain(rng, size))
    x, y = coordinates(size)
    at = rng.uniform(-0.2, 1.2, 2) * size
    reach = rng.uniform(0.2, 0.7) * size
    spot = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / reach**2) * rng.uniform(0, 0.35)
    return _Look(plus(rgb, spot * (2 * value - 1)), 6 * unit)


@_family("rubber", "rubber", "rubber sheet", "seal")
def rubber(rng: Rng, size: int, unit: float) -> _Look:
    """Rubber: dark, matt, dusty; sometimes moulded ribs."""
    value = rng.uniform(0.08, 0.35) * (1 + 0.1 * fractal(rng, size, 100 * unit, 4, 0.6))
    if rng.random() < 0.45:
        along, _ = coordinates(size, _direction(rng), 0.5 * unit, rng)
        rib = np.tanh(rng.uniform(1, 4) * np.sin(along * (2 * np.pi / (_log(rng, 8, 60) * unit))))
        value = value * (1 + rng.uniform(0.05, 0.35) * rib)
    value = value + _log(rng, 0.004, 0.02) * fractal(rng, size, 3 * unit, 2, 0.9)
    return _Look(tint(value, colour(rng, (0, 360), (0, 0.15), (1, 1))), 4 * unit)


@_family("frosted_glass", "glass", "frosted glass", "transparent sheet")
def frosted_glass(rng: Rng, size: int, unit: float) -> _Look:
    """Frosted or ribbed glass over a blurred background."""
    behind = fractal(rng, size, size * rng.uniform(0.4, 1.3), 2)
    etch = fractal(rng, size, _log(rng, 1.2, 5) * unit, 2, 0.8)
    value = rng.uniform(0.35, 0.85) * (1 + rng.uniform(0.02, 0.14) * behind)
    value = value * (1 + _log(rng, 0.005, 0.06) * etch)
    return _Look(tint(value, colour(rng, (120, 240), (0, 0.2), (0.9, 1))), 3 * unit)


@_family("plain_sheet", "sheet", "film", "surface", "panel")
def plain_sheet(rng: Rng, size: int, unit: float) -> _Look:
    """Almost featureless material (film, foil, board) in any tone: low contrast on purpose."""
    value = 1 + rng.uniform(0.0, 0.1) * fractal(rng, size, size * rng.uniform(0.3, 1.2), 2)
    value += _log(rng, 0.003, 0.03) * fractal(rng, size, _log(rng, 1.5, 12) * unit, 3, 0.8)
    if rng.random() < 0.3:
        value += rng.uniform(0.002, 0.015) * streaks(
            rng, size, 400 * unit, 2 * unit, _direction(rng)
        )
    return _Look(
        tint(value.astype(np.float32), colour(rng, (0, 360), (0, 0.4), (0.1, 0.95))),
        4 * unit,
    )


# --- regular structures --------------------------------------------------------------------------


@_family("mesh", "grid", "wire mesh", "metal grid")
def mesh(rng: Rng, size: int, unit: float) -> _Look:
    """Wire mesh or grating before a plain background."""
    pitch = _log(rng, 10, 48) * unit
    angle = _any(rng, 0.0, np.pi / 4, rng.uniform(0, np.pi))
    x, y = coordinates(size, angle, rng.uniform(0, 0.04) * pitch, rng, 60 * unit)
    if rng.random() < 0.4:
        x = x + rng.uniform(0.2, 0.6) * y  # rhombic
    u, v = x / pitch + 500, y / pitch + 500
    fu, fv = (
        np.abs(u - np.floor(u) - 0.5) * pitch,
        np.abs(v - np.floor(v) - 0.5) * pitch,
    )
    half = rng.uniform(0.06, 0.22) * pitch + 0.6 * unit
    soft = 0.8 * unit
    cover_u = np.clip((half - fu) / soft + 0.5, 0, 1)
    cover_v = np.clip((half - fv) / soft + 0.5, 0, 1)
    round_u, round_v = 1 - (fu / half) ** 2 * 0.6, 1 - (fv / half) ** 2 * 0.6
    above = ((np.floor(u) + np.floor(v)) % 2 < 1) & (cover_u > 0.5)
    wire = np.where(above, round_u, np.where(cover_v > 0.5, round_v, round_u))
    cover = np.maximum(cover_u, cover_v)
    ground = rng.uniform(0.05, 0.95)
    metal = float(np.clip(ground + _any(rng, -1, 1) * rng.uniform(0.25, 0.6), 0.08, 0.95))
    wires = tint(
        metal * np.clip(wire, 0.3, 1) + 0.02 * grain(rng, size),
        metal_colour(rng, (1, 1)),
    )
    back = tint(
        ground * (1 + 0.04 * fractal(rng, size, 60 * unit, 4)),
        colour(rng, (0, 360), (0, 0.2), (1, 1)),
    )
    return _Look(blend(back, wires, cover), pitch)


@_family("perforated_sheet", "perforated sheet", "perforated metal", "filter")
def perforated_sheet(rng: Rng, size: int, unit: float) -> _Look:
    """Sheet with a regular (square or staggered) array of holes."""
    pitch = _log(rng, 14, 50) * unit
    x, y = coordinates(size, _direction(rng, 0.7))
    v = y / (pitch * _any(rng, 1.0, 0.866)) + 500
    row = np.floor(v)
    u = x / pitch + 500 + _any(rng, 0.0, 0.5) * (row % 2)
    radius = cv2.magnitude(u - np.floor(u) - 0.5, v - row - 0.5) * pitch
    hole = rng.uniform(0.2, 0.38) * pitch
    cover = np.clip((hole - radius) / unit + 0.5, 0, 1)
    rim = np.exp(-(((radius - hole) / (1.5 * unit)) ** 2)) * rng.uniform(-0.2, 0.3)
    face = rng.uniform(0.3, 0.8) * (1 + 0.05 * fractal(rng, size, 40 * unit, 4, 0.7)) + rim
    depth = rng.uniform(0.0, 0.25)
    if rng.random() < 0.2:
        depth = 0.95
    value = face * (1 - cover) + depth * cover
    count, labels = cv2.connectedComponents((cover > 0.5).astype(np.uint8), connectivity=4)
    parts = labels.astype(np.int32) if count < 400 else None
    return _Look(tint(value, metal_colour(rng, (1, 1))), pitch, parts=parts)


@_family("solar_cell", "solar cell", "photovoltaic cell")
def solar_cell(rng: Rng, size: int, unit: float) -> _Look:
    """Solar cell: crystal grains or plain silicon, busbars and fingers, blue or grey."""
    if rng.random() < 0.65:
        labels, _ = cells(rng, size, _log(rng, 18, 70) * unit)
        count = int(labels.max()) + 1
        value = 1 + rng.normal(0, rng.uniform(0.03, 0.2), count).astype(np.float32)[labels]
        value = noise.warped(rng, value, 2 * unit, 15 * unit)
    else:
        value = 1 + 0.08 * fractal(rng, size, 200 * unit, 3)
    value *= 1 + 0.03 * fractal(rng, size, 20 * unit, 4, 0.8)
    axis = np.arange(size, dtype=np.float32)
    finger_pitch = _log(rng, 5, 14) * unit
    finger = np.clip(np.cos(axis * (2 * np.pi / finger_pitch)) * 4 - 3, 0, 1)
    value += rng.uniform(-0.12, 0.2) * finger[:, None]
    base = (
        colour(rng, (200, 240), (0.2, 0.8), (0.2, 0.6)) if rng.random() < 0.5 else metal_colour(rng)
    )
    rgb = tint(value, base)
    bars = int(rng.integers(2, 6))
    centres = (np.arange(bars) + 0.5 + rng.uniform(-0.1, 0.1)) * size / bars
    near = np.abs(axis[:, None] - centres[None, :]).min(1)
    bar = np.clip((rng.uniform(1.5, 6) * unit - near) / unit + 0.5, 0, 1).astype(np.float32)
    solder = tint(_any(rng, 0.08, 0.7, 0.85) * (1 + 0.03 * grain(rng, size)), np.ones(3))
    rgb = blend(rgb, solder, np.repeat(bar[None], size, 0))
    parts = np.searchsorted(centres, axis).astype(np.int32) + 1
    parts[bar > 0.5] = 0
    parts = np.broadcast_to(parts, (size, size)).copy()
    if rng.random() < 0.4:
        rgb, parts = (
            np.ascontiguousarray(rgb.swapaxes(0, 1)),
            np.ascontiguousarray(parts.T),
        )
    return _Look(rgb, finger_pitch, parts=parts)


@_family("wafer", "wafer", "chip array", "printed pattern")
def wafer(rng: Rng, size: int, unit: float) -> _Look:
    """One random motif of rectangles, lines and dots repeated on a grid."""
    pitch = max(12, int(_log(rng, 24, 110) * unit))
    base = colour(rng, (0, 360), (0, 0.5), (0.2, 0.9))
    motif = np.empty((pitch, pitch, 3), np.float32)
    motif[:] = base
    spread = rng.uniform(0.1, 0.5)
    for _ in range(int(rng.integers(2, 9))):
        paint = np.clip(base + rng.normal(0, spread) + rng.normal(0, 0.06, 3), 0, 1).tolist()
        a, b = rng.integers(0, pitch, (2, 2)).tolist()
        shape = rng.random()
        if shape < 0.5:
            cv2.rectangle(motif, a, b, paint, -1)
        elif shape < 0.75:
            cv2.circle(
                motif,
                a,
                int(rng.integers(1, max(2, pitch // 5))),
                paint,
                -1,
                cv2.LINE_AA,
            )
        else:
            cv2.line(motif, a, b, paint, max(1, int(rng.integers(1, 4) * unit)), cv2.LINE_AA)
    street = max(1, int(rng.uniform(0.5, 4) * unit))
    motif[:street] = motif[:, :street] = rng.uniform(0.05, 0.9)
    repeats = size // pitch + 2
    row, column = rng.integers(0, pitch, 2)
    rgb = np.tile(motif, (repeats, repeats, 1))[row : row + size, column : column + size]
    labels, near = _grid_cells(size, pitch, pitch, 0.0, (float(column), float(row)))
    shade = 1 + rng.uniform(0, 0.04, int(labels.max()) + 1).astype(np.float32)[labels]
    shade += 0.03 * fractal(rng, size, 150 * unit, 2) + 0.008 * grain(rng, size)
    return _Look(
        times(np.ascontiguousarray(rgb), shade),
        pitch,
        parts=_compact(labels, near >= street),
    )


@_family("circuit_board", "circuit board", "printed circuit board", "PCB")
def circuit_board(rng: Rng, size: int, unit: float) -> _Look:
    """Bare board: solder mask, traces, pads and vias."""
    mask_rgb = colour(
        rng,
        _any(rng, (100, 160), (200, 240), (0, 20), (40, 60)),
        (0.3, 0.9),
        (0.1, 0.5),
    )
    step = max(6, int(_log(rng, 9, 26) * unit))
    traces = np.zeros((size, size), np.uint8)
    pads = np.zeros((size, size), np.uint8)
    width = max(1, int(step * rng.uniform(0.15, 0.35)))
    turns = np.array([(1, 0), (0, 1), (1, 1), (-1, 1), (-1, 0), (0, -1)])
    for _ in range(int(rng.integers(10, 40))):
        legs = turns[rng.integers(0, 6, 3)] * rng.integers(1, 9, (3, 1))
        route = np.vstack([[0, 0], np.cumsum(legs, 0)]) * step
        route = route + rng.integers(0, size // step + 1, 2) * step
        cv2.polylines(traces, [route.astype(np.int32)], False, 255, width, cv2.LINE_AA)
        for end in (route[0], route[-1]):
            cv2.circle(
                pads,
                tuple(end.tolist()),
                max(2, int(step * 0.36)),
                255,
                -1,
                cv2.LINE_AA,
            )
    for _ in range(int(rng.integers(0, 5))):
        at = rng.integers(0, size, 2)
        for index in range(int(rng.integers(3, 10))):
            corner = at + np.array([index * step, 0])
            other = corner + (np.array([0.5, 1.6]) * step).astype(int)
            cv2.rectangle(pads, corner.tolist(), other.tolist(), 255, -1)
    copper, cover = (plane.astype(np.float32) / 255 for plane in (traces, pads))
    rgb = tint(1 + rng.uniform(0.1, 0.6) * copper, mask_rgb)
    metal = colour(rng, (35, 50), (0.1, 0.6), (0.6, 0.95))
    rgb = blend(rgb, plain(size, metal), cover)
    shade = 1 + 0.03 * fractal(rng, size, 20 * unit, 4, 0.7)
    _, labels = cv2.connectedComponents((pads > 127).astype(np.uint8), connectivity=4)
    return _Look(times(rgb, shade), step, parts=labels.astype(np.int32))


@_family("statistical", "textured surface", "surface", "material")
def statistical(rng: Rng, size: int, unit: float) -> _Look:
    """Abstract stationary grey texture: any mixture of noise, waves and streaks."""
    scale = _log(rng, 3, 40) * unit
    field = fractal(rng, size, scale, 4, rng.uniform(0.4, 0.9), _log(rng, 0.4, 2.5))
    if rng.random() < 0.5:
        along, _ = coordinates(
            size, rng.uniform(0, np.pi), rng.uniform(0, 3) * unit, rng, 40 * unit
        )
        field += rng.uniform(0.3, 1.5) * np.sin(along * (2 * np.pi / (_log(rng, 4, 30) * unit)))
    if rng.random() < 0.5:
        angle = rng.uniform(0, np.pi)
        field += streaks(rng, size, _log(rng, 10, 90) * unit, _log(rng, 1, 5) * unit, angle)
    if rng.random() < 0.3:
        field = np.abs(field)
    value = rng.uniform(0.3, 0.7) + _log(rng, 0.02, 0.12) * field
    return _Look(tint(value, colour(rng, (0, 360), (0, 0.2), (1, 1))), scale)
