"""Area defects: stain, colour, contamination, burn, corrosion, glue, bubble, uneven."""

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
    soak,
    stroke,
    tint,
    walk,
)


def stain(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A spot of dried or soaked liquid: soft or hard edge, sometimes a dark rim or satellites."""
    size, side = surface.rgb.shape[0], extent(surface)
    radius = max(px(surface, 2.0), side * log_uniform(rng, 0.012, 0.28))
    centre = place(rng, surface, min(radius / 3, 12))
    soft = 0.7 if rng.random() < 0.4 else radius * log_uniform(rng, 0.05, 0.5)
    where = blob(
        rng,
        surface,
        centre,
        radius,
        wobble=rng.uniform(0.05, 0.5),
        ragged=rng.choice([0.0, 0.0, 0.6]),
        soft=soft,
    )
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(1, 7))):
            near = (
                centre[0] + rng.normal() * 1.6 * radius,
                centre[1] + rng.normal() * 1.6 * radius,
            )
            where = np.maximum(
                where,
                blob(rng, surface, near, radius * rng.uniform(0.06, 0.4), soft=min(soft, 1.5)),
            )
    base = mean_colour(surface, where)
    amount = contrast(rng, surface, where, gain, 0.05, 0.5)
    alpha = where * np.clip(0.85 + 0.2 * noise(rng, size, max(3, radius * 0.6), 3), 0.2, 1.1)
    if rng.random() < 0.3:
        alpha = alpha * (0.5 + 0.5 * np.clip(1.6 - blur(where, 0.3 * radius), 0, 1))
        alpha = np.clip(alpha + 0.6 * np.clip(where - blur(where, 0.1 * radius + 1), 0, 1), 0, 1)
    colour = tint(rng, base, amount, dark=0.75, chroma=0.6 if rng.random() < 0.6 else 0.1)
    rgb = (
        soak(surface.rgb, base, colour, alpha)
        if rng.random() < 0.6
        else mix(surface.rgb, colour, 0.92 * alpha)
    )
    return rgb, where


def colour(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """Wrong colour: a part or patch of another hue, a faded or darkened area, or spilled ink."""
    size, side = surface.rgb.shape[0], extent(surface)
    labels = np.unique(surface.parts[surface.parts > 0][::37])
    style = rng.random()
    if style < 0.35 and len(labels) > 1:
        where = blur((surface.parts == rng.choice(labels)) & surface.region, 0.7)
        if not 0.001 < float(where.sum()) / side**2 < 0.35:
            where = blob(
                rng, surface, place(rng, surface), side * log_uniform(rng, 0.03, 0.2), soft=1.5
            )
    else:
        where = np.zeros((size, size), np.float32)
        centre, spread = place(rng, surface), side * log_uniform(rng, 0.02, 0.2)
        for _ in range(int(rng.integers(1, 6)) if rng.random() < 0.5 else 1):
            near = (centre[0] + rng.normal() * spread, centre[1] + rng.normal() * spread)
            piece = blob(
                rng,
                surface,
                near,
                spread * rng.uniform(0.25, 1.0),
                wobble=rng.uniform(0.2, 0.6),
                ragged=rng.uniform(0, 1),
                soft=log_uniform(rng, 0.6, 5),
            )
            where = np.maximum(where, piece)
    base = mean_colour(surface, where)
    amount = contrast(rng, surface, where, gain, 0.06, 0.6)
    if rng.random() < 0.45:  # ink or paint: one saturated hue with gloss
        hue = np.array(
            [[[rng.integers(180), rng.integers(150, 256), rng.integers(60, 230)]]], np.uint8
        )
        ink = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32) / 255
        cover = np.clip(rng.uniform(0.3, 1.0) * gain, 0, 1)
        uneven = np.clip(0.9 + 0.15 * noise(rng, size, max(3, side * 0.04), 3), 0.3, 1)
        rgb = mix(surface.rgb, ink, where * cover * uneven)
        rgb = rgb + 0.12 * ((surface.rgb[..., 1] - base[1]) * where)[..., None]
        if rng.random() < 0.4:
            gloss = np.clip(noise(rng, size, max(4, side * 0.03)) - 1.6, 0, 0.5) * where
            rgb = rgb + gloss[..., None]
        return rgb, where
    target = tint(rng, base, 0.5 * amount, dark=0.5, chroma=1.6 if rng.random() < 0.7 else 0.1)
    return soak(surface.rgb, base, target, where), where


def contamination(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """Foreign particles: chips, crumbs or dust with their own colour, texture and shadow."""
    size, side = surface.rgb.shape[0], extent(surface)
    radius = max(px(surface, 1.5), side * log_uniform(rng, 0.008, 0.12))
    count = 1 if rng.random() < 0.5 else int(rng.integers(2, 14))
    centre, spread = place(rng, surface, min(radius, 10)), side * log_uniform(rng, 0.03, 0.25)
    alpha = np.zeros((size, size), np.float32)
    for i in range(count):
        near = (
            centre
            if i == 0
            else (centre[0] + rng.normal() * spread, centre[1] + rng.normal() * spread)
        )
        corners = int(rng.integers(4, 9)) if rng.random() < 0.5 else 30
        alpha = np.maximum(
            alpha,
            polygon(
                size,
                outline(
                    rng, near, radius * rng.uniform(0.4, 1.3), log_uniform(rng, 1, 3), 0.25, corners
                ),
            ),
        )
    alpha = blur(alpha, rng.uniform(0.3, 0.9)) * surface.region
    base = mean_colour(surface, alpha)
    body = tint(rng, base, contrast(rng, surface, alpha, gain, 0.08, 0.6), dark=0.5, chroma=0.7)
    drop = rng.normal(0, 0.25 * radius + 0.6, 2)
    shadow = cv2.warpAffine(
        alpha, np.array([[1, 0, drop[0]], [0, 1, drop[1]]], np.float32), (size, size)
    )
    shadow = blur(shadow, 0.2 * radius + 0.8) * surface.region * rng.uniform(0, 0.5)
    rgb = surface.rgb * (1 - shadow)[..., None]
    skin = body * (
        1
        + rng.uniform(0.02, 0.25)
        * noise(rng, size, max(2, radius * rng.uniform(0.2, 1)), 3)[..., None]
    )
    rgb = mix(rgb, np.clip(skin, 0, 1), alpha)
    if rng.random() < 0.6:
        rgb = relief(rgb, blur(alpha, 0.3 * radius + 0.6) * radius, rng, rng.uniform(0.05, 0.4))
    return rgb, alpha


def burn(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A scorched spot: dark brown or black core that fades through a brownish halo."""
    size, side = surface.rgb.shape[0], extent(surface)
    radius = side * log_uniform(rng, 0.03, 0.25)
    centre = place(rng, surface, min(radius / 3, 12))
    halo = blob(
        rng, surface, centre, radius, wobble=0.3, ragged=rng.uniform(0, 0.8), soft=0.3 * radius
    )
    core = np.clip(halo * 1.8 - 0.8 + 0.25 * noise(rng, size, 0.4 * radius, 3) * halo, 0, 1)
    base = mean_colour(surface, halo)
    amount = contrast(rng, surface, halo, gain, 0.1, 0.5)
    brown = np.clip(base * np.array([0.85, 0.68, 0.5], np.float32) - 0.2 * amount, 0, 1)
    rgb = soak(surface.rgb, base, base + (brown - base) * min(1.0, 2 * amount), halo)
    char = np.clip(base * (1 - 1.5 * amount), 0.02, 1) * np.array([1.0, 0.92, 0.85], np.float32)
    return mix(rgb, char, core * min(1.0, 0.4 + amount)), halo


def corrosion(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """Eaten patches with ragged islands: rust, verdigris or a pale bloom, pitted and speckled."""
    size, side = surface.rgb.shape[0], extent(surface)
    radius = side * log_uniform(rng, 0.05, 0.3)
    zone = blob(rng, surface, place(rng, surface), radius, wobble=0.3, soft=0.4 * radius)
    field = noise(rng, size, radius * rng.uniform(0.2, 0.8), 4)
    where = np.clip((zone * 2.2 - 1.0 + 0.8 * field * (zone > 0.05)) * 3, 0, 1) * (zone > 0.05)
    base = mean_colour(surface, where)
    amount = contrast(rng, surface, where, gain, 0.08, 0.5)
    hues = [
        (0.55, 0.27, 0.12),
        (0.35, 0.2, 0.12),
        (0.35, 0.5, 0.42),
        (0.75, 0.75, 0.72),
        (0.3, 0.3, 0.32),
    ]
    rust = np.array(hues[int(rng.integers(5))], np.float32)
    grain = 1 + 0.25 * noise(rng, size, px(surface, rng.uniform(2, 6)), 3)
    target = np.clip((base + (rust - base) * min(1.0, 1.6 * amount)) * grain[..., None], 0, 1)
    rgb = mix(surface.rgb, target, where * 0.9)
    rgb = relief(rgb, blur(where * field, 1.2) * 3, rng, 0.4 * amount)
    return rgb, where


def glue(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A translucent smear or strip of glue or oil, with glossy rims and highlights."""
    size, side = surface.rgb.shape[0], extent(surface)
    if rng.random() < 0.5:
        line = walk(
            rng,
            place(rng, surface),
            side * log_uniform(rng, 0.15, 0.8),
            rng.uniform(0, 6.3),
            0.6,
            0.04,
        )
        width = px(surface, log_uniform(rng, 5, 30)) * np.clip(
            1 + 0.25 * rng.standard_normal(8), 0.4, 1.6
        )
        where = stroke(
            size, line, np.interp(np.linspace(0, 1, len(line)), np.linspace(0, 1, 8), width)
        )
        where = blur(where, 1.0) * surface.region
    else:
        where = blob(
            rng,
            surface,
            place(rng, surface),
            side * log_uniform(rng, 0.03, 0.18),
            wobble=0.4,
            soft=1.2,
        )
    base = mean_colour(surface, where)
    amount = contrast(rng, surface, where, gain, 0.06, 0.35)
    veil = tint(rng, base, 0.5 * amount, dark=0.4, chroma=0.4)
    rgb = soak(
        surface.rgb * (1 - 0.4 * where)[..., None]
        + (0.4 * where)[..., None] * blur(surface.rgb, 2.0),
        base,
        veil,
        where,
    )
    height = blur(where, px(surface, 3)) * (6 + 1.5 * noise(rng, size, px(surface, 14)))
    rgb = relief(rgb, np.asarray(height * where, np.float32), rng, 0.9 * amount)
    gloss = np.clip(noise(rng, size, px(surface, 9)) - 1.5, 0, 0.8) * where * rng.uniform(0, 0.6)
    return rgb + gloss[..., None], where


def bubble(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """Round blisters under the surface: bright and dark crescents, sometimes a tiny highlight."""
    size, side = surface.rgb.shape[0], extent(surface)
    radius = max(px(surface, 2.5), side * log_uniform(rng, 0.012, 0.09))
    count = 1 if rng.random() < 0.4 else int(rng.integers(2, 12))
    centre, spread = place(rng, surface, min(radius, 10)), side * log_uniform(rng, 0.05, 0.2)
    dome, disc, gloss = (np.zeros((size, size), np.float32) for _ in range(3))
    for i in range(count):
        r = radius * rng.uniform(0.5, 1.2)
        near = (
            centre
            if i == 0
            else (centre[0] + rng.normal() * spread, centre[1] + rng.normal() * spread)
        )
        shape = polygon(size, outline(rng, near, r, rng.uniform(1, 1.3), 0.04))
        disc = np.maximum(disc, shape)
        dome = np.maximum(dome, blur(shape, 0.35 * r) * r)
        spot = polygon(
            size,
            outline(
                rng, (near[0] - 0.35 * r, near[1] - 0.35 * r), max(0.8, 0.15 * r), 1.2, 0.1, 12
            ),
        )
        gloss = np.maximum(gloss, spot)
    disc *= surface.region
    amount = contrast(rng, surface, disc, gain, 0.1, 0.5)
    rgb = relief(surface.rgb, np.asarray(dome * surface.region, np.float32), rng, amount)
    base = mean_colour(surface, disc)
    rgb = soak(rgb, base, tint(rng, base, 0.3 * amount, dark=0.4, chroma=0.2), disc)
    return rgb + (rng.uniform(0, 0.6) * gloss * disc)[..., None], disc


def uneven(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A large worn, wet or unevenly finished area: another tone or texture, often to the border."""
    size, side = surface.rgb.shape[0], extent(surface)
    style = rng.random()
    radius = side * log_uniform(rng, 0.1, 0.33)
    if style < 0.4:  # everything beyond a wavering line
        heading = (
            rng.uniform(0, 2 * np.pi) if rng.random() < 0.4 else float(rng.integers(4)) * np.pi / 2
        )
        cx, cy = place(rng, surface)
        y, x = np.mgrid[0:size, 0:size].astype(np.float32)
        beyond = (x - cx) * np.float32(np.cos(heading)) + (y - cy) * np.float32(np.sin(heading))
        beyond += px(surface, rng.uniform(2, 14)) * noise(
            rng, size, px(surface, rng.uniform(25, 90)), 2
        )
        where = np.clip(beyond / px(surface, log_uniform(rng, 1, 25)) + 0.5, 0, 1) * surface.region
        if where.mean() > 0.45 * surface.region.mean():
            where = surface.region - where
    elif style < 0.6:  # a crooked rectangle
        cx, cy = place(rng, surface)
        w, h = radius * rng.uniform(0.5, 1.4, 2)
        corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) * rng.uniform(0.75, 1.1, (4, 1))
        frame = np.concatenate(
            [np.linspace(corners[i], corners[(i + 1) % 4], 10, endpoint=False) for i in range(4)]
        )
        frame = frame + np.array([cx, cy]) + rng.normal(0, 0.03 * radius, frame.shape)
        where = blur(polygon(size, frame), log_uniform(rng, 0.7, 8)) * surface.region
    else:
        where = blob(
            rng,
            surface,
            place(rng, surface),
            radius,
            wobble=0.25,
            ragged=rng.uniform(0, 0.5),
            soft=log_uniform(rng, 0.7, 0.4 * radius),
        )
    base = mean_colour(surface, where)
    fine = surface.rgb - blur(surface.rgb, px(surface, 5))
    amount = contrast(rng, surface, where, gain, 0.03, 0.2)
    target = tint(rng, base, amount, dark=0.55, chroma=0.1)
    factor = rng.uniform(-0.9, 1.5) if rng.random() < 0.7 else 0.0
    rgb = soak(surface.rgb + (factor * where)[..., None] * fine, base, target, where)
    if rng.random() < 0.4:
        step = int(px(surface, 30))
        borrowed = np.roll(
            surface.rgb,
            (int(rng.integers(step, size - step)), int(rng.integers(step, size - step))),
            (0, 1),
        )
        drift = blur(borrowed, px(surface, 14))
        rgb = rgb + (0.6 * where)[..., None] * (borrowed - drift) - (0.4 * where)[..., None] * fine
    if rng.random() < 0.35:
        rim = np.clip(4 * where * (1 - where), 0, 1)
        rgb = soak(rgb, base, tint(rng, base, 0.7 * amount, dark=0.7, chroma=0.1), rim)
    return rgb, where
