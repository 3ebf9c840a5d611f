from __future__ import annotations

import errno
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.helpers.results import make_result, normal_result
from zsas import __version__, bulk, models
from zsas.cli import app
from zsas.docs import settings_page
from zsas.errors import ZsasError
from zsas.files import write_whole
from zsas.images import ReadImage
from zsas.settings import Settings

Run = Callable[..., Result]


class StandIn:
    """A segmenter without models: a bright photo is anomalous, a dark one normal, red fails."""

    loaded: ClassVar[models.ModelChoice]
    batches: ClassVar[list[int]]
    """Sizes of what was encoded by the latest call."""

    @classmethod
    def from_choice(cls, choice: models.ModelChoice, **_: object) -> StandIn:
        cls.loaded = choice
        return cls()

    @classmethod
    def seen(cls) -> int:
        return sum(cls.batches)

    def encode_batch(self, read: list[ReadImage], settings: Settings, *_: Any) -> Any:
        images = [each.pixels for each in read]
        type(self).batches.append(len(images))
        if len(images) > 1 and any((image[0, 0] == [255, 0, 0]).all() for image in images):
            raise RuntimeError("out of memory")
        return read

    def segment(self, read: ReadImage, settings: Settings, **_: Any) -> Any:
        image = read.pixels
        if (image[0, 0] == [255, 0, 0]).all():
            raise RuntimeError("out of memory")
        if image.mean() < 50:
            return normal_result()
        return make_result(*image.shape[:2], settings=settings, input=read.info)


def fetch(preset: models.Preset, **_: object) -> None:
    """Every model is here but the paper's."""
    if preset.name == "paper":
        raise ZsasError("The preset 'paper' needs the Hub, which cannot be reached.")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Calls `zsas` in this process, with stand-ins for the segmenter and for its models' files."""
    monkeypatch.setattr("zsas.models.hub.fetch", fetch)
    pipeline = ModuleType("zsas.segmenter")
    pipeline.Segmenter = StandIn  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zsas.segmenter", pipeline)

    def call(*arguments: object) -> Result:
        StandIn.batches = []
        outcome = CliRunner().invoke(
            app, [str(argument) for argument in arguments], env={"COLUMNS": "200"}
        )
        assert "Traceback" not in outcome.output
        return outcome

    return call


def photo(path: Path, colour: str = "white", size: tuple[int, int] = (80, 60)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


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


@pytest.mark.parametrize(("colour", "code"), [("white", 1), ("black", 0)])
def test_a_script_can_ask_whether_anything_is_anomalous(
    run: Run, tmp_path: Path, colour: str, code: int
) -> None:
    image = photo(tmp_path / "a.png", colour)
    command = ("segment", image, "--out", tmp_path / "out", "--fail-on", "anomalous")
    assert [run(*command).exit_code for _ in range(2)] == [code, code]
    assert run("segment", image, "--json").exit_code == 0


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
    assert seen[1].region.fraction(60, 80) == 0.5
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


def test_the_settings_are_printed_as_in_the_docs(run: Run) -> None:
    assert run("settings").stdout == settings_page()


def test_models_lists_presets_with_size_and_whether_they_are_here(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "is_here", lambda preset: preset.name == "tiny")
    outcome = run("models")
    assert outcome.exit_code == 0
    lines = {
        name: next(line for line in outcome.stdout.splitlines() if f" {name} " in line)
        for name in models.PRESETS
    }
    assert "4.3 GB" in lines["paper"]
    assert "no: zsas models fetch paper" in lines["paper"]
    assert "yes" in lines["tiny"]
    assert re.search(r" 1\d MB ", lines["tiny"])


def test_models_fetch_fetches_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(models, "is_here", lambda preset: preset.name == "tiny")
    monkeypatch.setattr(models, "fetch", lambda preset: fetched.append(preset.name))
    assert run("models", "fetch", "tiny").stdout == "tiny is already here.\n"
    assert run("models", "fetch", "base").stdout == "base is here now.\n"
    assert fetched == ["base"]
    wrong = run("models", "fetch", "huge")
    assert wrong.exit_code == 2
    assert "no preset 'huge'" in wrong.stderr


@pytest.mark.slow
@pytest.mark.parametrize("help", ["--help", "-h"])
@pytest.mark.parametrize("command", ["evaluate", "train"])
def test_commands_of_other_modules_have_their_own_flags(run: Run, command: str, help: str) -> None:
    outcome = run(command, *(["adapters"] if command == "train" else []), help)
    assert outcome.exit_code == 0
    assert "--precision" in outcome.stdout
    assert run(command, "--no-such-flag").exit_code == 2


@pytest.mark.slow
def test_the_package_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zsas", "settings"], capture_output=True, text=True, check=True
    )
    assert done.stdout == settings_page()


def test_the_version_is_said(run: Run) -> None:
    outcome = run("--version")
    assert (outcome.exit_code, outcome.stdout) == (0, f"{__version__}\n")
