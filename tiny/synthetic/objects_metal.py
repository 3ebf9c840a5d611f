"""Metal parts: gears, bearings, plates, keys, springs, coins, castings."""

from __future__ import annotations

import cv2
import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.finishes import Finish, metal, plastic, rough
from tiny.synthetic.noise import Field, Rng
from tiny.synthetic.outlines import (
    Outline,
    ellipse,
    moved,
    polygon,
    put,
    rectangle,
    sausage,
    toothed,
    wavy,
)
from tiny.synthetic.shapes import Canvas
from tiny.synthetic.surface import Surface
from tiny.synthetic.wording import noun, words


def dark(rng: Rng) -> Finish:
    """The inside of a hole or recess."""
    return plastic(rng, noise.colour(rng, (0, 360), (0, 0.2), (0.02, 0.2)))


def around(count: int, radius: float, start: float = 0.0) -> Outline:
    """``count`` places on a circle, ``(count, 2)``."""
    return polygon(count, radius, angle=start)


def turned(canvas: Canvas, finish: Finish, outline: Outline, strength: float) -> Field:
    """Colours of a face turned on a lathe: fine rings and the double fan of light they reflect.

    Returns:
        float32 ``(h, w, 3)`` for the box in which ``outline`` will be drawn.
    """
    rng = canvas.rng
    x, y = canvas.local(canvas.box(outline))
    square = x * x + y * y + np.float32(1e-4)
    rings = rng.normal(0, 0.35, 1024).astype(np.float32)
    pitch = np.float32(rng.uniform(60, 400))
    index = np.minimum(cv2.sqrt(square) * pitch, 1022).astype(np.int32)
    turn = rng.uniform(0, 6.3)
    fan = (
        np.float32(np.cos(turn)) * (x * x - y * y) + np.float32(2 * np.sin(turn)) * x * y
    ) / square
    if rng.random() < 0.5:
        fan = 2 * fan * fan - 1
    tone = np.take(rings, index) + np.float32(1.2) * fan * fan * fan
    return noise.tint(np.asarray(1 + np.float32(strength) * tone, np.float32), finish.colour)


def gear(rng: Rng, size: int) -> Surface:
    """A toothed wheel with hub, bore, keyway and lightening holes."""
    c = Canvas(rng, size)
    c.stand((1, 1))
    finish = metal(rng) if rng.random() < 0.75 else plastic(rng)
    teeth, root = int(rng.integers(9, 44)), rng.uniform(0.75, 0.9)
    bore = rng.uniform(0.1, 0.28)
    holes = [ellipse(bore, points=40)]
    if rng.random() < 0.5:
        ring = (root + bore) / 2 + 0.02
        count = int(rng.integers(3, 8))
        small = min((root - bore) * 0.28, ring * 0.6 * np.pi / count)
        holes += [put(ellipse(small, points=28), at) for at in around(count, ring)]
    c.solid(
        toothed(teeth, root, 1, rng.uniform(0.4, 0.55), rng.uniform(0.3, 0.95)),
        finish,
        holes=holes,
        bevel=0.035,
        shadow=rng.uniform(0.04, 0.15),
    )
    if rng.random() < 0.7:
        c.solid(
            ellipse(root * 0.93),
            finish,
            holes=holes,
            bevel=-0.03,
            paint=turned(c, finish, ellipse(root * 0.93), 0.05),
        )
    c.solid(ellipse(bore * 1.5), finish, holes=[holes[0]], bevel=0.04, shadow=0.05)
    if rng.random() < 0.5:
        c.write(words(rng, 1, 1), 0, -(root + bore) / 2, 0.1, finish.colour * 0.4, 0.7, depth=0.3)
    return c.surface(noun(rng, "gear", "cogwheel", "sprocket"), "gear", 4)


