"""ClipSAM's refiner, MMR: boxes and points from the binarised map, all three masks of SAM fused with it by their IoU.

No code of ClipSAM (arXiv 2401.12665) is public. What its paper and authors say is followed; how many points a region
gives, from which size on it counts, and what the fused map is divided by are our reading, and settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, Values, setting
from zsas.frames import Piece, SamFrame, slices
from zsas.prompts import Click, Masks, Points, Prompt
from zsas.refiners.base import (
    FUSED,
    MarkSettings,
    Refined,
    Refiner,
    fused_stage,
)
from zsas.refiners.marking import extreme_region, mark_scored
from zsas.refiners.masks import cut_clicks, mask_in_window, separate_regions, union
from zsas.stages import Area, Boxes, PointMarks, Stage, StageSpec, area_words, counted

if TYPE_CHECKING:
    from zsas.backbones.session import SamSession
    from zsas.localizers.base import Scored

PROMPTS = StageSpec(
    "mmr_prompts",
    "Boxes and points",
    "",
    "",
    "The binarised map, a box around each of its pieces, and points in them.",
    "Not needed: nothing of the map is above the marking level, so SAM is not asked.",
)
MASKS = StageSpec(
    "mmr_masks",
    "Masks of all sizes",
    "",
    "",
    "SAM's three masks of every box.",
    "Not needed: nothing of the map is above the marking level, so SAM is not asked.",
)


@dataclass(frozen=True)
class MmrSettings(SettingsGroup, key="mmr", title="Multi-level mask refinement"):
    """How SAM is prompted from the binarised map, and how its masks are fused with the map."""

    mmr_points: int = setting(
        5,
        "Points a region",
        "How many points each piece of the binarised map gives, its highest pixel first, the others at random.",
        low=1,
        high=20,
        step=1,
    )
    mmr_least_area: int = setting(
        16,
        "Smallest piece",
        "Pieces of the binarised map with fewer pixels are left out.",
        low=1,
        high=10000,
        step=1,
        unit="px",
    )
    mmr_most_regions: int = setting(
        16,
        "Pieces at most",
        "How many pieces SAM is asked about, the most anomalous first.",
        low=1,
        high=64,
        step=1,
    )
    mmr_scale: Literal["fixed", "image"] = setting(
        "fixed",
        "Fused map is divided by",
        "Two, the highest value that map and masks can reach together, or the image's own minimum and maximum, as the "
        "paper has it: then even a flawless image has bright places.",
    )


class Mmr(Refiner):
    """Boxes and points → three masks each → score-weighted mean, added to the map."""

    name = "mmr"
    title = "boxes and points, masks of all three sizes (ClipSAM, our reading)"
    roles = ("sam",)
    settings = (MarkSettings, MmrSettings)
    stages = (PROMPTS, MASKS, FUSED)

    def refine(
        self, scored: Scored, sam: SamSession, values: Values, clicks: Sequence[Click]
    ) -> Iterator[Stage | Refined]:
        """See `Refiner.refine`; a negative click removes the piece under it, a positive click adds a prompt."""
        mark, own = values.of(MarkSettings), values.of(MmrSettings)
        marked = mark_scored(scored, mark)
        region = marked.region
        # Crumbs are left out first: they must not take the places of pieces that count.
        pieces = [
            piece
            for piece in separate_regions(region, scored.map)
            if np.count_nonzero(piece.mask) >= own.mmr_least_area
        ][: own.mmr_most_regions]
        prompts = [_prompt(scored.map, piece, own.mmr_points) for piece in pieces]
        prompts += [
            Prompt(np.array([click[:2]], np.float32), np.ones(1, np.int64))
            for click in clicks
            if click[2] == 1
        ]
        points = _points(prompts, len(pieces))
        if not prompts:
            caption = (
                f"No piece of {own.mmr_least_area} px or more is above {marked.words}: SAM is not asked, and "
                "the score map is Map_a alone."
            )
            mask = cut_clicks(region, clicks)
            stage = fused_stage(scored.map, mask, caption, level=marked.level)
            yield Refined(mask, scored.map, stage, points)
            return
        found = [prompt.box for prompt in prompts if prompt.box is not None]
        boxes = np.stack(found) if found else np.zeros((0, 4), np.float32)
        yield Stage(
            PROMPTS,
            f"{area_words(region)} are above {marked.words}; {counted(len(pieces), 'piece')} of at least "
            f"{own.mmr_least_area} px give a box and {counted(len(points), 'point')} in all.",
            (Area(region, "faint"), Boxes(boxes), PointMarks(points)),
            {"boxes": boxes.tolist(), "level": round(marked.level, 6)},
        )
        answers = sam.decode(prompts)
        weighted, every = fuse_masks(answers, sam.frame, scored.inside)
        mean_iou = float(np.mean([answer.iou.mean() for answer in answers]))
        yield Stage(
            MASKS,
            f"SAM draws {counted(3 * len(answers), 'mask')}, {area_words(every)} in all, with a predicted IoU of "
            f"{mean_iou:.2f} on average.",
            (Area(every),),
            {"predicted_iou": round(mean_iou, 6)},
        )
        score_map = _scaled(scored.map + weighted, own.mmr_scale, scored.inside)
        mask = cut_clicks(
            extreme_region(score_map, mark.threshold, mark.threshold_mode, scored.inside), clicks
        )
        how = "half of Map_a and" if own.mmr_scale == "fixed" else "Map_a and"
        caption = (
            f"The score map is {how} the mean of SAM's masks, weighted by their predicted IoU; "
            f"{area_words(mask)} are marked."
        )
        yield Refined(
            mask, score_map, fused_stage(score_map, mask, caption), points, ("masks", "map")
        )


def _prompt(anomaly_map: NDArray[np.float32], piece: Piece, count: int) -> Prompt:
    """The box of a piece and points in it: its highest pixel, then pixels drawn with a fixed seed."""
    x0, y0, *_ = piece.window
    ys, xs = np.nonzero(piece.mask)
    ys, xs = ys + y0, xs + x0
    order = np.random.default_rng(0).permutation(len(xs))
    best = int(np.argmax(anomaly_map[ys, xs]))
    chosen = [best, *(int(i) for i in order if i != best)][:count]
    xy = np.stack([xs[chosen], ys[chosen]], axis=1).astype(np.float32)
    return Prompt(xy, np.ones(len(chosen), np.int64), np.array(piece.window, np.float32))


def _points(prompts: Sequence[Prompt], from_map: int) -> Points:
    if not prompts:
        return Points.none()
    source = [
        "map" if i < from_map else "click"
        for i, prompt in enumerate(prompts)
        for _ in range(len(prompt.labels))
    ]
    return Points(
        np.concatenate([prompt.points for prompt in prompts]),
        np.concatenate([prompt.labels for prompt in prompts]),
        tuple(source),
    )


def fuse_masks(
    answers: Sequence[Masks], frame: SamFrame, inside: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The mean of all masks, each weighted by its predicted IoU: Σ score · mask / Σ mask, 0 where there is none.

    Args:
        answers: Three masks each.
        frame: The image's geometry.
        inside: The region of interest, bool (H, W); None for the whole image.

    Returns:
        float32 (H, W) in [0, 1], and the union of the masks, bool (H, W).
    """
    total = np.zeros((frame.height, frame.width), np.float32)
    count = np.zeros_like(total)
    every = np.zeros(total.shape, bool)
    for answer in answers:
        for logits, iou in zip(answer.logits, answer.iou, strict=True):
            window, mask = mask_in_window(logits, frame, inside)
            if window is None or mask is None:
                continue
            total[slices(window)] += mask * np.float32(min(max(float(iou), 0.0), 1.0))
            count[slices(window)] += mask
            union(every, window, mask)
    return (total / np.maximum(count, 1)).astype(np.float32), every


def _scaled(
    summed: NDArray[np.float32], scale: str, inside: NDArray[np.bool_] | None
) -> NDArray[np.float32]:
    if scale == "fixed":
        return (summed / 2).astype(np.float32)
    seen = summed if inside is None else summed[inside]
    low, high = float(seen.min()), float(seen.max())
    scaled = ((summed - low) / max(high - low, 1e-6)).astype(np.float32)
    return scaled if inside is None else np.where(inside, scaled, np.float32(0))
