"""Household goods: bottles, lids, cartons, zips, brushes, straps."""

from __future__ import annotations

import cv2
import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.finishes import Finish, metal, plastic, rough
from tiny.synthetic.noise import Rng
from tiny.synthetic.objects_electronic import lattice
from tiny.synthetic.outlines import (
    ellipse,
    moved,
    polygon,
    rectangle,
    ribbon,
    sausage,
    toothed,
    wavy,
)
from tiny.synthetic.shapes import Canvas
from tiny.synthetic.surface import Surface
from tiny.synthetic.wording import noun, words


def bottle(rng: Rng, size: int) -> Surface:
    """The mouth of a bottle or jar from above: bright and dark rings of glass, a dark inside."""
    c = Canvas(rng, size)
    c.stand((1, 1), fill=(0.7, 1.05), tilt=0.05)
    glass = noise.colour(rng, (20, 200), (0.1, 0.8), (0.03, 0.5))
    rings = np.sort(rng.uniform(0.35, 0.97, int(rng.integers(3, 7))))[::-1]
    bright = rng.uniform(0.3, 1.0)
    c.solid(
        ellipse(1),
        Finish(glass, (), rng.uniform(0.2, 0.8), 30, 0.4, rng.uniform(0.2, 0.8)),
        bevel=rng.uniform(0.05, 0.25),
        shadow=rng.uniform(0, 0.15),
    )
    for k, r in enumerate(rings):
        tone = glass * rng.uniform(0.5, 1.6) + (bright * rng.uniform(0, 0.6) if k % 2 else 0)
        finish = Finish(
            np.clip(tone, 0, 1).astype(np.float32),
            (("mottle", 0.04, 0.0),),
            rng.uniform(0.2, 1),
            rng.uniform(10, 60),
            0.4,
            rng.uniform(0.2, 0.9),
        )
        c.solid(ellipse(r), finish, bevel=rng.uniform(0.03, 0.12) * rng.choice([-1, 1]))
    c.solid(ellipse(rings[-1] * 0.9), plastic(rng, glass * 0.4), bevel=-0.08)
    return c.surface(noun(rng, "bottle", "glass bottle", "jar"), "bottle", 5)


def lid(rng: Rng, size: int) -> Surface:
    """A cap, crown cork or can end from above."""
    c = Canvas(rng, size)
    c.stand((1, 1), tilt=0.1)
    kind = rng.choice(["cap", "can", "bottle cap"])
    finish = plastic(rng) if kind == "cap" else metal(rng, (0.5, 0.85), 0.3)
    if kind == "cap":
        outer = toothed(int(rng.integers(30, 80)), rng.uniform(0.94, 0.98), 1, 0.5, 0.9)
    elif kind == "can":
        outer = ellipse(1)
    else:
        outer = toothed(21, 0.92, 1, 0.4, 0.95)
    c.solid(outer, finish, bevel=rng.uniform(0.05, 0.15), shadow=rng.uniform(0.04, 0.2))
    c.solid(ellipse(0.86), finish, bevel=rng.uniform(0.03, 0.06) * rng.choice([-1, 1]))
    if rng.random() < 0.6:
        c.solid(ellipse(rng.uniform(0.55, 0.75)), finish, bevel=rng.choice([-0.03, 0.03]))
    if kind == "can":
        c.solid(moved(ellipse(0.24, 0.36), 0, 0.42), finish, bevel=-0.03)
        c.solid(moved(ellipse(0.18, 0.4, 3), 0, -0.05), finish, bevel=0.05, shadow=0.06)
        c.solid(moved(ellipse(0.1, 0.14), 0, -0.2), plastic(rng, finish.colour * 0.5), bevel=-0.03)
        c.solid(ellipse(0.06, y=0.12), finish, dome=0.6)
    else:
        ink = noise.colour(rng, (0, 360), (0.2, 0.9), (0.1, 0.9))
        if rng.random() < 0.5:
            c.solid(
                moved(toothed(int(rng.integers(5, 12)), 0.25, 0.45), 0, -0.05), plastic(rng, ink)
            )
        c.write(
            words(rng),
            0,
            rng.uniform(-0.2, 0.2),
            rng.uniform(0.12, 0.25),
            ink * 0.6,
            0.9,
            depth=rng.choice([0, 0.3]),
        )
    return c.surface(noun(rng, str(kind), "lid", "cap" if kind != "can" else "can end"), "lid", 4)


def stripes(c: Canvas, x: float, y: float, w: float, h: float) -> None:
    """A bar code."""
    edges = x - w + np.sort(c.rng.uniform(0, 2 * w, 36))
    bars = [
        rectangle((b - a) / 2, h, (a + b) / 2, y)
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]
    c.solid(rectangle(w * 1.1, h * 1.15, x, y), plastic(c.rng, np.full(3, 0.92)))
    c.solid(bars, plastic(c.rng, np.full(3, 0.08)), label=False)