def bearing(rng: Rng, size: int) -> Surface:
    """A ball bearing: two races, balls or a sealing disc with print."""
    c = Canvas(rng, size)
    c.stand((1, 1), tilt=0.15)
    finish, ball = metal(rng, (0.45, 0.8), 0.05), metal(rng, (0.6, 0.85), 0.1)
    inner = rng.uniform(0.3, 0.45)
    bore = [ellipse(inner)]
    c.solid(ellipse(1), dark(rng), holes=bore, shadow=rng.uniform(0.05, 0.2))
    width = (1 - inner) * rng.uniform(0.22, 0.3)
    middle = (1 + inner) / 2
    if rng.random() < 0.55:
        radius = (1 - inner - 2 * width) * 0.5
        count = int(np.pi * middle / radius * rng.uniform(0.6, 0.95))
        balls = [put(ellipse(radius, points=24), at) for at in around(max(count, 5), middle)]
        c.solid(balls, ball, dome=1.0, apart=True)
        if rng.random() < 0.5:
            c.solid(
                ellipse(middle + radius * 0.3),
                metal(rng),
                bevel=0.02,
                holes=[ellipse(middle - radius * 0.3), *[b * 1.0 for b in balls]],
            )
    else:
        c.solid(ellipse(1 - width), plastic(rng), holes=[ellipse(inner + width)], bevel=0.03)
        for turn in rng.uniform(0, 6.3, 3):
            c.write(
                words(rng, 1, 1),
                middle * np.sin(turn),
                -middle * np.cos(turn),
                0.09,
                np.full(3, 0.75),
                0.7,
                turn,
            )
    c.solid(
        ellipse(1),
        finish,
        holes=[ellipse(1 - width)],
        bevel=0.05,
        paint=turned(c, finish, ellipse(1), 0.05),
    )
    c.solid(ellipse(inner + width), finish, holes=bore, bevel=0.05)
    return c.surface(noun(rng, "bearing", "ball bearing"), "bearing", 4)


def plate(rng: Rng, size: int) -> Surface:
    """A stamped sheet or bracket with holes, slots, ribs and engraved letters."""
    c = Canvas(rng, size)
    ry = rng.uniform(0.4, 1)
    c.stand((1, ry), turn=rng.choice([0.1, np.pi]), fill=(0.6, 1.15))
    finish = metal(rng) if rng.random() < 0.8 else plastic(rng)
    outline = rectangle(1, ry, radius=rng.uniform(0, 0.3))
    if rng.random() < 0.4:
        cut = rng.uniform(0.2, 0.5)
        outline = np.array(
            [
                [-1, -ry],
                [1, -ry],
                [1, -ry * (1 - cut)],
                [0.3, -ry * (1 - cut)],
                [0.1, ry * 0.2],
                [0.1, ry],
                [-1, ry],
            ]
        )
    spots = np.array([[sx * 0.82, sy * (ry - 0.18)] for sx in (-1, 1) for sy in (-1, 1)])
    radius = rng.uniform(0.05, 0.11)
    holes = [
        put(ellipse(radius, points=28), at)
        for at in spots
        if cv2.pointPolygonTest(outline.astype(np.float32), at.tolist(), True) > radius
    ]
    if rng.random() < 0.6:
        holes.append(rectangle(rng.uniform(0.15, 0.35), rng.uniform(0.05, ry * 0.3), -0.45, 0, 0.1))
    c.solid(
        outline, finish, holes=holes, bevel=rng.uniform(0.015, 0.05), shadow=rng.uniform(0.03, 0.12)
    )
    for _ in range(int(rng.integers(0, 3))):
        y = rng.uniform(-0.6, 0.6) * ry
        c.solid(
            sausage(np.array([[-0.65, y], [-0.4, y], [0.0, y]]), rng.uniform(0.02, 0.06)),
            finish,
            dome=rng.choice([0.5, -0.5]),
        )
    if rng.random() < 0.5:
        c.solid(moved(ellipse(0.14), -0.55, 0.5 * ry), metal(rng), bevel=0.04, shadow=0.04)
    if rng.random() < 0.6:
        c.write(
            words(rng),
            -0.35,
            -0.55 * ry,
            0.12,
            finish.colour * 0.4,
            0.8,
            depth=rng.choice([0, 0.3]),
        )
    return c.surface(noun(rng, "metal plate", "bracket", "stamped part"), "plate", 4)


