from __future__ import annotations

import numpy as np
import pytest

from zsas.frames import (
    Piece,
    SamFrame,
    around,
    grown,
    piece_of_mask,
    reference_scale,
    resize_map,
    window_of_mask,
)


@pytest.mark.parametrize(
    ("height", "width", "resized", "grid"),
    [
        (1024, 1024, (1024, 1024), (64, 64)),
        (512, 1024, (512, 1024), (32, 64)),
        (300, 400, (768, 1024), (48, 64)),
        (1, 4000, (1, 1024), (1, 64)),
        (4000, 1, (1024, 1), (64, 1)),
        (1, 1, (1024, 1024), (64, 64)),
    ],
)
def test_a_photo_keeps_its_shape_in_the_sam_frame(height, width, resized, grid):
    frame = SamFrame(height, width)
    assert frame.resized_hw == resized
    assert frame.grid_hw == grid


def test_points_are_scaled_by_the_rounded_size():
    frame = SamFrame(100, 300)
    xy = frame.points_to_frame(np.array([[150, 50], [0, 0]], np.float32))
    np.testing.assert_allclose(xy, [[512, 50 * 341 / 100], [0, 0]], rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(96, 160), (512, 512), (1500, 700), (3, 5)])
def test_grid_and_photo_agree_on_where_a_thing_is(height, width):
    """A mask sent to the grid and back covers the same place."""
    frame = SamFrame(height, width, side=256, stride=16)
    mask = np.zeros((height, width), bool)
    mask[height // 4 : height // 2 + 1, width // 2 :] = True
    back = frame.grid_to_image(frame.mask_to_grid(piece_of_mask(mask))) > 0.5
    cell = max(height, width) / 16
    assert abs(int(back.sum()) - int(mask.sum())) <= 1.5 * cell * (height / 4 + width / 2 + 2)
    centre = np.argwhere(mask).mean(axis=0) - np.argwhere(back).mean(axis=0)
    assert np.abs(centre).max() < cell


def test_a_single_pixel_is_not_lost_on_the_grid():
    mask = np.zeros((2000, 3000), bool)
    mask[1234, 567] = True
    cover = SamFrame(2000, 3000).mask_to_grid(piece_of_mask(mask))
    assert np.count_nonzero(cover) == 1
    row, column = np.argwhere(cover > 0)[0]
    assert (row, column) == (int(1234 / 2000 * 683 / 16), int(567 / 3000 * 1024 / 16))


def test_a_window_of_the_photo_equals_that_part_of_the_whole():
    frame = SamFrame(120, 200, side=256, stride=16)
    logits = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    whole = frame.grid_to_image(logits)
    part = frame.grid_to_image(logits, (30, 10, 90, 70))
    np.testing.assert_allclose(part, whole[10:70, 30:90], atol=2e-2)


def test_the_window_of_cells_holds_every_pixel_they_can_make_positive():
    frame = SamFrame(333, 500, side=256, stride=16)
    logits = np.full((64, 64), -5, np.float32)
    logits[5:9, 40:47] = 5
    mask = frame.grid_to_image(logits) > 0
    x0, y0, x1, y1 = frame.window_of_cells(logits > 0)
    outside = mask.copy()
    outside[y0:y1, x0:x1] = False
    assert mask.any()
    assert not outside.any()
    assert frame.window_of_cells(logits > 9) is None


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["....", "....", "...."], None),
        (["#...", "....", "...."], [0, 0, 1, 1]),
        (["....", ".##.", "...#"], [1, 1, 4, 3]),
        (["####", "####", "####"], [0, 0, 4, 3]),
    ],
)
def test_the_window_of_a_mask_is_tight(rows, expected):
    mask = np.array([[c == "#" for c in row] for row in rows])
    window = window_of_mask(mask)
    assert window == (None if expected is None else tuple(expected))


def test_a_window_is_cut_at_the_border():
    assert grown((8, 0, 9, 1), 3, (10, 10)) == (5, 0, 10, 4)


def test_the_reference_side_scales_lengths_and_zero_means_own_pixels():
    assert reference_scale(600, 2048, 1024) == 2.0
    assert reference_scale(600, 2048, 0) == 1.0


def test_a_map_is_resized_between_the_centres_of_its_pixels():
    ramp = np.array([[0.0, 1.0]], np.float32)
    np.testing.assert_allclose(resize_map(ramp, 1, 4), [[0, 0.25, 0.75, 1]], atol=1e-6)


def test_a_crop_keeps_the_coordinates_of_the_whole_image():
    alone = SamFrame(100, 120, side=256, stride=16)
    crop = SamFrame(100, 120, side=256, stride=16, left=300, top=50)
    at = np.array([[10.0, 20.0], [70.5, 3.0]], np.float32)
    np.testing.assert_allclose(
        crop.points_to_frame(at + np.array([300, 50], np.float32)), alone.points_to_frame(at)
    )
    logits = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    np.testing.assert_array_equal(crop.grid_to_image(logits), alone.grid_to_image(logits))
    x0, y0, x1, y1 = alone.window_of_cells(logits > 1.5)
    assert crop.window_of_cells(logits > 1.5) == (x0 + 300, y0 + 50, x1 + 300, y1 + 50)
    np.testing.assert_array_equal(
        crop.grid_to_image(logits, (310, 60, 350, 90)),
        alone.grid_to_image(logits, (10, 10, 50, 40)),
    )
    photo = np.zeros((400, 500), bool)
    photo[60:90, 310:350] = True
    part = photo[50:150, 300:420]
    np.testing.assert_array_equal(
        crop.mask_to_grid(piece_of_mask(photo)), alone.mask_to_grid(piece_of_mask(part))
    )
    # What SAM does not see of a mask does not count.
    photo[:40] = True
    np.testing.assert_array_equal(
        crop.mask_to_grid(piece_of_mask(photo)), alone.mask_to_grid(piece_of_mask(part))
    )
    assert not crop.mask_to_grid(Piece((0, 0, 500, 40), photo[:40])).any()


def test_a_piece_is_the_same_in_every_window():
    mask = np.zeros((30, 40), bool)
    mask[5:9, 6:20] = mask[12, 30] = True
    whole = Piece((0, 0, 40, 30), mask)
    tight = whole.tight()
    assert tight.window == (6, 5, 31, 13)
    assert np.array_equal(tight.seen_in((0, 0, 40, 30)), mask)
    assert np.array_equal(tight.seen_in((10, 0, 36, 10)), mask[:10, 10:36])
    assert not tight.seen_in((32, 14, 40, 30)).any()
    assert tight.holds((12, 30))
    assert not tight.holds((12, 29))
    assert not tight.holds((0, 0))
    assert piece_of_mask(np.zeros((3, 3), bool)) is None
    assert around((0, 4, 5, 6), (3, 1, 9, 5)) == (0, 1, 9, 6)
