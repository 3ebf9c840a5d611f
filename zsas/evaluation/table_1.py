"""The paper's Table 1 and what is known beside it: each system's published conditions, figures, independent re-runs.

Facts of papers and public repositories; `docs/systems.md` says of each where it comes from. Figures are pixel AUROC,
F1-max and AP in percent, means over categories; None where nobody printed one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from zsas.errors import ZsasError
from zsas.evaluation.interval_tables import span
from zsas.evaluation.rows import markdown, percent, tenths
from zsas.models import PUBLISHED as PUBLISHED_WEIGHTS
from zsas.models import ModelChoice, Models, weights_file
from zsas.systems import localizers

Figures = tuple[float, float, float | None]
VISUALAD = "VisualAD's README"


@dataclass(frozen=True)
class Conditions:
    """How one system's figures were published.

    Attributes:
        row: Its name in Table 1 of the paper, "" where it has no row there.
        side: Side of the square at which maps and masks were compared, in pixels.
        averaged: Whether masks were averaged into that square; see `zsas.evaluation.conditions.Condition`. All public
            code but SAA's does so; for the paper and ClipSAM, which have none, it is taken for granted.
        text: What its sentences name.
        paper: Its row in Table 1 by data set.
        own: What its own authors or repository print, where that is no row of Table 1.
        reruns: Independent re-runs by data set, each with its source.
        settings: By data set, settings other than the system's defaults.
        note: What else must be known before figures are compared.
    """

    row: str
    side: int
    text: str
    paper: Mapping[str, Figures] = field(default_factory=dict)
    own: Mapping[str, Figures] = field(default_factory=dict)
    averaged: bool = True
    reruns: Mapping[str, tuple[tuple[str, Figures], ...]] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    note: str = ""


_NAMED, _OBJECT, _NONE = "the category", 'the word "object"', "no text"

PUBLISHED: dict[str, Conditions] = {
    "winclip": Conditions(
        "WinCLIP", 240, _NAMED,
        {"mvtec": (85.1, 31.7, None), "visa": (79.6, 14.8, None)},
        reruns={
            "mvtec": (("Accurate-WinCLIP", (82.3, 24.8, 18.2)), (VISUALAD, (82.3, 24.8, 18.2))),
            "visa": (("Accurate-WinCLIP", (73.2, 9.0, 5.4)), (VISUALAD, (73.2, 9.0, 5.4))),
        },
    ),
    "april-gan": Conditions(
        "APRIL-GAN", 518, _NAMED,
        {"mvtec": (87.6, 43.3, 40.8), "visa": (94.2, 32.3, 25.7)},
        reruns={"mvtec": ((VISUALAD, (87.5, 42.3, 39.1)),), "visa": ((VISUALAD, (93.8, 32.6, 26.2)),)},
    ),
    "sdp": Conditions(
        "SDP", 240, _NAMED,
        {"mvtec": (88.7, 35.3, 28.5), "visa": (84.1, 16.0, 9.6)},
        settings={"visa": {"sdp_distance": 1.5, "sdp_neighbours": 25}},
    ),
    "sdp+": Conditions(
        "SDP+", 240, _NAMED,
        {"mvtec": (91.2, 41.9, 39.4), "visa": (94.8, 26.5, 20.3)},
        settings={"visa": {"sdp_distance": 1.5, "sdp_neighbours": 25, "blur": 4.3}},
    ),
    "anomalyclip": Conditions(
        "AnomalyCLIP", 518, _OBJECT,
        {"mvtec": (91.1, 39.1, 34.5), "visa": (95.5, 28.3, 21.3)},
        reruns={"mvtec": ((VISUALAD, (91.0, 38.9, 34.4)),), "visa": ((VISUALAD, (95.4, 27.6, 20.7)),)},
    ),
    "saa": Conditions(
        "SAA", 400, "general phrases",
        {"mvtec": (67.7, 23.8, 15.2), "visa": (83.7, 12.8, 5.5)},
        averaged=False,
        note="no code of this row is public: our reading",
    ),
    "saa+": Conditions(
        "SAA+", 400, "phrases and properties of each category, tuned on the test sets",
        {"mvtec": (73.2, 37.8, 28.8), "visa": (74.0, 27.1, 22.4)},
        averaged=False,
        note="users could not repeat the published figures",
    ),
    "clipsam": Conditions(
        "ClipSAM", 518, _NAMED,
        {"mvtec": (92.3, 47.8, 45.9), "visa": (95.6, 33.1, 26.0)},
        note="no code is public: our reading",
    ),
    "paper": Conditions(
        "the paper", 518, _NAMED,
        {"mvtec": (89.5, 48.8, 46.4), "visa": (94.8, 36.5, 28.0)},
    ),
    "anomalyvfm": Conditions(
        "", 96, _NONE,
        own={"mvtec": (91.1, 44.0, 42.5), "visa": (94.5, 30.4, 24.7)},
        note="published at 96 px with CLIP; SigLIP2 has 93.2 / 50.5 / 51.2 on MVTec-AD",
    ),
    "visualad": Conditions(
        "", 518, _NONE,
        own={"mvtec": (90.8, 43.9, 41.2), "visa": (95.8, 34.6, 28.4)},
    ),
}  # fmt: skip
"""By the name in the registry; a system that is not yet in the registry waits here for its row."""

PAPER_TABLE_1: dict[str, dict[str, Figures]] = {
    data: {one.row: one.paper[data] for one in PUBLISHED.values() if data in one.paper}
    for data in ("mvtec", "visa")
}
"""Rows of the paper's Table 1 by data set."""

