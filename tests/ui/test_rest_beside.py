"""Plain HTTP with more than an image: a region, a part profile, a batch, good images; what of it is refused."""

from __future__ import annotations

import base64
import dataclasses
import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.helpers.fake import FakeSegmenter, fakes, photo
from tests.helpers.images import png
from zsas.localizers.references import References
from zsas.part import Part
from zsas.region import RegionOfInterest
from zsas.scale import Scale
from zsas.settings import Settings
from zsas.ui import gpu
from zsas.ui.beside import read_beside
from zsas.ui.engine import Engine

IMAGE = png(photo(4))
LEFT = '{"region": [{"rectangle": [0, 0, 160, 240]}]}'


def test_a_region_goes_with_the_image_as_json_or_as_a_mask(address: str) -> None:
    image = ("image", ("a.png", IMAGE))
    plain = httpx.post(f"{address}/segment", files=[image], timeout=60).json()
    assert plain["region"] is None
    asked = [image, ("region", (None, LEFT))]
    body = httpx.post(f"{address}/segment", files=asked, timeout=60).json()
    assert body["region"]["fraction"] == 0.5
    assert all(region["box"][2] <= 160 for region in body["regions"])
    mask = np.zeros((240, 320, 3), np.uint8)
    mask[:, :160] = 255
    files = {"image": ("a.png", IMAGE), "region": ("mask.png", png(mask))}
    by_mask = httpx.post(f"{address}/segment", files=files, timeout=60).json()
    assert by_mask["regions"] == body["regions"]
    files = {"image": ("a.png", IMAGE), "ignore": ("mask.png", png(mask))}
    without = httpx.post(f"{address}/segment", files=files, timeout=60).json()
    assert all(region["box"][0] >= 160 for region in without["regions"])


def test_a_part_profile_goes_with_the_image_and_fields_count_more(address: str) -> None:
    part = Part(
        settings=Settings(object_name="plate", verdict_threshold=0.2),
        region=RegionOfInterest.from_dict(json.loads(LEFT)),
        scale=Scale(0.1, least_px=10),
    )
    files = {
        "image": ("a.png", IMAGE),
        "part": ("plate.zsas", part.to_bytes()),
        "verdict_threshold": (None, "0.3"),
    }
    body = httpx.post(f"{address}/segment", files=files, timeout=60).json()
    assert body["settings"]["object_name"] == "plate"
    assert body["limit"] == 0.3
    assert body["region"]["fraction"] == 0.5
    assert body["scale"] == {"mm_per_px": 0.1, "least_px": 10}
    for region in body["regions"]:
        assert region["area_mm2"] == pytest.approx(region["area"] * 0.01)


GOOD = ("good.png", png(photo(1)))


@pytest.mark.parametrize(
    ("more", "parameter", "says"),
    [
        ([("references", ("x.png", b"no image"))], "references", "x.png"),
        ([("references", GOOD)] * 17, "references", "at most 16"),
        ([("references", GOOD)], "", "no patch features"),
        ([("region", (None, "{"))], "region", "no JSON"),
        ([("region", (None, "[]"))], "region", "no shape"),
        ([("region", ("m.png", b"no image"))], "region", "The region"),
        ([("region", (None, LEFT)), ("region", (None, LEFT))], "region", "2 times"),
        ([("region", (None, '[{"rectangle": [0, 0, 9999, 9]}]'))], "", "reaches to"),
        ([("ignore", (None, '[{"rectangle": [0, 0, 320, 240]}]'))], "", "leaves nothing"),
        ([("part", ("p.zsas", b"PK no"))], "part", "damaged"),
    ],
)
def test_what_is_wrong_beside_the_image_is_a_sentence(
    address: str, more: list[Any], parameter: str, says: str
) -> None:
    files = [("image", ("a.png", IMAGE)), *more]
    answer = httpx.post(f"{address}/segment", files=files, timeout=60)
    assert answer.status_code == 422, answer.text
    body = answer.json()
    assert body.get("parameter", "") == parameter
    assert says in body["error"]
    assert body["error"].endswith(".")


