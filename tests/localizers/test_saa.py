"""SAA and SAA+: published numbers by hand, stand-ins for detector and SAM, and the real classes with random weights."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.helpers.detectors import small_detector, small_resnet
from tests.helpers.models import CPU, every_system_segmenter
from zsas.backbones.detector import Detections
from zsas.backbones.resnet import ResNet, ResNetFeatures
from zsas.datasets.hub import MVTEC_CATEGORIES, VISA_CATEGORIES
from zsas.datasets.samples import object_name
from zsas.errors import ZsasError
from zsas.frames import SamFrame
from zsas.localizers import saliency
from zsas.localizers.base import Context
from zsas.localizers.boxes import Painted, paint, pick, rescored
from zsas.localizers.phrases import GENERAL, KNOWN, PLAIN, listed, noun_of, phrases_for
from zsas.localizers.saa import Saa, SaaPlus
from zsas.localizers.saliency import unit_cells, unlike_the_others, unlike_the_rest
from zsas.prompts import Masks
from zsas.settings import Settings

HEIGHT, WIDTH = 64, 96


# The numbers of the method.


def test_a_score_is_raised_by_the_saliency_in_its_mask():
    salient = np.full((4, 4), 0.2, np.float32)
    mask = ((1, 1, 3, 3), np.ones((2, 2), bool))
    assert rescored(0.3, salient, mask, 3.0) == pytest.approx(0.546636, abs=1e-6)
    assert rescored(0.3, salient, (None, None), 3.0) == 0.3
    assert rescored(0.3, salient, mask, 0.0) == 0.3


def test_the_map_is_the_sum_of_scores_over_one_more_than_the_masks():
    a = Painted((0, 0, 2, 2), np.ones((2, 2), bool), 0.6)
    b = Painted((0, 0, 4, 2), np.ones((2, 4), bool), 0.3)
    found = paint([a, b], 4, 4)
    np.testing.assert_allclose(found[:2, :2], 0.3)
    np.testing.assert_allclose(found[:2, 2:], 0.15)
    assert not found[2:].any()
    np.testing.assert_allclose(paint([a], 4, 4)[:2], [[0.3, 0.3, 0, 0]] * 2)
    assert not paint([Painted(None, None, 0.0)], 4, 4).any()


def test_the_saliency_of_four_cells():
    cells = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    np.testing.assert_allclose(unlike_the_rest(cells, 2), [0.25, 0.25, 0.25, 0.5])
    np.testing.assert_allclose(unlike_the_rest(cells, 400), [0.125, 0.125, 0.125, 0.375])


def test_blocks_change_nothing(monkeypatch):
    cells = torch.nn.functional.normalize(torch.rand(50, 8), dim=1)
    whole = unlike_the_rest(cells, 7)
    monkeypatch.setattr(saliency, "BLOCK_BYTES", 4 * 50 * 3)
    np.testing.assert_allclose(unlike_the_rest(cells, 7), whole, atol=1e-6)


def boxes(areas, scores=None, words=("defect",), probabilities=None) -> Detections:
    count = len(areas)
    scores = np.full(count, 0.5, np.float32) if scores is None else np.array(scores, np.float32)
    odds = scores[:, None] if probabilities is None else np.array(probabilities, np.float32)
    xyxy = np.tile(np.array([10, 10, 40, 30], np.float32), (count, 1))
    return Detections(xyxy, scores, np.array(areas, np.float32), odds, tuple(words))


def test_boxes_stay_under_their_part_of_the_image():
    kept = pick(boxes([0.25, 0.2499]), (HEIGHT, WIDTH), 0.1, 1 / 4)
    assert [one.area for one in kept] == [pytest.approx(0.2499)]
    assert pick(boxes([1.0]), (HEIGHT, WIDTH), 0.1, 1.0) == []
    assert pick(boxes([0.0]), (HEIGHT, WIDTH), 0.1, 1.0) == []
    assert pick(boxes([0.2], [0.1]), (HEIGHT, WIDTH), 0.1, 1.0) == []  # it must exceed the level


def test_boxes_of_the_object_are_dropped_wherever_its_name_stands():
    def kept(forbidden, words, odds):
        found = boxes([0.1], [0.9], words, [odds])
        return len(pick(found, (HEIGHT, WIDTH), 0.1, 1.0, forbidden, 0.1))

    assert kept("bottle", ("defect", "bottle"), [0.9, 0.2]) == 0
    assert kept("bottle", ("defect", "bottle"), [0.9, 0.1]) == 1  # 0.1 does not exceed 0.1
    assert kept("nut", ("wal", "##nut"), [0.9, 0.9]) == 0
    assert kept("", ("defect", "bottle"), [0.9, 0.9]) == 1


def test_boxes_over_the_border_are_cut_and_those_outside_dropped():
    found = boxes([0.1, 0.1])
    found.xyxy[0] = (-20, 5, 10, 200)
    found.xyxy[1] = (-20, 5, -3, 20)
    (one,) = pick(found, (HEIGHT, WIDTH), 0.1, 1.0)
    assert one.xyxy.tolist() == [0, 5, 10, HEIGHT]


# Several objects.


def slow_others(levels, objects):
    """As it is written: each object's cells against all cells of the others, its own zeroed before."""
    side = levels[0].shape[-1]
    cells = unit_cells(levels).numpy().reshape(side, side, -1)
    found = np.zeros((side, side), np.float32)
    for i, own in enumerate(objects):
        zeroed = cells * ~own[..., None]
        others = np.concatenate([zeroed[o] for j, o in enumerate(objects) if j != i])
        cosine = (cells[own] @ others.T).max(axis=1)
        found[own] = np.maximum(found[own], (1 - cosine) / 2)
    return found


