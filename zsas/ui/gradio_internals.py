"""Everything that reaches behind gradio's documented interface, each with a test, so that an update breaks it here."""

from __future__ import annotations

import contextlib
import functools
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
    from gradio import mcp

__all__ = [
    "gr",
    "mcp",
    "remove_uploads",
    "root_of",
    "script_of_component",
    "taking_messages",
    "upload_folder",
    "without_apps",
    "without_bar",
    "without_stubs",
]


@contextlib.contextmanager
def without_apps() -> Iterator[None]:
    """While inside, Blocks come without an app of their own.

    Gradio makes one at each step of building them, and serves only the one that `launch` makes.
    """
    create = gr.routes.App.create_app
    gr.routes.App.create_app = staticmethod(lambda *_, **__: None)  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        gr.routes.App.create_app = create  # type: ignore[method-assign]


def without_bar(blocks: gr.Blocks) -> gr.Blocks:
    """The same Blocks, whose browser is told of the first page alone, so that it draws no bar to the others.

    `gr.Navbar(visible=False)` is drawn once before it hides.
    """
    make = blocks.get_config_file

    def get_config_file() -> Any:
        config = make()
        config["pages"] = config["pages"][:1]
        return config

    blocks.get_config_file = get_config_file  # type: ignore[method-assign]
    return blocks


def upload_folder() -> Path:
    """The folder that the upload route writes to."""
    return Path(gr.utils.get_upload_folder()).resolve()


def remove_uploads(blocks: gr.Blocks) -> None:
    """Remove all uploads; gradio does so when its server ends, which an open tab prevents."""
    gr.route_utils.delete_files_created_by_app(blocks, age=None)


def root_of(request: Any, route: str, root_path: str) -> str:
    """The page's address as the caller of a route knows it, the proxy's where there is one; no slash behind it."""
    return gr.route_utils.get_root_url(request, route, root_path or None)


def taking_messages(manager: Any, most_bytes: int) -> Any:
    """What makes the manager of MCP sessions, whose messages may have so many bytes; the SDK's own limit is 4 MB."""
    if "max_request_body_size" in inspect.signature(manager).parameters:
        return functools.partial(manager, max_request_body_size=most_bytes)
    return manager  # of an earlier SDK, which has no limit


def script_of_component() -> Path:
    """The script of the web component, which comes with gradio's wheel but which gradio does not serve."""
    return Path(gr.__file__).parent / "templates" / "frontend" / "gradio.js"
