"""A visitor of the page without a browser."""

from __future__ import annotations

import time

import numpy as np

from zsas.ui.events.image import show
from zsas.ui.events.site import Site
from zsas.ui.events.visit import hello
from zsas.ui.visitor import View, Visitor


def opened(site: Site, image: np.ndarray) -> Visitor:
    """A visitor who has opened an image and waited for its result."""
    visitor = site.visitors.known(hello(site, "", "")["token"])
    assert visitor is not None
    show(site, visitor, View(site.engine.keep_image(image), "part"))
    return settled(visitor)


def settled(visitor: Visitor) -> Visitor:
    """The visitor when nothing runs for them any more."""
    for _ in range(2000):
        if not visitor.running:
            return visitor
        time.sleep(0.01)
    raise AssertionError("it still runs")


def rested(visitor: Visitor) -> Visitor:
    """The visitor when no lot of theirs is looked at any more either."""
    for _ in range(2000):
        if not visitor.is_busy:
            return visitor
        time.sleep(0.01)
    raise AssertionError("it still runs")
