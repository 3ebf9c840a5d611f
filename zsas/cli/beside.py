"""What a person gives beside the images: a part profile, a region, regions to ignore."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from zsas.settings import Settings

if TYPE_CHECKING:
    from zsas.models import ModelChoice
    from zsas.part import Part


def opened(
    file: str | None,
    settings: Settings,
    choice: ModelChoice,
    region: str | None,
    ignore: str | None,
) -> Part | None:
    """What belongs to the part, with everything that was named beside its profile in the place of the profile's own.

    Args:
        file: The profile.
        settings: Those that were given replace its own one by one.
        choice: Other models than its own, or the device alone.
        region: Another region than its own.
        ignore: What is to be ignored in it.

    Returns:
        None where nothing was given at all.

    Raises:
        ZsasError: If a file cannot be read.
    """
    if not (file or region or ignore):
        return None
    from zsas.part import Part
    from zsas.region import RegionOfInterest, load_regions

    looked_at = load_regions(region, ignore)
    if file is None:
        return Part(settings=settings, region=looked_at, models=choice)
    part = Part.load(file)
    if "verdict_threshold" in settings.given:
        part = replace(part, limit_from="person")
    if looked_at is not None and region is None:
        looked_at = (part.region or RegionOfInterest()).without(looked_at)
    return replace(
        part,
        settings=part.chosen(settings),
        models=part.choice(choice),
        region=part.region if looked_at is None else looked_at,
    )
