"""What a decision costs, counted: pixels that are looked at and how often, never seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from zsas.localizers.base import Scored
from zsas.refiners import extent, marking, points
from zsas.refiners.base import MarkSettings
from zsas.refiners.crops import CropSettings, close_windows
from zsas.refiners.points import surrounding_ring

SIDE = 800


def watched(work: Callable[..., Any], seen: list[Any]) -> Callable[..., Any]:
    """A function that also writes down what it is given."""

    def watching(*given: Any) -> Any:
        seen.append(given)
        return work(*given)

    return watching


def far_apart() -> np.ndarray:
    """A map with a small spot in each corner, float32."""
    heat = np.full((SIDE, SIDE), 0.1, np.float32)
    for row in (20, SIDE - 40):
        for column in (20, SIDE - 40):
            heat[row : row + 20, column : column + 20] = 0.9
    return heat


def test_the_maps_own_level_is_found_once_for_a_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Marking, windows for close-ups, and decisions with other settings share it."""
    found: list[Any] = []
    monkeypatch.setattr(marking, "mark_region", watched(marking.mark_region, found))
    scored = Scored(far_apart(), {}, ())
    own = MarkSettings(threshold_mode="adaptive")
    assert marking.mark_scored(scored, own) is marking.mark_scored(scored, own)
    close_windows(scored, CropSettings(sam_crops=4), 256)
    close_windows(scored, CropSettings(sam_crops=2), 256)
    assert len(found) == 1
    for level in (0.3, 0.5):
        marking.mark_scored(scored, MarkSettings(threshold=level))
    assert len(found) == 3


def test_a_ring_costs_the_surroundings_of_its_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Any] = []
    monkeypatch.setattr(points, "_dilated", watched(points._dilated, looked_at))
    region = far_apart() > 0.5
    ring = surrounding_ring(region, "ellipse", 25)
    assert len(looked_at) == 4
    assert sum(mask.size for mask, *_ in looked_at) < 0.04 * region.size
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (25, 25))
    whole = cv2.dilate(region.view(np.uint8), kernel) > 0
    assert np.array_equal(ring, whole & ~region)


def test_many_pieces_close_together_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Any] = []
    monkeypatch.setattr(cv2, "distanceTransform", watched(cv2.distanceTransform, looked_at))
    region = np.zeros((200, 200), bool)
    region[::4, ::4] = True
    assert np.array_equal(extent.without_grains(region, 12), region)
    assert len(looked_at) == 1
    assert np.array_equal(extent.without_grains(far_apart() > 0.5, 12), far_apart() > 0.5)
    assert len(looked_at) == 5
