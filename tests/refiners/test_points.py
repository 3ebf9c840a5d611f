from __future__ import annotations

import cv2
import numpy as np
import pytest

from zsas.frames import SamFrame, piece_of_mask
from zsas.refiners.marking import extreme_region
from zsas.refiners.points import (
    PointSettings,
    kernel_size_in_image,
    point_prompts,
    ring_similarity,
    spaced_top_points,
    surrounding_ring,
)

HEAT = np.array(
    [
        [0.0, 0.1, 0.2, 0.1],
        [0.1, 0.6, 0.8, 0.2],
        [0.1, 0.7, 0.9, 0.1],
    ],
    np.float32,
)


@pytest.mark.parametrize(
    ("mode", "threshold", "count"),
    [
        ("absolute", 0.5, 4),
        ("absolute", 0.75, 2),
        ("absolute", 1.0, 0),
        ("relative", 0.85, 2),
        ("relative", 0.0, 11),
        ("quantile", 0.5, 6),
        ("quantile", 1.0, 0),
        ("otsu", 0.99, 4),
    ],
)
def test_the_extreme_region_follows_the_threshold_mode(mode, threshold, count):
    region = extreme_region(HEAT, threshold, mode)
    assert region.dtype == bool
    assert region.sum() == count


@pytest.mark.parametrize("mode", ["quantile", "otsu", "absolute"])
def test_a_map_without_contrast_has_no_extreme_region(mode):
    flat = np.full((5, 5), 0.3, np.float32)
    assert not extreme_region(flat, 0.55, mode).any()


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("rectangle", ["###", "#.#", "###"]),
        ("cross", [".#.", "#.#", ".#."]),
        ("ellipse", ["..#..", "#####", "##.##", "#####", "..#.."]),
    ],
)
def test_the_ring_has_the_shape_of_the_kernel(shape, expected):
    side = len(expected)
    region = np.zeros((side, side), bool)
    region[side // 2, side // 2] = True
    ring = surrounding_ring(region, shape, side)
    assert [["#" if v else "." for v in row] for row in ring] == [list(row) for row in expected]


def test_the_ring_is_empty_without_a_region_and_where_it_fills_the_photo():
    assert not surrounding_ring(np.zeros((9, 9), bool), "ellipse", 5).any()
    assert not surrounding_ring(np.ones((9, 9), bool), "ellipse", 5).any()


def test_the_ring_of_a_region_at_the_border_stays_inside():
    region = np.zeros((20, 20), bool)
    region[:3, :3] = True
    ring = surrounding_ring(region, "rectangle", 5)
    assert ring.sum() == 25 - 9


@pytest.mark.parametrize("size", [65, 66, 98, 195])
def test_the_ring_of_a_large_ellipse_is_opencvs_to_a_pixel(size):
    region = np.zeros((500, 500), bool)
    region[200:230, 180:300] = region[260, 270] = True
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    wanted = cv2.dilate(region.astype(np.uint8), kernel)
    ring = surrounding_ring(region, "ellipse", size)
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    assert not (ring & ~(cv2.dilate(wanted, cross) > 0)).any()
    assert not ((cv2.erode(wanted, cross) > 0) & ~region & ~ring).any()


def test_a_cross_is_opencvs():
    region = np.random.default_rng(4).random((60, 80)) > 0.99
    for size in (3, 8, 25):
        kernel = cv2.getStructuringElement(cv2.MORPH_CROSS, (size, size))
        wanted = (cv2.dilate(region.astype(np.uint8), kernel) > 0) & ~region
        assert np.array_equal(surrounding_ring(region, "cross", size), wanted)


def test_kernel_sizes_follow_the_reference_size():
    assert kernel_size_in_image(25, 1024, 2048, 1000) == 50
    assert kernel_size_in_image(25, 0, 2048, 1000) == 25
    assert kernel_size_in_image(25, 1024, 32, 32) == 3


def test_points_at_a_distance_keep_it():
    score = np.random.default_rng(1).random((40, 40)).astype(np.float32)
    points = spaced_top_points(score, np.ones((40, 40), bool), 6, 12.0, "distance")
    gaps = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(len(points), 1)]
    assert gaps.min() >= 12
    assert score[int(points[0, 1]), int(points[0, 0])] == score.max()


