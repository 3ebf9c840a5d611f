"""A limit for the image score, from images of good parts or from verdicts that a person gave."""

from __future__ import annotations

import codecs
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
from zsas.stages import counted

if TYPE_CHECKING:
    from zsas.localizers.base import Localizer
    from zsas.localizers.references import References
    from zsas.part import Part
    from zsas.settings import Settings

SPREADS = 1.0
"""The limit lies so many standard deviations above the mean score of good images.

Chosen on synthetic parts: with two, a third more of the anomalies passed, and a twentieth fewer of the good images were
called anomalous.
"""
LEAST_SPREAD = 0.02
"""The limit lies at least so far above the highest score of a good image."""
USUAL_SPREAD, USUAL_PARTS = 0.05, 4
"""Prior of the standard deviation of good images' scores: its value on the synthetic sets, and how many images it
counts as. Without it, a few images that happen to score alike would give a limit below the next good part's score."""
MISS_WEIGHT = 3.0
"""A missed anomalous part costs as much as so many false alarms."""
_NORMAL = ("normal", "ok", "good", "io", "pass", "0")
_ANOMALOUS = ("anomalous", "nok", "bad", "nio", "fail", "defect", "1")


@dataclass(frozen=True)
class Judged:
    """One image and the verdict on it.

    Attributes:
        file: Name of the image.
        verdict: The verdict that is taken as true.
        score: Its image score in [0, 1]; None if it has not been examined yet.
        by_person: Whether a person gave the verdict; otherwise the system did, and nobody corrected it.
    """

    file: str
    verdict: Literal["normal", "anomalous"]
    score: float | None = None
    by_person: bool = True


