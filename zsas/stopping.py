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


def until_stopped(steps: Iterator[Item], stop: Callable[[], bool]) -> Iterator[Item]:
    """The steps of some work, ending early where it is not wanted any more.

    Args:
        steps: Each step may run in another thread, as gradio's do.
        stop: Asked after each step, and before each encoder block that a step runs in its own thread.

    Raises:
        Stopped: As soon as `stop` answers yes.
    """
    while True:
        _here.stop = stop
        try:
            step = next(steps)
            heed()
        except StopIteration:
            return
        finally:
            _here.stop = None
        yield step