class Mutual(FakeSegmenter):
    """One that tells images apart by how bright they are, and says which batch a decision was made in."""

    def gather(self, images: Any, settings: Any = None, region: Any = None) -> Any:
        return [float(one.pixels.mean()) for one in images]

    def compare_batch(self, cells: Any, settings: Any = None, region: Any = None) -> Any:
        self.batches = [*getattr(self, "batches", []), (tuple(cells), region)]
        return None


def lot(count: int) -> list[Any]:
    return [("image", (f"{i}.png", png(photo(i)))) for i in range(count)]


@pytest.mark.slow
def test_several_images_are_rows_in_their_order(address: str) -> None:
    files = [*lot(2), ("image", ("broken.png", b"no image")), ("image", ("empty.png", b""))]
    files += [("threshold", (None, "0.3")), ("files", (None, "mask"))]
    answer = httpx.post(f"{address}/batch", files=files, timeout=60)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["batch_scoring"] is False
    assert [row["file"] for row in body["rows"]] == ["0.png", "1.png", "broken.png", "empty.png"]
    assert [("error" in row) for row in body["rows"]] == [False, False, True, True]
    assert body["rows"][0]["settings"]["threshold"] == 0.3
    assert base64.b64decode(body["rows"][1]["files"]["mask"]).startswith(b"\x89PNG")
    assert "empty.png is empty" in body["rows"][3]["error"]
    one = httpx.post(f"{address}/segment", files=[*lot(1), *files[-2:-1]], timeout=60).json()
    same = {"verdict", "image_score", "regions"}
    assert {k: body["rows"][0][k] for k in same} == {k: one[k] for k in same}


@pytest.mark.slow
def test_the_images_of_a_batch_are_compared_with_each_other(address: str, monkeypatch: Any) -> None:
    segmenter = Mutual("tiny")
    monkeypatch.setitem(gpu.SEGMENTERS, "tiny", segmenter)
    files = [*lot(6), ("image", ("broken.png", b"no image"))]
    for value in ("true", "false", "1"):
        asked = [*files, ("batch_scoring", (None, value)), ("region", (None, LEFT))]
        answer = httpx.post(f"{address}/batch", files=asked, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["batch_scoring"] is (value != "false")
        assert len(answer.json()["rows"]) == 7
    assert len(segmenter.batches) == 2
    cells, region = segmenter.batches[0]
    assert len(cells) == 6
    assert region == RegionOfInterest.from_dict(json.loads(LEFT))


@pytest.mark.parametrize(
    ("files", "parameter", "says"),
    [
        ([*lot(4), ("batch_scoring", (None, "true"))], "batch_scoring", "at least 5"),
        ([*lot(6), ("batch_scoring", (None, "maybe"))], "batch_scoring", "true or false"),
        ([("image", (None, "text"))], "image", "at least one file"),
        ([("threshold", (None, "0.4"))], "image", "at most 500"),
    ],
)
def test_a_batch_that_cannot_be_is_a_sentence(
    address: str, files: list[Any], parameter: str, says: str
) -> None:
    answer = httpx.post(f"{address}/batch", files=files, timeout=60)
    assert answer.status_code == 422, answer.text
    assert answer.json()["parameter"] == parameter
    assert says in answer.json()["error"]


EMPTY = References((), (), (), (), ())


def test_good_images_are_remembered_for_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(fakes, "tiny")  # type: ignore[arg-type]
    seen: list[Any] = []

    def remember(self: FakeSegmenter, images: Any, settings: Settings, region: Any) -> Any:
        seen.append((len(images), settings.object_name, region))
        return EMPTY

    monkeypatch.setattr(FakeSegmenter, "remember", remember)
    beside = read_beside(
        Settings(object_name="nut"), None, [("a.png", GOOD[1]), ("b.png", GOOD[1])], LEFT
    )
    assert beside.memory(engine, "tiny") is EMPTY
    assert seen == [(2, "nut", RegionOfInterest.from_dict(json.loads(LEFT)))]


def test_good_images_have_the_names_of_their_call(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(fakes, "tiny")  # type: ignore[arg-type]
    two = dataclasses.replace(EMPTY, keys=("1", "2"))
    monkeypatch.setattr(FakeSegmenter, "remember", lambda *_: two)
    for names in (("a.png", "b.png"), ("c.png", "d.png")):
        beside = read_beside(Settings(), None, [(name, GOOD[1]) for name in names])
        assert beside.memory(engine, "tiny").names == names