@dataclass(frozen=True)
class Proposal:
    """A proposed limit, with the errors on a lot of judged parts that it and the present limit give.

    Attributes:
        limit: Proposed limit: the image score from which a part is anomalous, in [0, 1].
        false_alarms: Normal parts of the lot at or above `limit`.
        misses: Anomalous parts of the lot below `limit`.
        before: The present limit.
        false_alarms_before: Normal parts of the lot at or above `before`.
        misses_before: Anomalous parts of the lot below `before`.
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
    def is_better(self) -> bool:
        """Whether it costs less than the limit as it stands."""
        now = self.false_alarms + MISS_WEIGHT * self.misses
        return now < self.false_alarms_before + MISS_WEIGHT * self.misses_before

    @property
    def sentence(self) -> str:
        """The proposal in a sentence, with the errors of both limits."""
        said = counted(self.by_person, "verdict")
        lot = f"{self.normal} normal and {self.anomalous} anomalous parts, {said} by a person"
        return (
            f"Limit {self.before:g} gave {_errors(self.false_alarms_before, self.misses_before)} on {lot}; "
            f"limit {self.limit:g} would have given {_errors(self.false_alarms, self.misses)}."
        )


def _errors(false_alarms: int, misses: int) -> str:
    return f"{counted(false_alarms, 'false alarm')} and {counted(misses, 'miss', 'misses')}"


def limit_from_good(scores: Sequence[float], parts: int | None = None) -> float:
    """The limit that follows from scores of good parts: one standard deviation above their mean, and above all of them.

    The standard deviation is the one expected of a further part's score: its square is s² (1 + 1/n) with
    s² = (ν₀ s₀² + Σ (x − x̄)²) / (ν₀ + n − 1), where s₀ and ν₀ are `USUAL_SPREAD` and `USUAL_PARTS`.

    Args:
        scores: Image scores, at least one, in [0, 1].
        parts: Number n of parts that they belong to, where several scores are of copies of one part; by default each
            score is of a part of its own.

    Returns:
        In [0.05, 0.99], rounded to three decimals.

    Example:
        >>> limit_from_good([0.30, 0.34, 0.32])
        0.369
    """
    values = np.asarray(scores, np.float64)
    count = min(parts or len(values), len(values))
    squares = float(((values - values.mean()) ** 2).sum()) * max(count - 1, 0)
    squares /= max(len(values) - 1, 1)
    variance = (USUAL_PARTS * USUAL_SPREAD**2 + squares) / (USUAL_PARTS + count - 1)
    wanted = float(values.mean()) + SPREADS * (variance * (1 + 1 / count)) ** 0.5
    above = max(wanted, float(values.max()) + LEAST_SPREAD)
    return round(min(max(above, 0.05), 0.99), 3)


def source_of_limit(settings: Settings, part: Part | None) -> str:
    """Where the limit in the settings comes from: "person", or what the profile says; "default" if none was given."""
    named = settings.given.get("verdict_threshold")
    if named is None:
        return "default"
    kept = part is not None and part.settings.given.get("verdict_threshold") == named
    return part.limit_from if part and kept and part.limit_from != "default" else "person"


def limit_of(references: References, localizer: Localizer, settings: Settings) -> float | None:
    """The limit that follows from reference images; see `zsas.segmenter.Segmenter.limit_of`."""
    scores = [localizer.image_score(one, settings) for one in own_evidence(references)]
    return limit_from_good(scores, len(references)) if scores else None


def limited(
    settings: Settings, localizer: Localizer, references: References | None, source: str
) -> tuple[Settings, str]:
    """The settings with the limit that follows from reference images, unless a limit was given, and its source.

    Args:
        settings: All settings.
        localizer: Makes the image score.
        references: Reference images.
        source: From `source_of_limit`; "" if there is no profile.

    Returns:
        The settings, and "default", "person", "references" or "verdicts".
    """
    source = source or source_of_limit(settings, None)
    limit = None
    if references and source == "default":
        limit = limit_of(references, localizer, settings)
    if limit is None:
        return settings, source
    return settings.unless_given(verdict_threshold=limit), "references"


def score_alone(
    evidence: Mapping[str, float], localizer: Localizer, settings: Settings
) -> float | None:
    """The image score that the image would have without reference images and batch, in [0, 1].

    None if neither changed the score, or if reference images changed it in a region of interest: there, only the
    lowered map is known.
    """
    if not evidence.keys() & {"map_alone", "batch_weight"}:
        return None
    left = {name: value for name, value in evidence.items() if not name.endswith("_weight")}
    left["map"] = evidence.get("map_alone", evidence["map"])
    return localizer.image_score(left, settings)


def propose(judged: Iterable[Judged], before: float) -> Proposal:
    """The limit with the lowest cost on a lot of judged parts; a miss costs as much as `MISS_WEIGHT` false alarms.

    Among limits that cost the same, the middle of the widest gap between scores is taken.

    Args:
        judged: The parts, all with their scores.
        before: The present limit.

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
        text = _text(path.read_bytes())
    except OSError as error:
        raise ZsasError(f"{path} cannot be read ({reason(error)}).") from None
    if path.suffix.lower() == ".csv":
        rows: list[Any] = _rows_of_csv(text, path.name)
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


def _text(data: bytes) -> str:
    """The text of a file as programs and spreadsheets save it: UTF-8, UTF-16 with its mark, or Windows' code page."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _rows_of_csv(text: str, name: str) -> list[Any]:
    """The rows by the names of their columns in lower case; Excel's line `sep=;` above them is passed over."""
    if text[:4].lower() == "sep=":
        text = text.partition("\n")[2]
    first, _, rest = text.partition("\n")
    delimiter = max(",;\t", key=first.count)
    table = io.StringIO(f"{first.lower()}\n{rest}")
    try:
        return list(csv.DictReader(table, delimiter=delimiter))
    except csv.Error as error:
        raise ZsasError(f"{name} is no table ({reason(error)}).") from None


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
    """The verdict of a row; None if the image failed, or the system was unsure and no person decided."""
    if not isinstance(row, Mapping):
        raise ZsasError(f"{where} is no row with file and verdict.")
    if isinstance(row.get("result"), str) and "verdict" not in row:  # a line of results.jsonl
        try:
            row = {**row, **(json.loads(row["result"]) if row["result"] else {})}
        except (ValueError, TypeError):
            raise ZsasError(f"{where} holds no result that can be read.") from None
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
