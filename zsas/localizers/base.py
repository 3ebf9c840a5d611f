"""What every localizer is: image → features (seconds), features → anomaly map and image score (milliseconds)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, Values, setting
from zsas.errors import ZsasError
from zsas.frames import Window
from zsas.stages import Boxes, HeatMap, Layer, Stage, StageSpec

if TYPE_CHECKING:
    import torch

    from zsas.backbones.session import SamSession
    from zsas.models import Models, Role

TOP_FRACTION = 0.001
"""The mean of this fraction of the pixels, those with the highest scores, is the map's part of the image score."""

MAP = StageSpec(
    "anomaly_map",
    "Anomaly map",
    "Map_a",
    "",
    "How anomalous each place looks, before anything is decided.",
)


@dataclass(frozen=True)
class ObjectSettings(SettingsGroup, key="object", title="Object"):
    """What is on the image; localizers whose text names it read this."""

    object_name: str = setting(
        "",
        "Object",
        'What is on the image, for the text prompts; empty means the word "object".',
    )


@dataclass(frozen=True)
class MapSettings(SettingsGroup, key="map", title="Anomaly map"):
    """How the anomaly map is made; every CLIP localizer reads it."""

    resolution: int = setting(
        0,
        "CLIP input size",
        "Side of the square that CLIP looks at, rounded down to whole patches.",
        low=0,
        high=1036,
        step=2,
        unit="px",
        encoding=True,
        zero="the localizer's own",
        floor=112,
    )
    blur: float = setting(
        4.0,
        "Map blur",
        "Gaussian blur of the anomaly map, as a standard deviation in a 518 px square.",
        low=0.0,
        high=32.0,
        step=0.1,
        unit="px at 518",
        symbol="σ",
    )


