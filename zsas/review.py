"""A person's review of a result: findings that are rejected, and a verdict that overrides the system's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from zsas.result import Region, Result

PersonsVerdict = Literal["", "normal", "anomalous"]


@dataclass(frozen=True)
class Review:
    """A person's decisions on one image.

    Attributes:
        rejected: Places (x, y) in image pixels; a region that contains one of them is no finding. Places are kept and
            not the regions' numbers, since another marking level numbers the regions anew.
        verdict: The person's verdict on the whole image; "" leaves the system's.
    """

    rejected: tuple[tuple[int, int], ...] = ()
    verdict: PersonsVerdict = ""

    def __bool__(self) -> bool:
        return bool(self.rejected or self.verdict)


def reviewed(result: Result, review: Review) -> Result:
    """A copy of the result with a person's decisions in it.

    Rejected regions stay in the list, marked as rejected, and are removed from the mask. If all are rejected, the
    person's verdict is normal, unless the review names another.
    """
    if not review:
        return result
    regions = tuple(
        replace(region, rejected=any(holds(region, *place) for place in review.rejected))
        for region in result.regions
    )
    mask = result.mask.copy()
    for region in regions:
        if region.rejected:
            x0, y0, x1, y1 = region.box
            mask[y0:y1, x0:x1] &= ~region.mask[y0:y1, x0:x1]
    verdict = review.verdict
    rejected = any(region.rejected for region in regions)
    if not verdict and rejected and not any(region.counts for region in regions):
        verdict = "normal"
    return replace(result, mask=mask, regions=regions, persons_verdict=verdict)


def holds(region: Region, x: int, y: int) -> bool:
    """Whether a pixel belongs to a region."""
    x0, y0, x1, y1 = region.box
    return x0 <= x < x1 and y0 <= y < y1 and bool(region.mask[y, x])


def place_in(region: Region, result: Result) -> tuple[int, int]:
    """The pixel (x, y) of a region with the highest score; a review remembers the region by it."""
    x0, y0, x1, y1 = region.box
    inside = np.where(region.mask[y0:y1, x0:x1], result.score_map[y0:y1, x0:x1], -1.0)
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return x0 + int(column), y0 + int(row)
