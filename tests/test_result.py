from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from tests.helpers.results import make_result, normal_result
from zsas import draw
from zsas.errors import ZsasError
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


def test_the_verdict_is_a_sentence() -> None:
    assert make_result().verdict == "Anomalous: score 0.83, threshold 0.50, 1 region."
    assert (
        normal_result().verdict
        == "Normal: score 0.12, threshold 0.50, nothing above the threshold."
    )
    weak = make_result(image_score=0.3, anomalous=False)
    assert (
        weak.verdict
        == "Normal: score 0.30, threshold 0.50, 1 region marked, too weak for the verdict."
    )
    lost = make_result(mask=np.zeros((60, 80), bool), regions=())
    assert lost.verdict == "Anomalous: score 0.83, threshold 0.50, no region left in the mask."


def test_the_verdict_never_looks_undecided() -> None:
    close = make_result(image_score=0.4996, anomalous=False, regions=())
    assert "score 0.4996, threshold 0.5000" in close.verdict


def test_to_dict_is_plain_json() -> None:
    result = make_result(image_score=float("nan"), timings={"encode": np.float32(0.25)})
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert values["image_score"] is None
    assert values["timings"] == {"encode": 0.25}
    assert (values["width"], values["height"]) == (80, 60)
    assert values["points"][0] == {"x": 32, "y": 30, "label": 1, "source": "map"}
    assert values["boxes"] == [[25, 20, 41, 42]]
    assert [step["name"] for step in values["steps"]] == ["M1", "M2", "M3"]
    assert values["settings"]["k_positive"] == 3
    assert (values["preset"], values["localizer"]) == (result.preset, result.localizer)
    assert values["versions"] == result.versions
    assert values["winner"] == "M3"
    assert [step["prompts"] for step in values["steps"]] == [s.prompts for s in result.steps]
    region = values["regions"][0]
    assert region["box"] == list(result.regions[0].box)
    assert region["score"] == pytest.approx(result.regions[0].score, abs=1e-6)
    assert region["rle"]["size"] == [60, 80]
    piece = coco.decode(region["rle"]).astype(bool)
    assert piece.sum() == region["area"]
    assert result.mask[piece].all()


def test_the_export_is_lossless(tmp_path: Path) -> None:
    result = make_result()
    files = result.save(tmp_path / "deep" / "gear")
    mask = cv2.imread(str(files["mask"]), cv2.IMREAD_UNCHANGED)
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, result.mask * 255)
    score = cv2.imread(str(files["score"]), cv2.IMREAD_UNCHANGED)
    assert score.dtype == np.uint16
    np.testing.assert_allclose(score / 65535, result.score_map, atol=0.5 / 65535)
    overlay = np.asarray(Image.open(files["overlay"]))
    np.testing.assert_array_equal(overlay, draw.mask_overlay(result.image, result.mask))
    assert json.loads(files["json"].read_text()) == result.to_dict()
    assert sorted(path.name for path in (tmp_path / "deep" / "gear").iterdir()) == [
        "mask.png",
        "overlay.png",
        "result.json",
        "score.png",
    ]


def test_stages_are_numbered_in_the_order_of_the_method(tmp_path: Path) -> None:
    make_result().save(tmp_path, stages=True)
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == [
        "01_anomaly_map.png",
        "02_region_and_ring.png",
        "03_points.png",
        "04_m1.png",
        "05_m2.png",
        "06_box.png",
        "07_m3.png",
        "08_fused.png",
    ]


def test_stages_show_what_the_page_shows(tmp_path: Path) -> None:
    result = make_result()
    files = result.save(tmp_path, stages=True)
    for stage in draw.stages(result):
        np.testing.assert_array_equal(np.asarray(Image.open(files[stage.name])), stage.image)


def test_pictures_of_an_earlier_result_do_not_stay(tmp_path: Path) -> None:
    make_result().save(tmp_path, stages=True)
    (tmp_path / "stages" / "mine.png").touch()
    normal_result().save(tmp_path, stages=True)
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == [
        "01_anomaly_map.png",
        "02_region_and_ring.png",
        "03_fused.png",
        "mine.png",
    ]


def test_a_stem_goes_before_each_name(tmp_path: Path) -> None:
    files = make_result().save(tmp_path, stages=True, stem="gear")
    assert files["mask"] == tmp_path / "gear_mask.png"
    assert files["m1"] == tmp_path / "gear_stages" / "04_m1.png"
    assert all(path.exists() for path in files.values())


@pytest.mark.parametrize("call", ["open", "replace"])
def test_an_interrupted_export_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    owner = Path if call == "open" else os
    real, calls = getattr(owner, call), []

    def interrupt(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args, **options)

    monkeypatch.setattr(owner, call, interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_result().save(tmp_path)
    left = [path.name for path in tmp_path.iterdir()]
    if call == "open":
        assert left == []
    else:  # moving had begun: what has its own name is whole
        assert sorted(left) == ["mask.png", "score.png"]
        assert cv2.imread(str(tmp_path / "score.png"), cv2.IMREAD_UNCHANGED).shape == (60, 80)


def test_results_are_kept_where_rights_cannot_be_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    monkeypatch.setattr(os, "fchmod", refuse)
    before = os.umask(0o027)
    try:
        files = make_result().save(tmp_path)
    finally:
        os.umask(before)
    assert files["mask"].stat().st_mode & 0o777 == 0o640


def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ZsasError, match="cannot be written"):
        make_result().save(tmp_path / "taken")
