"""Models by role, loaded from a folder on first need.

`ModelChoice` is what a person has chosen, as plain values that can be sent to other processes; `Models` has the
backbones of that choice. Neither imports torch before a model or a device is asked for.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.errors import ZsasError
from zsas.models import hub
from zsas.models.backbones import folder_of_backbone
from zsas.models.hub import FILES, folder_of, is_checkpoint
from zsas.models.loaders import (
    load_clip,
    load_detector,
    load_features,
    load_saliency,
    load_sam,
)
from zsas.models.presets import POINT_FEATURES, Further, Role, default_preset, preset_named
from zsas.models.published import weights_file

if TYPE_CHECKING:  # at run time torch and transformers take seconds, and are not needed to say that a model is missing
    import torch

    from zsas.device import Precision, Runtime
    from zsas.localizers.base import Localizer


@dataclass(frozen=True)
class ModelChoice:
    """Which models run, and how: plain values that can be pickled, compared and written as JSON.

    Attributes:
        preset: Name of the preset, None for the default of this machine.
        clip: Another CLIP than the preset's: Hub id or folder.
        sam: Another SAM: Hub id, folder, or one of Meta's `.pth` files.
        weights: Trained weights by the localizer that reads them: a path, or the name of published ones.
        device: `cpu`, `cuda`, `mps`; the best there is if None.
        precision: Number format of the encoders: `auto`, `fp32`, `bf16` or `int8`.
        detector: Another detector than the preset's, boxes from text: Hub id or folder.
        saliency: Other features for saliency maps: Hub id, folder, or one of torchvision's `.pth` files.
        features: Another DINOv2 or ResNet for `point_features` than the usual one: Hub id or folder.
        drop_padding: Whether SAM's encoder leaves out the cells that show no image: quicker on images that are not
            square, with masks that differ a little.
        runtime: What runs the vision encoders: `torch`, `compile` (torch.compile), or `openvino` on a CPU (an extra).
    """

    preset: str | None = None
    clip: str | None = None
    sam: str | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    precision: Precision = "auto"
    detector: str | None = None
    saliency: str | None = None
    features: str | None = None
    drop_padding: bool = False
    runtime: Runtime = "torch"

    @property
    def sources(self) -> dict[Role, str]:
        """The models that were chosen, by role."""
        chosen: dict[Role, str | None] = {
            "clip": self.clip,
            "sam": self.sam,
            "detector": self.detector,
            "saliency": self.saliency,
            "features": self.features,
        }
        return {role: source for role, source in chosen.items() if source}

    def named(self) -> ModelChoice:
        """This choice with its preset by name: a default chosen in each process could differ."""
        return self if self.preset else replace(self, preset=default_preset())

    @property
    def name(self) -> str:
        """Name for results: the preset, or the ids of the models where one is another."""
        preset = self.preset or default_preset()
        if not self.sources:
            return preset
        further = [one for one in (self.detector, self.saliency, self.features) if one]
        return " + ".join([self.clip or preset, self.sam or preset, *further])

    @property
    def precision_note(self) -> str:
        """The note on the number format that goes into results; empty except under int8.

        The effect of int8 was measured with `tiny` in torch alone, which the note says for other models.
        """
        if self.precision != "int8":
            return ""
        measured = self.name == "tiny" and self.runtime == "torch"
        return "int8" if measured else "int8, unmeasured on these weights"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without what was not chosen."""
        found: dict[str, Any] = {
            "preset": self.preset,
            **{str(role): source for role, source in self.sources.items()},
            "weights": dict(self.weights),
            "device": self.device,
            "precision": self.precision,
            "drop_padding": self.drop_padding,
            "runtime": "" if self.runtime == "torch" else self.runtime,
        }
        return {name: value for name, value in found.items() if value}


def parse_weights(given: Sequence[str], adapter: str | None = None) -> dict[str, str]:
    """Weights from the command line.

    Args:
        given: Texts "localizer=file".
        adapter: The file for `linear`, under its flag of old.

    Raises:
        ZsasError: If a text has no such form, or one localizer is given two files.

    Example:
        >>> parse_weights(["anomalyclip=mine.safetensors"], "april-gan:visa")
        {'anomalyclip': 'mine.safetensors', 'linear': 'april-gan:visa'}
    """
    found: dict[str, str] = {}
    for text in [*given, *([f"linear={adapter}"] if adapter else [])]:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise ZsasError(
                f"The weights {text!r} must be given as LOCALIZER=FILE, as linear=april-gan:visa."
            )
        if name in found:
            raise ZsasError(f"The localizer {name} is given two files of weights; name one.")
        found[name] = file
    return found


