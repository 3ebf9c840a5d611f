"""What README and docs promise about commands and equations."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def test_the_two_commands_do_what_they_say() -> None:
    said = {
        target: subprocess.run(
            ["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for target in ("test", "demo")
    }
    for words in ("ruff check", "mypy", "-m pytest"):
        assert words in said["test"]
    assert "app.py" in said["demo"]
    assert "make test" in (ROOT / ".ci/run").read_text()


def test_requirements_have_a_lower_bound_and_stop_at_the_next_major() -> None:
    for file in ("requirements.txt", "requirements-dev.txt"):
        for line in (ROOT / file).read_text().splitlines():
            if line.startswith(("#", "-r")):
                continue
            wanted = Requirement(line)
            bounds = {bound.operator: Version(bound.version) for bound in wanted.specifier}
            here = Version(version(wanted.name))
            assert set(bounds) == {">=", "<"}, line
            assert bounds[">="] <= here < bounds["<"] <= Version(str(here.major + 1)), line


def test_each_equation_names_functions_that_exist() -> None:
    text = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+|–) \|.*\| (.*) \|$", text, re.M)
    assert set(map(str, range(1, 13))) <= {number for number, _ in rows}
    for _, cell in rows:
        for name in re.findall(r"`(\w+\.[A-Za-z_.]+)`", cell):
            pkgutil.resolve_name(f"zsas.{name}")


def documented_commands() -> list[tuple[str, str]]:
    """Each `zsas …` command in a code block of README and docs, with the name of its file."""
    found = []
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = file.read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^(?:    |\$ )?(?:python -m )?(zsas [a-z].*)$", text, re.MULTILINE):
            found.append((file.name, line.split(" #")[0].split("|")[0]))
    return found


def flags_of(words: list[str]) -> set[str] | None:
    """All flags of the command that some words name; None if they name a group or nothing."""
    if words[0] in ("evaluate", "train"):
        module = {"evaluate": "zsas.cli.evaluate", "train": "zsas.training.cli"}[words[0]]
        command: Any = typer.main.get_command(importlib.import_module(module).app)
        words = words[1:] if words[0] == "train" else []
    else:
        command = typer.main.get_command(importlib.import_module("zsas.cli").app)
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return None
        command, words = command.commands[words[0]], words[1:]
    return {name for one in command.params for name in (*one.opts, *one.secondary_opts)}


@pytest.mark.slow
def test_the_commands_in_the_docs_have_the_flags_that_they_name() -> None:
    commands = documented_commands()
    assert len(commands) > 20
    for file, line in commands:
        known = flags_of(line.split()[1:])
        if known is not None:
            named = set(re.findall(r"(?<=\s)--[a-z][a-z-]*", line)) - {"--help"}
            assert named <= known, f"{file}: {line}: {sorted(named - known)}"
