"""`zsas evaluate --references` and `--part`: good images count, and the table says so."""

from __future__ import annotations

import json
import pickle

import pytest
from typer.testing import CliRunner

from tests.helpers.datasets import write_folder
from tests.helpers.models import small_segmenter
from zsas.cli import app
from zsas.evaluation import distributed, report
from zsas.good import Good
from zsas.models import ModelChoice
from zsas.part import Part
from zsas.segmenter import Segmenter
from zsas.settings import Settings

WORDS = "folder --root parts --resolution 128 --tiles off"
GOOD = "parts/tile/test/good"


@pytest.fixture
def shell(monkeypatch, tmp_path):
    monkeypatch.setattr(Segmenter, "from_choice", lambda *_, **__: small_segmenter())
    monkeypatch.setattr(report, "draw_curves", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "parts", per_kind=3, categories=("tile",))

    def run(more: str) -> dict:
        out = f"--out {len(list(tmp_path.glob('run*')))}".replace("--out ", "--out run")
        outcome = CliRunner().invoke(app, ["evaluate", *WORDS.split(), *out.split(), *more.split()])
        assert outcome.exit_code == 0, outcome.output
        return json.loads((tmp_path / out.split()[1] / "results.json").read_text())

    return run


def figures(results: dict) -> list:
    return [row["mean"] for row in results["table"]]


@pytest.mark.slow
def test_good_images_change_the_figures_and_the_table_says_so(shell):
    alone = shell("--systems april-gan")
    with_good = shell(f"--systems april-gan --references {GOOD}")
    assert figures(alone) != figures(with_good)
    assert "not zero-shot" in with_good["warnings"][0]
    assert not any("zero-shot" in warning for warning in alone["warnings"])
    assert "good_images" not in alone
    assert len(with_good["good_images"]) == 16


@pytest.mark.slow
def test_a_profile_brings_its_good_images_for_its_own_system(shell, tmp_path):
    settings = Settings(system="april-gan", resolution=128, tiles="off")
    segmenter = small_segmenter()
    paths = sorted((tmp_path / GOOD).iterdir())
    good = segmenter.remember(paths, settings)
    weights = segmenter.weights(settings)
    Part("tile", settings, good, models=ModelChoice("tiny"), weights=weights).save("tile.zsas")
    by_part = shell("--part tile.zsas --systems april-gan,vv --device cpu")
    by_files = shell(f"--systems april-gan,vv --references {GOOD}")
    alone = shell("--systems april-gan,vv")
    assert figures(by_part)[0] == figures(by_files)[0] != figures(alone)[0]
    assert figures(by_part)[1] == figures(alone)[1] != figures(by_files)[1]


def test_a_run_with_other_good_images_is_another_run(shell, tmp_path):
    one, other = (Good([tmp_path / GOOD / name]) for name in ("000.png", "001.png"))
    assert one.to_dict() != other.to_dict()


def test_workers_remember_them_too(tmp_path, shell):
    """The task goes to a worker by pickle, without what this process has remembered."""
    good = Good([tmp_path / GOOD])
    segmenter, settings = small_segmenter(), Settings(resolution=128, tiles="off")
    here = good.of(segmenter, settings)
    assert good.of(segmenter, settings) is here
    there = pickle.loads(pickle.dumps(distributed.Measure((), 0, good))).good
    assert there._made == {}
    assert there.of(segmenter, settings).keys == here.keys
