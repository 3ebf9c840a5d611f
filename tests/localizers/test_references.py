from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from tests.helpers.models import small_segmenter
from zsas.beside import Beside
from zsas.errors import ZsasError
from zsas.limits import limit_from_good
from zsas.localizers.bank import Bank, distances_to
from zsas.localizers.calming import MOST_LOWERED, USUAL_LIMIT, calibrated, calmed
from zsas.localizers.planting import planned
from zsas.localizers.references import (
    REFERENCE,
    References,
    own_evidence,
)
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


def test_no_good_images_are_refused_for_a_mistyped_pattern_gives_none(segmenter):
    with pytest.raises(ZsasError, match="no good images"):
        segmenter.remember([], SETTINGS)


def test_an_empty_memory_changes_nothing(segmenter):
    plain = segmenter(plate(9, dent=True), SETTINGS)
    empty = segmenter(plate(9, dent=True), SETTINGS, references=References((), (), (), (), ()))
    np.testing.assert_array_equal(plain.score_map, empty.score_map)
    assert plain.image_score == empty.image_score
    assert plain.normal_ratio is None
    assert plain.to_dict()["normal_ratio"] is None


@pytest.mark.parametrize("named", [{"reference_window": 0.2}, {"reference_rotation": 45}])
def test_what_good_images_were_not_remembered_with_is_refused(segmenter, references, named):
    asked = SETTINGS.replace(**named)
    with pytest.raises(ZsasError, match=f"remembered with 0 for {next(iter(named))}"):
        segmenter(plate(9), asked, references=references)
    segmenter(plate(9), asked, references=segmenter.remember([plate(1), plate(2)], asked))


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
    assert (calmed >= (1 - MOST_LOWERED) * plain - 1e-6).all()
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
    without = segmenter.remember([plate(number) for number in (0, 1, 2, 3, 5)], SETTINGS)
    np.testing.assert_allclose(references.level, without.level, rtol=1e-5)
    assert references.usual == pytest.approx(without.usual, rel=1e-5)


def test_an_image_that_is_given_again_counts_once(segmenter):
    many = segmenter.remember([plate(0)] * 24, SETTINGS)  # more cells than the bank keeps
    once = segmenter.remember([plate(0)], SETTINGS)
    np.testing.assert_allclose(many.level, once.level, rtol=1e-5)
    result = segmenter(plate(20), SETTINGS, references=many)
    assert "one good image" in result.stage(REFERENCE.name).caption
    twice = segmenter.remember([plate(0), plate(0), plate(1)], SETTINGS)
    pair = segmenter.remember([plate(0), plate(1)], SETTINGS)
    assert twice.ratios[0] == twice.ratios[1] > 0
    assert torch.equal(twice.bank[0], pair.bank[0])


def test_the_limit_comes_from_the_good_images_unless_somebody_names_one(segmenter, references):
    result = segmenter(plate(9), SETTINGS, references=references)
    facts = result.to_dict()
    limit = segmenter.limit_of(references, SETTINGS)
    assert facts["limit_from"] == "references"
    assert facts["limit"] == facts["settings"]["verdict_threshold"] == limit
    assert limit != Settings().verdict_threshold
    named = segmenter(plate(9), SETTINGS.replace(verdict_threshold=0.7), references=references)
    assert (named.settings.verdict_threshold, named.limit_from) == (0.7, "person")
    alone = segmenter(plate(9), SETTINGS)
    assert (alone.settings.verdict_threshold, alone.limit_from) == (0.7, "default")
    assert alone.score_alone is None
    assert result.score_alone == alone.image_score


def alone_evidence(segmenter, image):
    encoding = segmenter.begin(image, SETTINGS)
    return segmenter._score(encoding, SETTINGS, segmenter._session(encoding), Beside()).evidence


