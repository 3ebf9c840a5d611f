"""Limits from good images and from verdicts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zsas.errors import ZsasError
from zsas.limits import Judged, limit_from_good, propose, read_verdicts


def lot(normal: list[float], anomalous: list[float]) -> list[Judged]:
    return [Judged("n", "normal", s) for s in normal] + [
        Judged("a", "anomalous", s) for s in anomalous
    ]


def test_the_limit_of_good_images_lies_above_all_of_them() -> None:
    # s² = 4 · 0.05² / 6, times 1 + 1/3: a few that score alike do not promise that the next will.
    assert limit_from_good([0.3, 0.3, 0.3]) == pytest.approx(
        0.3 + (0.01 / 6 * 4 / 3) ** 0.5, abs=1e-3
    )
    assert limit_from_good([0.3] * 40) == pytest.approx(0.32, abs=1e-3)
    assert limit_from_good([0.1, 0.2, 0.6]) >= 0.62
    assert limit_from_good([0.99, 0.99]) == 0.99
    # Copies of one part are many scores and one part.
    assert limit_from_good([0.3, 0.31, 0.3], parts=1) > limit_from_good([0.3, 0.31, 0.3])


@pytest.mark.parametrize(
    ("normal", "anomalous", "limit", "errors"),
    [
        ([0.2, 0.3], [0.7, 0.9], 0.5, (0, 0)),
        ([0.2, 0.3], [0.30001, 0.9], 0.300005, (0, 0)),
        ([0.2, 0.6], [0.5, 0.9], 0.35, (1, 0)),  # a miss costs three false alarms
        ([0.5, 0.55, 0.6, 0.65, 0.7], [0.45, 0.9], 0.8, (0, 1)),
        ([0.9], [0.1], 0.05, (1, 0)),
    ],
)
def test_the_proposal_costs_least(normal, anomalous, limit, errors) -> None:
    found = propose(lot(normal, anomalous), 0.7)
    assert found.limit == pytest.approx(limit)
    assert (found.false_alarms, found.misses) == errors
    assert found.before == 0.7
    assert found.misses_before == sum(score < 0.7 for score in anomalous)
    assert found.false_alarms_before == sum(score >= 0.7 for score in normal)
    assert found.sentence.count("false alarm") == 2


@pytest.mark.parametrize(
    ("judged", "says"),
    [
        ([], "no verdict on a normal"),
        (lot([], [0.9]), "normal part"),
        (lot([0.1], []), "at least 3"),
    ],
)
def test_too_little_to_propose_from_is_a_sentence(judged: list[Judged], says: str) -> None:
    with pytest.raises(ZsasError, match=says):
        propose(judged, 0.7)


def test_only_normal_parts_give_what_good_images_give() -> None:
    assert propose(lot([0.3, 0.3, 0.3], []), 0.7).limit == limit_from_good([0.3, 0.3, 0.3])


def test_verdicts_come_from_csv_and_from_what_the_page_saves(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"file": "a.png", "verdict": "normal", "decided_by": "person", "score": 0.8},
        {"file": "b.png", "verdict": "anomalous", "decided_by": "system", "score": 0.9},
        {"file": "c.png", "verdict": "unsure", "decided_by": "system", "score": 0.7},
        {"file": "d.png", "verdict": "", "decided_by": "", "score": None, "error": "It is empty."},
    ]
    expected = [Judged("a.png", "normal", 0.8, True), Judged("b.png", "anomalous", 0.9, False)]
    (tmp_path / "results.json").write_text(json.dumps(rows))
    assert read_verdicts(tmp_path / "results.json") == expected
    names = list(rows[3])
    lines = [";".join(names)] + [";".join(str(r.get(n) or "") for n in names) for r in rows]
    (tmp_path / "results.csv").write_text("\n".join(lines))
    assert read_verdicts(tmp_path / "results.csv") == expected
    (tmp_path / "plain.csv").write_text("file,verdict\na.png,NOK\n")
    assert read_verdicts(tmp_path / "plain.csv") == [Judged("a.png", "anomalous")]
    one = {"verdict": "anomalous", "decided_by": "system", "image_score": 0.8, "file": "e.png"}
    (tmp_path / "result.json").write_text(json.dumps(one))
    assert read_verdicts(tmp_path / "result.json") == [Judged("e.png", "anomalous", 0.8, False)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_verdicts_come_from_tables_as_spreadsheets_save_them(
    tmp_path: Path, encoding: str, delimiter: str
) -> None:
    lines = [("File", "Verdict", "Score"), ("Öse.png", "NIO", "0.5")]
    text = "\r\n".join(delimiter.join(cells) for cells in lines)
    path = tmp_path / "lot.csv"
    path.write_bytes(text.encode(encoding))
    assert read_verdicts(path) == [Judged("Öse.png", "anomalous", 0.5)]
    path.write_bytes(f"sep={delimiter}\r\n{text}".encode(encoding))
    assert read_verdicts(path) == [Judged("Öse.png", "anomalous", 0.5)]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "", "no verdict"),
        ("a.csv", "file,verdict\n", "no verdict"),
        ("a.csv", "file,verdict\na.png,perhaps\n", "row 1 has the verdict 'perhaps'"),
        ("a.csv", "file,verdict,score\na.png,ok,2\n", "row 1 has the score"),
        ("a.csv", "file,verdict,score\na.png,ok,nan\n", "row 1 has the score"),
        ("a.csv", "name\na.png\n", "row 1 has the verdict ''"),
        ("a.json", "{", "no JSON"),
        ("a.json", "[3]", "no row"),
        ("a.json", "3", "no verdict"),
        ("a.jsonl", "{}\nx", "no JSON"),
        ("a.jsonl", '{"image": "a.png", "result": "{cut"}', "row 1 holds no result"),
        ("a.jsonl", '{"image": "a.png", "result": "[1]"}', "row 1 holds no result"),
        ("a.csv", "file,verdict\n" + "x" * 140_000 + ",ok\n", "is no table (field larger"),
    ],
)
def test_a_file_without_verdicts_is_a_sentence(tmp_path: Path, name, text, says) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ZsasError) as caught:
        read_verdicts(tmp_path / name)
    assert says in str(caught.value)
    with pytest.raises(ZsasError, match="cannot be read"):
        read_verdicts(tmp_path / "missing.csv")
