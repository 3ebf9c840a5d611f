"""One page with a segmenter without models, one browser; shared by all tests of the page."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake import FakeSegmenter, photo
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from zsas.errors import ZsasError
from zsas.ui.examples import Examples
from zsas.ui.server import launch
from zsas.ui.session import Workshop

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60_000
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass
class Served:
    """A running page and what stands behind it."""

    url: str
    workshop: Workshop
    examples: Examples
    segmenters: dict[str, FakeSegmenter]
    blocks: Any

    @property
    def encoded(self) -> int:
        """How many photos the fake has encoded so far."""
        return sum(segmenter.encoded for segmenter in self.segmenters.values())


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    segmenters: dict[str, FakeSegmenter] = {}

    def load(preset: str) -> FakeSegmenter:
        if preset == "paper":
            raise ZsasError("The preset paper needs the Hub, which cannot be reached; use tiny.")
        return segmenters.setdefault(preset, FakeSegmenter(preset, stage_seconds=0.02))

    workshop = Workshop(load, "tiny")
    examples = Examples(_examples(tmp_path_factory.mktemp("examples")))
    blocks = launch(
        workshop,
        examples,
        prevent_thread_lock=True,
        quiet=True,
        server_name="127.0.0.1",
        max_file_size="4mb",
    )
    workshop.visited()
    workshop.start().join()
    yield Served(blocks.local_url.rstrip("/"), workshop, examples, segmenters, blocks)
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
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield started
        started.close()


@dataclass
class Tab:
    """A browser tab and what went wrong in it."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def open(self, query: str = "") -> Page:
        """Open the page and wait until it can be used."""
        self.page.goto(f"{self.url}/{query}")
        self.page.wait_for_selector("#zs-verdict h2")
        self.page.wait_for_selector("#zs-gallery figure")
        self.page.wait_for_selector("body[data-arrived]")
        # Gradio leaves an invisible cover over one page in ten where its first answer was quick.
        expect(self.page.locator(".main > [data-testid=status-tracker]")).to_be_hidden()
        return self.page

    def result(self, query: str = "?example=one-spot") -> Page:
        """Open the page with an example and wait for its result."""
        self.open(query)
        self.page.wait_for_selector("#zs-verdict .zs-meter")
        return self.page


@contextlib.contextmanager
def new_tab(browser: Browser, url: str, **context: Any) -> Iterator[Tab]:
    """A tab that writes down errors on its console and requests to other servers."""
    with browser.new_context(**context) as opened:
        page = opened.new_page()
        page.set_default_timeout(PATIENCE)
        tab = Tab(page, url)
        page.on("console", lambda m: tab.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: tab.complaints.append(str(error)))
        page.on(
            "request",
            lambda r: (
                None if r.url.startswith((url, "data:", "blob:")) else tab.outside.append(r.url)
            ),
        )
        yield tab


@pytest.fixture
def tab(browser: Browser, served: Served) -> Iterator[Tab]:
    with new_tab(browser, served.url, viewport={"width": 1280, "height": 900}) as opened:
        yield opened


def png(image: np.ndarray) -> bytes:
    """An array as the bytes of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
