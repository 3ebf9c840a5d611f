"""The page in a real browser, without a network."""

from __future__ import annotations

import base64
import functools
import http.server
import io
import json
import re
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import APIResponse, Browser, Page, Route, expect

from tests.helpers import ROOT
from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.images import png
from tests.helpers.page import PATIENCE, Served, Tab, new_tab
from zsas.cache import ByteBudgetCache
from zsas.settings import Settings
from zsas.ui import screen
from zsas.ui.examples import Examples

pytestmark = pytest.mark.browser
expect.set_options(timeout=PATIENCE)


def verdict(page: Page) -> str:
    return page.inner_text("#zs-verdict")


def set_slider(page: Page, name: str, value: float) -> None:
    """Move a slider as a person does: the value changes and the thumb is let go."""
    page.locator(f"#setting-{name} input[type=range]").evaluate(
        """(slider, value) => {
          const set = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set;
          set.call(slider, value);
          slider.dispatchEvent(new Event("input", { bubbles: true }));
          slider.dispatchEvent(new PointerEvent("pointerup", { bubbles: true }));
        }""",
        str(value),
    )


def wait_for_query(page: Page, name: str, value: str) -> None:
    page.wait_for_function(
        "([name, value]) => new URLSearchParams(location.search).get(name) === value",
        arg=[name, value],
    )


def downloaded(page: Page, button: str) -> bytes:
    """Click a button and read the file that the browser saves."""
    with page.expect_download() as download:
        page.click(button)
    return download.value.path().read_bytes()


def regions_path(page: Page) -> str:
    return page.locator("#zs-main .zs-marks").inner_html()


def test_loads_with_no_error_no_outside_request_and_a_useful_empty_state(tab: Tab) -> None:
    page = tab.open()
    expect(page.locator("#zs-head")).to_contain_text("tiny is ready")
    expect(page.locator("#zs-verdict")).to_contain_text("Drop a photo")
    expect(page.locator("#zs-examples button")).to_have_count(2)
    expect(page.locator("#zs-gallery figure")).to_have_count(8)
    assert page.title() == "Zero-shot anomaly segmentation"
    assert tab.complaints == []
    assert tab.outside == []


def test_an_example_runs_at_once_and_shows_every_stage(tab: Tab) -> None:
    page = tab.open()
    page.click('[data-example="two-spots"]')
    page.wait_for_selector("#zs-verdict .zs-meter")
    assert "Anomalous" in verdict(page)
    assert page.locator("#zs-gallery [data-stage]").evaluate_all("f => f.map(x => x.dataset.stage)") == [
        "anomaly_map", "region_and_ring", "points", "m1", "m2", "box", "m3", "fused",
    ]  # fmt: skip
    assert "eq. 11" in page.inner_text('[data-stage="box"]')
    assert page.input_value("#setting-object_name input, #setting-object_name textarea") == "plate"
    assert parse_qs(urlsplit(page.url).query)["example"] == ["two-spots"]
    assert tab.complaints == []


def test_a_quick_visitor_keeps_the_chosen_photo(tab: Tab) -> None:
    # The server answers the page's own questions on arrival at once; the answers come after the visitor's first click.
    late: list[tuple[Route, APIResponse]] = []
    shown = False

    def hold_back(route: Route) -> None:
        if shown:
            route.continue_()
        else:
            late.append((route, route.fetch()))

    tab.page.route("**/run/predict*", hold_back)
    tab.page.goto(tab.url)
    tab.page.click('[data-example="two-spots"]')
    tab.page.wait_for_selector("#zs-verdict .zs-meter")
    shown = True
    assert late
    for route, answer in late:
        route.fulfill(response=answer)
    tab.page.wait_for_selector("body[data-arrived]")
    expect(tab.page.locator("#zs-viewer")).to_be_visible()
    expect(tab.page.locator("#zs-upload")).to_be_hidden()
    expect(tab.page.locator("#zs-verdict")).to_contain_text("Anomalous")
    assert (
        tab.page.input_value("#setting-object_name input, #setting-object_name textarea") == "plate"
    )
    assert parse_qs(urlsplit(tab.page.url).query)["example"] == ["two-spots"]


