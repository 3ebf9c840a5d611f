"""Edible and other round things: beans, biscuits, pasta, tablets, candles."""

from __future__ import annotations

import cv2
import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.finishes import Finish, metal, plastic, rough
from tiny.synthetic.noise import Rng
from tiny.synthetic.objects_nuts import bent, full
from tiny.synthetic.outlines import (
    Outline,
    ellipse,
    polygon,
    put,
    ribbon,
    sausage,
    toothed,
    wavy,
)
from tiny.synthetic.shapes import Canvas
from tiny.synthetic.surface import Surface
from tiny.synthetic.wording import noun, words


def biscuit(rng: Rng, size: int) -> Surface:
    """A cookie or cracker: baked crust, crumbs, docking holes or chocolate chips."""
    c = Canvas(rng, size)
    round_ = rng.random() < 0.6
    power = 2.0 if round_ else rng.uniform(3, 8)
    outline = ellipse(1, 1 if round_ else rng.uniform(0.6, 1), power)
    if rng.random() < 0.4:
        outline = outline * (1 + 0.03 * np.cos(np.arange(72) * 2 * np.pi / 3))[:, None]
    outline = wavy(rng, outline, rng.uniform(0, 0.03), 2, 9)
    c.stand((1, 1), tilt=0.08)
    pale = noise.colour(rng, (28, 45), (0.3, 0.55), (0.7, 0.92))
    baked = noise.colour(rng, (18, 32), (0.5, 0.8), (0.3, 0.6))
    x, y = c.local(full(size))
    rim = np.clip(cv2.sqrt(x * x + y * y), 0, 1) ** 3
    field = rng.uniform(-0.1, 0.4) + rim * rng.uniform(0.1, 0.6) + 0.1 * c.texture("mottle")
    paint = noise.ramp(field + 0.05 * c.texture("cast"), [pale, baked])
    c.solid(
        outline,
        rough(rng, pale, 0.05, rng.uniform(0.3, 1.0)),
        bevel=rng.uniform(0.05, 0.2),
        paint=paint,
        shadow=rng.uniform(0.02, 0.1),
    )
    spots = rng.uniform(-0.7, 0.7, (int(rng.integers(5, 22)), 2))
    spots = spots[np.hypot(*spots.T) < 0.75]
    if rng.random() < 0.5:
        chip = rough(rng, noise.colour(rng, (10, 30), (0.3, 0.7), (0.08, 0.3)), 0.1, 0.4)
        for at in spots:
            c.solid(
                wavy(rng, ellipse(rng.uniform(0.05, 0.13), points=24), 0.12) + at,
                chip,
                dome=0.6,
                shadow=0.02,
            )
    else:
        grid = np.stack(np.meshgrid(*[np.linspace(-0.55, 0.55, int(rng.integers(3, 6)))] * 2), -1)
        hole = rough(rng, baked * 0.7, 0.05, 0.1)
        for at in grid.reshape(-1, 2):
            c.solid(ellipse(rng.uniform(0.02, 0.035), points=16) + at, hole, bevel=-0.02)
        if rng.random() < 0.4:
            c.write(words(rng, 1, 1), 0, 0.25, 0.2, baked, 0.5, depth=0.3)
    return c.surface(noun(rng, "cookie", "biscuit", "cracker"), "biscuit", 4)


