from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.helpers.models import fixed_segmenter, small_segmenter
from zsas.errors import ZsasError
from zsas.localizers.patches import image_probability
from zsas.result import Result
from zsas.segmenter import Segmenter
from zsas.settings import Settings, all_settings

HOT = Settings(threshold=0.9, threshold_mode="quantile", edge_radius=0, mask_level=0)


STAGES = [
    *("anomaly_map", "region_and_ring", "points", "m1", "m2", "box", "m3"),
    *("fine_detail", "fused"),
]


def region_of(result: Result) -> np.ndarray:
    return result.stage("region_and_ring").mask


def ring_of(result: Result) -> np.ndarray:
    return result.stage("region_and_ring").layers[0].mask


def test_every_stage_comes_in_order_and_the_map_before_sam(photo):
    segmenter = small_segmenter()
    stages = segmenter.stages(photo, HOT)
    first = next(stages)
    assert first.name == "anomaly_map"
    assert segmenter.images_encoded == {"localizer": 1, "sam": 0}
    assert first.heat.shape == photo.shape[:2]
    *others, result = stages
    assert [stage.name for stage in [first, *others]] == STAGES
    assert result.stages == (first, *others)
    assert result.timings["encode"] > 0
    assert result.timings["sam"] > 0


def test_a_result_has_every_stage_in_the_images_frame(segmenter, photo):
    photo = 255 - photo  # one that no other test has left in the cache
    result = segmenter(photo, HOT)
    shape = photo.shape[:2]
    for array in (result.anomaly_map, region_of(result), result.mask, result.score_map):
        assert array.shape == shape
    assert result.anomaly_map.dtype == np.float32
    assert 0 <= result.anomaly_map.min() <= result.anomaly_map.max() <= 1
    assert 0 <= result.score_map.min() <= result.score_map.max() <= 1
    assert not (region_of(result) & ring_of(result)).any()
    assert (result.points.xy >= 0).all()
    assert (result.points.xy < [160, 120]).all()
    assert result.models["localizer"] == "linear"
    readers = {"pillow", "tifffile", "imagecodecs", "pillow-heif"}
    packages = {"torch", "transformers", "numpy", "opencv-python-headless", *readers}
    assert set(result.versions) == {"zsas", *packages}
    assert set(result.timings) == {"encode", "sam", *STAGES}
    again = segmenter(photo, HOT)
    assert (again.timings["encode"], again.timings["sam"]) == (0, 0)
    assert result.timings["encode"] > 0
    assert result.timings["sam"] > 0


def test_an_encoding_takes_sams_features_in_when_they_are_needed(photo):
    segmenter = small_segmenter()
    encoding = segmenter.begin(photo)
    assert encoding.sam is None
    segmenter.segment(encoding, Settings(threshold=1.0))
    assert segmenter.images_encoded == {"localizer": 1, "sam": 0}
    segmenter.segment(encoding, HOT)
    assert encoding.sam is not None
    segmenter.segment(encoding, HOT.replace(steps=1))
    assert segmenter.images_encoded == {"localizer": 1, "sam": 1}


@pytest.mark.slow
def test_deciding_again_runs_no_encoder(segmenter, photo):
    encoding = segmenter.encode(photo)
    before = dict(segmenter.images_encoded)
    for settings in (
        HOT,
        HOT.replace(k_positive=7, kernel_size=51),
        HOT.replace(object_name="plate", fusion="map"),
        HOT.replace(prompting="joint", steps=2),
    ):
        segmenter.segment(encoding, settings)
    assert segmenter.images_encoded == before


@pytest.mark.slow
def test_the_same_photo_is_encoded_once(photo, tmp_path):
    segmenter = small_segmenter()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    segmenter.encode(photo)
    segmenter.encode(tmp_path / "photo.png")
    segmenter.encode(Image.fromarray(photo))
    assert segmenter.images_encoded == {"localizer": 1, "sam": 1}
    segmenter.encode(photo, Settings(system="vv"))
    assert segmenter.images_encoded == {"localizer": 2, "sam": 1}


@pytest.mark.slow
def test_the_cache_keeps_to_its_bytes(photo):
    one = small_segmenter()
    encoding = one.encode(photo)
    budget = 3 * (encoding.features.nbytes + encoding.sam.nbytes)
    fresh = Segmenter(one.models, localizers=[one.localizer(Settings())], cache_bytes=budget)
    for shade in range(20):
        fresh.encode(np.full((50, 50, 3), shade, np.uint8))
        assert fresh.cache.nbytes <= budget


