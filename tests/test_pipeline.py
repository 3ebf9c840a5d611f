from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.helpers.models import small_segmenter
from zsas.backbones.sam import Masks, Prompt
from zsas.cascade import read_answer
from zsas.errors import ZsasError
from zsas.localizers import image_probability
from zsas.pipeline import _Heat, _merged_step, _Target, _targets
from zsas.settings import Settings, knobs

HOT = Settings(threshold=0.9, threshold_mode="quantile")


def test_every_stage_comes_in_order_and_the_map_before_sam(photo):
    segmenter = small_segmenter()
    stages = segmenter.stages(photo, HOT)
    name, first = next(stages)
    assert name == "map"
    assert segmenter.photos_encoded == {"clip": 1, "sam": 0}
    assert first.anomaly_map.shape == photo.shape[:2]
    names, results = zip(*stages, strict=True)
    assert names == ("region", "points", "m1", "m2", "box", "m3", "fused")
    assert set(first.timings) == {"clip", "map"}, "a result is not changed by what comes after it"
    assert results[-1].timings["clip"] > 0
    assert results[-1].timings["sam"] > 0


def test_a_result_has_every_stage_in_the_photos_frame(segmenter, photo):
    photo = 255 - photo  # one that no other test has left in the cache
    result = segmenter(photo, HOT)
    shape = photo.shape[:2]
    for array in (result.anomaly_map, result.region, result.ring, result.mask, result.score_map):
        assert array.shape == shape
    assert [step.name for step in result.steps] == ["M1", "M2", "M3"]
    assert result.anomaly_map.dtype == np.float32
    assert 0 <= result.anomaly_map.min() <= result.anomaly_map.max() <= 1
    assert 0 <= result.score_map.min() <= result.score_map.max() <= 1
    assert not (result.region & result.ring).any()
    assert (result.points.xy >= 0).all()
    assert (result.points.xy < [160, 120]).all()
    assert result.localizer == "linear"
    packages = {"torch", "transformers", "numpy", "opencv-python-headless", "pillow"}
    assert set(result.versions) == {"zsas", *packages}
    spent = {"clip", "sam", "map", "region", "points", "m1", "m2", "m3", "fused"}
    assert set(result.timings) == spent
    again = segmenter(photo, HOT)
    assert (again.timings["clip"], again.timings["sam"]) == (0, 0)
    assert result.timings["clip"] > 0
    assert result.timings["sam"] > 0


def test_deciding_again_runs_no_encoder(segmenter, photo):
    encoding = segmenter.encode(photo)
    before = dict(segmenter.photos_encoded)
    for settings in (
        HOT,
        HOT.replace(k_positive=7, kernel_size=51),
        HOT.replace(object_name="plate", fusion="map"),
        HOT.replace(prompting="joint", steps=2),
    ):
        segmenter.segment(encoding, settings)
    assert segmenter.photos_encoded == before


def test_the_same_photo_is_encoded_once(photo, tmp_path):
    segmenter = small_segmenter()
    Image.fromarray(photo).save(tmp_path / "photo.png")
    segmenter.encode(photo)
    segmenter.encode(tmp_path / "photo.png")
    segmenter.encode(Image.fromarray(photo))
    assert segmenter.photos_encoded == {"clip": 1, "sam": 1}
    segmenter.encode(photo, Settings(localizer="training_free"))
    assert segmenter.photos_encoded == {"clip": 2, "sam": 1}


def test_the_cache_keeps_to_its_bytes(photo):
    segmenter = small_segmenter()
    one = segmenter.encode(photo)
    segmenter.cache.max_bytes = 0
    budget = 3 * (one.patches.nbytes + one.sam.nbytes)
    fresh = small_segmenter()
    fresh.cache.__init__(budget)
    for shade in range(20):
        fresh.encode(np.full((50, 50, 3), shade, np.uint8))
        assert fresh.cache.nbytes <= budget


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
    assert not result.region.any()
    assert not result.mask.any()
    assert result.steps == ()
    assert result.regions == ()
    assert result.winner == ""
    assert "m1" not in result.timings