def food_ring(rng: Rng, size: int) -> Surface:
    """A fried ring or wheel with spokes, as snack pellets have."""
    c = Canvas(rng, size)
    inner = rng.uniform(0.3, 0.8)
    c.stand((1, 1), tilt=0.12)
    shade = noise.colour(rng, (18, 50), (0.2, 0.75), (0.5, 0.95))
    finish = Finish(
        shade,
        (("cast", rng.uniform(0.02, 0.08), rng.uniform(0.1, 0.6)), ("mottle", 0.05, 0.2)),
        rng.uniform(0.05, 0.3),
        15,
        0.5,
    )
    spokes = int(rng.choice([0, 0, 3, 4, 5, 6]))
    outer = wavy(rng, ellipse(1), rng.uniform(0, 0.03))
    if rng.random() < 0.3:
        outer = toothed(int(rng.integers(10, 24)), 0.92, 1, 0.5, 0.9)
    lift = rng.uniform(0.02, 0.15)
    if spokes:
        start, width = rng.uniform(0, 6.3), rng.uniform(0.05, 0.12)
        core = rng.uniform(0.12, 0.25)
        arms = [
            ribbon(np.array([[0, 0], [np.cos(a) * 0.9, np.sin(a) * 0.9]]), width)
            for a in start + np.arange(spokes) * 2 * np.pi / spokes
        ]
        for arm in arms:
            c.solid(arm, finish, dome=0.6, shadow=lift)
        c.solid(ellipse(core), finish, dome=0.5, shadow=lift / 2)
    c.solid(
        outer,
        finish,
        holes=[wavy(rng, ellipse(inner), rng.uniform(0, 0.03))],
        dome=rng.uniform(0.4, 1),
        shadow=lift,
    )
    return c.surface(noun(rng, "fryum", "snack ring", "ring", "food ring"), "food_ring", 4)


def spread(rng: Rng, count: int, jitter: float) -> tuple[Outline, float]:
    """``count`` places on a jittered grid in the square of half side 1, and half the pitch."""
    columns = int(np.ceil(np.sqrt(count)))
    rows = int(np.ceil(count / columns))
    pitch = 1 / max(columns, rows)
    x, y = np.meshgrid(np.arange(columns) - (columns - 1) / 2, np.arange(rows) - (rows - 1) / 2)
    places = np.stack([x.ravel(), y.ravel()], -1)[:count] * 2 * pitch
    return places + rng.uniform(-1, 1, places.shape) * jitter * pitch, pitch


def pasta(rng: Rng, size: int) -> Surface:
    """Several like pieces in a picture: macaroni, capsules, beans, sweets or candles."""
    c = Canvas(rng, size)
    count = int(rng.choice([2, 3, 4, 4, 4, 6, 9, 12]))
    places, pitch = spread(rng, count, rng.uniform(0, 0.15))
    c.stand((1, 1), fill=(0.8, 1.05), turn=rng.choice([0.05, np.pi]), tilt=0.06)
    kind = rng.choice(["macaroni", "bean", "sweet", "candle", "capsule"])
    shade = noise.colour(rng, (0, 360), (0.1, 0.8), (0.4, 0.95))
    if kind in ("macaroni", "bean"):
        shade = noise.colour(rng, (25, 50), (0.2, 0.7), (0.5, 0.95))
    finish = Finish(
        shade,
        (("cast", rng.uniform(0, 0.04), rng.uniform(0, 0.2)), ("mottle", rng.uniform(0, 0.04), 0)),
        rng.uniform(0.1, 0.5),
        rng.uniform(10, 50),
        0.5,
    )
    turned, flip = rng.uniform(0, 6.3), rng.uniform(0, 0.4)
    lift = rng.uniform(0, 0.06)
    bend = rng.uniform(0.6, 1.5)
    for at in places:
        angle = turned + rng.normal(0, flip)
        unit = pitch * rng.uniform(0.78, 0.86)
        if kind == "macaroni":
            t = np.linspace(-bend, bend, 16)
            path = np.stack([np.sin(t), 1 - np.cos(t)], -1) * (0.62 / bend)
            path[:, 1] -= path[:, 1].mean()
            body = put(ribbon(path, 0.27), at, angle, unit)
            c.solid(body, finish, dome=0.7, shadow=lift)
            end = put(ellipse(0.09, 0.2, points=20), path[0], -bend)
            c.solid(put(end, at, angle, unit), plastic(rng, shade * 0.35), bevel=-0.01)
        elif kind == "bean":
            c.solid(put(bent(rng, 0.6, 0.42, bend), at, angle, unit), finish, dome=0.7, shadow=lift)
        elif kind == "sweet":
            c.solid(
                put(wavy(rng, ellipse(0.9, points=40), 0.01), at, angle, unit),
                finish,
                dome=0.5,
                shadow=lift,
            )
        elif kind == "capsule":
            path = np.array([[-0.55, 0], [0, 0], [0.55, 0]])
            c.solid(put(sausage(path, 0.34), at, angle, unit), finish, dome=0.9, shadow=lift)
        else:
            c.solid(put(ellipse(0.85, points=48), at, angle, unit), finish, bevel=0.03, shadow=lift)
            dish = plastic(rng, np.clip(shade * 1.05, 0, 1))
            c.solid(put(ellipse(0.72, points=40), at, angle, unit), dish, bevel=-0.015)
            wick = sausage(np.array([[0, 0], [0.1, 0.05], [0.2, 0.1]]), 0.045)
            c.solid(
                put(wick, at, rng.uniform(0, 6), unit),
                plastic(rng, np.full(3, rng.choice([0.12, 0.85]))),
                dome=0.5,
                shadow=0.02,
            )
    return c.surface(noun(rng, str(kind), "food" if kind != "candle" else "wax"), "pasta", 3)


