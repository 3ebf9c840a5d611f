from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.helpers.models import small_segmenter
from zsas.errors import ZsasError
from zsas.localizers.references import NO_REFERENCES, REFERENCE
from zsas.localizers.winclip import WinClip
from zsas.settings import Settings

SETTINGS = Settings(tiles="off", views="one")


def plate(seed: int = 0, *, dent: bool = False) -> np.ndarray:
    """A striped plate of 96 × 128 pixels with a little noise, and with a white disc or without."""
    y, x = np.mgrid[:96, :128]
    image = 120 + 40 * np.sin(x / 6) + np.random.default_rng(seed).normal(0, 3, (96, 128))
    if dent:
        image[(x - 90) ** 2 + (y - 40) ** 2 < 150] = 250
    return np.repeat(np.clip(image, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


@pytest.fixture(scope="module")
def segmenter():
    return small_segmenter()


@pytest.fixture(scope="module")
def references(segmenter):
    return segmenter.remember([plate(seed) for seed in range(4)], SETTINGS)


def test_an_empty_memory_changes_nothing(segmenter):
    assert segmenter.remember([], SETTINGS) is NO_REFERENCES
    plain = segmenter(plate(9, dent=True), SETTINGS)
    empty = segmenter(plate(9, dent=True), SETTINGS, references=NO_REFERENCES)
    np.testing.assert_array_equal(plain.score_map, empty.score_map)
    assert plain.image_score == empty.image_score
    assert plain.normal_ratio is None
    assert plain.to_dict()["normal_ratio"] is None


def test_what_no_reference_shows_lies_far_from_them(segmenter, references):
    good = segmenter(plate(20), SETTINGS, references=references)
    bad = segmenter(plate(20, dent=True), SETTINGS, references=references)
    assert bad.normal_ratio > 1.5 * good.normal_ratio
    distance = bad.stage(REFERENCE.name).heat
    assert distance[35:45, 85:95].mean() > 2 * distance[:, :40].mean()


def test_a_reference_itself_has_the_distance_zero(segmenter, references):
    result = segmenter(plate(2), SETTINGS, references=references)
    assert result.normal_ratio == 0
    assert result.stage(REFERENCE.name).data["normal_ratio"] == 0


def test_references_lower_the_map_and_never_raise_it(segmenter, references):
    plain = segmenter(plate(20), SETTINGS).anomaly_map
    calmed = segmenter(plate(20), SETTINGS, references=references).anomaly_map
    assert (calmed <= plain + 1e-6).all()
    assert (calmed >= 0.5 * plain - 1e-6).all()
    assert (calmed < plain).any()


def test_the_order_of_references_does_not_matter(segmenter, references):
    turned = segmenter.remember([plate(seed) for seed in (3, 1, 2, 0)], SETTINGS)
    one = segmenter(plate(20), SETTINGS, references=references)
    other = segmenter(plate(20), SETTINGS, references=turned)
    assert one.normal_ratio == pytest.approx(other.normal_ratio, rel=1e-4)


def test_one_image_is_enough_and_the_result_says_so(segmenter):
    one = segmenter.remember([plate(0)], SETTINGS)
    good, bad = (segmenter(plate(20, dent=d), SETTINGS, references=one) for d in (False, True))
    assert bad.normal_ratio > good.normal_ratio
    assert "one good image" in bad.stage(REFERENCE.name).caption


def test_a_reference_with_a_defect_is_named_and_ignored(segmenter, tmp_path):
    paths = []
    for number in range(6):
        path = tmp_path / f"part{number}.png"
        Image.fromarray(plate(number, dent=number == 4)).save(path)
        paths.append(path)
    references = segmenter.remember(paths, SETTINGS)
    assert references.ignored == (4,)
    caption = segmenter(plate(20), SETTINGS, references=references).stage(REFERENCE.name).caption
    assert "part4.png disagrees with the others" in caption


def test_a_memory_of_other_settings_is_refused(segmenter, references):
    with pytest.raises(ZsasError, match="remember them again"):
        segmenter(plate(20), SETTINGS.replace(resolution=256), references=references)


def test_a_system_without_patch_features_says_so(segmenter, monkeypatch):
    settings = Settings(system="winclip")
    references = segmenter.remember([plate(0), plate(1)], settings)
    monkeypatch.setattr(WinClip, "own_references", False)  # one that has neither
    with pytest.raises(ZsasError, match="no patch features"):
        segmenter(plate(20), settings, references=references)


@pytest.mark.parametrize("images", [[(1, 1)], [(1, 1), (40, 90), (200, 30)]])
def test_references_of_any_size_give_a_result(segmenter, images):
    shapes = [np.full((*shape, 3), 90, np.uint8) for shape in images]
    result = segmenter(plate(20), SETTINGS, references=segmenter.remember(shapes, SETTINGS))
    assert np.isfinite(result.image_score)
    assert 0 <= result.image_score <= 1
    assert np.isfinite(result.score_map).all()
