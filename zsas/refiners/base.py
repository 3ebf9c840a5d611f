"""The base class of refiners (anomaly map → mask and score map), and the settings that refiners share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, Values, setting
from zsas.prompts import Click, Points
from zsas.stages import Area, HeatMap, Stage, StageSpec

if TYPE_CHECKING:
    from zsas.backbones.session import SamSession
    from zsas.localizers.base import Scored
    from zsas.models import Role

ThresholdMode = Literal["absolute", "adaptive", "relative", "quantile", "otsu"]
Fusion = Literal["weighted", "mask", "map"]

FUSED = StageSpec(
    "fused", "Score map", "result", "", "Mask and anomaly map together make the score map."
)


@dataclass(frozen=True)
class MarkSettings(SettingsGroup, key="mark", title="Marking"):
    """Anomaly map → region."""

    threshold: float = setting(
        0.55,
        "Marking level",
        "Where the anomaly map becomes the extreme region S_a; read as the threshold mode says.",
        low=0.0,
        high=1.0,
        step=0.01,
        symbol="S_a",
        overrides=("threshold_mode", "adaptive"),
    )
    threshold_mode: ThresholdMode = setting(
        "absolute",
        "Marking level is",
        "The marking level is a value of the map, found for each image from its map (adaptive), a fraction of its "
        "maximum, a quantile of its pixels, or Otsu's; under adaptive and otsu the number has no effect.",
        symbol="S_a",
    )


@dataclass(frozen=True)
class FusionSettings(SettingsGroup, key="fusion", title="Fusion"):
    """Masks and map → score map."""

    fusion: Fusion = setting(
        "weighted",
        "Fusion",
        "The score map is a weighted mean of mask and anomaly map, SAM's mask alone, or the anomaly map alone.",
    )
    fusion_weight: float = setting(
        0.5,
        "Mask weight",
        "Weight of SAM's mask in the weighted score map; the rest is the anomaly map.",
        low=0.0,
        high=1.0,
        step=0.05,
    )


@dataclass(frozen=True)
class Refined:
    """What a refiner decides.

    Attributes:
        mask: bool, shape = (H, W), the final mask.
        score_map: float32, shape = (H, W), in [0, 1].
        stage: The last stage: score map and mask.
        points: All point prompts.
        provenance: What the mask is made of: names of steps, and "region" if it contains a region as it was marked.
    """

    mask: NDArray[np.bool_]
    score_map: NDArray[np.float32]
    stage: Stage
    points: Points
    provenance: tuple[str, ...] = ()


def refined_inside(refined: Refined, inside: NDArray[np.bool_]) -> Refined:
    """The decision with mask and score map set to nothing outside the region of interest, bool (H, W)."""
    score_map = np.where(inside, refined.score_map, np.float32(0))
    layers = tuple(
        HeatMap(score_map)
        if isinstance(layer, HeatMap)
        else Area(layer.mask & inside, layer.style)
        if isinstance(layer, Area)
        else layer
        for layer in refined.stage.layers
    )
    return replace(
        refined,
        mask=refined.mask & inside,
        score_map=score_map,
        stage=replace(refined.stage, layers=layers),
    )


class Refiner(ABC):
    """Finds the edge: Map_a → mask.

    Class attributes are its declaration; see `zsas.localizers.base.Localizer`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    roles: ClassVar[tuple[Role, ...]] = ()
    settings: ClassVar[tuple[type[SettingsGroup], ...]] = (MarkSettings,)
    stages: ClassVar[tuple[StageSpec, ...]] = (FUSED,)

    @abstractmethod
    def refine(
        self, scored: Scored, sam: SamSession, values: Values, clicks: Sequence[Click]
    ) -> Iterator[Stage | Refined]:
        """The stages as they are found, then the decision.

        Args:
            scored: The localizer's map.
            sam: SAM on the image; encodes it on first use.
            values: The settings.
            clicks: A person's points.
        """


def pixel_of(click: Sequence[float], shape: tuple[int, ...]) -> tuple[int, int]:
    """Row and column of the pixel under a click (x, y); a click outside the image counts at its border."""
    return (
        min(max(round(float(click[1])), 0), shape[0] - 1),
        min(max(round(float(click[0])), 0), shape[1] - 1),
    )


def fuse(
    anomaly_map: NDArray[np.float32], soft: NDArray[np.float32], fusion: Fusion, weight: float
) -> NDArray[np.float32]:
    """The score map: a weighted mean of SAM's soft mask and the anomaly map, or one of the two.

    The paper reports AUROC and AP, which need a continuous map, but does not say how its masks become one; this is our
    choice, measured in `docs/benchmark.md`.

    Args:
        anomaly_map: Map_a, float32 (H, W), in [0, 1].
        soft: SAM's masks as one map, float32 (H, W), in [0, 1].
        fusion: Which of the three.
        weight: Weight of the soft mask in the weighted mean.

    Returns:
        float32 (H, W) in [0, 1].
    """
    weight = {"map": 0.0, "mask": 1.0, "weighted": weight}[fusion]
    return cv2.addWeighted(anomaly_map, 1.0 - weight, soft, weight, 0.0)


def fused_stage(
    score_map: NDArray[np.float32],
    mask: NDArray[np.bool_],
    caption: str,
    level: float | None = None,
) -> Stage:
    """The last stage: the score map in colours with the outlined mask.

    Args:
        score_map: float32 (H, W), in [0, 1].
        mask: The final mask, bool (H, W).
        caption: How the score map was made.
        level: The marking level, if no earlier stage carries it.
    """
    data = {} if level is None else {"level": round(level, 6)}
    return Stage(FUSED, caption, (HeatMap(score_map), Area(mask, "line")), data)
