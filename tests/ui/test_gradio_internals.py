"""Each place where the page reaches behind gradio's documented interface: an update that moves it fails here."""

from __future__ import annotations

import inspect

import httpx2 as httpx
import pytest
from starlette.requests import Request

from tests.helpers import ROOT
from tests.test_layers import imported
from zsas.ui import gradio_internals as internals
from zsas.ui.gradio_internals import gr


def test_no_stub_is_written_beside_a_component() -> None:
    assert inspect.getfile(gr.HTML).endswith(".py")
    with internals.without_stubs(), pytest.raises(OSError, match="no stub"):
        inspect.getfile(gr.HTML)
    assert inspect.getfile(gr.HTML).endswith(".py")


@pytest.mark.slow
def test_gradio_is_imported_in_one_place_alone() -> None:
    """Whoever imports it first decides whether it parses and rewrites stubs, which doubles its import."""
    for path in (ROOT / "zsas").rglob("*.py"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert "gradio" not in roots or path.name == "gradio_internals.py", path


def test_uploads_have_a_folder_and_can_be_removed() -> None:
    assert internals.upload_folder().is_absolute()
    with gr.Blocks() as blocks:
        gr.Textbox()
    internals.remove_uploads(blocks)


def test_the_script_of_the_web_component_comes_with_gradio() -> None:
    assert internals.script_of_component().stat().st_size > 0


def test_the_address_of_the_page_is_the_one_that_the_caller_knows() -> None:
    headers = [
        (b"host", b"inside:7860"),
        (b"x-forwarded-host", b"plant.example"),
        (b"x-forwarded-proto", b"https"),
    ]
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/api/v1/docs",
        "query_string": b"",
        "scheme": "http",
    }
    asked = Request({**scope, "headers": headers[:1]})
    assert internals.root_of(asked, "/api/v1/docs", "") == "http://inside:7860"
    behind = Request({**scope, "headers": headers})
    assert internals.root_of(behind, "/api/v1/docs", "/zsas") == "https://plant.example/zsas"


@pytest.mark.slow
def test_blocks_are_built_without_an_app_until_they_are_launched() -> None:
    with internals.without_apps(), gr.Blocks() as blocks:
        gr.Textbox()
    assert blocks.app is None
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    assert httpx.get(address).status_code == 200
    blocks.close(verbose=False)


def test_a_browser_is_told_of_the_first_page_alone() -> None:
    with internals.without_apps(), gr.Blocks() as blocks:
        gr.Textbox()
    with internals.without_apps(), blocks.route("More", "/more"):
        gr.Textbox()
    assert len(blocks.get_config_file()["pages"]) == 2
    assert len(internals.without_bar(blocks).get_config_file()["pages"]) == 1