def tablet(rng: Rng, size: int) -> Surface:
    """A pill: round, oval or oblong, speckled, with an engraved or printed mark and a score."""
    c = Canvas(rng, size)
    ry = rng.choice([1.0, rng.uniform(0.4, 0.9)])
    c.stand((1, ry), tilt=0.08)
    power = 2.0 if ry == 1 else rng.uniform(2, 3.5)
    shade = noise.colour(rng, (0, 360), (0, 0.12) if rng.random() < 0.6 else (0.2, 0.7), (0.6, 1))
    dots = rng.uniform(0.03, 0.12) * rng.choice([0, 1])
    finish = Finish(
        shade,
        (("speckle", -dots, 0.0), ("grain", rng.uniform(0, 0.03), rng.uniform(0, 0.15))),
        rng.uniform(0, 0.3),
        rng.uniform(5, 30),
        0.55,
    )
    outline = ellipse(1, ry, power)
    if rng.random() < 0.6:
        c.solid(outline, finish, bevel=rng.uniform(0.06, 0.3), shadow=rng.uniform(0.02, 0.12))
    else:
        c.solid(outline, finish, dome=rng.uniform(0.2, 0.7), shadow=rng.uniform(0.02, 0.12))
    ink = shade * rng.uniform(0.2, 0.7)
    if rng.random() < 0.3:
        ink = noise.colour(rng, (0, 360), (0.5, 1), (0.1, 0.6))
    if dots and rng.random() < 0.7:
        red = noise.colour(rng, (0, 40), (0.4, 0.9), (0.4, 0.7))
        spots = np.clip(c.texture("speckle") - 2.5, 0, 1) * (c.parts > 0)
        c.blend(full(size), np.asarray(spots, np.float32), red, 0.7, label=False)
    depth = rng.choice([0.0, rng.uniform(0.1, 0.35)])
    if rng.random() < 0.75:
        c.write(words(rng, 1, 1), 0, rng.choice([0.0, 0.2 * ry]), 0.3 * ry, ink, 0.8, depth=depth)
    elif rng.random() < 0.6:
        c.solid(ellipse(0.025, ry * 0.9), finish, bevel=-0.025)
    return c.surface(noun(rng, "pill", "tablet", "lozenge"), "tablet", 2)


