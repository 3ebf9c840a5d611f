"""Beside each finding the most similar place of a person's good parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from zsas.localizers.references import References
from zsas.result import Result
from zsas.review import place_in
from zsas.ui.drawing import ROOT, is_speck
from zsas.ui.engine import Engine

MOST = 12
"""Findings beyond these get no place: nobody reads so far."""


@dataclass(frozen=True)
class GoodPlace:
    """A place on a good part.

    Attributes:
        key: Of its image in `Engine`.
        name: What it is called.
        size: Width and height of its image in pixels.
        xy: The place in pixels of its image.
    """

    key: str
    name: str
    size: tuple[int, int]
    xy: tuple[float, float]


def good_places(
    engine: Engine,
    parts: tuple[tuple[str, str], ...],
    encoding: Any,
    memory: Any,
    result: Result,
) -> Mapping[int, GoodPlace]:
    """For each large finding, by its number, where the good parts look most like it.

    Args:
        engine: Keeps the images of the good parts.
        parts: Keys and names of the good parts.
        encoding: Of the image.
        memory: What the good parts look like.
        result: Of the image.
    """
    features = getattr(encoding, "features", None)
    if not isinstance(memory, References) or len(memory) != len(parts) or features is None:
        return {}
    from zsas.localizers.nearest import nearest_places

    regions = [r for r in result.regions if not is_speck(r, result.mask.shape)][:MOST]
    points = [place_in(region, result) for region in regions]
    found = {}
    for region, place in zip(regions, nearest_places(features, memory, points), strict=False):
        key, name = parts[place.image]
        image = engine.image(key)
        if image is not None:
            height, width = image.shape[:2]
            found[region.id] = GoodPlace(
                key, name, (width, height), (place.x * width, place.y * height)
            )
    return found


def named(result: Result, parts: Sequence[tuple[str, str]]) -> Result:
    """The result with the names that the good parts have on the page: the engine knows their pixels alone."""
    names = dict(parts)
    known = tuple((names.get(key, name), key) for name, key in result.references)
    return result if known == result.references else replace(result, references=known)


def crop(place: GoodPlace, fraction: float) -> str:
    """The place as a small drawing, `fraction` of its image's longest side wide."""
    width, height = place.size
    side = fraction * max(width, height)
    x, y = place.xy
    return (
        f'<svg viewBox="{x - side / 2:.1f} {y - side / 2:.1f} {side:.1f} {side:.1f}" aria-hidden="true">'
        f'<image href="{ROOT}image/{place.key}.jpg" width="{width}" height="{height}" '
        'preserveAspectRatio="none"/></svg>'
    )


def pair(finding: str, place: GoodPlace, fraction: float) -> str:
    """A finding and the good part's most similar place, large and side by side; shown with the chosen finding.

    Args:
        finding: The finding's crop as SVG.
        place: The good part's.
        fraction: Width of both, of the longest side of their images.
    """
    return (
        f'<div class="zs-pair-of"><figure>{finding}<figcaption>here</figcaption></figure>'
        f"<figure>{crop(place, fraction)}<figcaption>most like it on the good part "
        f"<b>{escape(place.name)}</b></figcaption></figure></div>"
    )
