"""A limit for the image score, from images of good parts or from verdicts that a person gave."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from zsas.errors import ZsasError, reason
from zsas.localizers.references import own_evidence

if TYPE_CHECKING:
    from zsas.images import ImageSource
    from zsas.localizers.references import References
    from zsas.region import RegionOfInterest
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

SPREADS = 2.0
"""Standard deviations above the mean of good images' scores at which their limit lies: our choice. Three would let more
anomalies pass than the calibration of the scores, which has a limit of its own, means to.
"""
LEAST_SPREAD = 0.02
"""Standard deviation that good images' scores are taken to have at least: a few say little about it."""
MISS_WEIGHT = 3.0
"""How many false alarms a missed anomalous part costs."""
_NORMAL = ("normal", "ok", "good", "io", "pass", "0")
_ANOMALOUS = ("anomalous", "nok", "bad", "nio", "fail", "defect", "1")


@dataclass(frozen=True)
class Judged:
    """One image and the verdict on it.

    Attributes:
        file: Its name.
        verdict: What is true.
        score: Its image score in [0, 1]; None where it has still to be examined.
        by_person: Whether a person said so; else it is what the system said and nobody corrected.
    """

    file: str
    verdict: Literal["normal", "anomalous"]
    score: float | None = None
    by_person: bool = True


@dataclass(frozen=True)
class Proposal:
    """A limit for the next lot.

    Attributes:
        limit: Image score from which a part would be anomalous.
        false_alarms: Normal parts of this lot at or above it.
        misses: Anomalous parts of this lot below it.
        before: The limit as it stands.
        false_alarms_before: The same at the limit as it stands.
        misses_before: The same at the limit as it stands.
        normal: Normal parts of the lot.
        anomalous: Anomalous parts of the lot.
        by_person: How many of the verdicts a person gave.
    """

    limit: float
    false_alarms: int
    misses: int
    before: float
    false_alarms_before: int
    misses_before: int
    normal: int
    anomalous: int
    by_person: int

    @property
    def sentence(self) -> str:
        """What is proposed, and what it would have changed."""
        lot = f"{self.normal} normal and {self.anomalous} anomalous parts, {self.by_person} verdicts by a person"
        return (
            f"Limit {self.before:g} gave {_errors(self.false_alarms_before, self.misses_before)} on {lot}; "
            f"limit {self.limit:g} would have given {_errors(self.false_alarms, self.misses)}."
        )


def _errors(false_alarms: int, misses: int) -> str:
    alarms = f"{false_alarms} false alarm{'' if false_alarms == 1 else 's'}"
    return f"{alarms} and {misses} miss{'' if misses == 1 else 'es'}"


def limit_from_good(scores: Sequence[float]) -> float:
    """The limit that image scores of good parts ask for: two standard deviations above their mean, above all of them.

    Args:
        scores: At least two, in [0, 1].

    Example:
        >>> limit_from_good([0.30, 0.34, 0.32])
        0.36
    """
    values = np.asarray(scores, np.float64)
    wanted = values.mean() + SPREADS * max(float(values.std(ddof=1)), LEAST_SPREAD)
    above = max(float(wanted), float(values.max()) + LEAST_SPREAD)
    return round(min(max(above, 0.05), 0.99), 3)


def limit_from_references(
    segmenter: Segmenter,
    images: Sequence[ImageSource],
    references: References,
    settings: Settings,
    region: RegionOfInterest | None = None,
) -> float | None:
    """The limit that good images give each other: each is judged by the others alone (leave one out).

    Args:
        segmenter: The models.
        images: Of good parts, those that are remembered, in their order.
        references: Their memory, which knows how far each is from the others.
        settings: All settings.
        region: Where to look.

    Returns:
        The limit; None of fewer than three that agree, which say nothing about how much good parts differ.
    """
    own = own_evidence(references)
    agreeing = [i for i in range(len(images)) if i not in references.ignored]
    if len(agreeing) < 3 or len(own) != len(images):
        return None
    scores = []
    for i in agreeing:
        encoding = segmenter.begin(images[i], settings, region)
        scores.append(segmenter.image_score(encoding, settings, region=region, more=own[i]))
    return limit_from_good(scores)


