"""What the start of the page and the opening of it leave out."""

from __future__ import annotations

import gc
import json
import re
from typing import Any

import httpx
import pytest

from tests.helpers.page import Served, Tab
from zsas.settings import Settings, all_settings
from zsas.ui import serve as serving
from zsas.ui import server
from zsas.ui.drawer import drawer

pytestmark = pytest.mark.browser


def inlined(html: str, name: str) -> Any:
    """What the page's HTML gives its script under a name."""
    return json.loads(re.findall(rf"window\.{name} = (.*?);</script>", html)[0])


def test_a_browser_is_not_sent_the_fields_of_the_endpoints(served: Served) -> None:
    with httpx.Client(base_url=served.url) as http:
        html = http.get("/").text
        assert [c["type"] for c in inlined(html, "gradio_config")["components"]] == ["html"]
        assert not inlined(html, "gradio_api_info")["named_endpoints"]
        # They are there for programs, and their own address leads to the page.
        info = http.get("/gradio_api/info").json()["named_endpoints"]
        assert set(info) == {"/segment", "/batch", "/compare"}
        assert len(info["/segment"]["parameters"]) > len(all_settings())
        led = http.get("/calls")
        assert led.is_redirect
        assert str(led.next_request and led.next_request.url) == f"{served.url}/"


def test_nothing_leads_away_from_the_page(tab: Tab) -> None:
    """Gradio draws a bar with "Home" as soon as there is a second page, even before it is told not to."""
    tab.page.add_init_script(
        """window.bars = 0;
        new MutationObserver(() => { window.bars += document.querySelectorAll(".nav-holder").length; })
          .observe(document, { childList: true, subtree: true });"""
    )
    page = tab.open()
    assert page.evaluate("window.bars") == 0
    assert page.locator("#zs-app").bounding_box()["y"] < 40  # type: ignore[index]


def test_garbage_is_not_looked_for_until_the_page_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def launch(**_: Any) -> None:
        seen.append(gc.isenabled())
        server.keep_what_is_there()

    monkeypatch.setattr(server, "launch", launch)
    monkeypatch.setattr(serving.signal, "signal", lambda *_: None)
    try:
        serving.serve()
        assert seen == [False]
        assert gc.isenabled()
        assert gc.get_freeze_count() > 0
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("Cannot find empty port in range: 80-80."), "the port is taken"),
        (PermissionError(13, "Permission denied", "/tmp/sent"), "/tmp/sent cannot be used (Permis"),
        (FileNotFoundError(2, "No usable temporary directory"), "a file cannot be used (No usable"),
    ],
)
def test_why_the_page_cannot_be_served_is_said(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: OSError,
    words: str,
) -> None:
    def launch(**_: Any) -> None:
        raise error

    monkeypatch.setattr(server, "launch", launch)
    monkeypatch.setattr(serving.signal, "signal", lambda *_: None)
    try:
        with pytest.raises(SystemExit) as ended:
            serving.serve()
    finally:
        gc.enable()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    assert ("port" in said) == ("port" in words)


def test_the_drawer_asks_once_what_the_system_has(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    begin = Settings.__init__

    def counted(self: Settings, **values: Any) -> None:
        made.append(values)
        begin(self, **values)

    settings = Settings(threshold=0.4)
    monkeypatch.setattr(Settings, "__init__", counted)
    assert "Back to 0.55" in drawer(settings)
    assert len(made) <= 3
