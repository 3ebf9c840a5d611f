"""The line before the encoders: one image at a time, single images before those of batches.

A batch stands in line anew for each of its images, so that it never holds up anybody for longer than one image takes.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Literal

from zsas.cancellation import raise_if_cancelled
from zsas.errors import ZsasError

Kind = Literal["image", "batch"]
_ORDER: dict[Kind, int] = {"image": 0, "batch": 1}


class Place:
    """One stand in the line."""

    def __init__(self, line: Line, kind: Kind, number: int) -> None:
        self._line, self.kind = line, kind
        self.rank = (_ORDER[kind], number)

    def first(self, timeout: float) -> bool:
        """Whether it is this one's turn, now or within `timeout` seconds.

        Raises:
            Cancelled: If nobody waits for the work of this thread any more.
        """
        line = self._line

        def free() -> bool:
            return line._at_work is None and min(p.rank for p in line._waiting) == self.rank

        raise_if_cancelled()
        with line._changed:
            if not line._changed.wait_for(free, timeout):
                return False
            line._waiting.remove(self)
            line._at_work, line._since = self, time.monotonic()
            return True

    def words(self) -> str:
        """What is ahead, and for about how long: "2 photos ahead, about 8 s"."""
        line = self._line
        with line._changed:
            at_work, ahead = line._at_work, [p for p in line._waiting if p.rank < self.rank]
            left = line.seconds * len(ahead)
            if at_work is not None:
                left += max(0.3, line.seconds - (time.monotonic() - line._since))
        images = len(ahead) + (at_work is not None and at_work.kind == "image")
        parts = [f"{images} photo{'' if images == 1 else 's'}"] if images else []
        parts += ["one photo of a batch"] if at_work is not None and at_work.kind == "batch" else []
        if not parts:
            return "You are next"
        return f"{' and '.join(parts)} ahead, about {max(1, round(left))} s"


class Line:
    """Who may use the encoders now.

    Args:
        most: How many may stand in it; the next one is told that it is full.

    Attributes:
        seconds: What one image takes here, about.
    """

    def __init__(self, most: int = 80) -> None:
        self.most = most
        self._numbers = itertools.count()
        self._waiting: list[Place] = []
        self._at_work: Place | None = None
        self._since = 0.0
        self.seconds = 1.0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def place(self, kind: Kind) -> Iterator[Place]:
        """A stand in the line, left with its turn at the end.

        Raises:
            ZsasError: If the line is full.
        """
        with self._changed:
            if kind == "image" and len(self._waiting) >= self.most:
                raise ZsasError("The line is full: too many photos wait. Try again in a minute.")
            place = Place(self, kind, next(self._numbers))
            self._waiting.append(place)
        try:
            yield place
        finally:
            with self._changed:
                if self._at_work is place:
                    self._at_work = None
                    # A moving mean; what one image takes here is known after a few.
                    self.seconds += 0.3 * (time.monotonic() - self._since - self.seconds)
                if place in self._waiting:
                    self._waiting.remove(place)
                self._changed.notify_all()

    @contextlib.contextmanager
    def turn(self, kind: Kind) -> Iterator[None]:
        """Wait for one's turn, then have it until the end of the block.

        Raises:
            Cancelled: If nobody waits for the work of this thread any more.
            ZsasError: If the line is full.
        """
        with self.place(kind) as place:
            while not place.first(0.2):
                pass
            yield
