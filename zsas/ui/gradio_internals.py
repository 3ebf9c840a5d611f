"""Everything that reaches behind gradio's documented interface, each with a test, so that an update breaks it here."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def without_stubs() -> Iterator[None]:
    """While inside, component classes are made without their `.pyi` file, which takes half of gradio's import time.

    Gradio parses the source of each component class and rewrites a stub beside it. It leaves out classes whose source
    file cannot be found, so inside this it finds none of its own and of this package.
    """
    find = inspect.getfile

    def getfile(thing: Any) -> str:
        if isinstance(thing, type) and thing.__module__.startswith(("gradio.", "zsas.ui.")):
            raise OSError("no stub is wanted")
        return find(thing)

    inspect.getfile = getfile  # type: ignore[assignment]
    try:
        yield
    finally:
        inspect.getfile = find


with without_stubs():
    import gradio as gr

__all__ = [
    "events_in_line",
    "forget_values",
    "gr",
    "remove_uploads",
    "script_of_component",
    "uncover",
    "upload_folder",
    "without_stubs",
]


class _Nothing(dict[int, Any]):
    """Stays empty, whatever is put in."""

    def __setitem__(self, key: int, value: Any) -> None:
        pass

    def __missing__(self, key: int) -> dict[str, Any]:
        return {}


def forget_values(blocks: gr.Blocks, session_hash: str | None) -> None:
    """Let go of what gradio keeps of a closed tab for its deep links: the last value of every component.

    For good: a run that was cancelled in the middle may write once more after this.
    """
    state = blocks.state_holder.session_data.get(session_hash or "")
    if state is not None:
        state.config_values = _Nothing()


def events_in_line(blocks: gr.Blocks, concurrency_id: str) -> int:
    """How many events of one line run or wait now."""
    line = blocks._queue.event_queue_per_concurrency_id.get(concurrency_id)
    return 0 if line is None else len(line.queue) + line.current_concurrency


def upload_folder() -> Path:
    """The folder that the upload route writes to."""
    return Path(gr.utils.get_upload_folder()).resolve()


def remove_uploads(blocks: gr.Blocks) -> None:
    """Remove all uploads; gradio does so when its server ends, which an open tab prevents."""
    gr.route_utils.delete_files_created_by_app(blocks, age=None)


def script_of_component() -> Path:
    """The script of the web component, which comes with gradio's wheel but which gradio does not serve."""
    return Path(gr.__file__).parent / "templates" / "frontend" / "gradio.js"


def uncover(condition: str = "") -> str:
    """Script that takes away gradio's cover, and marks the page as ready for tests and screenshots.

    Where the first answer comes before gradio has counted its components, as on quick machines, it never finds itself
    loaded: its "Loading..." stays over the page, invisible, and takes every click.
    """
    cover = "document.querySelectorAll('.gradio-container > .main > [data-testid=status-tracker]')"
    return (
        f"() => {{ {cover}.forEach((cover) => {{ cover.style.display = 'none'; }}); "
        f"{condition} document.body.dataset.arrived = 'yes'; }}"
    )
