"""Fixtures that any test may use; nothing here reaches the network."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from zsas.segmenter import Segmenter


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several processes, long modules come first: none of them is left alone with one at the end.

    Those with Ray are longest, then those with a browser: one after the other, so that few processes start one.
    """
    if not hasattr(config, "workerinput"):
        return
    marked: dict[str, Counter[str]] = defaultdict(Counter)
    for item in items:
        marked[item.nodeid.split("::")[0]].update({mark.name for mark in item.iter_markers()})
    items.sort(
        key=lambda item: [
            -marked[item.nodeid.split("::")[0]][mark] for mark in ("ray", "browser", "slow")
        ]
    )


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    """Both models small, random and fp32; shared, so that tests read counters as differences."""
    from tests.helpers.models import small_segmenter  # not loaded by what only hands out the tests

    return small_segmenter()


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    """A grey plate of 120 × 160 pixels with a dark spot at (100, 40)."""
    y, x = np.mgrid[:120, :160]
    plate = np.full((120, 160, 3), 150, np.uint8)
    plate += (np.random.default_rng(0).integers(0, 12, (120, 160, 1))).astype(np.uint8)
    plate[(x - 100) ** 2 + (y - 40) ** 2 < 144] = 30
    return plate
