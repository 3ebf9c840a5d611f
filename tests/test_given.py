"""What a caller hands to the engine: one thing where several are wanted, an iterator, something of another kind."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.models import small_segmenter
from zsas import memory
from zsas.errors import ZsasError
from zsas.images import several
from zsas.part import Part
from zsas.segmenter import Segmenter
from zsas.settings import Settings

HOT = Settings(threshold=0.9, threshold_mode="quantile", edge_radius=0, mask_level=0)
PLATE = np.full((8, 9, 3), 128, np.uint8)


def test_clicks_may_come_one_by_one(segmenter, photo):
    clicks = [(100.0, 40.0, 1)]
    listed = segmenter.segment(photo, HOT, clicks)
    streamed = segmenter.segment(photo, HOT, (click for click in clicks))
    assert streamed.points.source.count("click") == 1
    assert np.array_equal(streamed.score_map, listed.score_map)


def test_no_clicks_may_be_none(segmenter, photo):
    assert "click" not in segmenter.segment(photo, HOT, None).points.source


@pytest.mark.parametrize("clicks", [(10, 20, 1), 7, "abc", [None], [("a", "b", 1)], [(1, 2)]])
def test_what_is_no_click_is_a_sentence(segmenter, photo, clicks):
    with pytest.raises(ZsasError, match="label"):
        segmenter.segment(photo, HOT, clicks)


@pytest.mark.parametrize(
    "one",
    [
        *("part.png", Path("part.png"), b"\x89PNG", PLATE, PLATE[..., 0]),
        *(io.BytesIO(b"\x89PNG"), 3, None),
    ],
    ids=lambda one: type(one).__name__,
)
@pytest.mark.parametrize("call", ["remember", "encode_batch", "gather", "segment_batch"])
def test_one_image_where_several_are_wanted_is_a_sentence(segmenter, call, one):
    with pytest.raises(ZsasError, match="Several images were expected, as a list"):
        getattr(segmenter, call)(one)


def test_several_images_may_come_one_by_one_or_stacked(segmenter, photo):
    images = [photo, photo // 2]
    keys = [one.key for one in segmenter.encode_batch(images)]
    assert [one.key for one in segmenter.encode_batch(iter(images))] == keys
    assert [one.key for one in segmenter.encode_batch(np.stack(images))] == keys
    assert segmenter.remember(iter(images)).keys == tuple(keys)
    assert [one.key for one in segmenter.gather(iter(images))] == keys


def test_a_batch_of_an_iterator_is_that_of_its_list(segmenter, photo):
    images = [np.roll(photo, 9 * i, axis=1) for i in range(5)]
    listed = [one.image_score for one in segmenter.segment_batch(images, mutual=True)]
    streamed = [one.image_score for one in segmenter.segment_batch(iter(images), mutual=True)]
    assert streamed == listed


def test_an_endless_stream_of_images_is_decided_as_it_comes(segmenter, photo):
    def forever():
        while True:
            yield photo

    assert next(segmenter.segment_batch(forever(), HOT)).image_score > 0


def test_names_in_an_array_are_several():
    assert list(several(np.array(["a.png", "b.png"]))) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("references", "Segmenter.remember"),
        ("batch", "segment_batch"),
        ("region", "RegionOfInterest.load"),
        ("part", "Part.load"),
    ],
)
@pytest.mark.parametrize(
    "given", ["a.file", [PLATE], np.ones((8, 9), bool)], ids=["text", "list", "array"]
)
def test_what_is_given_beside_an_image_must_be_of_its_kind(segmenter, name, way, given):
    with pytest.raises(ZsasError, match=way):
        segmenter.segment(PLATE, HOT, **{name: given})


@pytest.mark.parametrize("call", ["begin", "encode", "remember", "gather"])
def test_a_region_is_checked_wherever_it_is_given(segmenter, call):
    images = PLATE if call in ("begin", "encode") else [PLATE]
    with pytest.raises(ZsasError, match=r"RegionOfInterest\.load"):
        getattr(segmenter, call)(images, HOT, region="look.json")


def test_drawing_on_a_result_never_changes_later_decisions(photo):
    segmenter = small_segmenter()
    encoding = segmenter.encode(photo, HOT)
    result = segmenter.segment(encoding, HOT)
    for image in (result.image, encoding.image):
        with pytest.raises((cv2.error, ValueError)):
            cv2.rectangle(image, (0, 0), (30, 30), (255, 0, 0), 3)
    assert np.array_equal(segmenter.segment(encoding, HOT).image, photo)


def test_what_an_interpreter_prints_of_results_is_one_line(segmenter, photo):
    encoding = segmenter.encode(photo, HOT)
    result = segmenter.segment(encoding, HOT)
    good = segmenter.remember([photo])
    assert repr(result) == f"<Result of 160 × 120 px by auto: {result.sentence}>"
    assert repr(encoding) == "<Encoding of 160 × 120 px by linear and by SAM>"
    for one in (result, encoding, good, result.stages[0]):
        assert "array" not in repr(one)
        assert len(repr(one)) < 300


def test_results_can_be_looked_for_and_collected(segmenter, photo):
    results = [segmenter.segment(image, HOT) for image in (photo, photo // 2, photo)]
    assert results.index(results[2]) == 2
    assert len({*results, results[0]}) == 3
    assert results[0] != results[2]


def test_a_segmenter_says_its_models_and_its_system(segmenter):
    assert repr(segmenter) == "<Segmenter: small on cpu, system auto>"


def test_a_segmenter_is_not_pickled_but_its_results_are(segmenter, photo):
    for copied in (pickle.dumps, copy.deepcopy):
        with pytest.raises(ZsasError, match="load it there"):
            copied(segmenter)
    result = segmenter.segment(photo, HOT)
    again = pickle.loads(pickle.dumps(result))
    assert again.to_dict() == result.to_dict()
    assert np.array_equal(again.mask, result.mask)


def test_a_segmenter_is_made_of_loaded_models():
    with pytest.raises(ZsasError, match="from_preset"):
        Segmenter("tiny")


@pytest.mark.parametrize("call", ["anomaly_map", "image_score"])
def test_what_wants_an_encoded_image_says_so(segmenter, call):
    with pytest.raises(ZsasError, match=r"as Segmenter\.encode makes it"):
        getattr(segmenter, call)(PLATE, HOT)
    with pytest.raises(ZsasError, match=r"as Segmenter\.encode makes it"):
        next(segmenter.segment_each(PLATE, [HOT]))


def test_a_memory_is_kept_under_a_name_as_text(segmenter, photo, tmp_path):
    good = segmenter.remember([photo])
    memory.save(good, str(tmp_path / "good.safetensors"))
    assert memory.load(str(tmp_path / "good.safetensors")).keys == good.keys
    (tmp_path / "text.safetensors").write_text("no memory")
    with pytest.raises(ZsasError, match=r"text\.safetensors"):
        memory.load(str(tmp_path / "text.safetensors"))
    with pytest.raises(ZsasError, match=r"Segmenter\.remember"):
        memory.save([photo], tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("settings", {"threshold": 0.4}),
        ("references", [PLATE]),
        ("region", "look.json"),
        ("scale", 0.1),
    ],
)
def test_a_part_is_made_of_what_it_must_be(name, given):
    with pytest.raises(ZsasError, match=f"The {name} of a part must be of the type"):
        Part("gear", **{name: given})


def test_settings_beside_a_part_are_checked_too(segmenter):
    with pytest.raises(ZsasError, match="Settings were expected"):
        segmenter.segment(PLATE, {"threshold": 0.4}, part=Part("gear"))
