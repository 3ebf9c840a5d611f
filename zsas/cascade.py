"""CPS: three calls of SAM's mask decoder, each fed with what the one before found, equations 9 to 12."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zsas.backbones.sam import Masks, Prompt
from zsas.frames import SamFrame, Window, box_of_mask, pieces_of_mask


@dataclass(frozen=True)
class Step:
    """One decoder call for one region.

    Attributes:
        name: `M1`, `M2` or `M3`.
        prompt: What was asked.
        logits: Low-resolution logits of the answer with the highest predicted IoU, float32 (4 g, 4 g).
        score: That predicted IoU.
        window: The part of the photo that the mask can touch, None if the mask is empty.
        mask: The mask inside `window`, bool, None if it is empty.
    """

    name: str
    prompt: Prompt
    logits: NDArray[np.float32]
    score: float
    window: Window | None
    mask: NDArray[np.bool_] | None


def next_prompt(
    points: NDArray[np.float32], labels: NDArray[np.int64], done: Sequence[Step]
) -> Prompt:
    """What the next call is asked: points (eq. 9), points and logit1 (eq. 10), points, box and logit2 (eq. 12).

    An empty M1 still feeds its logits on; an empty M2 has no box, so M3 is then asked without one.

    Args:
        points: P, (x, y) in photo pixels, float32 (n, 2), n ≥ 1.
        labels: 1 for positive and 0 for negative, int64 (n,).
        done: The steps so far, at most two.
    """
    if not done:
        return Prompt(points, labels)
    return Prompt(
        points,
        labels,
        box=box_of_step(done[-1]) if len(done) == 2 else None,
        logits=done[-1].logits,
    )


def read_answer(prompt: Prompt, answer: Masks, frame: SamFrame, number: int) -> Step:
    """The step that an answer makes: of its three masks the one with the highest predicted IoU."""
    best = int(np.argmax(answer.iou))
    logits = answer.logits[best]
    window, mask = mask_in_window(logits, frame)
    return Step(f"M{number}", prompt, logits, float(answer.iou[best]), window, mask)


def mask_in_window(
    logits: NDArray[np.float32], frame: SamFrame
) -> tuple[Window | None, NDArray[np.bool_] | None]:
    """The mask of some logits, made only where it can be: its window and bool mask; None, None if empty."""
    window = frame.window_of_cells(logits > 0)
    if window is None:
        return None, None
    mask = frame.grid_to_photo(logits, window) > 0
    return (window, mask) if mask.any() else (None, None)


def box_of_step(step: Step) -> NDArray[np.float32] | None:
    """Eq. 11: the tight box of a step's mask, xyxy in image pixels, x1 and y1 exclusive; None if it is empty."""
    if step.window is None or step.mask is None:
        return None
    box = box_of_mask(step.mask)
    assert box is not None
    x0, y0, *_ = step.window
    return box + np.array([x0, y0, x0, y0], np.float32)


def kept_step(steps: Sequence[Step]) -> Step | None:
    """The step that wins: the last one whose mask is not empty, None if all are."""
    return next((step for step in reversed(steps) if step.mask is not None), None)


def separate_regions(
    region: NDArray[np.bool_], anomaly_map: NDArray[np.float32], at_most: int
) -> list[NDArray[np.bool_]]:
    """The connected pieces of S_a (8 neighbours), the one with the hottest pixel first.

    Args:
        region: S_a, bool (H, W).
        anomaly_map: Map_a, float32 (H, W).
        at_most: How many pieces are returned.

    Returns:
        Bool masks (H, W); none for an empty region.
    """
    pieces = pieces_of_mask(region)

    def heat(piece: tuple[Window, NDArray[np.bool_]]) -> tuple[float, int]:
        (x0, y0, x1, y1), inside = piece
        return float(anomaly_map[y0:y1, x0:x1][inside].max()), int(inside.sum())

    found = []
    for (x0, y0, x1, y1), inside in sorted(pieces, key=heat, reverse=True)[:at_most]:
        whole = np.zeros(region.shape, bool)
        whole[y0:y1, x0:x1] = inside
        found.append(whole)
    return found