def test_a_link_asks_for_its_view_once_and_a_bare_address_for_none(
    tab: Tab, served: Served
) -> None:
    asked: list[int] = []
    number = next(i for i, fn in served.blocks.fns.items() if fn.name == "_follow")
    tab.page.on(
        "request",
        lambda request: (
            asked.append(json.loads(request.post_data)["fn_index"])
            if "/run/predict" in request.url and request.post_data
            else None
        ),
    )
    tab.open()
    assert asked
    assert number not in asked
    asked.clear()
    tab.result()
    assert asked.count(number) == 1


def test_an_upload_runs_at_once(tab: Tab) -> None:
    page = tab.open()
    page.set_input_files(
        "#zs-upload input[type=file]",
        {"name": "gear.png", "mimeType": "image/png", "buffer": png(photo(11))},
    )
    page.wait_for_selector("#zs-verdict .zs-meter")
    assert page.locator("#zs-main").get_attribute("viewBox") == "0 0 320 240"
    page.click("#zs-tools [data-do=new]")
    expect(page.locator("#zs-upload")).to_be_visible()
    expect(page.locator("#zs-verdict")).to_contain_text("Drop a photo")


def test_a_file_that_is_no_image_is_named_in_one_sentence_without_a_path(tab: Tab) -> None:
    page = tab.open()
    page.set_input_files(
        "#zs-upload input[type=file]",
        {"name": "notes.png", "mimeType": "image/png", "buffer": b"not an image"},
    )
    toast = page.locator("[data-testid=toast-body], .toast-body").first
    expect(toast).to_contain_text("notes.png is not an image that can be read")
    assert "/gradio/" not in toast.inner_text()
    assert "Traceback" not in page.content()


def test_a_slider_decides_again_without_an_encoder(tab: Tab, served: Served) -> None:
    page = tab.result()
    before, encoded = regions_path(page), served.encoded
    set_slider(page, "threshold", 0.95)
    wait_for_query(page, "threshold", "0.95")
    assert regions_path(page) != before
    assert "nothing of the map is above" in page.inner_text("#zs-gallery").lower()
    page.click("#zs-reset")
    page.wait_for_function("() => !new URLSearchParams(location.search).has('threshold')")
    assert regions_path(page) == before
    assert page.input_value("#setting-threshold input[type=range]") == "0.55"
    assert served.encoded == encoded


def test_a_link_shows_the_same_view_again(tab: Tab, browser: Browser, served: Served) -> None:
    page = tab.result()
    set_slider(page, "k_positive", 5)
    wait_for_query(page, "k_positive", "5")
    page.locator("#zs-main").click(position={"x": 30, "y": 30})
    page.wait_for_function("() => new URLSearchParams(location.search).has('points')")
    with new_tab(browser, served.url, viewport={"width": 1280, "height": 900}) as other:
        again = other.result("?" + urlsplit(page.url).query)
        assert again.input_value("#setting-k_positive input[type=range]") == "5"
        assert regions_path(again) == regions_path(page)
        assert again.locator("#zs-main [data-click]").count() == 1


def test_a_wrong_address_is_explained_and_ignored(tab: Tab) -> None:
    page = tab.open("?threshold=7&kernel_size=31")
    expect(page.locator(".toast-body, [data-testid=toast-body]").first).to_contain_text(
        "threshold is 7.0"
    )
    assert page.input_value("#setting-threshold input[type=range]") == "0.55"
    assert page.input_value("#setting-kernel_size input[type=range]") == "31"


def test_clicks_add_and_remove_points_and_change_the_mask(tab: Tab, served: Served) -> None:
    page = tab.result()
    before, encoded = regions_path(page), served.encoded
    place = {"x": 30, "y": 30}
    page.locator("#zs-main").click(position=place)
    expect(page.locator("#zs-main [data-click]")).to_have_count(1)
    after = regions_path(page)
    assert after != before
    page.locator("#zs-main").click(position=place)
    expect(page.locator("#zs-main [data-click]")).to_have_count(0)
    assert regions_path(page) == before
    page.click("#zs-tools [data-do=undo]")
    expect(page.locator("#zs-main [data-click]")).to_have_count(1)
    assert regions_path(page) == after
    page.click("#zs-tools label:has([value=minus])")
    page.locator("#zs-main").click(position={"x": 80, "y": 120})
    expect(page.locator("#zs-main .zs-minus[data-click]")).to_have_count(1)
    page.click("#zs-tools [data-do=clear]")
    expect(page.locator("#zs-main [data-click]")).to_have_count(0)
    assert served.encoded == encoded


