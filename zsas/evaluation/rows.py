"""The figures of a category, and their means: the rows of every table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from zsas.evaluation.metrics import image_metrics, pixel_metrics
from zsas.evaluation.records import Totals

METRICS = {
    "pixel_auroc": "pixel AUROC",
    "pixel_f1_max": "pixel F1-max",
    "pixel_ap": "pixel AP",
    "pixel_aupro": "AUPRO",
    "mask_f1": "mask F1",
    "image_auroc": "image AUROC",
    "image_f1_max": "image F1-max",
    "image_ap": "image AP",
}
"""Columns of the tables; `mask_f1` is that of the final masks, which need no threshold."""

Row = dict[str, "float | None"]


def category_row(totals: Totals, condition: int) -> Row:
    """All metrics of one condition on one category, in [0, 1]; None where one is not defined."""
    pixel = pixel_metrics(totals.counts[condition])
    known = [
        image for image in totals.images if image["anomalous"] is not None and not image["error"]
    ]
    whole = image_metrics(
        [image["image_score"][condition] for image in known],
        [image["anomalous"] for image in known],
    )
    judged = [image for image in totals.images if image["truth"]]
    hit, marked, true = (
        sum(image[name][condition] for image in judged) for name in ("hit", "marked", "true")
    )
    f1 = 2 * hit / (marked + true) if true else math.nan
    values = {
        "pixel_auroc": pixel.auroc,
        "pixel_f1_max": pixel.f1_max,
        "pixel_ap": pixel.ap,
        "pixel_aupro": pixel.aupro,
        "pixel_threshold": pixel.threshold,
        "binning_error": pixel.binning_error,
        "mask_f1": f1,
        "mask_iou": f1 / (2 - f1),
        "image_auroc": whole.auroc,
        "image_f1_max": whole.f1_max,
        "image_ap": whole.ap,
        "image_threshold": whole.threshold,
    }
    return {name: plain(value) for name, value in values.items()}


def mean_row(rows: Sequence[Row]) -> Row:
    """The mean over categories of every metric, over those where it is defined."""
    mean: Row = {}
    for name in rows[0] if rows else ():
        values = [value for row in rows if (value := row[name]) is not None]
        mean[name] = round(sum(values) / len(values), 6) if values else None
    return mean


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1) -> list[str]:
    """The lines of a table in Markdown, of which the first columns, so many, hold words and the others numbers."""
    rules = ["---"] * words + ["---:"] * (len(heads) - words)
    return [
        "|" + "".join(f" {cell}".rstrip().replace("|", "\\|") + " |" for cell in one)
        for one in (heads, rules, *rows)
    ]


def percent(value: float | None) -> str:
    """A figure in [0, 1] in percent, "–" where it is not defined."""
    return "–" if value is None else f"{100 * value:.1f}"


def tenths(values: Iterable[float | None]) -> list[str]:
    """Figures as others have printed them, "–" for None."""
    return ["–" if value is None else f"{value:.1f}" for value in values]


def plain(value: float) -> float | None:
    """A figure as JSON has it: rounded, None where it is not defined."""
    return round(float(value), 6) if math.isfinite(value) else None
