"""Each region ends at half of its own height above the ground around it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from zsas.refiners.base import MarkSettings
from zsas.refiners.extent import to_half_height, without_grains
from zsas.refiners.marking import mark_region

ADAPTIVE = MarkSettings(threshold_mode="adaptive")


def squares(*given: tuple[int, int, float], ground: float = 0.1) -> NDArray[np.float32]:
    """Squares of 20 px on even ground, each of its own height, as a blurred picture shows them."""
    anomaly_map = np.full((120, 200), ground, np.float32)
    for x, y, height in given:
        anomaly_map[y : y + 20, x : x + 20] = height
    return cv2.GaussianBlur(anomaly_map, (0, 0), 5)


def test_strong_and_weak_regions_end_where_they_should() -> None:
    anomaly_map = squares((20, 40, 1.0), (140, 40, 0.7))
    region = to_half_height(anomaly_map, anomaly_map > 0.45, 12)
    for x in (20, 140):
        assert abs(int(region[50, x - 15 : x + 35].sum()) - 20) <= 3
    strong, weak = (int((anomaly_map > 0.45)[50, x - 15 : x + 35].sum()) for x in (20, 140))
    assert strong > weak  # one level cuts them differently


def test_a_region_grows_no_farther_than_its_reach_and_not_beyond_what_is_looked_at() -> None:
    anomaly_map = np.full((60, 60), 0.2, np.float32)
    anomaly_map[:, 20:40] = 0.8
    seed = np.zeros((60, 60), bool)
    seed[28:32, 28:32] = True
    anomaly_map[28:32, 28:32] = 1.0
    grown = to_half_height(anomaly_map, seed, 14)
    ys, xs = np.nonzero(grown)
    assert ys.max() - ys.min() <= 4 + 2 * 15
    inside = np.zeros((60, 60), bool)
    inside[:, 25:] = True
    assert not to_half_height(anomaly_map, seed, 14, inside)[:, :25].any()
    assert xs.min() >= 14


def test_nothing_and_everything_stay_what_they_are() -> None:
    anomaly_map = squares((20, 40, 1.0))
    assert not to_half_height(anomaly_map, np.zeros_like(anomaly_map, bool), 8).any()
    assert to_half_height(anomaly_map, np.ones_like(anomaly_map, bool), 8).all()


def test_only_the_adaptive_level_has_regions_of_their_own_height() -> None:
    anomaly_map = squares((20, 40, 1.0))
    plain = mark_region(anomaly_map, MarkSettings(), None, 12.0)
    np.testing.assert_array_equal(plain.region, anomaly_map > 0.55)
    own = mark_region(anomaly_map, ADAPTIVE, None, 12.0)
    assert own.region.sum() != mark_region(anomaly_map, ADAPTIVE).region.sum()
    assert own.region[50, 30]


@pytest.mark.parametrize("value", [0.0, 0.6, 1.0])
def test_an_even_map_gives_no_error(value: float) -> None:
    anomaly_map = np.full((20, 30), value, np.float32)
    assert mark_region(anomaly_map, ADAPTIVE, None, 5.0).region.shape == anomaly_map.shape


def test_grains_beside_a_region_are_no_regions() -> None:
    anomaly_map = np.full((60, 60), 0.1, np.float32)
    anomaly_map[20:30, 20:30] = 0.9
    anomaly_map[33, 33] = anomaly_map[17, 25] = 0.8  # single pixels above its half height
    region = np.zeros_like(anomaly_map, bool)
    region[15:35, 15:35] = True
    found = to_half_height(anomaly_map, region, 4)
    assert np.array_equal(found, anomaly_map == np.float32(0.9))


def test_grains_go_where_they_lie_beside_a_piece_and_stay_far_from_all() -> None:
    region = np.zeros((80, 80), bool)
    region[20:35, 20:35] = True
    alone = np.zeros_like(region)
    alone[70:72, 70:72] = True  # small, but nothing is near it
    grains = np.zeros_like(region)
    grains[38, 30] = grains[17, 25] = True
    assert np.array_equal(without_grains(region | alone | grains, 12), region | alone)
    assert np.array_equal(without_grains(region | grains, 0), region | grains)
    assert not without_grains(np.zeros_like(region), 12).any()
