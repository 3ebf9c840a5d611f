"""What the server serves, to twenty at once, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT
from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.images import png
from tests.helpers.page import Served
from tests.helpers.ports import free_port
from zsas.settings import Settings
from zsas.ui import server

pytestmark = pytest.mark.browser

LONG = httpx.Timeout(120)


@pytest.fixture(scope="module")
def http(served: Served) -> Any:
    with httpx.Client(base_url=served.url, timeout=LONG) as client:
        yield client


def upload(http: httpx.Client, content: bytes, name: str = "photo.png") -> str:
    answer = http.post("/gradio_api/upload", files={"files": (name, content, "image/png")})
    answer.raise_for_status()
    return answer.json()[0]


def ask(http: httpx.Client, endpoint: str, body: dict[str, Any]) -> tuple[str, str]:
    """Call a named endpoint; the name of its last event, and that event's data."""
    answer = http.post(f"/gradio_api/call/v2/{endpoint}", json=body)
    answer.raise_for_status()
    text = http.get(f"/gradio_api/call/{endpoint}/{answer.json()['event_id']}").text
    event, data = text.strip().rsplit("event: ", 1)[1].split("\ndata: ", 1)
    return event, data


def file(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


SECRETS = [
    str(ROOT / "examples" / "hazelnut-broken.jpg"),
    "/etc/passwd",
    str(ROOT / "pyproject.toml"),
]


@pytest.mark.parametrize("path", SECRETS)
@pytest.mark.parametrize("meta", [True, False], ids=["with meta", "without meta"])
@pytest.mark.parametrize("endpoint", ["segment", "batch"])
def test_a_server_path_instead_of_an_upload_is_refused(
    endpoint: str, meta: bool, path: str, http: httpx.Client, served: Served
) -> None:
    named = file(path) if meta else {"path": path}
    encoded = served.encoded
    event, data = ask(
        http, endpoint, {"image": named} if endpoint == "segment" else {"files": [named]}
    )
    assert event == "error"
    assert served.encoded == encoded
    assert "Traceback" not in data
    assert "root:" not in data


def test_the_same_image_is_accepted_once_it_is_uploaded(http: httpx.Client) -> None:
    event, data = ask(
        http, "segment", {"image": file(upload(http, png(photo(4)))), "preset": "tiny"}
    )
    assert event == "complete"
    assert json.loads(data)[0]["anomalous"] is True


def test_an_image_inside_the_call_is_refused(http: httpx.Client) -> None:
    event, _ = ask(
        http, "segment", {"image": file("x.png", url="data:image/png;base64,iVBORw0KGgo=")}
    )
    assert event == "error"


@pytest.mark.parametrize(
    "path", [*SECRETS, str(ROOT / ".git" / "config"), "app.py", "../shared/method.md"]
)
def test_no_file_of_the_server_is_served(path: str, http: httpx.Client) -> None:
    assert http.get(f"/gradio_api/file={path}").status_code in (403, 404)


@pytest.mark.parametrize(
    "path",
    ["/monitoring", "/monitoring/summary", "/docs", "/redoc", "/openapi.json", "/gradio_api/runs"],
)
def test_nothing_is_served_beside_the_page(path: str, http: httpx.Client) -> None:
    answer = http.get(path)
    assert (
        answer.status_code >= 400 or "calls" not in answer.text.lower()[:20000] or "/runs" in path
    )
    assert "process_time" not in answer.text


def test_uploads_have_a_limit(http: httpx.Client) -> None:
    assert server.LAUNCH["max_file_size"] == 64 * 2**20  # the page of the tests has 4 MB
    big = bytes(5 * 2**20)
    answer = http.post("/gradio_api/upload", files={"files": ("big.png", big, "image/png")})
    assert answer.status_code == 413


def test_a_picture_with_too_many_pixels_is_one_sentence(http: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("1", (9_000, 9_000)).save(buffer, "PNG")
    event, data = ask(http, "segment", {"image": file(upload(http, buffer.getvalue(), "huge.png"))})
    assert event == "error"
    assert "huge.png has 9000 × 9000" in json.loads(data)["error"]
    assert "/gradio/" not in data


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("k_positive", 2.5, "whole number"),
        ("blur", "much", ""),
        ("threshold", 7, ""),
        ("kernel_shape", "star", ""),
    ],
)
def test_a_wrong_setting_is_refused_without_a_traceback(
    setting: str, value: Any, words: str, http: httpx.Client
) -> None:
    event, data = ask(http, "segment", {"image": file(upload(http, png(photo(4)))), setting: value})
    assert event == "error"
    assert "Traceback" not in data
    assert words in data


