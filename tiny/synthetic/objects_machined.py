"""Stamped, moulded, wound and packed things: brackets, seals, housings, coils, blisters, vials."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.finishes import Finish, metal, plastic, rough
from tiny.synthetic.noise import Field, Rng
from tiny.synthetic.outlines import Outline, ellipse, moved, rectangle, ribbon, sausage, wavy
from tiny.synthetic.shapes import Box, Canvas
from tiny.synthetic.surface import Surface
from tiny.synthetic.wording import noun, words


def grey(rng: Rng, low: float, high: float) -> Field:
    """A neutral colour between two brightnesses."""
    return noise.metal_colour(rng, (low, high))


def vivid(rng: Rng, value: tuple[float, float] = (0.25, 0.85)) -> Field:
    """A saturated colour of any hue."""
    return noise.colour(rng, (0, 360), (0.35, 0.85), value)


def whole(c: Canvas) -> Box:
    """The box of the whole picture."""
    return slice(0, c.size), slice(0, c.size)


def row(count: int, pitch: float) -> Outline:
    """``count`` positions with an even pitch around 0."""
    return np.asarray((np.arange(count) - (count - 1) / 2) * pitch)


def bracket(rng: Rng, size: int) -> Surface:
    """A stamped and bent sheet part with arms, holes, raised collars and ribs."""
    c = Canvas(rng, size)
    sheet = metal(rng, (0.25, 0.85), 0.15) if rng.random() < 0.75 else plastic(rng)
    wide = rng.uniform(0.16, 0.32)
    kind = str(rng.choice(["l", "u", "strip", "star", "star"]))
    c.stand((1, 1), tilt=0.18)
    if kind == "star":
        count = int(rng.integers(3, 6))
        start = rng.uniform(0, 6.3)
        a = start + np.arange(count) * 2 * np.pi / count
        ends = np.stack([np.cos(a), np.sin(a)], -1) * 0.75
        theta = np.linspace(0, 2 * np.pi, 120, endpoint=False)
        lobe = np.abs(np.cos((theta - start) * count / 2)) ** rng.uniform(1.2, 2.4)
        r = rng.uniform(0.35, 0.5) + 0.55 * lobe
        outline = np.stack([np.cos(theta), np.sin(theta)], -1) * np.minimum(r, 1)[:, None]
    else:
        ends = np.array(
            {
                "l": [[-0.7, -0.7], [-0.7, 0.7], [0.7, 0.7]],
                "u": [[-0.7, -0.7], [-0.7, 0.5], [0.7, 0.5], [0.7, -0.7]],
                "strip": [[-0.8, 0], [0, rng.uniform(-0.3, 0.3)], [0.8, 0]],
            }[kind]
        )
        t, knots = np.linspace(0, len(ends) - 1, 60), np.arange(len(ends))
        sides = [np.pad(np.interp(t, knots, ends[:, i]), 4, "edge") for i in (0, 1)]
        path = np.stack([np.convolve(side, np.ones(9) / 9, "valid") for side in sides], -1)
        if rng.random() < 0.6:
            outline = sausage(path, wide)
        else:
            tips = [
                path[a] + (path[a] - path[b]) * (wide / np.linalg.norm(path[a] - path[b]))
                for a, b in ((0, 6), (-1, -7))
            ]
            outline = ribbon(np.stack([tips[0], *path[1:-1], tips[1]]), wide)
    hole = wide * rng.uniform(0.3, 0.6) * (0.6 if kind == "star" else 1)
    spots = [*ends]
    if kind == "star" and rng.random() < 0.7:
        spots.append(np.zeros(2))
    round_ = ellipse(hole, hole * rng.choice([1, 1, 0.6]), points=32)
    holes = [round_ + at for at in spots]
    c.solid(
        outline, sheet, holes=holes, bevel=rng.uniform(0.015, 0.06), shadow=rng.uniform(0.02, 0.2)
    )
    if rng.random() < 0.5:
        c.solid([round_ * 1.4 + at for at in spots], sheet, holes=holes, bevel=0.03, apart=True)
    if kind in ("l", "u") and rng.random() < 0.6:
        for first, second in pairwise(ends):
            rib = np.linspace(first * 0.7 + second * 0.3, first * 0.3 + second * 0.7, 3)
            c.solid(sausage(rib, wide * 0.16), sheet, dome=rng.choice([-0.7, 0.7]))
    elif rng.random() < 0.5:
        middle = (ends[0] + ends[1]) * (0.25 if kind == "star" else 0.5)
        c.write(
            words(rng, 1, 1), middle[0], middle[1], wide * 0.5, sheet.colour * 0.6, 0.6, depth=0.3
        )
    return c.surface(
        noun(rng, "bracket", "metal bracket", "stamped part", "metal part"), "bracket", 3
    )


def gasket(rng: Rng, size: int) -> Surface:
    """A rubber or fibre seal: an O-ring, a grommet, or a flat gasket with bolt holes."""
    c = Canvas(rng, size)
    shade = (
        grey(rng, 0.03, 0.25)
        if rng.random() < 0.65
        else noise.colour(rng, (0, 360), (0, 0.8), (0.2, 0.95))
    )
    rubber = plastic(rng, shade) if rng.random() < 0.6 else rough(rng, shade, 0.06, 0.3)
    kind, lift = rng.choice(["o_ring", "flat", "grommet"]), rng.uniform(0.02, 0.12)
    c.stand((1, 1), tilt=0.15)
    if kind == "o_ring":
        power = rng.choice([2.0, 2.0, rng.uniform(2, 6)])
        ring = ellipse(1, rng.choice([1, rng.uniform(0.5, 1)]), power, 120)
        ring = wavy(rng, ring, rng.uniform(0, 0.02))
        c.solid(
            ring,
            rubber,
            holes=[ring * (1 - rng.uniform(0.09, 0.3))],
            dome=rng.uniform(0.6, 1),
            shadow=lift,
        )
    elif kind == "grommet":
        hole = rng.uniform(0.2, 0.4)
        c.solid(ellipse(1, points=96), rubber, holes=[ellipse(hole)], bevel=0.15, shadow=lift)
        c.solid(ellipse(rng.uniform(0.6, 0.8)), rubber, holes=[ellipse(hole)], bevel=-0.08)
        c.solid(ellipse(hole + rng.uniform(0.1, 0.18)), rubber, holes=[ellipse(hole)], dome=0.8)
    else:
        h = rng.uniform(0.45, 0.95)
        count = int(rng.choice([2, 3, 4, 4, 6]))
        start = np.pi / count
        a = start + np.arange(count) * 2 * np.pi / count
        ears = np.stack([np.cos(a) * 0.82, np.sin(a) * 0.82 * h], -1)
        theta = np.linspace(0, 2 * np.pi, 96, endpoint=False)
        near = np.exp(-((np.cos((theta - start) * count) - 1) ** 2) / 0.3)
        body = ellipse(0.74, 0.74 * h, points=96)
        outline = body * (1 + 0.36 * near)[:, None]
        holes = [ellipse(rng.uniform(0.05, 0.075), points=24) + e for e in ears]
        holes.append(body * rng.uniform(0.5, 0.75))
        c.solid(outline, rubber, holes=holes, bevel=rng.uniform(0.015, 0.05), shadow=lift)
        if rng.random() < 0.5:
            bead = body * rng.uniform(0.85, 0.95)
            look = plastic(rng, np.clip(shade * rng.uniform(0.8, 1.6), 0, 1))
            c.solid(bead, look, holes=[bead * 0.95], dome=0.7)
    return c.surface(noun(rng, "gasket", "rubber seal", "o-ring", "seal"), "gasket", 3)


def blister(rng: Rng, size: int) -> Surface:
    """A pack of pills: a foil or plastic sheet with pockets in rows and a batch print."""
    c = Canvas(rng, size)
    columns, rows = int(rng.integers(2, 7)), int(rng.integers(2, 4))
    h = min(1.0, rng.uniform(0.85, 1.1) * rows / columns)
    c.stand((1, h), turn=rng.choice([0.08, np.pi]), tilt=0.1)
    foil = metal(rng, (0.55, 0.85), 0.1) if rng.random() < 0.75 else plastic(rng)
    c.solid(rectangle(1, h, radius=0.1), foil, bevel=0.015, shadow=rng.uniform(0.01, 0.06))
    if rng.random() < 0.5:
        x, y = c.local(whole(c))
        mesh = np.float32(2 * np.pi / rng.uniform(0.03, 0.06))
        knurl = np.sin((x + y) * mesh) * np.sin((x - y) * mesh) * rng.uniform(0.04, 0.15)
        c.rgb *= (1 + knurl * c.region)[..., None]
    dx, dy = 1.8 / columns, 1.6 * h / rows
    rx, ry = dx * rng.uniform(0.36, 0.42), dy * rng.uniform(0.33, 0.42)
    if rng.random() < 0.5:
        rx = ry = min(rx, ry)
    power = rng.uniform(2, 4)
    places = [(u, v) for u in row(columns, dx) for v in row(rows, dy)]
    clear = Finish(np.asarray(foil.colour * 0.9, np.float32), foil.texture, 0.9, 50, 0.5, 0.4)
    filled = rng.random() < 0.6
    c.solid(
        [ellipse(rx, ry, power, 32) + at for at in places],
        clear if filled else foil,
        dome=rng.uniform(0.4, 0.8),
        shadow=0.04,
        apart=True,
    )
    if filled:
        pill = plastic(rng, grey(rng, 0.8, 1) if rng.random() < 0.5 else vivid(rng))
        c.solid(
            [ellipse(rx * 0.8, ry * 0.8, power, 28) + at + rng.normal(0, 0.01, 2) for at in places],
            pill,
            dome=0.5,
            apart=True,
        )
    if rng.random() < 0.7:
        c.write(words(rng), rng.uniform(-0.4, 0.4), h * 0.91, 0.07 * h, grey(rng, 0.05, 0.4), 0.8)
    return c.surface(noun(rng, "blister pack", "pill pack", "tablet pack"), "blister", 3)


def vial(rng: Rng, size: int) -> Surface:
    """A vial, ampoule or bottle from the side, with a liquid, a closure and often a label."""
    c = Canvas(rng, size)
    w = rng.uniform(0.3, 0.55)
    c.stand((1, w), turn=0.08 if rng.random() < 0.6 else np.pi, tilt=0.04)
    if rng.random() < 0.5:
        c.angle += np.pi / 2
        c.pose = np.array([[0, -1, c.size], [1, 0, 0], [0, 0, 1.0]]) @ c.pose
    tint = noise.colour(rng, (20, 220), (0.02, 0.6), (0.45, 0.95))
    glass = Finish(
        tint,
        (("mottle", 0.02, 0),),
        rng.uniform(0.4, 0.9),
        rng.uniform(30, 90),
        0.6,
        rng.uniform(0.1, 0.5),
    )
    neck, shoulder = w * rng.uniform(0.35, 0.8), rng.uniform(-0.65, -0.4)
    side = np.array(
        [[1, w * 0.9], [0.95, w], [shoulder + 0.15, w], [shoulder, neck], [-0.95, neck]]
    )
    c.solid(
        np.concatenate([side, (side * (1, -1))[::-1]]),
        glass,
        dome=rng.uniform(0.3, 0.9),
        opacity=rng.uniform(0.55, 1),
        shadow=rng.uniform(0, 0.1),
    )
    level = rng.uniform(shoulder + 0.2, 0.3)
    drink = Finish(noise.colour(rng, (0, 360), (0.05, 0.9), (0.2, 0.95)), (), 0.6, 60, 0.6, 0.3)
    c.solid(
        rectangle((0.94 - level) / 2, w * 0.92, (0.94 + level) / 2, 0, 0.05),
        drink,
        dome=rng.uniform(0.3, 0.8),
        opacity=rng.uniform(0.5, 1),
    )
    closure = metal(rng, (0.5, 0.85), 0.2) if rng.random() < 0.5 else plastic(rng)
    long = rng.uniform(0.08, 0.2)
    c.solid(
        rectangle(long, neck * rng.uniform(1.05, 1.3), -1 + long, 0, 0.02),
        closure,
        dome=0.6,
        shadow=0.03,
    )
    if rng.random() < 0.5:
        c.solid(rectangle(0.03, neck * 1.35, -1 + 2 * long), plastic(rng), dome=0.5)
    if rng.random() < 0.6:
        paper = plastic(rng, grey(rng, 0.75, 1) if rng.random() < 0.6 else vivid(rng))
        c.solid(rectangle(rng.uniform(0.2, 0.35), w * 0.99, 0.3), paper, dome=0.35)
        for k, v in enumerate(row(int(rng.integers(2, 4)), w * 0.5)):
            c.write(words(rng, 1, 2), 0.3, v, w * (0.2 if k else 0.28), grey(rng, 0.03, 0.3), 0.85)
    shine = rectangle(0.35, w * 0.05, 0.4, -w * rng.uniform(0.4, 0.75), radius=0.02)
    c.solid(shine, Finish(grey(rng, 0.9, 1)), opacity=rng.uniform(0.1, 0.7), label=False)
    return c.surface(noun(rng, "vial", "bottle", "ampoule", "glass vial"), "vial", 3)


def coil(rng: Rng, size: int) -> Surface:
    """Wire wound in close turns on a core: an inductor, a toroid or a reel."""
    c = Canvas(rng, size)
    copper = noise.colour(rng, (14, 36), (0.5, 0.85), (0.4, 0.85))
    wire = Finish(
        copper if rng.random() < 0.7 else vivid(rng),
        (("mottle", 0.05, 0.1),),
        rng.uniform(0.3, 0.8),
        rng.uniform(15, 60),
        0.4,
        rng.uniform(0, 0.4),
    )
    core = plastic(rng, grey(rng, 0.05, 0.5) if rng.random() < 0.7 else vivid(rng))
    turns, lift = int(rng.integers(14, 50)), rng.uniform(0.02, 0.1)
    if rng.random() < 0.45:
        inner = rng.uniform(0.35, 0.6)
        c.stand((1, 1), tilt=0.1)
        c.solid(ellipse(0.95), core, holes=[ellipse(inner + 0.05)], dome=0.6, shadow=lift)
        kept = int(turns * rng.uniform(0.75, 1))
        a = np.linspace(0, 2 * np.pi, turns, endpoint=False)[:kept]
        thick = np.pi * inner / turns * rng.uniform(0.75, 0.98)
        slant = rng.uniform(-0.07, 0.07)
        line = np.array([[inner, -slant], [(1 + inner) / 2, 0], [1, slant]])
        loops = [moved(sausage(line, thick), angle=t) for t in a]
    else:
        h, span = rng.uniform(0.3, 0.7), rng.uniform(0.65, 0.85)
        c.stand((1, h * 1.2), turn=np.pi, tilt=0.08)
        c.solid(rectangle(1, h * 0.8, radius=0.03), core, dome=0.5, shadow=lift)
        pitch = 2 * span / turns
        slant = rng.uniform(-1, 1) * pitch
        loops = [
            sausage(np.array([[u - slant, -h], [u, 0], [u + slant, h]]), pitch * 0.49)
            for u in row(turns, pitch)
        ]
    for group in (loops[::2], loops[1::2]):
        c.solid(group, wire, dome=0.8, apart=True, shadow=0.015)
    return c.surface(noun(rng, "coil", "inductor", "wound coil", "winding"), "coil", 3)


def housing(rng: Rng, size: int) -> Surface:
    """A moulded or die-cast part: a wall, ribs, bosses with holes or screws, a hub, a mark."""
    c = Canvas(rng, size)
    h = rng.uniform(0.5, 1.0)
    c.stand((1, h), tilt=0.12)
    body = plastic(rng) if rng.random() < 0.6 else metal(rng, (0.3, 0.75), 0.05)
    outline = ellipse(1, h, rng.choice([2.5, rng.uniform(3, 9)]), 100)
    c.solid(outline, body, bevel=rng.uniform(0.03, 0.1), shadow=rng.uniform(0.03, 0.2))
    wall = rng.uniform(0.82, 0.93)
    c.solid(outline * wall, body, bevel=-rng.uniform(0.04, 0.12))
    for at in row(int(rng.integers(0, 6)), 2 * wall * rng.uniform(0.12, 0.25)):
        c.solid(rectangle(0.025, h * wall * 0.9, at), body, bevel=0.02, shadow=0.03)
    for at in row(int(rng.integers(0, 3)), h * 0.8):
        c.solid(rectangle(wall * 0.92, 0.025, 0, at), body, bevel=0.02, shadow=0.03)
    dark = Finish(np.asarray(body.colour * rng.uniform(0.1, 0.4), np.float32), (), 0.1, 20, 0.5)
    if rng.random() < 0.6:
        hub = rng.uniform(0.2, 0.42) * h
        c.solid(ellipse(hub), body, bevel=0.05, shadow=0.06)
        c.solid(ellipse(hub * rng.uniform(0.5, 0.8)), dark, bevel=-0.05)
    elif rng.random() < 0.7:
        c.write(words(rng, 1, 1), 0, 0, 0.2 * h, body.colour * 0.8, 0.3, depth=-0.3)
    r, k = rng.uniform(0.06, 0.1), rng.uniform(0.6, 0.72)
    spots = [(u * k, v * h * k) for u in (-1, 1) for v in (-1, 1)]
    spots = spots[: int(rng.choice([2, 3, 4, 4, 4]))]
    c.solid([ellipse(r, points=28) + s for s in spots], body, bevel=0.03, shadow=0.06, apart=True)
    if rng.random() < 0.6:
        c.solid([ellipse(r * 0.55, points=20) + s for s in spots], dark, bevel=-0.02, apart=True)
    else:
        c.solid([ellipse(r * 0.8, points=24) + s for s in spots], metal(rng), dome=0.4, apart=True)
        slots = [moved(rectangle(r * 0.6, r * 0.12), *s, angle=rng.uniform(0, 3)) for s in spots]
        c.solid(slots, dark, label=False)
    return c.surface(noun(rng, "housing", "plastic part", "casting", "moulded part"), "housing", 3)


FAMILIES: dict[str, Callable[[Rng, int], Surface]] = {
    "bracket": bracket,
    "gasket": gasket,
    "blister": blister,
    "vial": vial,
    "coil": coil,
    "housing": housing,
}
