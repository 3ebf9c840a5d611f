"""ROC and precision-recall curves of several maps against one mask: as numbers, as pictures, and as SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from zsas.result import Result

POINTS = 100
"""Number of points kept of a curve."""
COLOURS = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233),
    (230, 159, 0), (80, 80, 80), (148, 103, 189), (140, 86, 75), (188, 189, 34),
    (23, 190, 207), (127, 0, 0),
)  # fmt: skip
"""RGB of the lines in turn; the first six can be told apart by the colour-blind (Okabe and Ito)."""
_INK, _GRID = (60, 60, 60), (215, 215, 215)


@dataclass(frozen=True)
class Line:
    """The curves of one map against a mask over all marking levels, and the point of its final mask.

    Attributes:
        fpr: False-positive rate at each point of the ROC curve, float64 (n,), in [0, 1].
        tpr: True-positive rate there.
        recall: Recall at each point of the precision-recall curve, float64 (m,), in [0, 1].
        precision: Precision there.
        operating_point: Of the final mask: `fpr`, `tpr`, `precision` (None where it marks nothing) and `f1`.
        best: The level at which F1 is highest, and that F1.
    """

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    operating_point: Mapping[str, float | None]
    best: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "roc": {"fpr": _rounded(self.fpr), "tpr": _rounded(self.tpr)},
            "precision_recall": {
                "recall": _rounded(self.recall),
                "precision": _rounded(self.precision),
            },
            "operating_point": dict(self.operating_point),
            "best": dict(self.best),
        }


def measure(result: Result, mask: NDArray[np.bool_]) -> tuple[dict[str, float | None], Line | None]:
    """Pixel AUROC, F1-max and AP in [0, 1], None where undefined, and the curves behind them.

    Args:
        result: Its score map and its final mask are compared.
        mask: Ground truth, bool (H, W), in the frame of the image.
    """
    from zsas.evaluation.metrics import Truth, curves, pixel_metrics

    inside = result.inside
    pixels = mask.size if inside is None else int(np.count_nonzero(inside))
    mask = mask if inside is None else mask & inside
    counts = Truth.of(mask, inside).count(result.score_map)
    found = pixel_metrics(counts)
    values = {"pixel_auroc": found.auroc, "pixel_f1_max": found.f1_max, "pixel_ap": found.ap}
    metrics = {name: None if np.isnan(v) else round(v, 6) for name, v in values.items()}
    points = curves(counts, POINTS)
    if points is None:
        return metrics, None
    hit = int(np.count_nonzero(result.mask & mask))
    marked, true = int(np.count_nonzero(result.mask)), int(np.count_nonzero(mask))
    operating_point = {
        "fpr": round((marked - hit) / (pixels - true), 6),
        "tpr": round(hit / true, 6),
        "precision": round(hit / marked, 6) if marked else None,
        "f1": round(2 * hit / (marked + true), 6),
    }
    best = {"threshold": round(found.threshold, 6), "f1": round(found.f1_max, 6)}
    return metrics, Line(
        points.fpr, points.tpr, points.recall, points.precision, operating_point, best
    )


def colour(number: int) -> tuple[int, int, int]:
    """RGB of a line by its place."""
    return COLOURS[number % len(COLOURS)]


def panels(lines: Sequence[Line | None], side: int) -> list[NDArray[np.uint8]]:
    """Both diagrams, each uint8 RGB (side, side, 3); a ring where the final mask stands.

    Args:
        lines: In the order of their colours; None has no line.
        side: In pixels, at least 120.
    """
    found = []
    for title, horizontal, vertical in _DIAGRAMS:
        picture = np.full((side, side, 3), 255, np.uint8)
        left, top, size = 34, 10, side - 48
        _frame(picture, left, top, size, (title, *_AXES[title]))
        for number, line in enumerate(lines):
            if line is None:
                continue
            xy = np.stack([getattr(line, horizontal), 1.0 - getattr(line, vertical)], 1)
            # Sixteenths of a pixel, as the drawer rounds otherwise.
            at = np.round((xy * size + (left, top)) * 16).astype(np.int32)
            cv2.polylines(picture, [at], False, colour(number), 1, cv2.LINE_AA, 4)
            point = _place(line, title)
            if point is not None:
                centre = (round(left + point[0] * size), round(top + (1 - point[1]) * size))
                cv2.circle(picture, centre, 4, colour(number), 2, cv2.LINE_AA)
        found.append(picture)
    return found


def svg(named: Sequence[tuple[str, Line]], side: int = 240) -> str:
    """Both diagrams beside each other as one SVG whose lines bear names, with a legend.

    Args:
        named: Name and line of each system, in the order of their colours.
        side: Of a diagram, in its own units.
    """
    width, height = 2 * side + 60, side + 44 + 16 * -(-len(named) // 3)
    pieces = []
    for place, (title, horizontal, vertical) in enumerate(_DIAGRAMS):
        left = 28 + place * (side + 30)
        across, up = _AXES[title]
        pieces.append(
            f'<rect x="{left}" y="4" width="{side}" height="{side}" fill="none" stroke="currentColor" opacity=".4"/>'
            f'<text x="{left + side / 2:g}" y="{side + 20}" text-anchor="middle">{across}</text>'
            f'<text transform="translate({left - 8} {4 + side / 2:g}) rotate(-90)" text-anchor="middle">{up}</text>'
        )
        for number, (name, line) in enumerate(named):
            points = " ".join(
                f"{left + x * side:.1f},{4 + (1 - y) * side:.1f}"
                for x, y in zip(getattr(line, horizontal), getattr(line, vertical), strict=True)
            )
            ink = "rgb({},{},{})".format(*colour(number))
            pieces.append(
                f'<polyline points="{points}" fill="none" stroke="{ink}" stroke-width="1.5">'
                f"<title>{escape(name)}</title></polyline>"
            )
            point = _place(line, title)
            if point is not None:
                x, y = left + point[0] * side, 4 + (1 - point[1]) * side
                pieces.append(
                    f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="none" stroke="{ink}" stroke-width="2">'
                    f"<title>{escape(name)}: its mask</title></circle>"
                )
    for number, (name, _) in enumerate(named):
        x, y = 28 + number % 3 * (width - 40) / 3, side + 40 + 16 * (number // 3)
        ink = "rgb({},{},{})".format(*colour(number))
        pieces.append(
            f'<rect x="{x:g}" y="{y - 9:g}" width="10" height="10" fill="{ink}"/>'
            f'<text x="{x + 15:g}" y="{y:g}">{escape(name)}</text>'
        )
    label = "ROC and precision-recall curves of " + ", ".join(name for name, _ in named)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" font-size="12" '
        f'fill="currentColor" style="width:100%;height:auto">{"".join(pieces)}</svg>'
    )


_DIAGRAMS = (("ROC", "fpr", "tpr"), ("PR", "recall", "precision"))
_AXES = {"ROC": ("false-positive rate", "true-positive rate"), "PR": ("recall", "precision")}


def _place(line: Line, title: str) -> tuple[float, float] | None:
    """The point of the final mask in a diagram."""
    names = ("fpr", "tpr") if title == "ROC" else ("tpr", "precision")
    x, y = (line.operating_point[name] for name in names)
    return None if x is None or y is None else (x, y)


def _frame(
    picture: NDArray[np.uint8], left: int, top: int, size: int, words: tuple[str, str, str]
) -> None:
    """Axes from 0 to 1 with a grid of quarters."""
    font, thin = cv2.FONT_HERSHEY_SIMPLEX, cv2.LINE_AA
    for quarter in range(5):
        x, y = left + round(quarter * size / 4), top + round(quarter * size / 4)
        cv2.line(picture, (x, top), (x, top + size), _GRID, 1)
        cv2.line(picture, (left, y), (left + size, y), _GRID, 1)
    if words[0] == "ROC":
        cv2.line(picture, (left, top + size), (left + size, top), _GRID, 1, thin)
    cv2.rectangle(picture, (left, top), (left + size, top + size), _INK, 1)
    for text, at in (("0", (left - 12, top + size)), ("1", (left - 12, top + 8))):
        cv2.putText(picture, text, at, font, 0.4, _INK, 1, thin)
    for text, at in (("0", (left, top + size + 14)), ("1", (left + size - 6, top + size + 14))):
        cv2.putText(picture, text, at, font, 0.4, _INK, 1, thin)
    cv2.putText(picture, words[1], (left + 40, top + size + 16), font, 0.42, _INK, 1, thin)
    upright = np.full((20, size, 3), 255, np.uint8)
    cv2.putText(upright, words[2], (40, 14), font, 0.42, _INK, 1, thin)
    picture[top : top + size, 0:20] = np.rot90(upright)


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 5) for value in values]