def test_a_setting_that_does_not_exist_is_refused(http: httpx.Client) -> None:
    body = {"image": file(upload(http, png(photo(4)))), "treshold": 0.4}
    answer = http.post("/gradio_api/call/v2/segment", json=body)
    assert answer.status_code >= 400


def test_twenty_clients_at_once_get_their_own_right_answer(served: Served) -> None:
    fake = FakeSegmenter()

    def one(seed: int) -> tuple[dict[str, Any], bytes]:
        with httpx.Client(base_url=served.url, timeout=LONG) as client:
            body = {"image": file(upload(client, png(photo(seed)))), "threshold": 0.4 + seed / 100}
            event, data = ask(client, "segment", body)
            assert event == "complete", data
            answer, mask, *_ = json.loads(data)
            return answer, client.get(mask["url"]).content

    seeds = list(range(20))
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, seeds))
    for seed, (answer, mask) in zip(seeds, answers, strict=True):
        expected = fake.segment(fake.encode(photo(seed)), Settings(threshold=0.4 + seed / 100))
        assert answer["regions"] == expected.to_dict()["regions"]
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(mask))) > 0, expected.mask)


def test_the_line_is_bounded_and_says_so(served: Served) -> None:
    slow = served.segmenters["tiny"]
    slow.seconds = 1.0
    with httpx.Client(base_url=served.url, timeout=LONG) as client:
        path = upload(client, png(photo(77)))
        answers = [
            client.post("/gradio_api/call/v2/segment", json={"image": file(path)})
            for _ in range(server.LINE + 20)
        ]
        slow.seconds = 0.0
        refused = [answer for answer in answers if answer.status_code == 503]
        assert refused
        assert "full" in refused[0].text
        for answer in answers:  # the others are answered in the end
            if answer.status_code == 200:
                assert (
                    "complete"
                    in client.get(f"/gradio_api/call/segment/{answer.json()['event_id']}").text
                )


def call(client: httpx.Client, served: Served, name: str, data: dict[str, Any]) -> Any:
    """Call a function of the page as its script does."""
    page = next(part for part in served.blocks.blocks.values() if part.elem_id == "zs-app")
    answer = client.post(
        "/gradio_api/component_server",
        json={
            "data": data,
            "component_id": page._id,
            "fn_name": name,
            "session_hash": secrets.token_hex(5),
        },
    )
    answer.raise_for_status()
    return answer.json()


