"""One page with a segmenter without models, one browser; shared by all tests of the page."""

from __future__ import annotations

import contextlib
import functools
import http.server
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from starlette.applications import Starlette

from tests.helpers import ROOT
from tests.helpers.fake import FakeSegmenter, fakes, photo
from tests.helpers.page import PATIENCE, Served, Tab, watched
from tests.helpers.ports import free_port
from zsas.ui import gpu, rest
from zsas.ui.engine import Engine
from zsas.ui.events.site import Site
from zsas.ui.examples import Examples
from zsas.ui.server import launch

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(gpu, "SEGMENTERS", {})
    return Engine(lambda preset: FakeSegmenter(preset), "tiny")


@pytest.fixture
def site(engine: Engine, tmp_path: Path) -> Site:
    return Site(engine, Examples(tmp_path))


@contextlib.contextmanager
def no_segmenters() -> Iterator[None]:
    """What other tests have loaded into this process is out of sight."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "SEGMENTERS", {})
        yield


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    segmenters: dict[str, FakeSegmenter] = {}

    def load(preset: str) -> FakeSegmenter:
        return segmenters.setdefault(preset, fakes(preset, stage_seconds=0.02))

    engine = Engine(load, "tiny")
    examples = Examples(_examples(tmp_path_factory.mktemp("examples")))
    with no_segmenters():
        blocks = launch(
            engine,
            examples,
            prevent_thread_lock=True,
            quiet=True,
            server_name="127.0.0.1",
            server_port=free_port(),  # gradio looks for one itself, and two processes may find the same
            max_file_size="4mb",
        )
        engine.visited()
        engine.start().join()
        assert blocks.local_url
        yield Served(blocks.local_url.rstrip("/"), engine, examples, segmenters, blocks)
        blocks.close(verbose=False)


def _examples(folder: Path) -> Path:
    """Two examples that the fake understands, in the layout of the bundled ones."""
    lines = []
    for number, name in ((3, "two-spots"), (4, "one-spot")):
        image = photo(number)
        Image.fromarray(image).save(folder / f"{name}.png")
        Image.fromarray((image.mean(axis=2) < 120).astype(np.uint8) * 255).save(
            folder / f"{name}_mask.png"
        )
        lines.append(
            f'[[example]]\nid = "{name}"\ntitle = "Plate, {name}"\nobject = "plate"\nimage = "{name}.png"\n'
            f'mask = "{name}_mask.png"\nlicence = "CC0-1.0"\n'
        )
    (folder / "index.toml").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("There is no Chromium; `make browser` installs it.")
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def profile(browser: Browser, served: Served) -> Iterator[BrowserContext]:
    """A browser's profile that keeps the page's scripts and its process: two thirds of opening the page anew."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as kept:
        kept.new_page().goto(f"{served.url}/zsas/docs/")  # a tab of the same site that stays
        yield kept


@pytest.fixture
def tab(profile: BrowserContext, served: Served) -> Iterator[Tab]:
    """The tab of somebody whose browser keeps nothing of the page but its scripts."""
    with contextlib.closing(profile.new_page()) as page:
        yield watched(page, served.url)
        kept = {"origin": served.url, "storageTypes": "all"}  # all but what HTTP caches
        profile.new_cdp_session(page).send("Storage.clearDataForOrigin", kept)


@pytest.fixture(scope="session")
def docs() -> Iterator[str]:
    """The folder `docs/` on a server of its own, as somebody's documentation would be."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(ROOT / "docs"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server with the plain interface alone, and a segmenter without models."""
    app = Starlette(routes=rest.routes(Engine(fakes, "tiny")))  # type: ignore[arg-type]
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    with no_segmenters():
        yield f"http://127.0.0.1:{port}/api/v1"
    server.should_exit = True
    thread.join()
