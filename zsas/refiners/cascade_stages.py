"""The cascade's stages: their declarations, the targets and steps that they are computed from, and their captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from zsas.frames import Piece, SamFrame, Window
from zsas.prompts import Click, Masks, Points, Prompt
from zsas.refiners.base import FusionSettings
from zsas.refiners.marking import Marked
from zsas.refiners.masks import mask_in_window, overlap, union
from zsas.stages import Area, Boxes, Layer, PointMarks, Stage, StageSpec, area_words, counted

Shape = tuple[int, ...]
"""Height and width of the image."""

REGION = StageSpec(
    "region_and_ring",
    "Region and ring",
    "S_a, N_a",
    "1, 3",
    "What is above the marking level, and the ring around it.",
)
_UNASKED = "Not needed: nothing of the map is above the marking level, so SAM is not asked."
_SHORT = "Left out: SAM is not asked, or the cascade stops before."

POINTS = StageSpec(
    "points",
    "Points",
    "P_h, P_l",
    "2, 4 to 8",
    "The highest pixels of the region, and the ring's most different ones.",
    _UNASKED,
)
M1 = StageSpec("m1", "First mask", "M1", "9", "SAM draws from the points.", _UNASKED)
M2 = StageSpec(
    "m2",
    "Second mask",
    "M2",
    "10",
    "SAM draws again, from the points and its first answer.",
    _SHORT,
)
BOX = StageSpec("box", "Box", "box", "11", "The tight box around the second mask.", _SHORT)
M3 = StageSpec(
    "m3", "Third mask", "M3", "12", "SAM draws from points, box and its second answer.", _SHORT
)


@dataclass(frozen=True)
class Step:
    """The mask of one decoder call with the highest predicted IoU.

    Attributes:
        name: `M1`, `M2` or `M3`.
        logits: Its low-resolution logits, float32, in the decoder's own frame.
        iou: Its predicted IoU.
        piece: The mask in the part of the image that it can touch; None if it is empty.
    """

    name: str
    logits: NDArray[np.float32]
    iou: float
    piece: Piece | None

    @property
    def box(self) -> NDArray[np.float32] | None:
        """Eq. 11: the tight box of the mask, XYXY in image pixels, x1 and y1 exclusive; None if it is empty."""
        tight = None if self.piece is None else self.piece.tight()
        return None if tight is None else np.array(tight.window, np.float32)


@dataclass
class Target:
    """One cascade of decoder calls.

    Attributes:
        points: P of eq. 8, and a person's clicks.
        region: The region it is about; None if a person clicked on it: then SAM's mask need not agree with the map.
        peak: Highest value of Map_a in the region, in [0, 1].
        frame: The geometry in SAM of the image, or of the window `crop`.
        clicks: The person's clicks among the points.
        crop: The close-up window that SAM sees, XYXY in image pixels; None for the whole image.
        steps: The steps so far: M1, M2, M3.
    """

    points: Points
    region: Piece | None
    peak: float
    frame: SamFrame
    clicks: tuple[Click, ...] = ()
    crop: Window | None = None
    steps: list[Step] = field(default_factory=list)

    def prompt(
        self,
        box: NDArray[np.float32] | None = None,
        logits: NDArray[np.float32] | None = None,
    ) -> Prompt:
        """The question to the decoder: P, and what the calls before have found.

        Args:
            box: XYXY in image pixels, x1 and y1 exclusive, float32 (4,).
            logits: Of the step before, float32 (h, w).
        """
        return Prompt(self.points.xy, self.points.labels, box, logits, crop=self.crop)

    @property
    def kept(self) -> Step | None:
        """The last step whose mask is not empty, so that an empty M3 does not discard M2; None if all are empty."""
        return next((step for step in reversed(self.steps) if step.piece is not None), None)

    def overlap(self, step: Step | None) -> float:
        """Fraction of a step's mask that lies inside the region, in [0, 1]; 1 if a person clicked on the region."""
        if self.region is None:
            return 1.0
        if step is None or step.piece is None:
            return 0.0
        return overlap(step.piece, self.region)

    def confidence(self, step: Step) -> float:
        """Mask confidence in [0, 1]: peak of Map_a in the region × predicted IoU × overlap; 1 for a clicked region."""
        if self.region is None:
            return 1.0
        return self.peak * min(max(step.iou, 0.0), 1.0) * self.overlap(step)


def take(
    name: str,
    targets: Sequence[Target],
    answers: Sequence[Masks],
    inside: NDArray[np.bool_] | None,
) -> None:
    """Make each answer the next step of its cascade: of its three masks the one with the highest predicted IoU.

    Args:
        name: Of the step: `M1`, `M2` or `M3`.
        targets: The cascades.
        answers: The decoder's answer to each.
        inside: The region of interest, bool (H, W), or None for all; a mask ends with them.
    """
    for target, answer in zip(targets, answers, strict=True):
        best = int(np.argmax(answer.iou))
        logits = answer.logits[best]
        window, mask = mask_in_window(logits, target.frame, inside)
        piece = None if window is None or mask is None else Piece(window, mask)
        target.steps.append(Step(name, logits, float(answer.iou[best]), piece))


# Stages and their captions.


