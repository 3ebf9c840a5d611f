"""Works around what torch and transformers expect of the process: a writable cache folder, docstrings."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any


def prepare() -> None:
    """Before anything of transformers' models is imported."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        # A read-only system: torch, when imported, wants a folder for what it compiles; nothing is compiled here.
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.sep)
    if sys.flags.optimize >= 2:
        # -OO takes docstrings away; transformers completes its own while it is imported, and ends where there is none.
        import transformers.utils

        transformers.utils.auto_docstring = _as_it_is  # type: ignore[attr-defined]


def _as_it_is(thing: Any = None, **_: Any) -> Any:
    return (lambda one: one) if thing is None else thing
