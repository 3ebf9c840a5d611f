"""Clicks that mean "only this spot": a small piece around the click is marked, in addition to the refiner's mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.prompts import SPOT, Click, Prompt
from zsas.refiners.base import Refined, pixel_of
from zsas.refiners.masks import cut_clicks, mask_in_window, pieces_of_clicks, union
from zsas.stages import Area, counted

if TYPE_CHECKING:
    from zsas.backbones.session import SamSession

SPOT_FRACTION = 0.03
"""Largest radius of a spot, as a fraction of the image's longest side."""


def with_spots(refined: Refined, clicks: Sequence[Click], sam: SamSession | None) -> Refined:
    """Add the spots among a person's clicks to a refiner's decision.

    Args:
        refined: The decision without spots.
        clicks: All clicks of the person; those with the label `SPOT` are marked, and negative ones are cut out.
        sam: SAM on the image; None for systems without SAM, where a spot is a disc.
    """
    spots = [click for click in clicks if click[2] == SPOT]
    if not spots:
        return refined
    mask = refined.mask.copy()
    for click in spots:
        mask |= spot(click, refined.mask.shape, sam)
    mask = cut_clicks(mask, clicks, pieces=False)
    stage = replace(
        refined.stage,
        caption=f"{refined.stage.caption} {counted(len(spots), 'spot')} marked by a person.",
        layers=tuple(
            Area(mask, layer.style) if isinstance(layer, Area) else layer
            for layer in refined.stage.layers
        ),
    )
    points = refined.points.with_clicks([(x, y, 1) for x, y, _ in spots])
    return replace(refined, mask=mask, stage=stage, points=points)


def spot(click: Click, shape: tuple[int, ...], sam: SamSession | None) -> NDArray[np.bool_]:
    """The smallest of SAM's masks under a click, cut to a disc of `SPOT_FRACTION`, bool (H, W).

    If SAM draws nothing under the click, it is a disc of half that radius.
    """
    row, column = pixel_of(click, shape)
    radius = max(2, round(SPOT_FRACTION * max(shape)))
    if sam is not None:
        reach = _disc(shape, row, column, radius)
        found = [mask for mask in _masks(row, column, shape, sam) if mask[row, column]]
        if found:
            smallest = min(found, key=np.count_nonzero)
            return pieces_of_clicks(smallest & reach, [(column, row, 1)])
    return _disc(shape, row, column, max(1, radius // 2))


def _masks(
    row: int, column: int, shape: tuple[int, ...], sam: SamSession
) -> list[NDArray[np.bool_]]:
    """SAM's three masks for one point, bool (H, W) each."""
    prompt = Prompt(np.array([[column, row]], np.float32), np.ones(1, np.int64))
    (answer,) = sam.decode([prompt])
    found = []
    for logits in answer.logits:
        whole = np.zeros(shape[:2], bool)
        union(whole, *mask_in_window(logits, sam.frame))
        found.append(whole)
    return found


def _disc(shape: tuple[int, ...], row: int, column: int, radius: int) -> NDArray[np.bool_]:
    disc = np.zeros(shape[:2], np.uint8)
    cv2.circle(disc, (column, row), radius, 1, -1)
    return disc.astype(bool)
