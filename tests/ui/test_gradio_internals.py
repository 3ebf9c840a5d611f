"""Each place where the page reaches behind gradio's documented interface: an update that moves it fails here."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import pytest

from zsas.ui import gradio_internals as internals
from zsas.ui.gradio_internals import gr


def test_no_stub_is_written_beside_a_component() -> None:
    assert inspect.getfile(gr.HTML).endswith(".py")
    with internals.without_stubs(), pytest.raises(OSError, match="no stub"):
        inspect.getfile(gr.HTML)
    assert inspect.getfile(gr.HTML).endswith(".py")


def test_the_values_of_a_closed_tab_are_let_go_for_good() -> None:
    with gr.Blocks() as blocks:
        text = gr.Textbox()
    session = blocks.state_holder["a tab"]
    session.config_values[text._id] = {"value": "large"}
    internals.forget_values(blocks, "a tab")
    session.config_values[text._id] = {"value": "late"}
    assert not session.config_values
    assert session.config_values[text._id] == {}
    internals.forget_values(blocks, "unknown")


def test_events_that_run_or_wait_are_counted() -> None:
    with gr.Blocks() as blocks:
        gr.Button().click(lambda: None, concurrency_id="models", concurrency_limit=1)
    blocks._queue.create_event_queue_for_fn(next(iter(blocks.fns.values())))
    assert internals.events_in_line(blocks, "models") == 0
    line = blocks._queue.event_queue_per_concurrency_id["models"]
    line.queue.append(SimpleNamespace())
    line.current_concurrency = 1
    assert internals.events_in_line(blocks, "models") == 2
    assert internals.events_in_line(blocks, "no such line") == 0


def test_uploads_have_a_folder_and_can_be_removed() -> None:
    assert internals.upload_folder().is_absolute()
    with gr.Blocks() as blocks:
        gr.Textbox()
    internals.remove_uploads(blocks)


def test_the_script_of_the_web_component_comes_with_gradio() -> None:
    assert internals.script_of_component().stat().st_size > 0


def test_the_cover_is_taken_away_where_gradio_puts_it() -> None:
    script = internals.uncover("if (ready)")
    assert "status-tracker" in script
    assert "if (ready) document.body.dataset.arrived" in script
