"""Opening, leaving and coming back in a real browser: files, links, reload, other pages around it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from tests.helpers.fake import photo
from tests.helpers.images import png
from tests.helpers.page import (
    PLACE,
    RESULT,
    Served,
    Tab,
    choose,
    drag,
    drawer,
    marks,
    new_tab,
    verdict,
    wait_for_query,
)
from zsas.systems import system_named

pytestmark = pytest.mark.browser


@pytest.fixture
def first_visit(browser: Browser, served: Served) -> Iterator[Tab]:
    with new_tab(browser, served.url, viewport={"width": 1280, "height": 900}) as opened:
        yield opened


def test_loads_with_no_error_no_outside_request_and_a_useful_empty_state(first_visit: Tab) -> None:
    tab, page = first_visit, first_visit.open()
    expect(page.locator("#zs-verdict")).to_contain_text("Drop a photo")
    expect(page.locator("#zs-examples button")).to_have_count(2)
    stages = system_named("auto").stages
    expect(page.locator("#zs-strip li")).to_have_count(len(stages))
    expect(page.locator("footer")).to_contain_text("An opinion, not a certificate")
    links = page.locator("footer a").evaluate_all("found => found.map(a => a.href)")
    assert f"{tab.url}/api/v1/docs" in links
    assert any("2510.11028" in link for link in links)
    assert {f"{tab.url}/zsas/docs/", f"{tab.url}/zsas/docs/licences.md"} <= set(links)
    assert page.title() == "Zero-shot anomaly segmentation"
    assert tab.complaints == []
    assert tab.outside == []


def test_an_example_runs_at_once_and_shows_every_stage_large_on_demand(tab: Tab) -> None:
    page = tab.open()
    page.click('[data-example="two-spots"]')
    page.wait_for_selector(RESULT)
    assert "Anomalous" in verdict(page)
    assert page.locator("#zs-strip [data-stage]").count() >= 7
    page.click('[data-stage="box"]')
    expect(page.locator("#zs-layer .zs-box")).to_have_count(2)
    expect(page.locator("#zs-main .zs-marks")).to_be_hidden()
    page.click('[data-stage="box"]')
    expect(page.locator("#zs-layer > *")).to_have_count(0)
    assert page.input_value("#zs-object") == "plate"
    assert parse_qs(urlsplit(page.url).query)["example"] == ["two-spots"]
    assert tab.complaints == []


def test_why_begins_on_the_first_screen(tab: Tab) -> None:
    page = tab.result()
    top = page.locator("#zs-strip").bounding_box()
    assert top is not None
    assert top["y"] < 880
    # The photo stays in sight beside the settings.
    drawer(page)
    photo_box = page.locator("#zs-viewer").bounding_box()
    assert photo_box is not None
    assert 0 <= photo_box["y"] < 300


def test_an_upload_runs_at_once_and_can_be_put_away_and_come_back(tab: Tab) -> None:
    page = tab.open()
    choose(page, ("gear.png", png(photo(11))))
    page.wait_for_selector(RESULT)
    assert page.locator("#zs-main").get_attribute("data-width") == "320"
    page.click("[data-do=close]")
    expect(page.locator("#zs-upload")).to_be_visible()
    expect(page.locator("#zs-verdict")).to_contain_text("Drop a photo")
    page.go_back()
    page.wait_for_selector(RESULT)
    expect(page.locator("#zs-stagebox")).to_be_visible()


def test_a_reload_brings_ones_own_photo_and_points_back(tab: Tab) -> None:
    page = tab.open()
    choose(page, ("gear.png", png(photo(11))))
    page.wait_for_selector(RESULT)
    page.locator("#zs-main").click(position=PLACE)
    expect(page.locator("#zs-main [data-click]")).to_have_count(1)
    page.reload()
    page.wait_for_selector(RESULT)
    expect(page.locator("#zs-main [data-click]")).to_have_count(1)


def test_a_page_that_outlived_its_server_says_so_and_begins_anew(tab: Tab) -> None:
    page = tab.open()
    choose(page, ("gear.png", png(photo(11))))
    page.wait_for_selector(RESULT)

    def forget(route: Route) -> None:
        gone = '"verdict"' in (route.request.post_data or "")
        route.fulfill(json={"gone": True}) if gone else route.fallback()

    page.route(re.compile("component_server"), forget)
    page.click('.zs-own [data-verdict="normal"]')
    expect(page.locator("#zs-note")).to_contain_text("Open them again")
    expect(page.locator("#zs-upload")).to_be_visible()
    choose(page, ("gear.png", png(photo(11))))
    page.wait_for_selector(RESULT)
    expect(page.locator("#zs-note")).to_be_hidden()


def test_a_link_that_cannot_carry_the_photo_says_so(browser: Browser, served: Served) -> None:
    rights = {"permissions": ["clipboard-read", "clipboard-write"]}
    with new_tab(browser, served.url, **rights) as own:
        page = own.open()
        choose(page, ("gear.png", png(photo(11))))
        page.wait_for_selector(RESULT)
        expect(page.locator("[data-do=link]")).to_have_text("Copy settings link")
        page.click("[data-do=link]")
        expect(page.locator("#zs-note")).to_contain_text("your photo is not in it")


def test_what_is_being_sent_is_said(tab: Tab) -> None:
    page = tab.open()
    held: list[Route] = []
    page.route(re.compile("/upload"), lambda route: held.append(route))
    choose(page, ("gear.png", png(photo(11))))
    expect(page.locator("#zs-upload")).to_contain_text("Sending gear.png")
    expect(page.locator("#zs-status")).to_contain_text("Sending gear.png")
    held[0].continue_()
    page.wait_for_selector(RESULT)
    expect(page.locator("#zs-status")).not_to_contain_text("Sending")


KEPT = """() => {
  const leaving = new Event("beforeunload", { cancelable: true });
  window.dispatchEvent(leaving);
  return leaving.defaultPrevented;
}"""


def test_many_that_are_being_sent_are_said_from_the_first_and_not_left_by_mistake(tab: Tab) -> None:
    page = tab.open()
    held: list[Route] = []
    page.route(re.compile("/upload"), lambda route: held.append(route))
    assert not page.evaluate(KEPT)
    choose(page, ("a.png", png(photo(11))), ("b.png", png(photo(12))))
    expect(page.locator("#zs-progress")).to_have_text("Sending 0 of 2")
    expect(page.locator("#zs-drop-many")).to_be_hidden()
    assert page.evaluate(KEPT)
    page.wait_for_timeout(100)  # both are on their way
    for route in held:
        route.continue_()
    expect(page.locator("#zs-progress")).to_have_text("2 done")
    assert not page.evaluate(KEPT)


def test_a_file_that_is_no_image_is_named_in_one_sentence_that_stays(tab: Tab) -> None:
    page = tab.open()
    choose(page, ("notes.png", b"not an image"))
    note = page.locator("#zs-note")
    expect(note).to_contain_text("notes.png is not an image that can be read")
    assert "/gradio/" not in note.inner_text()
    expect(page.locator("#zs-upload")).to_be_visible()
    assert "Traceback" not in page.content()


def test_a_link_shows_the_same_view_again(tab: Tab, browser: Browser, served: Served) -> None:
    page = tab.result()
    drawer(page, "Region and points")
    drag(page, '.zs-set input[type=range][name="k_positive"]', 5)
    wait_for_query(page, "k_positive", "5")
    page.click("#zs-drawer [data-close]")
    page.locator("#zs-main").click(position=PLACE)
    page.wait_for_function("() => new URLSearchParams(location.search).has('points')")
    page.wait_for_selector(RESULT)
    with new_tab(browser, served.url, viewport={"width": 1280, "height": 900}) as other:
        again = other.result("?" + urlsplit(page.url).query)
        assert marks(again) == marks(page)
        assert again.locator("#zs-main [data-click]").count() == 1


def test_a_wrong_address_is_explained_and_ignored(tab: Tab) -> None:
    page = tab.open("?threshold=7&kernel_size=31&example=nothing&preset=huge")
    note = page.locator("#zs-note")
    for words in ("threshold is 7", "no preset 'huge'", "no example 'nothing'"):
        expect(note).to_contain_text(words)
    assert page.input_value('.zs-set input[type=range][name="kernel_size"]') == "31"


def give(page: Page, kind: str, where: str, name: str, content: bytes, mime: str = "") -> None:
    """Drop or paste a file on an element, as a browser tells the page of it."""
    page.locator(where).evaluate(
        """(place, [kind, name, text, mime]) => {
          const data = new DataTransfer();
          const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          data.items.add(new File([bytes], name, { type: mime }));
          const more = { bubbles: true, cancelable: true };
          place.dispatchEvent(kind === "drop"
            ? new DragEvent("drop", { dataTransfer: data, ...more })
            : new ClipboardEvent("paste", { clipboardData: data, ...more }));
        }""",
        [kind, name, base64.b64encode(content).decode(), mime],
    )


def test_a_dropped_file_of_any_type_is_for_the_server_to_judge(tab: Tab) -> None:
    page = tab.result()
    buffer = io.BytesIO()
    Image.fromarray(photo(12, (200, 300))).save(buffer, "TIFF")
    give(page, "drop", "#zs-main", "part.tif", buffer.getvalue())
    expect(page.locator("#zs-main")).to_have_attribute("data-width", "300")


def test_a_dropped_file_that_is_too_large_is_said_to_be(tab: Tab) -> None:
    page = tab.result()
    give(page, "drop", "#zs-main", "<b>big.png", bytes(5 * 2**20), "image/png")
    expect(page.locator("#zs-note")).to_contain_text("<b>big.png could not be uploaded: ")


def test_only_what_is_pasted_for_the_page_is_taken(tab: Tab) -> None:
    page = tab.result()
    uploads: list[str] = []
    page.on("request", lambda r: uploads.append(r.url) if "/upload" in r.url else None)
    page.evaluate(
        """() => {
          for (const [id, name] of [["host-note", "contenteditable"], ["host-part", "tabindex"]]) {
            const part = document.createElement("div");
            part.id = id;
            part.setAttribute(name, name === "tabindex" ? "0" : "true");
            document.body.append(part);
          }
        }"""
    )
    content = png(photo(13, (200, 300)))
    for place in ("#host-note", "#host-part"):
        give(page, "paste", place, "note.png", content, "image/png")
    page.wait_for_timeout(500)
    assert uploads == []
    give(page, "paste", "body", "part.png", content, "image/png")
    expect(page.locator("#zs-main")).to_have_attribute("data-width", "300")


@pytest.mark.parametrize("way", ["iframe", "component"])
def test_the_page_works_inside_another_page(
    way: str, browser: Browser, served: Served, docs: str
) -> None:
    with new_tab(browser, docs, viewport={"width": 1280, "height": 1000}) as outer:
        outer.page.goto(f"{docs}/embed.html?way={way}&app={served.url}")
        inner: Any = (
            outer.page.frame_locator("iframe")
            if way == "iframe"
            else outer.page.locator("gradio-app")
        )
        page = inner if way == "iframe" else outer.page
        expect(page.locator("body[data-arrived]")).to_be_attached()
        inner.locator('[data-example="one-spot"]').click()
        inner.locator("#zs-verdict .zs-meter").wait_for()
        expect(inner.locator("#zs-verdict")).to_contain_text("Anomalous")
        if way == "iframe":
            expect(inner.locator(".zs-head")).to_be_hidden()
            last = inner.locator("#zs-strip").bounding_box()
            frame = outer.page.locator("iframe").bounding_box()
            assert last is not None
            assert frame is not None
            assert last["y"] + 60 < frame["y"] + 820


def test_dark_and_narrow(browser: Browser, served: Served) -> None:
    with new_tab(browser, served.url, viewport={"width": 375, "height": 812}) as phone:
        page = phone.result("?__theme=dark&example=two-spots")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(int(value) for value in re.findall(r"\d+", ground)[:3]) < 40
        box = page.locator("#zs-main").bounding_box()
        assert box is not None
        assert box["width"] > 300
