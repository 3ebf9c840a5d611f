"""Masks of SAM as arrays: from logits to image pixels, their boxes, overlaps and union. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.frames import Piece, SamFrame, Window, pieces_of_mask, slices
from zsas.prompts import Click
from zsas.refiners.base import pixel_of

_SOFT_EDGE = 6.0
"""Logits below minus this count as 0: a probability under 0.25 %."""

CUT_FRACTION = 0.01
"""Radius that a negative click cuts out of a mask a person has asked for, as a fraction of the longest side."""


def within(
    mask: NDArray[np.bool_], inside: NDArray[np.bool_] | None, window: Window | None = None
) -> NDArray[np.bool_]:
    """A mask cut to the region of interest.

    Args:
        mask: bool, of the image or of a window of it.
        inside: The region of interest, bool (H, W); None for the whole image.
        window: The mask's window, XYXY; None for the whole image.
    """
    if inside is None:
        return mask
    return mask & (inside if window is None else inside[slices(window)])


def mask_in_window(
    logits: NDArray[np.float32], frame: SamFrame, inside: NDArray[np.bool_] | None = None
) -> tuple[Window | None, NDArray[np.bool_] | None]:
    """The mask of low-resolution logits (where they exceed 0), interpolated only in the window it can touch.

    Args:
        logits: float32 (h, w), in the decoder's own frame.
        frame: The geometry of the image or crop in SAM.
        inside: The region of interest, bool (H, W), or None; the mask is cut to it.

    Returns:
        Window (XYXY) and mask, bool, of its pixels; (None, None) if the mask is empty.
    """
    window = frame.window_of_cells(logits > 0)
    if window is None:
        return None, None
    mask = within(frame.grid_to_image(logits, window) > 0, inside, window)
    return (window, mask) if mask.any() else (None, None)


def union(whole: NDArray[np.bool_], window: Window | None, mask: NDArray[np.bool_] | None) -> None:
    """Add a mask in a window to a mask of the image, bool (H, W), in place; does nothing if the mask is None."""
    if window is not None and mask is not None:
        whole[slices(window)] |= mask


def overlap(mask: Piece, region: Piece) -> float:
    """Fraction of a mask that lies inside a region, both in windows of the image."""
    shared = np.count_nonzero(mask.mask & region.seen_in(mask.window))
    return float(shared / np.count_nonzero(mask.mask))


def cut_clicks(
    mask: NDArray[np.bool_], clicks: Sequence[Click], *, pieces: bool = True
) -> NDArray[np.bool_]:
    """A mask without the pixels under negative clicks.

    Args:
        mask: bool (H, W).
        clicks: A person's points.
        pieces: Whether the whole connected piece under a negative click is removed. A disc of `CUT_FRACTION` is removed
            instead if a positive click lies in the same piece, or if this is False.
    """
    negative = [pixel_of(click, mask.shape) for click in clicks if click[2] == 0]
    if not any(mask[pixel] for pixel in negative):
        return mask
    positive = [pixel_of(click, mask.shape) for click in clicks if click[2] == 1]
    mask = mask.copy()
    radius = max(1, round(CUT_FRACTION * max(mask.shape)))
    for piece in pieces_of_mask(mask):
        hit = [pixel for pixel in negative if piece.holds(pixel)]
        if hit and pieces and not any(map(piece.holds, positive)):
            mask[piece.slices] &= ~piece.mask
        elif hit:
            discs = np.zeros(mask.shape, np.uint8)
            for row, column in hit:
                cv2.circle(discs, (column, row), radius, 1, -1)
            mask &= discs == 0
    return mask


def pieces_of_clicks(mask: NDArray[np.bool_], clicks: Sequence[Click]) -> NDArray[np.bool_]:
    """The connected pieces of a mask (8 neighbours) that hold a positive click; the whole mask where none does.

    Args:
        mask: SAM's mask for a person's points, bool (H, W).
        clicks: These points.
    """
    positive = [pixel_of(click, mask.shape) for click in clicks if click[2] == 1]
    positive = [pixel for pixel in positive if mask[pixel]]
    if not positive:
        return mask
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    return np.isin(labels, [labels[pixel] for pixel in positive])


CRUMB = 0.02
"""A piece with less than this fraction of the largest piece's area is a crumb, and no finding of its own."""


def without_crumbs(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A mask, bool (H, W), without its crumbs: the tiny connected pieces that a threshold leaves beside large ones.

    Example:
        >>> mask = np.zeros((40, 40), bool)
        >>> mask[:20, :20] = mask[30:32, 30:32] = True
        >>> int(without_crumbs(mask).sum())
        400
    """
    pieces = pieces_of_mask(mask)
    areas = [np.count_nonzero(piece.mask) for piece in pieces]
    least = CRUMB * max(areas, default=0)
    kept = np.zeros(mask.shape, bool)
    for piece, area in zip(pieces, areas, strict=True):
        if area >= least:
            union(kept, *piece)
    return kept


def soft_mask(
    masks: Sequence[tuple[NDArray[np.float32], float, SamFrame]], height: int, width: int
) -> NDArray[np.float32]:
    """SAM's masks of several regions as one soft map.

    Each mask's probability (sigmoid of its logits) is multiplied by its mask confidence; where masks overlap, the
    maximum counts.

    Args:
        masks: Low-resolution logits, mask confidence in [0, 1], and the geometry of the image or crop in SAM.
        height: Of the image, pixels.
        width: Of the image, pixels.

    Returns:
        float32 (H, W) in [0, 1].
    """
    merged = np.zeros((height, width), np.float32)
    for logits, confidence, frame in masks:
        window = frame.window_of_cells(logits > -_SOFT_EDGE)
        if window is None:
            continue
        odds = frame.grid_to_image(-logits, window)
        np.exp(np.clip(odds, -30, 30, out=odds), out=odds)
        part = merged[slices(window)]
        np.maximum(part, np.float32(confidence) / (1 + odds), out=part)
    return merged


def separate_regions(region: NDArray[np.bool_], anomaly_map: NDArray[np.float32]) -> list[Piece]:
    """The connected pieces of S_a (8 neighbours), the one with the highest pixel first.

    Args:
        region: S_a, bool (H, W).
        anomaly_map: Map_a, float32 (H, W).
    """

    def peak_and_area(piece: Piece) -> tuple[float, int]:
        return float(anomaly_map[piece.slices][piece.mask].max()), int(np.count_nonzero(piece.mask))

    return sorted(pieces_of_mask(region), key=peak_and_area, reverse=True)
