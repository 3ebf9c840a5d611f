"""What each visitor wants now, so that work nobody waits for any more ends itself.

What gradio cancels ends as an error, and may still show a step after the word that it has stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

MOST = 1000


@dataclass
class Visit:
    """One open page.

    Attributes:
        turn: Raised by every photo that is opened or closed, and every Run: what ran before belongs to the turn before.
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
