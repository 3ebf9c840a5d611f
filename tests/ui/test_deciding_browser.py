"""Settings, corrections and what is taken away, in a real browser."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.page import (
    PLACE,
    RESULT,
    Served,
    Tab,
    downloaded,
    drag,
    drawer,
    marks,
    verdict,
    wait_for_query,
)
from zsas.settings import Settings

pytestmark = pytest.mark.browser


def test_the_marking_level_is_a_tick_on_the_anomaly_map_and_needs_no_encoder(
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


def test_what_a_click_would_mark_is_shown_while_the_pointer_rests(tab: Tab) -> None:
    page = tab.result()
    page.locator("#zs-main").hover(position=PLACE)
    page.wait_for_selector("#zs-preview path", state="attached")
    expect(page.locator("#zs-main [data-click]")).to_have_count(0)
    page.mouse.move(5, 5)
    expect(page.locator("#zs-preview path")).to_have_count(0)


def test_the_menu_of_files_closes_and_a_file_that_cannot_be_made_is_a_sentence(tab: Tab) -> None:
    page = tab.result()
    menu = page.locator(".zs-menu")
    page.click(".zs-menu summary")
    page.click("#zs-verdict h2")
    expect(menu).not_to_have_attribute("open", "")
    page.click(".zs-menu summary")
    page.focus('[data-get="mask.png"]')
    page.keyboard.press("Escape")
    expect(menu).not_to_have_attribute("open", "")
    assert page.evaluate("document.activeElement.closest('.zs-menu') !== null")
    gone = {
        "status": 409,
        "content_type": "application/json",
        "body": '{"error": "The models are gone."}',
    }
    page.route("**/zsas/get/*/mask.png", lambda route: route.fulfill(**gone))
    page.route("**/zsas/get/*/score.png", lambda route: route.fulfill(status=404))
    page.click(".zs-menu summary")
    page.click('[data-get="mask.png"]')
    expect(page.locator("#zs-note")).to_contain_text("The models are gone.")
    page.click('[data-get="score.png"]')
    expect(page.locator("#zs-note")).to_contain_text("no longer on the server")


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
    expect(page.locator('[data-code="install"]')).to_contain_text(
        "zsas segment photo.png --out results"
    )
    expect(page.locator('[data-code="python"]')).to_contain_text("threshold=0.4")
    page.keyboard.press("Escape")
    expect(page.locator("#zs-code")).to_be_hidden()


def test_quick_clicks_all_count(tab: Tab) -> None:
    page = tab.result()
    box = page.locator("#zs-main").bounding_box()
    assert box is not None
    for number in range(4):
        page.mouse.click(box["x"] + 30 + 60 * number, box["y"] + 30)
    expect(page.locator("#zs-main [data-click]")).to_have_count(4)


def test_with_the_keyboard_a_click_that_marks_most_is_answered_where_one_is(
    tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zsas.ui.events.points.MOST", 0.0)
    page = tab.result()
    page.focus("#zs-main")
    for key in ("ArrowLeft", "ArrowLeft", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#zs-note .zs-button").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#zs-note")).to_be_hidden()
    expect(page.locator("#zs-main")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#zs-note .zs-button").first).to_have_text("Only this spot")
    findings = page.locator(".zs-finding").count()
    page.keyboard.press("Enter")
    expect(page.locator(".zs-finding")).to_have_count(findings + 1)
    expect(page.locator("#zs-main")).to_be_focused()
    assert tab.complaints == []


def test_the_finding_under_the_pointer_is_lit_in_the_photo(tab: Tab) -> None:
    page = tab.result("?example=two-spots")
    page.locator(".zs-finding .zs-show").nth(1).hover()
    expect(page.locator("#zs-main .zs-lit")).to_have_attribute("data-region", "2")
    page.mouse.move(5, 5)
    expect(page.locator("#zs-main .zs-lit")).to_have_count(0)