@pytest.mark.slow
def test_a_batch_gives_what_one_at_a_time_gives(photo):
    """In fp32, photos of different sizes together, to 1e-4."""
    together, apart = small_segmenter(), small_segmenter()
    photos = [photo, photo[:, ::-1], photo[:90, :40]]
    for encoding, picture in zip(together.encode_batch(photos), photos, strict=True):
        mine, alone = together.segment(encoding, HOT), apart(picture, HOT)
        np.testing.assert_allclose(mine.anomaly_map, alone.anomaly_map, atol=1e-4)
        np.testing.assert_allclose(mine.score_map, alone.score_map, atol=1e-3)
        assert (mine.mask != alone.mask).mean() < 1e-3


def test_nothing_above_the_threshold_means_no_sam_call(segmenter, photo):
    result = segmenter(photo, Settings(threshold=1.0))
    assert not region_of(result).any()
    assert not result.mask.any()
    assert result.regions == ()
    assert result.provenance == ()
    assert "m1" not in result.timings


def test_a_sound_photo_can_get_the_verdict_normal(segmenter, photo):
    encoding = segmenter.encode(photo)
    strict = segmenter.segment(encoding, Settings(threshold=1.0, verdict_threshold=1.0))
    assert not strict.anomalous
    assert strict.sentence.startswith("Normal")
    assert segmenter.segment(encoding, Settings(verdict_threshold=0.0)).anomalous


@pytest.mark.parametrize("prompting", ["joint", "per_region"])
def test_a_region_that_fills_the_photo_is_decided(segmenter, photo, prompting):
    settings = Settings(threshold=0.0, prompting=prompting)
    result = segmenter(photo, settings)
    assert region_of(result).all()
    assert not ring_of(result).any()
    assert set(result.points.labels.tolist()) == {1}
    assert result.stage("m3") is not None


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (2, 3), (700, 9)])
def test_odd_shapes_are_decided(segmenter, shape):
    photo = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    for settings in (HOT, Settings(threshold=0.0), Settings(threshold=0.0, prompting="joint")):
        result = segmenter(photo, settings)
        assert result.mask.shape == shape


def test_separate_regions_have_a_cascade_each(segmenter, photo):
    encoding = segmenter.encode(photo)
    joint = segmenter.segment(encoding, HOT.replace(prompting="joint", k_positive=2, k_negative=1))
    apart = segmenter.segment(encoding, HOT.replace(k_positive=2, k_negative=1))
    pieces = len(apart.points) // 3
    assert len(joint.points) == 3
    assert pieces > 1
    assert len(apart.stage("box").data["boxes"]) == pieces
    assert f"in {pieces} regions" in apart.stage("m1").data["prompts"]


def test_a_region_stands_for_a_mask_that_left_it(segmenter, photo):
    encoding = segmenter.encode(photo)
    settings = HOT.replace(prompting="joint")
    kept, replaced = (
        segmenter.segment(encoding, settings.replace(min_overlap=least)) for least in (0.0, 1.0)
    )
    assert (kept.stage("m3").mask & ~region_of(kept)).any()
    np.testing.assert_array_equal(kept.mask, kept.stage("m3").mask)
    assert kept.provenance == ("M3",)
    np.testing.assert_array_equal(replaced.mask, region_of(replaced))
    assert replaced.provenance == ("region",)
    np.testing.assert_array_equal(kept.score_map, replaced.score_map)


def test_at_most_so_many_regions_get_a_cascade(segmenter, photo):
    result = segmenter(photo, HOT.replace(max_regions=1, k_positive=2, k_negative=1))
    assert (result.points.labels == 1).sum() == 2


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_shorter_cascades_are_beginnings_of_the_long_one(segmenter, photo, steps):
    encoding = segmenter.encode(photo)
    whole = segmenter.segment(encoding, HOT)
    short = segmenter.segment(encoding, HOT.replace(steps=steps))
    names = [stage.name for stage in short.stages if stage.name in ("m1", "m2", "m3")]
    assert names == ["m1", "m2", "m3"][:steps]
    np.testing.assert_array_equal(short.stage(f"m{steps}").mask, whole.stage(f"m{steps}").mask)


def test_a_click_where_nothing_was_found_is_a_cascade_of_its_own(segmenter, photo):
    encoding = segmenter.encode(photo)
    nothing = Settings(threshold=1.0)
    result = segmenter.segment(encoding, nothing, clicks=[(100, 40, 1), (20, 100, 0)])
    assert result.points.source == ("click", "click")
    assert result.points.labels.tolist() == [1, 0]
    assert result.stage("m3") is not None


def test_clicks_join_the_automatic_points_and_change_the_answer(segmenter, photo):
    encoding = segmenter.encode(photo)
    settings = HOT.replace(prompting="joint")
    before = segmenter.segment(encoding, settings)
    after = segmenter.segment(encoding, settings, clicks=[(3, 110, 1)])
    assert len(after.points) == len(before.points) + 1
    assert after.points.source[-1] == "click"
    assert not np.array_equal(before.score_map, after.score_map)


