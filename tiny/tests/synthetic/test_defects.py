"""Synthetic defects change what they say they change, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from tiny.synthetic.defects import DEFECTS, HARD_NORMALS, PHRASES
from tiny.synthetic.surface import Surface
from tiny.tests.seeds import seeds

SIZE = 160


def plate(grey: bool = False) -> Surface:
    """A disc with a little texture and four parts on a dark ground."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    disc = np.hypot(x - SIZE / 2, y - SIZE / 2) < 0.42 * SIZE
    tone = np.where(disc, 0.55, 0.1)[..., None] * ([1, 1, 1] if grey else [1.0, 0.9, 0.8])
    rgb = tone + 0.02 * rng.standard_normal((SIZE, SIZE, 1))
    parts = np.zeros((SIZE, SIZE), np.int32)
    for i, (cx, cy) in enumerate([(60, 60), (100, 60), (60, 100), (100, 100)]):
        parts[np.hypot(x - cx, y - cy) < 9] = i + 1
    rgb[parts > 0] += 0.2
    return Surface(np.clip(rgb, 0, 1).astype(np.float32), disc, parts, "plate", "plate", 2.0)


@pytest.mark.parametrize("defect_type", sorted(DEFECTS))
@pytest.mark.parametrize("seed", seeds(4))
def test_mask_is_where_the_image_changed(defect_type: str, seed: int) -> None:
    surface = plate()
    rgb, mask = DEFECTS[defect_type](np.random.default_rng(seed), surface)
    change = np.abs(rgb - surface.rgb).max(2)
    assert rgb.dtype == np.float32
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    assert mask.dtype == bool
    assert mask.sum() >= 4
    assert change[mask].mean() > 0.02
    far = np.ones_like(mask)
    ys, xs = np.nonzero(mask)
    far[max(0, ys.min() - 8) : ys.max() + 9, max(0, xs.min() - 8) : xs.max() + 9] = False
    assert change[far].max(initial=0) == 0  # no unlabelled trace anywhere else
    assert change[mask].sum() > 0.6 * change.sum()


@pytest.mark.parametrize("defect_type", sorted(DEFECTS))
def test_defects_lie_on_the_object(defect_type: str) -> None:
    surface = plate()
    _, mask = DEFECTS[defect_type](np.random.default_rng(11), surface)
    fraction = (mask & surface.region).sum() / mask.sum()
    assert fraction > (
        0 if defect_type in {"bent", "misplaced"} else 0.9
    )  # moved material may stick out


def test_on_a_grey_picture_a_change_of_hue_is_not_a_defect() -> None:
    surface = plate(grey=True)
    for seed in range(12):
        rgb, mask = DEFECTS["colour"](np.random.default_rng(seed), surface)
        assert np.abs(np.diff(rgb, axis=2)).max() < 1e-3
        assert np.abs(rgb - surface.rgb)[mask].mean() > 0.012


def test_sizes_and_strengths_differ_widely() -> None:
    surface = plate()
    areas, strengths = [], []
    for seed in range(40):
        rgb, mask = DEFECTS["stain"](np.random.default_rng(seed), surface)
        areas.append(int(mask.sum()))
        strengths.append(float(np.abs(rgb - surface.rgb)[mask].mean()))
    assert max(areas) > 40 * min(areas)
    assert max(strengths) > 5 * min(strengths)


@pytest.mark.parametrize("name", sorted(HARD_NORMALS))
def test_normal_irregularities_change_the_picture_visibly(name: str) -> None:
    surface = plate()
    changed = []
    for seed in range(6):
        rgb = HARD_NORMALS[name](np.random.default_rng(seed), surface)
        assert rgb.shape == surface.rgb.shape
        assert np.isfinite(rgb).all()
        changed.append(float(np.abs(rgb - surface.rgb).max()))
    assert max(changed) > 0.03


def test_every_defect_type_has_phrases_of_its_own() -> None:
    assert set(PHRASES) == set(DEFECTS)
    assert len(DEFECTS) >= 16
    phrases = [phrase for defect_type in PHRASES for phrase in PHRASES[defect_type]]
    assert len(phrases) == len(set(phrases))
    assert min(map(len, PHRASES.values())) >= 3
