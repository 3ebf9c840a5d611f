"""Crops, targets and simulated prompts for training the small SAM: NumPy only, seeded, fast.

Three frames appear. *Crop pixels*: (x, y) inside a square crop. *Frame pixels*: (x, y) in the
model's square input (512 px); a crop lies at a multiple of the patch size inside it. *Cells*: one
logit of the decoder, ``CELL`` pixels wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tiny.training import augment

CELL = 4
"""Pixels of the input per logit along one axis (patch 16, upscaled four times)."""

PAD = -1
"""Label of a point that is not there; SAM embeds it as its learned "not a point"."""

_DEFECT = dict.fromkeys(("contamination", "misplaced", "stain", "roughness", "bent"), 1)
"""Blind damage is a defect like any other here, whatever its kind."""

MIN_DEFECT, MIN_PART = 14, 80
"""Smallest defect and part that become targets, in crop pixels of area."""


@dataclass(frozen=True)
class Crop:
    """A square cut-out of a synthetic image with what is known about it.

    Attributes:
        image: uint8 (C, C, 3) RGB.
        parts: int32 (C, C), 0 = background, else one number a part.
        defects: int32 (C, C), 0 = normal, else one number a connected defect.
        height, width: Size in crop pixels that the image covers; the rest (right, below) is
            padding, as SAM pads images that are not square.
    """

    image: NDArray[np.uint8]
    parts: NDArray[np.int32]
    defects: NDArray[np.int32]
    height: int
    width: int


@dataclass(frozen=True)
class Target:
    """One thing that a prompt may ask for.

    Attributes:
        mask: bool (C, C).
        kind: ``"defect"``, ``"part"`` or ``"region"``.
    """

    mask: NDArray[np.bool_]
    kind: str


def make_crop(
    rng: np.random.Generator | None,
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_] | NDArray[np.uint8],
    parts: NDArray[np.integer],
    side: int,
    frame: int = 512,
    donor: NDArray[np.uint8] | None = None,
) -> Crop:
    """Cut a square of ``side`` pixels out of an image scaled to about ``frame`` pixels.

    Args:
        rng: Source of scale, place, flips, aspect and light; None gives the whole image at
            ``side`` pixels, unchanged, for measuring.
        image: uint8 (S, S, 3) RGB.
        mask: (S, S), nonzero on defects.
        parts: int (S, S).
        side: Crop size C in pixels.
        frame: Size of the model's input in pixels.
        donor: uint8 (T, T, 3), another image that blind damage may take its material from.
    """
    if rng is None:
        return _whole(image, mask, parts, side)
    low, high = (0.62, 1.45) if side < frame else (0.85, 1.35)
    size = max(side, int(frame * np.exp(rng.uniform(np.log(low), np.log(high)))))
    # Cut in the source, then scale: the work is that of the crop, not of the whole image.
    source = image.shape[0]
    cut = max(8, min(source, round(side * source / size)))
    window = _window(rng, mask, cut)
    turn, flip = int(rng.integers(4)), bool(rng.random() < 0.5)

    def oriented(array: NDArray[np.generic]) -> NDArray[np.generic]:
        array = np.rot90(array[window], turn)
        return np.ascontiguousarray(array[:, ::-1] if flip else array)

    shape = (side, side)
    rgb = cv2.resize(np.asarray(oriented(image), np.uint8), shape, interpolation=cv2.INTER_LINEAR)
    labels = _resize_labels(oriented(np.asarray(parts)), side)
    found = _resize_labels(oriented(np.asarray(mask) != 0), side)
    rgb = np.asarray(rgb, np.uint8)
    if rng.random() < 0.25:
        rgb = augment.repaint_background(rng, rgb, (labels > 0) | (found > 0))
    if rng.random() < 0.25:
        rgb = augment.shade(rng, rgb)
    for _ in range(int(rng.choice((0, 1, 2), p=(0.6, 0.25, 0.15)))):
        rgb, marked = augment.damage(
            rng, rgb, (found > 0).astype(np.uint8), labels > 0, _DEFECT, donor
        )
        found = marked.astype(np.int32)
    rgb = _relight(rng, rgb)
    height = width = side
    if side >= frame and rng.random() < 0.3:
        short = int(rng.uniform(0.55, 0.98) * side)
        height, width = (short, side) if rng.random() < 0.5 else (side, short)
        labels[height:], labels[:, width:] = 0, 0
        found[height:], found[:, width:] = 0, 0
    return Crop(rgb, labels, _components(found), height, width)


def _whole(
    image: NDArray[np.uint8],
    mask: NDArray[np.bool_] | NDArray[np.uint8],
    parts: NDArray[np.integer],
    side: int,
) -> Crop:
    """All of an image at `side` pixels, for measuring."""
    scaled = cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR)
    return Crop(
        np.asarray(scaled, np.uint8),
        _resize_labels(np.asarray(parts), side),
        _components(_resize_labels(np.asarray(mask) != 0, side)),
        side,
        side,
    )


def _window(
    rng: np.random.Generator, mask: NDArray[np.bool_] | NDArray[np.uint8], cut: int
) -> tuple[slice, slice]:
    """A random square of `cut` pixels; most show a defect where there is one."""
    source = mask.shape[0]
    x, y = (int(v) for v in rng.integers(0, source - cut + 1, 2))
    hits = np.flatnonzero(mask)
    if len(hits) and rng.random() < 0.8:
        hy, hx = divmod(int(hits[rng.integers(len(hits))]), source)
        x = int(np.clip(hx - rng.integers(cut // 8, cut - cut // 8), 0, source - cut))
        y = int(np.clip(hy - rng.integers(cut // 8, cut - cut // 8), 0, source - cut))
    return np.s_[y : y + cut, x : x + cut]


def _resize_labels(labels: NDArray[np.generic], side: int) -> NDArray[np.int32]:
    values = np.asarray(labels).astype(np.float32)
    scaled = cv2.resize(values, (side, side), interpolation=cv2.INTER_NEAREST)
    return np.asarray(scaled).astype(np.int32)


def _components(mask: NDArray[np.int32]) -> NDArray[np.int32]:
    _, labels = cv2.connectedComponents((mask != 0).astype(np.uint8), connectivity=8)
    return np.asarray(labels, np.int32)


def _relight(rng: np.random.Generator, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Another exposure, contrast and colour of the same scene; often grey."""
    if rng.random() < 0.2:
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        rgb = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)
    if rng.random() < 0.7:
        gain = rng.uniform(0.75, 1.3) * rng.uniform(0.93, 1.07, 3)
        shift = rng.uniform(-25, 25)
        table = np.clip(np.arange(256)[:, None] * gain + shift, 0, 255).astype(np.uint8)
        rgb = np.asarray(cv2.LUT(rgb, table[None]), np.uint8)
    return rgb


