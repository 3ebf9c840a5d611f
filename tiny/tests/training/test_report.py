"""`python -m tiny report`: the figures of the model card, here on few images of few families."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.helpers.datasets import write_folder
from tiny.cli import app
from tiny.synthetic import proxies, scene

pytestmark = pytest.mark.slow


def test_the_report_runs_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene, "TRAIN_FAMILIES", scene.TRAIN_FAMILIES[:2])
    monkeypatch.setattr(scene, "HELD_OUT_FAMILIES", scene.HELD_OUT_FAMILIES[:1])
    small = {"soft_metal": proxies.PROXIES["soft_metal"]}  # the others are ten times as large
    monkeypatch.setattr(proxies, "PROXIES", small)
    photos = write_folder(tmp_path / "photos", per_kind=1, categories=("tile",))
    out = tmp_path / "report"
    counts = ["--per-category", "2", "--targets", "2", "--words", "2"]
    outcome = CliRunner().invoke(app, ["report", "--out", str(out), *counts, "--root", str(photos)])
    assert outcome.exit_code == 0, outcome.output
    found = json.loads((out / "report.json").read_text())
    known, unseen, stand_ins, real, *alone = found.values()
    assert [len(table[0]["categories"]) for table in (known, unseen, stand_ins, real)] == [
        2,
        1,
        1,
        1,
    ]
    for table in (known, unseen, stand_ins, real):
        assert [row["name"] for row in table][::3] == ["CLIP map alone", "points + box + logit2"]
        assert 0.5 < table[-1]["mean"]["pixel_auroc"] <= 1
    assert len(alone) == 3
    for figures in alone:
        assert figures
        assert all(math.isfinite(value) for value in figures.values())
    text = (out / "report.md").read_text()
    assert "held-out families and defect types: 8 images, 1 categories" in text
    assert "| tile |" in text
    assert "| soft_metal |" in text
