"""Nuts."""

from __future__ import annotations

import cv2
import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.finishes import Finish, plastic, rough
from tiny.synthetic.noise import Field, Rng
from tiny.synthetic.outlines import (
    Outline,
    ellipse,
    moved,
    ribbon,
    sausage,
    wavy,
)
from tiny.synthetic.shapes import Box, Canvas
from tiny.synthetic.surface import Surface
from tiny.synthetic.wording import noun


def full(size: int) -> Box:
    """The box of the whole picture."""
    return slice(0, size), slice(0, size)


def globe(canvas: Canvas, box: Box, rx: float, ry: float) -> tuple[Field, Field]:
    """Longitude and height (-1 to 1) on a ball seen from a random side, at each pixel of a box."""
    rng = canvas.rng
    x, y = canvas.local(box)
    x, y = x * np.float32(1 / rx), y * np.float32(1 / ry)
    z = cv2.sqrt(np.maximum(1 - x * x - y * y, 0))
    nod = rng.choice([rng.normal(0, 0.35), rng.uniform(-1.6, 1.6)])
    up = y * np.float32(np.cos(nod)) + z * np.float32(np.sin(nod))
    front = z * np.float32(np.cos(nod)) - y * np.float32(np.sin(nod))
    return np.asarray(cv2.phase(x, front), np.float32), np.asarray(up, np.float32)


def meridians(rng: Rng, longitude: Field, height: Field, strands: int, length: int = 6) -> Field:
    """Streaks which run from pole to pole, unit variance."""
    sheet = noise.white(rng, max(length, 3), strands)
    sheet = np.concatenate([sheet, sheet[:, :2]], 1)
    u = longitude * np.float32(strands / (2 * np.pi))
    v = (height + 1) * np.float32((length - 1) / 2)
    return np.asarray(cv2.remap(sheet, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))


def hazelnut(rng: Rng, size: int) -> Surface:
    """A fibrous brown nut with a pale base, seen from any side."""
    # Long, as it draws from back to front, each step on the one before.
    c = Canvas(rng, size)
    ratio = rng.uniform(0.82, 1.1)
    c.stand((1, 1), tilt=0.06)
    outline = wavy(rng, ellipse(ratio, 1, rng.uniform(1.9, 2.3)), rng.uniform(0.005, 0.03), 2, 5)
    if rng.random() < 0.5:
        outline[:, 1] *= 1 + 0.12 * np.maximum(-outline[:, 1], 0) ** 6
    box = c.box(outline)
    longitude, height = globe(c, box, ratio, 1)
    peeled = rng.random() < 0.35
    fibres = meridians(rng, longitude, height, int(rng.integers(50, 160)))
    bands = meridians(rng, longitude, height, int(rng.integers(10, 30)), 3)
    mottle, patches = c.texture("cast")[box], c.texture("mottle")[box]
    if peeled:
        dark = noise.colour(rng, (20, 36), (0.4, 0.7), (0.5, 0.75))
        light = noise.colour(rng, (36, 50), (0.15, 0.4), (0.7, 0.92))
        k = (0.02, rng.uniform(0.02, 0.08), 0.02, rng.uniform(0.1, 0.25))
    else:
        dark = noise.colour(rng, (12, 28), (0.5, 0.8), (0.18, 0.4))
        light = noise.colour(rng, (20, 34), (0.4, 0.65), (0.5, 0.8))
        k = (*rng.uniform(0.04, 0.16, 2), rng.uniform(0.02, 0.06), 0.03)
    weights = [np.float32(value) for value in k]
    tone = weights[0] * fibres + weights[1] * bands + weights[2] * mottle + weights[3] * patches
    paint = noise.ramp(np.float32(0.5) + tone, [dark, light])
    limit = np.float32(rng.uniform(0.6, 0.9) if not peeled else 2)
    base = np.clip((height - limit + 0.03 * bands + 0.015 * mottle) * 25, 0, 1)
    pale = noise.colour(rng, (22, 40), (0.2, 0.45), (0.6, 0.85))
    mixed = cv2.blendLinear(noise.tint(0.95 + 0.1 * mottle, pale), paint, base, 1 - base)
    lumps = c.scale * rng.uniform(0.005, 0.03) if peeled else 0.0
    c.fields["lumps"] = (
        noise.smooth(rng, size, c.scale * rng.uniform(0.4, 0.8)) if peeled else mottle
    )
    finish = Finish(
        pale,
        (("grain", 0.02, 0.05), ("lumps", 0.0, lumps)),
        rng.uniform(0.03, 0.3),
        rng.uniform(8, 40),
        rng.uniform(0.35, 0.6),
    )
    c.solid(
        outline,
        finish,
        dome=rng.uniform(0.7, 1.0),
        paint=np.asarray(mixed, np.float32),
        shadow=rng.uniform(0, 0.25),
    )
    if peeled:
        for at in rng.uniform(-0.55, 0.55, (int(rng.integers(0, 9)), 2)):
            spot = wavy(rng, ellipse(rng.uniform(0.02, 0.07), points=20), 0.2) + at
            c.solid(
                spot,
                rough(rng, np.clip(light * rng.uniform(0.8, 1.2), 0, 1)),
                dome=0.2,
                label=False,
                opacity=rng.uniform(0.3, 0.8),
            )
        if rng.random() < 0.3:
            fold = np.array([[-0.6, 0], [-0.1, rng.uniform(-0.2, 0.2)], [0.6, 0]])
            c.solid(sausage(fold, 0.05), rough(rng, light), bevel=-0.05, label=False, opacity=0.7)
    c.count += 1
    view = c.parts[box]
    view[(base > 0.5) & (view > 0)] = c.count
    return c.surface(noun(rng, "hazelnut", "nut", "chestnut"), "hazelnut", 3)


