"""A person's corrections: points, rejected findings, a verdict of their own; undo and redo."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from zsas.errors import ZsasError
from zsas.prompts import SPOT
from zsas.review import Review, holds
from zsas.systems import system_named
from zsas.ui import drawing, screen
from zsas.ui.events.image import decide, remember, result_of
from zsas.ui.events.site import Site, action
from zsas.ui.visitor import View, Visitor

MOST = 0.5
"""A click that marks a larger fraction of the image than this is offered, not taken."""


def _turn_to(site: Site, visitor: Visitor, view: View) -> None:
    with visitor.lock:
        if view is visitor.view:
            return
        visitor.view = view
        if view.row >= 0:
            remember(visitor)
    decide(site, visitor)


def _numbers(data: Mapping[str, Any]) -> tuple[float, float]:
    try:
        x, y = float(data["x"]), float(data["y"])
    except (KeyError, TypeError, ValueError):
        x = y = math.nan
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ZsasError("A place is x and y in pixels of the photo.")
    return x, y


@action
def click(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Say that a place is wrong or fine: {x, y, action}.

    The action is "plus", "minus", or "spot" for the place alone; {whole: true} where the whole object is meant.
    """
    image = site.engine.image(visitor.view.image)
    if image is None:
        raise ZsasError("This photo is no longer in memory; open it again.")
    x, y = _numbers(data)
    what = str(data.get("action"))
    if what == "plus" and not _outlines(visitor):
        what = "spot"
    view = screen.click(visitor.view, image.shape, x, y, what)
    adds = len(view.now.clicks) > len(visitor.view.now.clicks) and view.now.clicks[-1][2] == 1
    if adds and not data.get("whole") and _takes_most(site, visitor, view):
        visitor.show({"offer": {"x": x, "y": y}})
        return
    _turn_to(site, visitor, view)


def _outlines(visitor: Visitor) -> bool:
    """Whether the system draws an outline around a click; where it asks no SAM, a click means the spot."""
    settings = visitor.settings
    return "sam" in system_named(settings.system, settings.refiner).refiner.roles


def _takes_most(site: Site, visitor: Visitor, view: View) -> bool:
    """Whether one more point would mark most of the image, which hardly anybody means by a click."""
    result = None if visitor.running else result_of(site, visitor, view.now.clicks)
    if result is None:
        return False
    x, y, _ = view.now.clicks[-1]
    return any(
        region.area > MOST * result.mask.size and holds(region, int(x), int(y))
        for region in result.regions
    )


@action
def reject(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Say that a finding is none: {x, y} of a pixel in it."""
    x, y = _numbers(data)
    review = visitor.view.now.review
    places = (*review.rejected, (int(x), int(y)))
    _turn_to(site, visitor, _reviewed(visitor, dataclasses.replace(review, rejected=places)))


@action
def restore(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Take a rejection back: {x, y} of a pixel in the finding."""
    x, y = (int(value) for value in _numbers(data))
    review = visitor.view.now.review
    finding = _finding_at(site, visitor, x, y)
    left = tuple(
        place
        for place in review.rejected
        if place != (x, y) and (finding is None or not finding[place[1], place[0]])
    )
    _turn_to(site, visitor, _reviewed(visitor, dataclasses.replace(review, rejected=left)))


def _finding_at(site: Site, visitor: Visitor, x: int, y: int) -> Any:
    result = result_of(site, visitor)
    regions = result.regions if result is not None else ()
    return next((region.mask for region in regions if holds(region, x, y)), None)


@action
def verdict(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Give one's own verdict, or take the same one back: {verdict}."""
    word = data.get("verdict")
    review = visitor.view.now.review
    if word not in ("normal", "anomalous"):
        raise ZsasError("A verdict is normal or anomalous.")
    own: Any = "" if review.verdict == word else word
    _turn_to(site, visitor, _reviewed(visitor, dataclasses.replace(review, verdict=own)))


def _reviewed(visitor: Visitor, review: Review) -> View:
    return visitor.view.corrected(review=review)


@action
def undo(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """One correction earlier."""
    _turn_to(site, visitor, visitor.view.undone())


@action
def redo(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """One undone correction later."""
    _turn_to(site, visitor, visitor.view.redone())


@action
def preview(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """What a click would mark, shown while the pointer rests: {x, y}."""
    x, y = _numbers(data)
    now = None if visitor.running else result_of(site, visitor)
    clicks = (*visitor.view.now.clicks, (x, y, 1 if _outlines(visitor) else SPOT))
    result = None if now is None else result_of(site, visitor, clicks)
    if now is None or result is None:
        return
    more = result.mask & ~now.mask
    path = "" if more.mean() > MOST else drawing.path_of(more)
    visitor.show({"preview": {"x": x, "y": y, "path": path}})
