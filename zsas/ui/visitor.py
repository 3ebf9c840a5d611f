"""All that belongs to one visitor, in one place: keys, settings and corrections, never arrays."""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.prompts import Click
from zsas.review import Review
from zsas.settings import Settings

MAX_CLICKS = 64
MOST = 1000
KEEP_SECONDS = 6 * 3600.0
ASLEEP_AFTER = 120.0
"""What a tab showed is drawn anew if it asks for anything after so many seconds of silence."""
ONCE = ("failure", "offer", "preview")
"""Parts that say what has just happened: said again where the same happens again, and not to a tab that comes later."""
HEARD_WITHIN = 20.0
"""A tab asks for news all the time while something runs for it; one that has not for so many seconds is closed."""


@dataclass(frozen=True)
class Corrections:
    """What a person says about an image.

    Attributes:
        clicks: (x, y, label) in image pixels; label 1 for "this is wrong" and 0 for "this is fine".
        review: Rejected findings, and a verdict of their own.
    """

    clicks: tuple[Click, ...] = ()
    review: Review = Review()


@dataclass(frozen=True)
class View:
    """An image and what was said about it.

    Attributes:
        image: Key of the image in `Engine`, "" before the first.
        name: Name of its file without the ending, or id of the example, for the names of downloads.
        file: The whole name of its file, with its folders, for the report; "" where it is the name.
        example: Id of the bundled example, "" for one's own image.
        row: Its number in the visitor's batch, -1 outside it.
        now: Present corrections.
        past: Earlier ones, for undo.
        future: Undone ones, for redo.
        truth: The mask that was given with the image, bool (H, W), or None.
    """

    image: str = ""
    name: str = ""
    example: str = ""
    row: int = -1
    file: str = ""
    now: Corrections = Corrections()
    past: tuple[Corrections, ...] = ()
    future: tuple[Corrections, ...] = ()
    truth: NDArray[np.bool_] | None = dataclasses.field(default=None, compare=False)

    @property
    def title(self) -> str:
        """What a report calls it."""
        return self.file or self.name

    def corrected(self, **changes: Any) -> View:
        """This view with other corrections; the present ones are kept for undo."""
        now = dataclasses.replace(self.now, **changes)
        if now == self.now:
            return self
        now = dataclasses.replace(now, clicks=now.clicks[-MAX_CLICKS:])
        past = (*self.past, self.now)[-MAX_CLICKS:]
        return dataclasses.replace(self, now=now, past=past, future=())

    def undone(self) -> View:
        """One change earlier."""
        if not self.past:
            return self
        future = (self.now, *self.future)
        return dataclasses.replace(self, now=self.past[-1], past=self.past[:-1], future=future)

    def redone(self) -> View:
        """One undone change later."""
        if not self.future:
            return self
        past = (*self.past, self.now)
        return dataclasses.replace(self, now=self.future[0], past=past, future=self.future[1:])