def region_stage(
    marked: Marked,
    pieces: int,
    ring: NDArray[np.bool_],
    shape: str,
    kernel: int,
    clicked: bool,
) -> Stage:
    """Eqs 1 and 3: what is above the marking level, in how many pieces, and the ring around it."""
    region = marked.region
    if pieces:
        caption = (
            f"{area_words(region)} in {counted(pieces, 'piece')} of the map are above {marked.words}; dilated by "
            f"{kernel} px ({shape}), it leaves the hatched ring of {area_words(ring)}."
        )
    else:
        asked = "SAM is asked about your clicks alone" if clicked else "SAM is not asked"
        caption = f"Nothing of the map is above {marked.words}, so {asked}."
    data = {
        "area": int(np.count_nonzero(region)),
        "ring_area": int(np.count_nonzero(ring)),
        "kernel_px": kernel,
        "level": round(marked.level, 6),
    }
    return Stage(REGION, caption, (Area(ring, "hatch"), Area(region)), data)


def points_stage(
    region: NDArray[np.bool_], points: Points, whose: str, targets: Sequence[Target]
) -> Stage:
    """Eqs 2 and 4 to 8: the points, and the frames of the regions that SAM looks at closer."""
    clicks = points.source.count("click")
    caption = (
        f"{counted(points.source.count('map'), 'positive point')} (+) where the map is highest in the region, "
        f"{counted(points.source.count('ring'), 'negative point')} (−) where {whose} features in the ring differ most "
        "from it"
    )
    caption += f"; {counted(clicks, 'click')} of yours in squares." if clicks else "."
    layers: tuple[Layer, ...] = (Area(region, "line"), PointMarks(points))
    close = [target for target in targets if target.crop is not None]
    if not close:
        return Stage(POINTS, caption, layers)
    windows = sorted({target.crop for target in close if target.crop is not None})
    caption += f" SAM looks at {counted(len(close), 'region')} closer, in {counted(len(windows), 'frame')}."
    data = {
        "crops": [
            {"window": list(t.crop), "region": list(t.region.window)}
            for t in close
            if t.crop is not None and t.region is not None
        ]
    }
    return Stage(POINTS, caption, (*layers, Boxes(np.array(windows, np.float32))), data)


def _drawn(targets: Sequence[Target], shape: Shape) -> NDArray[np.bool_]:
    """The union of the last step's masks of all cascades, bool (H, W)."""
    mask = np.zeros(shape, bool)
    for target in targets:
        if (piece := target.steps[-1].piece) is not None:
            union(mask, *piece)
    return mask


def mask_stage(
    spec: StageSpec, targets: Sequence[Target], shape: Shape, points: Points, asked: str
) -> Stage:
    """One step of all cascades as one stage: the union of their masks, the mean of their predicted IoU.

    Args:
        spec: The stage.
        targets: The cascades.
        shape: Of the image, (H, W).
        points: The points of all cascades.
        asked: The prompts in words, with `{points}` for the number of points.
    """
    steps = [target.steps[-1] for target in targets]
    mask = _drawn(targets, shape)
    prompts = asked.format(points=counted(sum(len(t.points) for t in targets), "point"))
    if len(steps) > 1:
        prompts += f", in {len(steps)} regions"
    iou = float(np.mean([step.iou for step in steps]))
    caption = f"SAM draws {area_words(mask)} from {prompts}, with a predicted IoU of {iou:.2f}."
    data = {"area": int(np.count_nonzero(mask)), "predicted_iou": round(iou, 6), "prompts": prompts}
    return Stage(spec, caption, (Area(mask), PointMarks(points)), data)


def box_stage(targets: Sequence[Target], shape: Shape, boxes: list[NDArray[np.float32]]) -> Stage:
    """Eq. 11: the boxes around the second masks."""
    mask = _drawn(targets, shape)
    sizes = [f"{x1 - x0:.0f} × {y1 - y0:.0f} px" for x0, y0, x1, y1 in boxes[:3]]
    more = f" and {len(boxes) - 3} more" if len(boxes) > 3 else ""
    count = counted(len(boxes), "tight box", "tight boxes")
    caption = f"{count} around M2: {', '.join(sizes)}{more}."
    data = {"boxes": [[float(value) for value in box] for box in boxes]}
    return Stage(BOX, caption, (Area(mask, "faint"), Boxes(np.stack(boxes))), data)


def fusion_caption(
    fusion: FusionSettings, made_of: tuple[str, ...], asked: bool, level: float
) -> str:
    """How the score map was made, and what the final mask is made of."""
    weight = fusion.fusion_weight
    names = ", ".join(name for name in made_of if name != "region")
    mask = f"SAM's mask ({names or 'not kept' if asked else 'not asked for'})"
    how = {
        "weighted": f"{weight:.2f} × {mask}, weighted by its confidence, + {1 - weight:.2f} × Map_a",
        "mask": f"{mask} alone, weighted by its confidence",
        "map": "Map_a alone",
    }[fusion.fusion]
    instead = ""
    if level and made_of:
        instead = f" The final mask is where map and SAM's mask reach a mean of {level:.2f}."
    elif "region" in made_of:
        instead = " In the final mask a region stands for itself where SAM's mask leaks out of it."
    return f"The score map is {how}.{instead}"


def all_points(targets: Sequence[Target]) -> Points:
    """The points of all cascades, each place once, since a negative click may belong to several."""
    if not targets:
        return Points.none()
    xy = np.concatenate([t.points.xy for t in targets])
    labels = np.concatenate([t.points.labels for t in targets])
    source = [word for t in targets for word in t.points.source]
    _, first = np.unique(np.column_stack([xy, labels]), axis=0, return_index=True)
    first.sort()
    return Points(xy[first], labels[first], tuple(source[i] for i in first))
