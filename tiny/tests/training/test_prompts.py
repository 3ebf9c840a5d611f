"""Simulated prompts: each is where it says it is."""

from __future__ import annotations

import numpy as np
import pytest

from tiny.training.sam import prompts

SIDE = 64


def disc(radius: int = 12) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE]
    return (y - 30) ** 2 + (x - 34) ** 2 <= radius**2


def test_clicks_are_inside_and_outside() -> None:
    xy, labels = prompts.clicks(np.random.default_rng(0), disc(), 5, 4)
    hit = disc()[xy[:, 1].astype(int), xy[:, 0].astype(int)]
    assert labels.tolist() == [1] * 5 + [0] * 4
    assert hit.tolist() == [True] * 5 + [False] * 4


def test_map_prompts_mostly_hit_the_target_and_its_surroundings() -> None:
    cover = prompts.soft_cells(disc())
    ups, downs = [], []
    for seed in range(40):
        xy, labels = prompts.map_prompts(np.random.default_rng(seed), cover, 3, 3)
        cell = cover[(xy[:, 1] // 4).astype(int), (xy[:, 0] // 4).astype(int)] > 0.5
        ups += cell[labels == 1].tolist()
        downs += cell[labels == 0].tolist()
    assert np.mean(ups) > 0.65
    assert np.mean(downs) < 0.3


@pytest.mark.parametrize("width", [1, 2])
def test_thin_scratch_survives_in_cells(width: int) -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[30 : 30 + width, 8:56] = True
    cover = prompts.soft_cells(mask)
    assert cover.max() > 0.22 * width + 0.2


def test_coverage_of_a_large_mask_is_its_area() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[10:50, 10:50] = True
    assert prompts.soft_cells(mask).sum() * 16 == pytest.approx(1600, rel=0.01)


def test_tight_box_and_jitter() -> None:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[5:9, 20:40] = True
    box = prompts.tight_box(mask)
    assert box.tolist() == [20, 5, 40, 9]
    moved = prompts.jitter_box(np.random.default_rng(0), box, SIDE)
    assert np.abs(moved - box).max() <= 20
    assert moved[2] - moved[0] >= 2


def test_whole_image_crop_keeps_labels_apart() -> None:
    parts = np.zeros((32, 32), np.int16)
    parts[:8, :8], parts[20:, 20:] = 1, 2
    mask = np.zeros((32, 32), np.uint8)
    mask[12:16, 2:9] = 1
    crop = prompts.make_crop(None, np.zeros((32, 32, 3), np.uint8), mask, parts, 64)
    kinds = sorted(target.kind for target in prompts.targets_of(crop))
    assert kinds == ["defect", "part", "part", "region"]
