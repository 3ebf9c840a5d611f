"""The paper's refiner: PPG (eqs 1 to 8, see `zsas.refiners.points`) and CPS (eqs 9 to 12), from top to bottom.

SAM's decoder is called three times, each time with what the call before it found. One cascade runs for each separate
region, or one for all of them together as the paper prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, Values, setting
from zsas.frames import SamFrame, Window
from zsas.prompts import Click, Points, Prompt
from zsas.refiners.base import (
    FUSED,
    FusionSettings,
    MarkSettings,
    Refined,
    Refiner,
    fuse,
    pixel_of,
)
from zsas.refiners.marking import Marked, mark_region
from zsas.refiners.masks import (
    box_of_window,
    cut_clicks,
    mask_in_window,
    overlap,
    pieces_of_clicks,
    separate_regions,
    soft_mask,
    union,
    within,
)
from zsas.refiners.points import (
    WHOSE,
    PointSettings,
    kernel_size_in_image,
    point_prompts,
    surrounding_ring,
)
from zsas.stages import Area, Boxes, HeatMap, PointMarks, Stage, StageSpec, area_words, counted

if TYPE_CHECKING:
    from zsas.backbones.session import SamSession
    from zsas.localizers.base import Scored

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
class CascadeSettings(SettingsGroup, key="cascade", title="Cascade"):
    """How often and about what SAM is asked."""

    prompting: Literal["per_region", "joint"] = setting(
        "per_region",
        "Prompting",
        "One cascade for each separate region, or all points together as in the paper.",
        symbol="P",
    )
    max_regions: int = setting(
        8,
        "Regions at most",
        "How many separate regions get a cascade of their own, the most anomalous first.",
        low=1,
        high=64,
        step=1,
    )
    steps: int = setting(
        3,
        "Cascade steps",
        "1: points; 2: points and logits; 3: points, box and logits.",
        low=1,
        high=3,
        step=1,
        symbol="M1, M2, M3",
    )
    min_overlap: float = setting(
        0.2,
        "Least overlap",
        "Smallest fraction of SAM's mask that must lie inside its region; otherwise the region replaces the mask. "
        "0 keeps every mask.",
        low=0.0,
        high=1.0,
        step=0.05,
    )


@dataclass(frozen=True)
class Step:
    """The mask of one decoder call with the highest predicted IoU.

    Attributes:
        name: `M1`, `M2` or `M3`.
        logits: Its low-resolution logits, float32, in the decoder's own frame.
        iou: Its predicted IoU.
        window: The part of the image that the mask can touch, None if the mask is empty.
        mask: The mask inside `window`, bool, None if it is empty.
    """

    name: str
    logits: NDArray[np.float32]
    iou: float
    window: Window | None
    mask: NDArray[np.bool_] | None

    @property
    def box(self) -> NDArray[np.float32] | None:
        """Eq. 11: the tight box of the mask, XYXY in image pixels, x1 and y1 exclusive; None if it is empty."""
        if self.window is None or self.mask is None:
            return None
        return box_of_window(self.window, self.mask)


@dataclass
class Target:
    """One cascade: its region (None where a person asked for it), its points P of eq. 8, and its steps so far."""

    points: Points
    region: NDArray[np.bool_] | None
    peak: float
    clicks: tuple[Click, ...] = ()
    steps: list[Step] = field(default_factory=list)

    @property
    def kept(self) -> Step | None:
        """The last step whose mask is not empty: an empty M3 does not undo M2."""
        return next((step for step in reversed(self.steps) if step.mask is not None), None)

    def overlap(self, step: Step | None) -> float:
        """Fraction of a step's mask that lies inside the region, in [0, 1]; 1 where a person asked for it."""
        if self.region is None:
            return 1.0
        if step is None or step.window is None or step.mask is None:
            return 0.0
        return overlap(step.window, step.mask, self.region)

    def confidence(self, step: Step) -> float:
        """Mask confidence in [0, 1]: peak of Map_a in the region × predicted IoU × overlap; 1 for a clicked region."""
        if self.region is None:
            return 1.0
        return self.peak * min(max(step.iou, 0.0), 1.0) * self.overlap(step)