def three_levels(seed=0, side=16):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(4 * 2**i, side >> i, side >> i, generator=generator) for i in range(3)]


@pytest.mark.parametrize("block", [200_000_000, 4 * 7 * 60])
def test_objects_are_compared_with_each_other(monkeypatch, block):
    monkeypatch.setattr(saliency, "BLOCK_BYTES", block)
    objects = [np.zeros((16, 16), bool) for _ in range(3)]
    objects[0][1:6, 1:6] = objects[1][4:12, 4:10] = objects[2][10:15, 9:15] = True
    levels = three_levels()
    found = unlike_the_others(levels, objects)
    assert found is not None
    np.testing.assert_allclose(found, slow_others(levels, objects), atol=1e-5)
    assert not found[0].any()


def test_objects_that_lie_in_one_another_count_as_unlike_everything():
    objects = [np.ones((16, 16), bool), np.zeros((16, 16), bool)]
    objects[1][3:5, 3:5] = True
    found = unlike_the_others(three_levels(), objects)
    assert found is not None
    np.testing.assert_allclose(found[3:5, 3:5], slow_others(three_levels(), objects)[3:5, 3:5])
    np.testing.assert_allclose(found[0], 0.5)


def test_one_object_alone_is_compared_with_nothing():
    one = np.zeros((16, 16), bool)
    assert unlike_the_others(three_levels(), [one, ~one]) is None
    assert unlike_the_others(three_levels(), []) is None


# Words.


def test_phrases_are_the_general_ones_then_a_persons_or_a_known_objects():
    general = tuple(text.format("metal nut") for text in GENERAL)
    assert noun_of("Metal_Nut") == "metal nut"
    assert phrases_for("metal nut", True, "", ("worn",)) == (*general, "worn")
    assert phrases_for("metal nut", True, " dent,, rust ", ("worn",)) == (*general, "dent", "rust")
    assert phrases_for("metal nut", False, "dent", ("worn",)) == ("dent",)
    assert listed(" , ,") == ()
    with pytest.raises(ZsasError, match="no phrases to look for"):
        phrases_for("metal nut", False, ", ,")


def test_what_is_known_of_objects_lies_in_the_settings_ranges():
    for category in (*MVTEC_CATEGORIES, *VISA_CATEGORIES):
        assert noun_of(object_name(category)) in KNOWN
        assert noun_of(category) in KNOWN
    for name, one in KNOWN.items():
        assert noun_of(name) == name
        assert 1 <= one.objects <= 50
        assert 1 <= one.keep <= 100
        assert 0 < one.area <= 1
        assert 1 <= len(one.phrases) <= 6
    assert (PLAIN.objects, PLAIN.keep, PLAIN.area) == (1, 5, 0.9)
    assert KNOWN["candle"].objects == 4
    assert KNOWN["screw"].area == 0.1


# Stand-ins: a detector that knows some boxes, a SAM that fills its boxes.


class StandInDetector:
    """Boxes by phrase, as (x0, y0, x1, y1, score, words); nothing for other phrases."""

    def __init__(self, known):
        self.known = known
        self.asked: list[str] = []

    def encode(self, images):
        return [
            SimpleNamespace(image_hw=image.shape[:2], nbytes=1, to=lambda device: None)
            for image in images
        ]

    def detect(self, seen, phrase):
        self.asked.append(phrase)
        rows = self.known.get(phrase, ())
        xyxy = np.array([row[:4] for row in rows], np.float32).reshape(-1, 4)
        scores = np.array([row[4] for row in rows], np.float32)
        words = sorted({word for row in rows for word in row[5].split()})
        odds = np.array([[row[4] * (w in row[5].split()) for w in words] for row in rows])
        size = xyxy[:, 2:] - xyxy[:, :2]
        areas = size.prod(axis=1) / (seen.image_hw[0] * seen.image_hw[1])
        odds = odds.reshape(len(rows), len(words))
        return Detections(xyxy, scores, areas, odds.astype(np.float32), tuple(words))