def key(rng: Rng, size: int) -> Surface:
    """A key: bow with hole and letters, blade with cuts and a groove."""
    c = Canvas(rng, size)
    c.stand((1, 0.4), fill=(0.65, 1.05))
    finish = metal(rng, tinted=0.4)
    lift = rng.uniform(0.03, 0.1)
    x = np.linspace(-0.2, 0.93, 12)
    cuts = rng.uniform(0.02, 0.15, 12)
    teeth = np.stack([np.repeat(x, 2)[1:], np.repeat(cuts, 2)[:-1]], -1)
    blade = np.concatenate(
        [[[-0.35, -0.16], [0.92, -0.16], [1, -0.08], [1, 0.0]], teeth[::-1], [[-0.35, 0.16]]]
    )
    c.solid(blade, finish, bevel=0.03, shadow=lift)
    c.solid(rectangle(0.55, 0.022, 0.3, -0.08), finish, bevel=-0.02)
    sides = int(rng.choice([0, 0, 6, 8]))
    bow = moved(polygon(sides, 0.4) if sides else ellipse(0.38, 0.4, rng.uniform(2, 4)), -0.62)
    cover = plastic(rng) if rng.random() < 0.3 else finish
    c.solid(bow, cover, holes=[moved(ellipse(0.09), -0.84)], bevel=0.05, shadow=lift)
    c.write(words(rng, 1, 1), -0.58, 0, 0.12, cover.colour * 0.4, 0.7, np.pi / 2, 0.3)
    return c.surface(noun(rng, "key", "metal key"), "key", 4)


def spring(rng: Rng, size: int) -> Surface:
    """A coil spring on its side."""
    c = Canvas(rng, size)
    ry = rng.uniform(0.16, 0.4)
    c.stand((1, ry), fill=(0.6, 1.05))
    finish = metal(rng)
    turns = int(rng.integers(7, 20))
    pitch = 1.9 / turns
    wire = pitch * rng.uniform(0.22, 0.38)
    back = [
        sausage(np.array([[x, ry - wire], [x + pitch / 2, 0], [x + pitch, -ry + wire]]), wire)
        for x in -0.95 + np.arange(turns - 1) * pitch
    ]
    behind = Finish(finish.colour * 0.45, finish.texture, 0.05, 10, 0.6)
    c.solid(back, behind, dome=0.8, shadow=0.06)
    t = np.linspace(-1, 1, 9)
    bow = np.stack([0.12 * pitch * np.cos(t * np.pi), t * (ry - wire)], -1)
    front = [sausage(bow + np.array([x, 0]), wire) for x in -0.95 + np.arange(turns) * pitch]
    c.solid(front, finish, dome=0.95, shadow=0.03, apart=True)
    return c.surface(noun(rng, "spring", "coil", "coil spring"), "spring", 4)


def coin(rng: Rng, size: int) -> Surface:
    """A coin, medal or stamped button: rim, letters around, a relief in the middle."""
    c = Canvas(rng, size)
    c.stand((1, 1))
    finish = metal(rng, tinted=0.6)
    c.solid(ellipse(1), finish, bevel=0.03, shadow=rng.uniform(0.03, 0.1))
    c.solid(ellipse(0.92), finish, bevel=-0.04, label=False)
    for turn in np.linspace(0, 2 * np.pi, int(rng.integers(4, 8)), endpoint=False):
        c.write(
            words(rng, 1, 1),
            0.75 * np.sin(turn),
            -0.75 * np.cos(turn),
            0.12,
            finish.colour,
            0.5,
            turn,
            -0.4,
        )
    relief = wavy(rng, ellipse(0.42, rng.uniform(0.3, 0.5)), 0.25, 2, 8)
    c.solid(relief, finish, dome=0.25)
    c.solid(wavy(rng, ellipse(0.2), 0.2, 2, 6) + rng.uniform(-0.1, 0.1, 2), finish, dome=0.3)
    return c.surface(noun(rng, "coin", "medal", "token"), "coin", 4)


