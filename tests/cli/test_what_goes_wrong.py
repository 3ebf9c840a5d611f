"""Broken images, full places and wrong words: a sentence and an exit code, and the rest is done."""

from __future__ import annotations

import errno
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.commands import Run, StandIn, photo
from zsas import bulk, models
from zsas.errors import ZsasError
from zsas.files import write_whole
from zsas.images import ReadImage


def test_a_batch_is_encoded_together_and_a_bad_image_takes_no_other_along(
    run: Run, tmp_path: Path
) -> None:
    for number in range(5):
        photo(tmp_path / "in" / f"{number}.png", "red" if number == 2 else "white")
    outcome = run("segment", tmp_path / "in", "--json", "--batch", 3)
    rows = [json.loads(line) for line in outcome.stdout.splitlines()]
    assert StandIn.batches == [3, 1, 1, 1, 2]  # the first one failed, so each for itself
    assert ["error" in row for row in rows] == [False, False, True, False, False]
    assert "2.png could not be segmented" in rows[2]["error"]


@pytest.mark.parametrize("flag", [("--device", "cpu"), ("--adapter", "e.safetensors")])
def test_what_can_be_wrong_is_looked_at_before_a_model_is_fetched(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: tuple[str, str]
) -> None:
    from zsas.models import hub

    asked: list[str] = []
    monkeypatch.setattr(hub, "fetch", lambda preset, **_: asked.append(preset.name))
    image = photo(tmp_path / "gear.png")
    run("segment", image, "--json", "--preset", "paper", *flag)
    assert asked == []  # left to the segmenter, which looks at both first
    run("segment", image, "--json", "--preset", "paper")
    assert asked == ["paper"]


