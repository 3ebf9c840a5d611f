"""What other tools read: COCO by pycocotools and supervision, brushes by Label Studio's own decoder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tests.annotations_golden import check as check_annotations
from tests.helpers.results import make_result, normal_result
from zsas.annotations import Annotations, brush_code
from zsas.review import Review, place_in, reviewed

NAMES = ["0001.jpg", "0001.jpg", "lot7/0001.JPG", "a.png"]


@pytest.fixture  # type: ignore[no-redef]
def annotations() -> Annotations:
    found = Annotations()
    for name in NAMES:
        found.add(name, make_result() if name != "a.png" else normal_result(), "saved")
    return found


def test_no_two_images_are_called_the_same(annotations: Annotations) -> None:
    images = annotations.coco()["images"]
    assert [image["file_name"] for image in images] == [
        "0001.jpg",
        "0001_2.jpg",
        "0001_3.JPG",
        "a.png",
    ]
    assert [image["path"] for image in images] == NAMES


def test_names_that_differ_by_their_suffix_or_accents_differ_otherwise_too() -> None:
    """datumaro and CVAT leave the suffix away, some file systems tell neither case nor forms of accents apart."""
    found = Annotations()
    for name in ("a.jpg", "a.png", "A.bmp", "\u00e9.png", "e\u0301.png", "a_2.png"):
        found.add(name, normal_result(), "saved")
    names = [image["file_name"] for image in found.coco()["images"]]
    assert names == ["a.jpg", "a_2.png", "A_3.bmp", "\u00e9.png", "e\u0301_2.png", "a_2_2.png"]


@pytest.mark.parametrize("name", ["coco.json", "label_studio.json", "masks.json"])
def test_what_other_tools_have_read_is_what_is_written(name: str) -> None:
    """`tests/annotations_golden/check.py` has other tools read these files; docs/http.md says which."""
    golden = json.loads((check_annotations.GOLDEN / name).read_text(encoding="utf-8"))
    assert json.loads(json.dumps(check_annotations.made()[name])) == golden


def test_pycocotools_reads_the_exact_masks(annotations: Annotations, tmp_path: Path) -> None:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(annotations.coco()))
    coco = COCO(str(path))
    assert coco.dataset["info"]["description"]
    assert coco.dataset["licenses"]
    result = make_result()
    assert len(coco.getImgIds()) == 4
    regions = coco.loadAnns(coco.getAnnIds(imgIds=[1]))
    assert len(regions) == len(result.regions)
    union = np.any([coco.annToMask(region) for region in regions], axis=0)
    assert np.array_equal(union, result.mask)
    assert not coco.getAnnIds(imgIds=[4])


def test_supervision_reads_the_exact_masks(annotations: Annotations, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision")
    document = annotations.coco()
    (tmp_path / "coco.json").write_text(json.dumps(document))
    for image in document["images"]:
        size = (image["width"], image["height"])
        Image.new("RGB", size).save(tmp_path / image["file_name"])
    data = supervision.DetectionDataset.from_coco(
        str(tmp_path), str(tmp_path / "coco.json"), force_masks=True
    )
    assert len(data) == 4
    assert data.classes == ["anomaly"]
    found = {Path(path).name: detections for path, _, detections in data}
    assert np.array_equal(found["0001_2.jpg"].mask.any(axis=0), make_result().mask)


def decoded(code: list[int]) -> np.ndarray:
    """Label Studio's run-length code, read by its description: runs alone, which is what we write."""
    bits = "".join(f"{byte:08b}" for byte in code)
    total, at = int(bits[:32], 2), 32 + 5 + 16
    values: list[int] = []
    sizes = [int(bits[37 + 4 * i : 41 + 4 * i], 2) + 1 for i in range(4)]
    while len(values) < total:
        assert bits[at] == "1"
        size = sizes[int(bits[at + 1 : at + 3], 2)]
        length = int(bits[at + 3 : at + 3 + size], 2) + 1
        values += [int(bits[at + 3 + size : at + 11 + size], 2)] * length
        at += 11 + size
    return np.array(values, np.uint8)


@pytest.mark.parametrize("shape", [(5, 7), (300, 300)])
def test_a_brush_is_the_mask_in_four_channels(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, bool)
    mask[1:3, 2:5] = True
    for one in (mask, ~mask, np.zeros(shape, bool)):
        expected = np.repeat(one.ravel(), 4).astype(np.uint8) * 255
        assert np.array_equal(decoded(brush_code(one)), expected)


def test_what_a_person_has_rejected_is_in_neither_file() -> None:
    found, result = Annotations(), make_result()
    x, y = place_in(result.regions[0], result)
    found.add("a.png", reviewed(result, Review(rejected=((x, y),))), "saved")
    assert found.coco()["annotations"] == []
    assert found.label_studio()[0]["predictions"][0]["result"] == []


def test_label_studio_decodes_our_brushes(annotations: Annotations) -> None:
    brush = pytest.importorskip("label_studio_sdk.converter.brush")
    task = annotations.label_studio()[0]
    (region,) = task["predictions"][0]["result"]
    shape = (region["original_height"], region["original_width"], 4)
    image = np.reshape(brush.decode_rle(region["value"]["rle"]), shape)
    assert np.array_equal(image[..., 3] > 0, make_result().mask)