def capsule(rng: Rng, size: int) -> Surface:
    """A two-coloured medical capsule with print, sometimes translucent."""
    c = Canvas(rng, size)
    radius, cut = rng.uniform(0.28, 0.42), rng.uniform(-0.2, 0.25)
    c.stand((1, radius), fill=(0.6, 1.0), tilt=0.08)
    x, _ = c.local(full(size))
    first, second = (noise.colour(rng, (0, 360), (0, 0.9), (0.1, 1)) for _ in range(2))
    cap = np.clip((x - cut) * c.scale + 0.5, 0, 1)[..., None]
    paint = np.asarray(first * (1 - cap) + second * cap, np.float32)
    seam = np.exp(-(((x - cut - 0.012) * 70) ** 2)) * rng.uniform(0.1, 0.4)
    paint *= (1 - seam)[..., None]
    finish = Finish(
        first,
        (("mottle", rng.uniform(0, 0.04), 0),),
        rng.uniform(0.3, 0.9),
        rng.uniform(20, 90),
        rng.uniform(0.4, 0.7),
        rng.uniform(0, 0.3),
    )
    path = np.array([[-1 + radius, 0], [0, 0], [1 - radius, 0]])
    c.solid(sausage(path, radius), finish, dome=0.95, paint=paint, shadow=rng.uniform(0.02, 0.12))
    half = (c.parts > 0) & (x > cut)
    c.count += 1
    c.parts[half] = c.count
    for side in (-1, 1):
        if rng.random() < 0.75:
            ink = np.full(3, rng.choice([0.08, 0.9])) if rng.random() < 0.7 else first * 0.4
            c.write(
                words(rng, 1, 1),
                cut / 2 + side * 0.45,
                rng.uniform(-0.08, 0.08),
                radius * 0.4,
                ink,
                0.85,
                rng.choice([0.0, np.pi / 2]),
            )
    return c.surface(noun(rng, "capsule", "medicine capsule", "pill"), "capsule", 2)


def candle(rng: Rng, size: int) -> Surface:
    """One candle or jar from above: a metal cup, wax, a wick."""
    c = Canvas(rng, size)
    c.stand((1, 1), tilt=0.1)
    cup = metal(rng, (0.5, 0.85), 0.1)
    wax = noise.colour(rng, (0, 360), (0, 0.6), (0.5, 1))
    c.solid(ellipse(1), cup, bevel=0.06, shadow=rng.uniform(0.05, 0.2))
    c.solid(
        ellipse(rng.uniform(0.88, 0.94)),
        Finish(
            wax,
            (("mottle", rng.uniform(0.01, 0.05), rng.uniform(0, 0.4)),),
            rng.uniform(0.05, 0.3),
            15,
            0.5,
            rng.uniform(0, 0.1),
        ),
        bevel=-0.05,
    )
    if rng.random() < 0.5:
        c.solid(ellipse(rng.uniform(0.18, 0.3)), cup, bevel=0.02)
    tip = rng.uniform(-0.15, 0.15, 2)
    wick = sausage(np.array([[0, 0], tip * 0.5, tip * 1.5]), rng.uniform(0.03, 0.05))
    c.solid(wick, plastic(rng, np.full(3, rng.choice([0.1, 0.9]))), dome=0.8, shadow=0.05)
    return c.surface(noun(rng, "candle", "tea light", "wax"), "candle", 4)


def chocolate(rng: Rng, size: int) -> Surface:
    """A praline, soap or sponge: a moulded block with a relief."""
    c = Canvas(rng, size)
    ry = rng.uniform(0.5, 1)
    c.stand((1, ry), tilt=0.15)
    shade = noise.colour(rng, (10, 50), (0.1, 0.7), (0.15, 0.9))
    finish = Finish(
        shade,
        (("mottle", 0.03, 0.1), ("grain", 0.02, rng.uniform(0, 0.2))),
        rng.uniform(0.05, 0.4),
        rng.uniform(10, 50),
        0.45,
    )
    outline = (
        polygon(int(rng.integers(5, 9)), 1)
        if rng.random() < 0.3
        else ellipse(1, ry, rng.uniform(2, 9))
    )
    c.solid(outline, finish, bevel=rng.uniform(0.08, 0.25), shadow=rng.uniform(0.05, 0.2))
    if rng.random() < 0.6:
        c.solid(outline * rng.uniform(0.5, 0.75), finish, bevel=rng.choice([-1, 1]) * 0.06)
    if rng.random() < 0.6:
        c.write(words(rng, 1, 1), 0, 0, 0.28 * ry, shade * 0.6, 0.5, depth=0.3)
    else:
        for shift in np.linspace(-0.4, 0.4, int(rng.integers(2, 5))):
            c.solid(
                sausage(
                    np.array([[shift - 0.2, -0.5 * ry], [shift, 0], [shift + 0.2, 0.5 * ry]]), 0.035
                ),
                finish,
                dome=0.8,
            )
    return c.surface(noun(rng, "chocolate", "soap", "praline"), "chocolate", 4)
