"""The most similar place of the good images, beside each finding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zsas.localizers.nearest import nearest_places
from zsas.localizers.patches import PatchFeatures, TileFeatures
from zsas.localizers.references import remember


def features_of(
    grid: np.ndarray, window: tuple[int, int, int, int] = (0, 0, 80, 40)
) -> PatchFeatures:
    """Cells of two layers whose direction is the number that the grid has there."""
    angles = torch.from_numpy(np.asarray(grid, np.float32))
    cells = torch.stack([angles.cos(), angles.sin()], dim=-1)
    layers = torch.stack([cells, cells])[None].half()
    return PatchFeatures((TileFeatures(window, layers, torch.zeros(2), (8, 8)),))


def test_the_most_similar_place_of_all_good_images_is_found():
    one = np.zeros((4, 8))
    other = np.zeros((4, 8))
    other[3, 1] = 1.0
    memory = remember([features_of(one), features_of(other)], keys=["a", "b"], made_by=())
    image = np.zeros((4, 8))
    image[0, 7] = 1.05
    (place,) = nearest_places(features_of(image), memory, [(75.0, 4.0)])
    assert place.image == 1
    assert (place.x, place.y) == pytest.approx((1.5 / 8, 3.5 / 4))
    assert place.similarity == pytest.approx(np.cos(0.05), abs=2e-3)


def test_a_region_of_interest_bounds_the_places():
    grid = np.zeros((4, 8))
    grid[3, 1] = 1.0
    features = features_of(grid)
    inside = np.ones((4, 8), bool)
    inside[3, 1] = False
    (tile,) = features.tiles
    looked = PatchFeatures((TileFeatures(**{**vars(tile), "inside": inside}),))
    memory = remember([looked, looked], keys=["a", "b"], made_by=())
    (place,) = nearest_places(features, memory, [(15.0, 35.0)])
    assert (place.x, place.y) != pytest.approx((1.5 / 8, 3.5 / 4))


def test_a_localizer_with_nothing_to_compare_has_no_places():
    memory = remember([features_of(np.zeros((4, 8)))] * 2, keys=["a", "b"], made_by=())
    assert nearest_places(object(), memory, [(1.0, 1.0)]) == []
    assert nearest_places(features_of(np.zeros((4, 8))), memory, []) == []
