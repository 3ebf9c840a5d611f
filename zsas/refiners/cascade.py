"""The paper's refiner: PPG (eqs 1 to 8, see `zsas.refiners.points`) and CPS (eqs 9 to 12), from top to bottom.

SAM's decoder is called three times, each time with what the call before it found. One cascade runs for each separate
region, or one for all of them together as the paper prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, Values, setting
from zsas.frames import Piece, Window, around, piece_of_mask, slices
from zsas.prompts import Click, Masks, Points, Prompt
from zsas.refiners.base import (
    FUSED,
    FusionSettings,
    MarkSettings,
    Refined,
    Refiner,
    fuse,
    pixel_of,
)
from zsas.refiners.cascade_stages import (
    BOX,
    M1,
    M2,
    M3,
    POINTS,
    REGION,
    Step,
    Target,
    all_points,
    box_stage,
    fusion_caption,
    mask_stage,
    points_stage,
    region_stage,
)
from zsas.refiners.crops import CropSettings, close_windows, closest, lies_in
from zsas.refiners.marking import Marked, mark_scored
from zsas.refiners.masks import (
    cut_clicks,
    mask_in_window,
    pieces_of_clicks,
    separate_regions,
    soft_mask,
    union,
    within,
    without_crumbs,
)
from zsas.refiners.points import (
    WHOSE,
    KernelShape,
    PointSettings,
    kernel_size_in_image,
    point_prompts,
    ring_of,
    surrounding_ring,
)
from zsas.stages import Area, HeatMap, Stage

if TYPE_CHECKING:
    from zsas.backbones.session import SamSession
    from zsas.localizers.base import Scored


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
        "0 keeps every mask. Read where the mask level is 0.",
        low=0.0,
        high=1.0,
        step=0.05,
    )
    mask_level: float = setting(
        0.0,
        "Mask level",
        "The final mask is what of region and SAM's mask reaches this part of the marking level in the mean of map and "
        "SAM's mask, the latter weighted by its confidence; 0 takes SAM's masks as they are. What a person clicked is "
        "always SAM's.",
        low=0.0,
        high=1.0,
        step=0.05,
        zero="SAM's masks as they are",
        floor=0.05,
    )


class Cascade(Refiner):
    """PPG and CPS."""

    name = "cascade"
    title = "point prompts and three cascaded decoder calls"
    roles = ("sam",)
    settings = (MarkSettings, PointSettings, CascadeSettings, CropSettings, FusionSettings)
    stages = (REGION, POINTS, M1, M2, BOX, M3, FUSED)

    def refine(
        self, scored: Scored, sam: SamSession, values: Values, clicks: Sequence[Click]
    ) -> Iterator[Stage | Refined]:
        """See `Refiner.refine`. The paper's equations in their order; hence its length."""
        marked = mark_scored(scored, values.of(MarkSettings))
        ppg = values.of(PointSettings)
        cps = values.of(CascadeSettings)
        # Eq. 1: S_a, the extreme region; R_a = S_a ⊗ Map_a is read where points are taken from it.
        region, shape = marked.region, marked.region.shape
        # Eq. 3: N_a = dilate(S_a) − S_a.
        kernel = kernel_size_in_image(ppg.kernel_size, ppg.reference_size, *region.shape)
        pieces = separate_regions(region, scored.map)
        ring = surrounding_ring(region, ppg.kernel_shape, kernel, pieces)
        ring = within(ring, scored.inside)
        yield region_stage(marked, len(pieces), ring, ppg.kernel_shape, kernel, bool(clicks))

        # Eqs 2 and 4 to 8: P = Concat(P_h, P_l) of each cascade.
        windows: Sequence[Window] = ()
        rest = pieces[cps.max_regions :]
        joint = cps.prompting == "joint"
        if joint and (whole := piece_of_mask(region)) is not None:
            pieces, rest = [whole], []
        elif pieces:
            windows = close_windows(scored, values.of(CropSettings), sam.side)
        cut = _Cut(region, pieces[: cps.max_regions], rest, ring, kernel, joint)
        targets = _targets(scored, cut, sam, ppg, clicks, windows)
        points = all_points(targets)
        if targets:
            yield points_stage(region, points, WHOSE[ppg.point_features], targets)

            # Eq. 9: M1, logit1 = Dec(F, P).
            prompts = [Prompt(t.points.xy, t.points.labels) for t in targets]
            _ask(targets, "M1", sam, prompts, scored.inside)
            yield mask_stage(M1, targets, shape, points, "{points}")

        if targets and cps.steps >= 2:
            # Eq. 10: M2, logit2 = Dec(F, P + logit1).
            prompts = [
                Prompt(t.points.xy, t.points.labels, logits=t.steps[-1].logits) for t in targets
            ]
            _ask(targets, "M2", sam, prompts, scored.inside)
            yield mask_stage(M2, targets, shape, points, "{points}, logits of M1")

        if targets and cps.steps >= 3:
            # Eq. 11: box = F_location(M2). An empty M2 has none, and M3 is then asked without one.
            boxes = [t.steps[-1].box for t in targets]
            if any(box is not None for box in boxes):
                yield box_stage(targets, shape, [box for box in boxes if box is not None])
            # Eq. 12: M3 = Dec(F, P + box + logit2).
            prompts = [
                Prompt(t.points.xy, t.points.labels, box, t.steps[-1].logits)
                for t, box in zip(targets, boxes, strict=True)
            ]
            _ask(targets, "M3", sam, prompts, scored.inside)
            asked = "{points}, box, logits of M2" if any(p.box is not None for p in prompts) else ""
            yield mask_stage(M3, targets, shape, points, asked or "{points}, logits of M2")

        yield _fused(scored, marked, cut, targets, values, clicks)


