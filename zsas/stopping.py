"""Work that ends between two blocks of an encoder when nobody waits for it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

_here = threading.local()


class Stopped(Exception):
    """Nobody waits for this work any more; caught where it was started."""


def heed(*_: object) -> None:
    """Raise `Stopped` if what this thread does is not wanted any more; a forward pre-hook of encoder blocks."""
    stop = getattr(_here, "stop", None)
    if stop is not None and stop():
        raise Stopped


def heeding(steps: Iterator[Item], stop: Callable[[], bool]) -> Iterator[Item]:
    """The steps of some work, in which `heed` asks `stop`.

    Args:
        steps: Each step may run in another thread, as gradio's do.
        stop: Asked before each encoder block that a step runs in its own thread, and wherever else a step heeds it.

    Raises:
        Stopped: If a step that is not wanted any more does not catch it.
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


def until_stopped(steps: Iterator[Item], stop: Callable[[], bool]) -> Iterator[Item]:
    """As `heeding`, and ends after each step as well; the step that was just made is not shown any more.

    Raises:
        Stopped: As soon as `stop` answers yes.
    """
    for step in heeding(steps, stop):
        if stop():
            raise Stopped
        yield step
