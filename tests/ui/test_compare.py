"""Several systems in one call over plain HTTP; what cannot run is a row."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from jsonschema import validate
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.images import png
from zsas.errors import ZsasError
from zsas.settings import Settings
from zsas.ui import compare, gpu, rest
from zsas.ui.engine import Engine
from zsas.ui.openapi import document
from zsas.ui.values import WrongValue

IMAGE, TRUTH = png(photo(4)), png((photo(4).mean(-1) < 100).astype(np.uint8) * 255)


class Partial(FakeSegmenter):
    """A segmenter whose system winclip runs out of memory."""

    def encode(self, image: Any, settings: Any = None, region: Any = None) -> Any:
        if settings is not None and settings.system == "winclip":
            raise RuntimeError("not enough memory")
        return super().encode(image, settings)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """The plain interface alone, and a segmenter without models, of which one system fails."""
    engine = Engine(lambda preset: Partial(preset), "tiny")  # type: ignore[arg-type, return-value]
    gpu.SEGMENTERS.pop("tiny", None)
    yield TestClient(Starlette(routes=rest.routes(engine)))
    gpu.SEGMENTERS.pop("tiny", None)


def post(client: TestClient, mask: bytes | None = None, **fields: str) -> httpx.Response:
    files = {"image": ("plate.png", IMAGE, "image/png")}
    if mask is not None:
        files["mask"] = ("truth.png", mask, "image/png")
    return client.post("/api/v1/compare", data=fields, files=files)


def test_a_row_for_each_system_and_the_others_go_on(client: TestClient) -> None:
    answer = post(client, systems="auto, winclip,april-gan", refiners="own,none", preset="tiny")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    validate(body, compare.answer_schema())
    names = [row["name"] for row in body["rows"]]
    assert names == ["auto", "auto-none", "winclip", "april-gan"]
    errors = {row["name"]: row["error"] for row in body["rows"]}
    assert "not enough memory" in errors["winclip"]
    assert errors["april-gan"] == errors["auto"] == ""
    assert "curves" not in body["rows"][0]


def test_a_mask_adds_metrics_and_curves(client: TestClient) -> None:
    body = post(client, TRUTH, systems="auto", refiners="none", preset="tiny").json()
    validate(body, compare.answer_schema())
    (row,) = body["rows"]
    assert body["mask"] is True
    assert row["pixel_auroc"] > 0.99
    roc, point = row["curves"]["roc"], row["curves"]["operating_point"]
    assert (roc["fpr"][0], roc["tpr"][0], roc["fpr"][-1], roc["tpr"][-1]) == (0, 0, 1, 1)
    assert np.all(np.diff(roc["fpr"]) >= 0)
    assert 0 <= point["fpr"] <= 1
    assert row["curves"]["best"]["f1"] == row["pixel_f1_max"]


def test_the_sheet_comes_too(client: TestClient) -> None:
    fields = {"systems": "auto", "preset": "tiny", "files": "sheet"}
    data = base64.b64decode(post(client, **fields).json()["files"]["sheet"])
    link = post(client, **fields, files_as="links").json()["files"]["sheet"]
    linked = client.get(link)
    assert linked.content[:4] == data[:4] == b"\x89PNG"
    assert Image.open(io.BytesIO(data)).size[0] > 1000


@pytest.mark.parametrize(
    ("fields", "mask", "parameter", "words"),
    [
        ({"systems": "nonsense"}, None, "systems", "There is no system 'nonsense'"),
        ({"refiners": "nonsense"}, None, "refiners", "There is no refiner 'nonsense'"),
        ({"system": "vv"}, None, "system", "name systems in systems"),
        ({"refiner": "none"}, None, "refiner", "name refiners in refiners"),
        ({"systems": "auto", "files": "mask"}, None, "files", "must be some of sheet"),
        ({"systems": "auto"}, png(np.zeros((9, 9), np.uint8)), "mask", "the size of its image"),
        ({"systems": "auto"}, b"nothing", "mask", "mask"),
        ({"systems": "auto"}, b"", "mask", "The mask is empty"),
        ({"systems": "winclip", "refiners": "own"}, None, None, "not enough memory"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    client: TestClient,
    fields: dict[str, str],
    mask: bytes | None,
    parameter: str | None,
    words: str,
) -> None:
    answer = post(client, mask, preset="tiny", **fields)
    assert answer.status_code == 422
    assert words in answer.json()["error"]
    assert answer.json().get("parameter") == parameter


def test_a_call_has_a_bound_and_takes_text(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongValue, match="must be text"):
        compare.asked_for(["vv"], None, Settings())
    monkeypatch.setattr(compare, "MOST", 2)
    with pytest.raises(ZsasError, match="a call may ask for 2"):
        compare.asked_for("auto,vv,sdp", "", Settings())


def test_the_document_names_it() -> None:
    paths = document()["paths"]
    form = paths["/api/v1/compare"]["post"]["requestBody"]["content"]["multipart/form-data"]
    properties = form["schema"]["properties"]
    assert {"systems", "refiners", "mask", "threshold"} <= set(properties)
    assert not {"system", "refiner"} & set(properties)