def test_the_limit_lies_above_what_each_good_image_scores_among_the_others(segmenter, references):
    good = [plate(seed) for seed in range(4)]
    told = own_evidence(references)
    scores = []
    for image, one in zip(good, told, strict=True):
        alone = segmenter(image, SETTINGS)
        assert one["clip"] == pytest.approx(alone_evidence(segmenter, image)["clip"])
        lowered = one["map"] / alone_evidence(segmenter, image)["map"]
        assert 1 - MOST_LOWERED <= lowered <= 1
        by_map = 0.7 * one["map"] + 0.3 * one["clip"]
        assert by_map <= alone.image_score + 1e-6
        scores.append(by_map)
    assert segmenter.limit_of(references, SETTINGS) == limit_from_good(scores)


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_good_images_give_a_limit_too(segmenter, count):
    few = segmenter.remember([plate(seed) for seed in range(count)], SETTINGS)
    result = segmenter(plate(9), SETTINGS, references=few)
    assert result.limit_from == "references"
    assert 0 < result.settings.verdict_threshold < 1


def test_a_system_with_a_way_of_its_own_gives_a_limit_too(segmenter):
    settings = Settings(system="winclip")
    good = [plate(0), plate(1), plate(2)]
    result = segmenter(plate(9), settings, references=segmenter.remember(good, settings))
    rest = segmenter.remember(good[1:], settings)
    assert result.limit_from == "references"
    assert result.settings.verdict_threshold > 0
    # Each among the others: what it scores is what it would score had it not been remembered.
    told = segmenter.remember(good, settings).alone[0]
    apart = segmenter(good[0], settings, references=rest)
    assert told["clip"] == pytest.approx(apart.image_score)


def test_a_memory_of_other_settings_is_refused(segmenter, references):
    with pytest.raises(ZsasError, match="remember them again"):
        segmenter(plate(20), SETTINGS.replace(resolution=256), references=references)


def test_a_system_without_patch_features_says_so(segmenter, monkeypatch):
    settings = Settings(system="winclip")
    monkeypatch.setattr(WinClip, "own_references", False)  # one that has neither
    references = segmenter.remember([plate(0), plate(1)], settings)
    with pytest.raises(ZsasError, match="no patch features"):
        segmenter(plate(20), settings, references=references)


@pytest.mark.parametrize("images", [[(1, 1)], [(1, 1), (40, 90), (200, 30)]])
def test_references_of_any_size_give_a_result(segmenter, images):
    shapes = [np.full((*shape, 3), 90, np.uint8) for shape in images]
    result = segmenter(plate(20), SETTINGS, references=segmenter.remember(shapes, SETTINGS))
    assert np.isfinite(result.image_score)
    assert 0 <= result.image_score <= 1
    assert np.isfinite(result.score_map).all()


def test_tiles_are_remembered_as_tiles(segmenter):
    settings = Settings(tiles=64, views="one")
    good = [plate(seed) for seed in range(4)]
    references = segmenter.remember(good, settings)
    assert segmenter(plate(9), settings).stage("anomaly_map").data["tiles"] > 1
    itself = segmenter(good[2], settings, references=references)
    assert itself.normal_ratio == 0
    fine, bad = (
        segmenter(plate(9, dent=d), settings, references=references) for d in (False, True)
    )
    assert bad.normal_ratio > 1.5 * fine.normal_ratio
    distance = bad.stage(REFERENCE.name).heat
    assert distance[35:45, 85:95].mean() > 2 * distance[:, :40].mean()


def test_the_image_score_grows_with_the_distance_and_stays_a_score():
    """Farther from the good images, at one place or at all, the map and its score are no lower."""
    anomaly_map = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    found = [calmed(anomaly_map, np.full((40, 50), z, np.float32), 1.0) for z in (-9, 0, 2, 4, 99)]
    factors = [factor for _, factor in found]
    assert factors == sorted(factors)
    assert factors[0] == pytest.approx(0.1, abs=1e-3)
    assert factors[2] == pytest.approx(0.55)
    assert factors[-1] == pytest.approx(1.0)
    for (lower, _), (higher, _) in pairwise(found):
        assert (lower <= higher).all()
    same, factor = calmed(anomaly_map, np.full((40, 50), -9, np.float32), 0.0)
    np.testing.assert_array_equal(same, anomaly_map)
    assert factor == pytest.approx(
        0.55, abs=1e-3
    )  # of the image as a whole they are believed by a half
    assert calmed(np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32), 1.0)[1] == 1
    # A flaw of one cell, smoothed away in the map, counts in the verdict.
    z, peaks = np.full((2, 40, 50), -9, np.float32)
    peaks[anomaly_map > 0.99] = 9
    assert calmed(anomaly_map, z, 1.0)[1] < 0.2
    assert calmed(anomaly_map, z, 1.0, peaks)[1] > 0.9
    levels = [calibrated(k, 0.0, 1.0, 1.5) for k in (-9, 0, 1.5, 9)]
    assert levels == sorted(set(levels))
    assert levels[2] == pytest.approx(USUAL_LIMIT)


