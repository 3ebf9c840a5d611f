"""The page from code: clients, schema, MCP, and the snippets that the page shows."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client
from PIL import Image
from typer.testing import CliRunner

from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.images import png
from tests.helpers.page import Served, in_a_loop
from zsas.cli import app
from zsas.part import Part
from zsas.settings import Settings, all_settings
from zsas.ui import snippets
from zsas.ui.calls import OTHERS

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def client(served: Served) -> Client:
    return Client(served.url, verbose=False)


@pytest.fixture
def photo_file(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(png(photo(4)))
    return path


def test_segment_gives_json_and_lossless_files(client: Client, photo_file: Path) -> None:
    answer, mask, score, overlay, everything = client.predict(
        image=handle_file(str(photo_file)), preset="tiny", threshold=0.6, api_name="/segment"
    )
    fake = FakeSegmenter()
    expected = fake.segment(fake.encode(photo(4)), Settings(threshold=0.6))
    assert answer["regions"] == expected.to_dict()["regions"]
    assert np.array_equal(np.asarray(Image.open(mask)) > 0, expected.mask)
    assert np.asarray(Image.open(score)).dtype == np.uint16
    assert Image.open(overlay).size == (320, 240)
    assert any(name.endswith("_result.json") for name in zipfile.ZipFile(everything).namelist())


@pytest.mark.parametrize("given", [{}, {"preset": ""}], ids=["left out", "empty"])
def test_without_a_preset_what_is_running_answers(
    given: dict[str, str],
    client: Client,
    served: Served,
    photo_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(served.engine, "default", "paper")  # and tiny runs instead
    answer, *_ = client.predict(image=handle_file(str(photo_file)), **given, api_name="/segment")
    assert answer["models"]["preset"] == "tiny"
    rows, _ = client.predict(files=[handle_file(str(photo_file))], **given, api_name="/batch")
    assert [row["error"] for row in rows] == [""]


def test_batch_gives_a_row_for_each_file(client: Client, tmp_path: Path) -> None:
    good, bad, packed = tmp_path / "good.png", tmp_path / "bad.png", tmp_path / "more.zip"
    good.write_bytes(png(photo(5)))
    bad.write_bytes(b"nothing")
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("inner/one.png", png(photo(6)))
        archive.writestr("__MACOSX/._one.png", b"junk")
    rows, everything = client.predict(
        files=[handle_file(str(path)) for path in (good, bad, packed)],
        preset="tiny",
        api_name="/batch",
    )
    assert [row["file"] for row in rows] == ["good.png", "bad.png", "inner/one.png"]
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert "coco.json" in zipfile.ZipFile(everything).namelist()


@pytest.mark.parametrize(
    ("count", "value", "says"),
    [(3, True, "at least 5"), (5, "true", "no patch features"), (5, "maybe", "true or false")],
)
def test_the_files_of_a_batch_can_be_compared_with_each_other(
    client: Client, photo_file: Path, count: int, value: object, says: str
) -> None:
    # The stand-in has no patch features; what is compared is tested without a page.
    files = [handle_file(str(photo_file))] * count
    with pytest.raises(Exception, match=says):
        client.predict(files=files, preset="tiny", batch_scoring=value, api_name="/batch")


def test_compare_gives_a_row_for_each_system_and_a_sheet(
    client: Client, photo_file: Path, tmp_path: Path
) -> None:
    truth = tmp_path / "truth.png"
    truth.write_bytes(png((photo(4).mean(-1) < 100).astype(np.uint8) * 255))
    facts, sheet, everything = client.predict(
        image=handle_file(str(photo_file)),
        preset="tiny",
        systems="auto,april-gan,sdp+",
        mask=handle_file(str(truth)),
        api_name="/compare",
    )
    assert [row["name"] for row in facts["rows"]] == ["auto", "april-gan", "sdp+"]
    assert facts["rows"][0]["pixel_auroc"] > 0.9
    assert "curves" in facts["rows"][0]
    assert facts["rows"][2]["error"]
    assert Image.open(sheet).size[0] > 1000
    names = zipfile.ZipFile(everything).namelist()
    assert {"compare.json", "table.md", "auto/mask.png"} <= set(names)


LEFT = '[{"rectangle": [0, 0, 160, 240]}]'


def test_a_region_and_a_profile_go_with_the_call(
    client: Client, photo_file: Path, tmp_path: Path
) -> None:
    image = handle_file(str(photo_file))
    answer, *_ = client.predict(image=image, preset="tiny", region=LEFT, api_name="/segment")
    assert answer["region"]["fraction"] == 0.5
    assert all(region["box"][2] <= 160 for region in answer["regions"])
    Part(settings=Settings(verdict_threshold=0.3)).save(tmp_path / "plate.zsas")
    part = handle_file(str(tmp_path / "plate.zsas"))
    answer, *_ = client.predict(image=image, preset="tiny", part=part, api_name="/segment")
    assert answer["limit"] == 0.3
    assert answer["region"] is None
    rows, _ = client.predict(
        files=[image], preset="tiny", region=LEFT, part=part, api_name="/batch"
    )
    assert rows[0]["verdict"]
    for wrong, says in (
        ({"region": "{"}, "no JSON"),
        ({"part": image}, "damaged"),
        ({"references": [image]}, "no patch features"),
        ({"references": [image] * 17}, "at most 16"),
    ):
        with pytest.raises(Exception, match=says):
            client.predict(image=image, preset="tiny", **wrong, api_name="/segment")


def test_a_region_and_good_images_are_values_of_the_tool(served: Served, photo_file: Path) -> None:
    async def talk() -> tuple[Any, Any]:
        async with (
            streamablehttp_client(f"{served.url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            image = "data:image/png;base64," + base64.b64encode(photo_file.read_bytes()).decode()
            given = {"image": image, "preset": "tiny"}
            return (
                await session.call_tool("segment", {**given, "region": LEFT}),
                await session.call_tool("segment", {**given, "references": [image]}),
            )

    looked, compared = in_a_loop(talk())
    assert not looked.isError, looked.content
    assert looked.structuredContent["region"]["fraction"] == 0.5
    # The stand-in has nothing to compare; that it says so shows that the images have arrived.
    assert compared.isError
    assert "no patch features" in compared.content[0].text


def test_compare_is_a_tool_with_structured_rows(served: Served, photo_file: Path) -> None:
    async def talk() -> Any:
        async with (
            streamablehttp_client(f"{served.url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            image = "data:image/png;base64," + base64.b64encode(photo_file.read_bytes()).decode()
            given = {"image": image, "preset": "tiny", "systems": "auto,april-gan"}
            return await session.call_tool("compare_systems", given)

    answer = in_a_loop(talk())
    assert not answer.isError, answer.content
    rows = answer.structuredContent["rows"]
    assert [row["name"] for row in rows] == ["auto", "april-gan"]
    assert set(answer.structuredContent["files"]) == {"sheet", "zip"}


def test_only_the_three_endpoints_are_offered_and_they_are_described(served: Served) -> None:
    info = httpx.get(f"{served.url}/gradio_api/info", timeout=120).json()
    assert set(info["named_endpoints"]) == {"/segment", "/batch", "/compare"}
    assert info["unnamed_endpoints"] == {}
    for name, endpoint in info["named_endpoints"].items():
        names = [parameter["parameter_name"] for parameter in endpoint["parameters"]]
        own, settings = OTHERS[name.strip("/")], [setting.name for setting in all_settings()]
        behind = name != "/compare"
        expected = [*settings, *own] if behind else [*own, *settings]
        assert names[1:] == ["preset", *expected]
        assert endpoint["parameters"][1]["parameter_default"] == ""
        assert len(endpoint["description"]) > 40


def test_a_real_mcp_client_finds_and_calls_the_tool(served: Served, photo_file: Path) -> None:
    async def progress(done: float, total: float | None, message: str | None) -> None: ...

    async def talk() -> tuple[Any, Any]:
        async with (
            streamablehttp_client(f"{served.url}/gradio_api/mcp/") as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            tools = (await session.list_tools()).tools
            image = "data:image/png;base64," + base64.b64encode(photo_file.read_bytes()).decode()
            # Asked for progress, gradio answers with one part for each output; else with all of them as one text.
            return tools, await session.call_tool(
                "segment", {"image": image, "preset": "tiny"}, progress_callback=progress
            )

    tools, answer = in_a_loop(talk())
    assert {tool.name for tool in tools} == {"segment", "segment_batch", "compare_systems"}
    tool = next(tool for tool in tools if tool.name == "segment")
    assert "what is wrong in one image" in tool.description
    schema = tool.inputSchema["properties"]
    for setting in all_settings():
        assert setting.help[:20] in schema[setting.name]["description"]
    assert tool.inputSchema["required"] == ["image"]
    assert "Anomalous" in answer.content[0].text
    assert any(part.type == "image" for part in answer.content)
    assert not answer.isError


def test_the_snippet_for_the_shell_is_a_command_that_is_understood(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changed = {
        "threshold": 0.4,
        "object_name": "brass 'fitting'",
        "negatives": False,
        "tiles": "off",
    }
    line = snippets.filled("http://x", "tiny", changed)["install"].splitlines()[-1]
    name, *arguments = shlex.split(line)
    assert name == "zsas"
    outcome = CliRunner().invoke(app, arguments)
    assert "There is no file photo.png" in outcome.output
    assert "brass 'fitting'" in arguments


@pytest.mark.parametrize("which", ["python", "mcp", "curl"])
def test_the_snippets_of_the_page_run(which: str, served: Served, photo_file: Path) -> None:
    code = snippets.filled(served.url, "tiny", {"threshold": 0.4, "object_name": "plate"})
    assert json.loads(code["mcp"])["mcpServers"]["zsas"]["url"].startswith(served.url)
    command = {
        "python": [sys.executable, "-c", code["python"]],
        "mcp": [sys.executable, "-c", code["mcp_python"]],
        "curl": ["bash", "-ec", code["curl"]],
    }
    done = subprocess.run(
        command[which],
        cwd=photo_file.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-800:]
    assert "Anomalous: score" in done.stdout
