"""What lies outside a region is not measured."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.datasets import write_folder
from tests.helpers.models import small_segmenter
from zsas.datasets.load import load_dataset
from zsas.evaluation import run
from zsas.evaluation.conditions import plan
from zsas.evaluation.identity import identity_of_data
from zsas.evaluation.metrics import Truth
from zsas.region import RegionOfInterest
from zsas.settings import Settings

HALF = RegionOfInterest.from_dict({"region": [{"rectangle": [0, 0, 0.5, 1]}], "unit": "fraction"})


def test_pixels_outside_are_counted_neither_as_normal_nor_as_anomalous() -> None:
    mask = np.zeros((4, 8), bool)
    mask[1, 1] = mask[2, 6] = True
    scores = np.linspace(0, 1, 32, dtype=np.float32).reshape(4, 8)
    inside = HALF.on(4, 8)
    counts = Truth.of(mask, inside).count(scores)
    assert counts.anomalous.sum() == counts.regions == 1
    assert counts.normal.sum() == 15
    alone = Truth.of(mask[:, :4]).count(np.ascontiguousarray(scores[:, :4]))
    np.testing.assert_array_equal(counts.normal, alone.normal)
    np.testing.assert_array_equal(counts.anomalous, alone.anomalous)
    np.testing.assert_array_equal(counts.overlap, alone.overlap)


@pytest.mark.parametrize(("column", "expected"), [(1, True), (6, False)])
def test_an_image_whose_anomaly_lies_outside_is_normal_there(tmp_path, column, expected) -> None:
    data = load_dataset("folder", write_folder(tmp_path / "parts"))
    sample = next(one for one in data if one.anomalous)
    mask = np.zeros((4, 8), bool)
    mask[1, column] = True
    assert run.anomalous_inside(sample, mask, HALF.on(4, 8)) is expected
    assert run.anomalous_inside(sample, mask, None) is True


@pytest.mark.slow
def test_a_run_with_a_region_is_another_run_and_measures_inside_alone(tmp_path) -> None:
    data = load_dataset("folder", write_folder(tmp_path / "parts"))
    conditions = plan(Settings(threshold=0.9, threshold_mode="quantile"))
    looked_at = [replace(one, region=HALF) for one in conditions]
    assert identity_of_data(data, conditions, 0) != identity_of_data(data, looked_at, 0)
    sample = next(one for one in data if one.anomalous)
    whole, half = (run.measure(small_segmenter(), [sample], c)[0] for c in (conditions, looked_at))
    assert not half.error
    for a, b in zip(whole.outcomes, half.outcomes, strict=True):
        counted = a.counts.normal.sum() + a.counts.anomalous.sum()
        assert b.counts.normal.sum() + b.counts.anomalous.sum() == counted // 2
        assert b.marked <= a.marked or b.marked <= counted // 2
