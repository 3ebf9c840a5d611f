"""`examples/minimal.py`, the method for reading, is the method that runs."""

from __future__ import annotations

import tomllib
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers import ROOT
from tests.helpers.scripts import module_of
from zsas import Segmenter, Settings
from zsas.images import load_image
from zsas.result import Result
from zsas.stages import Area

FILE = ROOT / "examples/minimal.py"
EXAMPLES = tomllib.loads((ROOT / "examples/index.toml").read_text(encoding="utf-8"))["example"]


def test_it_fits_on_a_page_and_imports_nothing_of_zsas() -> None:
    lines = FILE.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 100
    imported = {
        line.split()[1].split(".")[0] for line in lines if line.startswith(("import", "from"))
    }
    stated = {"numpy", "cv2", "torch", "safetensors", "transformers"}
    assert imported <= stated | {"json", "sys", "pathlib"}


@pytest.fixture(scope="module")
def minimal() -> ModuleType:
    return module_of(FILE)


@pytest.fixture(scope="module")
def paper() -> Segmenter:
    return Segmenter.from_preset("tiny", device="cpu", precision="fp32")


def cascade(result: Result) -> list[NDArray[np.bool_]]:
    """M1, M2 and M3 of a result; empty ones where SAM was not asked."""
    found = {}
    for stage in result.stages:
        for layer in stage.layers:
            if stage.spec.symbol in ("M1", "M2", "M3") and isinstance(layer, Area):
                found[stage.spec.symbol] = layer.mask
    return [found.get(name, np.zeros_like(result.mask)) for name in ("M1", "M2", "M3")]


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["id"])
def test_its_three_masks_are_those_of_the_system_paper(
    minimal: ModuleType, paper: Segmenter, example: dict[str, str]
) -> None:
    image = load_image(ROOT / "examples" / example["image"])
    ours = minimal.segment(image, example["object"])
    result = paper.segment(image, Settings(object_name=example["object"], system="paper"))
    for mine, theirs in zip(ours, cascade(result), strict=True):
        union = np.count_nonzero(mine | theirs)
        assert np.count_nonzero(mine & theirs) >= 0.99 * union
