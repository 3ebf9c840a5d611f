"""The same photo under other settings, side by side, measured where a mask is given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.evaluation.conditions import KERNELS
from zsas.result import Result
from zsas.settings import Settings
from zsas.ui import drawing
from zsas.ui.engine import Engine
from zsas.ui.visitor import Session

ABLATION: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("CLIP map alone", "no SAM", {"fusion": "map"}),
    ("Points", "M1", {"steps": 1}),
    ("Points, logits", "M2", {"steps": 2}),
    ("Points, box, logits", "M3, one cascade a region", {"steps": 3, "prompting": "per_region"}),
    ("All points together", "M3, joint as in the paper", {"steps": 3, "prompting": "joint"}),
)
STYLES = ("", "7 3", "2 3", "9 3 2 3", "1 2")


@dataclass(frozen=True)
class Row:
    """One variant: its result, and its measures where there is a mask.

    Attributes:
        title: What differs, in a few words.
        detail: A second line.
        result: The decision.
        measures: (AUROC, F1-max, AP) of the pixels, or None without a mask.
        curves: `zsas.evaluation.metrics.Curves`, or None.
    """

    title: str
    detail: str
    result: Result
    measures: tuple[float, float, float] | None = None
    curves: Any = None


def compare(
    engine: Engine,
    session: Session,
    preset: str,
    settings: Settings,
    truth: NDArray[np.bool_] | None,
) -> Iterator[str]:
    """The page's comparison, growing by one variant at a time.

    Args:
        engine: Knows the encoding, or encodes the photo.
        session: The photo and the visitor's points.
        preset: Name.
        settings: What all variants have in common.
        truth: bool (H, W), or None.

    Raises:
        ZsasError: If the photo is gone or the mask does not fit it.
    """
    encoding = engine.encode(preset, session.image, settings)
    measure = _measure(truth)
    rows: list[Row] = []
    for title, detail, changes in ABLATION:
        result = engine.decide(preset, encoding, settings.replace(**changes), session.clicks)
        rows.append(Row(title, detail, result, *measure(result)))
        yield page(rows, [], truth)
    grid: list[Row] = []
    for shape, size in KERNELS:
        result = engine.decide(
            preset, encoding, settings.replace(kernel_shape=shape, kernel_size=size), session.clicks
        )
        grid.append(Row(f"{shape} {size}", "", result, *measure(result)))
        yield page(rows, grid, truth)


def _measure(truth: NDArray[np.bool_] | None) -> Any:
    if truth is None or not truth.any():
        return lambda result: (None, None)
    from zsas.evaluation.metrics import Truth, curves, pixel_metrics

    prepared = Truth.of(truth)

    def measure(result: Result) -> tuple[tuple[float, float, float], Any]:
        counts = prepared.count(result.score_map)
        found = pixel_metrics(counts)
        return (found.auroc, found.f1_max, found.ap), curves(counts, 120)

    return measure


def page(rows: Sequence[Row], grid: Sequence[Row], truth: NDArray[np.bool_] | None) -> str:
    """The comparison as HTML."""
    pieces = ['<section class="zs-compare"><h3>The cascade, step by step</h3><div class="zs-row">']
    if truth is not None:
        shape = rows[0].result.image.shape
        parts = [drawing.PHOTO, drawing.area(truth, "zs-mask zs-truth")]
        pieces.append(
            f"<figure>{drawing.drawing(shape, 'The photo with its ground truth', parts)}"
            "<figcaption><strong>Ground truth</strong><span>the given mask</span></figcaption></figure>"
        )
    pieces += [_figure(row) for row in rows]
    pieces.append("</div>")
    if any(row.measures for row in rows):
        pieces.append(f'<div class="zs-pair">{_table(rows)}{_plots(rows)}</div>')
    elif truth is not None:
        pieces.append("<p>The mask is empty, so there is nothing to measure against.</p>")
    else:
        pieces.append(
            "<p>Give a mask of the same size to see pixel AUROC, F1-max and AP of each.</p>"
        )
    if grid:
        pieces.append(
            '<h3>The ring\'s kernel, shape and size</h3><div class="zs-pair"><div class="zs-grid">'
        )
        pieces += [_figure(row) for row in grid]
        pieces.append("</div>")
        if any(row.measures for row in grid):
            pieces.append(_table(grid))
        pieces.append("</div>")
    pieces.append("</section>")
    return "".join(pieces)


def _figure(row: Row) -> str:
    result = row.result
    parts = [drawing.PHOTO]
    if result.settings.fusion == "map":
        parts.append(drawing.heat(result.score_map))
        region = result.stage("region_and_ring")
        if region is not None and region.mask is not None:
            parts.append(drawing.area(region.mask, "zs-mask zs-line"))
    else:
        parts.append(drawing.area(result.mask))
    label = f"{row.title}: {len(result.regions)} regions, {int(result.mask.sum())} pixels"
    values = ""
    if row.measures:
        values = f"<b>F1 {_percent(row.measures[1])}</b>"
    return (
        f"<figure>{drawing.drawing(result.image.shape, label, parts)}<figcaption>"
        f"<strong>{escape(row.title)}</strong><span>{escape(row.detail)}</span>{values}</figcaption></figure>"
    )


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def _table(rows: Sequence[Row]) -> str:
    measured = [row for row in rows if row.measures]
    best = [max(row.measures[i] for row in measured if row.measures) for i in range(3)]
    body = []
    for number, row in enumerate(measured):
        assert row.measures
        key = _key(number) if len(rows) <= len(STYLES) else ""
        cells = "".join(
            f"<td>{'<b>' if value == top else ''}{_percent(value)}{' ★</b>' if value == top else ''}</td>"
            for value, top in zip(row.measures, best, strict=True)
        )
        body.append(f"<tr><th scope='row'>{key}{escape(row.title)}</th>{cells}</tr>")
    return (
        '<div class="zs-scroll" tabindex="0" role="region" aria-label="Measures"><table class="zs-table">'
        "<caption>Pixels of this photo, per cent; ★ is the best of a column</caption><thead><tr>"
        '<th scope="col">Variant</th><th scope="col">AUROC</th><th scope="col">F1-max</th>'
        f'<th scope="col">AP</th></tr></thead><tbody>{"".join(body)}</tbody></table></div>'
    )


def _key(number: int) -> str:
    """The line that a variant has in the curves."""
    return (
        '<svg class="zs-key" width="34" height="8" aria-hidden="true">'
        f'<line class="zs-curve zs-c{number}" x1="1" y1="4" x2="33" y2="4" stroke-dasharray="{STYLES[number]}"/></svg>'
    )


def _plots(rows: Sequence[Row]) -> str:
    drawn = [(row, number) for number, row in enumerate(rows) if row.curves is not None]
    roc = [(row.curves.fpr, row.curves.tpr, number) for row, number in drawn]
    pr = [(row.curves.recall, row.curves.precision, number) for row, number in drawn]
    return (
        '<div class="zs-plots">'
        + _plot(roc, "ROC", "false-positive rate", "true-positive rate")
        + _plot(pr, "Precision and recall", "recall", "precision")
        + "</div>"
    )


def _plot(lines: Sequence[tuple[Any, Any, int]], title: str, x_name: str, y_name: str) -> str:
    paths = []
    for xs, ys, number in lines:
        data = "L".join(
            f"{40 + 240 * float(x):.1f} {250 - 240 * float(y):.1f}"
            for x, y in zip(xs, ys, strict=True)
        )
        paths.append(
            f'<path class="zs-curve zs-c{number}" stroke-dasharray="{STYLES[number]}" d="M{data}"/>'
        )
    ticks = "".join(
        f'<line class="zs-tick" x1="{40 + 240 * t}" x2="{40 + 240 * t}" y1="10" y2="250"/>'
        f'<line class="zs-tick" x1="40" x2="280" y1="{250 - 240 * t}" y2="{250 - 240 * t}"/>'
        f'<text x="{40 + 240 * t}" y="264" text-anchor="middle">{t:g}</text>'
        f'<text x="34" y="{254 - 240 * t}" text-anchor="end">{t:g}</text>'
        for t in (0, 0.5, 1)
    )
    return (
        f'<figure><svg class="zs-plot" viewBox="0 0 290 284" role="img" aria-label="{title} curves; the table above '
        f'has their areas">{ticks}{"".join(paths)}<text x="160" y="280" text-anchor="middle">{x_name}</text>'
        f'<text x="12" y="130" text-anchor="middle" transform="rotate(-90 12 130)">{y_name}</text></svg>'
        f"<figcaption><strong>{title}</strong></figcaption></figure>"
    )
