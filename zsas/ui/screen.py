"""What is on the screen, by part: from nothing, from stages on their way, from a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zsas.prompts import SPOT
from zsas.result import Result
from zsas.stages import Stage
from zsas.ui import drawing, views, why
from zsas.ui.address import to_query
from zsas.ui.good import GoodPlace
from zsas.ui.visitor import MAX_CLICKS, Click, View, Visitor

REACH = 0.035
"""A click this near to one's own point, as a fraction of the longest side, is meant for that point."""
LABELS = {"minus": 0, "plus": 1, "spot": SPOT}
"""What a click says, as the label of its point."""


def state(visitor: Visitor, done: bool) -> dict[str, Any]:
    """What the browser's part of the page has to know beside what it shows."""
    view = visitor.view
    return {
        "image": view.image,
        "name": view.name,
        "example": view.example,
        "row": view.row,
        "done": done,
        "undo": bool(view.past),
        "redo": bool(view.future),
        "query": query_of(visitor),
    }


def query_of(visitor: Visitor) -> str:
    """The address of the view; points belong to an image, and only an example's is known elsewhere."""
    view = visitor.view
    clicks = ";".join(f"{x:.0f},{y:.0f},{label}" for x, y, label in view.now.clicks)
    rejected = ";".join(f"{x},{y}" for x, y in view.now.review.rejected)
    own = bool(view.example)
    return to_query(
        visitor.settings,
        example=view.example,
        preset=visitor.preset,
        points=clicks if own else "",
        rejected=rejected if own else "",
    )


def opened(visitor: Visitor, image: Any = None, verdict: str = "") -> dict[str, Any]:
    """The screen of an image without a result, or of none, uint8 RGB (H, W, 3), with what stands for the verdict."""
    settings = visitor.settings
    shape = None if image is None else image.shape
    return {
        "zs-holder": "" if image is None else drawing.holder(visitor.view.image, image),
        "zs-viewer": "" if shape is None else why.viewer(shape, settings=settings),
        "zs-scale": "",
        "zs-verdict": verdict or views.welcome(len(visitor.parts)),
        "zs-findings": "",
        "zs-strip": why.strip(shape, (), settings),
        "zs-facts": "",
        "state": state(visitor, False),
    }


def on_the_way(visitor: Visitor, shape: Sequence[int], found: Sequence[Stage]) -> dict[str, Any]:
    """The screen after some of the stages."""
    settings, scaled = visitor.settings, visitor.scaled
    title, of = found[-1].spec.title.lower(), len(why.expected(found, settings))
    return {
        "zs-viewer": why.viewer(shape, found, settings=settings, scaled=scaled),
        "zs-verdict": views.busy(f"Stage {len(found)} of {of}: {title}"),
        "zs-strip": why.strip(shape, found, settings, scaled=scaled),
    }


def decided(
    visitor: Visitor, result: Result, good: Mapping[int, GoodPlace] | None = None
) -> dict[str, Any]:
    """The screen of a whole result, with the person's corrections in it.

    Args:
        visitor: Whose screen it is.
        result: With the person's decisions.
        good: See `views.findings`.
    """
    shape, scaled, settings = result.mask.shape, visitor.scaled, result.settings
    stages = result.stages
    return {
        "zs-holder": drawing.holder(visitor.view.image, result.image),
        "zs-viewer": why.viewer(shape, stages, result, settings=settings, scaled=scaled),
        "zs-scale": why.scale(result, scaled=scaled),
        "zs-verdict": views.verdict(result, visitor.view, len(visitor.parts), visitor.others),
        "zs-findings": views.findings(result, good),
        "zs-strip": why.strip(shape, stages, settings, result=result, scaled=scaled),
        "zs-facts": views.facts(result),
        "state": state(visitor, True),
    }


def click(view: View, shape: Sequence[int], x: float, y: float, action: str) -> View:
    """The view after a click on the image.

    Args:
        view: Before.
        shape: (H, W, ...) of the image.
        x: Image pixels.
        y: Image pixels.
        action: "plus", "minus" or "spot" adds a point, or removes the person's own point that lies under the click.
    """
    height, width = shape[:2]
    # Whole pixels, as an address has them, so that a link shows the same.
    x, y = round(min(max(float(x), 0.0), width - 1.0)), round(min(max(float(y), 0.0), height - 1.0))

    def distance(point: Click) -> float:
        return (point[0] - x) ** 2 + (point[1] - y) ** 2

    clicks = view.now.clicks
    near = min(clicks, key=distance, default=None)
    if near is not None and distance(near) <= (REACH * max(height, width)) ** 2:
        return view.corrected(clicks=tuple(point for point in clicks if point != near))
    return view.corrected(clicks=(*clicks, (x, y, LABELS.get(action, 1))))


def parse_points(text: str, shape: Sequence[int]) -> tuple[Click, ...]:
    """The clicks of an address, "x,y,label;…"; what cannot be read is left out."""
    height, width = shape[:2]
    found: list[Click] = []
    for piece in text.split(";")[:MAX_CLICKS]:
        try:
            x, y, label = (float(value) for value in piece.split(","))
        except ValueError:
            continue
        if 0 <= x < width and 0 <= y < height and label in LABELS.values():
            found.append((x, y, int(label)))
    return tuple(found)


def parse_places(text: str, shape: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """The rejected places of an address, "x,y;…"; what cannot be read is left out."""
    marked = ";".join(f"{piece},0" for piece in text.split(";"))
    return tuple((int(x), int(y)) for x, y, _ in parse_points(marked, shape))
