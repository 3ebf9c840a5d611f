"""Learned weights that are judged on images they may have seen: the evaluation says so."""

from __future__ import annotations

import dataclasses

import pytest

from tests.helpers.datasets import write_folder
from zsas.datasets.load import load_dataset
from zsas.evaluation.identity import leakage


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_dataset("folder", write_folder(tmp_path_factory.mktemp("d") / "parts", per_kind=3))


def renamed(data, name, category):
    """A data set under another name, all of it in one category."""
    samples = tuple(dataclasses.replace(sample, category=category) for sample in data.samples)
    return dataclasses.replace(data, name=name, samples=samples)


def test_an_adapter_judged_on_its_own_training_data_is_called_out(data):
    (warning,) = leakage(data, {"linear": {"trained_on": data.name}})
    assert "trained on parts" in warning
    assert leakage(data, {"linear": {"trained_on": "visa"}}) == []


def test_an_adapter_has_seen_the_categories_that_its_card_lists(data):
    models = {"linear": {"trained_on": "synthetic", "trained_categories": ("wood", "tile")}}
    for category, warnings in (("marble", 0), ("wood", 1)):
        assert len(leakage(renamed(data, "synthetic", category), models)) == warnings
    assert leakage(renamed(data, "my-folder", "wood"), models) == []  # somebody's own wood
    both = tuple(
        dataclasses.replace(sample, category=("wood", "tile")[i % 2])
        for i, sample in enumerate(data)
    )
    (warning,) = leakage(dataclasses.replace(data, name="my-copy", samples=both), models)
    assert "if these are its images" in warning
    assert leakage(dataclasses.replace(data, name="mvtec", samples=both), models) == []


def test_a_copy_of_a_published_data_set_is_known_by_its_categories(data):
    models = {"linear": {"trained_on": "mvtec"}}
    (warning,) = leakage(renamed(data, "my-copy", "metal_nut"), models)
    assert "if these are its images" in warning  # a screw of one's own is no screw of MVTec-AD
    assert leakage(renamed(data, "my-copy", "pcb1"), models) == []
    more = tuple(
        dataclasses.replace(sample, category=("metal_nut", "screw", "my_own")[i % 3])
        for i, sample in enumerate(data)
    )
    assert leakage(dataclasses.replace(data, name="my-copy", samples=more), models)
