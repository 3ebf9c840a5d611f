"""Outlines of objects: arrays of points (n, 2) in the object's own coordinates, roughly -1 to 1."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tiny.synthetic.noise import Rng

Outline = NDArray[np.float64]


@lru_cache(maxsize=64)
def _circle(points: int) -> Outline:
    theta = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([np.cos(theta), np.sin(theta)], -1)


def ellipse(
    rx: float = 1.0,
    ry: float | None = None,
    power: float = 2.0,
    points: int = 72,
    x: float = 0.0,
    y: float = 0.0,
) -> Outline:
    """A superellipse (Lamé curve) around (x, y): ``(points, 2)``."""
    unit = _circle(points)
    if power != 2.0:
        unit = np.sign(unit) * np.abs(unit) ** (2.0 / power)
    return np.asarray(unit * (rx, rx if ry is None else ry) + (x, y))


def rectangle(w: float, h: float, x: float = 0.0, y: float = 0.0, radius: float = 0.0) -> Outline:
    """A rectangle of half sides ``w`` and ``h`` around (x, y), with rounded corners if asked."""
    r = min(radius, w, h)
    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], float)
    if r <= 0:
        return np.asarray(corners * (w, h) + (x, y))
    arcs = []
    for index, corner in enumerate(corners):
        theta = np.pi / 2 * index + np.linspace(0, np.pi / 2, 6)
        arcs.append(corner * (w - r, h - r) + r * np.stack([np.cos(theta), np.sin(theta)], -1))
    return np.asarray(np.concatenate(arcs) + np.array([x, y]))


def polygon(
    sides: int, radius: float = 1.0, x: float = 0.0, y: float = 0.0, angle: float = 0.0
) -> Outline:
    """A regular polygon with corners at ``radius``."""
    theta = angle + np.arange(sides) * 2 * np.pi / sides
    return np.stack([x + radius * np.cos(theta), y + radius * np.sin(theta)], -1)


def wavy(rng: Rng, outline: Outline, amount: float, lowest: int = 2, highest: int = 7) -> Outline:
    """The outline with its radius modulated smoothly by about ``amount`` (relative)."""
    theta = np.arctan2(outline[:, 1], outline[:, 0])
    wobble = np.zeros(len(outline))
    for k in range(lowest, highest):
        wobble += rng.normal() / k * np.cos(k * theta + rng.uniform(0, 2 * np.pi))
    return np.asarray(outline * (1 + amount * wobble)[:, None])


def toothed(
    teeth: int, root: float, tip: float = 1.0, duty: float = 0.5, slope: float = 0.3
) -> Outline:
    """A gear-like outline: ``teeth`` trapezoids between the radii ``root`` and ``tip``."""
    half, edge = duty / 2, slope * min(duty, 1 - duty) / 2
    step = np.array([-half - edge, -half + edge, half - edge, half + edge])
    theta = (np.arange(teeth)[:, None] + step).ravel() * 2 * np.pi / teeth
    r = np.tile([root, tip, tip, root], teeth)
    return np.stack([r * np.cos(theta), r * np.sin(theta)], -1)


def ribbon(path: Outline, width: ArrayLike) -> Outline:
    """The outline of a band of half width ``width`` (number or one a point) along a path."""
    along = np.gradient(path, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], -1)
    normal /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    half = np.broadcast_to(np.asarray(width, float), len(path))[:, None]
    return np.concatenate([path + normal * half, (path - normal * half)[::-1]])


def sausage(path: Outline, radius: float) -> Outline:
    """The outline of a round-ended tube of one radius along a path."""

    def cap(point: Outline, direction: Outline) -> Outline:
        start = np.arctan2(direction[1], direction[0]) + np.pi / 2
        theta = start - np.linspace(0, np.pi, 10)
        return np.asarray(point + radius * np.stack([np.cos(theta), np.sin(theta)], -1))

    sides = ribbon(path, radius)
    half = len(path)
    return np.concatenate(
        [
            sides[:half],
            cap(path[-1], path[-1] - path[-2]),
            sides[half:],
            cap(path[0], path[0] - path[1]),
        ]
    )


def moved(
    outline: Outline, x: float = 0.0, y: float = 0.0, angle: float = 0.0, scale: float = 1.0
) -> Outline:
    """The outline scaled, then turned by ``angle``, then shifted."""
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    return np.asarray(outline @ np.array([[c, s], [-s, c]]) + (x, y))


def put(outline: Outline, at: ArrayLike, angle: float = 0.0, scale: float = 1.0) -> Outline:
    """The outline scaled and turned, with its origin at the point ``at``."""
    x, y = np.asarray(at, float)
    return moved(outline, float(x), float(y), angle, scale)


def copies(outline: Outline, places: ArrayLike) -> list[Outline]:
    """The same outline at each of ``places`` ``(n, 2)``."""
    return list(outline[None] + np.asarray(places, float)[:, None])
