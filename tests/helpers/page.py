"""A page that is being served, and tabs of a browser that look at it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Browser, Page

from tests.helpers.fake import FakeSegmenter
from zsas.ui.engine import Engine
from zsas.ui.examples import Examples

PATIENCE = 30_000
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