class Cascade(Refiner):
    """PPG and CPS."""

    name = "cascade"
    title = "point prompts and three cascaded decoder calls"
    roles = ("sam",)
    settings = (MarkSettings, PointSettings, CascadeSettings, FusionSettings)
    stages = (REGION, POINTS, M1, M2, BOX, M3, FUSED)

    def refine(
        self, scored: Scored, sam: SamSession, values: Values, clicks: Sequence[Click]
    ) -> Iterator[Stage | Refined]:
        """See `Refiner.refine`. The paper's equations in their order; hence its length."""
        marked = mark_region(scored.map, values.of(MarkSettings), scored.inside)
        ppg = values.of(PointSettings)
        cps = values.of(CascadeSettings)
        # Eq. 1: S_a, the extreme region; R_a = S_a ⊗ Map_a is read where points are taken from it.
        region = marked.region
        # Eq. 3: N_a = dilate(S_a) − S_a.
        kernel = kernel_size_in_image(ppg.kernel_size, ppg.reference_size, *region.shape)
        ring = within(surrounding_ring(region, ppg.kernel_shape, kernel), scored.inside)
        yield _region_stage(marked, ring, ppg.kernel_shape, kernel, bool(clicks))

        # Eqs 2 and 4 to 8: P = Concat(P_h, P_l) of each cascade.
        targets, rest = _targets(scored, region, ring, kernel, sam, ppg, cps, clicks)
        points = _all_points(targets)
        if targets:
            yield _points_stage(region, points, WHOSE[ppg.point_features])

            # Eq. 9: M1, logit1 = Dec(F, P).
            prompts = [Prompt(t.points.xy, t.points.labels) for t in targets]
            _ask(targets, "M1", sam, prompts, scored.inside)
            yield _mask_stage(M1, targets, sam.frame, points, "{points}")

        if targets and cps.steps >= 2:
            # Eq. 10: M2, logit2 = Dec(F, P + logit1).
            prompts = [
                Prompt(t.points.xy, t.points.labels, logits=t.steps[-1].logits) for t in targets
            ]
            _ask(targets, "M2", sam, prompts, scored.inside)
            yield _mask_stage(M2, targets, sam.frame, points, "{points}, logits of M1")

        if targets and cps.steps >= 3:
            # Eq. 11: box = F_location(M2). An empty M2 has none, and M3 is then asked without one.
            boxes = [t.steps[-1].box for t in targets]
            if any(box is not None for box in boxes):
                yield _box_stage(targets, sam.frame, [box for box in boxes if box is not None])
            # Eq. 12: M3 = Dec(F, P + box + logit2).
            prompts = [
                Prompt(t.points.xy, t.points.labels, box, t.steps[-1].logits)
                for t, box in zip(targets, boxes, strict=True)
            ]
            _ask(targets, "M3", sam, prompts, scored.inside)
            asked = "{points}, box, logits of M2" if any(p.box is not None for p in prompts) else ""
            yield _mask_stage(M3, targets, sam.frame, points, asked or "{points}, logits of M2")

        yield _fused(scored, region, targets, rest, sam, values, points, clicks)


