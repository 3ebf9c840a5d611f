"""What machines send to the endpoints: each a result, or one sentence that names the parameter."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import httpx
import numpy as np
import pytest
from jsonschema import validate
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client

from tests.helpers.fake import photo
from tests.helpers.images import png
from tests.helpers.page import Served, in_a_loop
from zsas.settings import all_settings
from zsas.ui.calls import MORE

pytestmark = pytest.mark.browser

NAMES = ["image", "preset", *(setting.name for setting in all_settings()), *MORE]


@pytest.fixture(scope="module")
def http(served: Served) -> Any:
    with httpx.Client(base_url=f"{served.url}/gradio_api", timeout=120) as client:
        yield client


@pytest.fixture(scope="module")
def image(http: httpx.Client) -> dict[str, Any]:
    path = http.post("/upload", files={"files": ("plate.png", png(photo(4)))}).json()[0]
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def ask(http: httpx.Client, data: list[Any]) -> tuple[str, Any]:
    event = http.post("/call/segment", json={"data": data}).json()["event_id"]
    text = http.get(f"/call/segment/{event}").text.strip()
    kind, _, answer = text.rpartition("event: ")[2].partition("\ndata: ")
    return kind, json.loads(answer)


def values(given: Any, **changed: Any) -> list[Any]:
    return [{"image": given, "preset": "tiny", **changed}.get(name) for name in NAMES]


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"threshold": 0.4},
        {"threshold": "0.4"},
        {"threshold": "0,4"},
        {"threshold": None},
        {"k_positive": "3"},
        {"negatives": "off"},
        {"preset": None},
    ],
)
def test_a_result(http: httpx.Client, image: Any, changed: dict[str, Any]) -> None:
    kind, answer = ask(http, values(image, **changed))
    assert kind == "complete", answer
    if changed.get("threshold"):
        assert answer[0]["settings"]["threshold"] == 0.4


@pytest.mark.parametrize("count", [1, 2, 5])
def test_values_left_out_at_the_end_are_defaults(
    http: httpx.Client, image: Any, count: int
) -> None:
    kind, answer = ask(http, values(image)[:count])
    assert kind == "complete", answer


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"threshold": "high"}, "threshold is 'high', but it must be a number"),
        ({"threshold": 7}, "threshold is 7"),
        ({"threshold": [0.4]}, "threshold is [0.4], but it must be"),
        ({"threshold": {"a": 1}}, "threshold is"),
        ({"threshold": True}, "threshold is True"),
        ({"k_positive": 2.5}, "k_positive is 2.5, but it must be a whole number"),
        ({"negatives": 3}, "negatives is 3"),
        ({"object_name": 5}, "object_name is 5"),
        ({"system": "none"}, "system is 'none'"),
        ({"preset": ["tiny"]}, "preset is ['tiny'], but it must be"),
        ({"preset": "huge"}, "preset is 'huge', but it must be"),
        ({"image": None}, "There is no image"),
        ({"image": "plate.png"}, "image is 'plate.png', but it must be an uploaded file"),
        ({"image": 5}, "image is 5, but it must be an uploaded file"),
        ({"image": {"path": 5}}, "it must be an uploaded file"),
    ],
)
def test_one_sentence_that_names_the_parameter(
    http: httpx.Client, image: Any, changed: dict[str, Any], words: str
) -> None:
    kind, answer = ask(http, values(image, **changed))
    assert kind == "error"
    assert words in answer["error"]


def test_a_wrong_order_and_too_many_values_are_sentences(http: httpx.Client, image: Any) -> None:
    kind, answer = ask(http, ["tiny", image])
    assert (kind, "image is 'tiny'" in answer["error"]) == ("error", True)
    kind, answer = ask(http, [*values(image), 1])
    assert (kind, f"takes {len(NAMES)} values" in answer["error"]) == ("error", True)


@pytest.mark.parametrize(
    ("name", "body", "status", "words"),
    [
        ("segment", {"preset": "tiny"}, 422, "There is no image"),
        ("segment", {"image": None, "no_such": 1}, 422, "There is no parameter 'no_such'"),
        ("no_such", {}, 404, "There is no endpoint /no_such"),
    ],
)
def test_a_call_by_names(
    http: httpx.Client, name: str, body: dict[str, Any], status: int, words: str
) -> None:
    answer = http.post(f"/call/v2/{name}", json=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_an_upload_without_a_file_is_a_sentence(http: httpx.Client) -> None:
    answer = http.post("/upload", files={"files": (None, "text")})
    assert answer.status_code == 422
    assert 'field "files"' in answer.json()["error"]


@pytest.mark.slow
def test_no_made_up_call_is_answered_with_500(served: Served) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    from hypothesis import HealthCheck, given, settings

    text = httpx.get(f"{served.url}/gradio_api/openapi.json", timeout=120).text
    # Of a list of files gradio writes a type that OpenAPI does not know.
    document = json.loads(re.sub(r'"type":\s*"filepath"', '"type": "string"', text))
    schema = schemathesis.openapi.from_dict(document)
    for path in ("/gradio_api/upload", "/gradio_api/call/v2/segment"):

        @settings(
            max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), database=None
        )
        @given(case=schema[path]["POST"].as_strategy())
        def check(case: Any) -> None:
            assert case.call(base_url=served.url, timeout=60).status_code != 500

        check()


def talk(served: Served, *calls: dict[str, Any]) -> list[Any]:
    async def session() -> list[Any]:
        async with (
            streamablehttp_client(f"{served.url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as opened,
        ):
            await opened.initialize()
            tools = (await opened.list_tools()).tools
            return [tools, *[await opened.call_tool("segment", call) for call in calls]]

    return in_a_loop(session())


def test_mcp_answers_in_json_with_a_schema(served: Served) -> None:
    image = "data:image/png;base64," + base64.b64encode(png(photo(4))).decode()
    tools, plain, text, wrong, none = talk(
        served,
        {"image": image},
        {"image": image, "threshold": "0.4", "preset": "tiny"},
        {"image": image, "threshold": "high"},
        {},
    )
    schema = next(tool.outputSchema for tool in tools if tool.name == "segment")
    for answer in (plain, text):
        assert not answer.isError
        validate(answer.structuredContent, schema)
        read = json.loads(answer.content[0].text)
        assert read.items() <= answer.structuredContent.items()
        assert set(answer.structuredContent["files"]) == {"mask", "score", "overlay", "zip"}
    assert text.structuredContent["settings"]["threshold"] == 0.4
    assert wrong.isError
    assert "threshold is 'high'" in wrong.content[0].text
    assert none.isError
    assert "There is no image" in none.content[0].text


def test_mcp_takes_images_as_large_as_those_of_a_phone(served: Served) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1100, 3), np.uint8)
    image = "data:image/png;base64," + base64.b64encode(png(noise)).decode()
    assert len(image) > 4 * 2**20
    _, answer = talk(served, {"image": image})
    assert not answer.isError
    assert answer.structuredContent["width"] == 1100
