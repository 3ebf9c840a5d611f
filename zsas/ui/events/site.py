"""What all actions of the page share, how they are named, and how work goes on in the background."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from zsas.cancellation import Cancelled, until_cancelled
from zsas.errors import ZsasError
from zsas.part import Part
from zsas.ui import views
from zsas.ui.engine import Engine
from zsas.ui.examples import Examples
from zsas.ui.visitor import Visitor, Visitors

Parts = dict[str, Any]
"""Values by the id of the element that shows them; "state" is for the browser itself."""
WORKERS = 64
"""Threads for work in the background; most of them only wait in the line."""


def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(WORKERS, thread_name_prefix="page")


@dataclass(frozen=True)
class Site:
    """The page and what stands behind it.

    Attributes:
        engine: Models, images and encodings.
        examples: What a visitor may begin with.
        part: What belongs to the part that every visitor begins with; None for nothing.
    """

    engine: Engine
    examples: Examples
    part: Part | None = None
    visitors: Visitors = field(default_factory=Visitors)
    pool: ThreadPoolExecutor = field(default_factory=_pool)

    def start(self, visitor: Visitor, steps: Iterator[Parts]) -> None:
        """Show the parts of each step in the background, until the visitor turns to something else.

        Args:
            visitor: For whom; what ran for them before ends.
            steps: Begins when a thread is free.
        """
        with visitor.lock:
            visitor.turn_to()
            visitor.running = True
            unwanted = visitor.unwanted()
            turn = visitor.turn

        def work() -> None:
            try:
                for parts in until_cancelled(steps, unwanted):
                    with visitor.lock:
                        if unwanted():
                            break
                        visitor.show(parts)
            except Cancelled:
                pass
            except ZsasError as error:
                self._say(visitor, turn, views.sorry(str(error)))
            except Exception:
                logging.getLogger(__name__).exception("the page's work failed")
                sentence = "Something failed on the server, and its log says what. Try again."
                self._say(visitor, turn, views.sorry(sentence))
            finally:
                with visitor.lock:
                    if visitor.turn == turn:
                        visitor.running = False
                        visitor.news += 1

        # A ZeroGPU reads from the context for whom it works.
        self.pool.submit(contextvars.copy_context().run, work)

    def _say(self, visitor: Visitor, turn: int, verdict: str) -> None:
        with visitor.lock:
            if visitor.turn == turn:
                visitor.show({"zs-verdict": verdict})


Action = Callable[[Site, Visitor, Mapping[str, Any]], None]
ACTIONS: dict[str, Action] = {}
"""What the browser may call, by name."""


def action(function: Action) -> Action:
    """Make a function callable by its name; a `ZsasError` that it raises is shown to the visitor."""
    ACTIONS[function.__name__] = function
    return function


def act(site: Site, token: str, name: str, data: Mapping[str, Any], seen: int) -> dict[str, Any]:
    """Do what a tab asks for, and answer with the parts that have changed since it last heard."""
    visitor = site.visitors.known(token)
    if visitor is None:
        return {"gone": True}
    problem = ""
    try:
        if name not in ACTIONS:
            raise ZsasError(f"The page cannot do {name!r}; load it again.")
        ACTIONS[name](site, visitor, data)
    except ZsasError as error:
        problem = str(error)
    except Exception:
        logging.getLogger(__name__).exception("the action %s failed", name)
        problem = "Something failed on the server, and its log says what."
    if visitor.batch is not None:
        visitor.show({"batch-old": visitor.batch_is_old})
    return answer(visitor, seen, problem)


def answer(visitor: Visitor, seen: int, problem: str = "") -> dict[str, Any]:
    """What a tab is told: news since `seen`, and whether more is to come."""
    with visitor.lock:
        return {
            "news": visitor.news,
            "parts": visitor.since(seen),
            "busy": visitor.is_busy,
            "problem": problem,
        }