def _targets(
    scored: Scored,
    region: NDArray[np.bool_],
    ring: NDArray[np.bool_],
    kernel: int,
    sam: SamSession,
    ppg: PointSettings,
    cps: CascadeSettings,
    clicks: Sequence[Click],
) -> tuple[list[Target], NDArray[np.bool_]]:
    """The cascades to run: the whole region, or one for each piece of it, and the clicks.

    Beside them, bool (H, W), the pieces beyond `max_regions`: no cascade refines them, and they are kept as they are.
    A click belongs to the piece it lies in or beside (in its ring). Elsewhere a positive one is a cascade of its own,
    and a negative one reaches those cascades of clicks alone.
    """
    pieces = [region] if region.any() else []
    if cps.prompting == "per_region":
        pieces = separate_regions(region, scored.map, cps.max_regions)
    rest = region.copy()
    for piece in pieces:
        rest &= ~piece
    left = list(clicks)
    targets = []
    for piece in pieces:
        around = ring
        if len(pieces) > 1 or rest.any():
            around = surrounding_ring(piece, ppg.kernel_shape, kernel) & ~region
            around = within(around, scored.inside)
        # Another backbone encodes the image only where a negative point is looked for.
        kind = ppg.point_features if ppg.negatives and around.any() else "sam"
        features, frame = sam.features_for_points(kind)
        xy, labels = point_prompts(scored.map, piece, around, features, frame, ppg)
        near = piece | around
        own = [c for c in left if cps.prompting == "joint" or near[pixel_of(c, near.shape)]]
        left = [click for click in left if click not in own]
        source = tuple("map" if label else "ring" for label in labels)
        # What a person points at needs no agreement with the map any more.
        clicked = any(label == 1 for *_, label in own)
        targets.append(
            Target(
                Points(xy, labels, source).with_clicks(own),
                None if clicked else piece,
                float(scored.map[piece].max()),
                tuple(own),
            )
        )
    negative = [click for click in left if click[2] == 0]
    for click in left:
        if click[2] == 1:
            own = [click, *negative]
            targets.append(Target(Points.none().with_clicks(own), None, 1.0, tuple(own)))
    return targets, rest


def _ask(
    targets: Sequence[Target],
    name: str,
    sam: SamSession,
    prompts: list[Prompt],
    inside: NDArray[np.bool_] | None,
) -> None:
    """One decoder call for each cascade; of its three masks the one with the highest predicted IoU is the step.

    What of a mask lies outside the pixels that are looked at does not belong to it.
    """
    for target, answer in zip(targets, sam.decode(prompts), strict=True):
        best = int(np.argmax(answer.iou))
        logits = answer.logits[best]
        window, mask = mask_in_window(logits, sam.frame, inside)
        target.steps.append(Step(name, logits, float(answer.iou[best]), window, mask))


def _fused(
    scored: Scored,
    region: NDArray[np.bool_],
    targets: Sequence[Target],
    rest: NDArray[np.bool_],
    sam: SamSession,
    values: Values,
    points: Points,
    clicks: Sequence[Click],
) -> Refined:
    """The final mask, what it is made of, and the score map."""
    min_overlap = values.of(CascadeSettings).min_overlap
    mask = rest.copy()
    provenance = {"region"} if rest.any() else set()
    for target in targets:
        part, step = np.zeros_like(mask), target.kept
        leaks = target.region is not None and target.overlap(step) < min_overlap
        if leaks:
            assert target.region is not None
            part |= target.region
            provenance.add("region")
        elif step is not None:
            union(part, step.window, step.mask)
            if (
                target.region is None
            ):  # a person means what is under the point, not what SAM finds far from it
                part = pieces_of_clicks(part, target.clicks)
            provenance.add(step.name)
        mask |= cut_clicks(part, target.clicks)
    mask = cut_clicks(mask, clicks, pieces=False)
    made_of = tuple(sorted(provenance)[::-1])
    kept = [(step, target.confidence(step)) for target in targets if (step := target.kept)]
    soft = np.zeros_like(scored.map)
    if kept:
        soft = soft_mask([(step.logits, confidence) for step, confidence in kept], sam.frame)
    soft = soft if scored.inside is None else soft * scored.inside
    fusion = values.of(FusionSettings)
    score_map = fuse(scored.map, soft, fusion.fusion, fusion.fusion_weight)
    stage = Stage(
        FUSED,
        _fusion_caption(fusion, made_of, bool(region.any() or targets)),
        (HeatMap(score_map), Area(mask, "line")),
        {"provenance": list(made_of)},
    )
    return Refined(mask, score_map, stage, points, made_of)


# What the stages say.


