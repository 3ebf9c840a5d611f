"""Which package may import which."""

from __future__ import annotations

import ast
from pathlib import Path

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


def test_the_engine_knows_nothing_of_how_its_small_models_were_made() -> None:
    files = list((ROOT / "zsas").rglob("*.py"))
    assert len(files) > 30
    for path in files:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"tiny", "tests", "bench"}, path
