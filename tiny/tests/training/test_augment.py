"""What is added to synthetic images at training time is where its mask says, and light is no defect."""

from __future__ import annotations

import numpy as np
import pytest

from tiny.training.augment import (
    damage,
    paint,
    random_crop,
    random_shape,
    repaint_background,
    shade,
)

VALUES = {
    name: value
    for value, name in enumerate(
        ("bent", "colour", "contamination", "misplaced", "roughness", "stain"), start=1
    )
}


def test_paint_is_seen_where_its_mask_says_and_nowhere_else() -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    normal = np.zeros((128, 128), np.uint8)
    picture, labels = paint(np.random.default_rng(3), grey, normal, defect_type=5)
    change = np.abs(picture.astype(int) - 128).max(2)
    assert set(np.unique(labels)) == {0, 5}
    assert change[labels == 5].min() > 20
    assert np.mean(change[labels == 0] > 40) < 0.02


def test_a_new_background_leaves_the_object_and_textures_alone() -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(90, 120, (64, 64, 3)).astype(np.uint8)
    inside = np.zeros((64, 64), bool)
    inside[16:48, 16:48] = True
    repainted = repaint_background(rng, picture, inside)
    assert np.array_equal(repainted[20:44, 20:44], picture[20:44, 20:44])
    assert np.abs(repainted[:8].astype(int) - picture[:8]).mean() > 10
    assert np.array_equal(repaint_background(rng, picture, ~np.zeros_like(inside)), picture)


def textured(seed: int, size: int = 128) -> np.ndarray:
    """A grey surface with a slope of light, a coarse pattern and some grain."""
    row, column = np.mgrid[0:size, 0:size]
    pattern = 40 * np.sign(np.sin(row / 5)) + 0.6 * (column - size / 2)
    grain = np.random.default_rng(seed).normal(128, 4, (size, size)) + pattern
    return np.repeat(np.clip(grain, 0, 255)[..., None], 3, 2).astype(np.uint8)


@pytest.mark.parametrize("seed", range(24))
def test_blind_damage_is_seen_where_its_mask_says(seed: int) -> None:
    picture, normal = textured(seed), np.zeros((128, 128), np.uint8)
    everywhere = np.ones((128, 128), bool)
    donor = np.random.default_rng(99).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    rng = np.random.default_rng(seed)
    changed, labels = damage(rng, picture, normal, everywhere, VALUES, donor)
    if not labels.any():
        assert np.array_equal(changed, picture)
        return
    assert len(np.unique(labels)) == 2
    change = np.abs(changed.astype(int) - picture).max(2)
    assert change[labels > 0].mean() > 4 * change[labels == 0].mean()


@pytest.mark.slow
def test_blind_damage_is_mostly_visible_and_of_every_kind() -> None:
    found = [0] * (len(VALUES) + 1)
    for seed in range(120):
        rng = np.random.default_rng(seed)
        everywhere = np.ones((128, 128), bool)
        donor = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
        _, labels = damage(
            rng, textured(seed), np.zeros((128, 128), np.uint8), everywhere, VALUES, donor
        )
        found[int(labels.max())] += 1
    assert found[0] < 80
    assert all(
        found[VALUES[defect_type]]
        for defect_type in ("contamination", "misplaced", "stain", "roughness")
    )


def test_damage_stays_on_the_object_mostly() -> None:
    inside = np.zeros((128, 128), bool)
    inside[40:90, 40:90] = True
    covers = [random_shape(np.random.default_rng(seed), 128, inside) for seed in range(40)]
    assert all(cover.min() >= 0 and cover.max() <= 1 for cover in covers)
    assert np.mean([cover[inside].mean() > cover[~inside].mean() for cover in covers]) > 0.8


def test_uneven_light_changes_brightness_and_no_label() -> None:
    picture = textured(0)
    lit = shade(np.random.default_rng(1), picture)
    ratio = (lit.astype(float).mean(2) + 1) / (picture.mean(2) + 1)
    assert ratio.std() > 0.02
    assert np.abs(np.diff(ratio, axis=0)).mean() < 0.03  # slow


def test_a_window_is_a_function_of_its_generator() -> None:
    picture, defect_types = textured(3), np.zeros((128, 128), np.uint8)
    defect_types[50:60, 50:60] = 2
    parts = np.ones((128, 128), np.int16)
    one, two = (
        random_crop(
            np.random.default_rng(5), picture, defect_types, 64, (0.5, 1.0), parts, VALUES, picture
        )
        for _ in range(2)
    )
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])
    assert one[0].dtype == np.uint8
