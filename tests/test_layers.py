"""Which package may import which."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported(path: Path) -> set[str]:
    """Names of all modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.slow
def test_the_engine_knows_nothing_of_how_its_small_models_were_made() -> None:
    files = list((ROOT / "zsas").rglob("*.py"))
    assert len(files) > 30
    for path in files:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"tiny", "tests", "bench"}, path


def layers() -> dict[str, int]:
    """The table of docs/architecture.md: part of the package → height, 0 for the ground."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^    \| (?!layer|---)[\w ]+ \| (.*) \|$", text, re.MULTILINE)
    return {
        part: height
        for height, row in enumerate(reversed(rows))
        for part in re.findall(r"`(\w+)`", row)
    }


def modules() -> dict[str, Path]:
    """Each module of the package by its dotted name."""
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((ROOT / "zsas").rglob("*.py"))
    }


def needed(path: Path, known: dict[str, Path], *, lazily: bool) -> set[str]:
    """Modules of the package that a file imports when it runs; not those that only annotations need.

    Args:
        path: The file.
        known: From `modules`.
        lazily: Also those that a function imports when it is called.
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not lazily:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found.update(names & known.keys() or {node.module})
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found & known.keys()


@pytest.mark.slow
def test_no_module_imports_from_a_layer_above_its_own() -> None:
    known, height = modules(), layers()
    for name, path in known.items():
        part = name.split(".")[1:2]
        if part and part != ["__main__"]:
            assert part[0] in height, f"{name}: name its layer in docs/architecture.md"
            for other in needed(path, known, lazily=True) - {"zsas"}:
                assert height[other.split(".")[1]] <= height[part[0]], f"{name} imports {other}"


@pytest.mark.slow
def test_there_are_no_circles() -> None:
    known = modules()
    left = {name: needed(path, known, lazily=False) - {name} for name, path in known.items()}
    while left:
        free = {name for name, others in left.items() if not others & left.keys()}
        assert free, f"a circle among {sorted(left)}"
        left = {name: others for name, others in left.items() if name not in free}


def test_a_file_can_be_read_in_one_sitting() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for package in ("zsas", "tiny", "bench")
        for path in (ROOT / package).rglob("*.py")
        if (lines := path.read_text(encoding="utf-8").count("\n")) > 450
    }
    assert not long


@pytest.mark.slow
def test_help_loads_no_model_library() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from zsas.cli import app; "
        "print(CliRunner().invoke(app, ['segment', '--help']).exit_code, "
        "{'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 set()\n"


LONG = re.compile(r"\b[Ll]ong because|\b[Ll]ong, as|hence its length")


@pytest.mark.slow
def test_files_have_at_most_450_lines_and_functions_60_or_a_reason() -> None:
    files = [path for home in ("zsas", "tiny", "bench") for path in (ROOT / home).rglob("*.py")]
    for path in files:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        assert len(lines) <= 450, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min(part.lineno for part in (node, *node.decorator_list))
                if (node.end_lineno or first) - node.lineno >= 60:
                    own = "\n".join(lines[max(0, first - 3) : node.end_lineno])
                    assert LONG.search(own), f"{path}: {node.name} is long, and no comment says why"
