"""`zsas evaluate --batch-scoring`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tests.helpers.datasets import write_folder
from tests.helpers.models import small_segmenter
from zsas.cli import app
from zsas.evaluation import report
from zsas.segmenter import Segmenter

WORDS = "folder --root parts --resolution 128 --tiles off --system april-gan"


@pytest.fixture
def shell(monkeypatch, tmp_path):
    monkeypatch.setattr(Segmenter, "from_choice", lambda *_, **__: small_segmenter())
    monkeypatch.setattr(report, "draw_curves", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "parts", per_kind=3, categories=("tile",))
    return lambda more: CliRunner().invoke(app, ["evaluate", *WORDS.split(), *more.split()])


def test_a_batch_has_a_table_of_its_own_with_its_conditions(shell, tmp_path):
    for name, more in (("alone", ""), ("together", "--batch-scoring")):
        outcome = shell(f"--out {name} {more}")
        assert outcome.exit_code == 0, outcome.output
    alone, together = (
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("alone", "together")
    )
    assert "batch_scoring" not in alone
    assert together["batch_scoring"]["others"] == 30
    assert together["images"] == alone["images"]
    assert together["table"][-1]["mean"] != alone["table"][-1]["mean"]
    table = (tmp_path / "together/table.md").read_text()
    assert "transductive" in table
    assert "MuSc" in table
    assert "WinCLIP" not in table
    assert "transductive" not in (tmp_path / "alone/table.md").read_text()


def test_a_folder_of_single_images_takes_no_batch(shell):
    assert shell("--out r").exit_code == 0
    refused = shell("--out r --batch-scoring")
    assert refused.exit_code != 0
    assert "another --out" in " ".join((refused.output + str(refused.exception)).split())
