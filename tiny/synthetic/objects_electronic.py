"""Electronic parts: boards, chips, connectors, wafers, cables."""

from __future__ import annotations

import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.finishes import Finish, metal, plastic, rough
from tiny.synthetic.noise import Rng
from tiny.synthetic.outlines import (
    Outline,
    copies,
    ellipse,
    moved,
    polygon,
    put,
    rectangle,
    sausage,
    wavy,
)
from tiny.synthetic.shapes import Canvas
from tiny.synthetic.surface import Surface
from tiny.synthetic.wording import noun, words


def black(rng: Rng) -> Finish:
    """The moulding compound of chips and connectors."""
    return plastic(rng, noise.colour(rng, (0, 360), (0, 0.15), (0.05, 0.25)))


def leads(rng: Rng) -> Finish:
    """Tinned or gilded contacts."""
    gold = noise.colour(rng, (38, 48), (0.4, 0.7), (0.6, 0.85))
    shade = gold if rng.random() < 0.3 else noise.metal_colour(rng, (0.55, 0.85))
    return Finish(shade, (("grain", 0.03, 0.05),), 0.5, 25, 0.4, 0.4)


def lattice(columns: int, rows: int, w: float, h: float) -> Outline:
    """Centres of a regular grid filling half sides ``w`` and ``h``: ``(n, 2)``."""
    x = (np.arange(columns) + 0.5) * 2 * w / columns - w
    y = (np.arange(rows) + 0.5) * 2 * h / rows - h
    return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)


def chip(
    canvas: Canvas,
    w: float,
    h: float,
    x: float,
    y: float,
    turn: float,
    body: Finish,
    pins: Finish,
    sides: int,
) -> None:
    """One packaged circuit with legs, a pin-one mark and print."""
    rng = canvas.rng
    legs: list[Outline] = []
    for side in range(sides):
        along, out = (w, h) if side < 2 else (h, w)
        count = max(2, int(along / max(min(w, h) * 0.14, 0.02)))
        sign = 1 if side % 2 else -1
        for p in (np.arange(count) + 0.5) * 2 * along / count - along:
            leg = rectangle(
                along / count * 0.45, 0.16 * min(w, h), p, sign * (out + 0.1 * min(w, h))
            )
            legs.append(moved(leg if side < 2 else leg[:, ::-1], x, y, turn))
    if legs:
        canvas.solid(legs, pins, bevel=0.02, shadow=0.02, apart=rng.random() < 0.5)
    canvas.solid(moved(rectangle(w, h, radius=0.02), x, y, turn), body, bevel=0.03, shadow=0.05)
    dot = moved(moved(ellipse(min(w, h) * 0.1, points=20), -w * 0.75, h * 0.6), x, y, turn)
    canvas.solid(dot, body, bevel=-0.015, label=False)
    if min(w, h) * canvas.scale > 12:
        ink = np.full(3, rng.uniform(0.5, 0.9))
        for row in range(int(rng.integers(1, 3))):
            spot = moved(np.array([[0, (row - 0.4) * h * 0.5]]), x, y, turn)[0]
            canvas.write(words(rng, 1, 1), spot[0], spot[1], min(h * 0.28, w * 0.3), ink, 0.7, turn)


