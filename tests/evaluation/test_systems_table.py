"""`zsas evaluate --systems --refiners`: one table for several systems."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from tests.helpers.datasets import write_folder
from tests.helpers.models import every_system_segmenter, small_segmenter
from zsas.cli import app
from zsas.errors import ZsasError
from zsas.evaluation import run
from zsas.evaluation.conditions import Condition, plan
from zsas.models import ModelChoice, Models
from zsas.segmenter import Segmenter
from zsas.settings import Settings


@pytest.fixture
def shell(monkeypatch, tmp_path):
    monkeypatch.setattr(Segmenter, "from_choice", lambda *_, **__: small_segmenter())
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "parts", per_kind=1)
    return lambda words: CliRunner().invoke(app, ["evaluate", *words.split()])


def test_each_combination_is_a_row_with_its_own_defaults():
    conditions = plan(Settings(), systems=["auto", "winclip"], refiners=["own", "none", "cascade"])
    names = [condition.name for condition in conditions]
    assert names == ["auto", "auto-none", "winclip", "winclip-cascade"]
    assert [condition.settings.blur for condition in conditions[2:]] == [0.0, 0.0]
    assert [c.name for c in plan(Settings(), refiners=["none"])] == ["auto-none"]


def test_systems_multiply_with_sweeps():
    conditions = plan(Settings(), sweep={"blur": [0.0, 4.0]}, systems=["vv", "sdp"])
    assert [c.name for c in conditions] == [
        "vv, blur 0.0",
        "vv, blur 4.0",
        "sdp, blur 0.0",
        "sdp, blur 4.0",
    ]


@pytest.mark.parametrize(
    ("settings", "asked", "message"),
    [
        (Settings(), {"systems": ["nonsense"]}, "no system 'nonsense'"),
        (Settings(), {"refiners": ["nonsense"]}, "no refiner 'nonsense'"),
        (Settings(system="vv"), {"systems": ["sdp"]}, "not both"),
        (Settings(), {"systems": ["vv"], "sweep": {"system": ["sdp"]}}, "Two axes set system"),
    ],
)
def test_wrong_names_are_one_sentence(settings, asked, message):
    with pytest.raises(ZsasError, match=message):
        plan(settings, **asked)


@pytest.mark.slow
def test_what_cannot_run_stands_in_the_table_with_its_sentence(shell, tmp_path):
    words = "folder --root parts --out r --limit 1 --resolution 128 --tiles off --systems april-gan,sdp+"
    outcome = shell(words + " --refiners own,cascade")
    assert outcome.exit_code == 0, outcome.output
    results = json.loads((tmp_path / "r/results.json").read_text())
    assert [row["name"] for row in results["table"]] == ["april-gan", "april-gan-cascade"]
    assert set(results["cannot_run"]) == {"sdp+", "sdp+-cascade"}
    table = (tmp_path / "r/table.md").read_text()
    assert "| sdp+: The system sdp+ needs trained layers" in table
    assert "needs trained layers" in (tmp_path / "r/index.html").read_text()
    assert "sdp+ was left out" in outcome.stderr


def test_where_no_system_can_run_its_sentence_ends_the_command(shell):
    outcome = shell("folder --root parts --out r --systems sdp+")
    assert outcome.exit_code == 2
    assert "needs trained layers" in outcome.stderr


@pytest.mark.slow
def test_systems_of_one_localizer_share_its_encoding(tmp_path):
    from zsas.datasets.load import load_dataset

    write_folder(tmp_path / "parts", per_kind=1)
    data = load_dataset("folder", str(tmp_path / "parts"), limit=1)
    segmenter = every_system_segmenter()
    settings = Settings(resolution=128, tiles="off", threshold=0.01)
    conditions = plan(
        settings, systems=["auto", "paper", "april-gan"], refiners=["none", "cascade"]
    )
    records = run.measure(segmenter, data.samples[:1], conditions)
    assert len(records[0].outcomes) == 6
    assert segmenter.images_encoded == {"localizer": 1, "sam": 1}


def test_before_workers_begin_missing_weights_are_known():
    models = Models(ModelChoice("tiny"))
    conditions = [Condition(name, Settings(system=name)) for name in ("vv", "sdp+", "auto")]
    able, cannot_run = run._able(conditions, lambda one: run._look_at(models, one.settings))
    assert [condition.name for condition in able] == ["vv", "auto"]
    assert "needs trained layers" in cannot_run["sdp+"]
