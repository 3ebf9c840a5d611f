"""Intervals and paired differences as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zsas.evaluation.rows import markdown

TESTED = "pixel_f1_max"
"""The metric whose differences stand in table.md; the others are in results.json."""
SURE = 0.05
MOST_COLUMNS = 12


def intervals(results: Mapping[str, Any], metrics: Mapping[str, str]) -> list[str]:
    """The lines on how sure the figures are; none where nothing was drawn.

    Args:
        results: What is in results.json.
        metrics: Names of the columns by metric.
    """
    rows = [row for row in results["table"] if row["interval"]]
    if not rows:
        return []
    facts = results["intervals"]
    lines = [
        "## 95 % intervals",
        "",
        f"Percentile bootstrap over images, {facts['draws']} draws, normal and anomalous ones apart within each "
        "category: what other images of the same categories would give. Percent.",
        "",
    ]
    if facts["few_images"]:
        names = ", ".join(facts["few_images"])
        lines += [f"Too narrow, for fewer than five normal or anomalous images: {names}.", ""]
    spans = [[row["name"], *(span(row["interval"].get(m)) for m in metrics)] for row in rows]
    lines += markdown(["", *metrics.values()], spans)
    return [*lines, "", *_differences(results, metrics[TESTED])]


def span(interval: list[float] | None) -> str:
    """An interval in percent: "38.1–44.3"."""
    return "–" if interval is None else f"{100 * interval[0]:.1f}–{100 * interval[1]:.1f}"


def _differences(results: Mapping[str, Any], metric: str) -> list[str]:
    """Line minus column for each pair of rows, a star where it is unlikely to be chance."""
    found = {(one["a"], one["b"]): one[TESTED] for one in results["paired"] if TESTED in one}
    names = [row["name"] for row in results["table"]]
    if not found or len(names) > MOST_COLUMNS:
        return []
    lines = [
        f"## Differences of {metric}",
        "",
        "Line minus column in points, on the same drawn images. * where the two-sided p of the paired bootstrap, "
        f"corrected by Holm for {len(found)} pairs, is below {SURE:g}; intervals, p, other metrics: results.json.",
        "",
    ]
    rows = []
    for name in names[:-1]:
        cells = [name]
        for other in names[1:]:
            one = found.get((name, other))
            star = "*" if one is not None and one["p_holm"] < SURE else ""
            cells.append("" if one is None else f"{100 * one['difference']:+.1f}{star}")
        rows.append(cells)
    return [*lines, *markdown(["", *names[1:]], rows), ""]
