"""One call over plain HTTP, without a page: what is answered, and what is refused in which words."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.helpers.fake import fakes, photo
from tests.helpers.images import png
from zsas.cache import ByteBudgetCache
from zsas.images import digest, read_image
from zsas.settings import Settings, all_settings
from zsas.ui import export, gpu, rest
from zsas.ui.engine import CALLS, Engine
from zsas.ui.openapi import document

IMAGE = png(photo(4))


def post(address: str, image: bytes | None = IMAGE, **fields: str) -> httpx.Response:
    files: dict[str, Any] = {name: (None, value) for name, value in fields.items()}
    if image is not None:
        files["image"] = ("plate.png", image, "image/png")
    return httpx.post(f"{address}/segment", files=files, timeout=60)


def test_the_answer_is_what_result_json_holds(address: str) -> None:
    answer = post(address, threshold="0.4", negatives="off", object_name="steel plate")
    assert answer.status_code == 200
    body = answer.json()
    assert body["file"] == "plate.png"
    assert body["anomalous"] is True
    assert body["regions"]
    expected = Settings(threshold=0.4, negatives=False, object_name="steel plate")
    assert body["settings"] == expected.to_dict()


@pytest.mark.slow
def test_mask_and_score_come_as_base64_or_as_links(address: str) -> None:
    inside = post(address, files="mask, score").json()["files"]
    assert set(inside) == {"mask", "score"}
    links = post(address, files="mask,score", files_as="links").json()["files"]
    for name, text in inside.items():
        data = base64.b64decode(text)
        linked = httpx.get(address.removesuffix("/api/v1") + links[name])
        assert (linked.status_code, linked.content) == (200, data)
        assert linked.headers["content-type"] == "image/png"
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        assert pixels.shape == photo(4).shape[:2]
        assert pixels.dtype == (np.uint8 if name == "mask" else np.uint16)
    assert httpx.get(f"{address}/files/none/mask.png").status_code == 404
    token = links["mask"].split("/")[-2]
    assert httpx.get(f"{address}/files/{token}/result.json").status_code == 404


@pytest.mark.parametrize(
    ("fields", "parameter", "words"),
    [
        ({"threshold": "high"}, "threshold", "threshold is 'high', but it must be a number, 0 to"),
        ({"threshold": "0,4,1"}, "threshold", "must be a number, 0 to 1"),
        ({"threshold": "7"}, "threshold", "0 to 1"),
        ({"threshold": "nan"}, "threshold", "0 to 1"),
        ({"threshold": "9" * 5000}, "threshold", "0 to 1"),
        ({"k_positive": "2.5"}, "k_positive", "whole number"),
        ({"k_positive": "true"}, "k_positive", "must be a number, 1 to 20"),
        ({"negatives": "perhaps"}, "negatives", "on or off"),
        ({"fusion": "sideways"}, "fusion", "mask or map"),
        ({"object_name": "x" * 99}, "object_name", "at most 80 characters"),
        ({"agreement": "1"}, "agreement", "is now called 'min_overlap'"),
        ({"treshold": "1"}, "treshold", "Did you mean 'threshold'?"),
        ({"no_such": "1"}, "no_such", "There is no setting 'no_such'; the settings are"),
        ({"preset": "huge"}, "preset", "preset is 'huge', but it must be"),
        ({"files": "mask,world"}, "files", "must be some of mask, score, overlay"),
        ({"page": "-1"}, "page", "must be a number from 0 to 1000000"),
        ({"bits": "many"}, "bits", "must be a number from 0 to 32"),
        ({"files_as": "zip"}, "files_as", "must be base64 or links"),
        ({"page": "last"}, "page", "must be a number from 0 to"),
        ({"page": "7"}, "image", "has 1 page, but page 7 was asked for"),
        ({"bits": "64"}, "bits", "must be a number from 0 to 32"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_parameter(
    address: str, fields: dict[str, str], parameter: str, words: str
) -> None:
    answer = post(address, **fields)
    assert answer.status_code == 422
    body = answer.json()
    assert body["parameter"] == parameter
    assert words in body["error"]
    assert len(body["error"]) < 1000


@pytest.mark.parametrize(
    "fields",
    [
        {"threshold": " 0.4 "},
        {"threshold": "0,4"},
        {"threshold": "4e-1"},
        {"threshold": ""},
        {"k_positive": "3.0"},
    ],
)
def test_a_number_may_be_text(address: str, fields: dict[str, str]) -> None:
    assert post(address, **fields).status_code == 200


@pytest.mark.parametrize(
    ("image", "status", "words"),
    [
        (None, 422, 'one file in its field "image"'),
        (b"", 422, "empty"),
        (b"no image", 422, "not an image"),
        (IMAGE[:900], 422, "cut off"),
        (b"x" * (2 * 2**20 + 1), 413, "At most 2 MB"),
    ],
)
def test_a_wrong_image_is_one_sentence(
    address: str,
    image: bytes | None,
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rest, "MOST_BYTES", 2 * 2**20)
    answer = post(address, image, preset="tiny")
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_what_is_no_form_is_refused(address: str) -> None:
    url = f"{address}/segment"
    assert httpx.post(url, json={"image": "x"}).status_code == 415
    assert httpx.post(url, content=IMAGE).status_code == 415
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert httpx.post(url, content=b"--x\r\nnonsense", headers=form).status_code in (400, 422)
    assert httpx.post(url, content=b"", headers={"content-type": "multipart/form-data"}).json()
    assert httpx.get(url).status_code == 405
    twice = [("image", ("a.png", IMAGE)), ("image", ("b.png", IMAGE))]
    assert "it has 2" in httpx.post(url, files=twice).json()["error"]


def test_an_image_without_a_file_name_is_said(address: str) -> None:
    """A part without one is text for every reader of forms; PLCs forget it."""
    for content, status in ((IMAGE[:1000], 422), (bytes(100_000), 400)):
        answer = httpx.post(f"{address}/segment", files={"image": (None, content)}, timeout=60)
        assert answer.status_code == status
        assert answer.json()["error"].endswith("with a file name.")


def test_thousands_of_calls_leave_no_more_than_the_last_few_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Models:
        cache: ByteBudgetCache[Any] = ByteBudgetCache(10**9)

    monkeypatch.setitem(gpu.SEGMENTERS, "tiny", Models())
    engine = Engine(fakes, "tiny")  # type: ignore[arg-type]
    images = [read_image(np.full((4, 5, 3), grey, np.uint8)) for grey in range(CALLS + 5)]
    for image in [*images, images[7]]:  # one comes back
        Models.cache.put((digest(image.pixels), "encoder"), image)
        engine.answered("tiny", image)
    kept = [image for image in images if Models.cache.get((digest(image.pixels), "encoder"))]
    assert kept == images[-CALLS:]


def test_a_preset_that_cannot_be_had_is_said_with_a_time_to_come_back(address: str) -> None:
    answer = post(address, preset="paper")
    assert answer.status_code == 503
    assert "cannot be reached" in answer.json()["error"]
    assert int(answer.headers["retry-after"]) > 0


def test_a_full_line_is_said(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "MOST_WAITING", 0)
    answer = post(address)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)


@pytest.mark.slow
def test_curl_needs_one_call(address: str, tmp_path: Any) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    (tmp_path / "part.png").write_bytes(IMAGE)
    command = ["curl", "-sS", "-F", f"image=@{tmp_path / 'part.png'}", "-F", "threshold=0.4"]
    done = subprocess.run([*command, f"{address}/segment"], capture_output=True, check=True)
    assert json.loads(done.stdout)["settings"]["threshold"] == 0.4


def test_the_document_names_every_setting(address: str) -> None:
    found = httpx.get(f"{address}/openapi.json").json()
    assert found == json.loads(json.dumps(document()))
    form = found["paths"]["/api/v1/segment"]["post"]["requestBody"]["content"]
    fields = form["multipart/form-data"]["schema"]["properties"]
    assert {one.name for one in all_settings()} <= set(fields)
    page = httpx.get(f"{address}/docs").text
    assert all(f"<code>{one.name}</code>" in page for one in all_settings())


@pytest.mark.parametrize("root", ["/zsas", "https://plant.example/zsas"])
def test_behind_a_proxy_all_addresses_are_the_proxys(root: str) -> None:
    app = Starlette(routes=rest.routes(Engine(fakes, "tiny"), f"{root}/"))  # type: ignore[arg-type]
    with TestClient(app, base_url="http://127.0.0.1:7999") as client:
        assert client.get("/api/v1/openapi.json").json()["servers"] == [{"url": root}]
        host = "" if root.startswith("https") else "http://127.0.0.1:7999"
        assert f"{host}{root}/api/v1/segment" in client.get("/api/v1/docs").text
        sent = {"files": {"image": IMAGE}, "data": {"files": "mask", "files_as": "links"}}
        link = client.post("/api/v1/segment", **sent).json()["files"]["mask"]
        assert link.startswith(f"{root}/api/v1/files/")
        assert client.get(link.removeprefix(root)).status_code == 200


def test_the_page_for_people_has_the_servers_own_address(address: str) -> None:
    page = httpx.get(f"{address}/docs").text
    assert f"files=mask {address}/segment" in page
    assert "servers" not in document()
    assert "integer, 0 to 1,000,000" in page
    assert "number, 0.0 to 1.0" not in page


@pytest.mark.slow
def test_no_made_up_request_is_answered_with_500(address: str) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings
    from schemathesis import checks

    wanted = [
        checks.content_type_conformance,
        checks.response_schema_conformance,
        checks.status_code_conformance,
    ]
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    for operation in schema.get_all_operations():

        @settings(
            max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(case=operation.ok().as_strategy())
        def check(case: Any) -> None:
            if case.method == "POST":
                case.body.pop("system", None)  # the stand-in has but one
            if case.method == "POST" and len(str(case.body)) % 2:
                case.body["image"] = (
                    IMAGE  # made-up bytes are no image, and would hide what comes after
                )
            answer = case.call(timeout=60)
            assert answer.status_code != 500
            case.validate_response(answer, checks=wanted)

        check()


def test_the_schema_names_everything_that_a_result_has(address: str) -> None:
    answer = httpx.post(f"{address}/segment", files={"image": IMAGE}, data={"files": "mask"})
    schema = document()["components"]["schemas"]["Result"]
    assert set(answer.json()) == set(schema["properties"])


@pytest.mark.parametrize(
    ("method", "place", "status", "words"),
    [
        ("GET", "/segment", 405, "a form by POST, not GET"),
        ("PUT", "/batch", 405, "a form by POST, not PUT"),
        ("POST", "/segments", 404, "/api/v1/docs"),
        ("GET", "", 404, "/api/v1/docs"),
    ],
)
def test_a_wrong_method_or_address_is_a_sentence(
    address: str, method: str, place: str, status: int, words: str
) -> None:
    answer = httpx.request(method, f"{address}{place or '/'}")
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert answer.headers.get("allow") == ("POST" if status == 405 else None)


@pytest.mark.parametrize("path", ["segment", "batch", "compare"])
def test_what_was_sent_inside_an_answer_leaves_no_file(address: str, path: str) -> None:
    fields = {"files": "sheet" if path == "compare" else "mask"}
    fields |= {"systems": "auto"} if path == "compare" else {}
    before = set(export.scratch().iterdir())
    answer = httpx.post(
        f"{address}/{path}",
        files={"image": ("a.png", png(photo(2)), "image/png")},
        data=fields,
        timeout=60,
    )
    assert answer.status_code == 200
    assert set(export.scratch().iterdir()) <= before