@dataclass(frozen=True)
class _Cut:
    """S_a as the cascades see it.

    Attributes:
        region: S_a, bool (H, W).
        pieces: What gets a cascade each: the whole region, or its separate pieces.
        rest: Pieces beyond `max_regions`: no cascade refines them, and they are kept as they are.
        ring: N_a, bool (H, W).
        kernel: Of the dilation, in pixels of the image.
        joint: Whether all of it is one cascade, that every click belongs to.
    """

    region: NDArray[np.bool_]
    pieces: Sequence[Piece]
    rest: Sequence[Piece]
    ring: NDArray[np.bool_]
    kernel: int
    joint: bool

    def around(self, piece: Piece, shape: KernelShape, scored: Scored) -> Piece | None:
        """The ring of a piece, in which no other piece lies."""
        if len(self.pieces) == 1 and not self.rest:
            return piece_of_mask(self.ring)
        found = ring_of(piece, self.region, shape, self.kernel)
        return Piece(found.window, within(found.mask, scored.inside, found.window)).tight()


def _targets(
    scored: Scored,
    cut: _Cut,
    sam: SamSession,
    ppg: PointSettings,
    clicks: Sequence[Click],
    windows: Sequence[Window],
) -> list[Target]:
    """The cascades to run: one for each piece, and the clicks.

    A piece that lies in one of the windows is asked about there: SAM then sees nothing else. A click belongs to the
    piece it lies in or beside (in its ring), or to the whole region. Elsewhere a positive one is a cascade of its own,
    and a negative one reaches those cascades of clicks alone.
    """
    pixel = partial(pixel_of, shape=cut.region.shape)
    left = list(clicks)
    targets = []
    for piece in cut.pieces:
        ring = cut.around(piece, ppg.kernel_shape, scored)
        near = [one for one in (piece, ring) if one is not None]
        own = [c for c in left if cut.joint or any(one.holds(pixel(c)) for one in near)]
        crop = closest(windows, piece.window) if windows else None
        if crop is not None and all(lies_in(crop, pixel(c)) for c in own):
            ring = Piece(crop, ring.seen_in(crop)).tight() if ring is not None else None
        else:
            crop = None
        seen = sam if crop is None else sam.crop(crop)
        # Another backbone encodes the image only where a negative point is looked for.
        kind = ppg.point_features if ppg.negatives and ring is not None else "sam"
        features, frame = seen.features_for_points(kind)
        xy, labels = point_prompts(scored.map, piece, ring, features, frame, ppg)
        left = [click for click in left if click not in own]
        source = tuple("map" if label else "ring" for label in labels)
        # What a person points at needs no agreement with the map any more.
        clicked = any(label == 1 for *_, label in own)
        targets.append(
            Target(
                Points(xy, labels, source).with_clicks(own),
                None if clicked else piece,
                float(scored.map[piece.slices][piece.mask].max()),
                seen.frame,
                tuple(own),
                crop,
            )
        )
    negative = [click for click in left if click[2] == 0]
    for click in left:
        if click[2] == 1:
            own = [click, *negative]
            targets.append(Target(Points.none().with_clicks(own), None, 1.0, sam.frame, tuple(own)))
    return targets


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
    answers: dict[int, Masks] = {}
    for crop in {target.crop for target in targets}:
        which = [i for i, target in enumerate(targets) if target.crop == crop]
        seen = sam if crop is None else sam.crop(crop)
        answers.update(zip(which, seen.decode([prompts[i] for i in which]), strict=True))
    for i, target in enumerate(targets):
        answer = answers[i]
        best = int(np.argmax(answer.iou))
        logits = answer.logits[best]
        window, mask = mask_in_window(logits, target.frame, inside)
        piece = None if window is None or mask is None else Piece(window, mask)
        target.steps.append(Step(name, logits, float(answer.iou[best]), piece))