def tube(rng: Rng, size: int) -> Surface:
    """Rods and pipes side by side or a single one, often running through the frame."""
    c = Canvas(rng, size)
    count = int(rng.choice([1, 1, 2, 3, 5]))
    c.stand((1, 1), fill=(0.7, 1.0), turn=rng.choice([0.1, np.pi]))
    finish = metal(rng) if rng.random() < 0.7 else plastic(rng)
    width = 0.9 / count * rng.uniform(0.5, 1)
    length = rng.choice([3.0, rng.uniform(0.7, 1)])
    across = c.local((slice(0, size), slice(0, size)))[1]
    roundness = np.float32(rng.uniform(0.5, 1) * width * c.scale)
    for k in range(count):
        y = (k - (count - 1) / 2) * 1.8 / count
        from_axis = (across - np.float32(y)) * np.float32(0.97 / width)
        rise = roundness * cv2.sqrt(np.maximum(1 - from_axis * from_axis, 0))
        c.solid(
            rectangle(length, width, rng.uniform(-0.1, 0.1), y),
            finish,
            rise=rise,
            shadow=width * rng.uniform(0.1, 0.5),
        )
        if rng.random() < 0.4:
            c.write(
                words(rng, 2, 3), rng.uniform(-0.4, 0.4), y, width * 0.35, dark(rng).colour, 0.8
            )
        if rng.random() < 0.3:
            c.solid(
                rectangle(rng.uniform(0.05, 0.12), width * 1.1, rng.uniform(-0.6, 0.6), y, 0.03),
                metal(rng),
                dome=0.8,
                shadow=0.03,
            )
    return c.surface(noun(rng, "tube", "pipe", "metal rod"), "tube", 5)


def impeller(rng: Rng, size: int) -> Surface:
    """A casting from above: flange, curved vanes, hub; as pump wheels and brake discs have."""
    c = Canvas(rng, size)
    c.stand((1, 1), fill=(0.65, 1.15))
    shade = noise.metal_colour(rng, (0.3, 0.8))
    finish = rough(rng, shade, rng.uniform(0.02, 0.08), rng.uniform(0.1, 0.6))
    face = metal(rng, (0.4, 0.8), 0.1)
    c.solid(ellipse(1), face, bevel=0.04, shadow=0.12, paint=turned(c, face, ellipse(1), 0.05))
    c.solid(ellipse(rng.uniform(0.85, 0.93)), finish, bevel=-0.06)
    vanes, sweep = int(rng.integers(3, 9)), rng.uniform(-1.2, 1.2)
    r = np.linspace(0.22, 0.82, 10)
    for turn in np.arange(vanes) * 2 * np.pi / vanes:
        angle = turn + sweep * (r - 0.22)
        path = np.stack([r * np.cos(angle), r * np.sin(angle)], -1)
        c.solid(sausage(path, rng.uniform(0.03, 0.035)), finish, dome=0.7, shadow=0.06)
    c.solid(ellipse(0.3), face, bevel=0.05, shadow=0.08, paint=turned(c, face, ellipse(0.3), 0.06))
    c.solid(ellipse(rng.uniform(0.1, 0.18)), dark(rng), bevel=-0.04)
    for at in around(int(rng.choice([0, 3, 4, 6])) or 1, 0.93, rng.uniform(0, 6)):
        c.solid(put(ellipse(0.035, points=16), at), dark(rng), bevel=-0.02)
    return c.surface(
        noun(rng, "impeller", "casting", "cast metal part", "pump wheel"), "impeller", 5
    )
