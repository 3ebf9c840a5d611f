"""Each place where the page reaches behind gradio's documented interface: an update that moves it fails here."""

from __future__ import annotations

import inspect

import pytest

from zsas.ui import gradio_internals as internals
from zsas.ui.gradio_internals import gr


def test_no_stub_is_written_beside_a_component() -> None:
    assert inspect.getfile(gr.HTML).endswith(".py")
    with internals.without_stubs(), pytest.raises(OSError, match="no stub"):
        inspect.getfile(gr.HTML)
    assert inspect.getfile(gr.HTML).endswith(".py")


def test_uploads_have_a_folder_and_can_be_removed() -> None:
    assert internals.upload_folder().is_absolute()
    with gr.Blocks() as blocks:
        gr.Textbox()
    internals.remove_uploads(blocks)


def test_the_script_of_the_web_component_comes_with_gradio() -> None:
    assert internals.script_of_component().stat().st_size > 0
