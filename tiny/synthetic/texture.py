"""What texture families share: the table they are entered in, and how they draw lengths and directions.

Each family is a function of a generator and a size. Lengths are given for a 384 px image and scale
with the size. Every family varies in scale, contrast, direction, colour and in its own normal
irregularity, since a model that has seen only tidy textures calls every irregularity a defect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tiny.synthetic.noise import Field, Rng
from tiny.synthetic.surface import Labels, Mask, Surface

Texture = Callable[[Rng, int], Surface]


@dataclass
class Painted:
    """What a family's painter returns; the rest of a Surface follows from it."""

    rgb: Field
    grain: float
    name: str = ""
    parts: Labels | None = None
    region: Mask | None = None


def enter(
    table: dict[str, Texture], key: str, *names: str
) -> Callable[[Callable[[Rng, int, float], Painted]], Texture]:
    """Enter a painter ``(rng, size, unit) -> Painted`` in a table of families.

    Args:
        table: Families of one kind of material.
        key: The family's name.
        names: What sentences call it.

    Returns:
        A decorator of the painter; ``unit`` is the length of one pixel of a 384 px image.
    """

    def register(paint: Callable[[Rng, int, float], Painted]) -> Texture:
        def make(rng: Rng, size: int) -> Surface:
            painted = paint(rng, size, size / 384)
            name = painted.name or str(rng.choice(names))
            shape = (size, size)
            region = np.ones(shape, bool) if painted.region is None else painted.region
            parts = np.zeros(shape, np.int32) if painted.parts is None else painted.parts
            rgb = np.clip(painted.rgb, 0, 1).astype(np.float32, copy=False)
            return Surface(rgb, region, parts, name, key, float(painted.grain))

        make.__name__ = key
        make.__doc__ = paint.__doc__
        table[key] = make
        return make

    return register


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """Log-uniform draw."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def direction(rng: Rng, upright: float = 0.7) -> float:
    """Mostly along an image axis (with a slight tilt), otherwise any direction, in radians."""
    if rng.random() < upright:
        tilt = 0.0 if rng.random() < 0.6 else rng.normal(0, 0.03)
        return float(rng.integers(0, 2) * np.pi / 2 + tilt)
    return float(rng.uniform(0, np.pi))


def one_of(rng: Rng, *options: Any) -> Any:
    """One of the options, each as likely as the others."""
    return options[int(rng.integers(len(options)))]


def grid_cells(
    size: int, pitch_x: float, pitch_y: float, offset: float, shift: tuple[float, float]
) -> tuple[Labels, Field]:
    """Labels 0.. of a (running-bond) grid and distance in pixels to the nearest joint."""
    axis = np.arange(size, dtype=np.float32)
    v = (axis + shift[1]) / pitch_y
    row = np.floor(v)
    u = (axis[None, :] + shift[0]) / pitch_x + offset * (row[:, None] % 2)
    column = np.floor(u)
    fx, fy = u - column, v - row
    near_x = np.minimum(fx, 1 - fx) * pitch_x
    near_y = (np.minimum(fy, 1 - fy) * pitch_y)[:, None]
    width = int(size / pitch_x) + 4
    labels = (row[:, None] * width + column).astype(np.int32)
    return labels - int(labels.min()), np.asarray(np.minimum(near_x, near_y), np.float32)


def compact(labels: Labels, inside: Mask) -> Labels:
    """Renumber labels to 1..n, 0 outside."""
    values = np.zeros(int(labels.max()) + 1, np.int32)
    present = np.flatnonzero(np.bincount(labels[inside], minlength=len(values)))
    values[present] = np.arange(1, len(present) + 1)
    return np.asarray(np.where(inside, values[labels], 0), np.int32)
