"""`zsas evaluate --batch-scoring`."""

from __future__ import annotations

import json
import pickle
from contextlib import nullcontext
from operator import methodcaller

import pytest
from typer.testing import CliRunner

from tests.helpers.datasets import write_folder
from tests.helpers.models import small_segmenter
from zsas.cli import app
from zsas.datasets.load import load_dataset
from zsas.distributed import batch
from zsas.evaluation import report, together
from zsas.segmenter import Segmenter
from zsas.settings import Settings

WORDS = "folder --root parts --resolution 128 --tiles off --system april-gan"


@pytest.fixture
def shell(monkeypatch, tmp_path):
    monkeypatch.setattr(Segmenter, "from_choice", lambda *_, **__: small_segmenter())
    monkeypatch.setattr(report, "draw_curves", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "parts", per_kind=3, categories=("tile",))
    return lambda more: CliRunner().invoke(app, ["evaluate", *WORDS.split(), *more.split()])


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_folder_of_single_images_takes_no_batch(shell):
    assert shell("--out r").exit_code == 0
    refused = shell("--out r --batch-scoring")
    assert refused.exit_code != 0
    assert "another --out" in " ".join((refused.output + str(refused.exception)).split())


@pytest.mark.slow
def test_on_a_cluster_the_figures_are_those_of_one_process(shell, tmp_path, monkeypatch):
    """The cluster is played by a loop over workers that share nothing but files and pickles."""
    encoded = []

    def in_turn(jobs, task, load, cluster):
        for key, job in jobs.items():
            segmenter = small_segmenter()
            (answer,) = pickle.loads(pickle.dumps(task)).do(
                segmenter, [pickle.loads(pickle.dumps(job))]
            )
            encoded.append((type(task).__name__, segmenter.images_encoded["localizer"]))
            yield key, pickle.loads(pickle.dumps(answer))

    for module in (batch, together):
        monkeypatch.setattr(module, "spread", in_turn)
    monkeypatch.setattr(together, "connected", lambda address: nullcontext())
    (tmp_path / "parts/tile/test/good/broken.png").write_bytes(b"no image")
    for name, more in (("near", ""), ("far", "--engine ray")):
        outcome = shell(f"--out {name} --batch-scoring {more} --sweep resolution=112,128")
        assert outcome.exit_code == 2, outcome.output  # broken.png
    near, far = (json.loads((tmp_path / n / "results.json").read_text()) for n in ("near", "far"))
    assert near["batch_scoring"] == far["batch_scoring"]
    for one, other in zip(near["table"], far["table"], strict=True):
        assert one["name"] == other["name"]
        assert one["mean"] == pytest.approx(other["mean"], abs=2e-3)
    assert near["unreadable"].keys() == far["unreadable"].keys() != set()
    # Each image once under each of both encodings, never again for its scores or its record.
    assert sum(count for task, count in encoded if task == "Encode") == 2 * 9
    assert not any(count for task, count in encoded if task != "Encode")
    assert not (tmp_path / "far" / batch.WAITING).exists()


def test_too_few_images_on_a_cluster_are_records_that_say_so(tmp_path, monkeypatch):
    def in_turn(jobs, task, load, cluster):
        for key, job in jobs.items():
            yield key, task.do(small_segmenter(), [job])[0]

    monkeypatch.setattr(batch, "spread", in_turn)
    write_folder(tmp_path / "few", per_kind=1, categories=("tile",))
    data = load_dataset("folder", str(tmp_path / "few"))
    samples = {one.key: one for one in data.of("tile")}
    wanted = [(Settings(resolution=128, tiles="off"), None)]
    how = (methodcaller("load_image"), wanted, batch.Kept(tmp_path), None, None)
    sentence, complaints = batch.compare_far(samples, *how)
    assert "at least 5" in sentence
    assert complaints == {}
