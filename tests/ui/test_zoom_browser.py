"""Zoom, tiles and two fingers in a real browser."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.helpers.images import png
from tests.helpers.page import (
    RESULT,
    Served,
    Tab,
    choose,
    drag,
    new_tab,
    wait_for_query,
)

pytestmark = pytest.mark.browser


def test_the_photo_zooms_with_the_wheel_pans_and_stays_where_it_was(tab: Tab) -> None:
    page = tab.result()
    box = page.locator("#zs-main").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.wheel(0, -400)
    page.wait_for_function("Number(document.querySelector('#zs-main').viewBox.baseVal.width) < 300")
    before = page.locator("#zs-main").get_attribute("viewBox")
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2 + 40, steps=4)
    page.mouse.up()
    after = page.locator("#zs-main").get_attribute("viewBox")
    assert after != before
    expect(page.locator("#zs-main [data-click]")).to_have_count(0)  # a drag is no click
    drag(page, "#zs-scale .zs-tick", 0.5)
    wait_for_query(page, "threshold", "0.5")
    assert page.locator("#zs-main").get_attribute("viewBox") == after
    page.click("[data-zoom=fit]")
    page.locator('.zs-region[data-region="1"]').dblclick()
    page.wait_for_function("Number(document.querySelector('#zs-main').viewBox.baseVal.width) < 300")
    expect(page.locator("#zs-main [data-click]")).to_have_count(0)


def test_a_large_photo_is_sharpened_with_tiles(tab: Tab) -> None:
    page = tab.open()
    choose(page, ("large.png", png(np.full((2600, 2600, 3), 200, np.uint8))))
    page.wait_for_selector(RESULT)
    expect(page.locator("#zs-tiles image")).to_have_count(0)
    for _ in range(4):
        page.click("[data-zoom=in]")
    page.wait_for_selector("#zs-tiles image", state="attached")
    source = page.locator("#zs-tiles image").first.get_attribute("href")
    assert source is not None
    assert Image.open(io.BytesIO(page.request.get(source).body())).size[0] <= 512


def test_two_fingers_zoom(browser: Browser, served: Served) -> None:
    with new_tab(
        browser, served.url, viewport={"width": 375, "height": 812}, has_touch=True
    ) as phone:
        page = phone.result()
        box = page.locator("#zs-main").bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        client = page.context.new_cdp_session(page)

        def touch(kind: str, gap: float | None) -> None:
            points = [] if gap is None else [{"x": x - gap, "y": y}, {"x": x + gap, "y": y}]
            client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", 20)
        for gap in (30, 45, 60, 80):
            touch("touchMove", gap)
        touch("touchEnd", None)
        page.wait_for_function(
            "Number(document.querySelector('#zs-main').viewBox.baseVal.width) < 300"
        )


@pytest.mark.parametrize("size", [(1600, 40), (40, 1600)])
def test_a_long_part_can_be_seen_and_fills_its_place_when_zoomed(
    tab: Tab, size: tuple[int, int]
) -> None:
    page = tab.open()
    choose(page, ("rail.png", png(np.full((size[1], size[0], 3), 200, np.uint8))))
    page.wait_for_selector(RESULT)
    box = page.locator("#zs-main").bounding_box()
    assert box is not None
    assert min(box["width"], box["height"]) > 100
    page.evaluate("for (let i = 0; i < 3; i++) document.querySelector('[data-zoom=in]').click()")
    seen = page.evaluate(
        "(({ width, height }) => [width, height])(document.querySelector('#zs-main').viewBox.baseVal)"
    )
    assert min(seen) == 40  # all of the narrow side
    assert max(seen) < 800
