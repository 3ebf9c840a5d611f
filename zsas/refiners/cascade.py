"""The paper's refiner: PPG (eqs 1 to 8) and CPS (eqs 9 to 12), in `Cascade.refine` from top to bottom.

SAM's decoder is called three times, each time with what the call before it found. One cascade runs for each separate
region, or one for all of them together as the paper prints it. How points are taken (eqs 2 and 4 to 8) is in
`zsas.refiners.points`.
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
from zsas.prompts import Click, Points
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
    Target,
    all_points,
    box_stage,
    fusion_caption,
    mask_stage,
    points_stage,
    region_stage,
    take,
)
from zsas.refiners.crops import CropSettings, close_windows, closest, lies_in
from zsas.refiners.marking import Marked, mark_scored
from zsas.refiners.masks import (
    cut_clicks,
    pieces_of_clicks,
    separate_regions,
    soft_mask,
    union,
    within,
    without_crumbs,
)
from zsas.refiners.points import (
    WHOSE,
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
        """See `Refiner.refine`. One equation of the paper after the other; hence its length."""
        ppg, cps, inside = values.of(PointSettings), values.of(CascadeSettings), scored.inside

        # Eq. 1: the extreme region S_a. R_a = S_a ⊗ Map_a is read where points are taken from it.
        marked = mark_scored(scored, values.of(MarkSettings))
        region, shape = marked.region, marked.region.shape
        # Eq. 3: the ring N_a = dilate(S_a) − S_a.
        kernel = kernel_size_in_image(ppg.kernel_size, ppg.reference_size, *shape)
        pieces = separate_regions(region, scored.map)
        ring = within(surrounding_ring(region, ppg.kernel_shape, kernel, pieces), inside)
        yield region_stage(marked, len(pieces), ring, ppg.kernel_shape, kernel, bool(clicks))

        # Eqs 2 and 4 to 8: the points P = Concat(P_h, P_l) of each cascade.
        if cps.prompting == "joint" and (whole := piece_of_mask(region)) is not None:
            pieces = [whole]
        pieces, rest = pieces[: cps.max_regions], pieces[cps.max_regions :]
        if len(pieces) == 1 and not rest:
            rings = [piece_of_mask(ring)]
        else:
            found = [ring_of(piece, region, ppg.kernel_shape, kernel) for piece in pieces]
            rings = [Piece(at, within(mask, inside, at)).tight() for at, mask in found]
        targets = _targets(scored, list(zip(pieces, rings, strict=True)), sam, values, clicks)
        points = all_points(targets)
        calls = cps.steps if targets else 0
        if targets:
            yield points_stage(region, points, WHOSE[ppg.point_features], targets)

        if calls >= 1:
            # Eq. 9: M1, logit1 = Dec(F, P).
            take("M1", targets, sam.decode([t.prompt() for t in targets]), inside)
            yield mask_stage(M1, targets, shape, points, "{points}")

        if calls >= 2:
            # Eq. 10: M2, logit2 = Dec(F, P + logit1).
            prompts = [t.prompt(logits=t.steps[-1].logits) for t in targets]
            take("M2", targets, sam.decode(prompts), inside)
            yield mask_stage(M2, targets, shape, points, "{points}, logits of M1")

        if calls >= 3:
            # Eq. 11: box = F_location(M2). An empty M2 has none, and M3 is then asked without one.
            boxes = [t.steps[-1].box for t in targets]
            drawn = [box for box in boxes if box is not None]
            if drawn:
                yield box_stage(targets, shape, drawn)
            # Eq. 12: M3 = Dec(F, P + box + logit2).
            pairs = zip(targets, boxes, strict=True)
            prompts = [t.prompt(box, t.steps[-1].logits) for t, box in pairs]
            take("M3", targets, sam.decode(prompts), inside)
            asked = "{points}, box, logits of M2" if drawn else "{points}, logits of M2"
            yield mask_stage(M3, targets, shape, points, asked)

        yield _fused(scored, marked, rest, targets, values, clicks)


def _targets(
    scored: Scored,
    regions: Sequence[tuple[Piece, Piece | None]],
    sam: SamSession,
    values: Values,
    clicks: Sequence[Click],
) -> list[Target]:
    """The cascades to run, each with its points: one for each region, and one for each positive click elsewhere.

    A region comes with its ring N_a, None where it has none. One that lies in a close-up window is asked about there:
    SAM then sees nothing else. A click belongs to the region it lies in or beside (in its ring), and under joint
    prompting to the one cascade there is. A negative click elsewhere reaches the cascades of clicks alone.
    """
    ppg = values.of(PointSettings)
    joint = values.of(CascadeSettings).prompting == "joint"
    windows: Sequence[Window] = ()
    if regions and not joint:
        windows = close_windows(scored, values.of(CropSettings), sam.side)
        close = [closest(windows, region.window) for region, _ in regions]
        if wanted := [window for window in dict.fromkeys(close) if window is not None]:
            sam.encode_crops(wanted)
    pixel = partial(pixel_of, shape=scored.map.shape)
    left = list(clicks)
    targets = []
    for region, ring in regions:
        near = [part for part in (region, ring) if part is not None]
        own = [c for c in left if joint or any(part.holds(pixel(c)) for part in near)]
        left = [click for click in left if click not in own]
        crop = closest(windows, region.window)
        if crop is not None and not all(lies_in(crop, pixel(c)) for c in own):
            crop = None
        if crop is not None and ring is not None:
            ring = Piece(crop, ring.seen_in(crop)).tight()
        seen = sam if crop is None else sam.crop(crop)
        # Another backbone encodes the image only where a negative point is looked for.
        kind = ppg.point_features if ppg.negatives and ring is not None else "sam"
        features, frame = seen.features_for_points(kind)
        xy, labels = point_prompts(scored.map, region, ring, features, frame, ppg)
        source = tuple("map" if label else "ring" for label in labels)
        # The map need not agree with what a person points at.
        clicked = any(label == 1 for *_, label in own)
        targets.append(
            Target(
                Points(xy, labels, source).with_clicks(own),
                None if clicked else region,
                float(scored.map[region.slices][region.mask].max()),
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


def _fused(
    scored: Scored,
    marked: Marked,
    rest: Sequence[Piece],
    targets: Sequence[Target],
    values: Values,
    clicks: Sequence[Click],
) -> Refined:
    """The final mask, what it is made of, and the score map; regions beyond `max_regions` stay as they are."""
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
    mask = np.zeros(marked.region.shape, bool)
    for piece in rest:
        union(mask, *piece)
    provenance = {"region"} if rest else set()
    for target in targets:
        part, name = _final_part(target, agreed, cps.min_overlap, mask.shape)
        if name:
            provenance.add(name)
        if part is not None and target.clicks:
            mask |= cut_clicks(part.whole(mask.shape), target.clicks)
        elif part is not None:
            union(mask, *part)
    mask = cut_clicks(mask, clicks, pieces=False)
    made_of = tuple(sorted(provenance)[::-1])
    stage = Stage(
        FUSED,
        fusion_caption(fusion, made_of, bool(targets), level),
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
        whole = np.zeros(shape, bool) if drawn is None else drawn.whole(shape)
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