def targets_of(crop: Crop) -> list[Target]:
    """All defects, parts and the whole region of a crop that are large enough to ask for."""
    found = []
    areas = np.bincount(crop.defects.ravel())
    for label in range(1, len(areas)):
        if areas[label] >= MIN_DEFECT:
            found.append(Target(crop.defects == label, "defect"))
    areas = np.bincount(np.maximum(crop.parts, 0).ravel())
    total = crop.height * crop.width
    labels = [i for i in np.flatnonzero(areas) if i and MIN_PART <= areas[i] <= 0.97 * total]
    for part in sorted(labels, key=lambda i: -int(areas[i]))[:60]:
        found.append(Target(crop.parts == part, "part"))
    if len(labels) > 1 and areas[1:].sum() <= 0.97 * total:
        found.append(Target(crop.parts > 0, "region"))
    return found


def choose_targets(rng: np.random.Generator, targets: list[Target], count: int) -> list[Target]:
    """Draw ``count`` targets, defects in about half of the draws where there are any."""
    by_kind = {
        kind: [t for t in targets if t.kind == kind] for kind in ("defect", "part", "region")
    }
    fractions = np.array(
        [
            fraction if by_kind[kind] else 0.0
            for kind, fraction in zip(by_kind, (0.55, 0.37, 0.08), strict=True)
        ]
    )
    kinds = rng.choice(3, size=count, p=fractions / fractions.sum())
    groups = list(by_kind.values())
    return [groups[k][int(rng.integers(len(groups[k])))] for k in kinds]


