"""The commands beside `segment`: `settings`, `models`, the flags of `evaluate` and `train`."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.helpers.commands import Run
from zsas import __version__, models
from zsas.cli.settings import settings_page


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
