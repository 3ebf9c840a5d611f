"""The registry: a system pairs a localizer (image → anomaly map) with a refiner (anomaly map → mask) in one line.

The engine, the interfaces and the docs know no system by name; whatever is added to `SYSTEMS` appears in all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from zsas.declare import Setting, SettingsGroup, setting
from zsas.errors import ZsasError
from zsas.localizers.anomalyclip import AnomalyClip
from zsas.localizers.anomalyvfm import AnomalyVfm
from zsas.localizers.base import Localizer, VerdictSettings
from zsas.localizers.linear import Linear
from zsas.localizers.saa import Saa, SaaPlus
from zsas.localizers.sdp import Sdp
from zsas.localizers.sdp_plus import SdpPlus
from zsas.localizers.umci import UmciLocalizer
from zsas.localizers.visualad import VisualAd
from zsas.localizers.vv import VV
from zsas.localizers.winclip import WinClip
from zsas.models.presets import Role
from zsas.refiners.base import Refiner
from zsas.refiners.cascade import Cascade
from zsas.refiners.fine import FINE, FineSettings
from zsas.refiners.mmr import Mmr
from zsas.refiners.none import NoRefiner
from zsas.stages import StageSpec


@dataclass(frozen=True)
class SystemSettings(SettingsGroup, key="system", title="System"):
    """Which system runs."""

    system: str = setting(
        "auto",
        "System",
        "Which method makes the anomaly map and the mask; auto takes trained linear layers wherever some fit the "
        "loaded CLIP, V-V attention elsewhere, and the cascade after either.",
        encoding=True,
    )
    refiner: str = setting(
        "own",
        "Refiner",
        "What turns the anomaly map into a mask: the system's own way, or another one.",
    )


Part = type[Localizer] | type[Refiner]


@dataclass(frozen=True)
class System:
    """One line of the registry.

    Attributes:
        title: What it is, in a few words.
        localizers: Make the anomaly map; the first one that the loaded models can run is used.
        refiner: Makes the mask from the map.
        paper: Citation key of its paper: an arXiv number, "" where there is none.
        defaults: Values of settings that differ from their own defaults.
    """

    title: str
    localizers: tuple[type[Localizer], ...]
    refiner: type[Refiner]
    paper: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its localizers and its refiner."""
        return (*self.localizers, self.refiner)

    @property
    def settings_groups(self) -> tuple[type[SettingsGroup], ...]:
        """The groups of settings that it reads, each once, in the order of the stages."""
        groups = [group for part in self.parts for group in part.settings]
        return tuple(dict.fromkeys((SystemSettings, *groups, FineSettings, VerdictSettings)))

    @property
    def stages(self) -> tuple[StageSpec, ...]:
        """The stages that it can yield, in order."""
        *first, last = dict.fromkeys(stage for part in self.parts for stage in part.stages)
        return (*first, FINE, last) if self.defaults.get("fine_detail") else (*first, last)

    @property
    def roles(self) -> tuple[Role, ...]:
        """The models that it needs, by role."""
        return tuple(dict.fromkeys(role for part in self.parts for role in part.roles))


_NATIVE = {
    "tiles": "auto",
    "edge_radius": 0.75,
    "threshold_mode": "adaptive",
    "sam_crops": "auto",
    "fine_detail": True,
    "mask_level": 0.6,
}
"""Defaults of `auto`: CLIP and SAM see large and long images at their own resolution; the map is drawn along the
image's edges; the marking level is found for each map; the score map is sharpened; map and SAM's mask decide the
final mask together. Systems of papers keep their papers' square frame, smooth map, fixed level, and SAM's masks.
"""

_PAPERS_OWN = {"prompting": "joint", "min_overlap": 0.0}
"""Eqs 1 to 12 as printed: all points in one prompt, every mask kept."""

_APRIL_GAN = {"blur": 0.0, "image_weight": 1.0, "verdict_threshold": 0.5, "few_shot": "published"}
"""No blur; the image score is CLIP's alone; reference images enter map and score in the paper's own form."""

_WINCLIP = {"blur": 0.0, "image_weight": 1.0, "threshold": 0.5, "verdict_threshold": 0.5}
"""No blur; the image score is CLIP's alone."""

_SDP = {"blur": 17.3, "image_weight": 0.5, "threshold": 0.5, "verdict_threshold": 0.5}
"""A blur of 8 px at 240; the image score is the mean of CLIP's and the map's."""

