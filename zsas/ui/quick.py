"""Import gradio without its writing of stub files, which takes about half of the import time.

Each time a component class is made, gradio parses the source of the class and rewrites a `.pyi` file beside it. It
leaves out classes whose source file cannot be found, so inside `without_stubs` it finds none.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def without_stubs() -> Iterator[None]:
    """While inside, classes of gradio and of this package have no source file."""
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

__all__ = ["gr", "without_stubs"]
