"""`python -m tiny` as it is typed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tiny.cli import app, main
from tiny.training import cache, clip, sam
from tiny.training.loop import Run
from zsas.datasets.load import load_dataset
from zsas.errors import ZsasError


def run(*words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.parametrize("help", ["--help", "-h"])
@pytest.mark.parametrize(
    "command",
    [
        "synthesize",
        "train clip",
        "train sam",
        "train layers",
        "train full",
        "cache",
        "report",
        "examples",
    ],
)
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
    assert {sample.anomalous for sample in data} == {True, False}


def test_training_goes_on_from_its_checkpoint_unless_told_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Run, dict[str, Any]]] = []
    monkeypatch.setattr(cache, "fill", lambda folder, **options: ("filled", options["count"]))
    for module in (clip, sam):
        monkeypatch.setattr(
            module, "train", lambda *given, **options: calls.append((*given, options))
        )
    common = ("--cache", tmp_path / "cache", "--images", 100, "--minutes", 2, "--seed", 7)
    assert run("train", "clip", *common, "--out", tmp_path / "clip").exit_code == 0
    assert run("train", "sam", *common, "--out", tmp_path / "sam", "--fresh").exit_code == 0
    (first, clip_options), (second, sam_options) = calls
    assert (first.minutes, first.seed, first.resume) == (2, 7, True)
    assert clip_options["caches"] == [tmp_path / "cache"]
    assert (sam_options["caches"], second.resume) == ([("filled", 100)], False)
    assert (sam_options["start"], sam_options["recipe"]) == (None, None)
    onward = ("--out", tmp_path / "sam2", "--start", tmp_path / "last.pt", "--recipe", "finetune")
    assert run("train", "sam", *common, "--cache", tmp_path / "more", *onward).exit_code == 0
    _, options = calls[2]
    assert options["start"] == tmp_path / "last.pt"
    assert options["recipe"] == sam.RECIPES["finetune"]
    assert len(options["caches"]) == 2


@pytest.mark.slow
def test_the_whole_chain_is_one_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiny.training import full

    begun: list[tuple[Run, Path, Path | None]] = []
    counts: list[int] = []

    def train(run: Run, export: Path, *, photographs: Path | None, plan: full.Plan) -> Path:
        begun.append((run, export, photographs))
        counts.append(plan.images.count)
        return export

    monkeypatch.setattr(full, "train_full", train)
    words = ("--device", "cpu", "--workers", 3, "--minutes", 30, "--photographs", tmp_path / "p")
    assert run("train", "full", "--out", tmp_path / "a", *words).exit_code == 0
    assert run("train", "full", "--out", tmp_path / "b", "--fresh", "--images", 300).exit_code == 0
    (first, export, photographs), (second, _, none) = begun
    assert (first.device, first.workers, first.minutes, first.resume) == ("cpu", 3, 30, True)
    assert (export, photographs) == (tmp_path / "a/model", tmp_path / "p")
    assert (second.minutes, second.resume, none) == (None, False, None)
    assert counts == [full.PLAN.images.count, 300]
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert isinstance(run("train", "full").exception, ZsasError)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("train clip --recipe unicorn", "no recipe 'unicorn'"),
        ("train clip --mix a=2", "less than 1"),
        ("train sam --recipe multiscale", "choose from pretrain, finetune"),
        ("synthesize --root DIR --families unicorn", "'unicorn'"),
    ],
)
def test_what_a_person_can_mend_is_a_sentence(
    words: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["tiny", *words.replace("DIR", str(tmp_path / "a")).split()])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.slow
def test_help_loads_no_model_library() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from tiny.cli import app; "
        "print(CliRunner().invoke(app, ['train', 'clip', '--help']).exit_code, "
        "{'torch', 'transformers', 'cv2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 set()\n"