def _fused(
    scored: Scored,
    marked: Marked,
    cut: _Cut,
    targets: Sequence[Target],
    values: Values,
    clicks: Sequence[Click],
) -> Refined:
    """The final mask, what it is made of, and the score map."""
    cps, fusion = values.of(CascadeSettings), values.of(FusionSettings)
    kept = [(s.logits, t.confidence(s), t.frame) for t in targets if (s := t.kept)]
    soft = soft_mask(kept, *scored.map.shape)
    soft = soft if scored.inside is None else soft * scored.inside
    score_map = fuse(scored.map, soft, fusion.fusion, fusion.fusion_weight)
    level = cps.mask_level * marked.level
    agreed = None
    if level:
        equal = fusion.fusion == "weighted" and fusion.fusion_weight == 0.5
        agreed = (score_map if equal else fuse(scored.map, soft, "weighted", 0.5)) > level
    mask = np.zeros(cut.region.shape, bool)
    for piece in cut.rest:
        union(mask, *piece)
    provenance = {"region"} if cut.rest else set()
    for target in targets:
        part, name = _final_part(target, agreed, cps.min_overlap, mask.shape)
        if name:
            provenance.add(name)
        if part is not None and target.clicks:
            whole = np.zeros_like(mask)
            union(whole, *part)
            mask |= cut_clicks(whole, target.clicks)
        elif part is not None:
            union(mask, *part)
    mask = cut_clicks(mask, clicks, pieces=False)
    made_of = tuple(sorted(provenance)[::-1])
    stage = Stage(
        FUSED,
        fusion_caption(fusion, made_of, bool(cut.pieces or targets), level),
        (HeatMap(score_map), Area(mask, "line")),
        {"provenance": list(made_of)},
    )
    return Refined(mask, score_map, stage, all_points(targets), made_of)


def _final_part(
    target: Target,
    agreed: NDArray[np.bool_] | None,
    min_overlap: float,
    shape: tuple[int, ...],
) -> tuple[Piece | None, str]:
    """What a cascade gives to the final mask of an image of (H, W), and what that is: a step, or the region itself."""
    step, region = target.kept, target.region
    drawn = None if step is None else step.piece
    name = "" if step is None else step.name
    if region is None:
        # A person means what is under the point, not what SAM finds far from it.
        whole = np.zeros(shape, bool)
        if drawn is not None:
            union(whole, *drawn)
        return piece_of_mask(pieces_of_clicks(whole, target.clicks)), name
    if agreed is not None:
        window = region.window if drawn is None else around(region.window, drawn.window)
        either = region.seen_in(window)
        if drawn is not None:
            either |= drawn.seen_in(window)
        return Piece(window, without_crumbs(either & agreed[slices(window)])), name or "region"
    if target.overlap(step) < min_overlap:
        return region, "region"
    return drawn, name or "region"
