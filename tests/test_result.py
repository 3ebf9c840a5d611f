from __future__ import annotations

import json

import numpy as np
import pytest
from pycocotools import mask as coco

from tests.helpers.results import make_result, normal_result
from zsas.result import find_regions


def test_regions_are_connected_over_corners() -> None:
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]], bool)
    scores = np.array([[0.2, 0, 0, 0], [0, 0.3, 0, 0.9], [0, 0, 0, 0.1]], np.float32)
    first, second = find_regions(mask, scores)
    assert (first.id, first.box, first.area) == (1, (3, 1, 4, 3), 2)
    assert (second.id, second.box, second.area) == (2, (0, 0, 2, 2), 2)
    assert first.score == pytest.approx(0.9)
    assert second.score == pytest.approx(0.3)


def test_of_two_equal_scores_the_larger_region_comes_first() -> None:
    mask = np.array([[1, 0, 1, 1]], bool)
    assert [region.area for region in find_regions(mask, np.ones((1, 4), np.float32))] == [2, 1]


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((1, 1), bool),
        np.ones((5, 7), bool),
        np.eye(6, dtype=bool),
        np.pad(np.ones((3, 2), bool), ((4, 0), (3, 1))),  # down to the lower border
        np.random.default_rng(0).random((40, 30)) < 0.3,
    ],
)
def test_run_lengths_decode_to_the_mask(mask: np.ndarray) -> None:
    regions = find_regions(mask, np.ones(mask.shape, np.float32))
    np.testing.assert_array_equal(sum(region.mask.astype(int) for region in regions), mask)
    for region in regions:
        assert isinstance(region.rle["counts"], str)
        assert coco.area(dict(region.rle)) == region.area
        x, y, width, height = coco.toBbox(dict(region.rle))
        assert region.box == (x, y, x + width, y + height)


def test_run_lengths_are_those_of_pycocotools() -> None:
    mask = np.zeros((9, 5), bool)
    mask[2:, 1:4] = True
    (region,) = find_regions(mask, np.ones(mask.shape, np.float32))
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert region.rle == {"size": [9, 5], "counts": theirs["counts"].decode()}


def test_an_empty_mask_has_no_regions() -> None:
    assert find_regions(np.zeros((3, 4), bool), np.zeros((3, 4), np.float32)) == ()


def test_the_verdict_is_a_word_and_a_sentence() -> None:
    assert make_result().verdict == "anomalous"
    assert make_result().sentence == "Anomalous: score 0.83, limit 0.50, 1 region."
    normal = normal_result()
    assert normal.verdict == "normal"
    assert normal.sentence == "Normal: score 0.12, limit 0.50, nothing above the marking level."
    weak = make_result(image_score=0.3)
    assert (
        weak.sentence
        == "Normal: score 0.30, limit 0.50, 1 region marked, too weak for the verdict."
    )
    lost = make_result(mask=np.zeros((60, 80), bool), regions=())
    assert lost.sentence == "Anomalous: score 0.83, limit 0.50, no region left in the mask."


def test_the_verdict_never_looks_undecided() -> None:
    close = make_result(image_score=0.4996, regions=())
    assert "score 0.4996, limit 0.5000" in close.sentence


def test_to_dict_is_plain_json() -> None:
    result = make_result(image_score=float("nan"), timings={"encode": np.float32(0.25)})
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["image_score"] is None
    assert values["timings"] == {"encode": 0.25}
    assert (values["width"], values["height"]) == (80, 60)
    assert values["points"][0] == {"x": 32, "y": 30, "label": 1, "source": "map"}
    assert values["format"] == 2
    assert (values["verdict"], values["sentence"]) == (result.verdict, result.sentence)
    assert [stage["name"] for stage in values["stages"]] == [s.name for s in result.stages]
    stages = {stage["name"]: stage for stage in values["stages"]}
    assert stages["box"]["boxes"] == [[25, 20, 41, 42]]
    assert stages["m2"]["predicted_iou"] == 0.82
    assert stages["m2"]["equations"] == "10"
    assert stages["m2"]["caption"] == result.stage("m2").caption
    assert values["settings"]["k_positive"] == 3
    assert values["system"] == "auto"
    assert values["models"] == result.models
    assert values["versions"] == result.versions
    assert values["provenance"] == ["M3"]
    region = values["regions"][0]
    assert region["box"] == list(result.regions[0].box)
    assert region["score"] == pytest.approx(result.regions[0].score, abs=1e-6)
    assert region["rle"]["size"] == [60, 80]
    piece = coco.decode(region["rle"]).astype(bool)
    assert piece.sum() == region["area"]
    assert result.mask[piece].all()
