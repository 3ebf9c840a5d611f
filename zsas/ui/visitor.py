"""All that belongs to one visitor: what is shown, and what is wanted now.

A `Session` goes from event to event and holds keys, never arrays. A `Visit` is one object for all events of an open
page, so that work nobody waits for any more ends itself: what gradio cancels ends as an error, and may still show a
step after the word that it has stopped.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass

MAX_CLICKS = 64
MOST = 1000

Click = tuple[float, float, int]


@dataclass(frozen=True)
class Session:
    """What the server remembers of one visitor between two events.

    Attributes:
        image: Key of the image in `Engine`, "" before the first.
        name: File name of the image, or title of the example, for the names of downloads.
        example: Id of the bundled example, "" for one's own image.
        clicks: (x, y, label) in original pixels; label 1 is positive, 0 negative.
        past: Earlier `clicks`, for undo.
    """

    image: str = ""
    name: str = ""
    example: str = ""
    clicks: tuple[Click, ...] = ()
    past: tuple[tuple[Click, ...], ...] = ()

    def clicked(self, clicks: tuple[Click, ...]) -> Session:
        """This session with other clicks, the present ones kept for undo."""
        return dataclasses.replace(
            self, clicks=clicks[-MAX_CLICKS:], past=(*self.past, self.clicks)[-MAX_CLICKS:]
        )

    def undone(self) -> Session:
        """This session one change of clicks earlier."""
        if not self.past:
            return self
        return dataclasses.replace(self, clicks=self.past[-1], past=self.past[:-1])


@dataclass
class Visit:
    """One open page.

    Attributes:
        turn: Raised by every image that is opened or closed, and every Run: what ran before belongs to the turn before.
        stopped: Whether Stop was pressed, or the tab closed, since.
        running: Whether a run shows its steps now.
        late: Whether a point or a setting was changed meanwhile.
    """

    turn: int = 0
    stopped: bool = False
    running: bool = False
    late: bool = False

    def turn_to(self) -> None:
        """The page is going to show another thing."""
        self.turn, self.stopped = self.turn + 1, False

    def unwanted(self) -> Callable[[], bool]:
        """Whether what begins now is not wanted any more, to be asked again and again."""
        turn = self.turn
        return lambda: self.stopped or self.turn != turn


class Visits:
    """Visits by gradio's session hash; the one not heard of for longest is forgotten when there are too many."""

    def __init__(self) -> None:
        self._visits: dict[str | None, Visit] = {}
        self._lock = threading.Lock()

    def of(self, session: str | None) -> Visit:
        """The visit of a session, the same object for all its events."""
        with self._lock:
            visit = self._visits.pop(session, None) or Visit()
            self._visits[session] = visit
            while len(self._visits) > MOST:
                self._visits.pop(next(iter(self._visits)))
            return visit