def test_one_image_again_and_again_is_one_image(segmenter):
    once = segmenter.remember([plate(0), plate(1)], SETTINGS)
    query = segmenter.begin(plate(9, dent=True), SETTINGS).features
    again = segmenter.remember([plate(0), plate(1), plate(0), plate(1)], SETTINGS)
    for one, other in zip(
        distances_to(query, Bank(once.bank)), distances_to(query, Bank(again.bank)), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_a_good_image_of_another_part_is_named_too(segmenter):
    other = np.full((200, 90, 3), 30, np.uint8)
    other[::7] = 220
    found = segmenter.remember([*(plate(seed) for seed in range(5)), other], SETTINGS)
    assert found.ignored == (5,)
    caption = segmenter(plate(20), SETTINGS, references=found).stage(REFERENCE.name).caption
    assert "number 6 disagrees with the others and was given no weight" in caption


def test_the_page_is_told_where_the_good_images_stand(segmenter, references):
    result = segmenter(plate(9, dent=True), SETTINGS, references=references)
    facts = result.to_dict()
    assert facts["good_images"] == 4
    assert len(facts["good_ratios"]) == 4
    assert max(facts["good_ratios"]) < result.normal_ratio


@pytest.mark.slow
@pytest.mark.parametrize("system", ["auto", "paper", "vv", "april-gan", "sdp", "winclip"])
def test_every_system_with_patch_features_counts_good_images(segmenter, system):
    settings = Settings(system=system, views="one", refiner="none")
    good = segmenter.remember([plate(seed) for seed in range(3)], settings)
    image = plate(9, dent=True)
    alone = segmenter(image, settings)
    compared = segmenter(image, settings, references=good)
    assert compared.good_images == 3
    assert (compared.anomaly_map != alone.anomaly_map).any()
    assert compared.limit_from == "references"


def test_good_images_are_encoded_once(segmenter):
    good = [plate(seed) for seed in range(40, 43)]
    before = segmenter.images_encoded["localizer"]
    for _ in range(2):
        segmenter.remember(good, SETTINGS)
    copies = len(planned(3))  # with planted flaws
    assert segmenter.images_encoded["localizer"] == before + 3 + copies


def test_good_images_never_raise_the_image_score(segmenter, references):
    for seed in range(20, 24):
        for dent in (False, True):
            image = plate(seed, dent=dent)
            result = segmenter(image, SETTINGS, references=references)
            assert result.score_alone == segmenter(image, SETTINGS).image_score
            least = (1 - MOST_LOWERED) * result.score_alone
            assert least <= result.image_score <= result.score_alone + 1e-6


def test_good_images_of_different_parts_leave_the_map_alone(segmenter, references):
    """Flaws that are planted on them do not stand out."""
    apart = replace(references, gained=-0.1)
    assert apart.trust == 0
    image = plate(77)  # one that no cache holds
    result = segmenter(image, SETTINGS, references=apart)
    plain = segmenter(image, SETTINGS)
    np.testing.assert_array_equal(result.score_map, plain.score_map)
    assert 0.55 * plain.image_score < result.image_score < plain.image_score
    assert "seem to show different parts" in result.stage(REFERENCE.name).caption


def test_good_images_differ_from_each_other_by_one_on_average(segmenter):
    """What `normal_ratio` counts in: their geometric mean is 1, and a further good part lies near it."""
    found = segmenter.remember([plate(seed) for seed in range(8)], SETTINGS)
    assert np.log(found.own_ratios).mean() == pytest.approx(0, abs=1e-6)
    further = [segmenter(plate(60 + i), SETTINGS, references=found).normal_ratio for i in range(4)]
    assert 0.6 < np.mean(further) < 1.6
    assert segmenter(plate(60, dent=True), SETTINGS, references=found).normal_ratio > 2
