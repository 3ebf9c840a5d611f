"""Whether good images are worth believing, tried by flaws that are planted on copies of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.helpers.models import small_segmenter
from tests.localizers.test_references import SETTINGS, plate
from zsas.localizers.patches import PatchFeatures, TileFeatures
from zsas.localizers.planting import (
    BELIEVED,
    COPIES,
    Planted,
    average_precision,
    gain,
    planned,
    plant,
    trust_in,
)
from zsas.region import RegionOfInterest


def copy(flaws: np.ndarray, anomaly_map: np.ndarray, inside: np.ndarray | None = None) -> Planted:
    """A copy of 8 × 8 cells of 10 pixels each."""
    layers = torch.zeros(1, 1, 8, 8, 4)
    tile = TileFeatures((0, 0, 80, 80), layers, torch.ones(2), (80, 80), inside=inside)
    wide = np.kron(anomaly_map, np.ones((10, 10))).astype(np.float32)
    return Planted(PatchFeatures((tile,)), wide, np.kron(flaws, np.ones((10, 10))) > 0, 0)


def board() -> tuple[np.ndarray, np.ndarray]:
    """Where two flaws are, and a map that points at them and, more, at a corner."""
    flaws, anomaly_map = np.zeros((8, 8), bool), np.full((8, 8), 0.1)
    flaws[2, 2] = flaws[5, 6] = True
    anomaly_map[flaws] = 0.5
    anomaly_map[0, :4] = 0.6
    return flaws, anomaly_map


def test_flaws_that_lie_far_from_the_other_images_stand_out_in_the_lowered_map() -> None:
    flaws, anomaly_map = board()
    z = np.where(flaws, 9.0, -9.0).astype(np.float32)
    told = gain([copy(flaws, anomaly_map)], [[z]])
    assert told == pytest.approx(math.log(1 / np.mean([1 / 5, 2 / 6])))
    assert trust_in(told) == 1


def test_where_everything_but_the_flaws_lies_far_nothing_is_gained() -> None:
    flaws, anomaly_map = board()
    z = np.where(flaws, -9.0, 9.0).astype(np.float32)
    told = gain([copy(flaws, anomaly_map)], [[z]])
    assert told < 0
    assert trust_in(told) == 0


def test_what_lies_outside_of_the_region_does_not_count() -> None:
    flaws, anomaly_map = board()
    inside = np.ones((8, 8), bool)
    inside[0] = False  # what the map points at wrongly
    told = gain([copy(flaws, anomaly_map, inside)], [[np.zeros((8, 8), np.float32)]])
    assert told == pytest.approx(0)


def test_without_flaws_nothing_can_be_said() -> None:
    none = np.zeros((8, 8), bool)
    assert gain([copy(none, np.ones((8, 8)))], [[np.zeros((8, 8), np.float32)]]) == math.inf
    assert trust_in(math.inf) == 1


def test_trust_grows_with_the_gain() -> None:
    assert [trust_in(g) for g in (-1.0, 0.0, BELIEVED / 2, BELIEVED)] == [0, 0, 0.5, 1]


def test_average_precision_equals_that_of_scikit_learn() -> None:
    from sklearn.metrics import average_precision_score

    generator = np.random.default_rng(0)
    truth, scores = generator.random(200) > 0.8, generator.random(200)
    assert average_precision(truth, scores) == pytest.approx(average_precision_score(truth, scores))


def test_every_image_has_a_copy_and_many_images_no_more_than_few() -> None:
    assert planned(1) == []
    assert [i for i, _ in planned(4)] == [0, 0, 1, 1, 2, 2, 3, 3]
    for count in (2, 3, 7, 8, 20, 100):
        plan = planned(count)
        assert len({seed for _, seed in plan}) == len(plan) <= COPIES
        assert max(i for i, _ in plan) < count


def test_a_copy_differs_where_its_flaws_are_and_nowhere_else() -> None:
    image = plate(0)
    planted, flaws = plant(image, 3)
    changed = np.abs(planted.astype(int) - image).max(-1)
    assert 0.005 < flaws.mean() < 0.2
    assert changed[flaws].mean() > 10
    far = np.ones_like(flaws)
    rows, columns = np.nonzero(flaws)
    for y, x in zip(rows, columns, strict=True):
        far[max(0, y - 6) : y + 7, max(0, x - 6) : x + 7] = False
    assert not changed[far].any()
    again, _ = plant(image, 3)
    np.testing.assert_array_equal(planted, again)
    assert (plant(image, 4)[0] != planted).any()


def test_flaws_lie_in_the_region_and_a_speck_of_an_image_gets_none() -> None:
    inside = np.zeros((96, 128), bool)
    inside[20:60, 60:120] = True
    _, flaws = plant(plate(0), 0, inside)
    assert flaws.any()
    assert not (flaws & ~inside).any()
    assert not plant(np.zeros((1, 1, 3), np.uint8), 0)[1].any()
    assert not plant(np.zeros((15, 90, 3), np.uint8), 0)[1].any()


@pytest.mark.slow
def test_images_of_one_part_are_believed_and_of_several_parts_less() -> None:
    segmenter = small_segmenter()
    one = segmenter.remember([plate(seed) for seed in range(4)], SETTINGS)
    generator = np.random.default_rng(0)
    other = [generator.integers(0, 255, (12, 16, 3), np.uint8) for _ in range(4)]
    parts = segmenter.remember([np.kron(x, np.ones((8, 8, 1), np.uint8)) for x in other], SETTINGS)
    assert one.gained > parts.gained
    assert one.trust > parts.trust


def test_a_region_bounds_the_planted_flaws_too() -> None:
    inside = np.zeros((96, 128), bool)
    inside[20:60, 60:120] = True
    region = RegionOfInterest.from_mask(inside)
    found = small_segmenter().remember([plate(0), plate(1)], SETTINGS, region)
    assert math.isfinite(found.gained)