@pytest.mark.parametrize("changes", [{"resolution": 256}, {"system": "vv"}])
def test_an_encoding_for_other_settings_is_refused(segmenter, photo, changes):
    settings = HOT.replace(resolution=128)
    encoding = segmenter.encode(photo, settings)
    assert segmenter.segment(encoding, settings).settings.resolution == 128
    with pytest.raises(ZsasError, match="encode it again"):
        segmenter.segment(encoding, settings.replace(**changes))


def test_an_encoding_by_other_models_is_refused(photo):
    one, other = small_segmenter(), fixed_segmenter(np.zeros(photo.shape[:2], np.float32))
    with pytest.raises(ZsasError, match="other models"):
        other.segment(one.encode(photo))


def test_features_from_elsewhere_are_fetched_and_those_at_hand_are_not_copied(segmenter, photo):
    encoding = segmenter.encode(photo, HOT)
    assert encoding.to("cpu").sam is encoding.sam
    away = encoding.to("meta")
    assert away.sam.embedding.is_meta
    assert away.features.tiles[0].layers.is_meta
    with pytest.raises(NotImplementedError, match="meta"):  # it was asked to come here
        segmenter.segment(away, HOT.replace(object_name="not yet seen"))


@pytest.mark.slow
def test_a_system_takes_the_first_localizer_that_can_run(photo):
    segmenter = small_segmenter(linear=False)
    assert segmenter(photo, HOT).models["localizer"] == "vv"
    with pytest.raises(ZsasError, match="needs trained layers for zsas/tiny"):
        segmenter(photo, Settings(system="paper"))


def test_what_no_cascade_refines_stands_in_the_mask_as_the_map_shows_it(photo):
    heat = np.zeros(photo.shape[:2], np.float32)
    for i in range(5):
        heat[20 + 4 * i : 23 + 4 * i, 20 * i + 10 : 20 * i + 14] = 0.9 - 0.02 * i
    spots = heat > 0
    segmenter = fixed_segmenter(heat)
    result = segmenter(photo, Settings(threshold=0.5, max_regions=2))
    assert "region" in result.provenance
    later = spots & (heat < 0.87)
    assert later.sum() == 36
    assert (result.mask & later).sum() == 36
    whole = segmenter(photo, Settings(threshold=0.5, max_regions=5, min_overlap=0))
    assert "region" not in whole.provenance
    alone = segmenter(photo, Settings(threshold=0.5, max_regions=1))
    negative = alone.points.xy[alone.points.labels == 0]
    assert len(negative)
    assert negative[:, 0].max() < 24  # beside the one region that is refined, not beside the others


def test_no_negative_point_lies_on_another_region(photo):
    """Two with a gap of two pixels between them: the wide kernel of each reaches far into the other."""
    heat = np.full(photo.shape[:2], 0.9, np.float32)
    heat[:, 79:81] = 0
    settings = Settings(
        threshold=0.5,
        k_negative=20,
        kernel_size=61,
        spacing=1,
        spacing_mode="distance",
        reference_size=0,
    )
    result = fixed_segmenter(heat)(photo, settings)
    xy = result.points.xy[result.points.labels == 0].astype(int)
    assert len(xy) >= 20
    assert not region_of(result)[xy[:, 1], xy[:, 0]].any()
    assert not ring_of(result)[region_of(result)].any()


@pytest.mark.slow
def test_a_mask_around_a_faint_region_stays_faint(photo):
    def scored(peak: float, clicks=()):
        heat = np.full(photo.shape[:2], 0.01, np.float32)
        heat[30:70, 80:130] = peak
        own = {"min_overlap": 0, "fine_detail": False, "mask_level": 0}
        settings = Settings(threshold=0.1, fusion="mask", **own)
        return fixed_segmenter(heat)(photo, settings, clicks)

    faint, plain, asked = scored(0.2), scored(0.8), scored(0.2, [(100, 40, 1)])
    np.testing.assert_array_equal(faint.mask, plain.mask)
    assert faint.score_map.max() > 0
    np.testing.assert_allclose(4 * faint.score_map, plain.score_map, rtol=1e-4)
    iou = np.clip(faint.stage("m3").data["predicted_iou"], 0, 1)
    assert faint.score_map.max() <= 0.2 * iou + 1e-6
    assert asked.score_map.max() > 0.5  # what a person points at needs no agreement


