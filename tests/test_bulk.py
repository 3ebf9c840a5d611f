"""Names, rows and the walk over many images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.helpers.jobs import plan
from tests.helpers.results import make_result
from zsas.bulk import Job, Names, Output, Reading, Row, prepare, unique_names, walk
from zsas.bulk.run import save, saved
from zsas.bulk.store import TableRows, can_hold, open_rows
from zsas.cancellation import Cancelled
from zsas.errors import ZsasError
from zsas.models import ModelChoice
from zsas.settings import Settings


def grey(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((4, 4, 3), np.uint8))
    return path


def rows_in(output: Output) -> list[dict[str, Any]]:
    """What another program finds in an output folder."""
    assert output.folder is not None
    if output.format == "folders":
        lines = (output.folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]
    parts = sorted(output.folder.glob("results/*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


@pytest.mark.parametrize(
    ("wanted", "taken", "names"),
    [
        (["a.png"], [], ["a"]),
        (["a.png", "a.jpg"], [], ["a_png", "a_jpg"]),
        (["a.png", "A.PNG"], [], ["a", "A_2"]),  # some file systems take them for one
        (["x/a.png", "y/a.png"], [], ["x/a", "y/a"]),
        (["a.png"], ["A"], ["a_2"]),
        (["a.png", "a.png", "a.png"], ["a_2"], ["a", "a_3", "a_4"]),
        (["a.png", "a.jpg", "a.jpg"], [], ["a_png", "a_jpg", "a_jpg_2"]),
        (["a", "a.b.png"], [], ["a", "a.b"]),
        (
            ["con.png", "Nul.x.png", "aux/com1.png", "console.png"],
            [],
            ["con_", "Nul.x_", "aux_/com1_", "console"],
        ),
        (["COM¹.png", "con .x.png", "conin$.png"], [], ["COM¹_", "con .x_", "conin$_"]),
        (["a .png", "a..png", "a.png"], [], ["a", "a_2", "a_3"]),
        (['a:b"c\n.png', "a<b>|?*.png", "a\\b.png"], [], ["a_b_c_", "a_b____", "a_b"]),
        (["e\u0301.png", "\u00e9.png"], [], ["e\u0301", "\u00e9_2"]),  # macOS takes them for one
        (["a?.png", "a*.png", "a_.png"], [], ["a_", "a__2", "a__3"]),
        (["/s/a.png"], [], ["/s/a"]),
    ],
)
def test_names_never_meet(wanted: list[str], taken: list[str], names: list[str]) -> None:
    assert unique_names(wanted, taken) == names


def test_names_of_an_earlier_day_stay(tmp_path: Path) -> None:
    for day in ("day1", "day2"):
        grey(tmp_path / day / "001.png")
    output = Output(tmp_path / "out", "table")
    (first,) = plan([str(tmp_path / "day1")], output)
    known = {first.image: first.name}
    (second,) = plan([str(tmp_path / "day2")], output, known)
    assert (first.name, second.name) == ("001", "001_2")
    assert plan([str(tmp_path / "day1")], output, known) == [first]


def test_images_beside_the_results_are_found_and_results_are_not(tmp_path: Path) -> None:
    for name in ("1.png", "masks/1.png", "stages/1/overlay.png"):
        grey(tmp_path / name)
    output = Output(tmp_path, "table")
    assert [job.name for job in plan([str(tmp_path)], output)] == ["1"]
    (named,) = plan([str(tmp_path / "masks/1.png")], output)
    assert named.image.endswith("masks/1.png")


def test_no_image_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ZsasError, match="There is no image in"):
        plan([str(tmp_path)], Output(tmp_path / "out", "table"))


def read(item: int) -> np.ndarray:
    if item == 1:
        raise ZsasError("One is not here.")
    return np.full((2, 2, 3), item, np.uint8)


def decide(images: list[np.ndarray]) -> list[object]:
    if any(image.max() == 3 for image in images):
        raise RuntimeError("three")
    return [make_result(image_score=float(image.max())) for image in images]


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_one_fault_takes_no_other_image_along(batch: int) -> None:
    answers = dict(walk(range(6), read, decide, batch))  # type: ignore[arg-type]
    assert list(answers) == [0, 1, 2, 3, 4, 5]
    assert answers[1] == "One is not here."
    assert answers[3] == "The image could not be segmented (RuntimeError: three)."
    assert [answers[i].image_score for i in (0, 2, 4, 5)] == [0, 2, 4, 5]  # type: ignore[attr-defined]


def test_a_walk_that_is_cancelled_ends() -> None:
    def cancelled(images: list[np.ndarray]) -> list[object]:
        raise Cancelled

    with pytest.raises(Cancelled):
        list(walk([0], read, cancelled))  # type: ignore[arg-type]


def test_a_name_is_found_as_quickly_however_many_are_taken() -> None:
    names = Names(["day/a"])
    names.add("Day/B")
    assert names.unique(["day/a.png", "day/b.png"]) == ["day/a_2", "day/b_2"]
    assert names.unique(["day/a.png"]) == ["day/a_3"]


@pytest.mark.parametrize("format", ["folders", "table"])
def test_rows_come_back_as_they_were(tmp_path: Path, format: str) -> None:
    output = Output(tmp_path, format)  # type: ignore[arg-type]
    odd = "b\udcff.png"  # a file name that is no valid text
    rows = [
        Row.of(Job("a.png", "a", "1"), make_result(), output.mask_of("a")),
        Row.of(Job(odd, "b", "1"), make_result(), output.mask_of("b")),
        Row.failed(Job("c.png", "c", "1"), "It is empty."),
    ]
    for file in (*output.files_of("a"), *output.files_of("b")):
        grey(tmp_path / (file if file.endswith("png") else f"{file}.png")).rename(tmp_path / file)
    with open_rows(output, {}, "r") as store:
        for row in rows:
            store.put(replace(row, run="r"))
    again = open_rows(output, {}, "r")
    jobs = [Job("a.png", "a", "1"), Job(odd, "b", "1"), Job("c.png", "c", "1")]
    done = [job for job in jobs if again.has(job)]
    assert done == jobs[:2]  # a failure is tried again
    stored = list(again.stored(jobs[:2]))
    assert [row.image for row in stored] == ["a.png", odd]
    assert [row.result for row in stored] == [row.result for row in rows[:2]]
    assert json.loads(stored[0].result)["anomalous"]


@pytest.mark.parametrize("format", ["folders", "table"])
@pytest.mark.parametrize("stages", [False, True])
def test_files_that_were_taken_away_are_made_again(
    tmp_path: Path, format: str, stages: bool
) -> None:
    output = Output(tmp_path, format, stages)  # type: ignore[arg-type]
    job = Job("a.png", "a", "1")
    with open_rows(output, {}, "r") as store:
        store.put(replace(saved(job, make_result(), output), run="r"))
    assert open_rows(output, {}, "r").has(job)
    for file in output.files_of("a"):
        (tmp_path / file).rename(tmp_path / "elsewhere")
        assert not open_rows(output, {}, "r").has(job)
        (tmp_path / "elsewhere").rename(tmp_path / file)
    save(make_result(), "a", replace(output, format="folders", stages=False))
    stages_of_folders = open_rows(Output(tmp_path, "folders", True), {}, "r")
    assert not stages_of_folders.has(job)  # those pictures were of another result


@pytest.mark.parametrize("format", ["folders", "table"])
def test_a_row_that_is_made_again_stands_there_once_and_others_stay(
    tmp_path: Path, format: str
) -> None:
    output = Output(tmp_path, format)  # type: ignore[arg-type]
    good, bad = Row.of(Job("a.png", "a", "1"), make_result(), "m"), Job("b.png", "b", "1")
    with open_rows(output, {}, "r") as store:
        store.put(good)
        store.put(Row.failed(bad, "It is empty."))
    with open_rows(output, {}, "r") as store:  # of other images; the failure is no less true
        store.put(replace(good, stamp="2"))
    assert sorted((row["image"], row["stamp"]) for row in rows_in(output)) == [
        ("a.png", "2"),
        ("b.png", "1"),
    ]


@pytest.mark.parametrize("format", ["folders", "table"])
def test_of_a_run_that_was_killed_the_last_rows_count(tmp_path: Path, format: str) -> None:
    output = Output(tmp_path, format)  # type: ignore[arg-type]
    old, new = (
        replace(saved(Job("a.png", "a", stamp), make_result(), output), run="r") for stamp in "12"
    )
    with open_rows(output, {}, "r") as store:
        store.put(old)
    rows = open_rows(output, {}, "r").__enter__()
    rows.put(new)
    if isinstance(rows, TableRows):
        rows.flush()
    rows._held.close()  # as a kill does
    assert len(rows_in(output)) == 2
    again, job = open_rows(output, {}, "r"), Job("a.png", "a", "2")
    assert again.has(job)
    assert [row.stamp for row in again.stored([job])] == ["2"]
    with again:
        pass
    assert [row["stamp"] for row in rows_in(output)] == ["2"]


def test_a_line_that_a_kill_has_cut_is_dropped(tmp_path: Path) -> None:
    output = Output(tmp_path)
    with open_rows(output, {}, "r") as store:
        store.put(Row(image="a.png", name="a", run="r"))
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole.replace(b'"a.png"', b"[]"))
    with open_rows(output, {}, "r") as store:
        assert store.names == {"a.png": "a"}
    assert path.read_bytes() == whole
    for end in (40, -1):  # without its line end a line would run into the next
        path.write_bytes(whole + whole.replace(b"a.png", b"b.png")[:end])
        with open_rows(output, {}, "r") as store:
            assert store.names == {"a.png": "a"}
        assert path.read_bytes() == whole


def test_folders_are_kept_and_names_never_collide(tmp_path: Path) -> None:
    folder, other = tmp_path / "photos", tmp_path / "other"
    for name in ("a.png", "a.jpg", "A.webp", "deep/a.png", "b.png"):
        grey(folder / name)
    grey(other / "b.png")
    folders = Output(tmp_path / "out")
    alone = {
        str(Path(job.image).relative_to(folder)): job.name for job in plan([str(folder)], folders)
    }
    assert alone == {
        "a.png": "a_png",
        "a.jpg": "a_jpg",
        "A.webp": "A_webp",
        "deep/a.png": "deep/a",
        "b.png": "b",
    }
    both = [job.name for job in plan([str(folder), str(other)], folders)]
    assert "photos/b" in both
    assert "other/b" in both
    files = [str(folder / "b.png"), str(other / "b.png"), str(folder / "b.png")]
    assert [job.name for job in plan(files, folders)] == ["b", "b_2"]


def test_long_names_leave_room_for_a_suffix_and_a_number(tmp_path: Path) -> None:
    names = ["x" * 251 + ".png", "X" * 251 + ".png", "ü" * 127, "z" * 255]
    found = unique_names(names)
    assert len({name.casefold() for name in found}) == 4
    for name in found:
        (tmp_path / f"{name}.png").write_bytes(b"")
    tiff = tmp_path / ("y" * 251 + ".tif")
    page = Image.new("L", (4, 4))
    page.save(tiff, save_all=True, append_images=[page, page])
    jobs = prepare([str(tiff)], Output(), Settings(), ModelChoice("tiny"), Reading("all")).jobs
    assert [job.name[-3:] for job in jobs] == ["_p1", "_p2", "_p3"]


@pytest.mark.parametrize("format", ["folders", "table"])
def test_a_folder_takes_one_command_at_a_time(tmp_path: Path, format: str) -> None:
    """Two would both begin at part 0, and each overwrite what the other has written, or write each line twice."""
    output = Output(tmp_path / "out", format)  # type: ignore[arg-type]
    first, second = (open_rows(output, {}, "run") for _ in range(2))
    with first:
        first.put(Row("a.png", "a"))
        with pytest.raises(ZsasError, match="Another command is writing results"), second:
            pass
        with pytest.raises(ZsasError, match="Another command is writing results"):
            can_hold(tmp_path / "out")  # before any model is loaded
    with second:  # it looked before the first one wrote
        second.put(Row("b.png", "b"))
        second.put(Row("a.png", "a"))
    done = open_rows(output, {}, "run")
    assert done.names == {"a.png": "a", "b.png": "b"}
    both = [Job("a.png", "a"), Job("b.png", "b")]
    assert sorted(row.image for row in done.stored(both)) == ["a.png", "b.png"]
