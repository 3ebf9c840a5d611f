"""`zsas evaluate --shots`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.helpers.datasets import write_folder
from tests.helpers.models import small_segmenter
from zsas.cli import app
from zsas.datasets.load import load_dataset
from zsas.errors import ZsasError
from zsas.evaluation.shots import Plan, draw, measure_category
from zsas.segmenter import Segmenter
from zsas.settings import Settings


@pytest.fixture
def shell(monkeypatch, tmp_path):
    monkeypatch.setattr(Segmenter, "from_choice", lambda *_, **__: small_segmenter())
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "parts", per_kind=3, categories=("tile",))
    words = "folder --root parts --out r --resolution 128 --tiles off --system april-gan"
    return lambda more: CliRunner().invoke(app, ["evaluate", *words.split(), *more.split()])


def test_draws_are_repeatable_and_nested_and_leave_the_test_set(shell):
    data = load_dataset("folder", "parts")
    first = draw(data, (), "tile", 2, 0)
    assert first == draw(data, (), "tile", 2, 0)
    assert first.samples[:1] == draw(data, (), "tile", 1, 0).samples
    assert first.from_test
    assert len({sample.key for sample in first.samples}) == 2
    with pytest.raises(ZsasError, match="too few for 3 shots"):
        draw(data, (), "tile", 3, 0)


def test_of_a_flat_folder_no_reference_is_judged(tmp_path):
    """It has one split, so that its "training images" are those that are measured."""
    for name in ("a", "b", "c", "masks/a"):
        (tmp_path / "flat/masks").mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 255).save(tmp_path / f"flat/{name}.png")
    data, train = (load_dataset("flat", tmp_path / "flat", split=s) for s in ("test", "train"))
    drawn = draw(data, train.samples, "flat", 1, 0)
    assert drawn.from_test
    assert drawn.samples[0].key in ("b.png", "c.png")
    with pytest.raises(ZsasError, match="has 2 good images, too few for 2 shots, since one must"):
        draw(data, train.samples, "flat", 2, 0)
    half = replace(data, samples=data.samples[:2])  # as by --limit: c is not measured
    drawn = draw(half, train.samples, "flat", 1, 0)
    assert (drawn.from_test, drawn.samples[0].key) == (False, "c.png")


@pytest.mark.slow
def test_an_image_is_encoded_once_for_all_shots_and_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "zsas.beside.planned", lambda count: []
    )  # copies with flaws are further images
    write_folder(tmp_path / "parts", per_kind=3, categories=("tile",))
    data = load_dataset("folder", str(tmp_path / "parts"))
    segmenter = small_segmenter()
    settings = Settings(resolution=112, tiles="off", views="one", refiner="none")
    rows = measure_category(segmenter, Plan(data, (), settings, (0, 2), 3), "tile")
    assert len(rows) == 2 * 3
    assert segmenter.images_encoded["localizer"] == len(data)


@pytest.mark.slow
def test_shots_give_a_table_with_mean_and_spread(shell, tmp_path):
    outcome = shell("--shots 0,2 --seeds 2")
    assert outcome.exit_code == 0, outcome.output
    results = json.loads((tmp_path / "r/shots.json").read_text())
    assert [row["shots"] for row in results["table"]] == [0, 2]
    assert results["drawn_from_test"] == ["tile"]
    assert all(len(row["seeds"]) == 2 for row in results["table"])
    assert results["table"][0]["mean"] != results["table"][1]["mean"]
    assert "±" in (tmp_path / "r/shots.md").read_text()


@pytest.mark.slow
def test_training_images_are_taken_first_and_the_test_set_stays_whole(shell, tmp_path):
    shutil.copytree(tmp_path / "parts/tile/test/good", tmp_path / "parts/tile/train/good")
    outcome = shell("--shots 0,1 --seeds 2")
    assert outcome.exit_code == 0, outcome.output
    results = json.loads((tmp_path / "r/shots.json").read_text())
    assert results["drawn_from_test"] == []
    assert results["table"][0]["deviation"]["pixel_auroc"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--shots few", "--shots is numbers"),
        ("--shots 9", "too few for 9 shots"),
        ("--shots 1 --sweep blur=1,2", "--shots measures one choice"),
    ],
)
def test_what_a_person_can_mend_is_a_sentence(shell, words, message):
    outcome = shell(words)
    assert outcome.exit_code == 2
    assert message in " ".join(outcome.stderr.split())


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_next_category(shell, tmp_path, monkeypatch):
    from zsas.evaluation import shots

    write_folder(tmp_path / "parts", per_kind=3, categories=("bolt",))
    measured = []
    measure = shots.measure_category

    def once(segmenter, plan, category, done):
        if measured:
            raise KeyboardInterrupt
        measured.append(category)
        return measure(segmenter, plan, category, done)

    monkeypatch.setattr(shots, "measure_category", once)
    assert shell("--shots 0,1 --seeds 2").exit_code != 0
    monkeypatch.setattr(shots, "measure_category", lambda *a: measured.append(a[2]) or measure(*a))
    outcome = shell("--shots 0,1 --seeds 2")
    assert outcome.exit_code == 0, outcome.output
    assert sorted(measured) == ["bolt", "tile"]
    results = json.loads((tmp_path / "r/shots.json").read_text())
    assert set(results["each"]) == {"bolt", "tile"}
    assert "APRIL-GAN" in (tmp_path / "r/shots.md").read_text()
    refused = shell("--shots 0,2 --seeds 2")
    assert refused.exit_code != 0
    assert "another --out" in " ".join((refused.output + str(refused.exception)).split())
