"""`zsas segment`: what it prints and writes, and what it goes on with."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.helpers.commands import Run, StandIn, photo
from tests.helpers.results import make_result
from zsas import models
from zsas.settings import Settings


def test_one_photo_gives_a_verdict_and_lossless_files(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = run("segment", photo(tmp_path / "gear.png"), "--out", out)
    assert outcome.exit_code == 0, outcome.output
    verdict = f"Anomalous: score 0.83, limit {Settings().verdict_threshold:.2f}, 1 region."
    assert outcome.stdout == f"{tmp_path / 'gear.png'}: {verdict}\n"
    assert sorted(path.name for path in (out / "gear").iterdir()) == [
        "mask.png",
        "overlay.png",
        "result.json",
        "score.png",
    ]
    mask = cv2.imread(str(out / "gear" / "mask.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(mask, make_result().mask * 255)


def test_the_table_has_the_same_names_and_rows(run: Run, tmp_path: Path) -> None:
    photo(tmp_path / "in" / "deep" / "gear.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"")
    rows = {}
    for layout in ("folders", "table"):
        out = tmp_path / layout
        outcome = run("segment", tmp_path / "in", "--out", out, "--format", layout, "--json")
        rows[layout] = [json.loads(line) for line in outcome.stdout.splitlines()]
        assert [row.pop("mask", None) for row in rows[layout]] == [
            None,
            "deep/gear/mask.png" if layout == "folders" else "masks/deep/gear.png",
        ]
    assert rows["folders"] == rows["table"]
    assert (tmp_path / "table" / "masks" / "deep" / "gear.png").is_file()


def test_a_table_for_a_spreadsheet_has_all_images_also_where_a_run_is_gone_on_with(
    run: Run, tmp_path: Path
) -> None:
    folder, table = tmp_path / "in", tmp_path / "table.csv"
    photo(folder / "Öse.png")
    photo(folder / "=cmd.png")
    (folder / "bad.png").write_bytes(b"")
    command = ("segment", "=cmd.png", "bad.png", "Öse.png", "--csv", table)
    for more in ((), ("--out", tmp_path / "out"), ("--out", tmp_path / "out")):
        with contextlib.chdir(folder):
            assert run(*command, *more).exit_code == 2
        assert table.read_bytes().startswith("\ufefffile,verdict,".encode())
        rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
        assert [row["file"] for row in rows] == ["'=cmd.png", "bad.png", "Öse.png"]
        assert [row["verdict"] for row in rows] == ["anomalous", "", "anomalous"]
        assert "empty" in rows[1]["error"]
        assert int(rows[2]["anomalous_px"]) == int(make_result().mask.sum())
        assert rows[2]["saved_as"] == ("Öse" if more else "")


def test_a_table_that_cannot_be_written_is_said_before_the_work(run: Run, tmp_path: Path) -> None:
    outcome = run("segment", photo(tmp_path / "a.png"), "--csv", "/dev/null/table.csv")
    assert outcome.exit_code == 2
    assert "The table cannot be written to /dev/null/table.csv" in outcome.output
    assert StandIn.seen() == 0


@pytest.mark.parametrize("layout", ["folders", "table"])
def test_a_second_call_does_only_what_is_left_and_prints_all(
    run: Run, tmp_path: Path, layout: str
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    photo(folder / "a.png")
    (folder / "b.png").write_bytes(b"")
    command = ("segment", folder, "--out", out, "--json", "--format", layout)
    first = run(*command)
    assert (first.exit_code, StandIn.seen()) == (2, 1)
    photo(folder / "b.png")
    photo(folder / "c.png", "black")
    second = run(*command)
    assert (second.exit_code, StandIn.seen()) == (0, 2)
    names = [json.loads(line)["name"] for line in second.stdout.splitlines()]
    assert sorted(names) == ["a", "b", "c"]
    photo(folder / "a.png", "black", size=(81, 60))  # another image under the old name
    assert run(*command).exit_code == 0
    assert StandIn.seen() == 1
    third = run(*command)
    assert StandIn.seen() == 0
    rows = {row["name"]: row for row in map(json.loads, third.stdout.splitlines())}
    assert len(third.stdout.splitlines()) == 3
    assert rows["a"]["anomalous"] is False


@pytest.mark.slow
def test_other_settings_do_all_images_again_in_folders_and_are_refused_for_a_table(
    run: Run, tmp_path: Path
) -> None:
    command = ("segment", photo(tmp_path / "a.png"), "--out", tmp_path / "out")
    run(*command)
    assert run(*command, "--threshold", 0.4).exit_code == 0
    assert StandIn.seen() == 1
    table = ("segment", tmp_path / "a.png", "--out", tmp_path / "table", "--format", "table")
    assert run(*table).exit_code == 0
    refused = run(*table, "--threshold", 0.4)
    assert refused.exit_code == 2
    assert "run of other settings" in refused.stderr


@pytest.mark.parametrize(("colour", "code"), [("white", 1), ("black", 0)])
def test_a_script_can_ask_whether_anything_is_anomalous(
    run: Run, tmp_path: Path, colour: str, code: int
) -> None:
    image = photo(tmp_path / "a.png", colour)
    command = ("segment", image, "--out", tmp_path / "out", "--fail-on", "anomalous")
    assert [run(*command).exit_code for _ in range(2)] == [code, code]
    assert run("segment", image, "--json").exit_code == 0


def test_a_summary_counts_the_verdicts_that_were_given(run: Run, tmp_path: Path) -> None:
    """An unsure image is no anomalous one, whatever scripts take it for."""
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png", "black")
    near = ("--verdict-threshold", 0.8, "--unsure-band", 0.1, "--fail-on", "anomalous")
    outcome = run("segment", tmp_path, "--json", *near)
    verdicts = [json.loads(line)["verdict"] for line in outcome.stdout.splitlines()]
    assert verdicts == ["unsure", "normal"]
    assert "2 images, 0 anomalous, 1 unsure." in outcome.stderr
    assert outcome.exit_code == 1


@pytest.mark.parametrize(("flags", "code"), [((), 1), (("--unsure-as", "normal"), 0)])
def test_what_unsure_is_for_a_script_is_a_setting(
    run: Run, tmp_path: Path, flags: tuple[str, ...], code: int
) -> None:
    image = photo(tmp_path / "a.png")
    near = ("--verdict-threshold", 0.8, "--unsure-band", 0.1)  # the stand-in's score is 0.83
    outcome = run("segment", image, "--json", "--fail-on", "anomalous", *near, *flags)
    assert outcome.exit_code == code
    assert json.loads(outcome.stdout)["verdict"] == "unsure"


def test_a_report_for_people_is_one_file_and_is_whole_when_a_run_is_gone_on_with(
    run: Run, tmp_path: Path
) -> None:
    for name in ("a.png", "b.png"):
        photo(tmp_path / "lot" / name)
    (tmp_path / "lot" / "c.png").write_bytes(b"nothing")
    report = tmp_path / "report.html"
    command = ("segment", tmp_path / "lot", "--out", tmp_path / "out", "--report", report)
    for _ in range(2):
        assert run(*command).exit_code == 2
        text = report.read_text(encoding="utf-8")
        assert text.count("<section") == 3  # two images and the conditions
        assert "c.png" in text
        assert "1 not readable" in text


def test_stages_are_written_on_demand(run: Run, tmp_path: Path) -> None:
    run("segment", photo(tmp_path / "gear.png"), "--out", tmp_path / "out", "--stages")
    stages = sorted(path.name for path in (tmp_path / "out" / "gear" / "stages").iterdir())
    assert stages[0] == "01_anomaly_map.png"
    assert stages[-1] == "08_fused.png"


def test_a_region_reaches_every_image_and_makes_another_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def segment(self: StandIn, image: Any, settings: Settings, **given: Any) -> Any:
        seen.append(given["part"])
        return make_result(*image.pixels.shape[:2], settings=settings)

    monkeypatch.setattr(StandIn, "segment", segment)
    photo(tmp_path / "in" / "a.png")
    look = tmp_path / "look.json"
    look.write_text('[{"rectangle": [0, 0, 40, 60]}]')
    out = ("--out", tmp_path / "out")
    assert run("segment", tmp_path / "in", *out).exit_code == 0
    assert run("segment", tmp_path / "in", *out, "--region", look).exit_code == 0
    assert (
        run("segment", tmp_path / "in", *out, "--region", look).exit_code == 0
    )  # is there already
    assert seen[0] is None
    assert len(seen) == 2
    assert seen[1].region.on(60, 80).mean() == 0.5
    refused = run("segment", tmp_path / "in", *out, "--ignore", tmp_path / "missing.json")
    assert refused.exit_code == 2
    assert "missing.json; check the path" in refused.output


def test_every_flag_reaches_the_settings(run: Run, tmp_path: Path) -> None:
    flags = ["--object", "metal nut", "--k-positive", 7, "--no-negatives", "--fusion", "mask"]
    outcome = run("segment", photo(tmp_path / "gear.png"), "--json", *flags)
    settings = json.loads(outcome.stdout)["settings"]
    assert (
        settings
        == Settings(object_name="metal nut", k_positive=7, negatives=False, fusion="mask").to_dict()
    )


def test_the_models_can_be_chosen(run: Run, tmp_path: Path) -> None:
    flags = (
        "--preset base --clip a/b --sam c/d --adapter e.safetensors --device cpu --precision bf16"
    )
    run("segment", photo(tmp_path / "gear.png"), "--json", *flags.split())
    assert StandIn.loaded == models.ModelChoice(
        "base", "a/b", "c/d", {"linear": "e.safetensors"}, "cpu", "bf16"
    )


def test_json_is_one_line_for_each_image_and_nothing_else(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    photo(folder / "a.png")
    photo(folder / "b.png", "black")
    (folder / "c.png").write_bytes(b"no image")
    outcome = run("segment", folder, "--json", "--out", tmp_path / "out")
    assert outcome.exit_code == 2
    one, two, three = map(json.loads, outcome.stdout.splitlines())
    assert one["image"] == str(folder / "a.png")
    assert (one["name"], one["mask"]) == ("a", "a/mask.png")
    assert one["anomalous"] is True
    assert (two["anomalous"], two["regions"]) == (False, [])
    assert set(three) == {"image", "name", "error"}
    assert json.loads((tmp_path / "out" / "a" / "result.json").read_text()).items() <= one.items()


def test_json_alone_writes_no_files(run: Run, tmp_path: Path) -> None:
    outcome = run("segment", photo(tmp_path / "gear.png"), "--json")
    assert outcome.exit_code == 0
    assert [path.name for path in tmp_path.rglob("*")] == ["gear.png"]


def test_results_are_not_taken_for_photos(run: Run, tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    for _ in range(2):
        outcome = run("segment", tmp_path, "--out", tmp_path / "out")
        assert len(outcome.stdout.splitlines()) == 1


@pytest.mark.parametrize("where", [".", "photos", "photos/results", "elsewhere"])
def test_photos_are_found_wherever_the_results_go(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.chdir(tmp_path)
    photo(Path("photos/a.png"))
    Path("photos/result.json").write_text("somebody else's")
    for _ in range(2):  # the second time, results of the first lie there
        outcome = run("segment", "photos", "--out", where, "--stages")
        assert outcome.exit_code == 0, outcome.output
        assert len(outcome.stdout.splitlines()) == 1
    outcome = run("segment", "photos", "--out", "another")
    assert len(outcome.stdout.splitlines()) == 1