def test_the_keyboard_sets_points_and_reaches_everything(tab: Tab) -> None:
    page = tab.result()
    page.focus("#zs-main")
    for key in ("ArrowLeft", "ArrowUp", "Enter"):
        page.keyboard.press(key)
    expect(page.locator("#zs-main .zs-plus[data-click]")).to_have_count(1)
    assert page.evaluate("document.activeElement.id") == "zs-main"
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("-")
    expect(page.locator("#zs-main .zs-minus[data-click]")).to_have_count(1)
    page.keyboard.press("Backspace")
    expect(page.locator("#zs-main [data-click]")).to_have_count(1)


def test_the_photo_does_not_take_the_keyboard_back(tab: Tab) -> None:
    page = tab.result()
    page.focus("#zs-main")
    page.keyboard.press("ArrowLeft")
    page.click(".zs-brand p")
    page.focus("#setting-threshold input[type=number]")
    set_slider(page, "threshold", 0.95)
    wait_for_query(page, "threshold", "0.95")
    page.wait_for_timeout(500)
    assert page.evaluate("document.activeElement.type") == "number"


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
    expect(page.locator("#zs-main")).to_have_attribute("viewBox", "0 0 300 200")


def test_a_dropped_file_that_is_too_large_is_said_to_be(tab: Tab) -> None:
    page = tab.result()
    give(page, "drop", "#zs-main", "<b>big.png", bytes(5 * 2**20), "image/png")
    sorry = page.locator("#zs-verdict [role=alert]")
    expect(sorry).to_contain_text("<b>big.png could not be uploaded: ")
    set_slider(page, "threshold", 0.95)
    expect(sorry).to_have_count(0)


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
    expect(page.locator("#zs-main")).to_have_attribute("viewBox", "0 0 300 200")


def test_a_row_of_the_table_lights_up_its_region(tab: Tab) -> None:
    page = tab.result("?example=two-spots")
    rows = page.locator("#zs-regions tbody tr")
    expect(rows).to_have_count(2)
    rows.nth(1).locator("button").click()
    assert page.locator("#zs-main .zs-region.zs-on").get_attribute("data-region") == "2"
    assert rows.nth(1).locator("button").get_attribute("aria-pressed") == "true"


def test_colours_are_on_a_fixed_scale_unless_the_page_says_otherwise(tab: Tab) -> None:
    page = tab.result()
    bar = page.locator('[data-stage="anomaly_map"] .zs-bar')
    expect(bar).to_have_text(re.compile(r"0\.00\s*1\.00\s*fixed scale"))
    page.check("#zs-scaled input")
    expect(bar).to_contain_text("scaled to this photo")


def test_compare_measures_each_variant_against_the_mask(tab: Tab) -> None:
    page = tab.result()
    page.get_by_role("tab", name="Compare").click()
    page.click("#zs-compare")
    expect(page.locator("#zs-comparison .zs-grid figure")).to_have_count(9)
    table = page.locator("#zs-comparison table").first
    assert table.locator("tbody tr").count() == 5
    assert table.locator("tbody tr").nth(3).inner_text().split("\t")[2].startswith("100.0")
    expect(page.locator("#zs-comparison .zs-plot")).to_have_count(2)
    page.click('[data-example="two-spots"]')
    expect(page.locator("#zs-comparison .zs-grid")).to_have_count(0)


