"""What belongs to the part: the region that is drawn, millimetres per pixel, and the profile that holds it all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html import escape
from typing import Any

from zsas.errors import ZsasError
from zsas.models import PRESETS, ModelChoice
from zsas.part import Part
from zsas.region import RegionOfInterest
from zsas.scale import Scale, parse_smallest
from zsas.settings import Settings
from zsas.ui.events.image import beside_of, decide, memory_of, show_settings
from zsas.ui.events.site import Site, action
from zsas.ui.upload import uploaded
from zsas.ui.visitor import Visitor


@action
def region(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Look at what was drawn, or at everything: {region: JSON or null}."""
    values = data.get("region")
    looked_at = None
    if values:
        looked_at = RegionOfInterest.from_dict(values)
        image = site.engine.image(visitor.view.image)
        if image is not None:
            looked_at.on(*image.shape[:2])
    beside = beside_of(visitor)
    if beside.references and looked_at != beside.region:
        raise ZsasError(
            "The profile's good images belong to its own region; close the profile, or add good parts here, before "
            "you draw another one."
        )
    _turn_to(site, visitor, replace(beside, region=looked_at))


@action
def scale(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Say how large a pixel is, and what is too small to count: {mm, smallest}, texts; empty for unknown."""
    mm, smallest = (str(data.get(name, "")).strip() for name in ("mm", "smallest"))
    try:
        value = float(mm.replace(",", ".")) if mm else None
    except ValueError:
        raise ZsasError(f"Millimetres per pixel are {mm!r:.40}, but must be a number.") from None
    least = parse_smallest(smallest) if smallest else {}
    _turn_to(site, visitor, replace(beside_of(visitor), scale=Scale(value, **least)))


@action
def open_profile(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Open a profile that was uploaded: {path}."""
    part = Part.load(uploaded(data.get("path")))
    preset = part.models.preset or visitor.preset
    if part.weights and preset in PRESETS:
        part.memory(site.engine.segmenter(preset), part.settings)  # refuses other weights
        visitor.preset = preset
    with visitor.lock:
        visitor.settings, visitor.parts, visitor.limit_found = part.settings, (), None
        visitor.show({"zs-parts": ""})
        show_settings(visitor)
    # Its settings are the visitor's now, to be changed one by one; good images alone are bound to its models.
    weights = part.weights if part.references else ""
    _turn_to(site, visitor, replace(part, settings=Settings(), weights=weights))


@action
def close_profile(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Put the profile away; the settings stay."""
    _turn_to(site, visitor, Part())


def _turn_to(site: Site, visitor: Visitor, part: Part) -> None:
    with visitor.lock:
        visitor.beside = part
        visitor.show(shown(part))
    decide(site, visitor)


def shown(part: Part) -> dict[str, Any]:
    """What the page shows of a part."""
    words = []
    if part.name:
        words.append(f"<b>{escape(part.name)}</b>")
    if part.references:
        words.append(f"{len(part.references)} good images")
    if part.scale.mm_per_px:
        words.append(f"{part.scale.mm_per_px:g} mm per pixel")
    if part.scale.least_words:
        words.append(f"counts from {part.scale.least_words}")
    if part.region:
        words.append("a region of the photo")
    close = (
        '<button type="button" class="zs-x" data-do="close_profile" aria-label="Close the part profile">✕</button>'
        if part != Part()
        else ""
    )
    return {
        "zs-profile": ", ".join(words) + close,
        "region": part.region.to_dict() if part.region else None,
        "scale": {
            "zs-mm": f"{part.scale.mm_per_px:g}" if part.scale.mm_per_px else "",
            "zs-smallest": part.scale.least_words,
        },
    }


def profile(site: Site, visitor: Visitor) -> Part:
    """The profile of what is on the screen: settings, good parts, region, scale.

    Raises:
        ZsasError: If good parts cannot be remembered.
    """
    part, settings = beside_of(visitor), visitor.settings
    memory = memory_of(site, visitor)
    segmenter = site.engine.segmenter(visitor.preset)
    limit_from = part.limit_from
    if settings.given.get("verdict_threshold") is not None and not part.references:
        limit_from = "person"
    return replace(
        part,
        name=part.name or visitor.view.name[:80],
        settings=settings,
        references=part.references if memory is None else memory,
        models=ModelChoice(visitor.preset),
        weights=segmenter.weights(settings),
        limit_from=limit_from,
    )