def test_a_sound_photo_can_get_the_verdict_normal(segmenter, photo):
    encoding = segmenter.encode(photo)
    strict = segmenter.segment(encoding, Settings(threshold=1.0, verdict_threshold=1.0))
    assert not strict.anomalous
    assert strict.verdict.startswith("Normal")
    assert segmenter.segment(encoding, Settings(verdict_threshold=0.0)).anomalous


@pytest.mark.parametrize("prompting", ["joint", "per_region"])
def test_a_region_that_fills_the_photo_is_decided(segmenter, photo, prompting):
    settings = Settings(threshold=0.0, prompting=prompting)
    result = segmenter(photo, settings)
    assert result.region.all()
    assert not result.ring.any()
    assert set(result.points.labels.tolist()) == {1}
    assert len(result.steps) == 3


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
    assert len(apart.box) == pieces
    assert f"in {pieces} regions" in apart.steps[0].prompts


def test_a_region_stands_for_a_mask_that_left_it(segmenter, photo):
    encoding = segmenter.encode(photo)
    settings = HOT.replace(prompting="joint")
    kept, replaced = (
        segmenter.segment(encoding, settings.replace(agreement=least)) for least in (0.0, 1.0)
    )
    assert (kept.steps[-1].mask & ~kept.region).any()
    np.testing.assert_array_equal(kept.mask, kept.steps[-1].mask)
    assert kept.winner == "M3"
    np.testing.assert_array_equal(replaced.mask, replaced.region)
    assert replaced.winner == "region"
    np.testing.assert_array_equal(kept.score_map, replaced.score_map)


def test_at_most_so_many_regions_get_a_cascade(segmenter, photo):
    result = segmenter(photo, HOT.replace(max_regions=1, k_positive=2, k_negative=1))
    assert result.points.positives == 2


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_shorter_cascades_are_beginnings_of_the_long_one(segmenter, photo, steps):
    encoding = segmenter.encode(photo)
    whole = segmenter.segment(encoding, HOT)
    short = segmenter.segment(encoding, HOT.replace(steps=steps))
    assert len(short.steps) == steps
    np.testing.assert_array_equal(short.steps[-1].mask, whole.steps[steps - 1].mask)


def test_a_click_where_nothing_was_found_is_a_cascade_of_its_own(segmenter, photo):
    encoding = segmenter.encode(photo)
    nothing = Settings(threshold=1.0)
    result = segmenter.segment(encoding, nothing, clicks=[(100, 40, 1), (20, 100, 0)])
    assert result.points.source == ("click", "click")
    assert result.points.labels.tolist() == [1, 0]
    assert len(result.steps) == 3


def test_clicks_join_the_automatic_points_and_change_the_answer(segmenter, photo):
    encoding = segmenter.encode(photo)
    settings = HOT.replace(prompting="joint")
    before = segmenter.segment(encoding, settings)
    after = segmenter.segment(encoding, settings, clicks=[(3, 110, 1)])
    assert len(after.points) == len(before.points) + 1
    assert after.points.source[-1] == "click"
    assert not np.array_equal(before.score_map, after.score_map)


def test_an_encoding_of_another_resolution_is_refused(segmenter, photo):
    encoding = segmenter.encode(photo, HOT.replace(resolution=128))
    assert segmenter.segment(encoding, HOT.replace(resolution=128)).settings.resolution == 128
    with pytest.raises(ZsasError, match="encoded at another resolution"):
        segmenter.segment(encoding, HOT.replace(resolution=256))


def test_features_from_elsewhere_are_fetched_and_those_at_hand_are_not_copied(segmenter, photo):
    encoding = segmenter.encode(photo, HOT)
    assert encoding.to("cpu").sam is encoding.sam
    away = encoding.to("meta")
    assert away.sam.embedding.is_meta
    assert away.patches.layers.is_meta
    with pytest.raises(NotImplementedError, match="meta"):  # it was asked to come here
        segmenter.segment(away, HOT.replace(object_name="not yet seen"))


def test_the_linear_localizer_needs_an_adapter(photo):
    segmenter = small_segmenter()
    del segmenter.localizers["linear"]
    assert segmenter(photo, HOT).localizer == "training_free"
    with pytest.raises(ZsasError, match="needs trained layers for small-clip"):
        segmenter(photo, Settings(localizer="linear"))