def test_a_stride_counts_ranks():
    score = np.arange(100, dtype=np.float32).reshape(10, 10)
    points = spaced_top_points(score, np.ones((10, 10), bool), 3, 20, "stride")
    assert [score[int(y), int(x)] for x, y in points] == [99, 79, 59]


def test_a_small_region_shortens_the_stride_so_that_k_points_are_found():
    where = np.zeros((10, 10), bool)
    where[4, 2:8] = True
    score = np.random.default_rng(0).random((10, 10)).astype(np.float32)
    points = spaced_top_points(score, where, 3, 400, "stride")
    assert len(points) == 3
    assert all(where[int(y), int(x)] for x, y in points)


@pytest.mark.parametrize("mode", ["distance", "stride"])
def test_one_pixel_gives_one_point_and_no_pixel_none(mode):
    where = np.zeros((4, 4), bool)
    assert spaced_top_points(HEAT_4, where, 3, 400, mode).shape == (0, 2)
    where[2, 1] = True
    assert spaced_top_points(HEAT_4, where, 3, 400, mode).tolist() == [[1, 2]]


HEAT_4 = np.zeros((4, 4), np.float32)


def _two_sided_features(frame: SamFrame) -> np.ndarray:
    """Left cells point along one axis, right cells along another."""
    rows, columns = frame.grid_hw
    features = np.zeros((2, rows, columns), np.float32)
    features[0, :, : columns // 2] = 1
    features[1, :, columns // 2 :] = 1
    return features


@pytest.mark.parametrize("similarity", ["mean", "nearest"])
def test_similarity_is_high_where_the_features_are_the_regions_own(similarity):
    frame = SamFrame(128, 128, side=128, stride=16)
    region = np.zeros((128, 128), bool)
    region[48:80, 16:48] = True
    map_s = ring_similarity(_two_sided_features(frame), piece_of_mask(region), frame, similarity)
    assert map_s.shape == (128, 128)
    assert map_s[64, 8] == pytest.approx(1)
    assert map_s[64, 120] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("similarity", ["mean", "nearest"])
def test_similarity_asks_for_direction_and_not_for_length(similarity):
    frame = SamFrame(128, 128, side=128, stride=16)
    rng = np.random.default_rng(2)
    features = rng.normal(size=(6, 8, 8)).astype(np.float32)
    region = np.zeros((128, 128), bool)
    region[40:90, 30:80] = True
    lengths = rng.uniform(0.1, 10, (8, 8)).astype(np.float32)
    one, other = (
        ring_similarity(cells, piece_of_mask(region), frame, similarity)
        for cells in (features, features * lengths)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


def _points_of_a_hill(side: int, spacing: float, mode: str, reference: int) -> np.ndarray:
    """Positive points, best first, on a hill in the middle of a square photo, its shape the same at every size."""
    y, x = (np.mgrid[:side, :side] + 0.5) / side - 0.5
    heat = np.exp(-8 * (x**2 + 1.1 * y**2)).astype(np.float32)
    settings = PointSettings(
        k_positive=4, negatives=False, spacing=spacing, spacing_mode=mode, reference_size=reference
    )
    frame = SamFrame(side, side, side=128, stride=16)
    region = heat > 0.3
    points, _ = point_prompts(
        heat, piece_of_mask(region), None, np.ones((2, 8, 8), np.float32), frame, settings
    )
    return points


@pytest.mark.parametrize(("mode", "factor"), [("distance", 2), ("stride", 4)])
def test_the_same_scene_at_twice_the_size_has_its_points_in_the_same_places(mode, factor):
    """A distance grows with the side, a stride, which counts pixels, with the area."""
    spacing = {"distance": 12, "stride": 300}[mode]
    wide = _points_of_a_hill(256, spacing, mode, 128)
    np.testing.assert_array_equal(wide, _points_of_a_hill(256, factor * spacing, mode, 0))
    assert not np.array_equal(wide, _points_of_a_hill(256, spacing, mode, 0))
    small = _points_of_a_hill(128, spacing, mode, 128)
    assert len(small) == len(wide) == 4
    middle = [
        np.linalg.norm(p + 0.5 - side / 2, axis=1) / side for p, side in ((small, 128), (wide, 256))
    ]
    np.testing.assert_allclose(*middle, atol=0.03)


def test_positives_are_hot_and_negatives_differ():
    """The region lies left of an edge in the features: the negatives are taken from beyond the edge."""
    frame = SamFrame(128, 128, side=128, stride=16)
    heat = np.zeros((128, 128), np.float32)
    heat[50:70, 40:60] = np.linspace(0.6, 0.9, 20)
    region = heat > 0.5
    ring = surrounding_ring(region, "rectangle", 31)
    settings = PointSettings(k_positive=2, k_negative=2, spacing=10, reference_size=0)
    pieces = piece_of_mask(region), piece_of_mask(ring)
    points, labels = point_prompts(heat, *pieces, _two_sided_features(frame), frame, settings)
    assert labels.tolist() == [1, 1, 0, 0]
    assert all(region[int(y), int(x)] for x, y in points[:2])
    assert all(ring[int(y), int(x)] and x > 64 for x, y in points[2:])
    assert heat[int(points[0, 1]), int(points[0, 0])] == heat.max()


def test_negatives_can_be_switched_off_and_an_empty_region_has_no_points():
    frame = SamFrame(64, 64, side=128, stride=16)
    features = np.ones((2, 8, 8), np.float32)
    region = np.zeros((64, 64), bool)
    nothing, no_labels = point_prompts(HEAT_64, None, None, features, frame, PointSettings())
    assert nothing.shape == (0, 2)
    assert no_labels.shape == (0,)
    region[10:20, 10:20] = True
    ring = surrounding_ring(region, "ellipse", 5)
    pieces = piece_of_mask(region), piece_of_mask(ring)
    _, labels = point_prompts(HEAT_64, *pieces, features, frame, PointSettings(negatives=False))
    assert set(labels.tolist()) == {1}


def test_a_region_that_fills_the_photo_has_positives_only():
    frame = SamFrame(64, 64, side=128, stride=16)
    everything = piece_of_mask(np.ones((64, 64), bool))
    features = np.ones((2, 8, 8), np.float32)
    _, labels = point_prompts(HEAT_64, everything, None, features, frame, PointSettings())
    assert labels.tolist() == [1, 1, 1]


HEAT_64 = np.random.default_rng(0).random((64, 64)).astype(np.float32)


def _unlike_cell(similarity: str) -> float:
    """Similarity of a cell unlike the region's, of which the region covers a sixth."""
    frame = SamFrame(128, 128, side=128, stride=16)
    features = np.zeros((2, 8, 8), np.float32)
    features[0, :, :4], features[1, :, 4:] = 1, 1
    region = np.zeros((128, 128), bool)
    region[48:64, 48:64] = True
    region[48:64, 64:66] = region[48:58, 66:67] = True  # 42 of 256 pixels of the next cell
    return float(ring_similarity(features, piece_of_mask(region), frame, similarity)[56, 100])


def test_a_cell_counts_as_far_as_the_region_covers_it():
    share = 42 / 256
    assert _unlike_cell("mean") == pytest.approx(share / np.hypot(1, share), abs=1e-4)
    assert _unlike_cell("nearest") == pytest.approx(0, abs=1e-6)
