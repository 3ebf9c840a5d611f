from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers.results import make_result, normal_result
from zsas import draw
from zsas.errors import ZsasError
from zsas.export import save


def test_the_export_is_lossless(tmp_path: Path) -> None:
    result = make_result()
    files = save(result, tmp_path / "deep" / "gear")
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
    save(make_result(), tmp_path, stages=True)
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


def test_stages_are_drawn_as_draw_draws_them(tmp_path: Path) -> None:
    result = make_result()
    files = save(result, tmp_path, stages=True)
    for stage in result.stages:
        picture = np.asarray(Image.open(files[stage.name]))
        np.testing.assert_array_equal(picture, draw.stage(result.image, stage))


def test_pictures_of_an_earlier_result_do_not_stay(tmp_path: Path) -> None:
    save(make_result(), tmp_path, stages=True)
    (tmp_path / "stages" / "mine.png").touch()
    save(normal_result(), tmp_path, stages=True)
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == [
        "01_anomaly_map.png",
        "02_region_and_ring.png",
        "03_fused.png",
        "mine.png",
    ]


def test_a_stem_goes_before_each_name(tmp_path: Path) -> None:
    files = save(make_result(), tmp_path, stages=True, stem="gear")
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
        save(make_result(), tmp_path)
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
        files = save(make_result(), tmp_path)
    finally:
        os.umask(before)
    assert files["mask"].stat().st_mode & 0o777 == 0o640


def test_a_folder_that_cannot_be_written_to_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ZsasError, match="cannot be written"):
        save(make_result(), tmp_path / "taken")
