"""Several systems on one image."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.models import every_system_segmenter
from tests.helpers.results import make_result
from zsas import comparison
from zsas.cli import app
from zsas.errors import ZsasError
from zsas.export import png
from zsas.images import read_image
from zsas.segmenter import Segmenter
from zsas.settings import Settings
from zsas.systems import SYSTEMS

TRUTH = cv2.cvtColor(photo(), cv2.COLOR_RGB2GRAY) < 100


@pytest.fixture
def shell(monkeypatch, tmp_path):
    monkeypatch.setattr(Segmenter, "from_choice", lambda *_, **__: FakeSegmenter())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part.png").write_bytes(png(photo()))
    (tmp_path / "truth.png").write_bytes(png(TRUTH.astype(np.uint8) * 255))
    (tmp_path / "small.png").write_bytes(png(np.zeros((9, 9), np.uint8)))
    return lambda words: CliRunner().invoke(app, ["compare", *words.split()])


def test_every_pair_stands_once():
    pairs = comparison.combinations(["paper", "winclip"], ["own", "none", "cascade"])
    assert [one.name for one in pairs] == ["paper", "paper-none", "winclip", "winclip-cascade"]
    assert [one.system for one in comparison.combinations()] == list(SYSTEMS)
    table_1 = [one.system for one in comparison.combinations(["table1"])]
    assert {"paper", "winclip", "sdp+"} < set(table_1) <= set(SYSTEMS) - {"auto", "vv"}


def test_a_system_brings_its_own_defaults_and_keeps_what_was_given():
    (winclip,) = comparison.combinations(["winclip"])
    found = winclip.settings(Settings(image_weight=0.25))
    assert (found.blur, found.image_weight) == (0.0, 0.25)


@pytest.mark.slow
def test_every_system_gives_a_row_and_shares_encodings(tmp_path):
    segmenter, image = every_system_segmenter(), read_image(photo(size=(96, 128)))
    chosen = comparison.combinations(refiners=["own", "none"])
    small = Settings(resolution=128, tiles="off")
    truth = np.zeros((96, 128), bool)
    truth[20:40, 30:60] = True
    rows = list(comparison.compare(segmenter, image, chosen, small, truth))
    assert [row.error for row in rows] == [""] * len(chosen)
    assert all(0 <= row.metrics["pixel_auroc"] <= 1 for row in rows)
    assert segmenter.images_encoded == {
        "localizer": 11,
        "sam": 1,
    }  # auto, paper, april-gan share one
    found = comparison.write(rows, tmp_path, image, truth, "part.png")
    assert {path.name for path in tmp_path.iterdir()} == {
        *(one.name for one in chosen),
        *("table.md", "compare.json", "sheet.png"),
    }
    assert json.loads((tmp_path / "compare.json").read_text()) == found
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    lines = 1 + -(-len(chosen) // 2)
    assert sheet.shape[0] == lines * (comparison.PANEL + comparison.TITLE + comparison.GAP)


def test_each_row_is_what_the_system_gives_alone():
    segmenter, image = FakeSegmenter(), read_image(photo())
    for row in comparison.compare(segmenter, image, comparison.combinations(["auto", "april-gan"])):
        alone = FakeSegmenter().segment(photo(), Settings(system=row.combination.system))
        assert row.result.image_score == alone.image_score
        np.testing.assert_array_equal(row.result.mask, alone.mask)


def test_what_cannot_run_is_a_row_and_the_others_go_on(shell, tmp_path):
    outcome = shell("part.png --systems auto,sdp+,april-gan --out found --json")
    assert outcome.exit_code == 0, outcome.output
    rows = json.loads(outcome.stdout)["rows"]
    assert [bool(row["error"]) for row in rows] == [False, True, False]
    assert rows[0]["verdict"] in ("normal", "unsure", "anomalous")
    assert "zsas train adapters --system sdp+" in rows[1]["error"]
    assert rows[1]["error"] in (tmp_path / "found/table.md").read_text()
    assert (tmp_path / "found/auto/mask.png").is_file()
    assert not (tmp_path / "found/sdp+").exists()


def test_a_system_that_fails_now_keeps_no_earlier_result(tmp_path):
    image = read_image(photo())
    (one,) = comparison.combinations(["vv"])
    comparison.write(
        [comparison.Row(one, make_result(*image.pixels.shape[:2]), "")], tmp_path, image
    )
    assert (tmp_path / "vv" / "result.json").is_file()
    comparison.write([comparison.Row(one, None, "It could not be run.")], tmp_path, image)
    assert not (tmp_path / "vv").exists()


def test_where_none_can_run_the_exit_code_says_so(shell):
    assert shell("part.png --systems sdp+ --out found").exit_code == 2


def test_models_that_only_some_systems_have_are_loaded_for_those(monkeypatch):
    def from_choice(choice, *, settings, **_):
        if settings.system != "vv":
            raise ZsasError(f"No {settings.system}.")
        return FakeSegmenter()

    from zsas.models import ModelChoice

    monkeypatch.setattr(Segmenter, "from_choice", from_choice)
    choice = ModelChoice("tiny")
    wanted = [Settings(system=name) for name in ("paper", "vv")]
    assert comparison.load_for(choice, wanted).preset == "tiny"
    with pytest.raises(ZsasError, match=r"No paper\."):
        comparison.load_for(choice, wanted[:1])


def test_a_mask_adds_metrics(shell, tmp_path):
    outcome = shell("part.png --systems auto --refiners own,none --mask truth.png --out found")
    assert outcome.exit_code == 0, outcome.output
    assert (
        "| system | refiner | verdict | score | regions | seconds | pixel AUROC |" in outcome.stdout
    )
    rows = json.loads((tmp_path / "found/compare.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["auto", "auto-none"]
    assert rows[1]["pixel_auroc"] > 0.99
    assert rows[1]["pixel_f1_max"] > 0.95


def test_an_empty_mask_leaves_metrics_undefined(shell, tmp_path):
    (tmp_path / "empty.png").write_bytes(png(np.zeros(TRUTH.shape, np.uint8)))
    outcome = shell("part.png --systems auto --mask empty.png --out found --json")
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout)["rows"][0]["pixel_ap"] is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("part.png --systems nonsense --out found", "There is no system 'nonsense'"),
        ("part.png --refiners nonsense --out found", "There is no refiner 'nonsense'"),
        ("missing.png --systems auto --out found", "missing.png"),
        ("part.png --systems auto --mask small.png --out found", "the size of its image"),
        ("part.png --systems auto --mask missing.png --out found", "missing.png"),
        (
            "part.png --tiles nonsense --out found",
            "tiles is 'nonsense', but it must be off, auto or",
        ),
        ("part.png --system winclip --out found", "--systems"),
        ("part.png --systems auto --out part.png/found", "cannot be written"),
    ],
)
def test_what_a_person_can_mend_is_a_sentence(shell, words, message):
    outcome = shell(words)
    assert outcome.exit_code == 2, outcome.output
    assert message in " ".join(outcome.stderr.split())
    assert "Traceback" not in outcome.output


@pytest.mark.parametrize("tiles", ["off", "auto", "512"])
def test_a_setting_that_takes_words_has_a_flag_for_them(shell, tiles):
    outcome = shell(f"part.png --systems april-gan --tiles {tiles} --out found")
    assert outcome.exit_code == 0, outcome.output


def test_a_strip_of_one_pixel_has_a_sheet(tmp_path):
    image = read_image(photo(size=(100, 400))[:1])
    rows = comparison.compare(FakeSegmenter(), image, comparison.combinations(["april-gan"]))
    comparison.write(rows, tmp_path, image)
    assert cv2.imread(str(tmp_path / "sheet.png")) is not None
