"""How many seeds a test runs on: one in a quick run, all of them otherwise."""

from __future__ import annotations

from typing import Any

import pytest


def seeds(count: int) -> list[Any]:
    """Parameters 0 to count - 1, all but the first marked slow."""
    return [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, count))]