HOTTEST = Settings(threshold=0.9, threshold_mode="quantile", unsure_band=0.5, mask_level=0)
ANOTHER = {
    "system": "vv", "refiner": "none", "object_name": "nut", "resolution": 256, "blur": 20.0,
    "tiles": 64, "tile_overlap": 0.4, "max_tiles": 2, "views": "one",
    "threshold": 0.8, "threshold_mode": "otsu", "k_positive": 5, "k_negative": 5,
    "negatives": False, "point_features": "dinov2", "spacing": 5.0, "spacing_mode": "distance", "similarity": "nearest",
    "kernel_shape": "cross", "kernel_size": 151, "reference_size": 100, "prompting": "joint",
    "max_regions": 1, "steps": 1, "min_overlap": 0.0, "fusion": "map", "fusion_weight": 0.9,
    "image_weight": 1.0, "verdict_threshold": 0.0, "unsure_band": 0.0, "unsure_as": "normal",
    "reference_rotation": 90, "reference_window": 0.1, "edge_radius": 2.0, "fine_detail": False,
    "mask_level": 0.9, "few_shot": "published",
}  # fmt: skip


def shown(result):
    layers = [vars(layer).values() for stage in result.stages for layer in stage.layers]
    arrays = [x for layer in layers for x in layer if isinstance(x, np.ndarray)]
    verdict = np.array(
        [result.image_score, result.anomalous, result.ok, result.verdict == "unsure"]
    )
    return [result.score_map, result.mask, result.points.xy, verdict, *arrays]


# A photo as small as this one has no place to look closer at: tests/refiners/test_crops.py.
@pytest.mark.parametrize("name", sorted(Settings().used() - {"sam_crops"}))
def test_every_setting_reaches_the_result(segmenter, photo, name):
    """Also after a decision with another value of it, which the caches must not give out again."""
    tiled = name in ("tile_overlap", "max_tiles", "views")
    usual = HOTTEST.replace(tiles=96, views="all") if tiled else HOTTEST

    def decided(settings):
        good = None
        if name in ("reference_rotation", "reference_window", "few_shot"):
            good = segmenter.remember([np.roll(photo, n, axis=1) for n in (40, 80)], settings)
        return shown(segmenter.segment(photo, settings, references=good))

    before, after = decided(usual), decided(usual.replace(**{name: ANOTHER[name]}))
    same = len(before) == len(after) and all(map(np.array_equal, before, after))
    assert not same


@pytest.mark.slow
def test_settings_that_only_decide_never_encode(segmenter, photo):
    encoding = segmenter.encode(photo, HOTTEST)
    before = dict(segmenter.images_encoded)
    deciding = {setting.name for setting in all_settings() if not setting.encoding}
    for name in deciding & Settings().used():
        segmenter.segment(encoding, HOTTEST.replace(**{name: ANOTHER[name]}))
    assert segmenter.images_encoded == before


def test_the_image_level_score_is_clips_softmax(segmenter, photo):
    whole = HOT.replace(tiles="off")  # several tiles would put their scores together
    encoding = segmenter.encode(photo, whole)
    states = segmenter.clip.state_vectors("", segmenter.localizer(HOT).card.activation)
    result = segmenter.segment(encoding, whole.replace(image_weight=1.0))
    own = image_probability(encoding.features.tiles[0].image, states, segmenter.clip.logit_scale)
    assert result.image_score == pytest.approx(own)
    assert own != pytest.approx(
        image_probability(encoding.features.tiles[0].image, states, 1.0), abs=1e-6
    )


def test_conditions_that_share_an_encoding_put_each_question_once(segmenter, photo, monkeypatch):
    asked = []
    decode = segmenter.sam.decode
    monkeypatch.setattr(
        segmenter.sam, "decode", lambda f, prompts: asked.extend(prompts) or decode(f, prompts)
    )
    joint = HOT.replace(prompting="joint")
    encoding = segmenter.encode(photo)
    results = list(segmenter.segment_each(encoding, [joint.replace(steps=1), joint]))
    assert len(asked) == 3
    alone = segmenter.segment(encoding, joint)
    np.testing.assert_array_equal(results[1].score_map, alone.score_map)


def test_a_click_asks_sam_about_itself_alone(segmenter, photo, monkeypatch):
    """What SAM was asked for the last decision on an image is not asked again: a preview must be quick."""
    encoding = segmenter.encode(photo)
    segmenter.segment(encoding, HOT)
    asked = []
    decode = segmenter.sam.decode
    monkeypatch.setattr(
        segmenter.sam, "decode", lambda f, prompts: asked.extend(prompts) or decode(f, prompts)
    )
    x, y = 2, 2  # outside of every region
    clicked = segmenter.segment(encoding, HOT, [(x, y, 1)])
    assert len(asked) == HOT.steps
    assert all([x, y] in prompt.points.tolist() for prompt in asked)
    asked.clear()
    again = segmenter.segment(encoding, HOT, [(x, y, 1)])
    assert not asked
    np.testing.assert_array_equal(again.score_map, clicked.score_map)
    segmenter.segment(segmenter.encode(photo[::-1].copy()), HOT)
    assert asked  # another image has answers of its own
