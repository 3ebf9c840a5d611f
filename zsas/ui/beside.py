"""What a call brings beside its image: good images, a region, a part profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zsas.errors import ZsasError
from zsas.images import ReadImage, read_image
from zsas.localizers.references import References
from zsas.models import PRESETS, ModelChoice
from zsas.part import Part
from zsas.region import RegionOfInterest
from zsas.settings import Settings
from zsas.ui.engine import Engine
from zsas.ui.values import WrongValue

MOST_REFERENCES = 16
"""Good images in one call; a profile may hold more."""


@dataclass(frozen=True)
class Beside:
    """What belongs to the part that a call is about.

    Attributes:
        references: Good images.
        part: Settings of the call, region, scale, and remembered good images.
        names: Of the good images.
    """

    references: tuple[ReadImage, ...]
    part: Part
    names: tuple[str, ...] = ()

    def memory(self, engine: Engine, preset: str) -> Any:
        """The good images of the call, remembered; None where it brings none."""
        if not self.references:
            return None
        settings, region = self.part.settings, self.part.region
        memory = engine.remember_apart(preset, self.references, settings, region)
        # What is remembered is kept by content; the names are those of this call.
        named = isinstance(memory, References) and len(memory) == len(self.names)
        return replace(memory, names=self.names) if named else memory


def preset_for(part: Part | None, usual: str) -> str:
    """The preset of a call that names none: its profile's where it is one of the page's."""
    if part is None or part.models == ModelChoice():
        return usual
    preset = part.models.preset
    return preset if preset in PRESETS and not part.models.sources else usual


def read_part(source: bytes | Path | None) -> Part | None:
    """A profile that was sent.

    Raises:
        WrongValue: If it is none.
    """
    return None if not source else _named("part", lambda: Part.load(source))


def read_beside(
    settings: Settings,
    part: Part | None = None,
    references: Sequence[tuple[str, bytes | Path]] = (),
    region: str | bytes = b"",
    ignore: str | bytes = b"",
) -> Beside:
    """Read and check what a call brings.

    Args:
        settings: Those that the call names; they replace the profile's own one by one.
        part: From `read_part`.
        references: Names and files of good images.
        region: JSON, or an image file that is white where to look; empty for none.
        ignore: The same for what to leave out of sight.

    Raises:
        WrongValue: On what cannot be read; names the parameter.
    """
    if len(references) > MOST_REFERENCES:
        raise WrongValue(
            "references",
            f"There are {len(references)} good images, but at most {MOST_REFERENCES} go with a call; a part profile "
            "may hold more.",
        )
    read = tuple(_reference(name, source) for name, source in references)
    look = _named("region", lambda: _region(region, ignore=False))
    away = _named("ignore", lambda: _region(ignore, ignore=True))
    whole = part or Part()
    looked_at = look or whole.region or RegionOfInterest()
    looked_at = _named("ignore", lambda: looked_at.without(away))
    kept = None if read else whole.references
    chosen = whole.chosen(settings)
    part = replace(whole, settings=chosen, region=looked_at or None, references=kept)
    return Beside(read, part, tuple(name for name, _ in references))


def _region(value: str | bytes, *, ignore: bool) -> RegionOfInterest:
    data = value.encode() if isinstance(value, str) else value
    return RegionOfInterest.from_bytes(data, ignore=ignore) if data.strip() else RegionOfInterest()


def _reference(name: str, source: bytes | Path) -> ReadImage:
    try:
        return read_image(source)
    except ZsasError as error:
        sentence = str(error).replace(str(source), name) if isinstance(source, Path) else str(error)
        sentence = sentence.replace("The image", f"The good image {name}", 1)
        raise WrongValue("references", sentence) from None


def _named(parameter: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except ZsasError as error:
        raise WrongValue(parameter, str(error)) from None
