"""Checkpoints and curves of a training."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from zsas.errors import ZsasError, reason
from zsas.files import whole


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state`` so that an interruption never leaves half a file."""
    with whole(path) as part:
        torch.save(dict(state), part)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint written by :func:`save_checkpoint`.

    Raises:
        ZsasError: There is no checkpoint at ``path``, or it is damaged.
    """
    if not path.is_file():
        raise ZsasError(
            f"There is no checkpoint at {path}: start a training there first, or give its folder."
        )
    try:
        return {**torch.load(path, map_location="cpu", weights_only=True)}
    except Exception as error:  # torch raises half a dozen kinds for damaged files
        raise ZsasError(
            f"The checkpoint {path} cannot be read ({reason(error)}); start anew, or choose another folder."
        ) from None


class CurveLog:
    """A csv of named numbers, one row a report, and a plot of it.

    Args:
        path: The csv file; rows are appended when ``resume`` is true.
        columns: Names of the numbers, in the order of the file.
    """

    def __init__(self, path: Path, columns: tuple[str, ...], *, resume: bool = False) -> None:
        self.path = path
        self.columns = columns
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (resume and path.is_file()):
            with path.open("w", newline="") as file:
                csv.writer(file).writerow(columns)

    def write(self, row: Mapping[str, float]) -> None:
        """Append one row and print it as one line."""
        values = [row.get(column, math.nan) for column in self.columns]
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow([f"{value:.6g}" for value in values])
        text = " ".join(f"{c} {v:.4g}" for c, v in zip(self.columns, values, strict=True))
        print(text, flush=True)

    def rows(self) -> Iterator[dict[str, float]]:
        """All rows of the file as numbers."""
        with self.path.open(newline="") as file:
            for row in csv.DictReader(file):
                yield {name: float(value) for name, value in row.items()}


def plot_curves(csv_path: Path, png_path: Path, *, x: str = "step") -> None:
    """Draw every column of a curve file over ``x``, one small panel each.

    Args:
        csv_path: File written by :class:`CurveLog`.
        png_path: Where the picture goes.
        x: Column of the horizontal axis.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with csv_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        return
    names = [name for name in rows[0] if name != x]
    lines = math.ceil(len(names) / 3)
    figure = Figure(figsize=(11, 2.2 * lines), layout="constrained")
    FigureCanvasAgg(figure)
    for number, name in enumerate(names, start=1):
        panel = figure.add_subplot(lines, 3, number)
        panel.plot([float(row[x]) for row in rows], [float(row[name]) for row in rows], linewidth=1)
        panel.set_title(f"{name}: {float(rows[-1][name]):.4g}", fontsize=9)
    png_path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(png_path, dpi=100, metadata={"Software": None})