def board(rng: Rng, canvas: Canvas, w: float, h: float) -> None:
    """A printed circuit board: mask, traces, vias, pads, silk-screen print."""
    mask = noise.colour(
        rng,
        rng.choice([[90, 160], [90, 160], [200, 240], [0, 20], [30, 50]]),
        (0.3, 0.85),
        (0.1, 0.55),
    )
    finish = Finish(mask, (("mottle", 0.03, 0), ("grain", 0.02, 0.03)), 0.2, 20, 0.5, 0.1)
    canvas.solid(rectangle(w, h, radius=rng.uniform(0, 0.1)), finish, bevel=0.015, shadow=0.04)
    lighter = np.clip(mask * rng.uniform(1.15, 1.5) + 0.02, 0, 1)
    traces: list[Outline] = []
    for _ in range(int(rng.integers(5, 14))):
        x, y = rng.uniform(-w, w) * 0.9, rng.uniform(-h, h) * 0.9
        path = [[x, y]]
        for _ in range(3):
            step, way = rng.uniform(0.1, 0.5), rng.integers(0, 8) * np.pi / 4
            x, y = (
                np.clip(x + step * np.cos(way), -w * 0.95, w * 0.95),
                np.clip(y + step * np.sin(way), -h * 0.95, h * 0.95),
            )
            path.append([x, y])
        traces += [np.array(path) + k * 0.045 for k in range(int(rng.integers(1, 4)))]
    for k in range(2):
        canvas.line(traces[k::2], rng.uniform(0.012, 0.025), lighter, 0.8)
    vias = rng.uniform(-0.92, 0.92, (int(rng.integers(4, 14)), 2)) * (w, h)
    gold = leads(rng)
    canvas.solid(copies(ellipse(0.028, points=16), vias), gold)
    canvas.solid(copies(ellipse(0.013, points=12), vias), black(rng), label=False)


def circuit(rng: Rng, size: int) -> Surface:
    """A populated printed circuit board."""
    c = Canvas(rng, size)
    h = rng.uniform(0.5, 1)
    c.stand((1, h), fill=(0.7, 1.4), turn=rng.choice([0.06, np.pi]), tilt=0.06)
    board(rng, c, 1, h)
    pins, body = leads(rng), black(rng)
    slots = lattice(4, max(2, round(4 * h)), 0.95, h * 0.93)
    rng.shuffle(slots)
    chips = int(rng.integers(1, 4))
    for at in slots[:chips]:
        chip(
            c,
            rng.uniform(0.12, 0.2),
            rng.uniform(0.1, 0.16),
            at[0],
            at[1],
            0.0,
            body,
            pins,
            int(rng.choice([2, 2, 4])),
        )
    ceramic = [plastic(rng, noise.colour(rng, (20, 40), (0.1, 0.5), (0.3, 0.75))), body]
    for at in slots[chips : chips + 7]:
        turn = rng.choice([0, np.pi / 2])
        kind = rng.choice(["small", "small", "can", "pads", "led"])
        if kind == "small":
            row = [
                put(rectangle(0.045, 0.025), at + np.array([0, k * 0.09]), turn) for k in (-1, 0, 1)
            ]
            ends = [
                put(rectangle(0.065, 0.026), at + np.array([0, k * 0.09]), turn) for k in (-1, 0, 1)
            ]
            c.solid(ends, pins, bevel=0.015, shadow=0.02, label=False)
            c.solid(row, ceramic[int(rng.integers(2))], bevel=0.01, apart=True)
        elif kind == "can":
            c.solid(put(ellipse(0.12), at), metal(rng, (0.6, 0.85), 0), bevel=0.03, shadow=0.12)
            c.solid(
                put(np.array([[-0.06, -0.1], [-0.06, 0.1], [-0.115, 0.0]]), at), body, label=False
            )
        elif kind == "pads":
            pads = lattice(int(rng.integers(3, 7)), 2, 0.17, 0.07) + at
            c.solid(copies(ellipse(0.025, points=14), pads), pins, dome=0.4, apart=True)
        else:
            c.solid(put(ellipse(0.06), at), plastic(rng), dome=0.8, shadow=0.05)
        if rng.random() < 0.5:
            c.write(words(rng, 1, 1), at[0], at[1] + 0.17, 0.05, np.full(3, 0.85), 0.8)
    corners = [[sx * 0.9, sy * (h - 0.1)] for sx in (-1, 1) for sy in (-1, 1)]
    c.solid(copies(ellipse(0.06, points=24), corners), pins, bevel=0.015)
    c.solid(copies(ellipse(0.038, points=20), corners), black(rng), bevel=-0.015, label=False)
    return c.surface(noun(rng, "circuit board", "PCB", "printed circuit board"), "circuit", 2)


