"""Normal irregularities: what nobody would report, painted on good and anomalous images alike.

They are regular, sharp, repeated or geometric (print, seams, drilled holes, stitches), belong to
the light (highlights, shadow edges), or are spread over the whole surface (patina, streaks, tint).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from tiny.synthetic.defects.common import (
    Array,
    Rng,
    Surface,
    blur,
    contrast,
    extent,
    log_uniform,
    mean_colour,
    mix,
    noise,
    place,
    polygon,
    px,
    relief,
    soak,
    stroke,
    tint,
    turning,
    warp,
)

_GLYPHS = list("ABCDEFGHJKLMNPQRSTUVWXYZ0123456789-./")
_FONTS = [
    cv2.FONT_HERSHEY_SIMPLEX,
    cv2.FONT_HERSHEY_PLAIN,
    cv2.FONT_HERSHEY_DUPLEX,
    cv2.FONT_HERSHEY_COMPLEX,
]


def _turned(rng: Rng, field: Array, centre: tuple[float, float]) -> Array:
    """Turn a drawing by a multiple of 90 degrees, or a few degrees more."""
    angle = float(rng.integers(4)) * 90 + (rng.normal(0, 4) if rng.random() < 0.5 else 0.0)
    turn = turning(centre, angle, 1.0)
    return warp(field, turn)


def _words(rng: Rng, size: int, centre: tuple[float, float], height: float, lines: int) -> Array:
    """Lines of capitals and digits as opacity (S, S), `height` px a letter, about `centre`."""
    canvas = np.zeros((size, size), np.uint8)
    font, scale = int(rng.choice(_FONTS)), height / 22
    for row in range(lines):
        text = "".join(rng.choice(_GLYPHS, int(rng.integers(2, 9))))
        (width, _), _ = cv2.getTextSize(text, font, scale, 1)
        at = (int(centre[0] - width / 2), int(centre[1] + (row - lines / 2 + 0.8) * 1.6 * height))
        cv2.putText(canvas, text, at, font, scale, 255, max(1, round(height / 12)), cv2.LINE_AA)
    return canvas.astype(np.float32) / 255


def _box(centre: tuple[float, float], w: float, h: float) -> Array:
    return np.array([[-w, -h], [w, -h], [w, h], [-w, h]], np.float32) / 2 + np.asarray(
        centre, np.float32
    )


def lettering(rng: Rng, surface: Surface) -> Array:
    """Printed or engraved letters, numbers, codes."""
    size = surface.rgb.shape[0]
    centre = place(rng, surface, px(surface, 20))
    alpha = _words(rng, size, centre, px(surface, log_uniform(rng, 8, 40)), int(rng.integers(1, 4)))
    alpha = blur(_turned(rng, alpha, centre), rng.uniform(0, 0.8)) * surface.region
    amount = contrast(rng, surface, alpha, 1.0, 0.12, 0.7)
    if rng.random() < 0.3:
        return relief(surface.rgb, blur(alpha, 0.8) * 3, rng, amount)
    base = mean_colour(surface, alpha)
    return mix(surface.rgb, tint(rng, base, amount, dark=0.7, chroma=0.5), alpha)


def label(rng: Rng, surface: Surface) -> Array:
    """A glued label: a clean rectangle or disc with text, bars or a logo."""
    size, side = surface.rgb.shape[0], extent(surface)
    w, h = side * rng.uniform(0.1, 0.4), side * rng.uniform(0.06, 0.25)
    centre = place(rng, surface, min(w, h) / 2)
    card = polygon(size, _box(centre, w, h))
    if rng.random() < 0.25:
        card = np.zeros((size, size), np.float32)
        cv2.circle(card, (int(centre[0]), int(centre[1])), int(h / 2), 1.0, -1, cv2.LINE_AA)
    if rng.random() < 0.4:
        ink = np.zeros((size, size), np.float32)
        for x in np.cumsum(rng.integers(2, 7, 24)):
            if x < 0.8 * w and rng.random() < 0.6:
                ink = np.maximum(
                    ink, polygon(size, _box((centre[0] - 0.4 * w + x, centre[1]), 1.8, 0.6 * h))
                )
    else:
        ink = _words(rng, size, centre, h / 4, int(rng.integers(1, 3)))
    card, ink = _turned(rng, card, centre) * surface.region, _turned(rng, ink, centre)
    paper = np.clip(rng.uniform(0.3, 1.0) + 0.12 * rng.standard_normal(3), 0, 1).astype(np.float32)
    print_colour = tint(rng, paper, rng.uniform(0.2, 0.7), dark=0.8, chroma=0.5)
    rgb = mix(surface.rgb, paper, card)
    return mix(rgb, print_colour, ink * card)


def grooves(rng: Rng, surface: Surface) -> Array:
    """One to eight straight, equally spaced seams or grooves across the object."""
    size = surface.rgb.shape[0]
    heading = float(rng.integers(2)) * np.pi / 2 + (
        rng.normal(0, 0.4) if rng.random() < 0.4 else 0.0
    )
    along = np.array([np.cos(heading), np.sin(heading)])
    across = np.array([-along[1], along[0]])
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, 9))
    start, gap = np.array(place(rng, surface)), px(surface, rng.uniform(12, 70))
    width = px(surface, log_uniform(rng, 1, 8))
    alpha = np.zeros((size, size), np.float32)
    for i in range(count):
        ends = (
            start
            + across * gap * (i - count // 2)
            + along * np.linspace(-1.5, 1.5, 4)[:, None] * size
        )
        alpha = np.maximum(alpha, stroke(size, ends, width))
    alpha = blur(alpha, rng.uniform(0.2, 1.2)) * surface.region
    amount = contrast(rng, surface, alpha, 1.0, 0.08, 0.5)
    if rng.random() < 0.4:
        return relief(surface.rgb, blur(alpha, 1.0) * width, rng, amount)
    base = mean_colour(surface, alpha)
    return soak(surface.rgb, base, tint(rng, base, amount, dark=0.7, chroma=0.15), alpha)


def highlights(rng: Rng, surface: Surface) -> Array:
    """Reflections of lamps: soft bright bars or spots, whiter in the middle."""
    size, side = surface.rgb.shape[0], extent(surface)
    glow = np.zeros((size, size), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        centre, heading = place(rng, surface), rng.uniform(0, np.pi)
        if rng.random() < 0.5:
            half = side * rng.uniform(0.05, 0.5) * np.array([np.cos(heading), np.sin(heading)])
            spot = stroke(
                size,
                np.stack([centre - half, np.array(centre), centre + half]),
                side * log_uniform(rng, 0.01, 0.12),
            )
        else:
            turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
            r = side * log_uniform(rng, 0.01, 0.12)
            ring = np.stack([np.cos(turn) * r, np.sin(turn) * r * rng.uniform(0.4, 1)], 1)
            spot = polygon(size, ring + centre)
        glow = np.maximum(glow, spot)
    glow = blur(glow, side * log_uniform(rng, 0.005, 0.06)) * surface.region
    return np.clip(surface.rgb + (rng.uniform(0.15, 0.8) * glow)[..., None], 0, 1)


def drilled(rng: Rng, surface: Surface) -> Array:
    """A row, grid or ring of equal round holes or studs."""
    size, side = surface.rgb.shape[0], extent(surface)
    r, gap = px(surface, log_uniform(rng, 2, 12)), px(surface, rng.uniform(24, 80))
    centre, heading = np.array(place(rng, surface, 8)), rng.uniform(0, np.pi) * (rng.random() < 0.5)
    if rng.random() < 0.3:
        turn = np.linspace(0, 2 * np.pi, int(rng.integers(3, 10)), endpoint=False)
        spots = centre + side * rng.uniform(0.08, 0.3) * np.stack([np.cos(turn), np.sin(turn)], 1)
    else:
        nx, ny = int(rng.integers(2, 8)), int(rng.integers(1, 5))
        grid = np.stack(np.meshgrid(np.arange(nx) - (nx - 1) / 2, np.arange(ny) - (ny - 1) / 2), -1)
        c, s = np.cos(heading), np.sin(heading)
        spots = centre + gap * grid.reshape(-1, 2) @ np.array([[c, s], [-s, c]])
    disc = np.zeros((size, size), np.uint8)
    for x, y in spots:
        cv2.circle(disc, (int(x * 16), int(y * 16)), int(r * 16), 255, -1, cv2.LINE_AA, 4)
    alpha = disc.astype(np.float32) / 255 * surface.region
    base = mean_colour(surface, alpha)
    amount = contrast(rng, surface, alpha, 1.0, 0.15, 0.6)
    rgb = mix(
        surface.rgb, tint(rng, base, amount, dark=0.85, chroma=0.1), alpha * rng.uniform(0.5, 1)
    )
    return relief(rgb, blur(alpha, 1.0) * r, rng, rng.uniform(0.05, 0.5))


def shadow_edge(rng: Rng, surface: Surface) -> Array:
    """A straight, soft or sharp shadow across the picture."""
    size = surface.rgb.shape[0]
    heading, (cx, cy) = rng.uniform(0, 2 * np.pi), place(rng, surface)
    axis = np.arange(size, dtype=np.float32)
    beyond = (axis[None, :] - cx) * np.float32(np.cos(heading)) + (axis[:, None] - cy) * np.float32(
        np.sin(heading)
    )
    shade = np.clip(beyond / px(surface, log_uniform(rng, 2, 90)) + 0.5, 0, 1)
    return np.asarray(surface.rgb * (1 - rng.uniform(0.08, 0.5) * shade)[..., None], np.float32)


def stitches(rng: Rng, surface: Surface) -> Array:
    """A seam of equal stitches along a straight or gently bent line."""
    size, side = surface.rgb.shape[0], extent(surface)
    heading, bend = rng.uniform(0, np.pi), rng.normal(0, 0.15)
    t = np.linspace(-0.8, 0.8, 200) * side
    x, y = t, bend * t**2 / side
    c, s = np.cos(heading), np.sin(heading)
    line = np.stack([c * x - s * y, s * x + c * y], 1) + place(rng, surface)
    period, width = int(rng.integers(4, 10)), px(surface, rng.uniform(1.5, 4))
    alpha = np.zeros((size, size), np.float32)
    for i in range(0, len(line) - period, period):
        alpha = np.maximum(alpha, stroke(size, line[i : i + max(3, period - 2)], width))
    alpha *= surface.region
    base = mean_colour(surface, alpha)
    amount = contrast(rng, surface, alpha, 1.0, 0.15, 0.6)
    rgb = mix(surface.rgb, tint(rng, base, amount, dark=0.5, chroma=0.5), alpha)
    return relief(rgb, blur(alpha, 0.8) * width, rng, 0.25)


def uneven_tint(rng: Rng, surface: Surface) -> Array:
    """Slow changes of brightness and hue over the whole picture."""
    size = surface.rgb.shape[0]
    slow = noise(rng, size, px(surface, rng.uniform(90, 260)), 2)
    hue = 1 + 0.3 * rng.standard_normal(3).astype(np.float32)
    return np.clip(surface.rgb * (1 + rng.uniform(0.04, 0.2) * slow[..., None] * hue), 0, 1)


def frame(rng: Rng, surface: Surface) -> Array:
    """A bar, tape or fixture along one, two or four borders of the picture."""
    size = surface.rgb.shape[0]
    rgb = surface.rgb.copy()
    tone = np.clip(rng.uniform(0, 1) + 0.05 * rng.standard_normal(3), 0, 1).astype(np.float32)
    texture = np.clip(tone * (1 + 0.06 * noise(rng, size, 6, 3)[..., None]), 0, 1)
    sides = rng.permutation(4)[: int(rng.choice([1, 2, 4]))]
    slope = rng.normal(0, 0.02) if rng.random() < 0.5 else 0.0
    for side in sides:
        width, skew = px(surface, log_uniform(rng, 3, 34)), slope * size
        bar = polygon(
            size, [(-2, -2), (size + 2, -2), (size + 2, width + skew), (-2, width - skew)]
        )
        bar = np.rot90(blur(bar, rng.uniform(0.3, 3)), int(side))
        rgb = mix(rgb, texture, np.ascontiguousarray(bar))
    return rgb


def streaks(rng: Rng, surface: Surface) -> Array:
    """Parallel bright and dark streaks over the whole object: grinding, drawing, brushing."""
    size = surface.rgb.shape[0]
    line = blur(rng.standard_normal((1, size), dtype=np.float32), px(surface, rng.uniform(0.3, 3)))
    line = np.where(np.abs(line) > 1.2 * line.std(), line, 0.3 * line)
    field = np.repeat(line / (line.std() + 1e-6), size, 0) * (
        1 + 0.4 * noise(rng, size, px(surface, 60))
    )
    if rng.random() < 0.5:
        field = np.ascontiguousarray(field.T)
    return np.clip(
        surface.rgb + (rng.uniform(0.01, 0.05) * field * surface.region)[..., None], 0, 1
    )


def patina(rng: Rng, surface: Surface) -> Array:
    """Faint marks spread everywhere: handling, dust and soft clouds that belong to the surface."""
    size = surface.rgb.shape[0]
    clouds = noise(rng, size, px(surface, rng.uniform(20, 60)), 4)
    ridges = np.exp(-((noise(rng, size, px(surface, rng.uniform(30, 80)), 2) / 0.06) ** 2))
    field = rng.uniform(0.005, 0.03) * clouds - rng.uniform(0, 0.04) * ridges * (rng.random() < 0.5)
    if rng.random() < 0.5:
        dots = (rng.random((size, size), dtype=np.float32) < rng.uniform(0.0002, 0.003)).astype(
            np.float32
        )
        dots = blur(dots, rng.uniform(0.5, 1.0))
        field = field + rng.choice([-1, 1]) * rng.uniform(0.05, 0.25) * dots / (dots.max() + 1e-6)
    return np.clip(surface.rgb + np.asarray(field * surface.region, np.float32)[..., None], 0, 1)


def logo(rng: Rng, surface: Surface) -> Array:
    """A geometric emblem: rings, bars, stars, with sharp edges."""
    size, side = surface.rgb.shape[0], extent(surface)
    r = side * rng.uniform(0.04, 0.16)
    centre = place(rng, surface, r)
    at = (int(centre[0] * 16), int(centre[1] * 16))
    ink = np.zeros((size, size), np.uint8)
    style = rng.integers(4)
    if style == 0:
        cv2.circle(ink, at, int(r * 16), 255, max(1, int(0.2 * r)), cv2.LINE_AA, 4)
        cv2.circle(ink, at, int(r * 7), 255, -1, cv2.LINE_AA, 4)
    elif style == 1:
        n = int(rng.integers(3, 8))
        turn = np.linspace(0, 2 * np.pi, 2 * n, endpoint=False)
        radii = np.where(np.arange(2 * n) % 2, r, r * rng.uniform(0.35, 0.8))
        ink = (
            polygon(size, np.stack([np.cos(turn), np.sin(turn)], 1) * radii[:, None] + centre) * 255
        ).astype(np.uint8)
    elif style == 2:
        for i in range(int(rng.integers(2, 6))):
            bar = _box((centre[0], centre[1] + (i - 2) * 0.5 * r), r * 2, 0.25 * r)
            ink = np.maximum(ink, (polygon(size, bar) * 255).astype(np.uint8))
    else:
        turn = np.linspace(0, 2 * np.pi, int(rng.integers(3, 7)), endpoint=False)
        outer = np.stack([np.cos(turn), np.sin(turn)], 1)
        ink = np.clip(
            polygon(size, outer * r + centre) - polygon(size, outer * r * 0.7 + centre), 0, 1
        )
        ink = (ink * 255).astype(np.uint8)
    alpha = ink.astype(np.float32) / 255 * surface.region
    base = mean_colour(surface, alpha)
    return mix(
        surface.rgb,
        tint(rng, base, contrast(rng, surface, alpha, 1.0, 0.15, 0.6), chroma=0.8),
        alpha,
    )


HARD_NORMALS: dict[str, Callable[[Rng, Surface], Array]] = {
    "drilled": drilled,
    "frame": frame,
    "grooves": grooves,
    "highlights": highlights,
    "label": label,
    "lettering": lettering,
    "logo": logo,
    "patina": patina,
    "shadow_edge": shadow_edge,
    "stitches": stitches,
    "streaks": streaks,
    "uneven_tint": uneven_tint,
}
"""name -> normal(rng, surface) -> rgb float32 (S, S, 3) in [0, 1]; no mask: it is no defect."""
