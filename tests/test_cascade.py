from __future__ import annotations

import numpy as np
import pytest

from zsas.backbones.sam import Masks, Prompt
from zsas.cascade import box_of_step, kept_step, next_prompt, read_answer, separate_regions
from zsas.frames import SamFrame
from zsas.fusion import agreement, fuse, has_run_away, hottest, image_score, soft_mask, trust
from zsas.settings import Settings

FRAME = SamFrame(64, 64, side=64, stride=16)
POINTS = np.array([[20, 20]], np.float32)
LABELS = np.array([1], np.int64)


def answer(*squares: tuple[int, int, int, int] | None, iou: tuple[float, ...]) -> Masks:
    """Three masks, each a square of logit cells (x0, y0, x1, y1) or nothing."""
    logits = np.full((3, 16, 16), -8, np.float32)
    for i, square in enumerate(squares):
        if square:
            x0, y0, x1, y1 = square
            logits[i, y0:y1, x0:x1] = 8
    return Masks(logits, np.array(iou, np.float32))


def step(number: int, square: tuple[int, int, int, int] | None, prompt: Prompt | None = None):
    prompt = prompt or Prompt(POINTS, LABELS)
    return read_answer(prompt, answer(square, None, None, iou=(0.9, 0.1, 0.1)), FRAME, number)


def test_the_best_of_three_is_the_one_with_the_highest_predicted_iou():
    masks = answer((0, 0, 4, 4), (4, 4, 12, 12), None, iou=(0.3, 0.8, 0.5))
    best = read_answer(Prompt(POINTS, LABELS), masks, FRAME, 1)
    assert best.score == np.float32(0.8)
    np.testing.assert_array_equal(best.logits, masks.logits[1])


def test_the_first_call_has_points_the_second_logits_the_third_a_tight_box():
    first = next_prompt(POINTS, LABELS, [])
    assert first.box is None
    assert first.logits is None
    one = step(1, (4, 4, 8, 8))
    second = next_prompt(POINTS, LABELS, [one])
    assert second.box is None
    np.testing.assert_array_equal(second.logits, one.logits)
    two = step(2, (4, 4, 8, 8))
    third = next_prompt(POINTS, LABELS, [one, two])
    np.testing.assert_array_equal(third.logits, two.logits)
    # Cells 4..7 of 4 px each: the mask is where the interpolated logits are positive.
    np.testing.assert_allclose(third.box, [16, 16, 32, 32], atol=1)


def test_an_empty_second_mask_gives_a_third_call_without_a_box():
    done = [step(1, (4, 4, 8, 8)), step(2, None)]
    assert box_of_step(done[1]) is None
    third = next_prompt(POINTS, LABELS, done)
    assert third.box is None
    assert third.logits is not None


def test_the_last_mask_that_is_not_empty_wins():
    one, two, three = step(1, (4, 4, 8, 8)), step(2, (5, 5, 9, 9)), step(3, None)
    assert kept_step([one, two, three]).name == "M2"
    assert kept_step([step(1, None)]) is None


def test_a_mask_at_the_corner_has_its_box_at_the_corner():
    np.testing.assert_allclose(box_of_step(step(2, (12, 12, 16, 16))), [48, 48, 64, 64], atol=1)


def test_separate_regions_come_hottest_first():
    heat = np.zeros((20, 20), np.float32)
    heat[2:5, 2:5] = 0.6
    heat[10:18, 10:18] = 0.7
    heat[3, 15] = 0.9
    pieces = separate_regions(heat > 0.5, heat, 8)
    assert [int(piece.sum()) for piece in pieces] == [1, 64, 9]
    assert len(separate_regions(heat > 0.5, heat, 2)) == 2
    assert separate_regions(heat > 1, heat, 2) == []


def test_a_mask_that_leaves_its_region_is_trusted_by_its_share_inside():
    mask = step(3, (4, 4, 8, 8))
    assert mask.score == np.float32(0.9)
    everywhere, nowhere = np.ones((64, 64), bool), np.zeros((64, 64), bool)
    assert trust(mask, 0.9, everywhere) == pytest.approx(0.9 * mask.score)
    assert trust(mask, 0.9, nowhere) == 0
    top = mask.window[1]
    rows = np.nonzero(mask.mask)[0] + top
    half = everywhere.copy()
    half[: int(np.median(rows))] = False
    assert 0.3 < trust(mask, 1.0, half) / mask.score < 0.7
    assert trust(step(3, None), 0.9, everywhere) == 0


