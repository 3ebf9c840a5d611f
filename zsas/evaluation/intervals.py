"""95 % intervals and paired tests by bootstrap over images.

In each draw the images of a category are drawn anew with replacement, normal and anomalous ones each among themselves,
the same images for all conditions; the categories stay. An interval is the middle 95 % of the draws' means over
categories (percentile bootstrap). Two conditions differ by the same draws' difference, whose standard deviation makes a
two-sided p (normal approximation), corrected for the number of pairs by Holm. Histograms of single images are coarser
than those of the figures themselves, so an interval is moved by the difference between both on the undrawn images.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.evaluation.coarse import CoarseCounts, dense
from zsas.evaluation.metrics import FPR_LIMIT
from zsas.evaluation.records import Totals

DRAWS = 1000
LEVEL = 0.95
FEW = 5
"""Normal or anomalous images of a category below which its part of an interval is too narrow to be believed."""
PAIRED = ("pixel_auroc", "pixel_f1_max", "pixel_ap", "image_auroc")
"""Metrics of which differences are tested."""
PAIRS_AT_MOST = 200
"""Of more conditions than make so many pairs, only neighbours of the first are tested."""

Floats = NDArray[np.float64]
Draws = dict[str, Floats]


@dataclass
class Bootstrap:
    """The draws of a run, added category by category.

    Args:
        draws: How many; 0 makes no interval.
        seed: Of the random numbers.
    """

    draws: int = DRAWS
    seed: int = 0
    _categories: list[list[Draws]] = field(default_factory=list)
    _few: list[str] = field(default_factory=list)
    _without: list[str] = field(default_factory=list)
    _varied: bool = False

    def add(self, category: str, totals: Totals, conditions: int) -> None:
        """The draws of one category, the first of which are its images as they are."""
        if not self.draws or not totals.images:
            return
        if totals.each is None:
            self._without.append(category)
            return
        # The order of arrival is another one in a run that was killed; the draws shall be the same.
        order = sorted(range(len(totals.images)), key=lambda i: totals.images[i]["key"])
        images, each = [totals.images[i] for i in order], tuple(totals.each[i] for i in order)
        totals = Totals(totals.counts, images, each)
        groups = [
            [i for i, image in enumerate(totals.images) if image["anomalous"] is kind]
            for kind in (False, True, None)
        ]
        self._varied |= any(len(group) > 1 for group in groups)
        if any(0 < len(group) < FEW for group in groups):
            self._few.append(category)
        # Seeded by the category's place, so that draws do not depend on which conditions run.
        rng = np.random.default_rng((self.seed, len(self._categories)))
        times = np.zeros((self.draws + 1, len(totals.images)))
        times[0] = 1.0
        for group in groups:
            if group:
                chance = np.full(len(group), 1.0 / len(group))
                times[1:, group] = rng.multinomial(len(group), chance, size=self.draws)
        self._categories.append([_drawn(totals, i, times) for i in range(conditions)])

    def intervals(self, means: Sequence[Mapping[str, float | None]]) -> list[dict[str, Any]]:
        """For each condition and metric the interval [low, high], None where there is none.

        Args:
            means: The figures themselves, means over categories, one mapping a condition.
        """
        found = []
        for condition, mean in enumerate(means):
            draws = self._mean(condition)
            row: dict[str, Any] = {}
            for metric, value in mean.items():
                if metric in draws and value is not None:
                    moved = draws[metric] - draws[metric][0] + value
                    row[metric] = _middle(moved[1:], 0.0)
            found.append(row)
        return found

    def pairs(
        self, names: Sequence[str], means: Sequence[Mapping[str, float | None]]
    ) -> list[dict[str, Any]]:
        """For each pair of conditions and metric of `PAIRED` the difference a − b, its interval, and p.

        Args:
            names: Of the conditions.
            means: See `intervals`.
        """
        pairs = list(itertools.combinations(range(len(names)), 2))
        if len(pairs) > PAIRS_AT_MOST:
            pairs = [(0, other) for other in range(1, len(names))]
        draws = [self._mean(condition) for condition in range(len(names))]
        found: list[dict[str, Any]] = [{"a": names[a], "b": names[b]} for a, b in pairs]
        for metric in PAIRED:
            tested = []
            for (a, b), entry in zip(pairs, found, strict=True):
                one, other = means[a].get(metric), means[b].get(metric)
                if one is None or other is None or metric not in draws[a]:
                    continue
                entry[metric] = _difference(draws[a][metric], draws[b][metric], one - other)
                tested.append(entry[metric])
            _holm(tested)
        return [entry for entry in found if len(entry) > 2]

    def _mean(self, condition: int) -> Draws:
        """Draws of the means over categories, over those where a metric is defined."""
        if not self._varied:  # one image of a kind is always drawn again
            return {}
        rows = [category[condition] for category in self._categories]
        found = {}
        for metric in rows[0] if rows and not self._without else ():
            values = np.stack([row[metric] for row in rows])
            values = values[~np.isnan(values[:, 0])]
            if values.size:
                # A draw that leaves a metric undefined for a category leaves that category out.
                counts = (~np.isnan(values)).sum(0)
                sums = np.nansum(values, axis=0)
                found[metric] = np.where(counts > 0, sums / np.maximum(counts, 1), values[0, 0])
        return found

    @property
    def facts(self) -> dict[str, Any]:
        """How the intervals were made, as JSON types."""
        return {
            "method": "percentile bootstrap over images, normal and anomalous ones apart, within each category",
            "draws": self.draws,
            "level": LEVEL,
            "seed": self.seed,
            "few_images": list(self._few),
            "too_many_images": list(self._without),
        }


def _drawn(totals: Totals, condition: int, times: Floats) -> Draws:
    """All metrics of one condition on one category for each draw, float64 (draws,); nan where one is not defined."""
    assert totals.each is not None
    each = [image[condition] if image else None for image in totals.each]
    found = _pixel_draws(each, times)
    known = [
        i
        for i, image in enumerate(totals.images)
        if image["anomalous"] is not None and not image["error"]
    ]
    labels = np.array([totals.images[i]["anomalous"] for i in known], bool)
    scores = np.array([totals.images[i]["image_score"][condition] for i in known])
    levels, place = np.unique(scores, return_inverse=True)
    histograms = np.zeros((2, len(known), max(1, levels.size)))
    histograms[labels.astype(int), np.arange(len(known)), place] = 1.0
    auroc, f1, ap = _ranked(times[:, known] @ histograms[0], times[:, known] @ histograms[1])
    found |= {"image_auroc": auroc, "image_f1_max": f1, "image_ap": ap}
    judged = [i for i, image in enumerate(totals.images) if image["truth"]]
    hit, marked, true = (
        times[:, judged] @ np.array([totals.images[i][name][condition] for i in judged], float)
        for name in ("hit", "marked", "true")
    )
    found["mask_f1"] = np.divide(
        2 * hit, marked + true, out=np.full_like(hit, np.nan), where=true > 0
    )
    return found


def _pixel_draws(each: Sequence[CoarseCounts | None], times: Floats, block: int = 128) -> Draws:
    normal, anomalous, overlap, regions = dense(each)
    parts = []
    for start in range(0, len(times), block):  # a block of draws stays in the processor's cache
        some = times[start : start + block]
        negatives, positives = some @ normal, some @ anomalous
        parts.append(
            (*_ranked(negatives, positives), _aupro(negatives, some @ overlap, some @ regions))
        )
    names = ("pixel_auroc", "pixel_f1_max", "pixel_ap", "pixel_aupro")
    return {
        name: np.concatenate(found)
        for name, found in zip(names, zip(*parts, strict=True), strict=True)
    }


def _ranked(normal: Floats, anomalous: Floats) -> tuple[Floats, Floats, Floats]:
    """AUROC, F1-max and AP of histograms, each (draws, bins) with scores rising along the bins; nan where undefined."""
    false = np.cumsum(normal[:, ::-1], axis=1)
    true = np.cumsum(anomalous[:, ::-1], axis=1)
    negatives, positives = false[:, -1], true[:, -1]
    defined = (negatives > 0) & (positives > 0)
    new_true = anomalous[:, ::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # A pixel ranks above the normal ones of lower bins, and ties with half of its own.
        above = negatives[:, None] - false + 0.5 * normal[:, ::-1]
        auroc = (new_true * above).sum(1) / (negatives * positives)
        marked = false + true
        f1 = (2.0 * true / (marked + positives[:, None])).max(1)
        precision = np.divide(true, marked, out=np.zeros_like(true), where=marked > 0)
        ap = (new_true * precision).sum(1) / positives
    return tuple(np.where(defined, values, np.nan) for values in (auroc, f1, ap))  # type: ignore[return-value]


def _aupro(normal: Floats, overlap: Floats, regions: Floats) -> Floats:
    """`zsas.evaluation.metrics.aupro` of histograms, each (draws, bins)."""
    false = np.cumsum(normal[:, ::-1], axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        x = np.pad(false / false[:, -1:], ((0, 0), (1, 0)))
        y = np.pad(np.cumsum(overlap[:, ::-1], axis=1) / regions[:, None], ((0, 0), (1, 0)))
        left, right = x[:, :-1], x[:, 1:]
        cut = np.clip(right, None, FPR_LIMIT)
        step = right - left
        part = np.divide(cut - left, step, out=np.zeros_like(step), where=step > 0)
        rise = y[:, 1:] - y[:, :-1]
        area = np.where(left < FPR_LIMIT, (cut - left) * (y[:, :-1] + 0.5 * rise * part), 0.0)
        found = area.sum(1) / FPR_LIMIT
    return np.where((regions > 0) & (false[:, -1] > 0), found, np.nan)


def _middle(draws: Floats, lowest: float) -> list[float]:
    edge = 50.0 * (1.0 - LEVEL)
    low, high = np.percentile(draws, [edge, 100.0 - edge])
    return [round(float(np.clip(v, lowest, 1.0)), 6) for v in (low, high)]


def _difference(a: Floats, b: Floats, exact: float) -> dict[str, Any]:
    draws = a - b
    spread = float(draws[1:].std())
    # Draws that do not differ say nothing; below is what rounding leaves.
    p = math.erfc(abs(exact) / spread / math.sqrt(2.0)) if spread > 1e-9 else 1.0
    low, high = _middle(draws[1:] - draws[0] + exact, -1.0)
    return {"difference": round(exact, 6), "interval": [low, high], "p": p}


def _holm(tested: Sequence[dict[str, Any]]) -> None:
    """Add `p_holm` to each: p times the number of hypotheses not yet rejected, never below an earlier one."""
    highest = 0.0
    for rank, entry in enumerate(sorted(tested, key=lambda one: one["p"])):
        highest = max(highest, min(1.0, entry["p"] * (len(tested) - rank)))
        entry["p_holm"] = float(f"{highest:.3g}")
        entry["p"] = float(f"{entry['p']:.3g}")
