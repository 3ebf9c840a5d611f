from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.results import make_result
from zsas import draw
from zsas.prompts import Points
from zsas.stages import Area

GREY = np.full((100, 120, 3), 128, np.uint8)


def lightness(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(float) @ [0.2126, 0.7152, 0.0722]


def test_the_scale_of_a_heat_map_is_fixed() -> None:
    faint = np.array([[0.0, 0.1]], np.float32)
    strong = np.array([[0.0, 1.0]], np.float32)
    assert lightness(draw.heat_map(faint)).max() < 30
    assert lightness(draw.heat_map(strong)).max() > 200
    np.testing.assert_array_equal(draw.heat_map(faint)[0, 0], draw.heat_map(strong)[0, 0])


def test_a_hotter_value_is_a_lighter_colour() -> None:
    ramp = lightness(draw.heat_map(np.linspace(0, 1, 64, dtype=np.float32)[None]))[0]
    assert (np.diff(ramp) > 0).all()


def test_values_out_of_range_take_the_end_colours() -> None:
    picture = draw.heat_map(np.array([[-1, 0, 1, 2, np.nan]], np.float32))[0]
    np.testing.assert_array_equal(picture[0], picture[1])
    np.testing.assert_array_equal(picture[2], picture[3])
    np.testing.assert_array_equal(picture[4], picture[1])


def test_a_bar_names_both_ends_of_the_scale() -> None:
    bar = draw.colour_bar(640)
    assert bar.shape[1] == 640
    assert lightness(bar[0, 639]) > lightness(bar[0, 0]) + 50
    words = (bar[-20:] != 255).any(axis=(0, 2))  # columns with ink
    assert words[:80].any()
    assert words[-80:].any()


def test_a_mask_has_an_outline_and_leaves_the_rest_alone() -> None:
    mask = np.zeros((100, 120), bool)
    mask[30:70, 40:80] = True
    picture = draw.mask_overlay(GREY, mask)
    np.testing.assert_array_equal(picture[:25], GREY[:25])
    tint, border, around = picture[50, 60], picture[50, 40], picture[50, 39]
    assert not np.array_equal(tint, [128] * 3)
    assert lightness(around) < 60 < lightness(border)  # a light line in a dark one, on any ground
    assert (GREY == 128).all()


def test_an_empty_mask_changes_nothing() -> None:
    np.testing.assert_array_equal(draw.mask_overlay(GREY, np.zeros((100, 120), bool)), GREY)


def test_the_ring_is_hatched_and_the_region_is_not() -> None:
    region, ring = np.zeros((2, 100, 120), bool)
    region[40:60, 50:70] = True
    ring[20:80, 30:90] = True
    ring &= ~region
    picture = draw.area(draw.area(GREY, Area(ring, "hatch")), Area(region))
    assert len(np.unique(picture[22:36, 32:88].reshape(-1, 3), axis=0)) == 2
    assert len(np.unique(picture[45:55, 55:65].reshape(-1, 3), axis=0)) == 1
    np.testing.assert_array_equal(picture[:20], GREY[:20])


def mark(label: int, source: str) -> np.ndarray:
    points = Points(np.array([[60, 50]], np.float32), np.array([label]), (source,))
    return (draw.draw_points(GREY, points) != GREY).any(axis=2)


def test_points_differ_in_shape_and_not_only_in_colour() -> None:
    shapes = [mark(1, "map"), mark(0, "ring"), mark(1, "click"), mark(0, "click")]
    for number, one in enumerate(shapes):
        assert one[50, 60]
        assert all((one != other).any() for other in shapes[number + 1 :])
    assert mark(1, "map")[46, 60]
    assert not mark(0, "ring")[46, 60]


def test_marks_grow_with_the_photo() -> None:
    assert draw.line_width((200, 300)) == 1
    assert draw.line_width((3000, 4000)) == 10


def test_a_mark_at_the_border_is_cut_and_not_moved() -> None:
    points = Points(np.array([[0, 0], [119, 99]], np.float32), np.array([1, 0]), ("map", "ring"))
    picture = draw.draw_points(GREY, points)
    assert (picture[0, 0] != 128).any()
    assert (picture[99, 119] != 128).any()
    assert (picture[50, 60] == 128).all()


def test_a_box_is_drawn_where_it_is() -> None:
    picture = draw.draw_boxes(GREY, np.array([[20, 30, 80, 60]], np.float32))
    assert (picture[30, 50] == 255).all()
    assert (picture[45, 50] == 128).all()
    assert (picture[45, 79] == 255).all()


def test_a_stage_is_drawn_layer_by_layer() -> None:
    result = make_result()
    map_picture = draw.stage(result.image, result.stage("anomaly_map"))
    below = draw.colour_bar(result.image.shape[1])
    heat = draw.heat_overlay(result.image, result.anomaly_map)
    np.testing.assert_array_equal(map_picture, np.concatenate([heat, below]))
    m3 = draw.stage(result.image, result.stage("m3"))
    by_hand = draw.draw_points(draw.mask_overlay(result.image, result.mask), result.points)
    np.testing.assert_array_equal(m3, by_hand)


def test_a_line_leaves_the_inside_of_a_mask_alone() -> None:
    mask = np.zeros((100, 120), bool)
    mask[30:70, 40:80] = True
    faint, line = (draw.area(GREY, Area(mask, style)) for style in ("faint", "line"))
    assert (line[50, 60] == 128).all()
    assert (faint[50, 60] != 128).any()
    assert (line[50, 40] != 128).any()


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1)])
def test_tiny_and_thin_images_can_be_drawn(shape: tuple[int, int]) -> None:
    result = make_result(*shape)
    for stage in result.stages:
        picture = draw.stage(result.image, stage)
        assert picture.dtype == np.uint8
        assert max(picture.shape[:2]) >= 1
