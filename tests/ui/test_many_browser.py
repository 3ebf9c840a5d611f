"""Many photos, and work under way, in a real browser."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from tests.helpers.fake import photo
from tests.helpers.images import png
from tests.helpers.page import (
    PLACE,
    RESULT,
    Served,
    Tab,
    choose,
    downloaded,
    drag,
    new_tab,
    wait_for_query,
)

pytestmark = pytest.mark.browser


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
    page.reload()
    expect(page.locator("#zs-walk")).to_contain_text("2 of 8")
    page.wait_for_selector(RESULT)
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


def test_cards_of_systems_follow_the_settings(tab: Tab) -> None:
    page = tab.result()
    page.locator("input[name=zs-view][value=systems]").check(force=True)
    meter = page.locator(".zs-card .zs-meter").first
    expect(meter).to_have_attribute("style", re.compile("--limit:0.7"))
    drag(page, "#zs-verdict .zs-tick", 0.95)
    expect(meter).to_have_attribute("style", re.compile("--limit:0.95"))


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
                                 "person": "", "corrected": False}
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


def test_our_capsules_are_compared_with_each_other(tab: Tab) -> None:
    page = tab.open()
    page.click(".zs-switch [data-mode=many]")
    with page.expect_request(lambda request: "begin_batch" in (request.post_data or "")) as asked:
        page.click("[data-do=example_batch]")
    assert json.loads(asked.value.post_data or "")["data"]["data"]["mutual"] is True


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
    expect(page.locator("#zs-verdict .zs-busy")).to_contain_text("Stage 1 of")
    page.click('[data-example="one-spot"]')
    page.wait_for_selector(RESULT)
    page.wait_for_timeout(2500)
    assert parse_qs(urlsplit(page.url).query)["example"] == ["one-spot"]
    expect(page.locator(".zs-finding")).to_have_count(1)
    assert tab.complaints == []


def test_a_point_and_a_setting_during_a_run_count_when_it_ends(tab: Tab, slowly: None) -> None:
    page = tab.open()
    choose(page, ("slow.png", png(photo(302))))
    expect(page.locator("#zs-verdict .zs-busy")).to_contain_text("Stage 1 of")
    page.locator("#zs-main").click(position=PLACE)
    drag(page, '.zs-set input[type=range][name="kernel_size"]', 31)
    wait_for_query(page, "kernel_size", "31")
    expect(page.locator("#zs-main [data-click]")).to_have_count(1)


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
    expect(page.locator("#zs-note")).to_contain_text("paper needs the Hub")
    expect(page.locator("#zs-verdict")).to_contain_text("Anomalous")
    assert page.input_value("#zs-preset") == "tiny"