@dataclass(frozen=True)
class VerdictSettings(SettingsGroup, key="verdict", title="Verdict"):
    """Image score → verdict; read by the engine, whatever the system."""

    image_weight: float = setting(
        0.3,
        "Image-level CLIP score, weight",
        "Weight of CLIP's zero-shot score for the whole image in the image score; the rest is the mean of the "
        "highest thousandth of the anomaly map.",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    verdict_threshold: float = setting(
        0.7,
        "Limit",
        'Image score from which the verdict is "anomalous".',
        low=0.0,
        high=1.0,
        step=0.01,
    )
    unsure_band: float = setting(
        0.05,
        "Unsure within",
        'How near to the limit a score is called "unsure", on either side; 0 knows only two answers.',
        low=0.0,
        high=0.5,
        step=0.01,
    )
    unsure_as: Literal["anomalous", "normal"] = setting(
        "anomalous",
        "Unsure counts as",
        "What an unsure verdict is for exit codes and machines that need a yes or a no.",
    )


class Features(Protocol):
    """The features of one image; only the localizer that made them knows what is in them."""

    @property
    def nbytes(self) -> int:
        """Memory in bytes."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """A copy on another device; the features themselves if they are there already."""
        ...


@dataclass(frozen=True)
class Scored:
    """The anomaly map of one image and the evidence for its image score.

    Attributes:
        map: Map_a in the image's frame, float32 (H, W), in [0, 1]; read-only.
        evidence: Scores of the image as a whole, by name, from which `Localizer.image_score` makes one.
        stages: The localizer's stages; the anomaly map is the last one.
        inside: The region of interest, bool (H, W), read-only; None for all of them. The map is 0 elsewhere.
        patch: Side of the square of image pixels that one patch of the backbone covers; 0 if it has no patches.
        smooth: The map before it was drawn along the image's edges, as `map`; None if it was not drawn along them.
        answers: Cache of what was computed from the map alone, by name, for decisions with other settings.
    """

    map: NDArray[np.float32]
    evidence: Mapping[str, float]
    stages: tuple[Stage, ...]
    inside: NDArray[np.bool_] | None = None
    patch: float = 0.0
    smooth: NDArray[np.float32] | None = None
    answers: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def nbytes(self) -> int:
        """Memory of the maps, and of one mask that `answers` may hold, in bytes."""
        layers = {id(x): x for stage in self.stages for x in stage.layers}
        extra = [x.values.nbytes for x in layers.values() if isinstance(x, HeatMap)]
        smooth = 0 if self.smooth is None else self.smooth.nbytes
        return max(self.map.nbytes, sum(extra)) + smooth + self.map.size


@dataclass(frozen=True)
class Context:
    """What a localizer may use in addition to the features of the image.

    Attributes:
        image: uint8 RGB (H, W, 3).
        sam: SAM on this image; encodes it on first use.
        references: Features of reference images, made by the same localizer with the same settings. Given only to
            localizers that compare with them in the way of their paper (`Localizer.own_way`); for the others,
            `zsas.localizers.references` compares.
    """

    image: NDArray[np.uint8]
    sam: SamSession
    references: Sequence[Any] = ()


class Localizer(ABC):
    """Base of all localizers: image → anomaly map Map_a.

    Class attributes are its declaration:
        name: Identifier, used in `--weights NAME=FILE` and in results.
        title: What it does, in a few words.
        roles: Models that it needs, by role.
        settings: Groups of settings that it reads.
        stages: Stages that it yields, in order.
        weights: Whether it needs a file of learned weights of its own (`--weights NAME=FILE`).
        missing: The error if there is no such file, with `{clip}` for the CLIP's name; "": how to train one.
        tiled: Whether `encode` takes a third argument, the region of interest of each image, bool (H, W) or None;
            tiles wholly outside are then not encoded.
        own_references: Whether `score` itself compares with `Context.references`; see also `own_way`.
        trained_as: Its name for `zsas train adapters --system`; "" if it cannot be trained here.
        backbone: The CLIP of its paper, by its name in `zsas.models.backbones`; under the preset `paper` it replaces
            the preset's CLIP. "" uses the preset's everywhere.
        by_steps: Whether it runs the blocks of CLIP's vision tower one by one, which is possible in torch alone.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    roles: ClassVar[tuple[Role, ...]] = ("clip",)
    settings: ClassVar[tuple[type[SettingsGroup], ...]] = (ObjectSettings, MapSettings)
    stages: ClassVar[tuple[StageSpec, ...]] = (MAP,)
    weights: ClassVar[bool] = False
    missing: ClassVar[str] = ""
    tiled: ClassVar[bool] = False
    own_references: ClassVar[bool] = False
    trained_as: ClassVar[str] = ""
    backbone: ClassVar[str] = ""
    by_steps: ClassVar[bool] = False
    card: Any = None
    """What its weights were made for, a dataclass; None if it has no weights of its own."""

    def __init__(self, clip: Any = None, own: Any = None) -> None:
        """Make the localizer.

        Args:
            clip: The loaded CLIP backbone, for localizers with the role.
            own: Its own weights, as `read` returns them.
        """
        self.clip = clip

    @classmethod
    def available(cls, models: Models) -> bool:
        """Whether its weights are on this machine; of a system's localizers, the first available one runs."""
        return not cls.weights or models.weights(cls.name) is not None

    @classmethod
    def check(cls, models: Models) -> None:
        """Read its own small files of weights, before any model is fetched.

        Raises:
            ZsasError: If they are damaged.
        """
        if cls.weights and (file := models.weights(cls.name)):
            cls.read(file)

    @classmethod
    def read(cls, file: Path) -> Any:
        """Read a file of its own weights.

        Raises:
            ZsasError: If the file is damaged, or not one of this localizer.
        """
        return file

    @classmethod
    def load(cls, models: Models) -> Self:
        """Make the localizer from the loaded models and its own weights.

        Raises:
            ZsasError: If a model or its weights cannot be had, or do not fit together.
        """
        if not cls.weights:
            return cls(models.clip_for(cls)) if "clip" in cls.roles else cls()
        file = models.weights(cls.name)
        if file is None:
            missing = cls.missing or (
                f"The system {cls.name} needs trained weights; train some with `zsas train adapters --system "
                f"{cls.trained_as}`, or name a file with --weights {cls.name}=FILE."
            )
            raise ZsasError(missing.format(clip=models.clip_name))
        own = cls.read(file)  # before the CLIP, which may have to be fetched
        return cls(models.clip_for(cls), own)

    @abstractmethod
    def encode(self, images: Sequence[NDArray[np.uint8]], values: Values) -> list[Any]:
        """Run the encoders: the only step that costs seconds.

        Args:
            images: uint8 RGB (H, W, 3) each, of any sizes.
            values: The settings; only those with `encoding=True` may be read.

        Returns:
            `Features` of each image, in their order. See `tiled` for the third argument of some localizers.
        """

    @abstractmethod
    def score(self, features: Any, values: Values, context: Context) -> Scored:
        """Make the anomaly map and the evidence; text and reference images are used here.

        Args:
            features: From `encode`.
            values: The settings.
            context: What may be used in addition.
        """

    def own_way(self, values: Values) -> bool:
        """Whether, with these settings, `score` itself compares with `Context.references`, in the way of its paper."""
        return self.own_references

    def kept(
        self,
        features: Any,
        image: NDArray[np.uint8],
        inside: NDArray[np.bool_] | None,
        values: Values,
    ) -> Any:
        """What a memory keeps of a reference image; used where `own_way` is true.

        Args:
            features: Features of the image, limited to the region of interest.
            image: uint8 RGB (H, W, 3).
            inside: The region of interest, bool (H, W); None for the whole image.
            values: All settings.
        """
        return features

    @classmethod
    def pack(cls, features: Any) -> tuple[Mapping[str, torch.Tensor], Mapping[str, Any]]:
        """Features of a reference image as tensors by name and as JSON types, to be stored in a file.

        Raises:
            ZsasError: If the localizer cannot store them.
        """
        raise ZsasError("This system's memory of good images cannot be kept in a file.")

    @classmethod
    def unpack(cls, tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> Any:
        """The features that `pack` has stored."""
        raise ZsasError("This system's memory of good images cannot be kept in a file.")

    def image_score(self, evidence: Mapping[str, float], values: Values) -> float:
        """The image score: how anomalous the image is as a whole, in [0, 1].

        Settings that only decide which regions are marked do not change it.

        Args:
            evidence: From `score`, each in [0, 1]: `map`, the mean of the highest `TOP_FRACTION` of Map_a; `clip`,
                CLIP's zero-shot score of the whole image; `map_weight`, a further weight of `map`; with a batch,
                `batch`, the score from the comparison, and `batch_weight`, its weight. Reference images lower `map`
                with the map.
            values: The settings; `image_weight` is the weight of `clip`.
        """
        weight = values.of(VerdictSettings).image_weight if "clip" in evidence else 0.0
        score = (1.0 - weight) * evidence["map"] + weight * evidence.get("clip", 0.0)
        further = evidence.get("map_weight", 0.0)
        score = (1.0 - further) * score + further * evidence["map"]
        believed = evidence.get("batch_weight", 0.0)
        return (1.0 - believed) * score + believed * evidence.get("batch", 0.0)

    def resolution(self, values: Values) -> int:
        """Side of the backbone's square input in pixels, with these settings; 0 if it has no fixed one."""
        return 0

    def describe(self) -> Mapping[str, Any]:
        """The card of its weights, as JSON types."""
        return (
            {}
            if self.card is None
            else {f.name: getattr(self.card, f.name) for f in fields(self.card)}
        )

    def tensors(self) -> Sequence[torch.Tensor]:
        """Its learned weights, for the fingerprint of a run."""
        return ()


def top_mean(anomaly_map: NDArray[np.float32]) -> float:
    """Mean of the highest `TOP_FRACTION` of the pixels of a map, float32 (H, W), at least of one pixel."""
    count = max(1, round(anomaly_map.size * TOP_FRACTION))
    return float(np.partition(anomaly_map.ravel(), -count)[-count:].mean())


MAP_RANGE = re.compile(r"Map_a runs from \S+ to \S+ at \(\d+, \d+\)")
"""Matches what `map_range` returns."""


def map_range(anomaly_map: NDArray[np.float32]) -> str:
    """Lowest and highest value of a map, float32 (H, W), and the place of the highest, in words."""
    row, column = np.unravel_index(int(np.argmax(anomaly_map)), anomaly_map.shape)
    least, most = anomaly_map.min(), anomaly_map[row, column]
    return f"Map_a runs from {least:.2f} to {most:.2f} at ({column}, {row})"


def map_stage(anomaly_map: NDArray[np.float32], how: str, windows: Sequence[Window] = ()) -> Stage:
    """The stage of an anomaly map in the image's frame.

    Args:
        anomaly_map: float32 (H, W), in [0, 1].
        how: One clause that says how it was made, for example "CLIP compares each patch with words".
        windows: The tiles that it was made of; if there are several, they are drawn as a grid.
    """
    peak = float(anomaly_map.max())
    caption = f"{how}: {map_range(anomaly_map)}."
    layers: tuple[Layer, ...] = (HeatMap(anomaly_map),)
    data: dict[str, Any] = {"peak": round(peak, 6), "tiles": max(1, len(windows))}
    if len(windows) > 1:
        x0, y0, x1, y1 = windows[0]
        caption += f" It was looked at in {len(windows)} tiles of {x1 - x0} × {y1 - y0} px."
        layers = (*layers, Boxes(np.array(windows, np.float32)))
        data["tile_px"] = [x1 - x0, y1 - y0]
    return Stage(MAP, caption, layers, data)
