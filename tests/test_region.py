"""Where to look: shapes, their fit to an image, and everything that may be wrong with them."""

from __future__ import annotations

import codecs
import json

import cv2
import numpy as np
import pytest

from zsas.errors import ZsasError
from zsas.region import RegionOfInterest, load_regions
from zsas.shapes import MOST_POINTS, MOST_SHAPES, polygon_mask

SQUARE = {"rectangle": [2, 1, 6, 5]}


def of(*look: dict, ignore: tuple[dict, ...] = (), **more: object) -> RegionOfInterest:
    return RegionOfInterest.from_dict({"region": list(look), "ignore": list(ignore), **more})


def test_a_rectangle_and_a_polygon_of_its_corners_are_the_same_pixels() -> None:
    inside = of(SQUARE).on(8, 10)
    expected = np.zeros((8, 10), bool)
    expected[1:5, 2:6] = True
    np.testing.assert_array_equal(inside, expected)
    polygon = of({"polygon": [[2, 1], [6, 1], [6, 5], [2, 5]]}).on(8, 10)
    np.testing.assert_array_equal(polygon, expected)
    assert of(SQUARE).on(8, 10).mean() == 0.2


def test_a_polygon_is_what_opencv_says_of_the_middles_of_pixels() -> None:
    corners = np.array([(3.2, 1.1), (40.73, 9.3), (28.1, 33.9), (20.5, 14.2), (5.3, 30.6)])
    found = polygon_mask(corners, 40, 50)
    contour = corners.astype(np.float32).reshape(-1, 1, 2)
    for y in range(40):
        for x in range(50):
            inside = cv2.pointPolygonTest(contour, (x + 0.5, y + 0.5), False) > 0
            assert found[y, x] == inside, (x, y)


def test_what_is_ignored_is_taken_away_and_alone_leaves_the_rest() -> None:
    ignored = {"rectangle": [4, 0, 10, 8]}
    assert of(SQUARE, ignore=(ignored,)).on(8, 10).sum() == 8
    assert of(ignore=(ignored,)).on(8, 10).sum() == 80 - 48


def test_a_brush_paints_along_its_way() -> None:
    inside = of({"brush": [[10, 20], [50, 20]], "width": 6}).on(40, 60)
    assert inside[20, 10:50].all()
    assert inside[:16].sum() == inside[25:].sum() == 0
    assert 6 <= inside[:, 30].sum() <= 7


def test_a_brush_may_be_wider_than_any_line_that_can_be_drawn() -> None:
    assert of({"brush": [[10, 20]], "width": 10**6}).on(40, 60).all()


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_fractions_and_a_named_size_fit_images_of_another_size(scale: int) -> None:
    fraction = of({"rectangle": [0.2, 0.125, 0.6, 0.625]}, unit="fraction")
    sized = of(SQUARE, size=[10, 8])
    expected = np.kron(of(SQUARE).on(8, 10), np.ones((scale, scale))) > 0
    np.testing.assert_array_equal(fraction.on(8 * scale, 10 * scale), expected)
    np.testing.assert_array_equal(sized.on(8 * scale, 10 * scale), expected)
    mask = RegionOfInterest.from_mask(of(SQUARE).on(8, 10))
    np.testing.assert_array_equal(mask.on(8 * scale, 10 * scale), expected)


@pytest.mark.parametrize(
    ("region", "says"),
    [
        (of(SQUARE, size=[10, 8]), "10 × 8 px"),
        (RegionOfInterest.from_mask(np.ones((8, 10), bool)), "another shape"),
        (of({"rectangle": [500, 0, 900, 50]}), "reaches to (900, 50)"),
        (of(ignore=({"rectangle": [0, 0, 1, 1]},), unit="fraction"), "leaves nothing"),
        (of({"rectangle": [3, 3, 3.2, 3.2]}), "leaves nothing"),
    ],
)
def test_what_does_not_fit_an_image_is_a_sentence(region: RegionOfInterest, says: str) -> None:
    with pytest.raises(ZsasError) as caught:
        region.on(100, 100)
    assert says in str(caught.value)
    assert str(caught.value).endswith(".")


