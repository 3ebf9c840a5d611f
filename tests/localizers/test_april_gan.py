"""APRIL-GAN's own form of good images: the blocks' tokens, their distances added to the map."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.helpers.models import small_segmenter
from tests.localizers.test_references import plate
from zsas.errors import ZsasError
from zsas.memory import load, save
from zsas.region import RegionOfInterest
from zsas.settings import Settings

SETTINGS = Settings(system="april-gan", views="one")
GOOD = [plate(seed) for seed in range(3)]
LEFT = RegionOfInterest.from_dict([{"rectangle": [0, 0, 64, 96]}])


@pytest.fixture(scope="module")
def segmenter():
    return small_segmenter()


def test_the_map_is_that_of_the_equations(segmenter):
    """Tokens of the blocks, not of the linear layers; nearest by cosine; the mean over the blocks, half of the sum."""
    localizer = segmenter.localizer(SETTINGS)
    image = plate(9, dent=True)

    def tokens(picture):
        side = localizer.resolution(SETTINGS)
        seen = localizer.clip.forward_vision(
            localizer.clip.pixels([picture], (side, side)),
            blocks=localizer.card.blocks,
            activation=localizer.card.activation,
        )
        blocks = [F.normalize(seen.blocks[b][0].float(), dim=-1) for b in localizer.card.blocks]
        return torch.stack(blocks)

    with torch.inference_mode():
        mine, others = tokens(image), torch.cat([tokens(good) for good in GOOD], dim=1)
        far = (1 - (mine @ others.transpose(1, 2)).amax(2)).mean(0)
        side = round(len(far) ** 0.5)
        far = F.interpolate(far.view(1, 1, side, side), size=(96, 128), mode="bilinear")[0, 0]
    result = segmenter(image, SETTINGS, references=segmenter.remember(GOOD, SETTINGS))
    alone = segmenter(image, SETTINGS)
    expected = (alone.anomaly_map + far.numpy()) / 2
    # Ours goes through the square frame; inner places are compared.
    np.testing.assert_allclose(
        result.anomaly_map[20:-20, 20:-20], expected[20:-20, 20:-20], atol=0.02
    )
    assert np.abs(result.anomaly_map - alone.anomaly_map / 2).max() > 0.01
    assert "3 good images were added (APRIL-GAN)" in result.stage("anomaly_map").caption


def test_map_and_score_are_the_published_ones(segmenter):
    """No blur, and CLIP's probability of the whole image; with good images the map makes half of the score."""
    image = plate(9, dent=True)
    alone = segmenter(image, SETTINGS)
    blurred = segmenter(image, SETTINGS.replace(blur=4.0))
    assert np.abs(np.diff(alone.anomaly_map)).max() > np.abs(np.diff(blurred.anomaly_map)).max()
    assert alone.image_score != segmenter(image, SETTINGS.replace(image_weight=0.0)).image_score
    memory = segmenter.remember(GOOD, SETTINGS)
    compared = segmenter(image, SETTINGS, references=memory)
    by_map = segmenter(image, SETTINGS.replace(image_weight=0.0), references=memory).image_score
    assert compared.image_score == pytest.approx((alone.image_score + by_map) / 2)


def test_a_good_image_itself_has_the_distance_zero(segmenter):
    memory = segmenter.remember(GOOD, SETTINGS)
    result = segmenter(GOOD[1], SETTINGS, references=memory)
    alone = segmenter(GOOD[1], SETTINGS)
    np.testing.assert_allclose(result.anomaly_map, alone.anomaly_map / 2, atol=1e-3)


def test_it_gives_a_limit_and_survives_its_file(segmenter, tmp_path):
    memory = segmenter.remember(GOOD, SETTINGS, LEFT)
    save(memory, tmp_path / "good.safetensors")
    one, other = (
        segmenter(plate(9, dent=True), SETTINGS, references=m, region=LEFT)
        for m in (memory, load(tmp_path / "good.safetensors"))
    )
    np.testing.assert_array_equal(one.score_map, other.score_map)
    assert one.limit_from == other.limit_from == "references"
    assert one.settings == other.settings
    assert one.normal_ratio is None


def test_the_two_forms_are_not_mixed(segmenter):
    calibrated = SETTINGS.replace(few_shot="calibrated")
    for made, asked in ((SETTINGS, calibrated), (calibrated, SETTINGS)):
        memory = segmenter.remember(GOOD, made)
        assert segmenter(plate(9), made, references=memory).good_images == 3
        with pytest.raises(ZsasError, match="remember them again"):
            segmenter(plate(9), asked, references=memory)


def test_tiles_are_remembered_as_tiles(segmenter):
    settings = SETTINGS.replace(tiles=64)
    memory = segmenter.remember(GOOD, settings)
    result = segmenter(plate(9, dent=True), settings, references=memory)
    assert result.stage("anomaly_map").data["tiles"] > 1
    assert np.isfinite(result.score_map).all()
