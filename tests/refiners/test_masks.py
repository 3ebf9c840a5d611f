from __future__ import annotations

import numpy as np
import pytest

from tests.refiners.test_cascade import FRAME, answer
from zsas.frames import Piece
from zsas.refiners.base import fuse
from zsas.refiners.masks import (
    cut_clicks,
    mask_in_window,
    pieces_of_clicks,
    separate_regions,
    soft_mask,
    without_crumbs,
)


def test_a_mask_at_the_corner_has_its_box_at_the_corner():
    found = Piece(*mask_in_window(answer((12, 12, 16, 16)).logits[0], FRAME))
    np.testing.assert_allclose(found.tight().window, [48, 48, 64, 64], atol=1)


def test_logits_without_a_positive_cell_are_no_mask():
    assert mask_in_window(answer(None).logits[0], FRAME) == (None, None)


def test_the_piece_with_the_highest_pixel_comes_first():
    heat = np.zeros((20, 20), np.float32)
    heat[2:5, 2:5] = 0.6
    heat[3, 3] = 0.9
    heat[10:18, 10:18] = 0.8
    assert [int(piece.mask.sum()) for piece in separate_regions(heat > 0.5, heat)] == [9, 64]
    assert separate_regions(heat > 1, heat) == []


def test_a_soft_mask_is_probability_times_confidence_and_the_maximum_where_masks_overlap():
    one, two = answer((4, 4, 8, 8)).logits[0], answer((10, 10, 14, 14)).logits[0]
    soft = soft_mask([(one, 0.3, FRAME), (two, 0.9, FRAME)], 64, 64)
    assert soft[24, 24] == np.float32(0.3 / (1 + np.exp(-8)))
    assert 0.89 < soft[48, 48] < 0.9
    assert soft[0, 0] == 0
    beside = answer((5, 5, 9, 9)).logits[0]
    assert soft_mask([(one, 0.8, FRAME), (beside, 0.7, FRAME)], 64, 64).max() == pytest.approx(
        0.8, abs=1e-3
    )


def test_doubtful_logits_count_in_a_soft_mask():
    faint = answer((4, 4, 8, 8)).logits[0]
    faint[faint < 0] = -3
    soft = soft_mask([(faint, 1.0, FRAME)], 64, 64)
    assert soft[60, 60] == pytest.approx(1 / (1 + np.exp(3)), abs=1e-3)


def test_fusion_mixes_by_weight_and_stays_in_range():
    heat = np.full((4, 4), 0.4, np.float32)
    soft = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(fuse(heat, soft, "map", 0.5), heat)
    np.testing.assert_allclose(fuse(heat, soft, "mask", 0.5), soft)
    mixed = fuse(heat, soft, "weighted", 0.25)
    np.testing.assert_allclose(mixed[0, :2], [0.3 + 0.25, 0.3], rtol=1e-6)


def test_a_negative_click_takes_the_piece_under_it():
    mask = np.zeros((40, 40), bool)
    mask[2:10, 2:10] = mask[20:30, 20:30] = True
    left = cut_clicks(mask, [(4, 4, 0)])
    assert not left[:15, :15].any()
    np.testing.assert_array_equal(left[15:, 15:], mask[15:, 15:])
    assert mask[4, 4], "the argument stays as it is"
    assert cut_clicks(mask, [(15, 15, 0)]) is mask
    assert cut_clicks(mask, [(4, 4, 1)]) is mask


def test_a_positive_click_in_the_same_piece_leaves_all_but_a_disc():
    mask = np.ones((40, 40), bool)
    left = cut_clicks(mask, [(4, 4, 0), (30, 30, 1)])
    assert not left[4, 4]
    assert left.sum() == 1600 - 5


def test_only_the_pieces_under_a_persons_points_are_kept() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:6, 2:6] = mask[10:14, 2:6] = mask[2:6, 12:16] = True
    kept = pieces_of_clicks(mask, [(3, 3, 1), (13, 4, 1), (3, 12, 0)])
    assert kept[3, 3]
    assert kept[4, 13]
    assert not kept[12, 3]
    # SAM's mask beside the point is better than none.
    assert pieces_of_clicks(mask, [(18, 18, 1)]) is mask


def test_crumbs_beside_a_mask_go_and_pieces_of_one_size_stay():
    broken = np.zeros((60, 60), bool)
    broken[5:8, 2:20] = broken[5:8, 22:40] = broken[5:8, 42:58] = True  # a crack in three pieces
    assert np.array_equal(without_crumbs(broken), broken)
    whole = np.zeros((60, 60), bool)
    whole[:30, :30] = True
    crumbs = whole.copy()
    crumbs[40:44, 40:44] = crumbs[50, 50] = True  # 16 pixels and one, of 900
    assert np.array_equal(without_crumbs(crumbs), whole)
    assert not without_crumbs(np.zeros((4, 4), bool)).any()
