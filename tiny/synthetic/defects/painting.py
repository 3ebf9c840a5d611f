"""How a painter becomes a defect: tried on close-ups, painted stronger until visible, its mask the visible change."""

from __future__ import annotations

import cv2
import numpy as np

from tiny.synthetic.defects.common import (
    Array,
    CloseUp,
    Defect,
    Mask,
    Painter,
    Rng,
    blur,
    extent,
    luma,
    mean_colour,
    mix,
    noise,
    outline,
    place,
    polygon,
    px,
    spread,
    tint,
    window,
)
from tiny.synthetic.surface import Surface


def _close_up(rng: Rng, surface: Surface) -> tuple[CloseUp, tuple[slice, slice]]:
    """Half the picture's width and height around a point of the object."""
    whole = surface.rgb.shape[0]
    half = whole // 2
    x, y = (int(np.clip(v - half / 2, 0, whole - half)) for v in place(rng, surface))
    at = (slice(y, y + half), slice(x, x + half))
    close_up = CloseUp(
        rgb=np.ascontiguousarray(surface.rgb[at]),
        region=np.ascontiguousarray(surface.region[at]),
        parts=np.ascontiguousarray(surface.parts[at]),
        name=surface.name,
        family=surface.family,
        grain=surface.grain,
        whole=whole,
        side=extent(surface),
    )
    return close_up, at


def backdrop(rng: Rng, surface: Surface) -> Array:
    """What would be seen without the object: the background spread inwards, or a dark ground."""
    size = surface.rgb.shape[0]
    outside = (~surface.region).astype(np.float32)
    if outside.mean() < 0.02:
        base = mean_colour(surface, surface.region.astype(np.float32))
        colour = tint(rng, base * rng.uniform(0.1, 0.7), 0.06, chroma=0.5)
        field = np.broadcast_to(colour, surface.rgb.shape) * (
            1 + 0.06 * noise(rng, size, 20, 4)[..., None]
        )
        return np.clip(field, 0, 1).astype(np.float32)
    reach = size / 14
    spread, weight = blur(surface.rgb * outside[..., None], reach), blur(outside, reach)
    mean = np.array(cv2.mean(surface.rgb, outside.astype(np.uint8))[:3], np.float32)
    field = (spread + 1e-3 * mean) / (weight[..., None] + 1e-3)
    spots = surface.rgb[outside > 0]
    grain = 0.5 * min(0.05, float(np.std(spots[:: max(1, len(spots) // 2000), 1])))
    field = field + grain * noise(rng, size, 3, 2)[..., None]
    return np.asarray(
        np.where(outside[..., None] > 0, surface.rgb, np.clip(field, 0, 1)), np.float32
    )


def visible(before: Array, after: Array, support: Array) -> Mask:
    """Where a person would outline the defect: the visible change inside the intended shape.

    The change is thresholded at a third of its strong values (at least 0.012), closed, its small
    holes are filled and specks dropped; a shape that mostly changed is taken whole, as an annotator
    would.
    """
    found = np.zeros(support.shape, bool)
    box = window(support > 0.1, 4)
    support = np.ascontiguousarray(support[box])
    inside = support > 0.1
    if not inside.any():
        return found
    red, green, blue = cv2.split(np.abs(after[box] - before[box]))
    change = blur(np.maximum(np.maximum(red, green), blue), 0.6)
    strong = float(np.quantile(change[inside], 0.92))
    limit = max(0.012, 0.3 * strong)
    seen = (change > limit) & cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(
        bool
    )
    whole = support > 0.4
    count = int(whole.sum())
    if count and (seen & whole).sum() > 0.35 * count:
        seen |= whole & (blur(change, 1.5) > 0.25 * limit)
    area = int(seen.sum())
    if area == 0:
        return found
    reach = 3 if area < 400 else 5
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (reach, reach))
    closed = cv2.morphologyEx(seen.astype(np.uint8), cv2.MORPH_CLOSE, kernel)
    _, holes, stats, _ = cv2.connectedComponentsWithStats(1 - closed, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < max(6.0, 0.15 * area)
    small[0] = False
    closed[small[holes]] = 1
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(closed, connectivity=8)
    sizes = stats[:, cv2.CC_STAT_AREA]
    keep = sizes >= min(3.0 if area < 60 else 0.01 * area, float(sizes[1:].max()))
    keep[0] = False
    found[box] = keep[pieces]
    return found


def as_defect(paint: Painter, large: bool = False) -> Defect:
    """Turn a painter into a defect: retried stronger until visible, its mask from the change.

    Args:
        paint: draws with a given gain and returns the picture and the intended shape's opacity.
        large: most of its shapes would not fit into a close-up of half the width, so none is tried.
    """

    def attempt(rng: Rng, surface: Surface, gain: float) -> tuple[Array, Mask, bool]:
        """One painting: rgb, mask and whether it keeps clear of the border."""
        rgb, support = paint(rng, surface, gain)
        size = support.shape[0]
        box = window(support > 0, 8)
        clear = min(s.start for s in box) > 0 and max(s.stop for s in box) < size
        sample, painted = surface.rgb[::7, ::7], np.clip(rgb[box], 0, 1).astype(np.float32)
        if painted.size and bool((np.ptp(sample, axis=2) < 1e-4).all()):
            painted = spread(luma(painted))  # on grey, a change of hue alone must not count
        before = np.ascontiguousarray(surface.rgb[box])
        seen = visible(before, painted, np.ascontiguousarray(support[box]))
        # what no person would outline is not left behind as an unlabelled trace
        near = cv2.dilate(seen.astype(np.float32), np.ones((5, 5), np.uint8)) if seen.size else seen
        result, mask = np.array(surface.rgb, np.float32), np.zeros(support.shape, bool)
        if seen.any():
            result[box] = mix(before, painted, np.minimum(1.0, 1.2 * blur(near, 1.0)))
            mask[box] = seen
        return result, mask, clear

    def draw(rng: Rng, surface: Surface) -> tuple[Array, Mask]:
        if (
            not large and rng.random() < 0.8
        ):  # small ones are painted on a close-up, at a quarter of the cost
            close_up, at = _close_up(rng, surface)
            part, seen, clear = attempt(rng, close_up, 1.0)
            if clear and seen.sum() >= 4:
                rgb, mask = np.array(surface.rgb, np.float32), np.zeros(surface.region.shape, bool)
                rgb[at], mask[at] = part, seen
                return rgb, mask
        gain = 1.0
        for _ in range(4):
            rgb, mask, _ = attempt(rng, surface, gain)
            if mask.sum() >= 4:
                return rgb, mask
            gain *= 1.7
        centre = place(rng, surface)
        spot = polygon(
            surface.rgb.shape[0], outline(rng, centre, max(2.5, px(surface, 4)), 1.3, 0.1)
        )
        base = mean_colour(surface, spot)
        rgb = mix(surface.rgb, tint(rng, base, 0.4), spot)
        return rgb, visible(surface.rgb, rgb, spot)

    draw.__doc__ = paint.__doc__
    return draw
