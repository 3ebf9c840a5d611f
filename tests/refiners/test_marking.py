"""The marking level: one for all images, or found in each map."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.models import small_segmenter
from zsas.refiners.base import MarkSettings
from zsas.refiners.marking import (
    Constants,
    adaptive_levels,
    constants,
    mark_region,
    with_peaks,
)
from zsas.settings import Settings
from zsas.ui import why

ADAPTIVE = MarkSettings(threshold_mode="adaptive")


def map_of(*blobs: tuple[int, int, float], ground: float = 0.05) -> NDArray[np.float32]:
    """Round soft spots of a height on even ground."""
    found = np.full((96, 96), ground, np.float32)
    for x, y, height in blobs:
        spot = np.zeros_like(found)
        spot[y, x] = 1
        spot = cv2.GaussianBlur(spot, (0, 0), 5)
        found = np.maximum(found, height * spot / spot.max())
    return found


def test_only_regions_with_a_peak_are_kept_and_kept_whole() -> None:
    found = map_of((24, 24, 0.9), (70, 70, 0.6))
    region = with_peaks(found, 0.5, 0.8)
    assert region[24, 24]
    assert not region[60:80, 60:80].any()
    np.testing.assert_array_equal(region[:48, :48], found[:48, :48] > 0.5)
    assert not with_peaks(found, 0.95, 0.95).any()
    assert with_peaks(np.ones((4, 4), np.float32), 0.5, 0.5).all()


def test_what_stands_out_is_marked_and_even_ground_is_not() -> None:
    marked = mark_region(map_of((30, 40, 0.9)), ADAPTIVE)
    assert marked.region[40, 30]
    assert marked.region.sum() < 700
    assert (map_of((30, 40, 0.9))[marked.region] > marked.level).all()
    assert not mark_region(map_of(), ADAPTIVE).region.any()
    assert not mark_region(map_of((30, 40, 0.3), ground=0.25), ADAPTIVE).region.any()


def test_one_level_lies_lower_where_the_ground_is_restless_and_asks_a_higher_peak() -> None:
    """As fitted: edges and textures that rise everywhere must rise higher to count."""
    quiet, restless = (adaptive_levels(np.full((50, 50), v, np.float32)) for v in (0.1, 0.5))
    assert restless[1] > quiet[1]
    assert restless[0] < quiet[0]


def test_levels_do_not_depend_on_the_size_of_the_map() -> None:
    found = map_of((30, 40, 0.8), ground=0.2)
    large = cv2.resize(found, (960, 960), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(adaptive_levels(large), adaptive_levels(found), atol=0.01)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_an_even_map_gives_finite_levels(value: float) -> None:
    level, peak = adaptive_levels(np.full((20, 30), value, np.float32))
    assert 0.55 <= level <= peak <= 1.0


def test_the_constants_stand_beside_the_code() -> None:
    assert isinstance(constants(), Constants)
    level, peak = adaptive_levels(np.full((9, 9), 0.2, np.float32), Constants((0.0, 0.0), (2.0, 0)))
    assert level == pytest.approx(0.55)  # the lowest that is taken
    assert peak == pytest.approx(0.881, abs=1e-3)


@pytest.mark.parametrize("system", ["auto", "april-gan"])
def test_the_level_that_was_found_is_in_the_result_and_on_the_page(system, photo) -> None:
    settings = Settings(system=system, threshold_mode="adaptive", refiner="none")
    result = small_segmenter()(photo, settings)
    level, _ = adaptive_levels(result.anomaly_map)
    assert result.marking_level == pytest.approx(level, abs=1e-5)
    bar = why.scale(result)
    assert f'value="{level:.4g}"' in bar
    assert "found for this photo" in bar
    assert "disabled" not in bar


def test_one_level_for_all_is_the_tick_of_the_page(photo) -> None:
    result = small_segmenter()(photo, Settings(threshold=0.37))
    assert result.marking_level == 0.37
    assert 'value="0.37"' in why.scale(result)


def test_nothing_is_marked_that_the_usual_level_for_all_would_leave_out() -> None:
    rng = np.random.default_rng(0)
    for ground in (0.05, 0.3, 0.5):
        found = map_of((24, 24, 0.9), (70, 70, 0.6), ground=ground)
        found = np.clip(found + rng.normal(0, 0.05, found.shape), 0, 1).astype(np.float32)
        usual = mark_region(found, MarkSettings()).region
        assert not (mark_region(found, ADAPTIVE).region & ~usual).any()
