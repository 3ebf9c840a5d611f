"""`python -m tiny` as it is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tiny.cli import app, main
from tiny.training import pool, tiny_clip, tiny_sam
from zsas.datasets.load import load_dataset


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("help", ["--help", "-h"])
@pytest.mark.parametrize("command", ["synthesize", "train clip", "train sam", "report", "examples"])
def test_every_command_has_help(command: str, help: str) -> None:
    outcome = run(*command.split(), help)
    assert outcome.exit_code == 0
    assert "Usage" in outcome.stdout


def test_synthetic_images_are_written_in_a_layout_that_is_read(tmp_path: Path) -> None:
    words = ("--per-category", 4, "--size", 64, "--families", "leather,coil")
    outcome = run("synthesize", "--root", tmp_path / "set", *words)
    assert outcome.exit_code == 0, outcome.output
    data = load_dataset("folder", tmp_path / "set")
    assert data.categories == ("coil", "leather")
    assert len(data) == 8
    assert {sample.defective for sample in data} == {True, False}


def test_what_a_person_can_mend_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["synthesize", "--root", str(tmp_path / "set"), "--families", "unicorn"]
    monkeypatch.setattr(sys, "argv", ["tiny", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "'unicorn'" in said
    assert said.count("\n") == 1


def test_training_goes_on_from_its_checkpoint_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr(pool, "fill", lambda folder, **options: ("filled", options["count"]))
    for module in (tiny_clip, tiny_sam):
        monkeypatch.setattr(module, "train", lambda out, **options: calls.append(options) or out)
    common = ("--pool", tmp_path / "pool", "--images", 100, "--minutes", 2, "--seed", 7)
    assert run("train", "clip", *common, "--out", tmp_path / "clip").exit_code == 0
    assert run("train", "sam", *common, "--out", tmp_path / "sam", "--fresh").exit_code == 0
    clip, sam = calls
    assert (clip["minutes"], clip["seed"], clip["resume"]) == (2, 7, True)
    assert clip["pools"] == [tmp_path / "pool"]
    assert (sam["pools"], sam["resume"]) == ([("filled", 100)], False)
    assert (sam["start"], sam["recipe"]) == (None, None)
    onward = ("--out", tmp_path / "sam2", "--start", tmp_path / "last.pt", "--round", 2)
    assert run("train", "sam", *common, "--pool", tmp_path / "more", *onward).exit_code == 0
    assert (calls[2]["start"], calls[2]["recipe"]) == (tmp_path / "last.pt", tiny_sam.ROUNDS[1])
    assert len(calls[2]["pools"]) == 2


def test_help_loads_no_model_library() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from tiny.cli import app; "
        "print(CliRunner().invoke(app, ['train', 'clip', '--help']).exit_code, "
        "{'torch', 'transformers', 'cv2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 set()\n"