def test_a_mask_has_run_away_when_too_little_of_it_lies_in_its_region():
    mask = step(3, (4, 4, 8, 8))
    region = np.zeros((64, 64), bool)
    x0, y0, *_ = mask.window
    rows, columns = np.nonzero(mask.mask)
    tenth = len(rows) // 10
    region[rows[:tenth] + y0, columns[:tenth] + x0] = True
    assert agreement(mask, region) == pytest.approx(tenth / len(rows))
    assert has_run_away(mask, region, Settings(agreement=0.2))
    assert not has_run_away(mask, region, Settings(agreement=0.05))
    assert has_run_away(None, region, Settings(agreement=0.05))
    assert not has_run_away(None, region, Settings(agreement=0.0))


def test_a_faint_region_keeps_a_faint_mask():
    soft = soft_mask([(step(3, (4, 4, 8, 8)), 0.3), (step(3, (10, 10, 14, 14)), 0.9)], FRAME)
    assert soft[24, 24] == np.float32(0.3 / (1 + np.exp(-8)))
    assert 0.89 < soft[48, 48] < 0.9
    assert soft[0, 0] == 0


def test_fusion_mixes_by_weight_and_stays_in_range():
    heat = np.full((4, 4), 0.4, np.float32)
    soft = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(fuse(heat, soft, Settings(fusion="map")), heat)
    np.testing.assert_allclose(fuse(heat, soft, Settings(fusion="mask")), soft)
    mixed = fuse(heat, soft, Settings(fusion="weighted", fusion_weight=0.25))
    np.testing.assert_allclose(mixed[0, :2], [0.3 + 0.25, 0.3], rtol=1e-6)


def test_the_image_score_rises_with_the_map_and_with_clips_own_answer():
    calm = np.full((100, 100), 0.1, np.float32)
    hot = calm.copy()
    hot[50:60, 50:60] = 0.9
    both = Settings(image_weight=0.5)
    assert hottest(calm) == pytest.approx(0.1)
    assert hottest(hot) == pytest.approx(0.9)
    assert image_score(0.1, 0.1, both) < image_score(0.9, 0.1, both) < image_score(0.9, 0.9, both)
    assert image_score(0.3, 0.9, Settings(image_weight=0.0)) == pytest.approx(0.3)
    assert image_score(0.3, 0.9, Settings(image_weight=0.25)) == pytest.approx(0.45)


def test_the_piece_with_the_hottest_pixel_comes_first_and_not_the_hottest_piece():
    heat = np.zeros((20, 20), np.float32)
    heat[2:5, 2:5] = 0.6
    heat[3, 3] = 0.9
    heat[10:18, 10:18] = 0.8
    assert [int(piece.sum()) for piece in separate_regions(heat > 0.5, heat, 8)] == [9, 64]


def test_the_hottest_thousandth_stands_for_the_map():
    heat = np.full((100, 100), 0.1, np.float32)
    heat[40, 40:50] = 0.9
    assert hottest(heat) == pytest.approx(0.9)
    heat[40, 45:50] = 0.1
    assert hottest(heat) == pytest.approx(0.5)


def test_overlapping_masks_are_not_added_and_doubtful_logits_count():
    twice = soft_mask([(step(3, (4, 4, 8, 8)), 0.8), (step(3, (5, 5, 9, 9)), 0.7)], FRAME)
    assert twice.max() == pytest.approx(0.8, abs=1e-3)
    faint = answer((4, 4, 8, 8), None, None, iou=(0.9, 0.1, 0.1))
    faint.logits[0][faint.logits[0] < 0] = -3
    soft = soft_mask([(read_answer(Prompt(POINTS, LABELS), faint, FRAME, 3), 1.0)], FRAME)
    assert soft[60, 60] == pytest.approx(1 / (1 + np.exp(3)), abs=1e-3)


@pytest.mark.parametrize(("iou", "believed"), [(1.3, 1.0), (-0.2, 0.0), (0.4, 0.4)])
def test_a_predicted_iou_is_a_share(iou, believed):
    sure = read_answer(
        Prompt(POINTS, LABELS), answer((4, 4, 8, 8), None, None, iou=(iou, -9, -9)), FRAME, 3
    )
    assert trust(sure, 0.5, np.ones((64, 64), bool)) == pytest.approx(0.5 * believed)
