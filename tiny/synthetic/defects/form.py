"""Defects of form: hole, pinholes, missing, broken, bent, misplaced and dent."""

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
    spread,
    tint,
    turning,
    warp,
)
from tiny.synthetic.defects.painting import backdrop


def hole(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A blowhole or puncture, from 3 px up: dark inside, shaded wall, a lit crescent on the rim."""
    size, side = surface.rgb.shape[0], extent(surface)
    radius = max(px(surface, 1.6), side * log_uniform(rng, 0.006, 0.09))
    centre = place(rng, surface, min(radius, 8))
    shape = outline(rng, centre, radius, log_uniform(rng, 1, 3.5), rng.uniform(0.02, 0.25))
    alpha = blur(polygon(size, shape), min(0.9, 0.12 * radius + 0.3)) * surface.region
    base = mean_colour(surface, alpha)
    amount = contrast(rng, surface, alpha, gain, 0.12, 0.6)
    light = rng.uniform(0, 2 * np.pi)
    move = np.array([np.cos(light), np.sin(light)]) * max(0.9, 0.3 * radius)
    shifted = cv2.warpAffine(
        alpha, np.array([[1, 0, move[0]], [0, 1, move[1]]], np.float32), (size, size)
    )
    rim = np.clip(shifted - alpha, 0, 1) * surface.region * rng.uniform(0, 1)
    wall = np.clip(alpha - shifted, 0, 1)
    rgb = mix(surface.rgb, tint(rng, base, amount, dark=0.93, chroma=0.1), alpha)
    rgb = soak(rgb, base, np.clip(base - 0.5 * amount, 0, 1), 0.6 * wall)
    rgb = soak(rgb, base, np.clip(base + 0.6 * amount, 0, 1), rim)
    return rgb, np.maximum(alpha, 0.5 * rim)


def pinholes(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A cluster or row of two to thirty tiny pits, mostly dark."""
    size, side = surface.rgb.shape[0], extent(surface)
    centre, spread = place(rng, surface, px(surface, 5)), side * log_uniform(rng, 0.03, 0.25)
    alpha = np.zeros((size, size), np.float32)
    squash, heading = rng.uniform(0.1, 1), rng.uniform(0, np.pi)
    for _ in range(int(rng.integers(2, 31))):
        along, across = rng.normal(0, spread), rng.normal(0, spread) * squash
        near = (
            centre[0] + along * np.cos(heading) - across * np.sin(heading),
            centre[1] + along * np.sin(heading) + across * np.cos(heading),
        )
        dot = outline(
            rng, near, px(surface, log_uniform(rng, 1.0, 4.5)), rng.uniform(1, 1.8), 0.1, 16
        )
        alpha = np.maximum(alpha, polygon(size, dot))
    alpha = blur(alpha, rng.uniform(0.3, 0.8)) * surface.region
    base = mean_colour(surface, alpha)
    amount = contrast(rng, surface, alpha, gain, 0.12, 0.6)
    rgb = mix(surface.rgb, tint(rng, base, amount, dark=0.85, chroma=0.1), alpha)
    return relief(rgb, blur(alpha, 0.8) * 2, rng, 0.4 * amount), alpha


def missing(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A part that is not there, or a piece broken off the outline: the background shows instead."""
    size, side = surface.rgb.shape[0], extent(surface)
    labels, counts = np.unique(
        surface.parts[surface.region & (surface.parts > 0)], return_counts=True
    )
    fitting = labels[(counts > 12) & (counts < 0.3 * side**2)]
    if len(fitting) > 1 and rng.random() < 0.6:
        part = (surface.parts == rng.choice(fitting)).astype(np.float32)
        reach = px(surface, 5)
        around = cv2.dilate(part, np.ones((int(2 * reach) + 1,) * 2)) - cv2.dilate(
            part, np.ones((3, 3))
        )
        around = np.clip(around, 0, 1) * surface.region
        if surface.region.all() or float((around * (surface.parts != 0)).sum()) > 0.6 * float(
            around.sum()
        ):
            ground = mean_colour(surface, around)
            ground = tint(rng, ground, 0.12 * gain, dark=0.8, chroma=0.2)
            behind = np.clip(ground * (1 + 0.05 * noise(rng, size, 8, 4)[..., None]), 0, 1)
        else:
            behind = _around(surface, part)
        alpha = blur(part, 0.7)
        rgb = mix(surface.rgb, behind, alpha)
        if rng.random() < 0.4:
            inner = np.clip(
                alpha - shift(alpha, 2, 2),
                0,
                1,
            )
            rgb = rgb * (1 - 0.4 * inner)[..., None]
        return rgb, alpha
    radius = side * log_uniform(rng, 0.03, 0.22)
    centre = place(rng, surface, edge=True)
    chip = blob(
        rng,
        surface,
        centre,
        radius,
        wobble=0.25,
        ragged=0.4 * float(rng.random() < 0.5),
        soft=0.8,
        cell=max(3, 0.3 * radius),
    )
    behind = backdrop(rng, surface)
    rgb = mix(surface.rgb, behind, chip)
    rim = (
        np.clip(blur(chip, max(1.0, 0.06 * radius)) * 2 - chip, 0, 1)
        * surface.region
        * (chip < 0.5)
    )
    base = mean_colour(surface, rim)
    if rng.random() < 0.7:
        rgb = soak(rgb, base, tint(rng, base, 0.2, dark=0.4, chroma=0.1), rim)
    return rgb, np.maximum(chip, 0.45 * rim)


def _around(surface: Surface, part: Array) -> Array:
    """The surface beside a part spread over it, as normalised blur (S, S, 3)."""
    keep = 1 - cv2.dilate(part, np.ones((5, 5)))
    reach = max(4.0, float(np.sqrt(part.sum())) / 4)
    weight = blur(keep, reach)[..., None] + 1e-3
    mean = np.array(cv2.mean(surface.rgb, keep.astype(np.uint8))[:3], np.float32)
    return np.asarray(
        (blur(surface.rgb * keep[..., None], reach) + 1e-3 * mean) / weight, np.float32
    )


def broken(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A spalled corner or edge: a fracture face of bright and dark facets, partly broken away."""
    size, side = surface.rgb.shape[0], extent(surface)
    radius = max(px(surface, 4), side * log_uniform(rng, 0.025, 0.16))
    centre = place(rng, surface, edge=rng.random() < 0.85)
    face = blob(
        rng,
        surface,
        centre,
        radius,
        wobble=0.35,
        soft=0.7,
        ragged=0.5 * float(rng.random() < 0.4),
        cell=max(3, 0.4 * radius),
    )
    facets = noise(rng, size, max(3, radius * rng.uniform(0.3, 0.9)), 3)
    base = mean_colour(surface, face)
    amount = contrast(rng, surface, face, gain, 0.12, 0.5)
    steps = np.round(facets * 1.5) / 1.5 if rng.random() < 0.5 else facets
    colour = tint(rng, base, 0.5 * amount, dark=0.5, chroma=0.1)
    fracture = colour + (0.4 * amount * steps)[..., None] + 0.04 * noise(rng, size, 2, 2)[..., None]
    rgb = mix(surface.rgb, np.clip(fracture, 0, 1), face)
    rim = np.clip(blur(face, 1.2) * 2 - face, 0, 1) * (face < 0.5) * surface.region
    rgb = soak(rgb, base, tint(rng, base, amount, dark=0.6, chroma=0.05), rim)
    if rng.random() < 0.35:
        gone = face * np.clip((facets + 0.2) * 5, 0, 1) * (blur(face, 0.4 * radius) < 0.55)
        rgb = mix(rgb, backdrop(rng, surface), gone)
    return rgb, face


def bent(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """Material pushed out of place inside a patch: bent pins, warped weave, a bulged outline."""
    size, side = surface.rgb.shape[0], extent(surface)
    reach = side * log_uniform(rng, 0.06, 0.25)
    edge = not surface.region.all() and rng.random() < 0.6
    where = polygon(
        size, outline(rng, place(rng, surface, edge=edge), reach, log_uniform(rng, 1, 2), 0.15)
    )
    where = blur(where, 0.3 * reach)
    heading = rng.uniform(0, 2 * np.pi)
    push = gain * reach * rng.uniform(0.25, 0.8)
    wave = 0.35 * noise(rng, size, reach) if rng.random() < 0.5 else 0.0
    dx, dy = push * where * (np.cos(heading) + wave), push * where * (np.sin(heading) + wave)
    rgb = displace(surface.rgb, dx, dy)
    if not surface.region.all():  # the ground stays where it is
        body = displace(spread(surface.region.astype(np.float32)), dx, dy)[..., 0]
        moved = np.maximum(surface.region, body)
        rgb, where = mix(surface.rgb, rgb, moved), where * moved
    change = np.abs(rgb - surface.rgb)[..., 1]
    if float(np.quantile(change[where > 0.5], 0.8) if (where > 0.5).any() else 0) < 0.06:
        base = mean_colour(surface, where)
        rgb = relief(rgb, where * reach, rng, contrast(rng, surface, where, gain, 0.06, 0.25))
        rgb = soak(
            rgb, base, tint(rng, base, 0.05 * gain, dark=0.6, chroma=0.1), where * surface.region
        )
    return rgb, np.minimum(1, 1.4 * where) * (where > 0.08)


def misplaced(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A part or patch in the wrong place, shifted or turned; its old place shows the ground."""
    size, side = surface.rgb.shape[0], extent(surface)
    labels, counts = np.unique(
        surface.parts[surface.region & (surface.parts > 0)], return_counts=True
    )
    fitting = labels[(counts > 20) & (counts < 0.25 * side**2)]
    if len(fitting) > 1 and rng.random() < 0.65:
        part = (surface.parts == rng.choice(fitting)).astype(np.float32)
        y, x = np.nonzero(part)
        centre, length = (
            (float(x.mean()), float(y.mean())),
            float(np.hypot(np.ptp(x), np.ptp(y))) + 1,
        )
        turn = turning(centre, float(rng.normal(0, 25) if rng.random() < 0.8 else 180), 1.0)
        turn[:, 2] += rng.normal(0, 0.18 * length * min(gain, 1.5), 2)
        rgb = mix(surface.rgb, _around(surface, part), blur(part, 0.7))
        moved = warp(surface.rgb, turn)
        alpha = blur(warp(part, turn), 0.5)
        return mix(rgb, moved, alpha), np.maximum(part, alpha)
    w, h = side * log_uniform(rng, 0.05, 0.25), side * log_uniform(rng, 0.05, 0.25)
    centre = place(rng, surface, min(w, h) / 2)
    box = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) / 2
    angle = rng.uniform(0, np.pi) if rng.random() < 0.5 else 0.0
    spin = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    frame = polygon(size, box @ spin.T + centre)
    if rng.random() < 0.4:
        frame = polygon(size, outline(rng, centre, max(w, h) / 2, 1.3, 0.2))
    alpha = blur(frame, 0.8) * surface.region
    turn = turning(centre, float(rng.choice([90, 180, 270, rng.uniform(10, 170)])), 1.0)
    other = place(rng, surface, min(w, h) / 2)
    turn[:, 2] += 0.7 * (np.array(centre) - other)
    moved = warp(surface.rgb, turn)
    rgb = mix(surface.rgb, moved, alpha)
    inside = alpha > 0.5
    if inside.any() and float(np.abs(rgb - surface.rgb)[..., 1][inside].mean()) < 0.06:
        base = mean_colour(surface, alpha)
        rgb = soak(rgb, base, tint(rng, base, 0.08 * gain, chroma=0.3), alpha)
        rim = np.clip(4 * blur(frame, 1.2) * (1 - blur(frame, 1.2)), 0, 1) * surface.region
        rgb = rgb * (1 - 0.3 * rim)[..., None]
    return rgb, alpha


def dent(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
    """A shallow dent or bump: only its shading shows, bright on one side and dark on the other."""
    size, side = surface.rgb.shape[0], extent(surface)
    radius = max(px(surface, 4), side * log_uniform(rng, 0.02, 0.18))
    centre = place(rng, surface, min(radius / 2, 10))
    shape = (
        polygon(size, outline(rng, centre, radius, log_uniform(rng, 1, 2.5), 0.15)) * surface.region
    )
    bowl = blur(shape, radius * rng.uniform(0.12, 0.4))
    amount = contrast(rng, surface, shape, gain, 0.07, 0.4)
    rgb = surface.rgb
    if rng.random() < 0.5:
        gx, gy = cv2.Sobel(bowl, cv2.CV_32F, 1, 0), cv2.Sobel(bowl, cv2.CV_32F, 0, 1)
        scale = 0.12 * radius / max(1e-6, float(np.abs(gx).max()), float(np.abs(gy).max()))
        rgb = displace(rgb, gx * scale, gy * scale)
    rgb = relief(rgb, bowl * radius, rng, amount)
    if rng.random() < 0.5:
        base = mean_colour(surface, shape)
        rgb = soak(
            rgb, base, tint(rng, base, 0.35 * amount, dark=0.7, chroma=0.05), bowl * surface.region
        )
    return mix(surface.rgb, np.clip(rgb, 0, 1), surface.region.astype(np.float32)), shape
