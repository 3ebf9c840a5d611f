"""Cancelling work between two blocks of an encoder."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_here = threading.local()


class Cancelled(Exception):
    """Raised in work that has been cancelled; caught where the work was started."""


def raise_if_cancelled(*_: object) -> None:
    """Raise `Cancelled` if what this thread does is not wanted any more; a forward pre-hook of encoder blocks."""
    stop = getattr(_here, "stop", None)
    if stop is not None and stop():
        raise Cancelled


def carried(work: Callable[[], Item]) -> Callable[[], Item]:
    """The same work for another thread, where it is cancelled as it would be in this one."""
    stop = getattr(_here, "stop", None)

    def run() -> Item:
        _here.stop = stop
        try:
            return work()
        finally:
            _here.stop = None

    return run


def cancellable(steps: Iterator[Item], stop: Callable[[], bool]) -> Iterator[Item]:
    """The steps of some work, in which `raise_if_cancelled` asks `stop`.

    Args:
        steps: Each step may run in another thread, as gradio's do.
        stop: Asked before each encoder block that a step runs in its own thread, and wherever else a step calls it.

    Raises:
        Cancelled: If a step that is not wanted any more does not catch it.
    """
    while True:
        _here.stop = stop
        try:
            step = next(steps)
        except StopIteration:
            return
        finally:
            _here.stop = None
        yield step


def until_cancelled(steps: Iterator[Item], stop: Callable[[], bool]) -> Iterator[Item]:
    """As `cancellable`, and also stops after each step; a step that was finished meanwhile is not passed on.

    Raises:
        Cancelled: As soon as `stop` answers yes.
    """
    for step in cancellable(steps, stop):
        if stop():
            raise Cancelled
        yield step
