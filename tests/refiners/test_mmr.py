from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.models import small_segmenter
from tests.refiners.test_cascade import FRAME, WrittenSam, answer, spot
from zsas.localizers.base import Scored, map_stage
from zsas.refiners.mmr import Mmr, fuse_masks
from zsas.settings import Settings


def refine(anomaly_map, reply, clicks=(), **settings):
    sam = WrittenSam(reply)
    scored = Scored(anomaly_map, {}, (map_stage(anomaly_map, "Given"),))
    values = Settings(refiner="mmr", **{"threshold": 0.5, **settings})
    *stages, refined = Mmr().refine(scored, sam, values, clicks)
    return {stage.name: stage for stage in stages}, refined, sam


def three(_):
    return answer((4, 4, 8, 8), (3, 3, 9, 9), None, iou=(0.8, 0.4, 0.6))


def test_each_piece_gives_one_box_and_points_with_the_highest_first():
    anomaly_map = spot((16, 16, 32, 32), (40, 40, 56, 56))
    anomaly_map[20, 30] = 0.95
    _, refined, sam = refine(anomaly_map, three, mmr_points=5)
    assert len(sam.asked) == 2
    first, second = sam.asked
    np.testing.assert_array_equal(first.box, [16, 16, 32, 32])
    np.testing.assert_array_equal(second.box, [40, 40, 56, 56])
    np.testing.assert_array_equal(first.points[0], [30, 20])
    assert len(first.points) == 5
    assert all(anomaly_map[int(y), int(x)] > 0.5 for x, y in first.points)
    assert len(refined.points) == 10


def test_an_empty_region_leaves_the_map_and_asks_nobody():
    anomaly_map = spot()
    stages, refined, sam = refine(anomaly_map, three)
    assert not sam.asked
    assert not stages
    np.testing.assert_array_equal(refined.score_map, anomaly_map)


def test_small_pieces_are_left_out():
    _, _, sam = refine(spot((10, 10, 13, 13), (40, 40, 50, 50)), three)
    assert len(sam.asked) == 1


def test_crumbs_do_not_take_the_places_of_pieces():
    anomaly_map = spot((10, 10, 13, 13), (40, 40, 50, 50))
    anomaly_map[11, 11] = 0.99
    _, _, sam = refine(anomaly_map, three, mmr_most_regions=1)
    (asked,) = sam.asked
    np.testing.assert_array_equal(asked.box, [40, 40, 50, 50])


def test_all_masks_join_weighted_by_their_predicted_iou():
    mean, every = fuse_masks([answer((4, 4, 8, 8), (4, 4, 12, 12), None, iou=(0.8, 0.4, 1))], FRAME)
    assert mean[24, 24] == pytest.approx(0.6)  # (0.8 + 0.4) / 2
    assert mean[40, 40] == pytest.approx(0.4)
    assert mean[60, 60] == 0
    assert every.sum() == pytest.approx(32 * 32, abs=8)  # its corners are rounded


def test_doubling_all_scores_does_not_move_the_peak():
    anomaly_map = spot((16, 16, 32, 32))

    def quiet(_):
        return answer((4, 4, 8, 8), None, None, iou=(0.4, 0, 0))

    def loud(_):
        return answer((4, 4, 8, 8), None, None, iou=(0.8, 0, 0))

    maps = [refine(anomaly_map, reply)[1].score_map for reply in (quiet, loud)]
    assert np.argmax(maps[0]) == np.argmax(maps[1])


def test_the_papers_scale_reaches_zero_and_one_on_every_image():
    _, fixed, _ = refine(spot((16, 16, 32, 32)), three)
    _, stretched, _ = refine(spot((16, 16, 32, 32)), three, mmr_scale="image")
    assert 0 < fixed.score_map.min() < fixed.score_map.max() < 1
    assert (stretched.score_map.min(), stretched.score_map.max()) == (0, 1)


def test_a_negative_click_takes_the_piece_and_a_positive_one_asks():
    anomaly_map = spot((16, 16, 32, 32))
    _, refined, sam = refine(anomaly_map, three, [(24, 24, 0), (60, 4, 1)])
    assert not refined.mask[24, 24]
    assert sam.asked[-1].box is None
    np.testing.assert_array_equal(sam.asked[-1].points, [[60, 4]])


@pytest.mark.slow
def test_any_system_can_be_followed_by_it(photo):
    segmenter = small_segmenter()
    marked = Settings(threshold=0.9, threshold_mode="quantile", fine_detail=False)
    result = segmenter(photo, marked.replace(refiner="mmr"))
    assert result.models["refiner"] == "mmr"
    assert [stage.name for stage in result.stages][-2:] == ["mmr_masks", "fused"]
