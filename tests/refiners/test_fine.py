"""Fine detail: pixels that stand out keep their score, others lose a fixed part at most, and nothing else changes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.models import fixed_segmenter
from zsas.refiners import fine
from zsas.refiners.fine import LOWERED, standing_out
from zsas.region import RegionOfInterest
from zsas.settings import Settings


def surface(crack: int = 0, roughness: float = 6.0) -> NDArray[np.uint8]:
    """A rough grey surface of 240 × 200 pixels with a dark line two pixels wide."""
    grain = np.random.default_rng(3).normal(0, roughness, (200, 240))
    grey = 128 + cv2.GaussianBlur(grain, (0, 0), 0.8)
    if crack:
        grey[100:102, 40:200] -= crack
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_a_crack_stands_out_of_a_rough_surface_and_the_surface_does_not() -> None:
    found = standing_out(surface(60))
    assert found.shape == (200, 240)
    assert found.dtype == np.float32
    assert not found.flags.writeable
    assert found[100:102, 45:195].mean() > 0.8
    assert found[:80].mean() < 0.15
    assert standing_out(surface())[95:107].mean() < 0.15


def test_what_stands_out_is_a_matter_of_the_images_own_roughness() -> None:
    line = np.s_[100:102, 45:195]
    calm, restless = (standing_out(surface(20, roughness))[line].mean() for roughness in (2, 20))
    assert calm > restless + 0.4


def test_light_and_contrast_do_not_matter() -> None:
    image = surface(60)
    darker = (image // 2 + 20).astype(np.uint8)
    assert np.abs(standing_out(darker) - standing_out(image)).mean() < 0.03
    assert standing_out(darker)[100:102, 45:195].mean() > 0.7


def test_even_tiny_and_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    for shape in ((1, 1), (1, 300), (7, 3), (64, 64)):
        found = standing_out(np.full((*shape, 3), 90, np.uint8))
        assert found.shape == shape
        assert np.isfinite(found).all()
        assert found.max() < 0.05
    whole = standing_out(surface(60))
    monkeypatch.setattr(fine, "LARGEST", 20_000)
    smaller = standing_out(surface(60))
    assert smaller.shape == whole.shape
    assert smaller[100:102, 45:195].mean() > 2 * smaller[:80].mean()


def test_an_enlarged_image_is_looked_at_at_the_size_of_its_detail() -> None:
    image = surface(60)
    enlarged = cv2.resize(image, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
    again = cv2.resize(standing_out(enlarged, 3), (240, 200), interpolation=cv2.INTER_AREA)
    assert np.abs(again - standing_out(image)).mean() < 0.05


def test_only_what_is_looked_at_is_the_measure() -> None:
    image = surface(30, 4)
    image[:60] = surface(0, 80)[:60]
    inside = np.zeros((200, 240), bool)
    inside[70:] = True
    line = np.s_[100:102, 45:195]
    alone = standing_out(image, inside=inside)
    assert alone[line].mean() > standing_out(image)[line].mean()
    image[:70] = 0
    np.testing.assert_allclose(standing_out(image, inside=inside)[70:], alone[70:], atol=1e-4)


def test_it_only_lowers_the_score_map_and_decides_nothing() -> None:
    heat = np.full((200, 240), 0.05, np.float32)
    heat[80:125, 30:210] = 0.8
    segmenter, image = fixed_segmenter(heat), surface(60)
    on, off = (segmenter(image, Settings(fine_detail=value)) for value in (True, False))
    assert (on.score_map <= off.score_map + 1e-6).all()
    assert (on.score_map >= (1 - LOWERED) * off.score_map - 1e-6).all()
    line, around = np.s_[100:102, 45:195], np.s_[110:120, 45:195]
    before, after = (x.score_map[line].mean() / x.score_map[around].mean() for x in (off, on))
    assert after > 1.1 * before
    np.testing.assert_array_equal(on.mask, off.mask)
    np.testing.assert_array_equal(on.anomaly_map, off.anomaly_map)
    assert on.image_score == off.image_score
    assert on.regions == off.regions
    assert len(on.regions) == 1
    assert [one.name for one in on.stages] == [
        *(one.name for one in off.stages[:-1]), "fine_detail", "fused",
    ]  # fmt: skip
    np.testing.assert_array_equal(on.stages[-1].heat, on.score_map)
    assert 0 < on.stages[-2].data["fraction"] < 0.2
    assert Settings().fine_detail
    assert not Settings(system="paper").fine_detail


def test_outside_of_a_region_of_interest_nothing_is_scored() -> None:
    heat = np.full((200, 240), 0.6, np.float32)
    inside = np.zeros((200, 240), bool)
    inside[90:180, 20:220] = True
    region = RegionOfInterest.from_mask(inside)
    result = fixed_segmenter(heat)(surface(60), Settings(), region=region)
    assert result.score_map[:80].max() == 0
    assert result.score_map[100:102, 45:195].max() > 0