def soft_cells(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Coverage of each cell by the mask, raised where the mask is too thin to fill a cell.

    A logit of 0 then lies on the outline, which upsampling places inside a cell, and a scratch
    two pixels wide still asks for positive logits.

    Args:
        mask: bool (C, C).

    Returns:
        float32 (C / 4, C / 4) in [0, 1].
    """
    plain = mask.astype(np.uint8)
    cells = mask.shape[1] // CELL, mask.shape[0] // CELL
    cover = cv2.resize(plain * 255, cells, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    if cv2.countNonZero(plain) < 0.15 * plain.size:
        kernel = np.ones((5, 5), np.uint8)
        solid = np.asarray(cv2.morphologyEx(plain, cv2.MORPH_OPEN, kernel), np.uint8)
        thin = plain & (1 - solid)
        extra = cv2.resize(thin * 255, cells, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        cover = np.minimum(cover + 0.8 * extra, 1.0)
    return np.asarray(cover, np.float32)


def clicks(
    rng: np.random.Generator, mask: NDArray[np.bool_], positives: int, negatives: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Random clicks inside the mask and outside it, the latter mostly near it.

    Returns:
        ``xy`` float32 (n, 2) in crop pixels and ``labels`` int64 (n,), 1 inside, 0 outside.
    """
    height, width = mask.shape
    flat = np.flatnonzero(mask)
    inside = flat[rng.integers(len(flat), size=positives)]
    outside = np.empty(0, np.int64)
    if negatives:
        radius = int(rng.integers(6, 40))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        small = cv2.resize(
            mask.astype(np.uint8), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA
        )
        kernel = cv2.resize(kernel, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_NEAREST)
        near = cv2.resize(
            cv2.dilate(small, np.asarray(kernel)), (width, height), interpolation=cv2.INTER_NEAREST
        )
        ring = np.flatnonzero((near > 0) & ~mask)
        if len(ring) == 0 or rng.random() < 0.15:
            ring = np.flatnonzero(~mask)
        if len(ring):
            outside = ring[rng.integers(len(ring), size=negatives)]
    both = np.concatenate([inside, outside])
    xy = np.stack([both % width, both // width], 1).astype(np.float32)
    labels = np.concatenate([np.ones(len(inside)), np.zeros(len(outside))]).astype(np.int64)
    return xy, labels


def map_prompts(
    rng: np.random.Generator, cover: NDArray[np.float32], positives: int, negatives: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points as the pipeline would place them from an imperfect anomaly map.

    A blurred, shifted, noisy copy of the target plays the map; positives are its highest spaced
    cells (eq. 2), negatives lie in the dilated ring around its thresholded region (eq. 3).

    Args:
        rng: Source of chance.
        cover: float32 (h, w) coverage of the cells by the target.
        positives: How many points inside at most.
        negatives: How many points of the ring at most.
    """
    height, width = cover.shape
    score = cv2.GaussianBlur(cover, (0, 0), float(rng.uniform(0.7, 3.5)))
    dx, dy = rng.integers(-1, 2, 2)
    score = np.roll(score, (int(dy), int(dx)), (0, 1))
    noise = cv2.resize(
        rng.random((height // 4, width // 4), dtype=np.float32),
        (width, height),
        interpolation=cv2.INTER_LINEAR,
    )
    score = score * (0.45 + 0.55 * noise) + 0.02 * cover
    region = score > rng.uniform(0.2, 0.6) * score.max()
    spacing = float(rng.uniform(1.0, 6.0))
    order = np.flatnonzero(region)
    order = order[np.argsort(-score.ravel()[order])]
    chosen: list[tuple[int, int]] = []
    for index in order[:400]:
        y, x = divmod(int(index), width)
        if all((x - a) ** 2 + (y - b) ** 2 >= spacing**2 for a, b in chosen):
            chosen.append((x, y))
            if len(chosen) == positives:
                break
    ups = len(chosen)
    around = np.asarray(
        cv2.dilate(
            region.astype(np.uint8),
            cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * int(rng.integers(1, 5)) + 1,) * 2),
        )
    ).astype(bool)
    ring = np.flatnonzero(around & ~region & (cover < (0.05 if rng.random() < 0.8 else 2.0)))
    if len(ring) and negatives:
        for index in ring[rng.integers(len(ring), size=negatives)]:
            chosen.append((int(index) % width, int(index) // width))
    count = len(chosen)
    xy = CELL * (
        np.array(chosen, np.float32).reshape(-1, 2) + rng.random((count, 2), dtype=np.float32)
    )
    labels = np.array([1] * ups + [0] * (count - ups), np.int64)
    return xy.astype(np.float32), labels


def tight_box(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Tight box (x0, y0, x1, y1) of a non-empty mask, float32, right and bottom edge exclusive."""
    xs, ys = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float32)


def jitter_box(
    rng: np.random.Generator, box: NDArray[np.float32], limit: int, amount: float = 0.1
) -> NDArray[np.float32]:
    """Move each edge by noise of ``amount`` of the box's side, at most 20 px, inside the crop."""
    sides = np.array([box[2] - box[0], box[3] - box[1]] * 2, np.float32)
    noise = np.clip(rng.normal(size=4) * amount * sides, -20, 20)
    moved = np.clip(box + noise, 0, limit)
    if moved[2] - moved[0] < 2 or moved[3] - moved[1] < 2:
        return box
    return moved.astype(np.float32)


def pad_points(
    points: list[tuple[NDArray[np.float32], NDArray[np.int64]]],
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Stack points of different numbers, filling up with points labelled ``PAD``.

    Returns:
        ``xy`` float32 (P, K, 2) and ``labels`` int64 (P, K), K the largest number.
    """
    most = max(1, max(len(labels) for _, labels in points))
    xy = np.zeros((len(points), most, 2), np.float32)
    labels = np.full((len(points), most), PAD, np.int64)
    for i, (where, what) in enumerate(points):
        xy[i, : len(what)], labels[i, : len(what)] = where, what
    return xy, labels
