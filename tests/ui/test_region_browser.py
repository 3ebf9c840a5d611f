"""A region and a part profile on the page, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.helpers.page import RESULT, Tab
from zsas.part import Part

pytestmark = pytest.mark.browser


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """A place on the screen: fractions of the photo's width and height."""
    box = page.locator("#zs-main").bounding_box()
    assert box is not None
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def drag(page: Page, *places: tuple[float, float]) -> None:
    page.mouse.move(*at(page, *places[0]))
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*at(page, *place), steps=4)
    page.mouse.up()


def looked_at(page: Page) -> dict:
    """The entry `region` of the result as it is downloaded."""
    page.wait_for_selector(RESULT)
    href = page.locator('[data-get="result.json"]').get_attribute("href")
    return json.loads(page.request.get(href).body())["region"]


def test_a_region_is_drawn_and_what_lies_outside_is_dimmed(tab: Tab) -> None:
    page = tab.result("?example=two-spots")
    findings = page.locator("#zs-findings .zs-finding").count()
    assert findings == 2
    page.click('[data-draw="rectangle"]')
    expect(page.locator("#zs-draw-hint")).to_contain_text("Drag")
    page.locator("#zs-main").scroll_into_view_if_needed()
    drag(page, (0.02, 0.02), (0.5, 0.98))
    expect(page.locator("#zs-main .zs-outside")).to_have_count(1)
    expect(page.locator("#zs-strip li").first).to_contain_text("Region looked at")
    region = looked_at(page)
    assert region["fraction"] == pytest.approx(0.48 * 0.96, abs=0.02)
    assert region["size"] == [320, 240]
    # A brush that is to be ignored is added to it.
    page.check("#zs-ignore")
    page.click('[data-draw="brush"]')
    drag(page, (0.1, 0.2), (0.3, 0.2))
    expect(page.locator("#zs-main .zs-outside")).to_have_count(1)
    page.wait_for_function(
        "() => document.querySelector('#zs-strip li p')?.textContent.includes('4')"
    )
    smaller = looked_at(page)
    assert smaller["fraction"] < region["fraction"]
    assert smaller["ignore"][0]["width"] > 0
    # A polygon by clicks, closed with Enter.
    page.uncheck("#zs-ignore")
    page.click('[data-draw="polygon"]')
    for place in ((0.6, 0.1), (0.9, 0.1), (0.75, 0.6)):
        page.mouse.click(*at(page, *place))
        page.wait_for_timeout(300)  # two quick ones are a double click
    page.keyboard.press("Enter")
    page.wait_for_function(
        "() => document.querySelector('.zs-outside')?.getAttribute('d').split('M').length > 3"
    )
    assert len(looked_at(page)["region"]) == 2
    page.click('[data-draw="polygon"]')
    page.click('[data-draw="whole"]')
    expect(page.locator("#zs-main .zs-outside")).to_have_count(0)
    assert looked_at(page) is None
    assert tab.complaints == []


def test_a_profile_is_saved_and_opened_again(tab: Tab, tmp_path: Path) -> None:
    page = tab.result("?example=one-spot&verdict_threshold=0.4")
    page.fill("#zs-mm", "0.1")
    page.fill("#zs-smallest", "5px")
    page.press("#zs-smallest", "Enter")
    expect(page.locator("#zs-profile")).to_contain_text("0.1 mm per pixel, counts from 5 px")
    expect(page.locator("#zs-findings")).to_contain_text("mm²")
    page.locator("#zs-main").scroll_into_view_if_needed()
    page.click('[data-draw="rectangle"]')
    drag(page, (0.02, 0.02), (0.98, 0.98))
    expect(page.locator("#zs-main .zs-outside")).to_have_count(1)
    with page.expect_download() as download:
        page.click('[data-get="part.zsas"]')
    file = tmp_path / "plate.zsas"
    file.write_bytes(download.value.path().read_bytes())
    part = Part.load(file)
    assert part.limit == 0.4
    assert part.scale.mm_per_px == 0.1
    assert part.region is not None
    page = tab.result("?example=two-spots")
    expect(page.locator("#zs-profile")).to_have_text("")
    page.set_input_files("#zs-profile-file", file)
    expect(page.locator("#zs-profile")).to_contain_text("0.1 mm per pixel")
    expect(page.locator("#zs-main .zs-outside")).to_have_count(1)
    expect(page.locator(".zs-score")).to_contain_text("0.40")
    (tmp_path / "no.zsas").write_bytes(b"PK")
    page.set_input_files("#zs-profile-file", tmp_path / "no.zsas")
    expect(page.locator("#zs-note")).to_contain_text("damaged")
    page.click("#zs-profile .zs-x")
    expect(page.locator("#zs-main .zs-outside")).to_have_count(0)
