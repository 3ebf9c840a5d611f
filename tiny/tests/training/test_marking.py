"""Fitting the adaptive marking level."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.datasets import write_folder
from tiny.training.marking import figures, fit, fit_marking, table_of
from zsas.refiners.marking import Constants


def spot(height: float, ground: float) -> NDArray[np.float32]:
    found = np.zeros((64, 64), np.float32)
    found[30, 30] = 1
    found = cv2.GaussianBlur(found, (0, 0), 6)
    return np.maximum(ground, height * found / found.max()).astype(np.float32)


def rule(level: float, peak: float) -> Constants:
    def odds(p: float) -> float:
        return float(np.log(p / (1 - p)))

    return Constants((odds(level), 0.0), (odds(peak), 0.0))


def test_figures_are_those_of_the_marked_pixels() -> None:
    bad, good = spot(0.9, 0.1), spot(0.6, 0.1)
    tables = [table_of(bad, bad > 0.575, "a"), table_of(good, None, "a")]
    right = figures(tables, rule(0.574, 0.7))
    assert right.f1 > 0.85
    assert (right.good_images, right.good_pixels) == (0, 0)
    marked = figures(tables, rule(0.574, 0.574))
    assert marked.good_images == 1
    assert marked.good_pixels == pytest.approx((good > 0.575).mean(), rel=0.1)
    assert marked.f1 < right.f1
    assert figures(tables, rule(0.94, 0.94)).f1 == 0


def test_the_fit_spares_good_images() -> None:
    tables = [table_of(spot(0.9, 0.1), spot(0.9, 0.1) > 0.575, "a")]
    tables += [table_of(spot(0.62, 0.1), None, "a")]
    best, (found,) = fit([tables])
    assert found.f1 > 0.9
    assert found.good_images == 0
    assert best.quantile == 0.75


@pytest.mark.slow
def test_the_command_writes_constants_that_the_package_can_read(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data")
    text = fit_marking([root], tmp_path / "marking.json")
    stored = json.loads((tmp_path / "marking.json").read_text())
    assert set(stored) == {"level", "peak", "quantile"}
    assert len(stored["level"]) == len(stored["peak"]) == 2
    assert str(root) in text
