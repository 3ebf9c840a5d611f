"""What objects are made of, and what lies behind them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tiny.synthetic import noise
from tiny.synthetic.noise import Field, Rng


@dataclass(frozen=True)
class Finish:
    """How a surface looks.

    Attributes:
        colour: base colour ``(3,)`` in [0, 1].
        texture: any of ``grain cast mottle brushed speckle``, with strengths of tone and bump.
        gloss: strength of the highlight.
        shine: exponent of the highlight; larger is smaller and sharper.
        ambient: fraction of the light which comes from everywhere.
        mirror: strength of reflected surroundings (polished metal, wet plastic).
    """

    colour: Field
    texture: tuple[tuple[str, float, float], ...] = ()
    gloss: float = 0.15
    shine: float = 20.0
    ambient: float = 0.4
    mirror: float = 0.0


def metal(rng: Rng, value: tuple[float, float] = (0.3, 0.75), tinted: float = 0.2) -> Finish:
    """Steel, aluminium, and sometimes brass, copper or blackened metal in a random condition."""
    shade = noise.metal_colour(rng, value)
    if rng.random() < tinted:
        shade = noise.colour(rng, (18, 50), (0.25, 0.6), (0.45, 0.85))
    kind = str(rng.choice(["brushed", "cast", "grain", "mottle"]))
    return Finish(
        shade,
        (
            (kind, rng.uniform(0.01, 0.09), rng.uniform(0, 0.25)),
            ("mottle", rng.uniform(0, 0.06), 0.0),
        ),
        rng.uniform(0.1, 0.6),
        rng.uniform(8, 60),
        rng.uniform(0.2, 0.6),
        rng.uniform(0.05, 0.5),
    )


def plastic(rng: Rng, shade: Field | None = None) -> Finish:
    """Smooth or matt plastic, rubber or paint; of a random colour (often grey) by default."""
    if shade is None:
        shade = noise.colour(
            rng, (0, 360), (0, 0.8) if rng.random() < 0.6 else (0, 0.08), (0.08, 0.95)
        )
    return Finish(
        np.asarray(shade, np.float32),
        (
            ("grain", rng.uniform(0, 0.03), rng.uniform(0, 0.08)),
            ("mottle", rng.uniform(0, 0.04), 0.0),
        ),
        rng.uniform(0.02, 0.5),
        rng.uniform(6, 80),
        rng.uniform(0.35, 0.7),
        rng.uniform(0, 0.12),
    )


def rough(rng: Rng, shade: Field, tone: float = 0.08, bump: float = 0.35) -> Finish:
    """A matt, irregular, natural surface of one colour."""
    return Finish(
        np.asarray(shade, np.float32),
        (
            ("cast", tone * rng.uniform(0.5, 1.5), bump * rng.uniform(0.4, 1.4)),
            ("mottle", tone * rng.uniform(0.5, 1.5), 0.0),
        ),
        rng.uniform(0, 0.12),
        rng.uniform(4, 16),
        rng.uniform(0.3, 0.6),
    )


def ground(rng: Rng, size: int) -> Field:
    """What lies behind an object: dark, bright, coloured, woven, brushed or mottled."""
    kind = rng.choice(
        ["dark", "bright", "plain", "woven", "brushed", "mottled", "grain"],
        p=[0.25, 0.17, 0.2, 0.06, 0.1, 0.1, 0.12],
    )
    if kind == "dark":
        shade = noise.colour(rng, (0, 360), (0, 0.3), (0.01, 0.14))
    elif kind == "bright":
        shade = noise.colour(rng, (0, 360), (0, 0.08), (0.78, 0.99))
    else:
        shade = noise.colour(
            rng, (0, 360), (0, 0.6) if rng.random() < 0.4 else (0, 0.1), (0.12, 0.9)
        )
    tone = noise.smooth(rng, size, size * rng.uniform(0.5, 1.2)) * rng.uniform(0, 0.07)
    if kind == "woven":
        pitch, x = rng.uniform(0.4, 1.6), np.arange(size, dtype=np.float32)
        weave = np.sin(x * pitch)[None] * np.sin(x * pitch * rng.uniform(0.8, 1.25))[:, None]
        tone += weave * rng.uniform(0.05, 0.15)
    elif kind == "brushed":
        tone += noise.streaks(
            rng, size, rng.uniform(30, 200), rng.uniform(1, 3), rng.uniform(0, np.pi)
        ) * rng.uniform(0.02, 0.1)
    elif kind == "mottled":
        tone += noise.fractal(rng, size, rng.uniform(10, 90), 4, 0.6) * rng.uniform(0.03, 0.14)
    elif kind == "grain":
        tone += noise.smooth(rng, size, rng.uniform(1.5, 3)) * rng.uniform(0.03, 0.12)
    return noise.tint(1 + tone, shade)