@dataclass(eq=False)
class Visitor:
    """One open page; all its events share this object and hold `lock` while they read and write it.

    Attributes:
        token: Secret by which the tab is known again after a reload.
        view: What is shown.
        settings: As the controls stand.
        preset: Which models run for it.
        parts: Good parts to compare with: keys of their images and names; they outlast the image that is shown.
        beside: Region, scale and profile of the part that is looked at, a `Part`; None for nothing.
        scaled: Whether colours are stretched to the image.
        batch: Its many images, None before the first.
        turn: Raised by everything that makes work under way unwanted.
        stopped: Whether Stop was pressed since.
        running: Whether something runs in the background for it.
        screen: What is shown, by part.
        news: Raised whenever `screen` changes.
        heard: When the tab last asked for anything, on the monotonic clock.
        views: Images of before by their keys, for Back.
        run_key: What the run under way encodes, as long as it looks at the end whether anything was changed; else ().
        awaited: The preset that is being loaded to take the place of the present one, "" where none is.
        limit_found: The limit that the good parts ask for; None without any.
        lent_name: The object's name as an example gave it, "" where none did.
    """

    token: str
    preset: str
    view: View = View()
    settings: Settings = field(default_factory=Settings)
    parts: tuple[tuple[str, str], ...] = ()
    beside: Any = None
    scaled: bool = False
    batch: Any = None
    turn: int = 0
    stopped: bool = False
    running: bool = False
    screen: dict[str, Any] = field(default_factory=dict)
    news: int = 0
    heard: float = field(default_factory=time.monotonic)
    views: dict[str, View] = field(default_factory=dict)
    run_key: tuple[Any, ...] = ()
    awaited: str = ""
    limit_found: float | None = None
    lent_name: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)
    _changed: dict[str, int] = field(default_factory=dict)

    @property
    def in_force(self) -> Settings:
        """The settings with the limit that the good parts ask for, unless the visitor named one."""
        if self.limit_found is None:
            return self.settings
        return self.settings.unless_given(verdict_threshold=self.limit_found)

    def show(self, parts: dict[str, Any]) -> None:
        """Put parts on the screen; those that are as before cost nothing."""
        with self.lock:
            for name, value in parts.items():
                if name in ONCE or self.screen.get(name) != value:
                    self.news += 1
                    self.screen[name] = value
                    self._changed[name] = self.news

    def since(self, seen: int) -> dict[str, Any]:
        """The parts that have changed since some news."""
        with self.lock:
            return {
                name: value for name, value in self.screen.items() if self._changed[name] > seen
            }

    def forget(self, prefix: str) -> None:
        """Take parts off the screen, by what their names begin with."""
        with self.lock:
            for name in [name for name in self.screen if name.startswith(prefix)]:
                del self.screen[name], self._changed[name]

    def turn_to(self) -> None:
        """The page is going to show another thing: what runs for it ends at its next step."""
        self.turn, self.stopped, self.running = self.turn + 1, False, False
        self.run_key, self.awaited = (), ""

    def unwanted(self) -> Callable[[], bool]:
        """Whether what begins now is not wanted any more, to be asked again and again."""
        turn = self.turn
        return lambda: self.stopped or self.turn != turn or self.is_gone

    def leave_lot(self) -> None:
        """The images of the lot are single ones from now on: their numbers mean others in the next."""
        self.view = dataclasses.replace(self.view, row=-1)
        self.views = {key: dataclasses.replace(v, row=-1) for key, v in self.views.items()}
        if "state" in self.screen:
            self.show({"state": {**self.screen["state"], "row": -1}})

    def give_name_back(self) -> None:
        """An object's name that came with an example means nothing for one's own images."""
        if self.lent_name and self.settings.object_name == self.lent_name:
            self.settings = self.settings.replace(object_name=None)
        self.lent_name = ""

    @property
    def others(self) -> int:
        """How many other images of its batch the one that is shown was compared with."""
        many = self.batch
        return len(many.rows) - 1 if many is not None and many.mutual and self.view.row >= 0 else 0

    @property
    def batch_is_old(self) -> bool:
        """Whether the rows of the batch belong to other settings, models, good parts or region than stand now.

        The limit decides anew by itself, and the number of tiles is a row's own.
        """
        many = self.batch
        if many is None:
            return False
        same: dict[str, Any] = {"verdict_threshold": 0.5, "tiles": "auto", "max_tiles": 4}
        return bool(
            many.preset != self.preset
            or many.parts != self.parts
            or many.beside is not self.beside
            or many.settings.replace(**same) != self.settings.replace(**same)
        )

    @property
    def is_busy(self) -> bool:
        """Whether something runs for it, so that there will be news."""
        batch = self.batch
        return self.running or (batch is not None and bool(batch.running or batch.looking))

    @property
    def is_gone(self) -> bool:
        """Whether the tab is closed, as far as can be told."""
        return time.monotonic() - self.heard > HEARD_WITHIN


class Visitors:
    """All visitors by their tokens; whoever was not heard of for hours is forgotten."""

    def __init__(self) -> None:
        self._visitors: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._visitors)

    def new(self, preset: str) -> Visitor:
        """A visitor who comes for the first time."""
        visitor = Visitor(secrets.token_urlsafe(18), preset)
        with self._lock:
            self._visitors[visitor.token] = visitor
            old = time.monotonic() - KEEP_SECONDS
            quiet = time.monotonic() - ASLEEP_AFTER
            for token, other in list(self._visitors.items()):
                if other.heard < old or len(self._visitors) > MOST:
                    del self._visitors[token]
                elif other.heard < quiet and not other.is_busy:
                    other.forget("zs-")  # pictures; keys, settings and corrections stay
        return visitor

    def known(self, token: str) -> Visitor | None:
        """The visitor of a token, None if there is none; this counts as being heard of."""
        with self._lock:
            visitor = self._visitors.pop(token, None)
            if visitor is not None:
                self._visitors[token] = visitor
                visitor.heard = time.monotonic()
            return visitor