def test_closing_the_tab_cancels_the_work(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zsas.ui.visitor.HEARD_WITHIN", 0.5)
    slow = served.segmenters["tiny"]
    slow.stage_seconds, finished = 0.4, slow.finished
    try:
        with httpx.Client(base_url=served.url, timeout=LONG) as client:
            token = call(client, served, "page_hello", {})["token"]
            path = upload(client, png(photo(401)))
            opening = {"name": "open_upload", "data": {"path": path}}
            assert call(client, served, "page_act", {**opening, "token": token, "seen": 0})["busy"]
        time.sleep(8 * slow.stage_seconds + 1)
        assert slow.finished == finished
    finally:
        slow.stage_seconds = 0.02


def test_the_page_opens_nothing_but_uploads(served: Served) -> None:
    with httpx.Client(base_url=served.url, timeout=LONG) as client:
        token = call(client, served, "page_hello", {})["token"]
        for path in SECRETS:
            given = {"token": token, "name": "open_upload", "data": {"path": path}, "seen": 0}
            answer = call(client, served, "page_act", given)
            assert "not an uploaded file" in answer["problem"]
        for address in (
            "/zsas/get/nobody/mask.png",
            f"/zsas/get/{token}/mask.png",
            f"/zsas/get/{token}/..%2fapp.py",
            "/zsas/image/nothing.jpg",
            "/zsas/tile/nothing/0/0/0.jpg",
            f"/zsas/thumb/{token}/0.jpg",
        ):
            assert client.get(address).status_code == 404, address


def test_a_batch_from_code_lets_a_single_image_go_first(served: Served) -> None:
    slow = served.segmenters["tiny"]
    slow.seconds, before = 0.6, served.encoded
    try:
        with httpx.Client(base_url=served.url, timeout=LONG) as client:
            paths = [file(upload(client, png(photo(500 + i)), f"{i}.png")) for i in range(12)]
            started = client.post("/gradio_api/call/v2/batch", json={"files": paths}).json()
            time.sleep(0.5)
            event, _ = ask(client, "segment", {"image": file(upload(client, png(photo(520))))})
            assert event == "complete"
            assert served.encoded < before + len(paths)
            assert client.get(f"/gradio_api/call/batch/{started['event_id']}").text
    finally:
        slow.seconds = 0.0


@pytest.mark.parametrize(
    ("name", "value"), [("ZSAS_PRESET", "huge"), ("ZSAS_CACHE_MB", "abc"), ("ZSAS_CACHE_MB", "0")]
)
def test_a_wrong_environment_ends_the_start_with_one_sentence(name: str, value: str) -> None:
    done = subprocess.run(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"zsas: {name} is '{value}', but it must be")
    assert done.stderr.count("\n") == 1


def test_the_page_is_served_at_home_unless_the_environment_says_otherwise() -> None:
    assert not {"server_name", "server_port"} & set(server.LAUNCH)
    clean = {name: value for name, value in os.environ.items() if "GRADIO_SERVER" not in name}
    home = "import gradio.http_server as h; print(h.LOCALHOST_NAME, h.INITIAL_PORT_VALUE)"
    done = subprocess.run(
        [sys.executable, "-c", home], env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout == "127.0.0.1 7860\n"


def test_a_terminated_server_leaves_no_file_of_a_visitor(tmp_path: Path) -> None:
    port = free_port()
    files = tmp_path / "files"
    files.mkdir()
    own = {"TMPDIR": str(files), "GRADIO_TEMP_DIR": str(files / "gradio")}
    running = subprocess.Popen(
        [sys.executable, "app.py"],
        cwd=ROOT,
        env={
            **os.environ,
            **own,
            "GRADIO_SERVER_PORT": str(port),
            "HF_HUB_OFFLINE": "1",
            "ZSAS_PRESET": "tiny",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=LONG) as client:
            for _ in range(1200):
                try:
                    client.get("/config")
                    break
                except httpx.ConnectError:
                    time.sleep(0.1)
            config = client.get("/config").text
            bundled = tomllib.loads((ROOT / "examples" / "index.toml").read_text())["example"]
            assert [e["title"] for e in bundled if e["title"] not in config] == []
            assert Path(upload(client, png(photo(1)))).is_file()
            with client.stream("GET", "/gradio_api/heartbeat/open-tab") as alive:
                next(alive.iter_lines())
                running.send_signal(signal.SIGTERM)
                running.wait(60)
    finally:
        running.kill()
        running.wait()
    assert [path for path in files.rglob("*") if path.is_file()] == []
    assert list(files.glob("zsas-page-*")) == []


def test_the_environment_names_an_adapter_for_presets_without_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from zsas.segmenter import Segmenter

    monkeypatch.setattr(
        Segmenter, "from_preset", lambda preset, adapter=None, **_: (preset, adapter)
    )
    monkeypatch.setenv("ZSAS_PRESET", "paper")
    assert server.load_segmenter("paper") == ("paper", None)
    monkeypatch.setenv("ZSAS_ADAPTER", "april-gan:visa")
    assert server.load_segmenter("base") == ("base", None), "it is for the CLIP of ZSAS_PRESET"
    assert server.load_segmenter("paper") == ("paper", "april-gan:visa")
    monkeypatch.setenv("ZSAS_PRESET", "tiny")
    assert server.load_segmenter("tiny") == ("tiny", None)


def test_segmenters_share_the_memory_that_the_environment_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from zsas.segmenter import Segmenter

    monkeypatch.setattr(Segmenter, "from_preset", lambda *_, cache_bytes, **__: cache_bytes)
    monkeypatch.setenv("ZSAS_CACHE_MB", "128")
    assert server.load_segmenter("tiny") == 32 * 2**20


def test_the_page_is_sent_small_and_pictures_as_they_are(http: httpx.Client) -> None:
    with http.stream("GET", "/", headers={"Accept-Encoding": "gzip"}) as answer:
        sent = sum(len(piece) for piece in answer.iter_raw())
        assert answer.headers["content-encoding"] == "gzip"
    assert sent < 300_000
    assert "content-encoding" not in http.get("/", headers={"Accept-Encoding": "identity"}).headers
