"""Normal things that no family of the generator knows: tilings, objects of random outline, pieces in a regular order.

A model that has seen sixty families calls much of what it has not seen a defect. What makes these things normal is
nothing but their order: they repeat, they are symmetric, they fill the picture. What breaks the order is a defect: in
half of the rows, grids and rings one piece is missing, turned, of another tone or of another material, with its mask.
Materials are pieces of normal images, so there are as many of these as there are pairs of images.
"""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from tiny.synthetic.defects.common import difference

Picture = NDArray[np.uint8]
Region = NDArray[np.bool_]

_SHIFT = np.array([[1, 0, 2], [0, 1, 2]], np.float32)
"""Two pixels right and down, where a raised edge throws its shadow."""


def material(rng: np.random.Generator, donor: Picture, size: int) -> Picture:
    """A random window of an image, uint8 (size, size, 3), after a random number of quarter turns."""
    side = int(donor.shape[0] * rng.uniform(0.2, 0.8))
    y, x = (int(v) for v in rng.integers(0, donor.shape[0] - side + 1, 2))
    piece = np.rot90(donor[y : y + side, x : x + side], int(rng.integers(4)))
    return np.asarray(cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def tiling(rng: np.random.Generator, donor: Picture, size: int) -> Picture:
    """A normal surface, uint8 (size, size, 3): one piece of the donor, repeated or mirrored 2 to 12 times a side.

    A quarter are bricks, shifted row by row; a third have joints; two in five are turned a little.
    """
    count = float(np.exp(rng.uniform(np.log(2), np.log(12))))
    side = max(8, round(size / count))
    tile = material(rng, donor, side)
    if rng.random() < 0.5:
        tile = np.hstack([tile, tile[:, ::-1]])
        tile = np.vstack([tile, tile[::-1]])
    if rng.random() < 0.3:
        tone = rng.integers(0, 256, 3) if rng.random() < 0.3 else np.full(3, rng.integers(256))
        joint = max(1, round(side * rng.uniform(0.02, 0.1)))
        tile = tile.copy()
        tile[:joint] = tile[:, :joint] = tone
    across = -(-3 * size // (2 * tile.shape[1])) + 2
    row = np.tile(tile, (1, across, 1))
    shift = tile.shape[1] // 2 if rng.random() < 0.25 else 0
    rows = [
        np.roll(row, shift * (i % 2), axis=1)
        for i in range(-(-3 * size // (2 * tile.shape[0])) + 1)
    ]
    sheet = np.vstack(rows)
    if rng.random() < 0.4:
        middle = (sheet.shape[1] / 2, sheet.shape[0] / 2)
        turn = cv2.getRotationMatrix2D(middle, float(rng.normal(0, 6)), 1.0)
        sheet = cv2.warpAffine(
            sheet, turn, (sheet.shape[1], sheet.shape[0]), borderMode=cv2.BORDER_REFLECT
        )
    y, x = ((extent - size) // 2 for extent in sheet.shape[:2])
    return np.ascontiguousarray(sheet[y : y + size, x : x + size])


def outline(
    rng: np.random.Generator, size: int, middle: tuple[float, float], radius: float
) -> NDArray[np.uint8]:
    """A filled symmetric form, uint8 (size, size) in [0, 255]: a disc, a polygon, a star or a lobed ring."""
    petals = int(rng.integers(2, 9))
    turn = rng.uniform(0, 2 * np.pi)
    angle = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    wave = rng.uniform(0, 0.35) * np.cos(petals * angle)
    if rng.random() < 0.5:  # a regular polygon
        sector = 2 * np.pi / max(3, petals)
        wave = np.cos(sector / 2) / np.cos(angle % sector - sector / 2) - 1
    if rng.random() < 0.25:
        wave = np.zeros_like(angle)
    stretch = 1.0 if rng.random() < 0.5 else float(rng.uniform(0.35, 1.0))
    reach = radius * (1 + wave)
    x, y = reach * np.cos(angle), stretch * reach * np.sin(angle)
    corners = np.stack(
        [
            middle[0] + x * np.cos(turn) - y * np.sin(turn),
            middle[1] + x * np.sin(turn) + y * np.cos(turn),
        ],
        1,
    )
    cover = np.zeros((size, size), np.uint8)
    cv2.fillPoly(cover, [np.round(corners * 8).astype(np.int32)], 255, cv2.LINE_AA, 3)
    if rng.random() < 0.3:
        hole = max(1, round(radius * stretch * rng.uniform(0.15, 0.6)))
        cv2.circle(cover, (round(middle[0]), round(middle[1])), hole, 0, -1, cv2.LINE_AA)
    return cover


def laid(picture: Picture, cover: NDArray[np.uint8], other: Picture, light: float) -> Picture:
    """Another picture where ``cover`` says, with a lit and a shaded edge of strength ``light``."""
    soft = cover.astype(np.float32)[..., None] / 255
    slope = cv2.GaussianBlur(cover, (0, 0), 1.2).astype(np.float32) / 255
    slope -= cv2.warpAffine(slope, _SHIFT, slope.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    mixed = picture + soft * (other.astype(np.float32) - picture) + light * 255 * slope[..., None]
    return np.clip(mixed, 0, 255).astype(np.uint8)


def thing(rng: np.random.Generator, donor: Picture, behind: Picture) -> tuple[Picture, Region]:
    """A normal object of random symmetric outline and its region; its parts are inlays of other tones."""
    size = behind.shape[0]
    middle = (float(size * rng.uniform(0.42, 0.58)), float(size * rng.uniform(0.42, 0.58)))
    radius = size * rng.uniform(0.25, 0.5)
    cover = outline(rng, size, middle, radius)
    stuff = tiling(rng, donor, size) if rng.random() < 0.4 else material(rng, donor, size)
    if rng.random() < 0.5:
        stuff = cv2.GaussianBlur(stuff, (0, 0), float(rng.uniform(2, 12)))
    plain = np.full_like(
        behind, rng.integers(0, 256, 3) if rng.random() < 0.3 else rng.integers(256)
    )
    picture = laid(plain if rng.random() < 0.7 else behind, cover, stuff, rng.uniform(-0.6, 0.6))
    for _ in range(int(rng.integers(0, 4))):
        inlay = cv2.min(cover, outline(rng, size, middle, radius * rng.uniform(0.15, 0.8)))
        tone = np.clip(stuff * np.float32(np.exp(rng.normal(0, 0.4))), 0, 255).astype(np.uint8)
        picture = laid(picture, inlay, tone, rng.uniform(-0.5, 0.5))
    return picture, cover > 127


def lattice(rng: np.random.Generator, size: int) -> tuple[NDArray[np.float64], float]:
    """Places (n, 2) as x, y in a row, grid or ring, 3 <= n <= 64, and the least distance between two of them."""
    form = rng.random()
    if form < 0.25:
        count = int(rng.integers(4, 13))
        radius = size * rng.uniform(0.15, 0.42)
        angle = rng.uniform(0, 2 * np.pi) + np.arange(count) * (2 * np.pi / count)
        places = size / 2 + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
        return places, 2 * radius * np.sin(np.pi / count)
    across = int(rng.integers(3, 9))
    down = 1 if form < 0.45 else int(rng.integers(2, 9))
    step = size * rng.uniform(0.6, 1.0) / max(across, down)
    column, row = np.meshgrid(
        np.arange(across) - (across - 1) / 2, np.arange(down) - (down - 1) / 2
    )
    places = step * np.stack([column.ravel(), row.ravel()], 1)
    tilt = 0.0 if rng.random() < 0.6 else rng.uniform(-0.5, 0.5)
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    drift = rng.uniform(-0.15, 0.15, 2) * size
    return places @ turn + size / 2 + drift, step


def _odd(
    rng: np.random.Generator,
    defect_type: str,
    picture: Picture,
    other: Picture,
    covers: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    middle: NDArray[np.float64],
    reach: float,
    light: float,
) -> Picture:
    """The arrangement with an odd piece around ``middle``; ``covers`` are with and without that piece."""
    covered, rest = covers
    if defect_type == "missing":
        return laid(picture, rest, other, light)
    alone = cv2.subtract(covered, rest)
    if defect_type == "misplaced":
        turn = cv2.getRotationMatrix2D(tuple(middle.tolist()), float(rng.uniform(40, 320)), 1.0)
        turn[:, 2] += rng.normal(0, 0.25, 2) * reach
        moved = cv2.warpAffine(alone, turn, alone.shape)
        piece = cv2.warpAffine(other, turn, alone.shape)
        return laid(laid(picture, rest, other, light), moved, piece, light)
    odd = material(rng, picture, len(picture))
    if defect_type == "colour":
        tone = rng.choice((-1, 1)) * rng.uniform(0.25, 0.8) + rng.normal(0, 0.15, 3)
        odd = np.clip(other * np.exp(tone), 0, 255).astype(np.uint8)
    return laid(picture, covered, np.where(alone[..., None] > 0, odd, other), light)


def pieces(
    rng: np.random.Generator,
    picture: Picture,
    labels: NDArray[np.uint8],
    donor: Picture,
    values: Mapping[str, int],
) -> tuple[Picture, NDArray[np.uint8]]:
    """Equal pieces of the donor in a regular order; in half of the cases one of them is not as the others.

    Args:
        rng: Source of chance.
        picture: uint8 (S, S, 3) RGB.
        labels: uint8 (S, S), defect types that are there already; what a piece covers is normal.
        donor: uint8 (T, T, 3), the pieces' material.
        values: defect type → its value in ``labels``.

    Returns:
        Picture and labels. An odd piece is labelled where the picture differs from the regular one.
    """
    size = picture.shape[0]
    places, distance = lattice(rng, size)
    reach = distance * rng.uniform(0.2, 0.48)
    span = 2 * int(np.ceil(1.5 * reach)) + 3
    form = outline(rng, span, (span / 2, span / 2), reach)
    stuff = material(rng, donor, span)
    light = rng.uniform(-0.5, 0.5)
    odd = int(rng.integers(len(places))) if rng.random() < 0.5 else -1
    defect_type = str(rng.choice(("missing", "misplaced", "colour", "contamination")))
    covered, rest = np.zeros((size, size), np.uint8), np.zeros((size, size), np.uint8)
    other, place = picture.copy(), np.s_[:0, :0]
    for i, (x, y) in enumerate(np.round(places - span / 2).astype(int)):
        left, top, right, bottom = max(0, x), max(0, y), min(size, x + span), min(size, y + span)
        if left >= right or top >= bottom:
            continue
        here = np.s_[top:bottom, left:right]
        part = np.s_[top - y : bottom - y, left - x : right - x]
        covered[here] = cv2.max(covered[here], form[part])
        np.copyto(other[here], stuff[part], where=form[part][..., None] > 0)
        if i == odd:
            place = here
        else:
            rest[here] = cv2.max(rest[here], form[part])
    regular = laid(picture, covered, other, light)
    changed = regular
    if other[place].size:
        changed = _odd(rng, defect_type, picture, other, (covered, rest), places[odd], reach, light)
    labels = np.where(covered > 60, np.uint8(0), labels)
    change = cv2.blur(difference(changed, regular), (3, 3))
    return changed, np.where(change > 14, np.uint8(values[defect_type]), labels)


def arrange(
    rng: np.random.Generator,
    picture: Picture,
    labels: NDArray[np.uint8],
    inside: Region,
    donor: Picture,
    values: Mapping[str, int],
) -> tuple[Picture, NDArray[np.uint8], Region]:
    """One of the three: a tiling or an object instead of the picture, or pieces in order on top of it.

    Args:
        rng: Source of chance.
        picture: uint8 (S, S, 3) RGB.
        labels: uint8 (S, S), defect types on it.
        inside: bool (S, S), the object.
        donor: uint8 (T, T, 3), a normal image.
        values: defect type → its value in ``labels``.

    Returns:
        Picture, labels and object of the arrangement.
    """
    way = rng.random()
    none = np.zeros_like(labels)
    if way < 0.3:
        picture, labels, inside = tiling(rng, donor, len(labels)), none, np.ones_like(inside)
    elif way < 0.6:
        picture, inside = thing(rng, donor, material(rng, donor, len(labels)))
        labels = none
    if way > 0.5:
        picture, labels = pieces(rng, picture, labels, donor, values)
        inside = inside | (labels > 0)
    return picture, labels, inside
