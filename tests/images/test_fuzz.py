"""Broken files, bounded; `python -m bench.fuzz_images` does it for as long as one likes."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.fuzz_images import mutated, seeds
from tests.images.oracle import check

FILES = seeds()
SEEDS = list(FILES.values())


@pytest.mark.parametrize("name", FILES)
def test_a_valid_file_is_read_as_by_a_second_reader(name: str) -> None:
    assert check(FILES[name]) is not None


@pytest.mark.slow
@settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
@given(which=st.integers(0, len(SEEDS) - 1), chance=st.integers(0, 2**32))
def test_mutations_give_right_pixels_or_a_sentence(which: int, chance: int) -> None:
    check(mutated(SEEDS[which], random.Random(chance)))


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(which=st.integers(0, len(SEEDS) - 1), cut=st.floats(0, 1), tail=st.binary(max_size=64))
def test_cut_files_with_anything_behind(which: int, cut: float, tail: bytes) -> None:
    data = SEEDS[which]
    check(data[: int(len(data) * cut)] + tail)
