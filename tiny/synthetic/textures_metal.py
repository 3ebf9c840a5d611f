"""Metal surfaces: ground, framed, shaded, brushed, rolled, cast, turned."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.noise import (
    Field,
    blend,
    colour,
    coordinates,
    fractal,
    grain,
    metal_colour,
    relief,
    smooth,
    streaks,
    tint,
)
from tiny.synthetic.surface import Mask
from tiny.synthetic.texture import Painted, Rng, Texture, direction, enter, log_uniform, one_of

FAMILIES: dict[str, Texture] = {}
family = partial(enter, FAMILIES)


def _grinding(rng: Rng, size: int, unit: float, angle: float) -> Field:
    """Faint lines of several lengths with a few strong ones: unit variance, heavy upper tail."""
    length = log_uniform(rng, 25, 900) * unit
    fine = streaks(rng, size, length, log_uniform(rng, 1.0, 1.8) * unit, angle)
    broad = streaks(rng, size, 3 * length, log_uniform(rng, 3, 14) * unit, angle)
    lines = fine + rng.uniform(0.1, 0.6) * broad
    if rng.random() < 0.6:
        strong = streaks(
            rng, size, log_uniform(rng, 80, 1200) * unit, rng.uniform(1, 2.2) * unit, angle
        )
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
        width = log_uniform(rng, 0.06, 0.5)
        bump = np.exp(-(((axis - rng.uniform(-0.1, 1.1)) / width) ** 2))
        profile += rng.uniform(-0.35, 0.7) * bump
    field = profile[(position * 255).astype(np.uint8)]
    patch = smooth(rng, size, size * rng.uniform(0.3, 1.0)) * rng.uniform(0.05, 0.25)
    return np.asarray(field * (1 + 1.5 * patch) + patch, np.float32)


def _wear(rng: Rng, size: int, unit: float) -> Field:
    """Relative brightness of a handled but normal plate: mottle, faint scuffs, dried rings."""
    value = np.ones((size, size), np.float32)
    if rng.random() < 0.7:
        mottle = fractal(rng, size, log_uniform(rng, 8, 80) * unit, 4, rng.uniform(0.5, 0.8))
        value += log_uniform(rng, 0.008, 0.05) * mottle
    if rng.random() < 0.4:  # dried coolant: a faint step along a wandering line
        marks = fractal(rng, size, rng.uniform(60, 200) * unit, 3)
        value += rng.uniform(0.01, 0.04) * np.tanh(3 * marks)
    if rng.random() < 0.5:  # scuffs: many, thin and much weaker than a scratch
        canvas = np.zeros((size, size), np.uint8)
        for _ in range(int(rng.integers(3, 40))):
            start = tuple(rng.uniform(0, size, 2))
            length = log_uniform(rng, 6, 60) * unit
            path = noise.curve(rng, start, length, rng.uniform(0, 6.3), 2.0, 0.1, 12)
            points = np.round(path * 16).astype(np.int32)
            tone = int(rng.integers(60, 255))
            cv2.polylines(canvas, [points], False, tone, 1, cv2.LINE_AA, 4)
        soft = cv2.GaussianBlur(canvas.astype(np.float32), (0, 0), rng.uniform(0.5, 1.2) * unit)
        value -= soft * (log_uniform(rng, 0.03, 0.18) * one_of(rng, 1, 1, -1) / 255)
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
    base = log_uniform(rng, 0.16, 0.6)
    light = np.clip(1 + _sheen(rng, size, angle) * rng.uniform(0.4, 1.3), 0.25, 2.6)
    lines = log_uniform(rng, 0.02, 0.13) * _grinding(rng, size, unit, angle)
    if rng.random() < 0.5:  # a glare in which the lines glitter
        x, y = coordinates(size)
        at, reach = rng.uniform(0, size, 2), rng.uniform(25, 110, 2) * unit
        glare = np.exp(-(((x - at[0]) / reach[0]) ** 2) - ((y - at[1]) / reach[1]) ** 2)
        light = light + rng.uniform(0.1, 0.8) * glare
        lines = lines * (1 + rng.uniform(0, 2.5) * glare)
    value = base * light * (1 + lines) * _wear(rng, size, unit)
    if rng.random() < 0.3:  # chatter across the lines
        along, _ = coordinates(size, angle, 2 * unit, rng, 100 * unit)
        wave = np.sin(along * (2 * np.pi / (log_uniform(rng, 4, 40) * unit)))
        value *= 1 + rng.uniform(0.003, 0.018) * wave
    return np.asarray(value + rng.uniform(0.002, 0.012) * grain(rng, size), np.float32)


@family("ground_metal", "ground metal plate", "metal surface", "metal plate")
def ground_metal(rng: Rng, size: int, unit: float) -> Painted:
    """A ground metal face that fills the picture."""
    angle = direction(rng, 0.85)
    value = _ground_plate(rng, size, unit, angle)
    return Painted(tint(value, metal_colour(rng, (1, 1))), 2 * unit)


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


@family("framed_plate", "metal tile", "magnetic tile", "metal part", "metal plate")
def framed_plate(rng: Rng, size: int, unit: float) -> Painted:
    """A ground plate that ends inside the picture: dark surround, worn rim, bright side faces."""
    turned = rng.random() < 0.35
    value = _ground_plate(rng, size, unit, np.pi / 2)
    distance, plate = _plate_outline(rng, size, unit)
    rim = log_uniform(rng, 3, 22) * unit
    fall = np.clip(distance / rim, 0, 1)
    value *= 1 - rng.uniform(0, 0.65) * (1 - fall) ** 2
    if rng.random() < 0.5:  # a chamfer that catches or loses the light
        at, wide = rng.uniform(0, 10) * unit, rng.uniform(1, 5) * unit
        value *= 1 + rng.uniform(-0.5, 1.2) * np.exp(-(((distance - at) / wide) ** 2))
    surround = rng.uniform(0.01, 0.12) * (1 + 0.25 * smooth(rng, size, 40 * unit))
    if rng.random() < 0.6:  # side faces of the plate, ground too and often bright
        wide = log_uniform(rng, 3, 22) * unit
        face = log_uniform(rng, 0.2, 0.9) * (1 + 0.2 * _grinding(rng, size, unit, np.pi / 2))
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
    return Painted(rgb, 2 * unit, parts=parts, region=plate)


@family("shaded_plate", "metal surface", "metal sheet", "steel part")
def shaded_plate(rng: Rng, size: int, unit: float) -> Painted:
    """Smooth, low-contrast grey metal or ceramic: broad gradients, dark edges, hardly a texture."""
    base = log_uniform(rng, 0.1, 0.65)
    light = fractal(rng, size, size * rng.uniform(0.4, 1.3), 2)
    value = base * np.clip(1 + rng.uniform(0.05, 0.3) * light, 0.2, 2)
    x = np.linspace(-1, 1, size, dtype=np.float32)
    edges = np.abs(x) ** rng.uniform(3, 14)
    value = value * (1 - rng.uniform(0, 0.7) * edges[None, :])
    value *= 1 - rng.uniform(0, 0.5) * (rng.random() < 0.5) * edges[:, None]
    value *= _wear(rng, size, unit)
    weave = grain(rng, size) * rng.uniform(0.3, 1) + smooth(
        rng, size, log_uniform(rng, 2, 8) * unit
    )
    value *= 1 + log_uniform(rng, 0.008, 0.05) * weave
    if rng.random() < 0.4:
        value *= 1 + 0.02 * streaks(rng, size, 300 * unit, 1.5 * unit, direction(rng))
    return Painted(tint(value, metal_colour(rng, (1, 1))), 3 * unit)


@family("brushed_metal", "brushed metal", "aluminium", "stainless steel")
def brushed_metal(rng: Rng, size: int, unit: float) -> Painted:
    """Brushed aluminium or steel: long fine streaks, a soft highlight."""
    angle = direction(rng, 0.6)
    lines = streaks(rng, size, log_uniform(rng, 30, 500) * unit, 1.0, angle)
    lines += 0.6 * streaks(rng, size, 200 * unit, log_uniform(rng, 2, 8) * unit, angle)
    value = rng.uniform(0.35, 0.8) * (1 + log_uniform(rng, 0.02, 0.13) * lines)
    value *= 1 + rng.uniform(0, 0.5) * _sheen(rng, size, angle)
    value *= _wear(rng, size, unit) if rng.random() < 0.3 else 1.0
    cast = (
        metal_colour(rng, (1, 1))
        if rng.random() < 0.8
        else colour(rng, (20, 50), (0.1, 0.4), (0.9, 1))
    )
    return Painted(tint(value, cast), 2 * unit)


@family("rolled_steel", "rolled steel", "steel strip", "steel sheet")
def rolled_steel(rng: Rng, size: int, unit: float) -> Painted:
    """Hot- or cold-rolled strip: mottled oxide, weak bands along the rolling direction."""
    angle = direction(rng, 0.85)
    mottle = fractal(rng, size, log_uniform(rng, 15, 120) * unit, 5, rng.uniform(0.5, 0.85))
    bands = streaks(rng, size, 500 * unit, log_uniform(rng, 4, 50) * unit, angle)
    fine = streaks(rng, size, log_uniform(rng, 6, 60) * unit, 1.2 * unit, angle)
    value = rng.uniform(0.2, 0.7) * (
        1
        + log_uniform(rng, 0.03, 0.16) * mottle
        + rng.uniform(0, 0.08) * bands
        + rng.uniform(0, 0.07) * fine
    )
    rgb = tint(value, metal_colour(rng, (1, 1)))
    if rng.random() < 0.2:
        rust = np.clip(0.5 + 0.4 * mottle, 0, 1) * rng.uniform(0.1, 0.4)
        rgb = blend(rgb, tint(value, value.mean() * np.array([1.5, 1.1, 0.8])), rust)
    return Painted(rgb, 4 * unit)


@family("cast_metal", "cast metal", "cast iron", "cast aluminium")
def cast_metal(rng: Rng, size: int, unit: float) -> Painted:
    """Sand- or die-cast skin: lit bumps of a random height field."""
    height = fractal(rng, size, log_uniform(rng, 5, 22) * unit, 3, rng.uniform(0.5, 0.9))
    shade = noise.standard(relief(height, rng.uniform(0, 2 * np.pi)))
    value = rng.uniform(0.2, 0.6) * (1 + log_uniform(rng, 0.05, 0.25) * shade + 0.06 * height)
    value *= 1 + 0.12 * fractal(rng, size, 200 * unit, 2)
    return Painted(tint(value, metal_colour(rng, (1, 1))), 6 * unit)


@family("turned_metal", "turned metal part", "machined metal", "metal disc")
def turned_metal(rng: Rng, size: int, unit: float) -> Painted:
    """Turned or milled face: concentric or overlapping tool arcs with an anisotropic highlight."""
    centre = rng.uniform(-1.2, 2.2, 2) * size if rng.random() < 0.7 else np.full(2, size / 2)
    axis = np.arange(size, dtype=np.float32)
    dx, dy = (
        axis[None, :] - np.float32(centre[0]),
        axis[:, None] - np.float32(centre[1]),
    )
    radius = cv2.magnitude(*(np.broadcast_to(a, (size, size)).copy() for a in (dx, dy)))
    radius = radius + 0.4 * unit * smooth(rng, size, 60 * unit)
    step = log_uniform(rng, 2.5, 14) * unit
    table = rng.standard_normal(4096).astype(np.float32)
    ring = table[np.minimum((radius / (1.3 * unit)).astype(np.int32), 4095)]
    groove = np.sin(radius * (2 * np.pi / step)) * rng.uniform(0.3, 1.2) + 0.6 * ring
    theta = np.arctan2(dy, dx)
    fan = np.cos(rng.integers(1, 4) * theta + rng.uniform(0, 6)) ** 2
    value = rng.uniform(0.25, 0.55) * (1 + rng.uniform(0.1, 0.7) * fan)
    value = value * (1 + log_uniform(rng, 0.03, 0.15) * groove) + 0.01 * grain(rng, size)
    return Painted(tint(value, metal_colour(rng, (1, 1))), step)
