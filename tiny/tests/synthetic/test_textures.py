"""Synthetic textures and the camera: seeded, varied, well-formed, and geometrically exact."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tiny.synthetic import camera, noise
from tiny.synthetic.textures import TEXTURES

SIZE = 128


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("family", sorted(TEXTURES))
def test_a_texture_is_well_formed_and_a_function_of_its_seed(family: str) -> None:
    first, again, other = (TEXTURES[family](generator(seed), SIZE) for seed in (3, 3, 4))

    assert first.rgb.shape == (SIZE, SIZE, 3)
    assert first.rgb.dtype == np.float32
    assert np.isfinite(first.rgb).all()
    assert first.rgb.min() >= 0
    assert first.rgb.max() <= 1
    assert first.region.shape == (SIZE, SIZE)
    assert first.region.dtype == bool
    assert first.region.mean() > 0.5
    assert first.parts.shape == (SIZE, SIZE)
    assert first.parts.dtype == np.int32
    assert first.parts.min() >= 0
    assert first.family == family
    assert first.name
    assert first.grain > 0
    assert first.size == SIZE

    # Equal but for the last bits, which depend on how memory is aligned for vector instructions.
    np.testing.assert_allclose(first.rgb, again.rgb, atol=1e-5)
    assert first.name == again.name
    assert np.abs(first.rgb - other.rgb).mean() > 0.005, "two seeds give the same picture"


def test_there_are_enough_families() -> None:
    assert len(TEXTURES) >= 16


@pytest.mark.slow
@pytest.mark.parametrize("family", sorted(TEXTURES))
def test_a_texture_has_detail_but_is_not_saturated(family: str) -> None:
    surfaces = [TEXTURES[family](generator(seed), SIZE) for seed in range(4)]
    brightness = np.stack([surface.rgb.mean(-1) for surface in surfaces])
    assert (brightness.std((1, 2)) > 0.002).all()
    assert np.median((brightness > 0.995).mean((1, 2))) < 0.3


@pytest.mark.slow
@pytest.mark.parametrize("size", [96, 256, 500])
def test_textures_come_in_any_size(size: int) -> None:
    for family in ("framed_plate", "fabric", "bricks", "wood", "wafer"):
        assert TEXTURES[family](generator(1), size).rgb.shape == (size, size, 3)


@pytest.mark.parametrize("size", [64, 224])
def test_the_camera_returns_a_photograph_and_repeats_it_for_the_same_seed(size: int) -> None:
    rgb = np.full((size, size, 3), (0.6, 0.4, 0.2), np.float32)
    before = rgb.copy()
    picture = camera.photograph(generator(5), rgb)
    assert picture.shape == (size, size, 3)
    assert picture.dtype == np.uint8
    again = camera.photograph(generator(5), rgb)
    assert np.abs(picture.astype(int) - again).max() <= 1
    np.testing.assert_array_equal(rgb, before)
    assert (picture != camera.photograph(generator(6), rgb)).any()


def test_grey_can_be_asked_for_and_is_common_otherwise() -> None:
    rgb = np.full((64, 64, 3), (0.7, 0.4, 0.2), np.float32)

    def is_grey(picture: np.ndarray) -> bool:
        return bool((picture[..., 0] == picture[..., 2]).all())

    assert is_grey(camera.photograph(generator(0), rgb, grey=True))
    assert not is_grey(camera.photograph(generator(0), rgb, grey=False))
    fraction = np.mean([is_grey(camera.photograph(generator(seed), rgb)) for seed in range(100)])
    assert 0.25 < fraction < 0.55


def test_the_camera_moves_nothing() -> None:
    """A disc stays where it was: its centroid moves by less than a third of a pixel."""
    canvas = np.zeros((160, 160), np.uint8)
    cv2.circle(canvas, (90, 66), 20, 255, -1)
    inside = canvas > 0
    rgb = np.repeat(np.where(inside, 0.85, 0.15).astype(np.float32)[..., None], 3, 2)
    rows, columns = np.nonzero(inside)
    for seed in range(60):
        picture = camera.photograph(generator(seed), rgb).mean(-1)
        threshold = (picture[inside].mean() + picture[~inside].mean()) / 2
        y, x = np.nonzero((picture > threshold) & (cv2.dilate(canvas, np.ones((9, 9))) > 0))
        apart = max(abs(y.mean() - rows.mean()), abs(x.mean() - columns.mean()))
        assert apart < 0.34, seed


def test_the_camera_seldom_hides_a_weak_defect() -> None:
    """A patch a tenth darker than its surroundings still stands out of the noise afterwards."""
    rgb = np.full((128, 128, 3), 0.5, np.float32)
    patch = np.zeros((128, 128), bool)
    patch[60:68, 60:68] = True
    rgb[patch] = 0.45
    around = np.zeros_like(patch)
    around[54:74, 54:74] = True
    around[58:70, 58:70] = False
    seen = []
    for seed in range(60):
        picture = camera.photograph(generator(seed), rgb).mean(-1)
        step = picture[around].mean() - picture[patch].mean()
        seen.append(step > 3 * picture[around].std() / np.sqrt(patch.sum()))
    assert np.mean(seen) > 0.9


def test_smooth_noise_has_the_scale_and_the_variance_it_promises() -> None:
    for scale in (1.0, 4.0, 20.0, 60.0):
        fields = np.stack([noise.smooth(generator(seed), 256, scale) for seed in range(24)])
        assert abs(fields.std() - 1) < 0.2
    # A scale larger than the picture leaves little change across it.
    spreads = [noise.smooth(generator(seed), 128, 800.0).std() for seed in range(20)]
    assert np.mean(spreads) < 0.35


def test_anisotropic_noise_runs_along_its_angle() -> None:
    field = noise.streaks(generator(0), 200, 80, 2, angle=0.0)
    assert np.abs(np.diff(field, axis=1)).mean() < 0.3 * np.abs(np.diff(field, axis=0)).mean()
    # An oblique field hardly changes along its own direction and does across it.
    slanted = noise.streaks(generator(0), 200, 80, 2, angle=0.5)
    along, across = np.cos(0.5), np.sin(0.5)
    down, right = np.gradient(slanted)
    lengthwise = np.abs(along * right + across * down).mean()
    assert lengthwise < 0.4 * np.abs(along * down - across * right).mean()
    upright = noise.streaks(generator(0), 200, 80, 2, angle=np.pi / 2)
    assert np.abs(np.diff(upright, axis=0)).mean() < 0.3 * np.abs(np.diff(upright, axis=1)).mean()


def test_cells_are_numbered_and_lie_within_reach_of_their_seed() -> None:
    labels, distance = noise.cells(generator(0), 150, 15)
    assert labels.min() == 0
    assert len(np.unique(labels)) > 50
    assert distance.max() < 3 * 15
    edges = noise.cell_edges(labels)
    assert 0.02 < edges.mean() < 0.5


def test_colours_shapes_and_curves_stay_in_range() -> None:
    rng = generator(2)
    for _ in range(50):
        shade = noise.colour(rng, (0, 360), (0, 1), (0, 1))
        assert shade.shape == (3,)
        assert shade.min() >= 0
        assert shade.max() <= 1
    line = noise.curve(rng, (10, 10), 60, 0.3)
    assert abs(np.linalg.norm(np.diff(line, axis=0), axis=1).sum() - 60) < 0.1
    painted = noise.ramp(np.linspace(0, 1, 64, dtype=np.float32)[None], [[0, 0, 0], [1, 0.5, 0]])
    np.testing.assert_allclose(painted[0, -1], [1, 0.5, 0], atol=1e-3)