def propose(judged: Iterable[Judged], before: float) -> Proposal:
    """The limit that would have served a lot best: a miss costs as much as `MISS_WEIGHT` false alarms.

    Among limits that cost the same, the middle of the widest gap between scores is taken.

    Args:
        judged: All with their scores.
        before: The limit as it stands.

    Raises:
        ZsasError: If there is no normal part, or too few of them where none is anomalous.
    """
    found = list(judged)
    normal = np.array([one.score for one in found if one.verdict == "normal"], np.float64)
    anomalous = np.array([one.score for one in found if one.verdict == "anomalous"], np.float64)
    if not normal.size:
        raise ZsasError(
            "There is no verdict on a normal part, so no limit can be proposed; add some good ones."
        )
    if not anomalous.size:
        if normal.size < 3:
            raise ZsasError(
                f"There are {normal.size} verdicts on normal parts and none on anomalous ones; at least 3 are needed."
            )
        limit = limit_from_good(normal.tolist())
    else:
        limit = _best(normal, anomalous)

    def errors(at: float) -> tuple[int, int]:
        return int((normal >= at).sum()), int((anomalous < at).sum())

    return Proposal(
        limit,
        *errors(limit),
        before,
        *errors(before),
        int(normal.size),
        int(anomalous.size),
        sum(one.by_person for one in found),
    )


def _best(normal: np.ndarray, anomalous: np.ndarray) -> float:
    scores = np.unique(np.concatenate([[0.0], normal, anomalous, [1.0]]))
    best, best_cost, best_gap = 0.5, np.inf, -1.0
    for low, high in itertools.pairwise(scores):
        middle = float(low + high) / 2
        cost = float((normal >= middle).sum() + MISS_WEIGHT * (anomalous < middle).sum())
        gap = float(high - low)
        if cost < best_cost or (cost == best_cost and gap > best_gap):
            short = round(middle, 3)
            best = short if low < short < high else middle
            best_cost, best_gap = cost, gap
    return best


def read_verdicts(path: str | Path) -> list[Judged]:
    """Verdicts from a file.

    Args:
        path: `.csv` with the columns `file` and `verdict`, and `score` and `decided_by` where they are there; the
            page's `results.csv` or `results.json`; a `result.json`; or `results.jsonl`.

    Raises:
        ZsasError: If it cannot be read, or a verdict is none.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ZsasError(f"{path} cannot be read ({reason(error)}).") from None
    if path.suffix.lower() == ".csv":
        rows: list[Any] = list(csv.DictReader(io.StringIO(text), delimiter=_delimiter(text)))
    else:
        rows = _rows_of_json(text, path)
    found = [
        judged
        for number, row in enumerate(rows, start=1)
        if (judged := _judged(row, f"{path.name}, row {number}")) is not None
    ]
    if not found:
        raise ZsasError(f"{path.name} has no verdict; it needs the columns file and verdict.")
    return found


def _delimiter(text: str) -> str:
    first = text.partition("\n")[0]
    return ";" if first.count(";") > first.count(",") else ","


def _rows_of_json(text: str, path: Path) -> list[Any]:
    try:
        if path.suffix.lower() == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ZsasError(f"{path.name} is no JSON ({reason(error)}).") from None
    if isinstance(values, dict):
        values = values.get("rows", [values])
    return values if isinstance(values, list) else []


def _judged(row: Any, where: str) -> Judged | None:
    """A row's verdict; None where there is none: it failed, or the system was unsure and nobody said more."""
    if not isinstance(row, Mapping):
        raise ZsasError(f"{where} is no row with file and verdict.")
    if isinstance(row.get("result"), str) and "verdict" not in row:  # a line of results.jsonl
        row = {**row, **(json.loads(row["result"]) if row["result"] else {})}
    file = str(row.get("file") or row.get("image") or row.get("name") or "")
    word = str(row.get("verdict") or "").strip().lower()
    by_person = str(row.get("decided_by") or "person") == "person"
    if row.get("error") or (word == "unsure" and not by_person):
        return None
    if word not in (*_NORMAL, *_ANOMALOUS):
        raise ZsasError(
            f"{where} has the verdict {word!r:.40}, but it must be normal or anomalous."
        )
    verdict: Literal["normal", "anomalous"] = "normal" if word in _NORMAL else "anomalous"
    return Judged(file.lstrip("'"), verdict, _score(row, where), by_person)


def _score(row: Mapping[str, Any], where: str) -> float | None:
    value = row.get("score") if row.get("score") not in (None, "") else row.get("image_score")
    if value in (None, ""):
        return None
    try:
        score = float(str(value).replace(",", "."))
    except ValueError:
        score = float("nan")
    if not 0 <= score <= 1:
        raise ZsasError(
            f"{where} has the score {value!r:.40}, but it must be a number from 0 to 1."
        )
    return score
