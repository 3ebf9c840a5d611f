"""Synthetic objects: reproducible, well formed, varied, and labelled part by part."""

from __future__ import annotations

import numpy as np
import pytest

from tiny.synthetic.finishes import Finish
from tiny.synthetic.objects import OBJECTS
from tiny.synthetic.outlines import copies, ellipse, rectangle
from tiny.synthetic.shapes import Canvas

SIZE = 128
FAMILIES = sorted(OBJECTS)


def test_there_are_many_families() -> None:
    assert len(OBJECTS) >= 18


@pytest.mark.parametrize("family", FAMILIES)
def test_an_object_is_a_function_of_its_seed(family: str) -> None:
    first, again, other = (OBJECTS[family](np.random.default_rng(s), SIZE) for s in (3, 3, 4))
    np.testing.assert_array_equal(first.rgb, again.rgb)
    np.testing.assert_array_equal(first.parts, again.parts)
    assert first.name == again.name
    assert np.abs(first.rgb - other.rgb).mean() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("size", "seed"), [(64, 0), *(pytest.param(201, s, marks=pytest.mark.slow) for s in (0, 1))]
)
def test_shapes_ranges_and_labels(family: str, size: int, seed: int) -> None:
    made = OBJECTS[family](np.random.default_rng(seed), size)
    assert made.rgb.shape == (size, size, 3)
    assert made.rgb.dtype == np.float32
    assert np.isfinite(made.rgb).all()
    assert made.rgb.min() >= 0
    assert made.rgb.max() <= 1
    assert made.region.shape == made.parts.shape == (size, size)
    assert made.region.dtype == bool
    assert made.parts.dtype == np.int32
    assert made.region.mean() > 0.005
    assert not made.parts[~made.region].any(), "parts lie on the object"
    assert set(np.unique(made.parts)) | {0} == set(range(made.parts.max() + 1)), "no gaps"
    assert made.parts.max() >= 1
    assert made.name
    assert made.family == family


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_pictures_of_a_family_differ_in_pose_scale_and_tone(family: str) -> None:
    made = [OBJECTS[family](np.random.default_rng(seed), 64) for seed in range(8)]
    assert any(not m.region.all() for m in made), "the ground is visible in some"
    assert np.std([m.rgb.mean() for m in made]) > 0.05
    assert np.mean(np.std([m.region for m in made], axis=0)) > 0.03


def test_repeated_units_are_parts_of_their_own() -> None:
    canvas = Canvas(np.random.default_rng(0), 100)
    canvas.pose = np.array([[50.0, 0, 50], [0, 50.0, 50], [0, 0, 1]])
    steel = Finish(np.full(3, 0.5, np.float32))
    canvas.solid(rectangle(0.9, 0.9), steel)
    canvas.solid(
        copies(ellipse(0.2), [[-0.5, 0.0], [0.0, 0.0], [0.5, 0.0]]), steel, dome=1, apart=True
    )
    made = canvas.surface("plate", "plate")
    assert made.parts.max() == 4
    assert len({made.parts[50, 25], made.parts[50, 50], made.parts[50, 75]}) == 3
    assert made.parts[10, 50] == 1


def test_a_hole_shows_the_ground_and_is_no_part_of_the_object() -> None:
    canvas = Canvas(np.random.default_rng(0), 100)
    before = canvas.rgb.copy()
    canvas.pose = np.array([[50.0, 0, 50], [0, 50.0, 50], [0, 0, 1]])
    canvas.solid(ellipse(0.9), Finish(np.zeros(3, np.float32)), holes=[ellipse(0.4)])
    assert not canvas.region[50, 50]
    assert canvas.region[50, 80]
    np.testing.assert_allclose(canvas.rgb[50, 50], before[50, 50], atol=1e-4)


def test_a_ball_is_brightest_on_the_side_of_the_light() -> None:
    canvas = Canvas(np.random.default_rng(0), 100)
    canvas.light, canvas.elevation = 0.0, 0.7
    canvas.pose = np.array([[50.0, 0, 50], [0, 50.0, 50], [0, 0, 1]])
    canvas.solid(ellipse(0.9), Finish(np.full(3, 0.4, np.float32)), dome=1)
    assert canvas.rgb[50, 80].mean() > canvas.rgb[50, 20].mean() + 0.1
