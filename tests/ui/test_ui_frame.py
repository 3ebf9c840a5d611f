"""The page's frame in a real browser: what stays in sight, what fits where, ways back, and axe-core on every view."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.helpers import ROOT
from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.images import png
from tests.helpers.page import (
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
from zsas.cancellation import raise_if_cancelled
from zsas.settings import Settings

pytestmark = pytest.mark.browser


def in_sight(page: Page, selector: str) -> bool:
    """Whether more than half of an element is inside the window."""
    return bool(
        page.locator(selector).first.evaluate(
            """(element) => {
              const { top, bottom, height } = element.getBoundingClientRect();
              return Math.min(bottom, innerHeight) - Math.max(top, 0) > height / 2;
            }"""
        )
    )


def test_a_stage_is_chosen_and_seen_large_without_scrolling(tab: Tab) -> None:
    page = tab.result()
    assert in_sight(page, "#zs-main")
    assert in_sight(page, '[data-stage="box"] svg')
    page.click('[data-stage="box"]')
    expect(page.locator("#zs-layer .zs-box").first).to_be_visible()
    # What is scrolled to does not come to lie behind the photo.
    on_top = """(stage) => {
      stage.scrollIntoView({ block: "center", inline: "center" });
      const { x, y, width, height } = stage.getBoundingClientRect();
      return stage.contains(document.elementFromPoint(x + width / 2, y + height / 2));
    }"""
    assert page.locator('[data-stage="box"]').evaluate(on_top)
    # What lies below is read beside the photo, which stays.
    page.evaluate("scrollTo(0, 150)")
    assert in_sight(page, "#zs-main")
    page.focus("#zs-main")
    page.keyboard.press("f")
    assert page.locator("#zs-viewer").bounding_box()["width"] > 1200  # type: ignore[index]
    page.keyboard.press("Escape")
    assert page.locator("#zs-viewer").bounding_box()["width"] < 1000  # type: ignore[index]


def test_the_marking_level_stands_beside_its_colours_with_the_way_back(tab: Tab) -> None:
    page = tab.result()
    expect(page.locator(".zs-level")).to_contain_text("found for this photo")
    found = page.locator(".zs-level b").inner_text()
    expect(page.locator("#zs-changed")).to_be_empty()
    drag(page, "#zs-scale .zs-tick", 0.4)
    expect(page.locator(".zs-level b")).to_have_text("0.40")
    wait_for_query(page, "threshold", "0.4")
    # A setting is kept for the next photo, and the page says that it is not the usual one.
    page.click('[data-example="two-spots"]')
    page.wait_for_selector(RESULT)
    expect(page.locator("#zs-changed")).to_have_text("1")
    drawer(page)
    expect(page.locator("[data-do=reset]")).to_have_text("Reset to defaults (1 changed)")
    page.click("#zs-drawer [data-close]")
    page.click("#zs-scale [data-do=set]")
    expect(page.locator(".zs-level")).to_contain_text("found for this photo")
    assert page.locator(".zs-level b").inner_text() != "0.40"
    assert found != "0.40"
    expect(page.locator("#zs-changed")).to_be_empty()


def test_colours_can_be_stretched_and_read_under_the_pointer(tab: Tab) -> None:
    page = tab.result()
    page.locator('input[name="zs-view"][value="heat"]').check(force=True)
    before = page.locator("#zs-main > .zs-heat").get_attribute("href")
    region = page.locator('.zs-region[data-region="1"] .zs-area').bounding_box()
    assert region is not None
    page.mouse.move(region["x"] + region["width"] / 2, region["y"] + region["height"] / 2)
    said = page.locator(".zs-at")
    expect(said).to_contain_text(re.compile(r"anomaly score 0\.[6-9]"))
    page.check("#zs-scaled")
    expect(page.locator(".zs-level")).to_contain_text("stretched")
    assert page.locator("#zs-main > .zs-heat").get_attribute("href") != before


def test_a_finding_has_the_maps_own_value(tab: Tab) -> None:
    page = tab.result("?example=two-spots")
    result = FakeSegmenter().segment(photo(3), Settings(object_name="plate"))
    expected = [f"{result.anomaly_map[region.mask].max():.2f}" for region in result.regions]
    assert page.locator(".zs-finding .zs-show em").all_inner_texts() == expected
    # The system's own points are shown with their stage, so that the numbers can be read.
    expect(page.locator("#zs-main .zs-points .zs-point")).to_have_count(0)


def test_the_bare_photo_is_shown_while_a_key_is_held(tab: Tab) -> None:
    page = tab.result()
    page.focus("#zs-main")
    page.keyboard.down("p")
    expect(page.locator("#zs-main .zs-marks")).to_be_hidden()
    page.keyboard.up("p")
    expect(page.locator("#zs-main .zs-marks")).to_be_visible()
    button = page.locator("label", has=page.locator("input[name=zs-view][value=photo]"))
    box = button.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 10, box["y"] + 10)
    page.mouse.down()
    expect(page.locator("#zs-main .zs-marks")).to_be_hidden()
    page.wait_for_timeout(450)
    page.mouse.up()
    expect(page.locator("#zs-main .zs-marks")).to_be_visible()
    button.click()
    expect(page.locator("#zs-main .zs-marks")).to_be_hidden()


def test_nothing_has_to_be_started_and_only_work_under_way_can_be_stopped(tab: Tab) -> None:
    page = tab.result()
    assert page.get_by_role("button", name=re.compile("^(Run|Update)$")).count() == 0
    expect(page.get_by_role("button", name="Stop", exact=True)).to_have_count(0)
    words = page.locator(".zs-app").inner_text()
    for old in ("Take away", "on a photo", "Sₐ"):
        assert old not in words


def test_a_link_to_models_that_cannot_be_had_is_answered_with_others(tab: Tab) -> None:
    page = tab.result("?example=one-spot&preset=paper")
    assert "Anomalous" in verdict(page)
    expect(page.locator("#zs-note")).to_contain_text("paper needs the Hub")
    expect(page.locator("#zs-note")).to_contain_text("tiny runs instead")
    assert page.input_value("#zs-preset") == "tiny"
    assert parse_qs(urlsplit(page.url).query)["preset"] == ["tiny"]
    # It was said once; a reload of the view that came of it is silent.
    page.reload()
    page.wait_for_selector(RESULT)
    expect(page.locator("#zs-note")).to_be_hidden()


def test_the_menu_of_models_says_what_each_needs_and_takes(tab: Tab) -> None:
    page = tab.open()
    option = page.locator('#zs-preset option[value="paper"]')
    expect(option).to_have_text(re.compile(r"paper · (here|4\.3 GB to fetch) · about \d+ (s|min)"))
    expect(page.locator('#zs-preset option[value="tiny"]')).to_contain_text("in the package")


def test_back_and_reload_come_to_the_many_photos_that_were_left(tab: Tab) -> None:
    page = tab.open()
    choose(page, *((f"p{i}.png", png(photo(40 + i))) for i in range(3)))
    expect(page.locator("#zs-progress")).to_have_text("3 done")
    page.locator("#zs-cells [data-row]").first.click()
    page.wait_for_selector(RESULT)
    expect(page.locator("#zs-walk")).to_contain_text("1 of 3")
    page.go_back()
    expect(page.locator("#zs-many")).to_be_visible()
    expect(page.locator("#zs-cells [data-row]")).to_have_count(3)
    page.reload()
    expect(page.locator("#zs-cells [data-row]")).to_have_count(3)
    page.go_forward()
    page.wait_for_selector(RESULT)
    expect(page.locator("#zs-many")).to_be_hidden()


def test_other_systems_can_be_stopped_and_leave_the_verdict_alone(
    tab: Tab, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(*_: object) -> None:
        while True:
            raise_if_cancelled()
            time.sleep(0.02)

    page = tab.result()
    before = verdict(page)
    page.locator('input[name="zs-view"][value="systems"]').check(force=True)
    expect(page.locator(".zs-card .zs-meter")).to_have_count(1)
    expect(page.locator("#zs-clicks [name=zs-tool]").first).to_be_hidden()
    button = page.locator("[data-do=run_systems]")
    expect(button).to_have_text(re.compile(r"Run the other \d+, about \d+ s"))
    monkeypatch.setattr(served.engine, "encode", encode)
    button.click()
    page.click("[data-do=stop_systems]")
    expect(page.locator("[data-do=run_systems]")).to_be_visible()
    page.wait_for_function("!document.querySelector('.zs-app').matches('.zs-running')")
    assert verdict(page) == before


def test_what_a_click_would_mark_is_only_what_it_adds(tab: Tab) -> None:
    page = tab.result()
    region = page.locator('.zs-region[data-region="1"] .zs-area').bounding_box()
    assert region is not None
    page.locator("#zs-main").hover(position={"x": 60, "y": 60})
    path = page.wait_for_selector("#zs-preview path", state="attached")
    assert path is not None
    box = path.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] < region["x"] or box["y"] + box["height"] < region["y"]


def test_an_embedding_page_gives_the_frame_the_height_it_asks_for(
    browser: Browser, served: Served, docs: str
) -> None:
    with new_tab(browser, docs, viewport={"width": 852, "height": 1000}) as outer:
        outer.page.goto(f"{docs}/embed.html?way=iframe&app={served.url}")
        inner = outer.page.frame_locator("iframe")
        expect(inner.locator("body[data-arrived]")).to_be_attached()
        inner.locator('[data-example="one-spot"]').click()
        inner.locator("#zs-verdict .zs-meter").wait_for()
        # 820 px hold the image, the verdict and the reasons, side by side and below.
        assert outer.page.evaluate("document.querySelector('iframe').clientWidth") == 820
        outer.page.wait_for_function("document.querySelector('iframe').clientHeight <= 820")
        frame = outer.page.locator("iframe").bounding_box()
        assert frame is not None
        for part in ("#zs-main", "#zs-verdict", "#zs-strip"):
            place = inner.locator(part).bounding_box()
            assert place is not None
            assert place["y"] >= frame["y"]
            assert place["y"] + place["height"] <= frame["y"] + frame["height"], part
        whole = inner.locator("#zs-frame-foot a").first.get_attribute("href") or ""
        assert parse_qs(urlsplit(whole).query)["example"] == ["one-spot"]
        assert "embed" not in whole
        outer.page.set_viewport_size({"width": 400, "height": 800})
        outer.page.wait_for_function("document.querySelector('iframe').clientHeight > 820")


def test_few_stops_of_the_keyboard_lead_to_the_report(tab: Tab) -> None:
    page = tab.result("?example=two-spots")
    found: list[str] = []
    while "zs-report" not in found and len(found) < 60:
        page.keyboard.press("Tab")
        found.append(page.evaluate("document.activeElement.id"))
    assert len(found) < 55
    page.evaluate("document.activeElement.blur()")
    page.focus(".zs-skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "zs-verdict"


def test_a_refusal_leaves_no_stray_words_behind(tab: Tab) -> None:
    page = tab.result()
    choose(page, ("notes.png", b"not an image"))
    expect(page.locator("#zs-note")).to_contain_text("notes.png")
    for part in ("#zs-verdict", "#zs-findings"):
        assert "Error" not in (page.locator(part).text_content() or "")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    assert in_sight(page, "#zs-note")  # wherever one is
    page.click("#zs-note button")
    expect(page.locator("#zs-note")).to_be_hidden()


def test_a_finger_sets_a_point_pans_only_when_zoomed_and_rejects(
    browser: Browser, served: Served
) -> None:
    size: Any = {"width": 375, "height": 812}
    with new_tab(browser, served.url, viewport=size, has_touch=True, is_mobile=True) as phone:
        page = phone.result("?example=two-spots")
        page.locator("#zs-main").tap(position={"x": 60, "y": 60})
        expect(page.locator("#zs-main [data-click]")).to_have_count(1)
        page.click("[data-do=undo]")
        expect(page.locator("#zs-main [data-click]")).to_have_count(0)
        before = marks(page)
        page.locator(".zs-finding [data-do=reject]").first.tap()
        expect(page.locator(".zs-finding.zs-out")).to_have_count(1)
        assert marks(page) != before
        client = page.context.new_cdp_session(page)

        def stroke() -> str | None:
            page.locator("#zs-main").scroll_into_view_if_needed()
            box = page.locator("#zs-main").bounding_box()
            assert box is not None
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            for kind, dx in (("touchStart", 0), ("touchMove", 30), ("touchMove", 60)):
                point = {"x": x + dx, "y": y}
                client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [point]})
            client.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
            return page.locator("#zs-main").get_attribute("viewBox")

        whole = page.locator("#zs-main").get_attribute("viewBox")
        assert stroke() == whole
        page.click("[data-zoom=in]")
        zoomed = page.locator("#zs-main").get_attribute("viewBox")
        assert stroke() != zoomed
        expect(page.locator("#zs-main [data-click]")).to_have_count(0)


SIZES: tuple[tuple[int, int], ...] = (
    (375, 812),
    (680, 450),
    (768, 1024),
    (1360, 900),
    (1920, 1080),
)
"""Widths to be right at; 680 px is what a window of 1360 px has left at a zoom of 200 %."""
ALL_RULES = {"resultTypes": ["violations"]}
RULES_OF_LAYOUT = {
    "runOnly": ["color-contrast", "scrollable-region-focusable", "target-size"],
    "rules": {"target-size": {"enabled": True}},
    **ALL_RULES,
}
"""What else axe-core looks at does not change with the width."""


def serious(page: Page, options: dict[str, Any]) -> list[str]:
    """What axe-core calls serious or critical."""
    found = page.evaluate("(options) => axe.run(document, options)", options)
    return [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in found["violations"]
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"]
    ]


@pytest.fixture(params=["light", "dark"])
def with_axe(request: pytest.FixtureRequest, browser: Browser, served: Served) -> Iterator[Page]:
    axe = ROOT / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.is_file():
        pytest.fail("axe-core is missing; `make browser` installs it.")
    with new_tab(browser, served.url, viewport={"width": 1360, "height": 900}) as tab:
        page = tab.open(f"?__theme={request.param}")
        page.add_script_tag(path=str(axe))
        yield page


def test_axe_finds_no_serious_violation_on_any_view_at_any_width(with_axe: Page) -> None:
    page = with_axe
    found: list[str] = []

    def look(view: str) -> None:
        for width, height in SIZES:
            page.set_viewport_size({"width": width, "height": height})
            rules = ALL_RULES if width in (375, 1360) else RULES_OF_LAYOUT
            found.extend(f"{view}, {width} px: {line}" for line in serious(page, rules))
            if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                found.append(f"{view}, {width} px: wider than the window")

    look("empty")
    page.click('[data-example="two-spots"]')
    page.wait_for_selector(RESULT)
    page.locator(".zs-finding [data-do=reject]").first.click()
    expect(page.locator(".zs-finding.zs-out")).to_have_count(1)
    look("result")
    page.locator('input[name="zs-view"][value="heat"]').check(force=True)
    look("anomaly map")
    page.locator('input[name="zs-view"][value="systems"]').check(force=True)
    expect(page.locator(".zs-card .zs-meter")).to_have_count(1)
    look("systems")
    page.locator('input[name="zs-view"][value="marks"]').check(force=True)
    drawer(page)
    page.locator("#zs-drawer-body details").evaluate_all(
        "all => all.forEach((group) => { group.open = true; })"
    )
    look("settings")
    for sheet in ("zs-code", "zs-help"):
        page.click("[data-close]:visible")
        page.click(f"[data-open={sheet}]")
        look(sheet)
    page.click("[data-close]:visible")
    page.click(".zs-switch [data-mode=many]")
    look("many, empty")
    choose(page, ("a.png", png(photo(70))), ("b.png", png(photo(71))), ("c.png", b"broken"))
    expect(page.locator("#zs-progress")).to_have_text("3 done")
    look("many")
    assert found == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_serious_violation_in_a_frame_or_in_the_report(
    theme: str, browser: Browser, served: Served
) -> None:
    axe = str(ROOT / "node_modules" / "axe-core" / "axe.min.js")
    with new_tab(browser, served.url, viewport={"width": 820, "height": 820}) as tab:
        page = tab.result(f"?embed=1&example=two-spots&__theme={theme}")
        page.add_script_tag(path=axe)
        assert serious(page, ALL_RULES) == []
        report = page.request.get(page.locator("#zs-report").get_attribute("href") or "").text()
        page.set_content(report)
        page.add_script_tag(path=axe)
        assert serious(page, ALL_RULES) == []
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        for name in ("", "results.md", "licences.md"):
            page.goto(f"{served.url}/zsas/docs/{name}")
            page.set_viewport_size({"width": 375 if name else 820, "height": 820})
            page.add_script_tag(path=axe)
            assert serious(page, ALL_RULES) == []
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