_ANOMALYCLIP = {"image_weight": 1.0, "threshold": 0.5, "verdict_threshold": 0.5}
"""A blur of 4 px at 518, as ours; the image score is CLIP's alone."""

_CLIPSAM = {"threshold": 0.5, "verdict_threshold": 0.5}
"""The map is binarised at 0.5; our reading."""

_ANOMALYVFM = {"blur": 0.0, "image_weight": 1.0, "threshold": 0.5, "verdict_threshold": 0.5}
"""No blur beside the mean filter; the image score is the predictor's alone."""

_VISUALAD = {"image_weight": 0.0, "threshold": 0.5, "verdict_threshold": 0.5}
"""A blur of 4 px at 518, as ours; the image score is the map's highest hundredth."""

_SAA = {
    "saa_box_level": 0.2,
    "saa_word_level": 0.2,
    "threshold": 0.1,
    "verdict_threshold": 0.15,
}
"""The levels of its authors' demonstration; a single mask paints half of its box's score."""

_SAA_PLUS = {"threshold": 0.1, "verdict_threshold": 0.15}
"""The level at which a box of the lowest accepted score, with some saliency in it, is still marked."""

SYSTEMS: dict[str, System] = {
    "auto": System(
        "The paper's method as tuned here", (Linear, VV), Cascade, "2510.11028", _NATIVE
    ),
    "paper": System("The paper's method as printed", (Linear,), Cascade, "2510.11028", _PAPERS_OWN),
    "vv": System("V-V attention, no training, with the cascade", (VV,), Cascade),
    "april-gan": System("APRIL-GAN", (Linear,), NoRefiner, "2305.17382", _APRIL_GAN),
    "winclip": System("WinCLIP", (WinClip,), NoRefiner, "2303.14814", _WINCLIP),
    "sdp": System("SDP (CLIP-AD)", (Sdp,), NoRefiner, "2311.00453", _SDP),
    "sdp+": System("SDP+ (CLIP-AD)", (SdpPlus,), NoRefiner, "2311.00453", _SDP),
    "anomalyclip": System("AnomalyCLIP", (AnomalyClip,), NoRefiner, "2310.18961", _ANOMALYCLIP),
    "clipsam": System("ClipSAM, our reading", (UmciLocalizer,), Mmr, "2401.12665", _CLIPSAM),
    "anomalyvfm": System("AnomalyVFM", (AnomalyVfm,), NoRefiner, "2601.20524", _ANOMALYVFM),
    "visualad": System("VisualAD", (VisualAd,), NoRefiner, "2603.07952", _VISUALAD),
    "saa": System("SAA, our reading", (Saa,), NoRefiner, "2305.10724", _SAA),
    "saa+": System("SAA+", (SaaPlus,), NoRefiner, "2305.10724", _SAA_PLUS),
}

OWN_REFINER = "own"


def refiners() -> dict[str, type[Refiner]]:
    """All refiners of the registry by name."""
    return {system.refiner.name: system.refiner for system in SYSTEMS.values()}


def localizers() -> dict[str, type[Localizer]]:
    """All localizers of the registry by name."""
    return {part.name: part for system in SYSTEMS.values() for part in system.localizers}


def system_named(name: str, refiner: str = OWN_REFINER) -> System:
    """The system of that name, with another refiner if one is named.

    Raises:
        ZsasError: If there is no such system or refiner.
    """
    if name not in SYSTEMS:
        raise ZsasError(f"There is no system {name!r}; choose {', '.join(SYSTEMS)}.")
    system = SYSTEMS[name]
    if refiner == OWN_REFINER:
        return system
    if refiner not in refiners():
        raise ZsasError(f"There is no refiner {refiner!r}; choose {', '.join(refiners())}.")
    return replace(system, refiner=refiners()[refiner])


def settings_groups() -> tuple[type[SettingsGroup], ...]:
    """The settings groups of all systems, each once: map first, verdict last."""
    parts: list[Part] = [*localizers().values(), *refiners().values()]
    groups = [group for part in parts for group in part.settings]
    return tuple(dict.fromkeys((SystemSettings, *groups, FineSettings, VerdictSettings)))


def with_choices(one: Setting) -> Setting:
    """A declaration with the choices that only the registry knows."""
    if one.name == "system":
        return replace(one, choices=tuple(SYSTEMS))
    if one.name == "refiner":
        return replace(one, choices=(OWN_REFINER, *refiners()))
    return one