def walnut(rng: Rng, size: int) -> Surface:
    """A wrinkled stone or shell, or a fruit with blemish-free skin."""
    c = Canvas(rng, size)
    ratio = rng.uniform(0.75, 1.0)
    c.stand((1, 1), tilt=0.06)
    outline = wavy(rng, ellipse(ratio, 1), rng.uniform(0.005, 0.04), 2, 8)
    box = c.box(outline)
    longitude, height = globe(c, box, ratio, 1)
    if rng.random() < 0.5:
        wrinkles = noise.fractal(rng, size, c.scale * rng.uniform(0.15, 0.4), 3, 0.5)
        ridges = 1 - np.minimum(np.abs(wrinkles) * rng.uniform(1.5, 3), 1)
        shade = noise.colour(rng, (20, 40), (0.3, 0.6), (0.4, 0.8))
        paint = noise.tint(1.05 - rng.uniform(0.2, 0.5) * ridges + 0.05 * c.texture("cast"), shade)[
            box
        ]
        finish = rough(rng, shade, 0.05, 0.5)
        name = noun(rng, "walnut", "nut", "peach stone")
    else:
        skin = noise.colour(rng, (0, 110), (0.4, 0.9), (0.35, 0.9))
        other = noise.colour(rng, (0, 110), (0.4, 0.9), (0.35, 0.9))
        field = 0.4 + 0.35 * height + 0.08 * meridians(rng, longitude, height, 60, 4)
        paint = noise.ramp(field + 0.04 * c.texture("cast")[box], [skin, other])
        finish = Finish(
            skin,
            (("speckle", rng.uniform(0, 0.04), 0.0),),
            rng.uniform(0.1, 0.6),
            rng.uniform(10, 60),
            0.5,
        )
        name = noun(rng, "fruit", "apple", "orange", "tomato")
    c.solid(outline, finish, dome=rng.uniform(0.6, 1), paint=paint, shadow=rng.uniform(0, 0.25))
    if rng.random() < 0.4:
        at = rng.uniform(-0.4, 0.4, 2)
        c.solid(
            wavy(rng, ellipse(0.08), 0.15) + at,
            rough(rng, noise.colour(rng, (20, 60), (0.3, 0.6), (0.1, 0.4))),
            bevel=-0.05,
        )
    return c.surface(name, "walnut", 4)


def bent(rng: Rng, length: float, radius: float, bend: float, taper: float = 0.3) -> Outline:
    """The outline of a kidney: a curved body, wider in the middle."""
    t = np.linspace(-1, 1, 30)
    angle = t * bend
    path = np.stack([np.sin(angle), 1 - np.cos(angle)], -1) * (length / max(bend, 0.05))
    path[:, 1] -= path[:, 1].mean()
    round_ = np.sqrt(np.maximum(1 - np.abs(t) ** rng.uniform(2.5, 5), 0.003))
    return ribbon(path, radius * round_ * (1 + taper * 0.5 * t * rng.uniform(-1, 1)))


def cashew(rng: Rng, size: int) -> Surface:
    """A bent nut or a bean."""
    c = Canvas(rng, size)
    bean = rng.random() < 0.4
    outline = bent(rng, 0.75, rng.uniform(0.36, 0.55), rng.uniform(0.3, 1.3))
    c.stand((1, 0.8), tilt=0.08)
    shade = (
        noise.colour(rng, (0, 60), (0.1, 0.8), (0.2, 0.9))
        if bean
        else noise.colour(rng, (28, 46), (0.15, 0.5), (0.65, 0.95))
    )
    finish = Finish(
        shade,
        (
            ("cast", rng.uniform(0.01, 0.06), rng.uniform(0, 0.2)),
            ("mottle", rng.uniform(0.02, 0.08), 0.1),
        ),
        rng.uniform(0.03, 0.4),
        rng.uniform(8, 40),
        0.5,
    )
    c.solid(outline, finish, dome=rng.uniform(0.5, 0.9), shadow=rng.uniform(0, 0.2))
    if bean and rng.random() < 0.6:
        c.solid(
            moved(ellipse(0.16, 0.05), rng.uniform(-0.1, 0.1), -0.2),
            plastic(rng, shade * 0.4),
            bevel=-0.03,
        )
    return c.surface(
        noun(rng, *(["bean", "coffee bean"] if bean else ["cashew", "nut"])), "cashew", 4
    )
