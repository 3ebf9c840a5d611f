"""The visitor's points: set, undo, clear."""

from __future__ import annotations

from typing import Any

from zsas.ui import screen
from zsas.ui.events.image import ImageEvents
from zsas.ui.events.site import HIDDEN, Site
from zsas.ui.gradio_internals import gr
from zsas.ui.visitor import Session

POINTS: dict[str, Any] = {
    "concurrency_id": "points",
    "concurrency_limit": 1,
    "show_progress": "hidden",
    "trigger_mode": "multiple",
    **HIDDEN,
}
"""One after the other: each click reads the session that the one before it wrote."""


class PointEvents:
    """What a click on the image does."""

    def __init__(self, site: Site, image: ImageEvents) -> None:
        self.site, self.image = site, image

    def wire(self) -> None:
        """Connect the parts."""
        parts = self.site.parts
        for event, what in (
            (parts.image.viewer.select, self._click),
            (parts.image.tools.undo, self._undo),
            (parts.image.tools.clear, self._clear),
        ):
            self.image.decide_after(event(what, parts.session, parts.session, **POINTS))

    def _click(self, event: gr.EventData, session: Session) -> Session:
        image = self.site.engine.image(session.image)
        if image is None:
            return session
        return screen.click(session, image.shape, event.x, event.y, event.action)

    def _undo(self, session: Session) -> Session:
        return session.undone()

    def _clear(self, session: Session) -> Session:
        return session.clicked(()) if session.clicks else session
