"""Many photos whose settings were changed since: they are marked as old, and looked at again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.helpers.fake import photo
from tests.helpers.images import png
from tests.helpers.page import Tab, choose, drag, drawer
from zsas.review import Review
from zsas.ui.events.site import Site, act
from zsas.ui.events.visit import hello
from zsas.ui.many import Many
from zsas.ui.visitor import Corrections, View


def test_other_settings_make_a_lot_old_and_it_is_looked_at_again(
    site: Site, tmp_path: Path
) -> None:
    visitor = site.visitors.known(hello(site, "", "")["token"])
    assert visitor is not None
    path = tmp_path / "a.png"
    Image.fromarray(photo(3)).save(path)
    many = visitor.batch = Many.of([("a.png", path)], "tiny", visitor.settings)
    list(many.run(site.engine, lambda *_: {}))
    many.running = False
    many.views[0] = View("", "a", row=0, now=Corrections((), Review((), "normal")))
    limit = {"name": "verdict_threshold", "value": 0.4}
    assert act(site, visitor.token, "change", limit, 0)["parts"]["batch-old"] is False
    level = {"name": "threshold", "value": 0.95}
    assert act(site, visitor.token, "change", level, 0)["parts"]["batch-old"] is True
    visitor.show({"proposal": {"limit": 0.5, "text": "of the lot before"}})
    answer = act(site, visitor.token, "again_batch", {}, visitor.news)
    assert answer["parts"]["proposal"] == {}
    assert answer["parts"]["batch-old"] is False
    again = visitor.batch
    for _ in range(1000):
        if not again.running:
            break
        time.sleep(0.01)
    assert again.done == 1
    assert again.rows[0].result.settings.threshold == 0.95
    assert again.shown(0)["person"] == "normal"
    again.mutual = True
    again.rows = again.rows * 6
    act(site, visitor.token, "open_row", {"number": 0}, 0)
    assert visitor.others == 5


@pytest.mark.browser
def test_a_lot_with_earlier_settings_says_so_and_can_be_repeated(tab: Tab) -> None:
    page = tab.open()
    choose(page, ("a.png", png(photo(81))), ("b.png", png(photo(82))))
    expect(page.locator("#zs-progress")).to_have_text("2 done")
    expect(page.locator("#zs-lot-old")).to_be_hidden()
    drawer(page)
    drag(page, "#zs-set-threshold", 0.3)
    expect(page.locator("#zs-lot-old")).to_contain_text("earlier settings")
    page.keyboard.press("Escape")
    before = page.locator("#zs-cells img").first.get_attribute("src")
    page.click("#zs-lot-old button")
    expect(page.locator("#zs-lot-old")).to_be_hidden()
    expect(page.locator("#zs-progress")).to_have_text("2 done")
    expect(page.locator("#zs-cells [data-open-row]")).to_have_count(2)
    # A browser keeps the pictures of the first look under their addresses.
    assert page.locator("#zs-cells img").first.get_attribute("src") != before
    assert tab.complaints == []