def _region_stage(
    marked: Marked, ring: NDArray[np.bool_], shape: str, kernel: int, clicked: bool
) -> Stage:
    region = marked.region
    if region.any():
        pieces = cv2.connectedComponents(region.view(np.uint8))[0] - 1
        caption = (
            f"{area_words(region)} in {counted(pieces, 'piece')} of the map are above {marked.words}; dilated by "
            f"{kernel} px ({shape}), it leaves the hatched ring of {area_words(ring)}."
        )
    else:
        asked = "SAM is asked about your clicks alone" if clicked else "SAM is not asked"
        caption = f"Nothing of the map is above {marked.words}, so {asked}."
    data = {
        "area": int(region.sum()),
        "ring_area": int(ring.sum()),
        "kernel_px": kernel,
        "level": round(marked.level, 6),
    }
    return Stage(REGION, caption, (Area(ring, "hatch"), Area(region)), data)


def _points_stage(region: NDArray[np.bool_], points: Points, whose: str) -> Stage:
    clicks = points.source.count("click")
    caption = (
        f"{counted(points.source.count('map'), 'positive point')} (+) where the map is highest in the region, "
        f"{counted(points.source.count('ring'), 'negative point')} (−) where {whose} features in the ring differ most "
        "from it"
    )
    caption += f"; {counted(clicks, 'click')} of yours in squares." if clicks else "."
    return Stage(POINTS, caption, (Area(region, "line"), PointMarks(points)))


def _mask_stage(
    spec: StageSpec, targets: Sequence[Target], frame: SamFrame, points: Points, asked: str
) -> Stage:
    """One step of all cascades as one: union of the masks, mean of the predicted IoU."""
    steps = [target.steps[-1] for target in targets]
    mask = np.zeros((frame.height, frame.width), bool)
    for step in steps:
        union(mask, step.window, step.mask)
    prompts = asked.format(points=counted(sum(len(t.points) for t in targets), "point"))
    if len(steps) > 1:
        prompts += f", in {len(steps)} regions"
    iou = float(np.mean([step.iou for step in steps]))
    caption = f"SAM draws {area_words(mask)} from {prompts}, with a predicted IoU of {iou:.2f}."
    data = {"area": int(mask.sum()), "predicted_iou": round(iou, 6), "prompts": prompts}
    return Stage(spec, caption, (Area(mask), PointMarks(points)), data)


def _box_stage(
    targets: Sequence[Target], frame: SamFrame, boxes: list[NDArray[np.float32]]
) -> Stage:
    mask = np.zeros((frame.height, frame.width), bool)
    for target in targets:
        union(mask, target.steps[-1].window, target.steps[-1].mask)
    sizes = [f"{x1 - x0:.0f} × {y1 - y0:.0f} px" for x0, y0, x1, y1 in boxes[:3]]
    more = f" and {len(boxes) - 3} more" if len(boxes) > 3 else ""
    count = counted(len(boxes), "tight box", "tight boxes")
    caption = f"{count} around M2: {', '.join(sizes)}{more}."
    data = {"boxes": [[float(value) for value in box] for box in boxes]}
    return Stage(BOX, caption, (Area(mask, "faint"), Boxes(np.stack(boxes))), data)


def _fusion_caption(fusion: FusionSettings, made_of: tuple[str, ...], asked: bool) -> str:
    weight = fusion.fusion_weight
    names = ", ".join(name for name in made_of if name != "region")
    mask = f"SAM's mask ({names or 'not kept' if asked else 'not asked for'})"
    how = {
        "weighted": f"{weight:.2f} × {mask}, weighted by its confidence, + {1 - weight:.2f} × Map_a",
        "mask": f"{mask} alone, weighted by its confidence",
        "map": "Map_a alone",
    }[fusion.fusion]
    instead = ""
    if "region" in made_of:
        instead = " In the final mask a region stands for itself where SAM's mask leaks out of it."
    return f"The score map is {how}.{instead}"


def _all_points(targets: Sequence[Target]) -> Points:
    """The points of all cascades, each place once: a negative click may reach several."""
    if not targets:
        return Points.none()
    xy = np.concatenate([t.points.xy for t in targets])
    labels = np.concatenate([t.points.labels for t in targets])
    source = [word for t in targets for word in t.points.source]
    _, first = np.unique(np.column_stack([xy, labels]), axis=0, return_index=True)
    first.sort()
    return Points(xy[first], labels[first], tuple(source[i] for i in first))
