"""Figures by kind of defect, as MVTec LOCO AD has them: each kind beside the good images alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from zsas.datasets.samples import Dataset
from zsas.evaluation.coarse import summed
from zsas.evaluation.metrics import aupro, image_metrics
from zsas.evaluation.records import Totals
from zsas.evaluation.rows import Row, markdown, mean_row, percent, plain

LIMITS = (0.05, 0.3)
"""Largest false-positive rates of the areas under the per-region overlap: LOCO's, and MVTec-AD's."""
COLUMNS = {
    "image_auroc": "image AUROC",
    **{f"pixel_aupro_{limit:g}": f"AUPRO up to {100 * limit:.0f} %" for limit in LIMITS},
}


def kinds_of(dataset: Dataset) -> tuple[str, ...]:
    """The defect types of a data set, sorted, if there are several and every category has all of them; else none."""
    each = [
        {sample.defect_type for sample in dataset.of(category) if sample.anomalous}
        for category in dataset.categories
    ]
    same = bool(each) and all(types == each[0] for types in each)
    return tuple(sorted(each[0])) if same and len(each[0]) > 1 else ()


def by_kind(totals: Totals, condition: int, kinds: Sequence[str]) -> dict[str, Row]:
    """The figures of one category under one condition for each kind, in [0, 1]; None where one is not defined.

    Those of pixels are made of the images' own histograms of 2,048 bins, which move them by less than 10⁻³ on
    continuous maps; None where a category has too many images for these.
    """
    images = totals.images
    found: dict[str, Row] = {}
    for kind in kinds:
        chosen = [
            i
            for i, image in enumerate(images)
            if not image["error"]
            and (
                image["anomalous"] is False or (image["anomalous"] and image["defect_type"] == kind)
            )
        ]
        scores = [images[i]["image_score"][condition] for i in chosen]
        whole = image_metrics(scores, [images[i]["anomalous"] for i in chosen])
        values = {"image_auroc": whole.auroc}
        if totals.each is not None:
            counts = summed([totals.each[i][condition] for i in chosen])
            values |= {f"pixel_aupro_{limit:g}": aupro(counts, limit) for limit in LIMITS}
        found[kind] = {name: plain(values.get(name, math.nan)) for name in COLUMNS}
    return found


def means_of_kinds(each: Mapping[str, Mapping[str, Row]], kinds: Sequence[str]) -> dict[str, Any]:
    """Means over categories of the figures of each kind, the mean over kinds, and the categories' own."""
    means = {kind: mean_row([category[kind] for category in each.values()]) for kind in kinds}
    return {**means, "mean": mean_row(list(means.values())), "categories": each}


def kinds_section(results: Mapping[str, Any]) -> list[str]:
    """The lines of table.md: means over categories of each kind, and of all kinds; none where there are no kinds."""
    kinds = results.get("kinds", [])
    if not kinds:
        return []
    rows = [
        [row["name"], kind, *(percent(row["kinds"][kind][column]) for column in COLUMNS)]
        for row in results["table"]
        for kind in (*kinds, "mean")
    ]
    return [
        "## By kind of defect",
        "",
        "Each kind beside the good images alone; means over categories in percent. Categories: results.json.",
        "",
        *markdown(["", "kind", *COLUMNS.values()], rows, words=2),
        "",
    ]