def transistor(rng: Rng, size: int) -> Surface:
    """A three-legged part or a chip on a perforated board."""
    c = Canvas(rng, size)
    c.stand((1, 1), fill=(0.9, 1.25), turn=rng.choice([0.06, np.pi]), tilt=0.06)
    shade = (
        noise.colour(rng, (20, 50), (0.2, 0.7), (0.3, 0.8))
        if rng.random() < 0.6
        else (noise.colour(rng, (90, 220), (0.2, 0.8), (0.15, 0.6)))
    )
    c.solid(rectangle(1.5, 1.5), rough(rng, shade, 0.03, 0.1), label=False)
    count = int(rng.integers(9, 17))
    holes = lattice(count, count, 1.5, 1.5)
    pitch = 3.0 / count
    c.solid(copies(ellipse(pitch * 0.34, points=14), holes), leads(rng), label=False)
    c.solid(copies(ellipse(pitch * 0.19, points=12), holes), black(rng), label=False)
    pins, body = leads(rng), black(rng)
    x, y = rng.uniform(-0.15, 0.15, 2)
    if rng.random() < 0.6:
        for k in (-1, 0, 1):
            foot = np.array(
                [
                    [x + k * pitch, y],
                    [x + k * pitch * 1.1, y + 0.35],
                    [x + k * pitch, y + rng.uniform(0.6, 0.75)],
                ]
            )
            c.solid(sausage(foot, 0.035), pins, dome=0.8, shadow=0.06)
        w = rng.uniform(0.3, 0.42)
        if rng.random() < 0.5:
            tab = rectangle(w, 0.5, x, y - 0.3, 0.03)
            c.solid(
                tab,
                metal(rng, (0.5, 0.8), 0),
                holes=[ellipse(0.1, x=x, y=y - 0.6)],
                bevel=0.03,
                shadow=0.1,
            )
        c.solid(rectangle(w, 0.35, x, y, 0.05), body, bevel=0.06, shadow=0.12)
        c.write(words(rng, 1, 1), x, y, 0.12, np.full(3, rng.uniform(0.3, 0.8)), 0.8)
    else:
        chip(c, rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.4), x, y, 0.0, body, pins, 2)
    c.region[:] = c.parts > 0 if rng.random() < 0.3 else True
    return c.surface(noun(rng, "transistor", "chip", "electronic component"), "transistor", 3)


def connector(rng: Rng, size: int) -> Surface:
    """A housing with rows of pins or sockets."""
    c = Canvas(rng, size)
    columns, rows = int(rng.integers(3, 16)), int(rng.integers(1, 4))
    h = min(0.9, max(0.2, rows / columns * 1.4))
    c.stand((1, h + 0.2), fill=(0.65, 1.15), turn=rng.choice([0.08, np.pi]))
    body = plastic(rng) if rng.random() < 0.5 else black(rng)
    for side in (-1, 1):
        if rng.random() < 0.5:
            c.solid(
                rectangle(rng.uniform(0.1, 0.3), 0.12, 0, side * (h + 0.05), 0.02),
                body,
                bevel=0.03,
                shadow=0.05,
            )
    c.solid(rectangle(1, h, radius=0.06), body, bevel=0.04, shadow=0.12)
    spots = lattice(columns, rows, 0.92, h * 0.85)
    unit = min(0.92 / columns, h * 0.85 / rows)
    round_ = rng.random() < 0.4
    socket = ellipse(unit * 0.7, points=24) if round_ else rectangle(unit * 0.68, unit * 0.68)
    c.solid(copies(socket, spots), plastic(rng, body.colour * 0.4), bevel=-unit * 0.2, label=False)
    pin = (
        ellipse(unit * 0.35, points=16) if rng.random() < 0.5 else rectangle(unit * 0.3, unit * 0.3)
    )
    c.solid(copies(pin, spots), leads(rng), dome=0.6, apart=True)
    if rng.random() < 0.4:
        c.write(words(rng, 1, 2), 0, h + 0.12, 0.1, np.full(3, 0.8), 0.7)
    return c.surface(noun(rng, "connector", "pin header", "plug"), "connector", 3)