class BoxSam:
    """A session whose mask is the box itself, and which counts its questions."""

    def __init__(self):
        self.frame = SamFrame(HEIGHT, WIDTH, WIDTH, 1)
        self.questions = 0

    def decode(self, prompts):
        self.questions += len(prompts)
        found = []
        for prompt in prompts:
            assert prompt.single
            logits = np.full((1, WIDTH, WIDTH), -8, np.float32)
            x0, y0, x1, y1 = (round(float(v)) for v in prompt.box)
            logits[0, y0:y1, x0:x1] = 8
            found.append(Masks(logits, np.ones(1, np.float32)))
        return found


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(60, 200, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def scored(localizer, image, sam=None, **settings):
    values = Settings(system=localizer.name, **settings)
    (features,) = localizer.encode([image], values)
    return localizer.score(features, values, Context(image, sam or BoxSam()))


def saliency_model():
    return ResNetFeatures(ResNet(small_resnet().state_dict()), CPU)


def plus(known):
    return SaaPlus(StandInDetector(known), saliency_model(), sides=(64, 64))


BOTTLE = (4, 4, 84, 60, 0.9, "bottle")  # 0.729 of the image
SMALL = (10, 10, 20, 20, 0.4, "defect")
LARGE = (5, 5, 75, 60, 0.8, "defect")  # 0.627 of the image
NAMED = (12, 12, 30, 30, 0.7, "defect bottle")


def test_saa_paints_the_boxes_that_count():
    detector = StandInDetector({"defect on bottle": [SMALL, NAMED], "flaw on bottle": [LARGE]})
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    found = scored(Saa(detector), image, object_name="bottle")
    assert detector.asked == ["defect on bottle", "damage on bottle", "flaw on bottle"]
    assert found.map[15, 15] == pytest.approx((0.4 + 0.8) / 3)
    assert found.map[50, 50] == pytest.approx(0.4)
    assert found.map[2, 2] == 0
    assert found.evidence == {"map": pytest.approx(0.4)}
    assert [stage.name for stage in found.stages] == ["saa_boxes", "anomaly_map"]
    assert "2 boxes" in found.stages[0].caption
    assert found.stages[0].data["boxes"][0]["words"] == "defect"


@pytest.mark.slow
def test_saa_plus_bounds_boxes_by_the_object_and_rescores(image):
    localizer = plus({"bottle": [BOTTLE], "defect on bottle": [SMALL, NAMED, LARGE]})
    found = scored(localizer, image, object_name="bottle")
    names = [stage.name for stage in found.stages]
    assert names == ["saa_boxes", "saa_saliency", "saa_masks", "anomaly_map"]
    # The bottle's own 0.3 of 0.729 leaves out the large box, its name the other.
    assert len(found.stages[0].data["boxes"]) == 1
    salient = found.stages[1].heat
    assert salient is not None
    assert 0 < salient.mean() < 0.5
    score = 0.4 * math.exp(3 * salient[10:20, 10:20].mean())
    assert found.stages[2].data["scores"] == [pytest.approx(score, abs=2e-4)]
    np.testing.assert_allclose(found.map[12:18, 12:18], 1 - math.exp(-score / 2), atol=1e-4)
    wide = scored(localizer, image, object_name="bottle", saa_area=1.0)
    assert len(wide.stages[0].data["boxes"]) == 2


@pytest.mark.slow
def test_only_the_best_masks_are_kept(image):
    places = [(8 * i, 8, 8 * i + 6, 14, 0.2 + 0.05 * i, "defect") for i in range(9)]
    localizer = plus({"object": [], "defect on object": places})
    assert scored(localizer, image).stages[2].data == {
        "of": 9,
        "scores": pytest.approx([0.2] * 5, abs=2),
    }
    one = scored(localizer, image, saa_keep=1, saa_strength=0.0)
    assert one.stages[2].data["scores"] == [pytest.approx(0.6)]
    assert one.map[10, 66] == pytest.approx(1 - math.exp(-0.3), abs=1e-4)
    assert one.map[10, 58] == 0
    everything = scored(localizer, image, saa_keep=100)
    assert everything.stages[2].data["of"] == len(everything.stages[2].data["scores"]) == 9


def test_no_box_gives_an_empty_map_and_says_so(image):
    for localizer in (Saa(StandInDetector({})), plus({})):
        found = scored(localizer, image)
        assert not found.map.any()
        assert found.evidence["map"] == 0
        assert found.stages[0].caption.startswith("0 boxes")


def test_the_best_box_is_kept_where_that_is_asked_for(image):
    weak = {"defect on object": [(4, 4, 9, 9, 0.03, "defect"), (20, 20, 40, 40, 0.05, "defect")]}
    assert not scored(Saa(StandInDetector(weak)), image).map.any()
    found = scored(Saa(StandInDetector(weak)), image, saa_best=True)
    assert found.map[30, 30] == pytest.approx(0.025)
    assert found.map[6, 6] == 0


@pytest.mark.slow
def test_several_objects_are_compared_with_each_other_where_they_are_found(image):
    candles = [(2, 4, 28, 60, 0.9, "candle"), (34, 4, 60, 60, 0.8, "candle")]
    spot = {"defect on candle": [(40, 20, 50, 30, 0.5, "defect")]}
    found = scored(plus({"candle": candles, **spot}), image, object_name="candle", saa_area=1.0)
    assert "2 objects compared with each other" in found.stages[1].caption
    salient = found.stages[1].heat
    assert salient is not None
    assert salient[:, 70:].max() == 0  # no object stands there
    assert salient[30, 15] > 0
    single = scored(
        plus({"candle": candles[:1], **spot}), image, object_name="candle", saa_area=1.0
    )
    assert "Fewer than two objects" in single.stages[1].caption
    assert single.stages[1].heat.min() > 0
    declared = scored(plus({"candle": candles, **spot}), image, object_name="candle", saa_objects=1)
    assert "compared with all others" in declared.stages[1].caption


@pytest.mark.slow
def test_known_objects_can_be_forgotten(image):
    localizer = plus({})
    scored(localizer, image, object_name="carpet")
    assert set(KNOWN["carpet"].phrases) <= set(localizer.detector.asked)
    localizer.detector.asked.clear()
    scored(localizer, image, object_name="carpet", saa_known=False)
    assert len(localizer.detector.asked) == 1 + len(GENERAL)


@pytest.mark.slow
def test_each_phrase_and_each_box_is_asked_for_once(image):
    localizer = plus({"object": [BOTTLE], "defect on object": [SMALL, LARGE]})
    values = Settings(system="saa+")
    (features,) = localizer.encode([image], values)
    sam = BoxSam()
    for one in (values, values.replace(saa_keep=1), values.replace(saa_strength=0.0)):
        localizer.score(features, one, Context(image, sam))
    assert sam.questions == 2
    assert len(localizer.detector.asked) == 1 + len(GENERAL)
    localizer.score(features, values.replace(saa_phrases="dent"), Context(image, sam))
    assert localizer.detector.asked[4:] == ["dent"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("saa_keep", 101), ("saa_keep", -1), ("saa_nearest", 0), ("saa_nearest", 5000), ("saa_objects", 51),
     ("saa_area", 1.5), ("saa_box_level", -0.1)],
)  # fmt: skip
def test_numbers_out_of_range_are_one_sentence(name, value):
    with pytest.raises(ZsasError, match=f"{name} is {value}"):
        Settings(system="saa+", **{name: value})