class Models:
    """The backbones of a choice, each fetched and loaded when it is first needed.

    Args:
        choice: What was chosen; the default of this machine without.

    Raises:
        ZsasError: If there is no such preset.
    """

    def __init__(self, choice: ModelChoice | None = None) -> None:
        self.choice = (choice or ModelChoice()).named()
        self.preset = preset_named(self.choice.preset or "")
        self._loaded: dict[Role, Any] = {}
        self._brought: dict[str, Any] = {}
        self._patch_features: dict[str, Any] = {}
        self._lock = threading.RLock()

    # Before anything is fetched.

    def check(self) -> None:
        """Check device, precision, runtime and named weights, before anything is downloaded.

        Raises:
            ZsasError: If one is not possible here.
        """
        from zsas.device import check_runtime, encoder_dtype

        encoder_dtype(self.device, self.choice.precision)
        check_runtime(self.device, self.choice.runtime)
        for role, source in self.choice.sources.items():
            if is_checkpoint(source) and not os.path.isfile(os.path.expanduser(source)):
                what = "SAM checkpoint" if role == "sam" else f"file for the role {role},"
                raise ZsasError(f"There is no {what} {source}.")
        for localizer, name in self.choice.weights.items():
            file = self.weights(localizer)
            if file is not None and not os.path.isfile(file):
                raise ZsasError(
                    f"There is no file {name} with weights for {localizer}; name a .safetensors file or one that "
                    "its makers have published."
                )

    @cached_property
    def device(self) -> torch.device:
        """Where the models run.

        Raises:
            ZsasError: If the chosen device is none of this machine.
        """
        from zsas.device import pick_device

        return pick_device(self.choice.device)

    def has(self, role: Role) -> bool:
        """Whether there is a model for a role."""
        return role in self.choice.sources or self.preset.has(role)

    def lacking(self, roles: Sequence[Role]) -> list[Further]:
        """The models for these roles that belong to single systems and are not on disk yet."""
        return [
            one
            for role, one in self.preset.further.items()
            if role in roles
            and role not in self.choice.sources
            and not hub.is_model_here(role, one.source)
        ]

    def source(self, role: Role) -> str:
        """Hub id, folder or file of the model for a role.

        Raises:
            ZsasError: If the preset names none.
        """
        return self.choice.sources.get(role) or self.preset.source(role)

    def weights(self, localizer: str) -> Path | None:
        """The file with a localizer's trained weights; None if there is none.

        What was chosen comes first (published ones are downloaded now, they are small), then what lies in the folder
        of a CLIP of one's own, then what the preset ships.

        Raises:
            ZsasError: If published weights cannot be had.
        """
        if localizer in self.choice.weights:
            return weights_file(self.choice.weights[localizer])
        if self.choice.clip:
            return weights_beside(self.choice.clip, localizer)
        return self.preset.weights.get(localizer)

    @property
    def clip_name(self) -> str:
        """The CLIP's name in the cards of trained weights; it does not change when a folder is moved."""
        if not self.choice.clip:
            return self.preset.clip_name or self.source("clip")
        beside = weights_beside(self.choice.clip, "linear")
        return (made_for(beside) if beside else "") or self.choice.clip

    # Fetching and loading.

    def fetch(self, *roles: Role) -> None:
        """Download the models for these roles if they are not on disk.

        Raises:
            ZsasError: If one cannot be had; within seconds where the Hub cannot be reached.
        """
        hub.fetch(self.preset, roles=roles, others=self.choice.sources)

    def fetch_for(self, roles: Sequence[Role], localizers: Sequence[type[Localizer]]) -> None:
        """Download everything a system needs that is not on disk: its models by role, and its paper's own CLIP.

        Args:
            roles: Of the system.
            localizers: Its ways to the map.

        Raises:
            ZsasError: If one cannot be had.
        """
        for kind in self._bringing(localizers):
            folder_of_backbone(kind.backbone, kind.name)
        self.fetch(*self.roles_here(roles, localizers))

    def roles_here(
        self, roles: Sequence[Role], localizers: Sequence[type[Localizer]]
    ) -> tuple[Role, ...]:
        """The roles that the preset's models fill for a system; not `clip` if the system has its paper's own CLIP."""
        own = self._bringing(localizers)
        return tuple(role for role in roles if role != "clip" or not own)

    def _bringing(self, localizers: Sequence[type[Localizer]]) -> list[type[Localizer]]:
        return [kind for kind in localizers if self.brings(kind.backbone)]

    def load(self, *roles: Role) -> None:
        """Load the models for these roles.

        All are on disk before the first is loaded. The largest is loaded first: what loading takes beside the loaded
        weights is then lowest at its peak.

        Raises:
            ZsasError: If one cannot be had or is damaged.
        """
        with self._lock:
            missing = [role for role in roles if role not in self._loaded]
            self.fetch(*missing)
            for role in sorted(missing, key=self._bytes, reverse=True):
                self._loaded[role] = self._load(role)

    def _bytes(self, role: Role) -> int:
        """Size on disk."""
        path = Path(os.path.expanduser(self.source(role)))
        if not is_checkpoint(str(path)):
            path = folder_of(self.source(role), FILES[role], self.preset.name)
        files = [path] if path.is_file() else path.iterdir()
        return sum(file.stat().st_size for file in files if file.is_file())

    def _load(self, role: Role) -> Any:
        how: dict[str, Any] = {
            "wanted_for": self.preset.name,
            "device": self.device,
            "precision": self.choice.precision,
        }
        run: dict[str, Any] = {"runtime": self.choice.runtime}
        if role == "clip":
            return load_clip(self.source(role), name=self.clip_name, **how, **run)
        if role == "sam":
            dropped = self.choice.drop_padding
            return load_sam(self.source(role), **how, **run, drop_padding=dropped)
        if role == "detector":
            return load_detector(self.source(role), **how)
        assert role == "saliency"  # "features" are loaded by kind, see `patch_features`
        return load_saliency(self.source(role), **how)

    def _get(self, role: Role) -> Any:
        self.load(role)
        return self._loaded[role]

    @property
    def clip(self) -> Any:
        """Text and patch features, a `ClipBackbone`."""
        return self._get("clip")

    def brings(self, backbone: str) -> bool:
        """Whether a localizer's own backbone takes the place of the preset's CLIP."""
        return bool(backbone) and self.preset.papers_own and not self.choice.clip

    def clip_for(self, localizer: type[Localizer]) -> Any:
        """The CLIP that a localizer runs on: its own paper's under the preset `paper`, the preset's elsewhere.

        Raises:
            ZsasError: If it cannot be had.
        """
        name = localizer.backbone
        if not self.brings(name):
            return self.clip
        with self._lock:
            if name not in self._brought:
                folder = folder_of_backbone(name, localizer.name)
                self._brought[name] = load_clip(
                    str(folder),
                    name=name,
                    wanted_for=self.preset.name,
                    device=self.device,
                    precision=self.choice.precision,
                    runtime=self.choice.runtime,
                )
            return self._brought[name]

    @property
    def sam(self) -> Any:
        """Masks from prompts, a `zsas.backbones.sam.Sam`."""
        return self._get("sam")

    @property
    def detector(self) -> Any:
        """Boxes from text, a `zsas.backbones.detector.Detector`."""
        return self._get("detector")

    def source_of_features(self, kind: str) -> str:
        """Hub id or folder of the backbone that stands in for SAM's features in eq. 4.

        Args:
            kind: One of `zsas.models.presets.POINT_FEATURES`.

        Raises:
            ZsasError: If the preset fetches nothing and no folder is named.
        """
        if self.choice.features:
            return self.choice.features
        if self.preset.bundled:
            raise ZsasError(
                f"The preset {self.preset.name!r} brings no {kind} for the point features and fetches nothing; name a "
                "folder or Hub id with --features, choose another preset, or take SAM's (point_features: sam)."
            )
        return POINT_FEATURES[kind].source

    def patch_features(self, kind: str) -> Any:
        """A backbone for eq. 4, a `zsas.backbones.patch_features.PatchBackbone`, loaded on first need.

        Raises:
            ZsasError: If it cannot be had, or is of another kind.
        """
        with self._lock:
            if kind not in self._patch_features:
                self._patch_features[kind] = load_features(
                    self.source_of_features(kind),
                    kind=kind,
                    wanted_for=self.preset.name,
                    device=self.device,
                    precision=self.choice.precision,
                )
            return self._patch_features[kind]

    @property
    def saliency(self) -> Any:
        """Features for saliency maps, a `zsas.backbones.resnet.ResNetFeatures`."""
        return self._get("saliency")


def weights_beside(clip: str, localizer: str = "linear") -> Path | None:
    """Trained weights in the folder of a CLIP, exported with it: `adapter.safetensors` for the linear layers."""
    name = "adapter" if localizer == "linear" else localizer
    file = Path(os.path.expanduser(clip)) / f"{name}.safetensors"
    return file if os.path.isfile(file) else None


def made_for(weights: Path) -> str:
    """The backbone that the card in a safetensors file names; "" where it cannot be read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="np") as file:
            return (file.metadata() or {}).get("backbone", "")
    except (SafetensorError, OSError):  # who reads the weights themselves says so
        return ""
