"""What all events of the page share, and the ways in which gradio may run them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zsas.ui.engine import Engine
from zsas.ui.examples import Examples
from zsas.ui.gradio_internals import gr
from zsas.ui.layout import Parts
from zsas.ui.visitor import Visit, Visits

HIDDEN: dict[str, Any] = {"api_visibility": "private"}
LINE = "models"
HEAVY: dict[str, Any] = {"concurrency_id": LINE, "concurrency_limit": 1}
"""Whatever may run an encoder waits in one line."""
LIGHT: dict[str, Any] = {"queue": False, "show_progress": "hidden", **HIDDEN}
"""What takes milliseconds does not wait behind it."""
SPEAKING: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden", **HIDDEN}
"""As quick, and able to show a warning or an error: gradio shows neither of an event outside its queue."""
LATEST: dict[str, Any] = {"trigger_mode": "always_last"}
"""What is asked for while the same event runs is done after it; gradio drops it by default."""


@dataclass(frozen=True)
class Site:
    """The page and what stands behind it."""

    blocks: gr.Blocks
    engine: Engine
    examples: Examples
    parts: Parts
    visits: Visits

    def visit(self, request: gr.Request) -> Visit:
        """What the visitor who asks wants now."""
        return self.visits.of(request.session_hash)
