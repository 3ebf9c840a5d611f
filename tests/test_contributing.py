"""The walk "add a system" in CONTRIBUTING.md works as it is written."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tests.helpers import ROOT
from tests.helpers.models import small_segmenter
from zsas import catalogue, systems
from zsas.refiners.cascade import Cascade
from zsas.settings import Settings
from zsas.systems import System

FILE, LINE, TEST = re.findall(
    r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.fixture
def contrast(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The file imported, and its line in the registry."""
    file = tmp_path / "contrast.py"
    file.write_text(FILE, encoding="utf-8")
    module = ModuleType("contrast")
    monkeypatch.setitem(sys.modules, "contrast", module)
    exec(compile(FILE, str(file), "exec"), module.__dict__)
    names = {"System": System, "Cascade": Cascade, **module.__dict__}
    for name, system in eval(f"{{{LINE}}}", names).items():
        monkeypatch.setitem(systems.SYSTEMS, name, system)
    return module


def test_the_new_system_runs_and_is_listed(contrast: ModuleType) -> None:
    image = np.full((96, 128, 3), 90, np.uint8)
    image[40:60, 50:70] = 250
    result = small_segmenter()(image, Settings(system="contrast", surroundings=8.0))
    assert result.anomaly_map[50, 60] < result.anomaly_map[42, 52]  # an edge, not an area
    assert result.mask.any()
    assert "| `contrast` | Local contrast |" in catalogue.table()


def test_its_test_passes(contrast: ModuleType) -> None:
    names = {"np": np, "Settings": Settings, **contrast.__dict__}
    exec(TEST, names)
    names["test_a_spot_is_higher_than_what_is_around_it"]()
