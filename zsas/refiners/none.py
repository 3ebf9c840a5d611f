"""No refiner: what is marked is the map above the marking level."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from zsas.declare import Values
from zsas.prompts import Click, Points
from zsas.refiners.base import (
    FUSED,
    MarkSettings,
    Refined,
    Refiner,
    fused_stage,
)
from zsas.refiners.marking import mark_scored
from zsas.refiners.masks import cut_clicks
from zsas.stages import Stage, area_words

if TYPE_CHECKING:
    from zsas.backbones.session import SamSession
    from zsas.localizers.base import Scored


class NoRefiner(Refiner):
    """The score map is the anomaly map, the mask where it lies above the marking level; SAM is never asked."""

    name = "none"
    title = "the map above the marking level"
    settings = (MarkSettings,)
    stages = (FUSED,)

    def refine(
        self, scored: Scored, sam: SamSession, values: Values, clicks: Sequence[Click]
    ) -> Iterator[Stage | Refined]:
        """See `Refiner.refine`; a negative click takes away the piece under it, a positive one changes nothing."""
        marked = mark_scored(scored, values.of(MarkSettings))
        mask = cut_clicks(marked.region, clicks)
        caption = f"The score map is Map_a alone; {area_words(mask)} lie above {marked.words}."
        xy = np.array([click[:2] for click in clicks], np.float32).reshape(-1, 2)
        labels = np.array([click[2] for click in clicks], np.int64)
        points = Points(xy, labels, ("click",) * len(clicks))
        stage = fused_stage(scored.map, mask, caption, level=marked.level)
        yield Refined(mask, scored.map, stage, points)