BOW_TIE = [[0, 0], [4, 4], [4, 0], [0, 4]]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (None, "must be"),
        ("rectangle", "must be"),
        ({}, "no shape"),
        ([], "no shape"),
        ({"regions": []}, "'regions'"),
        ({"region": [SQUARE], "unit": "mm"}, "unit 'mm'"),
        ({"region": [{"rectangle": [0.1, 0.1, 0.9, 1]}]}, "names no unit"),
        ([[0.1, 0.1], [0.9, 0.1], [0.9, 0.9]], "names no unit"),
        ({"region": [SQUARE], "format": 99}, "newer version"),
        ({"region": [SQUARE], "format": "1"}, "newer version"),
        ({"region": SQUARE}, "list"),
        ({"region": [SQUARE] * (MOST_SHAPES + 1)}, "at most"),
        ({"region": [SQUARE], "size": [10]}, "size"),
        ({"region": [SQUARE], "size": [10, 0]}, "size"),
        ({"region": [SQUARE], "size": [10.5, 4]}, "size"),
        ({"region": [{"circle": [1, 2, 3]}]}, "not one of"),
        ({"region": [{**SQUARE, "polygon": []}]}, "not one of"),
        ({"region": [{"rectangle": [1, 2, 3]}]}, "x0 < x1"),
        ({"region": [{"rectangle": [3, 0, 3, 5]}]}, "x0 < x1"),
        ({"region": [{"rectangle": [0, 0, float("nan"), 5]}]}, "x0 < x1"),
        ({"region": [{"rectangle": [0, 0, 10**400, 5]}]}, "x0 < x1"),
        ({"region": [{"polygon": [[0, 0], [1, 1]]}]}, "3 to"),
        ({"region": [{"polygon": [[0, 0]] * (MOST_POINTS + 1)}]}, "3 to"),
        ({"region": [{"polygon": [[0, 0], [1, 1], [2]]}]}, "not [x, y]"),
        ({"region": [{"polygon": [[0, 0], [1, 1], [2, "3"]]}]}, "not [x, y]"),
        ({"region": [{"polygon": [[0, 0], [1, 1], [2, float("inf")]]}]}, "not [x, y]"),
        ({"region": [{"polygon": [[0, 0], [1, 1], [2, True]]}]}, "not [x, y]"),
        ({"region": [{"polygon": BOW_TIE}]}, "crosses itself"),
        (BOW_TIE, "crosses itself"),
        ({"region": [{"polygon": [[0, 0], [1, 1], [2, 2]]}]}, "without an area"),
        ({"region": [{"brush": [[0, 0]]}]}, "width"),
        ({"region": [{"brush": [[0, 0]], "width": 0}]}, "width"),
        ({"region": [{"brush": [], "width": 3}]}, "1 to"),
        ({"region": [{"rectangle": [0, 0, 5, 5]}], "unit": "fraction"}, "fractions"),
        ({"region": [{"rectangle": [0, 0, 50, 5]}], "size": [10, 10]}, "point (50, 5)"),
        ({"region": [{"rectangle": [-9, 0, 5, 5]}]}, "point (-9, 0)"),
        ({"region": [{"mask": {"size": [2, 2], "counts": "!"}}]}, "COCO"),
        ({"region": [{"mask": {"size": [2, 2], "counts": 5}}]}, "COCO"),
        ({"region": [{"mask": {"size": [2, 2], "counts": ""}}]}, "COCO"),
        ({"region": [{"mask": {"size": [900000, 900000], "counts": "0"}}]}, "COCO"),
        ({"region": [{"mask": [1]}]}, "COCO"),
    ],
)
def test_what_is_no_region_is_a_sentence(values: object, says: str) -> None:
    with pytest.raises(ZsasError) as caught:
        RegionOfInterest.from_dict(values, name="part.json")
    assert says in str(caught.value)
    assert str(caught.value).startswith("part.json")
    assert str(caught.value).endswith(".")


def test_it_is_the_same_after_a_round_trip_through_json() -> None:
    mask = np.zeros((8, 10), bool)
    mask[3:, 4:] = True
    region = of(
        SQUARE,
        {"polygon": [[0, 0], [3, 0], [0, 3]]},
        {"brush": [[5, 5], [7, 7]], "width": 2},
        ignore=(RegionOfInterest.from_mask(mask).to_dict()["region"][0],),
        size=[10, 8],
    )
    again = RegionOfInterest.from_dict(json.loads(json.dumps(region.to_dict())))
    assert again == region
    assert again.key == region.key != of(SQUARE, size=[10, 8]).key
    np.testing.assert_array_equal(again.on(8, 10), region.on(8, 10))
    np.testing.assert_array_equal(RegionOfInterest.from_mask(mask).on(8, 10), mask)


def test_files_are_masks_or_json_and_both_flags_go_together(tmp_path) -> None:
    white = np.zeros((8, 10), np.uint8)
    white[1:5, 2:6] = 255
    cv2.imwrite(str(tmp_path / "look.png"), white)
    (tmp_path / "ignore.json").write_text('[{"rectangle": [4, 0, 10, 8]}]')
    region = load_regions(tmp_path / "look.png", tmp_path / "ignore.json")
    assert region is not None
    assert region.on(8, 10).sum() == 8
    assert load_regions(None, None) is None
    alone = load_regions(None, tmp_path / "look.png")
    assert alone is not None
    assert alone.on(8, 10).sum() == 80 - 16


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("missing.json", None, "There is no file"),
        ("missing.png", None, "missing.png"),
        ("text.json", b"{", "no JSON"),
        ("deep.json", b"[" * 200_000, "no JSON"),
        ("bytes.json", b"\xff\xfe\x00", "no JSON"),
        ("black.png", cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes(), "white"),
        ("broken.png", b"\x89PNG", "broken.png"),
    ],
)
def test_a_file_that_is_no_region_is_a_sentence(tmp_path, name, data, says) -> None:
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(ZsasError) as caught:
        load_regions(tmp_path / name, None)
    assert says in str(caught.value)


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_json_is_known_whatever_editor_has_saved_it(tmp_path, mark) -> None:
    data = mark + json.dumps([SQUARE]).encode()
    (tmp_path / "look.json").write_bytes(data)
    for region in (RegionOfInterest.from_bytes(data), load_regions(tmp_path / "look.json", None)):
        assert region is not None
        assert region.on(8, 10).sum() == 16


def test_two_units_do_not_go_together() -> None:
    with pytest.raises(ZsasError, match="different units"):
        of(SQUARE).without(of(ignore=({"rectangle": [0, 0, 0.5, 0.5]},), unit="fraction"))
