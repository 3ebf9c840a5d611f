"""SAA's features, the choice among a detector's boxes, and the map that is painted from masks with scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsas.frames import Window
from zsas.held import Held

if TYPE_CHECKING:
    import torch

    from zsas.backbones.detector import Detections, DetectorFeatures


@dataclass
class SaaFeatures(Held):
    """SAA's features of one image; the detector's answers to phrases are added when they are first needed.

    Attributes:
        seen: The image as the detector sees it, before any words.
        levels: Three feature maps of the image for the saliency, fp32 (C, g, g) and coarser; empty for saa.
        answers: Boxes by phrase, logits of masks by box, saliency maps by what they depend on; NumPy arrays.
    """

    seen: DetectorFeatures
    levels: tuple[torch.Tensor, ...] = ()
    answers: dict[Any, Any] = field(default_factory=dict)

    def keep(self, key: Any, make: Any) -> Any:
        """The value of a key, computed when it is first asked for."""
        if key not in self.answers:
            self.answers[key] = make()
        return self.answers[key]


@dataclass(frozen=True)
class Candidate:
    """An accepted box.

    Attributes:
        xyxy: float32 (4,), in image pixels, inside the image, x1 and y1 exclusive.
        score: The detector's, in [0, 1].
        area: Fraction of the image that the whole box would cover.
        words: What it answers to.
    """

    xyxy: NDArray[np.float32]
    score: float
    area: float
    words: str


@dataclass(frozen=True)
class Painted:
    """A mask with its score.

    Attributes:
        window: Where it lies, XYXY in image pixels; None if SAM found nothing.
        inside: bool, of the window's shape.
        score: Rescored.
    """

    window: Window | None
    inside: NDArray[np.bool_] | None
    score: float


def pick(
    boxes: Detections,
    image_hw: tuple[int, int],
    level: float,
    most_area: float,
    forbidden: str = "",
    word_level: float = 0.0,
) -> list[Candidate]:
    """Choose the boxes that count.

    Args:
        boxes: All boxes for one phrase.
        image_hw: Height and width of the image.
        level: Score that a box must exceed.
        most_area: Fraction of the image that a box must stay under.
        forbidden: A box whose words contain this is dropped; "" drops none.
        word_level: Probability from which on a box answers to a word.
    """
    height, width = image_hw
    limits = np.array([width, height, width, height], np.float32)
    found = []
    for i in np.flatnonzero((boxes.scores > level) & (boxes.areas > 0) & (boxes.areas < most_area)):
        words = boxes.phrase(int(i), word_level)
        xyxy = np.clip(boxes.xyxy[i], 0.0, limits)
        if (forbidden and forbidden in words) or (xyxy[2:] - xyxy[:2]).min() < 1.0:
            continue
        found.append(Candidate(xyxy, float(boxes.scores[i]), float(boxes.areas[i]), words))
    return found


def rescored(
    score: float,
    salient: NDArray[np.float32],
    mask: tuple[Window | None, NDArray[np.bool_] | None],
    strength: float,
) -> float:
    """A mask's score × exp(strength × mean saliency inside it); an empty mask keeps its score."""
    window, inside = mask
    if window is None or inside is None or not inside.any():
        return score
    x0, y0, x1, y1 = window
    return score * math.exp(strength * float(salient[y0:y1, x0:x1][inside].mean()))


def paint(masks: Sequence[Painted], height: int, width: int) -> NDArray[np.float32]:
    """Σ mask · score / (1 + Σ mask) for each pixel, float32 (H, W): a single mask paints half of its score."""
    total = np.zeros((height, width), np.float32)
    count = np.ones((height, width), np.float32)
    for one in masks:
        if one.window is None or one.inside is None:
            continue
        x0, y0, x1, y1 = one.window
        total[y0:y1, x0:x1] += np.float32(one.score) * one.inside
        count[y0:y1, x0:x1] += one.inside
    return total / count
