"""The page in a real browser, without a network."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.images import png
from tests.helpers.page import (
    PATIENCE,
    RESULT,
    Served,
    Tab,
    choose,
    downloaded,
    drag,
    drawer,
    marks,
    new_tab,
    verdict,
    wait_for_query,
)
from zsas.settings import Settings

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE)

PLACE = {"x": 60, "y": 60}
"""A pixel of the drawing in which the stand-in sees nothing."""


def test_loads_with_no_error_no_outside_request_and_a_useful_empty_state(tab: Tab) -> None:
    sizes: list[int] = []
    tab.page.on("response", lambda r: sizes.append(int(r.headers.get("content-length", 0))))
    page = tab.open()
    expect(page.locator("#zs-verdict")).to_contain_text("Drop a photo")
    expect(page.locator("#zs-examples button")).to_have_count(2)
    expect(page.locator("#zs-strip li")).to_have_count(8)
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


def test_a_link_that_cannot_carry_the_photo_says_so(browser: Browser, served: Served) -> None:
    rights = {"permissions": ["clipboard-read", "clipboard-write"]}
    with new_tab(browser, served.url, **rights) as own:
        page = own.open()
        choose(page, ("gear.png", png(photo(11))))
        page.wait_for_selector(RESULT)
        expect(page.locator("[data-do=link]")).to_have_text("Copy settings link")
        page.click("[data-do=link]")
        expect(page.locator("#zs-note")).to_contain_text("your photo is not in it")


def test_a_file_that_is_no_image_is_named_in_one_sentence_that_stays(tab: Tab) -> None:
    page = tab.open()
    choose(page, ("notes.png", b"not an image"))
    note = page.locator("#zs-note")
    expect(note).to_contain_text("notes.png is not an image that can be read")
    assert "/gradio/" not in note.inner_text()
    expect(page.locator("#zs-upload")).to_be_visible()
    assert "Traceback" not in page.content()


def test_the_marking_level_is_a_tick_on_the_heat_map_and_needs_no_encoder(
    tab: Tab, served: Served
) -> None:
    page = tab.result()
    before, encoded = marks(page), served.encoded
    drag(page, "#zs-scale .zs-tick", 0.95)
    expect(page.locator("#zs-live image")).to_be_attached()  # drawn here, before the server answers
    wait_for_query(page, "threshold", "0.95")
    assert marks(page) != before
    assert "Anomalous as a whole, but nothing is marked" in verdict(page)
    assert "lower the marking level" in verdict(page)
    page.click(".zs-try")
    page.wait_for_selector(".zs-finding")
    drawer(page)
    page.click("[data-do=reset]")
    page.wait_for_function("() => !new URLSearchParams(location.search).has('threshold')")
    page.wait_for_selector(RESULT)
    assert marks(page) == before
    assert served.encoded == encoded


def test_the_limit_is_a_tick_on_the_meter_and_decides_at_once(tab: Tab) -> None:
    page = tab.result()
    score = float(page.locator(".zs-verdict").get_attribute("data-score") or 0)
    drag(page, "#zs-verdict .zs-tick", 1)
    assert page.inner_text(".zs-word") in ("Normal", "Unsure")
    near = round(score + 0.01, 2)
    drag(page, "#zs-verdict .zs-tick", near)
    assert page.inner_text(".zs-word") == "Unsure"
    wait_for_query(page, "verdict_threshold", f"{near:g}")
    assert "Unsure" in verdict(page)
    assert "would help" in verdict(page) or "too near to the limit" in verdict(page)


def test_a_value_out_of_range_is_refused_before_it_is_sent(tab: Tab) -> None:
    page = tab.result()
    before = marks(page)
    sent: list[str] = []
    page.on(
        "request",
        lambda r: sent.append(r.post_data or "") if "component_server" in r.url else None,
    )
    drawer(page)
    field = page.locator('.zs-set input[type=number][name="threshold"]')
    for wrong in ("7", ""):
        field.fill(wrong)
        expect(page.locator(".zs-range")).to_contain_text("0.55 stays")
        page.wait_for_timeout(700)
        field.blur()
        assert field.input_value() == "0.55"
    assert not any("threshold" in text for text in sent)
    assert marks(page) == before


def test_a_failed_event_says_why_and_marks_the_picture_as_old(tab: Tab) -> None:
    page = tab.result()

    def fail(route: Route) -> None:
        route.abort()

    page.route(re.compile("component_server"), fail)
    drag(page, "#zs-scale .zs-tick", 0.9)
    expect(page.locator("#zs-note")).to_contain_text("The server did not answer")
    expect(page.locator("#zs-old")).to_contain_text("earlier settings")
    page.unroute_all()
    page.click("#zs-old [data-do=rerun]")
    expect(page.locator("#zs-old")).to_have_count(0)


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


def test_clicks_add_and_remove_points_and_can_be_undone_and_redone(
    tab: Tab, served: Served
) -> None:
    page = tab.result()
    before, encoded = marks(page), served.encoded
    points = page.locator("#zs-main [data-click]")
    page.locator("#zs-main").click(position=PLACE)
    expect(points).to_have_count(1)
    after = marks(page)
    assert after != before
    expect(page.locator(".zs-hints")).to_contain_text("the verdict is the system's alone")
    page.locator("#zs-main").click(position=PLACE)
    expect(points).to_have_count(0)
    assert marks(page) == before
    page.keyboard.press("Control+z")
    expect(points).to_have_count(1)
    assert marks(page) == after
    page.keyboard.press("Control+z")
    expect(points).to_have_count(0)
    page.keyboard.press("Control+y")
    expect(points).to_have_count(1)
    assert served.encoded == encoded


def test_a_negative_click_removes_its_pixel_and_leaves_the_other_findings(tab: Tab) -> None:
    page = tab.result("?example=two-spots")
    rows = page.locator(".zs-finding")
    expect(rows).to_have_count(2)
    other = page.locator('.zs-region[data-region="2"] .zs-area').get_attribute("d")
    box = page.locator('.zs-region[data-region="1"]').bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, button="right")
    expect(page.locator("#zs-main .zs-minus[data-click]")).to_have_count(1)
    kept = page.locator(".zs-region .zs-area").evaluate_all(
        "all => all.map((path) => path.getAttribute('d'))"
    )
    assert other in kept
    covered = page.evaluate(
        """([x, y]) => [...document.querySelectorAll("#zs-main .zs-region .zs-area")].some((path) => {
          const at = new DOMPoint(x, y).matrixTransform(path.getScreenCTM().inverse());
          return path.isPointInFill(at);
        })""",
        [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2],
    )
    assert not covered


def test_a_finding_can_be_rejected_and_restored_and_the_json_says_so(tab: Tab) -> None:
    page = tab.result("?example=two-spots")
    first = page.locator(".zs-finding").first
    first.locator(".zs-show").click()
    expect(page.locator("#zs-main .zs-region.zs-on")).to_have_attribute("data-region", "1")
    page.keyboard.press("Delete")
    expect(page.locator(".zs-finding.zs-out")).to_have_count(1)
    expect(page.locator("#zs-main .zs-rejected")).to_have_count(1)
    page.click(".zs-finding:not(.zs-out) [data-do=reject]")
    expect(page.locator("#zs-verdict h2")).to_have_text(re.compile("Normal.*by a person"))
    page.click(".zs-menu summary")
    found = json.loads(downloaded(page, '[data-get="result.json"]'))
    assert [region["rejected"] for region in found["regions"]] == [True, True]
    assert (found["verdict"], found["decided_by"], found["anomalous"]) == ("normal", "person", True)
    mask = np.asarray(Image.open(io.BytesIO(downloaded(page, '[data-get="mask.png"]'))))
    assert not mask.any()
    page.locator(".zs-finding [data-do=restore]").first.click()
    expect(page.locator(".zs-finding.zs-out")).to_have_count(1)
    expect(page.locator("#zs-verdict h2")).not_to_contain_text("by a person")


def test_a_persons_own_verdict_stands_above_the_score(tab: Tab) -> None:
    page = tab.result()
    page.click('.zs-own [data-verdict="normal"]')
    expect(page.locator("#zs-verdict h2")).to_have_text(re.compile("Normal.*by a person"))
    page.click('.zs-own [data-verdict="normal"]')
    expect(page.locator("#zs-verdict h2")).to_contain_text("Anomalous")


def test_the_keyboard_sets_points_zooms_and_reaches_everything(tab: Tab) -> None:
    page = tab.result()
    page.focus("#zs-main")
    for key in ("ArrowLeft", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#zs-main .zs-plus[data-click]")).to_have_count(1)
    page.wait_for_selector(RESULT)
    assert page.evaluate("document.activeElement.id") == "zs-main"
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("-")
    expect(page.locator("#zs-main .zs-minus[data-click]")).to_have_count(1)
    page.keyboard.press("Backspace")
    expect(page.locator("#zs-main [data-click]")).to_have_count(1)
    page.keyboard.press("PageUp")
    expect(page.locator("#zs-zoom")).to_have_text("150 %")


def test_from_opening_to_the_report_with_the_keyboard_alone(tab: Tab) -> None:
    page = tab.open()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "zs-skip"
    page.evaluate("document.querySelector('[data-example]').focus()")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector(RESULT)
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "zs-report":
            break
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename.endswith("report.html")


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


def test_what_a_click_would_mark_is_shown_while_the_pointer_rests(tab: Tab) -> None:
    page = tab.result()
    page.locator("#zs-main").hover(position=PLACE)
    page.wait_for_selector("#zs-preview path", state="attached")
    expect(page.locator("#zs-main [data-click]")).to_have_count(0)
    page.mouse.move(5, 5)
    expect(page.locator("#zs-preview path")).to_have_count(0)


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


def test_downloads_are_lossless_and_the_report_opens_alone(tab: Tab, tmp_path: Path) -> None:
    page = tab.result()
    fake = FakeSegmenter()
    expected = fake.segment(photo(4), Settings(object_name="plate"))
    page.click(".zs-menu summary")
    mask, score = (
        Image.open(io.BytesIO(downloaded(page, f'[data-get="{name}.png"]')))
        for name in ("mask", "score")
    )
    assert mask.format == score.format == "PNG"
    assert np.array_equal(np.asarray(mask) > 0, expected.mask)
    assert np.array_equal(np.asarray(score), np.rint(expected.score_map * 65535).astype(np.uint16))
    names = zipfile.ZipFile(io.BytesIO(downloaded(page, '[data-get="all.zip"]'))).namelist()
    assert "report.html" in names
    assert any(name.startswith("one-spot_stages/01_") for name in names)
    report = tmp_path / "report.html"
    report.write_bytes(downloaded(page, "#zs-report"))
    requests: list[str] = []
    page.on("request", lambda r: requests.append(r.url) if r.url.startswith("http") else None)
    page.goto(report.as_uri())
    expect(page.locator("body")).to_contain_text("Anomalous")
    expect(page.locator("body")).to_contain_text("limit 0.70")
    assert requests == []


def test_this_view_as_code_has_its_own_settings(tab: Tab) -> None:
    page = tab.result("?example=one-spot&threshold=0.4")
    page.click("[data-open=zs-code]")
    expect(page.locator('[data-code="install"]')).to_contain_text("pip install zsas")
    expect(page.locator('[data-code="python"]')).to_contain_text("threshold=0.4")
    page.keyboard.press("Escape")
    expect(page.locator("#zs-code")).to_be_hidden()


def faint(seed: int) -> np.ndarray:
    """A plate whose spots are fainter for some seeds than for others."""
    strength = 0.35 + 0.65 * (seed * 37 % 100) / 100
    return np.clip(205 - (205.0 - photo(seed)) * strength, 0, 255).astype(np.uint8)


def test_many_photos_are_sorted_decided_by_one_limit_opened_corrected_and_taken_away(
    tab: Tab,
) -> None:
    page = tab.open()
    files = [(f"part{i}.png", png(faint(20 + i))) for i in range(8)]
    choose(page, *files, ("broken.png", png(photo(1))[:200]))
    expect(page.locator("#zs-progress")).to_have_text("9 done")
    expect(page.locator('#zs-chips [data-filter="failed"] b')).to_have_text("1")
    scores = page.locator("#zs-cells em").all_inner_texts()
    values = [float(text.split()[1]) for text in scores if text[0] in "▲?✓"]
    assert values == sorted(values, reverse=True)
    # The limit of the lot: all verdicts follow at once, and nothing is asked of the encoders.
    drag(page, "#zs-histogram .zs-tick", 0)
    expect(page.locator('#zs-chips [data-filter="anomalous"] b')).to_have_text("8")
    drag(page, "#zs-histogram .zs-tick", 1)
    expect(page.locator('#zs-chips [data-filter="anomalous"] b')).to_have_text("0")
    drag(page, "#zs-histogram .zs-tick", 0.3)
    page.wait_for_timeout(400)
    page.locator("#zs-cells [data-row]").first.click()
    page.wait_for_selector(RESULT)
    expect(page.locator("#zs-walk")).to_contain_text("1 of 8")
    expect(page.locator(".zs-score")).to_contain_text("0.30")
    page.click("#zs-walk [data-do=next]")
    expect(page.locator("#zs-walk")).to_contain_text("2 of 8")
    for _ in range(page.locator(".zs-finding").count()):
        before = page.locator(".zs-finding.zs-out").count()
        page.locator(".zs-finding:not(.zs-out) [data-do=reject]").first.click()
        expect(page.locator(".zs-finding.zs-out")).to_have_count(before + 1)
    expect(page.locator("#zs-verdict h2")).to_contain_text("by a person")
    page.click("#zs-walk [data-do=all]")
    expect(page.locator("#zs-cells .zs-good", has_text="you")).to_have_count(1)
    page.click('#zs-chips [data-filter="failed"]')
    expect(page.locator("#zs-cells .zs-cell")).to_have_count(1)
    archive = zipfile.ZipFile(io.BytesIO(downloaded(page, '[data-get="batch-all.zip"]')))
    names = set(archive.namelist())
    assert {"part0_mask.png", "part7_score.png", "results.csv", "coco.json", "report.html"} <= names
    rows = json.loads(archive.read("results.json"))
    assert sum(row["verdict"] == "normal" for row in rows) == 1
    assert sum(bool(row["error"]) for row in rows) == 1
    report = downloaded(page, '[data-get="batch-report.html"]').decode()
    assert "rejected by a person" in report
    assert "limit 0.30" in report


def test_three_hundred_photos_do_not_keep_another_visitor_waiting(
    tab: Tab, browser: Browser, served: Served
) -> None:
    slow = served.segmenters["tiny"]
    page = tab.open()
    rng = np.random.default_rng(7)
    files = [
        (f"s{i}.png", png(rng.integers(60, 200, (48, 64, 3), dtype=np.uint8))) for i in range(300)
    ]
    slow.seconds = 0.2
    try:
        choose(page, *files)
        expect(page.locator("#zs-progress")).to_contain_text(re.compile(r"^[1-9]\d* of 300"))
        with new_tab(browser, served.url) as other:
            single = other.open()
            choose(single, ("single.png", png(photo(777))))
            single.wait_for_selector(RESULT, timeout=15_000)  # 3 s on a quiet machine
            assert int(page.inner_text("#zs-progress").split()[0]) < 300
        page.click("#zs-many [data-do=stop_batch]")
        expect(page.locator("#zs-progress")).to_contain_text("Stopped")
    finally:
        slow.seconds = 0.0


def test_systems_are_compared_in_the_place_of_the_photo(tab: Tab) -> None:
    page = tab.result()
    page.locator('input[name="zs-view"][value="systems"]').check(force=True)
    expect(page.locator(".zs-card .zs-meter")).to_have_count(1)
    expect(page.locator("#zs-viewer")).to_be_hidden()
    expect(page.locator('#zs-system option[value="sdp+"]')).to_be_disabled()
    page.locator('input[name="zs-view"][value="heat"]').check(force=True)
    expect(page.locator("#zs-main > .zs-heat")).to_be_visible()


def test_thousands_of_rows_make_only_the_cells_in_sight(tab: Tab) -> None:
    page = tab.open()
    choose(page, *((f"p{i}.png", png(faint(i))) for i in range(2)))
    expect(page.locator("#zs-progress")).to_have_text("2 done")
    # As many rows as a server would send, from the same answers.
    page.route(
        re.compile("component_server"),
        lambda route: route.fulfill(
            json={
                "news": 10**9,
                "busy": False,
                "problem": "",
                "parts": {
                    f"row-{i}": {"number": i, "name": f"row {i}", "error": "", "score": i / 5000,
                                 "person": "", "findings": 0, "corrected": False}
                    for i in range(5000)
                },
            }
        ),
    )  # fmt: skip
    page.click(".zs-switch [data-mode=many]")
    drag(page, "#zs-histogram .zs-tick", 0.5)
    expect(page.locator('#zs-chips [data-filter="all"] b')).to_have_text("5000")
    assert page.locator("#zs-cells .zs-cell").count() < 80
    page.locator("#zs-cells").evaluate("cells => { cells.scrollTop = 1e6; }")
    expect(page.locator("#zs-cells")).to_contain_text("row 0")


def test_stop_ends_a_lot_and_another_photo_can_be_opened_meanwhile(
    tab: Tab, served: Served
) -> None:
    slow = served.segmenters["tiny"]
    slow.seconds = 0.5
    try:
        page = tab.open()
        choose(page, *((f"slow{i}.png", png(photo(60 + i))) for i in range(20)))
        expect(page.locator("#zs-progress")).to_contain_text(re.compile(r"^[1-9]\d* of 20"))
        page.click('[data-example="one-spot"]')
        page.wait_for_selector("#zs-verdict .zs-meter")
        page.click(".zs-switch [data-mode=many]")
        page.click("#zs-many [data-do=stop_batch]")
        expect(page.locator("#zs-progress")).to_contain_text("Stopped: ")
    finally:
        slow.seconds = 0.0


@pytest.fixture
def slowly(served: Served) -> Iterator[None]:
    """Runs take seconds, so that there is time to do something else meanwhile."""
    slow = served.segmenters["tiny"]
    slow.stage_seconds = 0.6
    yield
    slow.stage_seconds = 0.02


def test_another_photo_ends_the_run_of_the_one_before(tab: Tab, slowly: None) -> None:
    page = tab.open()
    choose(page, ("slow.png", png(photo(301))))
    expect(page.locator("#zs-verdict .zs-busy")).to_contain_text("Stage 1 of 8")
    page.click('[data-example="one-spot"]')
    page.wait_for_selector(RESULT)
    page.wait_for_timeout(2500)
    assert parse_qs(urlsplit(page.url).query)["example"] == ["one-spot"]
    expect(page.locator(".zs-finding")).to_have_count(1)
    assert tab.complaints == []


def test_a_point_and_a_setting_during_a_run_count_when_it_ends(tab: Tab, slowly: None) -> None:
    page = tab.open()
    choose(page, ("slow.png", png(photo(302))))
    expect(page.locator("#zs-verdict .zs-busy")).to_contain_text("Stage 1 of 8")
    page.locator("#zs-main").click(position=PLACE)
    drag(page, '.zs-set input[type=range][name="kernel_size"]', 31)
    wait_for_query(page, "kernel_size", "31")
    expect(page.locator("#zs-main [data-click]")).to_have_count(1)


def test_quick_clicks_all_count(tab: Tab) -> None:
    page = tab.result()
    box = page.locator("#zs-main").bounding_box()
    assert box is not None
    for number in range(4):
        page.mouse.click(box["x"] + 30 + 60 * number, box["y"] + 30)
    expect(page.locator("#zs-main [data-click]")).to_have_count(4)


@pytest.mark.parametrize("way", ["stop", "close"])
def test_stop_and_a_closed_tab_end_an_encoding_under_way(
    way: str, browser: Browser, served: Served, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = served.segmenters["tiny"]
    monkeypatch.setattr("zsas.ui.visitor.HEARD_WITHIN", 3.0)
    monkeypatch.setattr("zsas.ui.events.visit.NEWS_SECONDS", 1.0)
    interrupted, slow.seconds = slow.interrupted, 600.0
    try:
        with new_tab(browser, served.url) as other:
            page = other.open()
            choose(page, ("new.png", png(photo(900 + len(way)))))
            expect(page.locator("#zs-verdict")).to_contain_text("Encoding the photo")
            if way == "stop":
                page.click("#zs-verdict [data-do=stop]")
                expect(page.locator("#zs-verdict")).to_contain_text("Stopped")
        for _ in range(1200):
            if slow.interrupted > interrupted:
                break
            tab.page.wait_for_timeout(50)
        assert slow.interrupted == interrupted + 1
    finally:
        slow.seconds = 0.0
    tab.result()  # the line is free


def test_a_preset_out_of_reach_is_one_sentence_and_the_page_goes_on(tab: Tab) -> None:
    page = tab.result()
    page.select_option("#zs-preset", "paper")
    expect(page.locator("#zs-verdict")).to_contain_text("paper needs the Hub")
    expect(page.locator("#zs-verdict")).to_contain_text("Anomalous")
    assert page.input_value("#zs-preset") == "tiny"


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
