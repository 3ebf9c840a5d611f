"""What README and docs promise about commands and equations."""

from __future__ import annotations

import pkgutil
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

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
    rows = dict(re.findall(r"^\| (\d+|–) \|.*\| (.*) \|$", text, re.M))
    assert set(map(str, range(1, 13))) <= set(rows)
    for cell in rows.values():
        for name in re.findall(r"`(\w+\.[A-Za-z_.]+)`", cell):
            pkgutil.resolve_name(f"zsas.{name}")