def test_a_batch_of_five_with_one_corrupt_file(tab: Tab) -> None:
    page = tab.open()
    page.get_by_role("tab", name="Many photos").click()
    files = [
        {"name": f"part{i}.png", "mimeType": "image/png", "buffer": png(photo(20 + i))}
        for i in range(4)
    ]
    files.insert(2, {"name": "broken.png", "mimeType": "image/png", "buffer": png(photo(1))[:200]})
    page.set_input_files("#zs-files input[type=file]", files)
    expect(page.locator("#zs-files")).to_contain_text("part3")
    page.click("#zs-run-all")
    expect(page.locator("#zs-batch [role=status]")).to_contain_text("5 done: ")
    assert page.locator("#zs-batch tbody tr").count() == 5
    assert "broken.png" in page.inner_text("#zs-batch .zs-failed")
    archive = zipfile.ZipFile(io.BytesIO(downloaded(page, "#zs-archive")))
    assert {"part0_mask.png", "part3_score.png", "results.csv", "results.json", "coco.json"} <= set(
        archive.namelist()
    )
    assert len(json.loads(archive.read("coco.json"))["images"]) == 4
    assert archive.read("results.csv").decode().count("\n") == 6


def test_downloads_are_lossless(tab: Tab) -> None:
    page = tab.result()
    page.get_by_role("tab", name="Take away").click()
    expect(page.locator("#zs-get-mask")).to_be_enabled()

    def get(kind: str) -> bytes:
        return downloaded(page, f"#zs-get-{kind}")

    fake = FakeSegmenter()
    expected = fake.segment(fake.encode(photo(4)), Settings())
    mask, score = (Image.open(io.BytesIO(get(kind))) for kind in ("mask", "score"))
    assert mask.format == score.format == "PNG"
    assert np.array_equal(np.asarray(mask) > 0, expected.mask)
    assert np.array_equal(np.asarray(score), np.rint(expected.score_map * 65535).astype(np.uint16))
    assert json.loads(get("json"))["verdict"] == expected.verdict
    assert (
        "one-spot_stages/01_anomaly_map.png" in zipfile.ZipFile(io.BytesIO(get("zip"))).namelist()
    )


def test_before_and_after_shows_both_pictures_without_loss(tab: Tab) -> None:
    page = tab.result()
    page.get_by_role("tab", name="Before and after").click()
    expect(page.locator("#zs-slider img")).to_have_count(2)
    source = page.locator("#zs-slider img").first.get_attribute("src")
    picture = Image.open(io.BytesIO(page.request.get(source).body()))
    assert np.array_equal(np.asarray(picture.convert("RGB")), photo(4))


@pytest.fixture
def slowly(served: Served) -> Iterator[None]:
    """Runs take seconds, so that there is time to do something else meanwhile."""
    slow = served.segmenters["tiny"]
    slow.stage_seconds = 0.6
    yield
    slow.stage_seconds = 0.02


def test_another_photo_ends_the_run_of_the_one_before(tab: Tab, slowly: None) -> None:
    page = tab.result()
    expected = page.inner_text("#zs-regions")
    page.click('[data-example="two-spots"]')
    expect(page.locator("#zs-verdict .zs-busy")).to_contain_text("Stage 1 of 8")
    page.click('[data-example="one-spot"]')
    expect(page.locator("#zs-verdict .zs-busy")).to_contain_text("Stage 1 of 8")
    page.wait_for_selector("#zs-verdict .zs-meter")
    page.wait_for_timeout(3000)
    assert parse_qs(urlsplit(page.url).query)["example"] == ["one-spot"]
    assert page.inner_text("#zs-regions") == expected
    assert tab.complaints == []


def test_a_new_photo_during_a_run_leaves_an_empty_page(tab: Tab, slowly: None) -> None:
    page = tab.open()
    page.click('[data-example="two-spots"]')
    expect(page.locator("#zs-verdict .zs-busy")).to_contain_text("Stage 1 of 8")
    page.click("#zs-tools [data-do=new]")
    expect(page.locator("#zs-upload")).to_be_visible()
    page.wait_for_timeout(3000)
    expect(page.locator("#zs-upload")).to_be_visible()
    expect(page.locator("#zs-verdict")).to_contain_text("Drop a photo")
    expect(page.locator("#zs-gallery [data-stage]")).to_have_count(0)


def test_a_point_and_a_setting_during_a_run_count_when_it_ends(tab: Tab, slowly: None) -> None:
    page = tab.open()
    page.click('[data-example="one-spot"]')
    expect(page.locator("#zs-verdict .zs-busy")).to_contain_text("Stage 1 of 8")
    page.locator("#zs-main").click(position={"x": 30, "y": 30})
    set_slider(page, "kernel_size", 31)
    page.wait_for_selector("#zs-verdict .zs-meter")
    expect(page.locator("#zs-main [data-click]")).to_have_count(1)
    wait_for_query(page, "kernel_size", "31")


