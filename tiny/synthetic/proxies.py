"""Stand-ins for kinds of photographs that are kept for judging: images of their size, make and defects.

Four kinds, drawn from the same surfaces and defects as everything else here but framed differently: long narrow parts
with hairline cracks, small damage on large images of single objects, rough ground with thin cracks, and small
grey metal surfaces with soft defects. No training uses them. With photographs of surfaces (`real_surfaces`) the ground
is real, and only shape and defect are drawn.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tiny.synthetic import noise
from tiny.synthetic.camera import photograph
from tiny.synthetic.defects import DEFECTS, HARD_NORMALS
from tiny.synthetic.defects.common import (
    Array,
    CloseUp,
    Mask,
    Rng,
    blur,
    contrast,
    log_uniform,
    luma,
    mean_colour,
    mix,
    place,
    stroke,
    tint,
    turning,
    walk,
)
from tiny.synthetic.defects.painting import as_defect
from tiny.synthetic.objects import OBJECTS
from tiny.synthetic.real_surfaces import real_surface
from tiny.synthetic.surface import Surface
from tiny.synthetic.textures import TEXTURES
from zsas.errors import ZsasError


@dataclass(frozen=True)
class Proxy:
    """One image of a kind.

    Attributes:
        image: uint8 RGB (H, W, 3).
        mask: bool (H, W), where the defect is visible; empty on a good image.
        defect_type: Name of the defect, "good" without one.
    """

    image: NDArray[np.uint8]
    mask: Mask
    defect_type: str


Drawing = tuple[Surface, Array, Mask, str, bool]
"""Surface, its picture with the defect, mask, defect type, whether the photograph is grey."""


Photographs = Sequence[Path]
"""Files of real surfaces; none: surfaces are drawn."""


def ground_of(
    rng: Rng,
    size: int,
    photographs: Photographs,
    families: Sequence[str],
    chances: Sequence[float] | None = None,
    words: Sequence[str] = (),
) -> Surface:
    """A drawn surface of one of the families, or a window of a photograph, of one named by a word if there is any."""
    if not photographs:
        return TEXTURES[str(rng.choice(list(families), p=chances))](rng, size)
    named = [file for file in photographs if any(word in file.stem for word in words)]
    return real_surface(rng, size, named or photographs)


def hairline(rng: Rng, surface: Surface, widths: tuple[float, float], length: float) -> Any:
    """A crack of a width in pixels whatever the size of the image: picture and mask."""

    def paint(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Array]:
        size = surface.rgb.shape[0]
        width = log_uniform(rng, *widths)
        start = place(rng, surface, 12)
        line = walk(
            rng, start, length, rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.7),
            rng.uniform(0.15, 0.5), max(24, int(length / 6)),
        )  # fmt: skip
        wander = np.clip(1 + 0.35 * rng.standard_normal(len(line)), 0.2, 2)
        alpha = stroke(size, line, np.maximum(0.5, width * wander))
        for _ in range(int(rng.integers(0, 4))):
            at = int(rng.integers(4, len(line) - 4))
            run = line[at + 1] - line[at]
            heading = np.arctan2(run[1], run[0]) + rng.choice([-1, 1]) * rng.uniform(0.3, 1.2)
            twig = walk(rng, (0, 0), length * rng.uniform(0.05, 0.35), heading, 0.4, 0.4, 20)
            twig += line[at] - twig[0]
            alpha = np.maximum(
                alpha, stroke(size, twig, np.maximum(0.5, 0.7 * width * np.linspace(1, 0.3, 20)))
            )
        alpha = blur(alpha, rng.uniform(0.3, 0.7)) * surface.region
        base = mean_colour(surface, alpha)
        amount = contrast(rng, surface, alpha, gain, 0.1, 0.45)
        return mix(surface.rgb, tint(rng, base, amount, dark=0.9, chroma=0.05), alpha), alpha

    return as_defect(paint, large=True)(rng, surface)


def in_window(
    rng: Rng, surface: Surface, rgb: Array, defect_type: str, side_px: int, extent_px: float
) -> tuple[Array, Mask]:
    """A defect no larger than a window of `side_px` around a point of the object; lengths follow `extent_px`."""
    size = surface.size
    x, y = (
        int(np.clip(v - side_px / 2, 0, size - side_px)) for v in place(rng, surface, side_px / 6)
    )
    at = (slice(y, y + side_px), slice(x, x + side_px))
    part = CloseUp(
        rgb=np.ascontiguousarray(rgb[at]),
        region=np.ascontiguousarray(surface.region[at]),
        parts=np.ascontiguousarray(surface.parts[at]),
        name=surface.name,
        family=surface.family,
        grain=surface.grain,
        whole=round(384 * extent_px / 120),
        side=extent_px,
    )
    painted, seen = DEFECTS[defect_type](rng, part)
    result, mask = np.array(rgb, np.float32), np.zeros((size, size), bool)
    result[at], mask[at] = painted, seen
    return result, mask


def _with_normals(rng: Rng, surface: Surface, names: Sequence[str], most: int) -> Surface:
    """The surface with up to `most` irregularities that are no defects."""
    for name in rng.choice(sorted(names), int(rng.integers(0, most + 1)), False):
        rgb = np.clip(HARD_NORMALS[str(name)](rng, surface), 0, 1)
        surface = replace(surface, rgb=rgb.astype(np.float32))
    return surface


_PLAIN = ("metal", "concrete", "plaster", "wall", "panel", "trim", "wood", "ice", "floor", "dirt")
"""Words in names of photographs that show one material without large figures."""
_ROUGH = ("concrete", "plaster", "rock", "stone", "dirt", "desert", "paving", "wall", "floor")
_METAL = ("metal", "trim", "panel", "pipe", "door", "concrete", "plaster", "ice")

LONG_HEIGHT, LONG_WIDTH = 1400, 500


def long_part(rng: Rng, anomalous: bool, photographs: Photographs = ()) -> Drawing:
    """A long narrow part between bright edges, matt and dark, with grooves; hairline cracks."""
    size = LONG_HEIGHT
    paint, mar = rng.spawn(2)
    families = ["moulded_plastic", "cast_metal", "rubber", "ground_metal", "plaster"]
    surface = ground_of(paint, size, photographs, families, None, _PLAIN)
    rgb = np.asarray(cv2.merge([luma(surface.rgb)] * 3), np.float32)
    rgb = rgb * np.float32(paint.uniform(0.3, 0.6) / max(0.05, float(rgb.mean())))
    if not photographs:  # what a blown-up texture lacks: the surface's own detail at a few pixels
        fine = noise.fractal(paint, size, log_uniform(paint, 4, 14), 3, 0.7)
        rgb = noise.times(rgb, 1 + np.float32(log_uniform(paint, 0.02, 0.08)) * fine)
    left = (size - LONG_WIDTH) // 2
    x = np.arange(size, dtype=np.float32)[None] - left
    y = np.arange(size, dtype=np.float32)[:, None]
    region = np.ones((size, size), bool)
    rims = paint.integers(10, 70, 2)
    bright = np.float32(paint.uniform(0.6, 0.95))
    streaks = noise.streaks(paint, size, 160, 2, np.pi / 2) * np.float32(0.05)
    for edge in (x < rims[0], x > LONG_WIDTH - rims[1]):
        edge = np.broadcast_to(edge, (size, size))
        rgb[edge] = (bright * (1 + streaks[edge]))[:, None]
        region &= ~edge
    for _ in range(int(paint.integers(0, 4))):  # grooves across, the same over the whole width
        centre, half = paint.uniform(0.05, 0.95) * size, paint.uniform(3, 14)
        groove = np.exp(-(((y - centre) / half) ** 4)) * np.float32(paint.uniform(-0.35, 0.25))
        rgb = noise.times(rgb, np.broadcast_to(1 + groove, (size, size)).astype(np.float32))
    bend = 1 + np.float32(paint.uniform(-0.25, 0.25)) * ((x - LONG_WIDTH / 2) / LONG_WIDTH)
    rgb = noise.times(rgb, np.broadcast_to(bend, (size, size)).astype(np.float32))
    region &= np.broadcast_to((x >= 8) & (x <= LONG_WIDTH - 8), (size, size))
    surface = replace(surface, rgb=np.clip(rgb, 0, 1).astype(np.float32), region=region)
    mask = np.zeros((size, size), bool)
    if anomalous:
        painted, mask = hairline(mar, surface, (0.8, 2.4), log_uniform(mar, 60, 420))
        return surface, painted, mask, "crack", True
    return surface, surface.rgb, mask, "good", True


OBJECT_SIZE = 1024
_TILTED = ("screw", "bolt_head", "key", "winged_nut", "tablet", "capsule", "bracket", "connector")
_SMALL_DAMAGE = ("scratch", "broken", "dent", "hole", "crack", "contamination", "stain", "bent")


def _textured(rng: Rng, surface: Surface, photographs: Photographs) -> Surface:
    """An object of drawn shape and light whose material has the grain of a photograph."""
    real = luma(real_surface(rng, surface.size, photographs).rgb)
    grain = real / np.maximum(0.05, blur(real, surface.size / 12))
    grain = np.clip(grain, 0.4, 1.8) ** np.float32(rng.uniform(0.3, 1.0))
    return replace(surface, rgb=np.clip(noise.times(surface.rgb, grain.astype(np.float32)), 0, 1))


def tilted_object(rng: Rng, anomalous: bool, photographs: Photographs = ()) -> Drawing:
    """One object at any angle on a plain ground, sharp and large; the damage is under 100 px."""
    size = OBJECT_SIZE
    paint, mar = rng.spawn(2)
    surface = OBJECTS[str(paint.choice(_TILTED))](paint, size)
    if photographs:
        surface = _textured(paint, surface, photographs)
    ys, xs = np.nonzero(surface.region)
    reach = max(float(np.ptp(ys)), float(np.ptp(xs)), 1.0)
    matrix = turning(
        (float(xs.mean()), float(ys.mean())),
        paint.uniform(0, 360),
        min(1.6, paint.uniform(0.45, 0.8) * size / reach),
    )
    matrix[:, 2] += size / 2 + paint.uniform(-60, 60, 2) - (float(xs.mean()), float(ys.mean()))
    how = {"borderMode": cv2.BORDER_CONSTANT, "dsize": (size, size)}
    cover = cv2.warpAffine(surface.region.astype(np.float32), matrix, flags=cv2.INTER_LINEAR, **how)
    parts = cv2.warpAffine(
        surface.parts.astype(np.float32), matrix, flags=cv2.INTER_NEAREST, **how
    ).astype(np.int32)
    thing = cv2.warpAffine(surface.rgb, matrix, flags=cv2.INTER_LINEAR, **how)
    ground = noise.plain(size, noise.colour(paint, (0, 360), (0, 0.12), (0.03, 0.97)))
    shade = 1 + np.float32(0.05) * noise.smooth(paint, size, size * 0.8)
    shade -= np.float32(paint.uniform(0, 0.3)) * np.roll(blur(cover, 14), (9, 7), (0, 1))
    ground = np.clip(noise.times(ground, shade.astype(np.float32)), 0, 1)
    region = cover > 0.5
    inner = cv2.erode(region.astype(np.float32), np.ones((3, 3), np.uint8))
    rgb = noise.blend(ground, thing, blur(inner, 0.8))
    surface = Surface(
        np.clip(rgb, 0, 1).astype(np.float32), region, parts, surface.name, surface.family, 4.0
    )
    if not anomalous or not region.any():
        return surface, surface.rgb, np.zeros((size, size), bool), "good", False
    kind = str(mar.choice(_SMALL_DAMAGE))
    extent_px = log_uniform(mar, 60, 140)
    least = 150 if kind in ("scratch", "crack") else 500
    for _ in range(16):  # smaller ones would not survive the lens
        painted, mask = in_window(mar, surface, surface.rgb, kind, 100, extent_px)
        if mask.sum() >= least:
            break
    return surface, painted, mask, kind, False


GROUND_WIDTH, GROUND_HEIGHT = 480, 320


def rough_ground(rng: Rng, anomalous: bool, photographs: Photographs = ()) -> Drawing:
    """Concrete, asphalt, plaster or stone outdoors; long thin cracks."""
    size = GROUND_WIDTH
    paint, mar = rng.spawn(2)
    families = ["asphalt", "concrete", "plaster", "granite"]
    surface = ground_of(paint, size, photographs, families, [0.4, 0.35, 0.15, 0.1], _ROUGH)
    dirt = 1 + np.float32(paint.uniform(0.02, 0.1)) * noise.fractal(paint, size, 90, 3)
    rgb = np.clip(noise.times(surface.rgb, dirt), 0, 1).astype(np.float32)
    surface = _with_normals(
        paint, replace(surface, rgb=rgb), ("shadow_edge", "patina", "streaks"), 1
    )
    band = np.zeros((size, size), bool)
    top = (size - GROUND_HEIGHT) // 2
    band[top + 10 : top + GROUND_HEIGHT - 10] = True
    surface = replace(surface, region=band)
    if not anomalous:
        return surface, surface.rgb, np.zeros((size, size), bool), "good", False
    painted, mask = hairline(mar, surface, (1.0, 4.0), log_uniform(mar, 120, 480))
    return surface, painted, mask, "crack", False


METAL_SIZE = 200
_SOFT = ("uneven", "stain", "roughness", "corrosion", "pinholes", "scratch")


def soft_metal(rng: Rng, anomalous: bool, photographs: Photographs = ()) -> Drawing:
    """A small grey picture of rolled or cast metal; wide soft defects of low contrast."""
    size = METAL_SIZE
    paint, mar = rng.spawn(2)
    families = ["rolled_steel", "cast_metal", "ground_metal", "shaded_plate"]
    surface = ground_of(paint, size, photographs, families, None, _METAL)
    grey = np.asarray(cv2.merge([luma(surface.rgb)] * 3), np.float32)
    surface = replace(surface, rgb=grey)
    if not anomalous:
        return surface, surface.rgb, np.zeros((size, size), bool), "good", True
    kind = str(mar.choice(_SOFT))
    for _ in range(12):
        painted, mask = DEFECTS[kind](mar, surface)
        if mask.mean() >= (0.004 if kind == "scratch" else 0.03):
            break
    fade = np.float32(mar.uniform(0.2, 0.6))
    painted = np.asarray(grey + fade * (painted - grey), np.float32)
    return surface, painted, mask, kind, True


@dataclass(frozen=True)
class _Kind:
    draw: Callable[[Rng, bool, Photographs], Drawing]
    width: int
    height: int


PROXIES: dict[str, _Kind] = {
    "long_part": _Kind(long_part, LONG_WIDTH, LONG_HEIGHT),
    "tilted_object": _Kind(tilted_object, OBJECT_SIZE, OBJECT_SIZE),
    "rough_ground": _Kind(rough_ground, GROUND_WIDTH, GROUND_HEIGHT),
    "soft_metal": _Kind(soft_metal, METAL_SIZE, METAL_SIZE),
}


def make_proxy(seed: int, kind: str, *, anomalous: bool, photographs: Photographs = ()) -> Proxy:
    """Make one image of a kind; the same arguments always give the same image.

    Args:
        seed: Not negative.
        kind: One of `PROXIES`.
        anomalous: Whether it gets a defect; the same seed without one shows the same surface.
        photographs: Real surfaces, from `real_surfaces.surfaces_in`.

    Raises:
        ZsasError: If there is no such kind.
    """
    if kind not in PROXIES:
        raise ZsasError(f"There is no proxy {kind!r}; choose from {', '.join(PROXIES)}.")
    chosen = PROXIES[kind]
    name = zlib.crc32(kind.encode())
    _, rgb, mask, defect_type, grey = chosen.draw(
        np.random.default_rng([seed, name]), anomalous, photographs
    )
    image = photograph(
        np.random.default_rng([seed, name, 1]),
        np.ascontiguousarray(rgb, np.float32),
        grey=grey,
        blur_scale=0.7,
    )
    top, left = (rgb.shape[0] - chosen.height) // 2, (rgb.shape[1] - chosen.width) // 2
    at = (slice(top, top + chosen.height), slice(left, left + chosen.width))
    return Proxy(np.ascontiguousarray(image[at]), np.ascontiguousarray(mask[at]), defect_type)


def write_proxies(
    root: str | Path,
    *,
    seed: int,
    per_category: int,
    kinds: Sequence[str] = (),
    photographs: Photographs = (),
) -> Path:
    """Write proxies in MVTec-AD's layout, half of the test images of each kind good.

    Args:
        root: Folder to write into.
        seed: Seed of the set.
        per_category: Test images of each kind; there are a quarter as many good training images.
        kinds: Which; empty takes all.
        photographs: Real surfaces, if the ground shall be real.
    """
    root = Path(root)
    for kind in kinds or PROXIES:
        counts: dict[str, int] = {}
        good = per_category // 2
        plan = ["train"] * max(1, per_category // 4) + ["test"] * good
        plan += ["anomalous"] * (per_category - good)
        for index, role in enumerate(plan):
            made = make_proxy(
                seed * 10_000 + index,
                kind,
                anomalous=role == "anomalous",
                photographs=photographs,
            )
            split = "train" if role == "train" else "test"
            folder = root / kind / split / made.defect_type
            number = counts.get(f"{split}/{made.defect_type}", 0)
            counts[f"{split}/{made.defect_type}"] = number + 1
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{number:03d}.png"), made.image[..., ::-1])
            if made.mask.any():
                truth = root / kind / "ground_truth" / made.defect_type
                truth.mkdir(parents=True, exist_ok=True)
                mask = made.mask.astype(np.uint8) * 255
                cv2.imwrite(str(truth / f"{number:03d}_mask.png"), mask)
    return root
