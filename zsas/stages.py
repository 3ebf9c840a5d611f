"""Stages: how components declare and return what they computed, for page, export, Ray and docs.

A stage is declared once, beside the code that computes it. Its result is a caption and a few layers, which one
raster drawer (`zsas.draw`) and one page drawer (`zsas.ui.drawing`) know how to draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsas.prompts import Points


@dataclass(frozen=True)
class HeatMap:
    """A layer: a map drawn in colours.

    Attributes:
        values: float32, shape = (H, W), in [0, 1].
    """

    values: NDArray[np.float32]


@dataclass(frozen=True)
class Area:
    """A layer: a mask that is tinted, faintly tinted, hatched, outlined, or shown with all else darkened.

    Attributes:
        mask: bool, shape = (H, W).
        style: How it is drawn.
    """

    mask: NDArray[np.bool_]
    style: Literal["fill", "faint", "hatch", "line", "spot"] = "fill"


@dataclass(frozen=True)
class PointMarks:
    """A layer: point prompts, each drawn as a plus or a minus."""

    points: Points


@dataclass(frozen=True)
class Boxes:
    """A layer: boxes drawn as lines.

    Attributes:
        xyxy: float32, shape = (n, 4), in image pixels, x1 and y1 exclusive.
    """

    xyxy: NDArray[np.float32]


Layer = HeatMap | Area | PointMarks | Boxes


@dataclass(frozen=True)
class StageSpec:
    """Declaration of one stage.

    Attributes:
        name: Identifier, also of the exported file.
        title: A few words.
        symbol: The paper's symbol, "" where it has none.
        equations: Numbers of the paper's equations, "" where it has none.
        preview: What it is going to show, one sentence.
        absent: Why it may have nothing to show, one sentence.
    """

    name: str
    title: str
    symbol: str
    equations: str
    preview: str
    absent: str = "Left out: there was nothing to do."


@dataclass(frozen=True, eq=False)
class Stage:
    """The result of one stage on one image.

    Attributes:
        spec: Its declaration.
        caption: What was decided, one or two sentences.
        layers: What is drawn over the image, from below.
        data: Facts for `result.json`, JSON types.
    """

    spec: StageSpec
    caption: str
    layers: tuple[Layer, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Stage {self.name}: {self.caption}>"

    @property
    def name(self) -> str:
        """The name of its declaration."""
        return self.spec.name

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """The mask of its topmost layer that is an area, bool (H, W); None if there is none."""
        return next((x.mask for x in reversed(self.layers) if isinstance(x, Area)), None)

    @property
    def heat(self) -> NDArray[np.float32] | None:
        """The values of its heat map, float32 (H, W); None if there is none."""
        return next((x.values for x in self.layers if isinstance(x, HeatMap)), None)


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number with its noun: "1 point", "3 points"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def area_words(mask: NDArray[np.bool_]) -> str:
    """Pixels of a mask and their fraction of the image: "512 px (1.2 %)"."""
    area = int(np.count_nonzero(mask))
    return f"{area} px ({100 * area / mask.size:.1f} %)"


def marking_level(stages: Iterable[Stage], otherwise: float) -> float:
    """The marking level as a value of the map, from the stage that carries it; None if no stage does."""
    return next((float(s.data["level"]) for s in stages if "level" in s.data), otherwise)
