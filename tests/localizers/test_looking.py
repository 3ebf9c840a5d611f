"""With a region of interest nothing outside counts: map, score, points, mask, tiles, references."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.models import small_segmenter
from tests.localizers.test_references import plate
from zsas import draw
from zsas.errors import ZsasError
from zsas.localizers.looking import LOOKED, cells_inside
from zsas.part import Part
from zsas.region import RegionOfInterest
from zsas.result import Result
from zsas.settings import Settings

LEFT = RegionOfInterest.from_dict([{"rectangle": [0, 0, 64, 96]}])
WHOLE = RegionOfInterest.from_dict({"region": [{"rectangle": [0, 0, 1, 1]}], "unit": "fraction"})


@pytest.fixture(scope="module")
def segmenter():
    return small_segmenter()


def settings(**values: object) -> Settings:
    return Settings(**{"threshold": 0.9, "threshold_mode": "quantile", "views": "one", **values})


def nothing_outside(result: Result) -> None:
    assert result.inside is not None
    outside = ~result.inside
    assert result.anomaly_map[outside].max() == result.score_map[outside].max() == 0
    assert not result.mask[outside].any()
    assert all(not region.mask[outside].any() for region in result.regions)
    for x, y in result.points.xy:
        assert result.inside[round(float(y)), round(float(x))]
    for stage in result.stages:
        assert stage.heat is None or stage.heat[outside].max() == 0, stage.name
        if stage.spec != LOOKED and stage.mask is not None:
            assert not stage.mask[outside].any(), stage.name


@pytest.mark.parametrize("refiner", ["own", "none", "mmr"])
@pytest.mark.parametrize("tiles", ["off", 64])
@pytest.mark.parametrize("mode", ["absolute", "relative", "quantile", "otsu"])
def test_nothing_outside_counts(segmenter, refiner, tiles, mode) -> None:
    chosen = settings(
        refiner=refiner, tiles=tiles, threshold_mode=mode, threshold=0.5, mmr_scale="image"
    )
    clicks = [(100.0, 40.0, 1), (20.0, 20.0, 1)]
    result = segmenter.segment(plate(1, dent=True), chosen, clicks, region=LEFT)
    nothing_outside(result)
    assert (result.points.xy[:, 0] < 64).all()
    assert 0 <= result.image_score <= 1


def test_the_verdict_rests_on_what_lies_inside(segmenter) -> None:
    """The map's evidence is that of the same pixels without a region, and CLIP's answer for the image is left out."""
    chosen = settings(image_weight=1.0, edge_radius=0)  # scores are taken before edges
    plain = segmenter(plate(1, dent=True), chosen)
    result = segmenter(plate(1, dent=True), chosen, region=LEFT)
    inside = plain.anomaly_map[:, :64]
    top = np.sort(inside.ravel())[-round(0.001 * 96 * 128) :]
    assert result.image_score == pytest.approx(top.mean(), abs=1e-6)
    np.testing.assert_array_equal(result.anomaly_map[:, :64], inside)
    assert result.to_dict()["region"]["fraction"] == 0.5
    assert result.to_dict()["region"]["pixels"] == 64 * 96
    assert "50 % of the image" in result.stage("looked_at").caption


def test_without_a_region_nothing_changes(segmenter) -> None:
    plain = segmenter(plate(1), settings())
    none = segmenter(plate(1), settings(), region=RegionOfInterest())
    np.testing.assert_array_equal(plain.score_map, none.score_map)
    assert plain.image_score == none.image_score
    assert plain.stage("looked_at") is none.stage("looked_at") is None
    assert plain.to_dict()["region"] is None


def test_tiles_wholly_outside_are_not_encoded(segmenter) -> None:
    chosen = settings(tiles=64, tile_overlap=0.0)
    whole = segmenter.encode(plate(2), chosen)
    part = segmenter.encode(plate(2), chosen, LEFT)
    assert len(whole.features.tiles) == 4
    assert len(part.features.tiles) == 2
    a, b = (segmenter.segment(one, chosen, region=LEFT) for one in (whole, part))
    np.testing.assert_array_equal(a.score_map, b.score_map)
    assert a.image_score == b.image_score
    for region in (None, WHOLE):
        with pytest.raises(ZsasError, match="encode"):
            segmenter.segment(part, chosen, region=region)


@pytest.mark.parametrize("count", [1, 4])
def test_references_are_looked_at_in_the_same_region(segmenter, count) -> None:
    """What the references show outside changes neither their level nor what is decided."""
    chosen = settings()
    good = [plate(seed) for seed in range(count)]
    other = [image.copy() for image in good]
    for image in other:
        image[:, 70:] = 255 - image[:, 70:]
    a = segmenter.remember(good, chosen, LEFT)
    assert a.region == LEFT.key
    b = segmenter.remember(good, chosen)
    assert a.key != b.key
    result = segmenter.segment(plate(9, dent=True), chosen, references=a, region=LEFT)
    nothing_outside(result)
    assert (
        result.normal_ratio
        < segmenter.segment(plate(9, dent=True), chosen, references=b).normal_ratio
    )
    for references, region in ((a, None), (b, LEFT)):
        with pytest.raises(ZsasError, match="another region"):
            segmenter.segment(plate(9), chosen, references=references, region=region)
    mine = segmenter.segment(plate(0), chosen, references=a, region=LEFT)
    assert mine.normal_ratio == 0


def test_the_cells_that_count_are_half_covered_or_the_most_covered_one() -> None:
    inside = np.zeros((8, 8), bool)
    inside[:, :3] = True
    np.testing.assert_array_equal(cells_inside(inside, (2, 4))[0], [True, True, False, False])
    speck = np.zeros((8, 8), bool)
    speck[5, 5] = True
    assert cells_inside(speck, (2, 2)).sum() == 1


def test_what_is_not_looked_at_is_darkened(segmenter) -> None:
    image = np.full((96, 128, 3), 200, np.uint8)
    result = segmenter(image, settings(refiner="none"), region=LEFT)
    picture = draw.stage(image, result.stage("looked_at"))
    assert picture[:, 80:].max() < 120
    assert (picture[10:80, 10:50] == 200).all()


def test_a_batch_is_compared_inside_the_region_alone(segmenter) -> None:
    chosen = settings(refiner="none")
    images = [plate(seed, dent=seed == 3) for seed in range(6)]
    cells = segmenter.gather(images, chosen, LEFT)
    whole = segmenter.gather(images, chosen)
    assert cells[0].flat.shape[1] < 0.6 * whole[0].flat.shape[1]
    batch = segmenter.compare_batch(cells, chosen, LEFT)
    assert batch.region == LEFT.key
    for one, tiles in zip(cells, batch.scores, strict=True):
        (inside,), (scores,) = one.insides, tiles
        assert (scores[~inside] == scores.min()).all()
        assert scores[inside].max() > scores.min()
    result = segmenter.segment(images[3], chosen, (), None, batch, region=LEFT)
    nothing_outside(result)
    assert np.isfinite(result.normal_ratio)
    with pytest.raises(ZsasError, match="batch was compared with another region"):
        segmenter.segment(images[3], chosen, (), None, batch)
    # The dent lies outside, so that its image is one among the others.
    ratios = [
        r.normal_ratio for r in segmenter.segment_batch(images, chosen, mutual=True, region=LEFT)
    ]
    assert ratios[3] < 1.5 * np.median(ratios)
    # Everywhere, against a profile that looks at a part: then the dent counts.
    part, everywhere = Part(settings=chosen, region=LEFT), RegionOfInterest()
    more = {"mutual": True, "part": part, "region": everywhere}
    seen = [r.normal_ratio for r in segmenter.segment_batch(images, **more)]
    assert max(seen) == seen[3] > ratios[3]


def test_turned_references_remember_what_lies_inside_alone(segmenter) -> None:
    chosen = settings(reference_rotation=90)
    references = segmenter.remember([plate(0), plate(1)], chosen, LEFT)
    plain = segmenter.remember([plate(0), plate(1)], settings(), LEFT)
    assert len(references.bank[0]) > len(plain.bank[0])
    result = segmenter.segment(plate(9), chosen, references=references, region=LEFT)
    assert result.normal_ratio > 0