def test_an_encoding_for_another_localizer_is_refused(segmenter, photo):
    encoding = segmenter.encode(photo, Settings(localizer="training_free"))
    with pytest.raises(ZsasError, match="another localizer"):
        segmenter.segment(encoding, Settings(localizer="linear"))


def test_what_no_cascade_refines_stands_in_the_mask_as_the_map_shows_it(photo):
    segmenter = small_segmenter()
    heat = np.zeros(photo.shape[:2], np.float32)
    for i in range(5):
        heat[20 + 4 * i : 23 + 4 * i, 20 * i + 10 : 20 * i + 14] = 0.9 - 0.02 * i
    spots = heat > 0

    def found(*_):
        return _Heat(heat, 0.9, 0.5)

    segmenter._heat = found
    result = segmenter(photo, Settings(threshold=0.5, max_regions=2))
    assert sum("region" in word for word in result.winner.split(", ")) == 1
    later = spots & (heat < 0.87)
    assert later.sum() == 36
    assert (result.mask & later).sum() == 36
    whole = segmenter(photo, Settings(threshold=0.5, max_regions=5, agreement=0))
    assert "region" not in whole.winner
    alone = segmenter(photo, Settings(threshold=0.5, max_regions=1))
    negative = alone.points.xy[alone.points.labels == 0]
    assert len(negative)
    assert negative[:, 0].max() < 24  # beside the one region that is refined, not beside the others


def test_no_negative_point_lies_on_another_region(photo):
    """Two with a gap of two pixels between them: the wide kernel of each reaches far into the other."""
    segmenter = small_segmenter()
    heat = np.full(photo.shape[:2], 0.9, np.float32)
    heat[:, 79:81] = 0
    segmenter._heat = lambda *_: _Heat(heat, 0.9, 0.5)
    settings = Settings(
        threshold=0.5,
        k_negative=20,
        kernel_size=61,
        spacing=1,
        spacing_mode="distance",
        reference_side=0,
    )
    result = segmenter(photo, settings)
    xy = result.points.xy[result.points.labels == 0].astype(int)
    assert len(xy) >= 20
    assert not result.region[xy[:, 1], xy[:, 0]].any()
    assert not result.ring[result.region].any()


def test_a_mask_around_a_faint_suspicion_stays_a_faint_one(photo):
    segmenter = small_segmenter()

    def scored(hot: float, clicks=()):
        heat = np.full(photo.shape[:2], 0.01, np.float32)
        heat[30:70, 80:130] = hot
        segmenter._heat = lambda *_: _Heat(heat, hot, 0.5)
        settings = Settings(threshold=0.1, fusion="mask", agreement=0)
        return segmenter(photo, settings, clicks)

    faint, plain, asked = scored(0.2), scored(0.8), scored(0.2, [(100, 40, 1)])
    np.testing.assert_array_equal(faint.mask, plain.mask)
    assert faint.score_map.max() > 0
    np.testing.assert_allclose(4 * faint.score_map, plain.score_map, rtol=1e-4)
    score = np.clip(faint.steps[-1].score, 0, 1)
    assert faint.score_map.max() <= 0.2 * score + 1e-6
    assert asked.score_map.max() > 0.5  # what a person points at is no suspicion


HOTTEST = Settings(threshold=0.9, threshold_mode="quantile")
ANOTHER = {
    "object_name": "nut", "localizer": "training_free", "resolution": 256, "blur": 20.0,
    "threshold": 0.8, "threshold_mode": "otsu", "k_positive": 5, "k_negative": 5,
    "negatives": False, "spacing": 5.0, "spacing_mode": "distance", "similarity": "nearest",
    "kernel_shape": "cross", "kernel_size": 151, "reference_side": 100, "prompting": "joint",
    "max_regions": 1, "steps": 1, "agreement": 0.0, "fusion": "map", "fusion_weight": 0.9,
    "image_weight": 1.0, "verdict_threshold": 0.0,
}  # fmt: skip