def test_a_point_during_the_run_of_a_link_counts_and_so_does_a_reset(
    tab: Tab, slowly: None
) -> None:
    page = tab.page
    page.goto(f"{tab.url}/?example=one-spot&kernel_size=31")
    expect(page.locator("#zs-verdict .zs-busy")).to_contain_text("Stage 1 of 8")
    page.locator("#zs-main").click(position={"x": 30, "y": 30})
    page.click("#zs-reset")
    page.wait_for_selector("#zs-verdict .zs-meter")
    expect(page.locator("#zs-main [data-click]")).to_have_count(1)
    page.wait_for_function("!new URLSearchParams(location.search).has('kernel_size')")
    assert page.input_value("#setting-kernel_size input[type=range]") == "25"


def test_the_second_of_two_quick_choices_is_shown(
    tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    opening = screen.open_example

    def slow(*given: Any) -> Any:
        time.sleep(1)
        return opening(*given)

    monkeypatch.setattr(screen, "open_example", slow)
    page = tab.open()
    keys = page.locator("[data-example]").evaluate_all("all => all.map(e => e.dataset.example)")
    for key in keys[:2]:
        page.click(f'[data-example="{key}"]')
        page.wait_for_timeout(300)
    page.wait_for_function(
        "key => new URLSearchParams(location.search).get('example') === key", arg=keys[1]
    )
    page.wait_for_selector("#zs-verdict .zs-meter")
    page.wait_for_timeout(1000)
    assert parse_qs(urlsplit(page.url).query)["example"] == [keys[1]]


def test_quick_clicks_all_count(tab: Tab) -> None:
    page = tab.result()
    box = page.locator("#zs-main").bounding_box()
    assert box is not None
    for number in range(4):
        page.mouse.click(box["x"] + 30 + 60 * number, box["y"] + 30)
    expect(page.locator("#zs-main [data-click]")).to_have_count(4)


def test_stop_cancels_a_run(tab: Tab, served: Served) -> None:
    slow = served.segmenters["tiny"]
    slow.stage_seconds, finished = 1.0, slow.finished
    try:
        page = tab.page
        page.goto(f"{served.url}/?example=two-spots")
        expect(page.locator("#zs-verdict .zs-busy")).to_contain_text("Stage 1 of 8")
        page.click("#zs-stop")
        expect(page.locator("#zs-verdict")).to_contain_text("Cancelled")
        page.click("#zs-stop")
        page.wait_for_timeout(3000)
        expect(page.locator("#zs-verdict")).to_contain_text("Cancelled")
        assert slow.finished == finished
        slow.stage_seconds = 0.02
        page.click("#zs-run")
        page.wait_for_selector("#zs-verdict .zs-meter")
    finally:
        slow.stage_seconds = 0.02


@pytest.mark.parametrize("way", ["stop", "close"])
def test_an_encoding_under_way_ends_too(
    way: str, browser: Browser, served: Served, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = served.segmenters["tiny"]
    monkeypatch.setattr(served.engine, "_encodings", ByteBudgetCache(2**28))
    monkeypatch.setattr(slow, "_known", set())
    interrupted, slow.seconds = slow.interrupted, 600.0
    try:
        with new_tab(browser, served.url) as other:
            page = other.open()
            page.click('[data-example="two-spots"]')
            expect(page.locator("#zs-verdict")).to_contain_text("Encoding the photo")
            if way == "stop":
                page.click("#zs-stop")
                expect(page.locator("#zs-verdict")).to_contain_text("Cancelled")
        for _ in range(1200):  # a closed tab is noticed at gradio's next heartbeat
            if slow.interrupted > interrupted:
                break
            tab.page.wait_for_timeout(50)
        assert slow.interrupted == interrupted + 1
    finally:
        slow.seconds = 0.0
    tab.result()  # the line is free


def test_stop_ends_a_batch_and_packs_what_is_done(tab: Tab, served: Served) -> None:
    slow = served.segmenters["tiny"]
    slow.seconds = 1.0
    try:
        page = tab.open()
        page.get_by_role("tab", name="Many photos").click()
        files = [
            {"name": f"slow{i}.png", "mimeType": "image/png", "buffer": png(photo(60 + i))}
            for i in range(20)
        ]
        page.set_input_files("#zs-files input[type=file]", files)
        expect(page.locator("#zs-files")).to_contain_text("slow19")
        page.click("#zs-run-all")
        status = page.locator("#zs-batch [role=status]")
        expect(status).to_contain_text(re.compile("[1-9] of 20 done"))
        page.click("#zs-stop-all")
        expect(status).to_contain_text("Cancelled: ")
        rows = page.locator("#zs-batch tbody tr").count()
        assert 1 <= rows < 20
        with zipfile.ZipFile(io.BytesIO(downloaded(page, "#zs-archive"))) as archive:
            assert len([n for n in archive.namelist() if n.endswith("mask.png")]) == rows
            assert len(json.loads(archive.read("results.json"))) == rows
        page.wait_for_timeout(2500)
        assert page.locator("#zs-batch tbody tr").count() == rows
    finally:
        slow.seconds = 0.0


def test_a_preset_out_of_reach_is_one_sentence_and_the_page_goes_on(
    tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Examples, "complete", False
    )  # so that the page goes on looking, each second
    page = tab.result()
    page.click("#zs-preset input")
    page.get_by_role("option", name="paper").click()
    expect(page.locator(".toast-body, [data-testid=toast-body]").first).to_contain_text(
        "paper needs the Hub"
    )
    said = "paper is not available; tiny goes on."
    expect(page.locator("#zs-head")).to_contain_text(said)
    page.wait_for_timeout(2500)
    expect(page.locator("#zs-head")).to_contain_text(said)
    expect(page.locator("#zs-preset input")).to_have_value("tiny")
    expect(page.locator("#zs-verdict")).to_contain_text("Anomalous")


@pytest.fixture(scope="module")
def docs() -> Iterator[str]:
    """The folder `docs/` on a server of its own, as somebody's documentation would be."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Quiet, directory=str(ROOT / "docs"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.mark.parametrize("way", ["iframe", "component"])
def test_the_page_works_inside_another_page(
    way: str, browser: Browser, served: Served, docs: str
) -> None:
    with new_tab(browser, docs, viewport={"width": 1280, "height": 1000}) as outer:
        outer.page.goto(f"{docs}/embed.html?way={way}&app={served.url}")
        inner = (
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
            expect(inner.locator(".zs-brand p")).to_be_hidden()
            expect(inner.get_by_role("tab", name="Take away")).to_be_visible()
            expect(inner.get_by_role("tab", name="Many photos")).to_be_hidden()


def test_dark_and_narrow(browser: Browser, served: Served, tmp_path: Path) -> None:
    with new_tab(browser, served.url, viewport={"width": 375, "height": 812}) as phone:
        page = phone.result("?__theme=dark&example=two-spots")
        assert page.evaluate("document.documentElement.scrollWidth") <= 375
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(int(value) for value in re.findall(r"\d+", ground)[:3]) < 40
        box = page.locator("#zs-main").bounding_box()
        assert box is not None
        assert box["width"] > 300
        page.screenshot(path=tmp_path / "dark-375.png", full_page=True)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation(theme: str, tab: Tab) -> None:
    axe = ROOT / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.is_file():
        pytest.fail("axe-core is missing; `make browser` installs it.")
    page = tab.open(f"?__theme={theme}")
    page.add_script_tag(path=str(axe))
    assert serious(page) == []
    show(page, "Before and after")
    assert serious(page) == []
    page.click('[data-example="two-spots"]')
    page.wait_for_selector("#zs-verdict .zs-meter")
    for name in ("Why", "Before and after", "Compare", "Many photos", "Take away", "Use from code"):
        show(page, name)
        if name == "Take away":
            expect(page.locator("#zs-get-mask")).to_be_enabled()
        assert serious(page) == [], name


def show(page: Page, tab: str) -> None:
    page.get_by_role("tab", name=tab).click()
    page.wait_for_timeout(400)


def serious(page: Page) -> list[str]:
    """What axe-core calls serious or critical."""
    found = page.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]
