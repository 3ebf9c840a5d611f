"""The documentation that the page brings along, and the foot of the page that leads there."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import httpx2 as httpx
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from tests.helpers.page import Served
from zsas.ui import layout, manual
from zsas.ui.events.site import Site
from zsas.ui.web import routes


def test_every_page_of_the_documentation_is_listed_and_made() -> None:
    listed = re.findall(r'href="([\w-]+\.md)"', manual.contents())
    assert sorted(listed) == sorted(file.name for file in manual.FOLDER.glob("*.md"))
    for name in listed:
        text = manual.page(name)
        assert text is not None
        assert "<h1" in text
    assert manual.page("nothing.md") is None
    assert manual.page("../README.md") is None
    assert manual.picture("../README.md") is None
    assert manual.picture("references.png") is not None


def test_no_link_inside_the_documentation_is_dead() -> None:
    pages = {f"{name}.md": manual.page(f"{name}.md") or "" for name in manual.names()}
    anchors = {name: set(re.findall(r'<h\d id="([^"]*)"', text)) for name, text in pages.items()}
    seen = 0
    for name, text in pages.items():
        for address in re.findall(r'(?:href|src)="([^"]*)"', text.split("<main>")[1]):
            if address.startswith("http"):
                continue
            page, _, anchor = address.partition("#")
            if page.endswith(".md") or not page:
                assert (page or name) in pages, f"{name}: {address}"
                assert not anchor or anchor in anchors[page or name], f"{name}: {address}"
                seen += 1
            else:
                assert manual.picture(page), f"{name}: {address}"
    assert seen > 20


@pytest.mark.slow
def test_the_foot_of_the_page_leads_somewhere_without_any_variable(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ZSAS_DOCS_URL", "ZSAS_REPOSITORY_URL", "SPACE_ID"):
        monkeypatch.delenv(name, raising=False)
    shell = layout.shell("tiny", "")
    foot = shell[shell.index("<footer>") : shell.index("</footer>")]
    addresses = re.findall(r'href="([^"]*)"', foot)
    local = [address for address in addresses if not address.startswith("http")]
    assert {"zsas/docs/", "zsas/docs/licences.md", "api/v1/docs"} <= set(local)
    for address in local:
        answer = httpx.get(f"{served.url}/{address.split('#')[0]}")
        assert answer.status_code == 200, address
        assert "text/html" in answer.headers["content-type"]
    assert "An opinion, not a certificate" in foot
    assert 'id="an-opinion-not-a-certificate"' in (manual.page("licences.md") or "")
    assert httpx.get(f"{served.url}/zsas/docs/none.md").status_code == 404


def test_a_space_links_to_its_own_files_and_the_environment_stands_above(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SPACE_ID", "someone/parts")
    named = {title: url for url, title in manual.links()}
    assert named["Repository"] == "https://huggingface.co/spaces/someone/parts/tree/main"
    monkeypatch.setenv("SPACE_ID", 'x/"><script>')
    monkeypatch.setenv("ZSAS_REPOSITORY_URL", "javascript:alert(1)")
    monkeypatch.setenv("ZSAS_DOCS_URL", 'https://docs.example/"x')
    links = layout.links()
    assert "script" not in links
    assert 'href="https://docs.example/&quot;x"' in links


@pytest.mark.parametrize("root", ["", "/zsas", "/plant", "https://plant.example/zsas/"])
def test_the_pages_own_addresses_hold_behind_a_proxy_that_takes_a_path_away(
    site: Site, root: str
) -> None:
    scope = urlsplit(root).path.rstrip("/")  # what gradio tells the server
    with TestClient(Starlette(routes=routes(site, root)), root_path=scope) as client:
        assert client.get("/zsas/docs/").status_code == 200
        assert client.get("/zsas/docs/results.md").status_code == 200
        assert client.get("/zsas/image/none.jpg").status_code == 404
