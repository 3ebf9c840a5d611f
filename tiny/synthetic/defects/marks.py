"""Line-like defects: scratch, crack, cut, thread, fold, fray, print and abrasion."""

from __future__ import annotations

import cv2
import numpy as np

from tiny.synthetic.defects.common import (
    Array,
    Rng,
    Surface,
    blob,
    blur,
    contrast,
    displace,
    extent,
    log_uniform,
    mean_colour,
    mix,
    noise,
    outline,
    place,
    polygon,
    px,
    relief,
    shift,
    soak,
    stroke,
    taper,
    tint,
    turning,
    walk,
    warp,
)


def scratch(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """One to eight thin lines, 0.6 to 5 px wide, parallel or not, broken or with a lit lip."""
    size, side = surface.rgb.shape[0], extent(surface)
    count = 1 if rng.random() < 0.6 else int(rng.integers(2, 9))
    heading, parallel = rng.uniform(0, np.pi), rng.random() < 0.7
    length = side * log_uniform(rng, 0.06, 0.8)
    width = px(surface, log_uniform(rng, 0.6, 5.0))
    home = place(rng, surface, px(surface, 3))
    alpha = np.zeros((size, size), np.float32)
    for _ in range(count):
        near = (home[0] + rng.normal() * 0.12 * side, home[1] + rng.normal() * 0.12 * side)
        angle = heading + 0.06 * rng.normal() if parallel else rng.uniform(0, np.pi)
        line = walk(
            rng,
            near if count > 1 else home,
            length * rng.uniform(0.4, 1.2),
            angle,
            rng.choice([0.03, 0.15, 0.6]),
            0.03,
        )
        alpha = np.maximum(
            alpha, stroke(size, line, taper(len(line), width * rng.uniform(0.6, 1.2)))
        )
    alpha *= surface.region
    if rng.random() < 0.4:
        alpha *= np.clip(0.6 + 0.5 * noise(rng, size, px(surface, 14), 2), 0, 1)
    base = mean_colour(surface, alpha)
    amount = contrast(rng, surface, alpha, gain, 0.08, 0.55)
    colour = tint(rng, base, amount, dark=0.45, chroma=0.2)
    rgb = (
        soak(surface.rgb, base, colour, alpha)
        if rng.random() < 0.5
        else mix(surface.rgb, colour, alpha)
    )
    support = alpha
    if width > px(surface, 1.6) and rng.random() < 0.5:
        beside = shift(alpha, 0.7 * width * np.sin(heading), -0.7 * width * np.cos(heading))
        lip = np.clip(beside - alpha, 0, 1) * surface.region
        rgb = soak(
            rgb, base, tint(rng, base, 0.7 * amount, dark=float(colour.mean() > base.mean())), lip
        )
        support = np.maximum(alpha, lip)
    return rgb, support


def crack(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A kinked dark line with thinning branches; often a hairline, sometimes from the edge."""
    size, side = surface.rgb.shape[0], extent(surface)
    width = px(surface, log_uniform(rng, 0.8, 5.0))
    length = side * log_uniform(rng, 0.1, 0.9)
    start = place(rng, surface, px(surface, 3), edge=rng.random() < 0.3)
    line = walk(
        rng, start, length, rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.8), rng.uniform(0.15, 0.6)
    )
    alpha = stroke(
        size,
        line,
        np.maximum(
            0.6,
            width
            * (1 - 0.7 * np.linspace(0, 1, len(line)))
            * np.clip(1 + 0.3 * rng.standard_normal(len(line)), 0.3, 2),
        ),
    )
    for _ in range(int(rng.integers(0, 6)) if rng.random() < 0.6 else 0):
        at = int(rng.integers(4, len(line) - 4))
        run = line[at + 1] - line[at]
        heading = np.arctan2(run[1], run[0]) + rng.choice([-1, 1]) * rng.uniform(0.3, 1.2)
        twig = walk(rng, (0, 0), length * rng.uniform(0.1, 0.45), heading, 0.4, 0.4, 20)
        twig += line[at] - twig[0]
        alpha = np.maximum(
            alpha, stroke(size, twig, np.maximum(0.5, width * 0.6 * np.linspace(1, 0.2, 20)))
        )
    alpha = blur(alpha, rng.uniform(0, 0.7)) * surface.region
    base = mean_colour(surface, alpha)
    amount = contrast(rng, surface, alpha, gain, 0.1, 0.6)
    rgb = mix(surface.rgb, tint(rng, base, amount, dark=0.9, chroma=0.1), alpha)
    if rng.random() < 0.3:
        halo = np.clip(blur(alpha, 2.0) * 1.5 - alpha, 0, 1) * surface.region
        rgb = soak(rgb, base, tint(rng, base, 0.4 * amount, dark=0.3), halo)
    return rgb, alpha


def cut(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A lens-shaped opening, dark inside, one lip lit, the surface around it pushed apart."""
    size, side = surface.rgb.shape[0], extent(surface)
    length, heading = side * log_uniform(rng, 0.1, 0.5), rng.uniform(0, np.pi)
    width = max(px(surface, 2), length * log_uniform(rng, 0.03, 0.16))
    line = walk(rng, place(rng, surface, px(surface, 8)), length, heading, 0.25, 0.04)
    gap = stroke(size, line, taper(len(line), width, 0.05)) * surface.region
    wide = blur(gap, width)
    gx, gy = cv2.Sobel(wide, cv2.CV_32F, 1, 0), cv2.Sobel(wide, cv2.CV_32F, 0, 1)
    scale = 0.5 * width / max(1e-6, float(np.abs(gx).max()), float(np.abs(gy).max()))
    rgb = displace(surface.rgb, gx * scale, gy * scale) if rng.random() < 0.6 else surface.rgb
    base = mean_colour(surface, gap)
    amount = contrast(rng, surface, gap, gain, 0.15, 0.6)
    nx, ny = np.sin(heading), -np.cos(heading)
    beside = shift(gap, 0.45 * width * nx, 0.45 * width * ny)
    lip = np.clip(beside - gap, 0, 1) * surface.region
    inner = tint(rng, base, amount, dark=0.85, chroma=0.15)
    rgb = mix(rgb, inner, gap * (0.8 + 0.2 * np.clip(noise(rng, size, 6), -1, 1)))
    rgb = soak(rgb, base, tint(rng, base, 0.5 * amount, dark=0.2, chroma=0.1), lip)
    return rgb, np.maximum(gap, lip)


def thread(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A foreign hair, thread or fibre on the surface, with a soft shadow and sometimes fuzz."""
    size, side = surface.rgb.shape[0], extent(surface)
    width = px(surface, log_uniform(rng, 0.8, 5.0))
    alpha = np.zeros((size, size), np.float32)
    for _ in range(1 if rng.random() < 0.75 else int(rng.integers(2, 5))):
        line = walk(
            rng,
            place(rng, surface, 4),
            side * log_uniform(rng, 0.15, 1.0),
            rng.uniform(0, 6.3),
            rng.uniform(0.5, 3.0),
            0.02,
            60,
        )
        alpha = np.maximum(alpha, stroke(size, line, width))
        for at in rng.integers(2, 58, int(rng.integers(0, 12)) if rng.random() < 0.3 else 0):
            hair = walk(
                rng, tuple(line[at]), rng.uniform(2, 5) * width, rng.uniform(0, 6.3), 0.6, 0.1, 10
            )
            alpha = np.maximum(alpha, 0.7 * stroke(size, hair, 0.7))
    alpha *= surface.region
    base = mean_colour(surface, alpha)
    colour = tint(rng, base, contrast(rng, surface, alpha, gain, 0.1, 0.6), dark=0.5, chroma=0.6)
    drop = rng.uniform(0.3, 1.2, 2) * width
    shadow = blur(
        cv2.warpAffine(
            alpha, np.array([[1, 0, drop[0]], [0, 1, drop[1]]], np.float32), (size, size)
        ),
        width * 0.6,
    )
    rgb = surface.rgb * (1 - rng.uniform(0.1, 0.4) * shadow * surface.region)[..., None]
    round_off = np.clip(0.75 + 0.35 * blur(alpha, width * 0.4), 0, 1.15)
    return mix(rgb, colour * round_off[..., None], alpha), alpha


def fold(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A crease or wrinkle: a ridge with a lit and a shaded flank that pulls the texture along."""
    size, side = surface.rgb.shape[0], extent(surface)
    width = px(surface, log_uniform(rng, 3, 16))
    alpha = np.zeros((size, size), np.float32)
    heading = rng.uniform(0, np.pi)
    home = place(rng, surface, px(surface, 6))
    for _ in range(1 if rng.random() < 0.6 else int(rng.integers(2, 5))):
        near = (home[0] + rng.normal() * 2 * width, home[1] + rng.normal() * 2 * width)
        line = walk(
            rng, near, side * log_uniform(rng, 0.15, 0.8), heading + 0.2 * rng.normal(), 0.4, 0.03
        )
        alpha = np.maximum(alpha, stroke(size, line, taper(len(line), width)))
    ridge = blur(alpha, width * 0.35) * surface.region
    amount = contrast(rng, surface, alpha * surface.region, gain, 0.12, 0.6)
    pull = width * rng.uniform(0.2, 0.8)
    gx, gy = cv2.Sobel(ridge, cv2.CV_32F, 1, 0), cv2.Sobel(ridge, cv2.CV_32F, 0, 1)
    peak = max(1e-6, float(np.abs(gx).max()), float(np.abs(gy).max()))
    rgb = displace(surface.rgb, gx * (pull / peak), gy * (pull / peak))
    return relief(rgb, ridge * width, rng, amount), np.minimum(1, ridge * 2)


def roughness(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """An abraded patch: a cloud of fine strokes or grit over flattened or roughened texture."""
    size, side = surface.rgb.shape[0], extent(surface)
    where = blob(
        rng,
        surface,
        place(rng, surface),
        side * log_uniform(rng, 0.04, 0.3),
        wobble=0.35,
        ragged=rng.uniform(0, 1),
        soft=px(surface, log_uniform(rng, 0.8, 12)),
    )
    base = mean_colour(surface, where)
    amount = contrast(rng, surface, where, gain, 0.05, 0.24)
    angle = rng.uniform(0, 180)
    if rng.random() < 0.5:
        grit = noise(rng, size, px(surface, log_uniform(rng, 1.2, 5)), 2)
    else:
        length = int(max(5, px(surface, rng.uniform(6, 30)))) | 1
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1.0 / length
        turn = turning((length / 2 - 0.5, length / 2 - 0.5), angle, 1)
        kernel = np.asarray(warp(kernel, turn), np.float32)
        raw = rng.standard_normal((size, size), dtype=np.float32)
        grit = np.asarray(cv2.filter2D(raw, -1, kernel), np.float32)
        grit = grit / (float(grit.std()) + 1e-6)
        grit = np.maximum(grit, 0) if rng.random() < 0.5 else grit
    keep = rng.uniform(0, 1)
    flat = blur(surface.rgb, px(surface, 3)) * (1 - keep) + surface.rgb * keep
    step = (tint(rng, base, amount, dark=0.4, chroma=0.1) - base) * rng.uniform(0.0, 0.7)
    worn = flat + step + amount * 0.7 * grit[..., None]
    return mix(surface.rgb, np.clip(worn, 0, 1), where), where


def fray(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """Chewed edge or strip: short fibres and splinters around a line, often at the outline."""
    size, side = surface.rgb.shape[0], extent(surface)
    at_edge = rng.random() < 0.6
    start = place(rng, surface, edge=at_edge)
    line = walk(rng, start, side * log_uniform(rng, 0.1, 0.6), rng.uniform(0, 6.3), 0.4, 0.05)
    spread = px(surface, log_uniform(rng, 4, 22))
    light, dark = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    main = rng.uniform(0, 6.3)
    for at in rng.integers(0, len(line), int(rng.integers(12, 40))):
        spot = line[at] + rng.normal(0, 0.4 * spread, 2)
        hair = walk(
            rng,
            tuple(spot),
            spread * rng.uniform(0.4, 1.6),
            main + 0.5 * rng.normal(),
            0.6,
            0.1,
            12,
        )
        target = light if rng.random() < 0.55 else dark
        np.maximum(
            target, stroke(size, hair, taper(12, px(surface, rng.uniform(0.8, 3)))), out=target
        )
    band = blur(stroke(size, line, taper(len(line), 1.6 * spread)), 0.2 * spread)
    base = mean_colour(surface, band * surface.region)
    amount = contrast(rng, surface, band * surface.region, gain, 0.1, 0.5)
    rgb = mix(
        surface.rgb,
        base + rng.uniform(-0.5, 0.3) * amount + 0.15 * amount * noise(rng, size, 5, 2)[..., None],
        0.6 * band * surface.region,
    )
    rgb = mix(rgb, np.clip(base + amount, 0, 1), light * surface.region)
    rgb = mix(rgb, np.clip(base - amount, 0, 1), dark * surface.region)
    support = np.maximum(np.maximum(light, dark), band) * surface.region
    return rgb, support


def misprint(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """Print gone wrong: smeared ink, a ghost of the texture, or strokes where none belong."""
    size, side = surface.rgb.shape[0], extent(surface)
    centre = place(rng, surface, px(surface, 10))
    kind = rng.integers(3)
    if kind == 0:  # smear: the surface dragged sideways
        where = blob(
            rng,
            surface,
            centre,
            side * log_uniform(rng, 0.05, 0.25),
            wobble=0.2,
            soft=px(surface, 2),
        )
        length = int(px(surface, rng.uniform(8, 40))) | 1
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2] = 1.0 / length
        turn = turning((length // 2, length // 2), rng.uniform(0, 180), 1)
        kernel = warp(kernel, turn)
        smear = cv2.filter2D(surface.rgb, -1, kernel / max(1e-6, float(kernel.sum())))
        base = mean_colour(surface, where)
        amount = contrast(rng, surface, where, gain, 0.05, 0.35)
        return mix(
            surface.rgb, np.clip(smear + (tint(rng, base, amount) - base) * 0.6, 0, 1), where
        ), where
    ink = np.zeros((size, size), np.uint8)
    alpha: Array
    if kind == 1:  # a word or number that does not belong
        letters = "".join(rng.choice(list("ABCDEFHKLNRSTXZ0123456789"), int(rng.integers(1, 5))))
        scale = px(surface, rng.uniform(0.4, 1.6))
        cv2.putText(
            ink,
            letters,
            (int(centre[0] - 10 * scale * len(letters)), int(centre[1] + 10 * scale)),
            int(rng.choice([0, 1, 2, 3, 4, 6, 7])),
            scale,
            255,
            max(1, round(scale * 2)),
            cv2.LINE_AA,
        )
        turn = turning(centre, float(rng.uniform(-180, 180)), 1)
        alpha = warp(ink, turn).astype(np.float32) / 255
        alpha = alpha * np.clip(0.8 + 0.5 * noise(rng, size, px(surface, 8), 2), 0, 1)
    else:  # scribbled strokes of a pen
        alpha = np.zeros((size, size), np.float32)
        width = px(surface, log_uniform(rng, 1.2, 7))
        for _ in range(int(rng.integers(1, 4))):
            line = walk(
                rng,
                (centre[0] + rng.normal() * 0.05 * side, centre[1] + rng.normal() * 0.05 * side),
                side * log_uniform(rng, 0.08, 0.5),
                rng.uniform(0, 6.3),
                1.5,
                0.08,
            )
            alpha = np.maximum(alpha, stroke(size, line, width))
    alpha = blur(alpha, rng.uniform(0, 1.2)) * surface.region
    base = mean_colour(surface, alpha)
    amount = contrast(rng, surface, alpha, gain, 0.1, 0.6)
    return mix(surface.rgb, tint(rng, base, amount, dark=0.75, chroma=0.7), alpha * 0.9), alpha


def squeezed(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """Pinched material: the texture drawn towards a line, with a shaded crease where it meets."""
    size, side = surface.rgb.shape[0], extent(surface)
    reach = side * log_uniform(rng, 0.05, 0.2)
    centre, heading = place(rng, surface, reach / 2), rng.uniform(0, np.pi)
    where = blur(polygon(size, outline(rng, centre, reach, 1.8, 0.15, angle=heading)), 0.25 * reach)
    where = where * surface.region
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    nx, ny = float(-np.sin(heading)), float(np.cos(heading))
    across = ((x - centre[0]) * nx + (y - centre[1]) * ny) / reach
    pull = np.tanh(3 * across) * where * reach * rng.uniform(0.25, 0.6)
    rgb = displace(surface.rgb, pull * nx, pull * ny)
    crease = np.exp(-((across / rng.uniform(0.06, 0.3)) ** 2)).astype(np.float32) * where
    base = mean_colour(surface, where)
    amount = contrast(rng, surface, where, gain, 0.08, 0.4)
    rgb = soak(rgb, base, tint(rng, base, amount, dark=0.8, chroma=0.1), crease)
    return relief(rgb, blur(crease, 1.5) * 6, rng, 0.6 * amount), where
