"""Screws, bolts, washers and nuts."""

from __future__ import annotations

import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.finishes import metal, plastic
from tiny.synthetic.noise import Rng
from tiny.synthetic.objects_metal import around, dark, turned
from tiny.synthetic.outlines import (
    ellipse,
    moved,
    polygon,
    put,
    rectangle,
    ribbon,
    toothed,
    wavy,
)
from tiny.synthetic.shapes import Canvas
from tiny.synthetic.surface import Surface
from tiny.synthetic.wording import noun, words


def drive(rng: Rng, canvas: Canvas, radius: float) -> None:
    """The recess of a screw head: slot, cross, hexagon, star or square."""
    finish = dark(rng)
    kind = rng.choice(["slot", "cross", "hexagon", "star", "none"])
    turn = rng.uniform(0, 3.2)
    if kind in ("slot", "cross"):
        for k in range(1 if kind == "slot" else 2):
            bar = rectangle(radius * (1.5 if kind == "slot" else 1), radius * 0.2, radius=0.03)
            canvas.solid(moved(bar, angle=turn + k * np.pi / 2), finish, bevel=-0.04, label=k == 0)
    elif kind == "hexagon":
        canvas.solid(polygon(6, radius, angle=turn), finish, bevel=-0.06)
    elif kind == "star":
        canvas.solid(
            moved(toothed(6, radius * 0.7, radius, 0.5, 0.9), angle=turn), finish, bevel=-0.06
        )


def screw(rng: Rng, size: int) -> Surface:
    """A screw, bolt or nail lying on its side, with head, shank and thread."""
    c = Canvas(rng, size)
    finish = metal(rng)
    half, radius = rng.uniform(0.05, 0.13), rng.uniform(0.14, 0.26)
    c.stand((1, radius), fill=(0.6, 1.1))
    lift = rng.uniform(0.02, 0.1)
    point = rng.uniform(0, 0.35) * rng.choice([0, 1])
    shank = np.array(
        [
            [-0.85, half],
            [1 - point, half],
            [1, half * (0.1 if point else 0.9)],
            [1, -half * (0.1 if point else 0.9)],
            [1 - point, -half],
            [-0.85, -half],
        ]
    )
    c.solid(shank, finish, dome=0.9, shadow=lift)
    start, pitch = rng.uniform(-0.7, 0.3), rng.uniform(0.035, 0.09)
    places = np.arange(start, 1.0 - pitch * 0.5, pitch)
    width = half * rng.uniform(1.15, 1.5)
    lean = pitch * rng.uniform(0.2, 0.6)
    threads = []
    for x in places:
        w = width * min(1.0, (1 - x) / max(point, 0.02) + 0.15)
        path = np.array([[x - lean, -w], [x, 0], [x + lean, w]])
        threads.append(ribbon(path, pitch * 0.28))
    c.solid(threads, finish, dome=0.8, apart=rng.random() < 0.2)
    kind = rng.choice(["flat", "pan", "hexagon", "nail"])
    if kind == "flat":
        head = np.array(
            [
                [-1, radius],
                [-0.95, radius],
                [-0.78, half],
                [-0.78, -half],
                [-0.95, -radius],
                [-1, -radius],
            ]
        )
        c.solid(head, finish, dome=0.7, shadow=lift)
    elif kind == "pan":
        t = np.linspace(np.pi / 2, 3 * np.pi / 2, 16)
        dome = np.stack([-0.8 + 0.18 * np.cos(t), radius * np.sin(t)], -1)
        c.solid(dome, finish, dome=0.8, shadow=lift)
    elif kind == "hexagon":
        c.solid(rectangle(0.1, radius, -0.88, 0, 0.03), finish, bevel=0.03, shadow=lift)
        c.solid(rectangle(0.1, radius * 0.5, -0.88, 0, 0.02), finish, bevel=0.03, label=False)
    else:
        c.solid(rectangle(0.025, radius, -0.87, 0, 0.02), finish, dome=0.6, shadow=lift)
    return c.surface(noun(rng, "screw", "bolt", "fastener"), "screw", 4)