def shown(result):
    return [
        result.anomaly_map, result.region, result.ring, result.points.xy, result.box, result.mask,
        result.score_map, np.array([result.image_score, result.anomalous]),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [knob.name for knob in knobs()])
def test_every_knob_reaches_the_result(segmenter, photo, name):
    """Also after a decision with another value of it, which the caches must not give out again."""
    before = segmenter(photo, HOTTEST)
    after = segmenter(photo, HOTTEST.replace(**{name: ANOTHER[name]}))
    pairs = zip(shown(before), shown(after), strict=True)
    assert not all(np.array_equal(one, other) for one, other in pairs)


def test_the_photos_own_answer_is_clips_softmax(segmenter, photo):
    encoding = segmenter.encode(photo)
    states = segmenter.clip.state_vectors("", segmenter.localizer(HOT).activation)
    result = segmenter.segment(encoding, HOT.replace(image_weight=1.0))
    own = image_probability(encoding.patches, states, segmenter.clip.logit_scale)
    assert result.image_score == pytest.approx(own)
    assert own != pytest.approx(image_probability(encoding.patches, states, 1.0), abs=1e-6)


def test_a_merged_step_says_what_all_cascades_did(segmenter, photo):
    encoding = segmenter.encode(photo)
    frame = encoding.sam.frame
    done = []
    for number, (iou, square) in enumerate(((0.9, (2, 2, 6, 6)), (0.5, (8, 8, 12, 12)))):
        logits = np.full((3, 64, 64), -8, np.float32)
        x0, y0, x1, y1 = square
        logits[0, y0:y1, x0:x1] = 8
        box = np.array([number, 0, 9, 9], np.float32)
        prompt = Prompt(np.zeros((2, 2), np.float32), np.ones(2, np.int64), box=box)
        answer = Masks(logits, np.array([iou, 0, 0], np.float32))
        target = _Target(prompt.points, prompt.labels, (), None, 1.0)
        target.steps.append(read_answer(prompt, answer, frame, 3))
        done.append(target)
    merged = _merged_step(done, encoding.sam, 3)
    assert merged.score == pytest.approx(0.7)
    assert merged.box is None
    assert merged.prompts == "4 points, box, logits of M2, in 2 regions"
    both = [one.steps[0].mask.sum() for one in done]
    assert merged.mask.sum() == sum(both) > 0
    alone = _merged_step(done[:1], encoding.sam, 3)
    np.testing.assert_array_equal(alone.box, done[0].steps[0].prompt.box)


def test_a_click_belongs_to_the_piece_it_lies_in_or_beside(photo):
    segmenter = small_segmenter()
    heat = np.zeros(photo.shape[:2], np.float32)
    heat[20:40, 20:40], heat[80:100, 100:120] = 0.9, 0.8
    segmenter._heat = lambda *_: _Heat(heat, 0.9, 0.5)
    settings = Settings(threshold=0.5, k_positive=1, k_negative=1, kernel_size=15, reference_side=0)
    encoding = segmenter.encode(photo)
    result = segmenter.segment(encoding, settings)

    def asked(*clicks):
        targets, _ = _targets(result, encoding.sam, 15, settings, clicks)
        return [
            (
                [tuple(p) for p, w in zip(t.points, t.source, strict=True) if w == "click"],
                t.region is None,
            )
            for t in targets
        ]

    assert asked() == [([], False), ([], False)]
    assert asked((110, 90, 1)) == [([], False), ([(110, 90)], True)]  # in the second
    assert asked((124, 90, 1)) == [([], False), ([(124, 90)], True)]  # beside it, in its ring
    assert asked((60, 10, 1)) == [([], False), ([], False), ([(60, 10)], True)]  # far from both
    told = asked((60, 10, 1), (5, 5, 0))
    assert told == [([(5, 5)], False), ([(5, 5)], False), ([(60, 10), (5, 5)], True)]


@pytest.mark.parametrize(
    "click", [(float("nan"), 5, 1), (5, float("inf"), 0), (5, 5, 2), (5, 5, -1)]
)
def test_a_click_that_makes_no_sense_is_one_sentence(segmenter, photo, click):
    with pytest.raises(ZsasError, match="x and y in photo pixels and a label"):
        segmenter(photo, HOT, [click])
