"""Plastic, paint, rubber, glass, and what is regular: meshes, cells, wafers, boards."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.noise import (
    blend,
    cells,
    colour,
    coordinates,
    fractal,
    grain,
    metal_colour,
    plain,
    plus,
    relief,
    smooth,
    streaks,
    times,
    tint,
)
from tiny.synthetic.texture import (
    Painted,
    Rng,
    Texture,
    compact,
    direction,
    enter,
    grid_cells,
    log_uniform,
    one_of,
)

FAMILIES: dict[str, Texture] = {}
family = partial(enter, FAMILIES)


@family("moulded_plastic", "plastic", "plastic part", "moulded plastic")
def moulded_plastic(rng: Rng, size: int, unit: float) -> Painted:
    """Moulded plastic: fine spark-eroded grain, low contrast, any colour."""
    height = fractal(rng, size, log_uniform(rng, 2, 9) * unit, 2, 0.7)
    shade = noise.standard(relief(height, rng.uniform(0, 6)))
    value = 1 + log_uniform(rng, 0.01, 0.09) * shade
    value *= 1 + rng.uniform(0, 0.12) * fractal(rng, size, size * rng.uniform(0.5, 1.2), 2)
    return Painted(tint(value, colour(rng, (0, 360), (0, 0.85), (0.1, 0.92))), 3 * unit)


@family("painted_metal", "painted metal", "car body", "coated panel")
def painted_metal(rng: Rng, size: int, unit: float) -> Painted:
    """Paint: orange peel under a soft highlight; sometimes metallic flakes."""
    height = smooth(rng, size, log_uniform(rng, 6, 30) * unit)
    shade = noise.standard(relief(height, rng.uniform(0, 6)))
    value = 1 + log_uniform(rng, 0.004, 0.05) * shade + 0.08 * fractal(rng, size, size * 0.8, 1)
    rgb = tint(value, colour(rng, (0, 360), (0, 0.9), (0.08, 0.95)))
    if rng.random() < 0.4:
        rgb = plus(rgb, rng.uniform(0.01, 0.05) * grain(rng, size))
    x, y = coordinates(size)
    at = rng.uniform(-0.2, 1.2, 2) * size
    reach = rng.uniform(0.2, 0.7) * size
    spot = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / reach**2) * rng.uniform(0, 0.35)
    return Painted(plus(rgb, spot * (2 * value - 1)), 6 * unit)


@family("rubber", "rubber", "rubber sheet", "seal")
def rubber(rng: Rng, size: int, unit: float) -> Painted:
    """Rubber: dark, matt, dusty; sometimes moulded ribs."""
    value = rng.uniform(0.08, 0.35) * (1 + 0.1 * fractal(rng, size, 100 * unit, 4, 0.6))
    if rng.random() < 0.45:
        along, _ = coordinates(size, direction(rng), 0.5 * unit, rng)
        rib = np.tanh(
            rng.uniform(1, 4) * np.sin(along * (2 * np.pi / (log_uniform(rng, 8, 60) * unit)))
        )
        value = value * (1 + rng.uniform(0.05, 0.35) * rib)
    value = value + log_uniform(rng, 0.004, 0.02) * fractal(rng, size, 3 * unit, 2, 0.9)
    return Painted(tint(value, colour(rng, (0, 360), (0, 0.15), (1, 1))), 4 * unit)


@family("frosted_glass", "glass", "frosted glass", "transparent sheet")
def frosted_glass(rng: Rng, size: int, unit: float) -> Painted:
    """Frosted or ribbed glass over a blurred background."""
    behind = fractal(rng, size, size * rng.uniform(0.4, 1.3), 2)
    etch = fractal(rng, size, log_uniform(rng, 1.2, 5) * unit, 2, 0.8)
    value = rng.uniform(0.35, 0.85) * (1 + rng.uniform(0.02, 0.14) * behind)
    value = value * (1 + log_uniform(rng, 0.005, 0.06) * etch)
    return Painted(tint(value, colour(rng, (120, 240), (0, 0.2), (0.9, 1))), 3 * unit)


@family("plain_sheet", "sheet", "film", "surface", "panel")
def plain_sheet(rng: Rng, size: int, unit: float) -> Painted:
    """Almost featureless material (film, foil, board) in any tone: low contrast on purpose."""
    value = 1 + rng.uniform(0.0, 0.1) * fractal(rng, size, size * rng.uniform(0.3, 1.2), 2)
    value += log_uniform(rng, 0.003, 0.03) * fractal(
        rng, size, log_uniform(rng, 1.5, 12) * unit, 3, 0.8
    )
    if rng.random() < 0.3:
        value += rng.uniform(0.002, 0.015) * streaks(
            rng, size, 400 * unit, 2 * unit, direction(rng)
        )
    return Painted(
        tint(value.astype(np.float32), colour(rng, (0, 360), (0, 0.4), (0.1, 0.95))),
        4 * unit,
    )


@family("mesh", "grid", "wire mesh", "metal grid")
def mesh(rng: Rng, size: int, unit: float) -> Painted:
    """Wire mesh or grating before a plain background."""
    pitch = log_uniform(rng, 10, 48) * unit
    angle = one_of(rng, 0.0, np.pi / 4, rng.uniform(0, np.pi))
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
    metal = float(np.clip(ground + one_of(rng, -1, 1) * rng.uniform(0.25, 0.6), 0.08, 0.95))
    wires = tint(
        metal * np.clip(wire, 0.3, 1) + 0.02 * grain(rng, size),
        metal_colour(rng, (1, 1)),
    )
    back = tint(
        ground * (1 + 0.04 * fractal(rng, size, 60 * unit, 4)),
        colour(rng, (0, 360), (0, 0.2), (1, 1)),
    )
    return Painted(blend(back, wires, cover), pitch)


@family("perforated_sheet", "perforated sheet", "perforated metal", "filter")
def perforated_sheet(rng: Rng, size: int, unit: float) -> Painted:
    """Sheet with a regular (square or staggered) array of holes."""
    pitch = log_uniform(rng, 14, 50) * unit
    x, y = coordinates(size, direction(rng, 0.7))
    v = y / (pitch * one_of(rng, 1.0, 0.866)) + 500
    row = np.floor(v)
    u = x / pitch + 500 + one_of(rng, 0.0, 0.5) * (row % 2)
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
    return Painted(tint(value, metal_colour(rng, (1, 1))), pitch, parts=parts)


@family("solar_cell", "solar cell", "photovoltaic cell")
def solar_cell(rng: Rng, size: int, unit: float) -> Painted:
    """Solar cell: crystal grains or plain silicon, busbars and fingers, blue or grey."""
    if rng.random() < 0.65:
        labels, _ = cells(rng, size, log_uniform(rng, 18, 70) * unit)
        count = int(labels.max()) + 1
        value = 1 + rng.normal(0, rng.uniform(0.03, 0.2), count).astype(np.float32)[labels]
        value = noise.warped(rng, value, 2 * unit, 15 * unit)
    else:
        value = 1 + 0.08 * fractal(rng, size, 200 * unit, 3)
    value *= 1 + 0.03 * fractal(rng, size, 20 * unit, 4, 0.8)
    axis = np.arange(size, dtype=np.float32)
    finger_pitch = log_uniform(rng, 5, 14) * unit
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
    solder = tint(one_of(rng, 0.08, 0.7, 0.85) * (1 + 0.03 * grain(rng, size)), np.ones(3))
    rgb = blend(rgb, solder, np.repeat(bar[None], size, 0))
    parts = np.searchsorted(centres, axis).astype(np.int32) + 1
    parts[bar > 0.5] = 0
    parts = np.broadcast_to(parts, (size, size)).copy()
    if rng.random() < 0.4:
        rgb, parts = (
            np.ascontiguousarray(rgb.swapaxes(0, 1)),
            np.ascontiguousarray(parts.T),
        )
    return Painted(rgb, finger_pitch, parts=parts)


@family("wafer", "wafer", "chip array", "printed pattern")
def wafer(rng: Rng, size: int, unit: float) -> Painted:
    """One random motif of rectangles, lines and dots repeated on a grid."""
    pitch = max(12, int(log_uniform(rng, 24, 110) * unit))
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
    labels, near = grid_cells(size, pitch, pitch, 0.0, (float(column), float(row)))
    shade = 1 + rng.uniform(0, 0.04, int(labels.max()) + 1).astype(np.float32)[labels]
    shade += 0.03 * fractal(rng, size, 150 * unit, 2) + 0.008 * grain(rng, size)
    return Painted(
        times(np.ascontiguousarray(rgb), shade),
        pitch,
        parts=compact(labels, near >= street),
    )


@family("circuit_board", "circuit board", "printed circuit board", "PCB")
def circuit_board(rng: Rng, size: int, unit: float) -> Painted:
    """Bare board: solder mask, traces, pads and vias."""
    mask_rgb = colour(
        rng,
        one_of(rng, (100, 160), (200, 240), (0, 20), (40, 60)),
        (0.3, 0.9),
        (0.1, 0.5),
    )
    step = max(6, int(log_uniform(rng, 9, 26) * unit))
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
    return Painted(times(rgb, shade), step, parts=labels.astype(np.int32))


@family("statistical", "textured surface", "surface", "material")
def statistical(rng: Rng, size: int, unit: float) -> Painted:
    """Abstract stationary grey texture: any mixture of noise, waves and streaks."""
    scale = log_uniform(rng, 3, 40) * unit
    field = fractal(rng, size, scale, 4, rng.uniform(0.4, 0.9), log_uniform(rng, 0.4, 2.5))
    if rng.random() < 0.5:
        along, _ = coordinates(
            size, rng.uniform(0, np.pi), rng.uniform(0, 3) * unit, rng, 40 * unit
        )
        field += rng.uniform(0.3, 1.5) * np.sin(
            along * (2 * np.pi / (log_uniform(rng, 4, 30) * unit))
        )
    if rng.random() < 0.5:
        angle = rng.uniform(0, np.pi)
        field += streaks(
            rng, size, log_uniform(rng, 10, 90) * unit, log_uniform(rng, 1, 5) * unit, angle
        )
    if rng.random() < 0.3:
        field = np.abs(field)
    value = rng.uniform(0.3, 0.7) + log_uniform(rng, 0.02, 0.12) * field
    return Painted(tint(value, colour(rng, (0, 360), (0, 0.2), (1, 1))), scale)
