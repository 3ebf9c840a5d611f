"""What the engine runs on: models loaded by role on first need, localizers on them, and one cache."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self

from zsas.backbones.session import Answers, SamSession
from zsas.beside import OWN_WAY, check_given
from zsas.cache import ByteBudgetCache
from zsas.declare import declared
from zsas.encoding import BESIDE_CORES, Encoders, Encoding
from zsas.errors import ZsasError
from zsas.images import ImageSource, several
from zsas.lazy import torch
from zsas.localizers.base import Localizer
from zsas.models import ModelChoice, Models
from zsas.refiners.base import Refiner
from zsas.settings import Settings, settings_or_usual
from zsas.systems import localizers as registered_localizers
from zsas.systems import system_named

if TYPE_CHECKING:
    from zsas.backbones.clip import ClipBackbone
    from zsas.backbones.sam import Sam, SamFeatures
    from zsas.device import Precision, Runtime
    from zsas.region import RegionOfInterest

ENCODING_BYTES = 1_000_000_000
"""Default budget of the cache of encodings and maps."""
ANSWER_BYTES = 48 * 2**20
"""Budget of the cache of SAM's answers: enough for two decisions at full size, or dozens with the preset tiny."""


class Loaded:
    """Loads models and localizers when they are first needed, and holds the caches; base of `zsas.Segmenter`.

    Args:
        models: The backbones, loaded by role on first need.
        localizers: Localizers that are loaded already; others are loaded from `models` when they are asked for.
        cache_bytes: Budget of the cache of encodings and maps.
        system: Name of the system that runs where no settings are given.

    Raises:
        ZsasError: If there is no such system, or the models are none.
    """

    def __init__(
        self,
        models: Models,
        *,
        localizers: Iterable[Localizer] = (),
        cache_bytes: int = ENCODING_BYTES,
        system: str = "auto",
    ) -> None:
        if not hasattr(models, "choice"):
            raise ZsasError(
                'A segmenter is made of loaded models: Segmenter.from_preset("tiny") loads those of a preset.'
            )
        self.models = models
        # A system that is named counts as given, and would replace that of a part's profile.
        self.defaults = Settings() if system == Settings().system else Settings(system=system)
        self._encoders = Encoders(cache_bytes)
        self._answers = Answers(min(ANSWER_BYTES, cache_bytes))
        self._localizers = {localizer.name: localizer for localizer in localizers}
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._weights: dict[str, str] = {}
        self.models_key = json.dumps(models.choice.to_dict(), sort_keys=True)

    def __repr__(self) -> str:
        where = f"{self.models.choice.name} on {self.models.device}"
        return f"<{type(self).__name__}: {where}, system {self.defaults.system}>"

    def __reduce__(self) -> NoReturn:
        raise ZsasError(
            "A segmenter cannot be copied, pickled or sent to another process; load it there, as with "
            'Segmenter.from_preset("tiny").'
        )

    def _chosen(self, settings: Settings | None) -> Settings:
        """Those that were given, or the usual ones; see `settings_or_usual`."""
        return settings_or_usual(settings, self.defaults)

    @classmethod
    def from_preset(
        cls,
        preset: str | None = None,
        *,
        clip: str | Path | None = None,
        sam: str | Path | None = None,
        detector: str | Path | None = None,
        saliency: str | Path | None = None,
        features: str | Path | None = None,
        adapter: str | Path | None = None,
        weights: Mapping[str, str | Path] | None = None,
        device: str | None = None,
        precision: Precision = "auto",
        drop_padding: bool = False,
        runtime: Runtime = "torch",
        cache_bytes: int = ENCODING_BYTES,
        system: str = "auto",
    ) -> Self:
        """Load a preset, with any of its parts replaced.

        Args:
            preset: Name of a preset; `paper` where there is a GPU and `tiny` elsewhere if None.
            clip: Another CLIP: Hub id or folder; an `adapter.safetensors` in the folder is used with it.
            sam: Another SAM: Hub id, folder, or one of Meta's `.pth` files.
            detector: Another detector for SAA: Hub id or folder.
            saliency: Other features for SAA+'s saliency: Hub id, folder, or one of torchvision's `.pth` files.
            features: Another DINOv2 or ResNet for `point_features`: Hub id or folder.
            adapter: Linear layers for the CLIP: a file, or `april-gan:mvtec` / `april-gan:visa` for the published ones.
            weights: Files of learned weights by localizer, as {"anomalyclip": "prompts.safetensors"}.
            device: `cpu`, `cuda`, `mps`; the best there is if None.
            precision: Number format of the encoders: `auto` (bf16 where the hardware has it), `fp32`, `bf16` or `int8`.
            drop_padding: See `ModelChoice`.
            runtime: See `ModelChoice`.
            cache_bytes: Budget of the cache.
            system: Name of the system that is loaded now, and that runs where no settings are given.

        Raises:
            ZsasError: If there is no such system, a model cannot be had or an adapter does not fit.
        """
        files = {name: str(file) for name, file in (weights or {}).items()}
        if adapter:
            files["linear"] = str(adapter)
        chosen = {
            "clip": clip,
            "sam": sam,
            "detector": detector,
            "saliency": saliency,
            "features": features,
        }
        sources = {role: str(source) for role, source in chosen.items() if source}
        choice = ModelChoice(
            preset,
            weights=files,
            device=device,
            precision=precision,
            drop_padding=drop_padding,
            runtime=runtime,
            **sources,
        )
        return cls.from_choice(choice, settings=Settings(system=system), cache_bytes=cache_bytes)

    @classmethod
    def from_choice(
        cls,
        choice: ModelChoice,
        *,
        settings: Settings | None = None,
        cache_bytes: int = ENCODING_BYTES,
    ) -> Self:
        """Load the models of a choice.

        Args:
            choice: Which models, and how.
            settings: Their system is loaded now, and runs where no settings are given; any other system is loaded when
                it is first used.
            cache_bytes: Budget of the cache.

        Raises:
            ZsasError: If a model cannot be had or weights do not fit.
        """
        settings = settings_or_usual(settings)
        readers = {name for name, kind in registered_localizers().items() if kind.weights}
        unknown = sorted(set(choice.weights) - readers)
        if unknown:
            raise ZsasError(
                f"There is no localizer {unknown[0]!r} with weights; name {', '.join(sorted(readers))}."
            )
        models = Models(choice)
        # Device, number format and files are checked before anything is downloaded.
        models.check()
        system = system_named(settings.system, refiner=settings.refiner)
        for kind in system.localizers:
            kind.check(models)
        models.fetch_for(system.roles, system.localizers)
        models.load(*models.roles_here(system.roles, system.localizers))
        segmenter = cls(models, cache_bytes=cache_bytes, system=settings.system)
        segmenter.localizer(settings)
        return segmenter

    @property
    def answers(self) -> Answers | None:
        """The cache of SAM's last answers: after a click or a change of the level most prompts are the same.

        None on a GPU: there, prompts are decoded together, and the last bits of an answer depend on the other prompts.
        """
        return self._answers if self.models.device.type == "cpu" else None

    @property
    def cache(self) -> ByteBudgetCache[Any]:
        """Encodings and anomaly maps, by the content of the image."""
        return self._encoders.cache

    @property
    def images_encoded(self) -> dict[str, int]:
        """How many images each encoder has been run on, by the encoder's name."""
        return self._encoders.images_encoded

    @property
    def preset(self) -> str:
        """Name of the preset, or of the models that replace its parts."""
        return self.models.choice.name

    @property
    def clip(self) -> ClipBackbone:
        """The CLIP of the preset."""
        return self.models.clip

    @property
    def sam(self) -> Sam:
        """The SAM of the preset."""
        return self.models.sam

    def localizer(self, settings: Settings) -> Localizer:
        """The localizer that runs with these settings: the first one of the system that the loaded models can run.

        Raises:
            ZsasError: If the models lack what the system needs.
        """
        candidates = system_named(settings.system).localizers
        with self._lock:
            kind = next((k for k in candidates if self._can_run(k)), candidates[-1])
            if kind.name not in self._localizers:
                self._localizers[kind.name] = kind.load(self.models)
            return self._localizers[kind.name]

    def _can_run(self, kind: type[Localizer]) -> bool:
        return kind.name in self._localizers or kind.available(self.models)

    def refiner(self, settings: Settings) -> Refiner:
        """The refiner that runs with these settings."""
        return system_named(settings.system, refiner=settings.refiner).refiner()

    def describe(self, settings: Settings) -> dict[str, Any]:
        """Which models and components run with these settings, as JSON types; `models` of a result."""
        localizer = self.localizer(settings)
        note = self.models.choice.precision_note
        kind = settings.point_features if "point_features" in settings.used() else "sam"
        found: dict[str, Any] = {
            "preset": self.preset,
            "localizer": localizer.name,
            "refiner": self.refiner(settings).name,
            localizer.name: dict(localizer.describe()),
        }
        if note:
            found["precision"] = note
        if self.models.choice.drop_padding:
            found["drop_padding"] = True
        if (runtime := self.models.choice.runtime) != "torch":
            by_steps = runtime == "openvino" and localizer.by_steps
            found["runtime"] = f"{runtime}; CLIP in torch, by steps" if by_steps else runtime
        if kind != "sam":
            found["point_features"] = self.models.source_of_features(kind)
        return found

    def _begin(
        self,
        images: Sequence[ImageSource],
        settings: Settings,
        region: RegionOfInterest | None = None,
        *,
        with_sam: bool = False,
    ) -> list[Encoding]:
        """`begin` of some images; SAM encodes them beside the localizer where it is wanted and there are the cores."""
        self._check_process()
        images = several(images)
        check_given(region=region)
        how = (self.localizer(settings), self.made_by(settings), settings, region)
        with_sam = with_sam and self.models.device.type == "cpu"
        if images and with_sam and torch.get_num_threads() >= BESIDE_CORES:
            return self._encoders.begin_both(images, *how, self.sam)
        return self._encoders.begin(images, *how)

    def _session(self, encoding: Encoding, answers: Answers | None = None) -> SamSession:
        """SAM on an encoded image, for one or several decisions.

        Args:
            encoding: Gets SAM's features when they are first needed.
            answers: Cache of SAM's answers; the shared one by default.

        Raises:
            ZsasError: If the image is not encoded.
        """
        if not isinstance(encoding, Encoding):
            raise ZsasError(
                "An encoded image was expected here, as Segmenter.encode makes it, but this is of the type "
                f"{type(encoding).__name__}."
            )

        def features() -> SamFeatures:
            self._encoders.add_sam([encoding], lambda: self.sam)
            assert encoding.sam is not None
            return encoding.sam.to(self.sam.device)

        return SamSession(
            lambda: self.sam,
            features,
            answers=answers or self.answers,
            about=(encoding.key,),
            others=lambda kind: self._encoders.others(
                encoding, kind, lambda: self.models.patch_features(kind)
            ),
            crops=lambda windows: [
                features.to(self.sam.device)
                for features in self._encoders.crops(encoding, windows, lambda: self.sam)
            ],
        )

    def weights(self, settings: Settings) -> str:
        """Fingerprint of the weights of the localizer that runs with some settings."""
        name = self.localizer(settings).name
        if name not in self._weights:
            from zsas.fingerprint import fingerprint

            self._weights[name] = fingerprint(self, [settings], sam=False)
        return self._weights[name]

    def made_by(self, settings: Settings) -> tuple[Any, ...]:
        """What an encoding depends on: models, localizer, resolution, and its settings with `encoding=True`."""
        localizer = self.localizer(settings)
        values = [
            getattr(settings, setting.name)
            for group in localizer.settings
            for setting in declared(group)
            if setting.encoding
        ]
        return (self.models_key, localizer.name, localizer.resolution(settings), *values)

    def remembered_by(self, settings: Settings) -> tuple[Any, ...]:
        """What a memory of reference images depends on; `made_by`, marked where the localizer itself compares."""
        own = [OWN_WAY] if self.localizer(settings).own_way(settings) else []
        return (*self.made_by(settings), *own)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ZsasError(
                "These models were loaded before the process was forked, and PyTorch's threads do not survive a fork; "
                "load them in the child, or start it with the method 'spawn'."
            )
