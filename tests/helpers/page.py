"""A page that is being served, and tabs of a browser that look at it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Page

from tests.helpers.fake import FakeSegmenter
from zsas.ui.engine import Engine
from zsas.ui.examples import Examples

PATIENCE = 30_000
PLACE = {"x": 60, "y": 60}
"""A pixel of the drawing in which the stand-in for a segmenter sees nothing."""
RESULT = ".zs-app:not(.zs-running)[data-state=result] #zs-verdict .zs-meter"


@dataclass
class Served:
    """A running page and what stands behind it."""

    url: str
    engine: Engine
    examples: Examples
    segmenters: dict[str, FakeSegmenter]
    blocks: Any

    @property
    def encoded(self) -> int:
        """How many photos the fake has encoded so far."""
        return sum(segmenter.encoded for segmenter in self.segmenters.values())


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
        self.page.wait_for_selector("body[data-arrived]")
        return self.page

    def result(self, query: str = "?example=one-spot") -> Page:
        """Open the page with an example and wait for its result."""
        self.open(query)
        self.page.wait_for_selector(RESULT)
        return self.page


def watched(page: Page, url: str) -> Tab:
    """A tab that writes down errors on its console and requests to other servers."""
    page.set_default_timeout(PATIENCE)
    tab = Tab(page, url)
    page.on("console", lambda m: tab.complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: tab.complaints.append(str(error)))
    page.on(
        "request",
        lambda r: None if r.url.startswith((url, "data:", "blob:")) else tab.outside.append(r.url),
    )
    return tab


@contextlib.contextmanager
def new_tab(browser: Browser, url: str, **context: Any) -> Iterator[Tab]:
    """The tab of somebody who has never been here: nothing is kept or cached from other tests."""
    with browser.new_context(**context) as opened:
        yield watched(opened.new_page(), url)


def verdict(page: Page) -> str:
    """All words of the verdict."""
    return page.inner_text("#zs-verdict")


def drag(page: Page, selector: str, value: float) -> None:
    """Move a slider as a person does: it says so with each step."""
    page.locator(selector).evaluate(
        """(slider, value) => {
          slider.value = value;
          slider.dispatchEvent(new Event("input", { bubbles: true }));
        }""",
        str(value),
    )


def wait_for_query(page: Page, name: str, value: str) -> None:
    """Until the address says so and the result is shown."""
    page.wait_for_function(
        "([name, value]) => new URLSearchParams(location.search).get(name) === value",
        arg=[name, value],
    )
    page.wait_for_selector(RESULT)


def drawer(page: Page, group: str = "") -> None:
    """Open the settings, and one group of them."""
    page.click("[data-open=zs-drawer]")
    if group:
        page.locator("#zs-drawer-body summary", has_text=group).click()


def downloaded(page: Page, button: str) -> bytes:
    """Click a link and read the file that the browser saves."""
    with page.expect_download() as download:
        page.click(button)
    return download.value.path().read_bytes()


def marks(page: Page) -> str:
    """The findings as they are drawn."""
    return page.locator("#zs-main .zs-marks").inner_html()


def choose(page: Page, *files: tuple[str, bytes]) -> None:
    """Choose files in the page's one field."""
    page.set_input_files(
        "#zs-upload input[type=file]",
        [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files],
    )


def in_a_loop(work: Coroutine[Any, Any, Any]) -> Any:
    """The answer of a coroutine in a thread of its own: Playwright's loop may run in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