# The real classes, small, with random weights.


@pytest.mark.slow
def test_everything_runs_through_the_real_classes(image):
    segmenter = every_system_segmenter()
    for name in ("saa", "saa+"):
        settings = Settings(system=name, saa_phrases="scratch", object_name="bottle")
        result = segmenter(image, settings)
        assert result.mask.shape == (HEIGHT, WIDTH)
        assert np.isfinite(result.anomaly_map).all()
        assert result.image_score == pytest.approx(float(result.anomaly_map.max()))
        again = segmenter(image, settings)
        np.testing.assert_array_equal(again.anomaly_map, result.anomaly_map)
    for size in ((1, 1), (1, 300), (5, 2)):
        small = segmenter(np.full((*size, 3), 90, np.uint8), Settings(system="saa+", saa_objects=3))
        assert small.mask.shape == size
        assert np.isfinite(small.anomaly_map).all()
    fresh = Saa(small_detector())
    (features,) = fresh.encode([image], Settings(system="saa"))
    assert features.nbytes > 0
    assert features.to("cpu") is features


@pytest.mark.slow
def test_empty_phrases_are_one_sentence_and_nothing_is_lost(image):
    segmenter = every_system_segmenter()
    settings = Settings(system="saa", saa_general=False)
    encoding = segmenter.begin(image, settings)
    with pytest.raises(ZsasError, match="no phrases to look for"):
        segmenter(encoding, settings)
    assert segmenter(encoding, Settings(system="saa")).mask.shape == (HEIGHT, WIDTH)