def carton(rng: Rng, size: int) -> Surface:
    """A printed label, card, carton or pouch with logo, text, bands and bar code."""
    # Long, as it draws from back to front, each step on the one before.
    c = Canvas(rng, size)
    h = rng.uniform(0.5, 1)
    pouch = rng.random() < 0.4
    c.stand((1, h), fill=(0.65, 1.15), turn=rng.choice([0.1, np.pi]), tilt=0.12)
    base = noise.colour(rng, (0, 360), (0, 0.8), (0.3, 1))
    finish = Finish(
        base,
        (("mottle", 0.02, rng.uniform(0.3, 1.5) if pouch else 0.0), ("grain", 0.01, 0.02)),
        rng.uniform(0.05, 0.5),
        rng.uniform(8, 40),
        0.5,
        rng.uniform(0, 0.3),
    )
    outline = rectangle(1, h, radius=0 if pouch else rng.uniform(0, 0.15))
    c.solid(outline, finish, dome=0.3 if pouch else 0.0, bevel=0.02, shadow=rng.uniform(0.02, 0.15))
    inks = [noise.colour(rng, (0, 360), (0.2, 1), (0.05, 0.95)) for _ in range(3)]

    def ink(k: int) -> Finish:
        return plastic(rng, inks[k])

    light = float(rng.uniform(0.75, 1))
    if rng.random() < 0.7:
        y = rng.uniform(-0.8, 0.8) * h
        c.solid(
            rectangle(1, rng.uniform(0.08, 0.3) * h, 0, np.clip(y, -0.65 * h, 0.65 * h)),
            ink(0),
            opacity=light,
        )
    if rng.random() < 0.7:
        shape = rng.choice(["disc", "star", "blob"])
        logo = {
            "disc": ellipse(0.25),
            "star": toothed(8, 0.15, 0.28, 0.2, 0.9),
            "blob": wavy(rng, ellipse(0.24), 0.2),
        }[str(shape)]
        c.solid(
            moved(logo, rng.uniform(-0.6, 0.6), rng.uniform(-0.4, 0.4) * h, 0, h),
            ink(1),
            opacity=light,
        )
    c.write(
        words(rng),
        rng.uniform(-0.3, 0.3),
        rng.uniform(-0.6, 0.2) * h,
        rng.uniform(0.12, 0.24),
        inks[2],
        0.95,
    )
    for row in range(int(rng.integers(1, 4))):
        c.write(words(rng, 2, 3), -0.3, h * (0.3 + 0.17 * row), 0.07, inks[2] * 0.5, 0.85)
    if rng.random() < 0.5:
        stripes(c, 0.62, 0.55 * h, 0.24, 0.2 * h)
    if pouch:
        for side in (-1, 1):
            ribs = [rectangle(0.012, h, side * (0.9 + 0.03 * k)) for k in range(3)]
            c.solid(ribs, finish, dome=0.8, label=False)
    return c.surface(
        noun(rng, *(["pouch", "food package"] if pouch else ["label", "carton", "printed card"])),
        "carton",
        3,
    )