def bolt_head(rng: Rng, size: int) -> Surface:
    """A fastener from above: flange or washer, head, drive, stamped letters; sometimes several."""
    c = Canvas(rng, size)
    finish, second = metal(rng), metal(rng)
    count = int(rng.choice([1, 1, 1, 4, 5]))
    places, pitch = np.zeros((1, 2)), 1.0
    c.stand((1, 1))
    if count > 1:
        places, pitch = around(count, 0.62, rng.uniform(0, 6)), 0.34
        base = rectangle(1, 1, radius=0.2) if rng.random() < 0.5 else ellipse(1)
        c.solid(base, second, bevel=0.04, shadow=0.1)
    washer, sides = rng.random() < 0.6, int(rng.choice([6, 6, 0, 4]))
    for at in places:
        if washer:
            c.solid(put(ellipse(1), at, 0, pitch), second, bevel=0.04 * pitch, shadow=0.04 * pitch)
        head = polygon(sides, 0.85) if sides else ellipse(0.8)
        c.solid(
            put(head, at, rng.uniform(0, 1), pitch), finish, bevel=0.08 * pitch, shadow=0.15 * pitch
        )
        if sides and count == 1:
            c.solid(
                ellipse(0.66),
                finish,
                bevel=0.05,
                paint=turned(c, finish, ellipse(0.66), 0.06),
                label=False,
            )
        if count == 1:
            drive(rng, c, rng.uniform(0.25, 0.45))
            if rng.random() < 0.5:
                c.write(words(rng, 1, 1), 0, 0.53, 0.12, finish.colour * 0.5, 0.7, depth=0.3)
        else:
            c.solid(put(polygon(6, 0.4), at, 0, pitch), dark(rng), bevel=-0.05 * pitch)
    return c.surface(noun(rng, "bolt", "screw head", "bolt head"), "bolt_head", 4)


def washer(rng: Rng, size: int) -> Surface:
    """A flat ring, O-ring, hex nut or gasket."""
    c = Canvas(rng, size)
    kind = rng.choice(["washer", "O-ring", "hex nut", "gasket"])
    inner = rng.uniform(0.35, 0.75)
    finish = (
        metal(rng)
        if kind in ("washer", "hex nut")
        else plastic(
            rng,
            noise.colour(rng, (0, 360), (0, 0.9) if rng.random() < 0.3 else (0, 0.1), (0.05, 0.6)),
        )
    )
    c.stand((1, 1), tilt=0.2)
    lift = rng.uniform(0.03, 0.12)
    hole = ellipse(inner)
    if kind == "O-ring":
        c.solid(ellipse(1), finish, holes=[ellipse(rng.uniform(0.7, 0.9))], dome=0.9, shadow=lift)
    elif kind == "hex nut":
        inner = rng.uniform(0.42, 0.6)
        c.solid(polygon(6, 1), finish, holes=[ellipse(inner)], bevel=0.08, shadow=lift)
        c.solid(
            ellipse(0.82),
            finish,
            holes=[ellipse(inner)],
            bevel=0.03,
            paint=turned(c, finish, ellipse(0.82), 0.05),
        )
        for r in np.linspace(inner * 0.9, inner * 1.08, 4):
            c.line(moved(ellipse(r), r * 0.02, 0), 0.015, finish.colour * 0.35, 0.6, True)
    elif kind == "gasket":
        outer = wavy(rng, ellipse(1, rng.uniform(0.6, 1), rng.uniform(2, 5)), 0.04, 2, 5)
        holes = [outer * rng.uniform(0.5, 0.75)]
        ring = around(int(rng.integers(3, 8)), 1.0, rng.uniform(0, 6))
        for at in ring:
            nearest = outer[np.argmax(outer @ at)] * 0.87
            holes.append(put(ellipse(0.05, points=20), nearest))
        c.solid(outer, finish, holes=holes, bevel=0.025, shadow=lift)
    else:
        paint = (
            turned(c, finish, ellipse(1), rng.uniform(0.02, 0.1)) if rng.random() < 0.6 else None
        )
        c.solid(
            ellipse(1),
            finish,
            holes=[hole],
            bevel=rng.uniform(0.02, 0.08),
            paint=paint,
            shadow=lift,
        )
    return c.surface(
        noun(rng, str(kind), "ring", "seal" if kind != "washer" else "metal ring"), "washer", 4
    )


def winged_nut(rng: Rng, size: int) -> Surface:
    """A stamped part with a threaded centre and bent wings."""
    c = Canvas(rng, size)
    c.stand((1, 1), fill=(0.6, 1.0))
    finish = metal(rng)
    wings = int(rng.integers(3, 5))
    lift = rng.uniform(0.04, 0.12)
    for turn in np.arange(wings) * 2 * np.pi / wings:
        wing = np.array(
            [[0.3, -0.34], [0.95, -0.22], [1, -0.16], [1, 0.2], [0.93, 0.26], [0.3, 0.3]]
        )
        c.solid(moved(wing, angle=turn), finish, bevel=0.06, shadow=lift)
        c.line(
            moved(np.array([[0.62, -0.28], [0.66, 0.27]]), angle=turn),
            0.02,
            finish.colour * 1.3,
            0.5,
        )
    c.solid(
        ellipse(0.56),
        finish,
        holes=[ellipse(0.27)],
        bevel=0.05,
        shadow=lift,
        paint=turned(c, finish, ellipse(0.56), 0.06),
    )
    c.solid(ellipse(0.4), finish, holes=[ellipse(0.27)], bevel=-0.06)
    for r in (0.27, 0.31, 0.35):
        c.line(ellipse(r), 0.012, finish.colour * 0.4, 0.7, True)
    return c.surface(noun(rng, "metal nut", "wing nut", "metal part"), "winged_nut", 4)