def wafer(rng: Rng, size: int) -> Surface:
    """A grid of dies, keys, blisters or cells, on a disc or a square."""
    c = Canvas(rng, size)
    c.stand((1, 1), fill=(0.8, 1.3), tilt=0.05)
    count = int(rng.integers(4, 13))
    disc = rng.random() < 0.5
    finish, cell = metal(rng, (0.3, 0.7)), metal(rng, (0.25, 0.85), 0.5)
    if rng.random() < 0.3:
        finish, cell = plastic(rng), plastic(rng)
    c.solid(ellipse(1) if disc else rectangle(1, 1, radius=0.06), finish, bevel=0.02, shadow=0.03)
    spots = lattice(count, count, 0.9, 0.9)
    unit = 0.9 / count
    if disc:
        spots = spots[np.hypot(*spots.T) < 0.92 - unit]
    shape = rectangle(unit * 0.9, unit * 0.9, radius=unit * rng.uniform(0, 0.4))
    c.solid(copies(shape, spots), cell, bevel=unit * rng.choice([-0.15, 0.15]), apart=True)
    inner = rectangle(
        unit * 0.45, unit * rng.uniform(0.2, 0.6), *(rng.uniform(-0.2, 0.2, 2) * unit)
    )
    c.solid(copies(inner, spots), metal(rng, tinted=0.5), bevel=unit * 0.08, label=False)
    return c.surface(noun(rng, "wafer", "die array", "panel"), "wafer", 3)


def cable(rng: Rng, size: int) -> Surface:
    """A cable cut across: jacket, coloured cores, strands of copper."""
    c = Canvas(rng, size)
    c.stand((1, 1), fill=(0.65, 1.15), tilt=0.06)
    jacket = plastic(rng, noise.colour(rng, (0, 360), (0, 0.15), (0.15, 0.8)))
    c.solid(wavy(rng, ellipse(1), 0.008), jacket, bevel=0.05, shadow=rng.uniform(0.02, 0.15))
    cores = int(rng.choice([1, 2, 3, 3, 4, 7]))
    radius = {1: 0.82, 2: 0.44, 3: 0.42, 4: 0.37, 7: 0.29}[cores]
    places = (
        np.zeros((1, 2)) if cores == 1 else polygon(cores, 0.9 - radius, angle=rng.uniform(0, 6))
    )
    if cores == 7:
        places = np.vstack([polygon(6, 0.6), [[0, 0]]])
    copper = Finish(
        noise.colour(rng, (12, 40), (0.1, 0.7), (0.5, 0.9)),
        (("grain", 0.06, 0.2),),
        0.5,
        20,
        0.4,
        0.4,
    )
    pack = np.concatenate([[[0.0, 0.0]], *[polygon(6 * k, k / 3.5) for k in (1, 2, 3)]])
    strand_r = 0.135
    for at in places:
        core = plastic(rng, noise.colour(rng, (0, 360), (0, 0.9), (0.2, 0.9)))
        c.solid(wavy(rng, ellipse(radius), 0.01) + at, core, bevel=0.03 * radius / 0.4)
        bare = radius * rng.uniform(0.62, 0.72)
        c.solid(ellipse(bare * 1.08) + at, plastic(rng, core.colour * 0.3), bevel=-0.02)
        angle = rng.uniform(0, 3)
        strands = put(pack + rng.normal(0, 0.012, pack.shape), at, angle, bare)
        pieces = [ellipse(strand_r * bare * rng.uniform(0.85, 1), points=14) + s for s in strands]
        for ring in (pieces[::2], pieces[1::2]):
            c.solid(ring, copper, dome=0.35, label=False)
        c.count += 1
        whole = c.stencil([ellipse(bare) + at])
        if whole:
            np.copyto(c.parts[whole[0]], c.count, where=whole[1] > 127)
    return c.surface(noun(rng, "cable", "wire", "cable cross section"), "cable", 3)