TRAINED_ON = {"mvtec": "visa", "visa": "mvtec"}
"""The data set whose published weights judge another one: never itself."""


def with_published_weights(choice: ModelChoice, data: str) -> ModelChoice:
    """The models with the published weights that were trained on the other data set, for localizers that have none.

    Only under a preset of the papers' own models, for which they were made. What cannot be had stays away, and its rows
    say so.
    """
    models = Models(choice)
    if not models.preset.papers_own or choice.clip or data not in TRAINED_ON:
        return choice
    found = dict(choice.weights)
    for name, part in localizers().items():
        published = f"{part.trained_as}:{TRAINED_ON[data]}"
        if part.weights and name not in found and published in PUBLISHED_WEIGHTS:
            try:
                weights_file(published)
            except ZsasError:
                continue
            found[name] = published
    return replace(choice, weights=found)


def section(results: Mapping[str, Any]) -> list[str]:
    """The lines of "Beside Table 1": ours with its interval, the paper's row, re-runs, and conditions, a row a system.

    Args:
        results: What is in results.json; its rows say with `published` which system's conditions they have.
    """
    rows = [row for row in results["table"] if row.get("published")]
    missing = results.get("cannot_run", {})
    names = {row["name"] for row in rows}
    waiting = [name for name in missing if name in PUBLISHED and name not in names]
    if not rows:
        return []
    data = results["dataset"]
    lines = ["## Beside Table 1", ""]
    if data not in PAPER_TABLE_1:
        lines += [
            "Other images than the paper's: its figures, on MVTec-AD, are shown for scale, not to compare.",
            "",
        ]
    shown = data if data in PAPER_TABLE_1 else "mvtec"
    lines += [
        "Pixel AUROC / F1-max / AP in percent, each system under its own published conditions.",
        "",
    ]
    cells = []
    for row in rows:
        known = PUBLISHED.get(row["published"])
        cells.append([row["name"], _measured(row), *_known(known, shown), _conditions(row, known)])
    cells += [[n, "not run", *_known(PUBLISHED[n], shown), missing[n]] for n in waiting]
    heads = [
        "system",
        "measured here (95 % interval)",
        "the paper's Table 1",
        "others",
        "conditions",
    ]
    return [*lines, *markdown(heads, cells, words=len(heads))]


def _measured(row: Mapping[str, Any]) -> str:
    parts = []
    for metric in ("pixel_auroc", "pixel_f1_max", "pixel_ap"):
        value, interval = row["mean"][metric], row.get("interval", {}).get(metric)
        words = percent(value)
        if interval is not None:
            words += f" ({span(interval)})"
        parts.append(words)
    return " / ".join(parts)


def _known(known: Conditions | None, data: str) -> list[str]:
    """The paper's row, and what others print."""
    if known is None:
        return ["–", "–"]
    others = [f"{_words(f)} ({source})" for source, f in known.reruns.get(data, ())]
    if data in known.own:
        others.insert(0, f"{_words(known.own[data])} (its authors)")
    return [_words(known.paper[data]) if data in known.paper else "–", "; ".join(others) or "–"]


def _words(figures: Figures) -> str:
    return " / ".join(tenths(figures))


def _conditions(row: Mapping[str, Any], known: Conditions | None) -> str:
    settings = row["settings"]
    side = row.get("square") or 0
    parts = [
        f"input {row['resolution']} px" if row.get("resolution") else "",
        f"blur {settings['blur']:g}",
        f"compared at {side} × {side} px" if side else "compared at each image's own size",
        f"text names {known.text}" if known is not None and known.text != _NONE else _NONE,
        known.note if known is not None else "",
    ]
    return ", ".join(part for part in parts if part)
