"""The report in a browser: odd names and shapes leave it a report."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.helpers.results import make_result
from zsas.report import Entry, report_html

pytestmark = pytest.mark.browser


def test_long_names_and_tall_images_stay_in_the_frame(browser: Browser) -> None:
    name = "lot/" + "x" * 250 + ".png"
    entries = [
        Entry.of(make_result(1500, 6), "tall.png"),
        Entry.of(make_result(), name),
        Entry.failed(name, f"{name} is empty; take a complete image file."),
    ]
    page = browser.new_page(viewport={"width": 900, "height": 700})
    page.set_content(report_html(entries))
    assert page.evaluate("document.documentElement.scrollWidth") == 900
    heights = "all => all.map((one) => one.getBoundingClientRect().height)"
    assert max(page.locator("td img").evaluate_all(heights)) <= 64
    assert max(page.locator(".pair img").evaluate_all(heights)) <= 720
    for text in ("Score", "Findings"):  # the columns behind the name
        box = page.locator("th", has_text=text).first.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= 900
    page.close()