def zipper(rng: Rng, size: int) -> Surface:
    """A zip fastener: two woven tapes, meshing teeth, sometimes the slider."""
    c = Canvas(rng, size)
    c.stand((1, 1), fill=(0.95, 1.1), turn=rng.choice([0.06, np.pi]), tilt=0.05)
    cloth = noise.colour(rng, (0, 360), (0, 0.7) if rng.random() < 0.4 else (0, 0.1), (0.06, 0.8))
    tape = Finish(cloth, (("grain", 0.06, 0.25), ("brushed", 0.05, 0.2)), 0.0, 5, 0.6)
    half = rng.uniform(0.35, 0.75)
    for side in (-1, 1):
        c.solid(
            rectangle(half / 2, 1.6, side * (half / 2 + 0.02), 0), tape, bevel=0.02, shadow=0.03
        )
    x, y = c.local((slice(0, size), slice(0, size)))
    wave = np.sin(np.arange(32, dtype=np.float32) * (2 * np.pi / 32))
    u = np.abs(x) * np.float32(rng.uniform(350, 700)) % 32
    v = y * np.float32(rng.uniform(300, 800)) % 32
    weave = cv2.remap(np.outer(wave, wave), u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    lit = 1 + np.float32(rng.uniform(0.04, 0.15)) * weave * c.region
    cv2.multiply(c.rgb, cv2.merge([np.asarray(lit, np.float32)] * 3), dst=c.rgb)
    tooth = metal(rng, (0.45, 0.85), 0.4) if rng.random() < 0.6 else plastic(rng)
    count = int(rng.integers(14, 34))
    pitch = 3.0 / count
    w = rng.uniform(0.1, 0.18)
    middle = (np.arange(count) - count / 2) * pitch
    for side in (-1, 1):
        row = [
            rectangle(w * 0.6, pitch * 0.36, side * w * 0.45, m + side * pitch / 4, pitch * 0.15)
            for m in middle
        ]
        c.solid(row, tooth, dome=0.7, shadow=0.02, apart=True)
    if rng.random() < 0.35:
        y0 = rng.uniform(-0.5, 0.5)
        pull = metal(rng)
        c.solid(moved(ellipse(0.26, 0.3, 3.5), 0, y0), pull, bevel=0.07, shadow=0.08)
        c.solid(
            rectangle(0.1, 0.35, 0.05, y0 + 0.35, 0.08),
            pull,
            bevel=0.04,
            shadow=0.08,
            holes=[ellipse(0.05, x=0.05, y=y0 + 0.55)],
        )
    return c.surface(noun(rng, "zipper", "zip"), "zipper", 3)


def brush(rng: Rng, size: int) -> Surface:
    """A brush head from above: tufts of coloured bristles in rows on a handle."""
    c = Canvas(rng, size)
    w = rng.uniform(0.3, 0.6)
    c.stand((1, w), fill=(0.65, 1.1), turn=rng.choice([0.1, np.pi]))
    body = plastic(rng, noise.colour(rng, (0, 360), (0, 0.5), (0.5, 1)))
    c.solid(ellipse(1, w, rng.uniform(2.2, 4)), body, bevel=0.08, shadow=0.1)
    if rng.random() < 0.5:
        c.solid(rectangle(0.7, w * 0.35, -1.5, 0, 0.1), body, bevel=0.08, shadow=0.1)
    columns = int(rng.integers(6, 13))
    rows = max(3, int(columns * w * 0.8))
    spots = lattice(columns, rows, 0.86, w * 0.82)
    spots = spots[(np.abs(spots[:, 0] / 0.9) ** 3 + np.abs(spots[:, 1] / (w * 0.95)) ** 3) < 1]
    unit = 0.86 / columns
    shades = [noise.colour(rng, (0, 360), (0, 0.8), (0.4, 1)) for _ in range(3)]
    for k, shade in enumerate(shades):
        bristle = Finish(shade, (("grain", 0.18, 0.5), ("speckle", -0.08, 0.0)), 0.2, 10, 0.4)
        group = [
            wavy(rng, ellipse(unit * 0.9, points=18), 0.07) + s
            for s in spots[k::3] + rng.normal(0, unit * 0.08, spots[k::3].shape)
        ]
        if group:
            c.solid(group, bristle, dome=0.4, shadow=0.04, apart=True)
    return c.surface(noun(rng, "toothbrush", "brush", "bristles"), "brush", 2)


def strap(rng: Rng, size: int) -> Surface:
    """A strap, belt or rail running through the frame with stitches, clips or sleepers."""
    c = Canvas(rng, size)
    c.stand((1, 1), fill=(0.9, 1.1), turn=rng.choice([0.1, np.pi]), tilt=0.1)
    rail = rng.random() < 0.5
    w = rng.uniform(0.2, 0.5)
    finish = (
        metal(rng)
        if rail
        else rough(rng, noise.colour(rng, (0, 360), (0, 0.6), (0.1, 0.7)), 0.06, 0.3)
    )
    if rail:
        tie = rough(rng, noise.colour(rng, (20, 50), (0, 0.4), (0.2, 0.6)), 0.1, 0.6)
        for y in np.arange(-1.6, 1.6, rng.uniform(0.5, 0.9)):
            c.solid(rectangle(0.85, 0.15, 0, y, 0.02), tie, bevel=0.03, shadow=0.05)
            for side in (-1, 1):
                c.solid(
                    moved(polygon(6, 0.07), side * (w + 0.12), y), finish, bevel=0.03, shadow=0.05
                )
    c.solid(rectangle(w, 2.0), finish, bevel=0.04, shadow=0.1)
    if rail:
        c.solid(rectangle(w * 0.55, 2.0), metal(rng, (0.5, 0.85), 0), bevel=0.05, shadow=0.04)
    else:
        pitch = rng.uniform(0.06, 0.14)
        thread = plastic(rng)
        for x in (-w * 0.8, w * 0.8):
            marks = [
                sausage(np.array([[x, y], [x + 0.005, y + pitch * 0.5]]), 0.014)
                for y in np.arange(-1.5, 1.5, pitch)
            ]
            c.solid(marks, thread, dome=0.7, label=False)
        path = np.array([[-w, -1.5], [0, -1.4], [w, -1.5]])
        for y in np.arange(0, 3, rng.uniform(0.5, 1.2)):
            c.solid(ribbon(path + np.array([0, y]), 0.03), finish, dome=0.5)
    return c.surface(noun(rng, *(["rail", "track"] if rail else ["strap", "belt"])), "strap", 4)