def test_a_bad_file_among_many_does_not_stop_the_rest(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    photo(folder / "a.png")
    (folder / "b.png").write_bytes(b"no image")
    (folder / "c.jpg").write_bytes(b"")
    photo(folder / "d" / "red.png", "red")
    photo(folder / "e.png", "black")
    outcome = run("segment", folder, "--out", tmp_path / "out")
    assert outcome.exit_code == 2
    assert len(outcome.stdout.splitlines()) == 2
    for words in ("b.png is not an image", "c.jpg is empty", "red.png could not be segmented"):
        assert words in outcome.stderr
    assert "5 images, 1 anomalous, 3 could not be done" in outcome.stderr
    assert re.search(r"Segmenting .* 5/5 ", outcome.stderr)  # the bar, as it ended
    written = sorted(
        str(path.parent.relative_to(tmp_path / "out")) for path in tmp_path.rglob("mask.png")
    )
    assert written == ["a", "e"]


@pytest.mark.parametrize("layout", ["folders", "table"])
def test_an_image_that_can_no_longer_be_read_keeps_no_earlier_verdict(
    run: Run, tmp_path: Path, layout: str
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    photo(folder / "a.png")
    photo(folder / "b.png")
    again = ("segment", folder, "--out", out, "--format", layout, "--stages")
    run(*again)
    masks = {"folders": ["a/mask.png", "b/mask.png"], "table": ["masks/a.png", "masks/b.png"]}
    assert all((out / name).is_file() for name in masks[layout])
    (folder / "a.png").write_bytes(b"no image")
    assert run(*again).exit_code == 2
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert masks[layout][1] in left
    assert not [name for name in left if {"a", "a.png"} & set(name.split("/"))]
    photo(folder / "a.png", "black")
    assert run(*again).exit_code == 0
    assert all((out / name).is_file() for name in masks[layout])


def test_what_is_not_ours_stays_where_an_image_fails(run: Run, tmp_path: Path) -> None:
    """A folder that has the name of a broken image, with a mask and a result.json of somebody else."""
    (tmp_path / "a.png").write_bytes(b"no image")
    photo(tmp_path / "a" / "mask.png")
    (tmp_path / "a" / "result.json").write_text("somebody else's")
    assert run("segment", tmp_path / "a.png", "--out", tmp_path).exit_code == 2
    assert (tmp_path / "a" / "mask.png").is_file()
    assert (tmp_path / "a" / "result.json").is_file()


@pytest.mark.parametrize("flag", ["--report", "--out"])
def test_a_place_that_takes_nothing_is_said_before_the_work(
    run: Run, tmp_path: Path, flag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / "place").mkdir()
    monkeypatch.setattr(Path, "touch", refuse)
    target = tmp_path / "place" / "r.html" if flag == "--report" else tmp_path / "place"
    outcome = run("segment", photo(tmp_path / "a.png"), flag, target)
    assert outcome.exit_code == 2
    assert outcome.stdout == ""
    assert f"{target}" in outcome.stderr
    assert "(Permission denied); " in outcome.stderr
    assert "make room" not in outcome.stderr


def test_a_full_disk_is_not_said_of_stdout(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that fails names no file in Python's own error."""

    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    def evaluate(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(Path, "open", lambda *_: Full())
        write_whole(tmp_path / "strip.jpg", b"data")

    monkeypatch.setattr("zsas.evaluation.run.measure_and_report", evaluate)
    photo(tmp_path / "data" / "a.png")
    outcome = run("evaluate", "flat", "--root", tmp_path / "data", "--out", tmp_path / "out")
    assert outcome.exit_code == 2
    assert (
        f"{tmp_path / 'strip.jpg'} cannot be written (No space left on device); make room there."
        in outcome.stderr
    )


def test_a_name_with_a_line_end_stays_on_its_line(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    photo(folder / "a\nb.png")
    (folder / "c\x1b[2J.png").write_bytes(b"no image")
    outcome = run("segment", folder, "--out", tmp_path / "out")
    (line,) = outcome.stdout.splitlines()
    assert "a\\nb.png: Anomalous" in line
    assert "c\\x1b[2J.png is not an image" in outcome.stderr
    assert "\x1b" not in outcome.stderr


def test_pages_that_are_not_looked_at_are_said_once_for_all_files(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    grey = Image.new("L", (8, 6), 200)
    for name, pages in (("a.tif", 3), ("b.tif", 4), ("c.tif", 1)):
        grey.save(folder / name, save_all=True, append_images=[grey] * (pages - 1))
    outcome = run("segment", folder, "--json")
    words = "Note on 2 images (a.tif, b.tif): only page 1 of 3 is looked at"
    assert words in outcome.stderr
    assert outcome.stderr.count("Note on") == 1
    assert "Note on" not in run("segment", folder, "--json", "--page", "all").stderr
    assert "Note on" not in run("segment", folder / "a.tif", "--json", "--page", "1").stderr


def test_a_file_that_goes_before_its_report_takes_no_other_along(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png")
    read, seen = bulk.read_job, []

    def gone(job: Any) -> ReadImage:
        seen.append(job.image)
        if job.name == "a" and seen.count(job.image) == 1:
            raise ZsasError(f"There is no file {job.image}; check the path.")
        return read(job)

    monkeypatch.setattr(bulk, "read_job", gone)  # the one that the report asks
    outcome = run(
        "segment", tmp_path / "a.png", tmp_path / "b.png", "--report", tmp_path / "r.html"
    )
    assert outcome.exit_code == 0
    text = (tmp_path / "r.html").read_text()
    assert "a.png; check the path" in text
    assert text.count("<section id=") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.png", "--out", "out"], "There is no file nowhere.png"),
        (["empty", "--out", "out"], "There is no image in empty"),
        (["gear.png", "--out", "gear.png"], "--out"),
        (["gear.png", "--out", "gear.png/deep"], "cannot be made"),
        (["gear.png"], "--out DIR"),
        (["gear.png", "--json", "--stages"], "--out DIR"),
        (["", "--json"], "empty name"),
        (["gear.png", "--json", "--k-positive", "50"], "k_positive is 50, but it must be 1 to 20"),
        (["gear.png", "--json", "--k-positive", "many"], "it must be a whole number"),
        (["gear.png", "--json", "--threshold", "high"], "it must be a number"),
        (["gear.png", "--json", "--bits", "99"], "it must be at most 32"),
        (["gear.png", "--json", "--fusion", "sideways"], "for '--fusion': 'sideways' is not one"),
        (["gear.png", "--json", "--refiner", "cascad"], "Did you mean 'cascade'?"),
        (["gear.png", "--json", "--no-such-flag"], "--no-such-flag"),
        (["gear.png", "--json", "--preset", "paper"], "'paper' needs the Hub"),
        (["gear.png", "--json", "--workers", "2"], "--engine ray"),
        (["gear.png", "--json", "--format", "table"], "--out DIR"),
        (["gear.png", "--json", "--engine", "ray"], "--out DIR"),
        (["nosuch://bucket/gear.png", "--json"], "cannot be listed"),
        ([], "IMAGE_OR_FOLDER"),
    ],
)
def test_bad_usage_is_a_sentence_and_exit_code_2(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
) -> None:
    photo(tmp_path / "gear.png")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    outcome = run("segment", *arguments)
    assert outcome.exit_code == 2
    assert words in outcome.stderr
    assert outcome.stdout == ""


def test_a_bug_is_a_sentence_and_exit_code_1(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(choice: models.ModelChoice, **_: Any) -> None:
        raise KeyError("oops")

    monkeypatch.setattr(StandIn, "from_choice", break_down)
    outcome = run("segment", photo(tmp_path / "gear.png"), "--json")
    assert outcome.exit_code == 1
    assert "KeyError: 'oops'" in outcome.stderr
