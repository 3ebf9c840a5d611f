"""The list of systems, made from the registry: what each needs, and which presets can run it on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from zsas.localizers.base import Localizer
from zsas.models import PRESETS, PUBLISHED, ModelChoice, Models, is_here
from zsas.models import backbones as brought
from zsas.systems import SYSTEMS, System

RUNS = "runs"


@dataclass(frozen=True)
class Entry:
    """One system as it is listed.

    Attributes:
        name: What a person types.
        title: What it is.
        paper: arXiv number, "" without one.
        localizers: Names of its ways to the map; the first that can run is taken.
        refiner: Name of its way to the mask.
        roles: Models that it needs.
        weights: Localizers that need learned weights; empty where one of its ways needs none.
        backbone: The CLIP that it brings under the preset `paper`, "" for the preset's.
        presets: For each preset `RUNS`, or in words what is missing here.
    """

    name: str
    title: str
    paper: str
    localizers: tuple[str, ...]
    refiner: str
    roles: tuple[str, ...]
    weights: tuple[str, ...]
    backbone: str
    presets: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def entries() -> list[Entry]:
    """All systems of the registry, and whether each can run on this machine now; nothing is downloaded or loaded."""
    return [_entry(name, system) for name, system in SYSTEMS.items()]


def _entry(name: str, system: System) -> Entry:
    needs = [part.name for part in system.localizers if part.weights]
    return Entry(
        name=name,
        title=system.title,
        paper=system.paper,
        localizers=tuple(part.name for part in system.localizers),
        refiner=system.refiner.name,
        roles=system.roles,
        weights=tuple(needs) if len(needs) == len(system.localizers) else (),
        backbone=next((part.backbone for part in system.localizers if part.backbone), ""),
        presets={preset: _missing(system, Models(ModelChoice(preset))) for preset in PRESETS},
    )


def _missing(system: System, models: Models) -> str:
    """`RUNS`, or what the preset lacks to run the system, in words."""
    lacking = [role for role in system.roles if not models.has(role)]
    if lacking:
        return f"no model for the role {lacking[0]}; --{lacking[0]} names one"
    able = [part for part in system.localizers if part.available(models)]
    if not able:
        return _without_weights(system.localizers[0], models)
    own = able[0].backbone
    if models.brings(own):
        if not brought.is_here(own):
            size = brought.BACKBONES[own].size_bytes / 1e6
            return f"fetches {own} when first asked for ({size:.0f} MB)"
        return RUNS
    further = models.lacking(system.roles)
    size = sum(one.size_bytes for one in further) / 1e6
    names = ", ".join(one.source for one in further)
    fetched = f"fetches {names} when first asked for ({size:.0f} MB)" if further else ""
    if not is_here(models.preset):
        fetch = f"zsas models fetch {models.preset.name} ({models.preset.size_bytes / 1e9:.1f} GB)"
        return f"{fetch}; then {fetched}" if fetched else fetch
    return fetched or RUNS


def _without_weights(part: type[Localizer], models: Models) -> str:
    """How to get the learned weights of a localizer."""
    # What is published was made for the paper's own models.
    published = _published(part) if models.preset.papers_own else []
    ways = [f"--weights {part.name}={name}" for name in published]
    ways += [f"zsas train adapters --system {part.trained_as}"] if part.trained_as else []
    return "no learned weights: " + (" or ".join(ways) or f"--weights {part.name}=FILE")


def _published(part: type[Localizer]) -> list[str]:
    return [name for name in PUBLISHED if name.partition(":")[0] == part.trained_as]


def table() -> str:
    """The systems as a table in Markdown, independent of this machine."""
    lines = [
        "| `--system` | what | paper | localizer | refiner | models | learned weights | CLIP of the preset `paper` |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, system in SYSTEMS.items():
        paper = f"[{system.paper}](https://arxiv.org/abs/{system.paper})" if system.paper else ""
        weights = [_origin(part) for part in system.localizers if part.weights]
        cells = (
            f"`{name}`",
            system.title,
            paper,
            " or ".join(f"`{part.name}`" for part in system.localizers),
            f"`{system.refiner.name}`",
            ", ".join(system.roles),
            " or ".join(weights) or "none",
            next((part.backbone for part in system.localizers if part.backbone), "the preset's"),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _origin(part: type[Localizer]) -> str:
    """Where the learned weights of a localizer come from."""
    published = [f"`{name}`" for name in _published(part)]
    shipped = [f"`{name}`" for name, preset in PRESETS.items() if part.name in preset.weights]
    found = [*published, *(f"shipped with {name}" for name in shipped)]
    return ", ".join([*found, "trained here"] if part.trained_as else found)
