"""Fixtures that any test may use; nothing here reaches the network."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.models import small_segmenter
from zsas.segmenter import Segmenter


@pytest.fixture(scope="session")
def segmenter() -> Segmenter:
    """Both models small, random and fp32; shared, so that tests read counters as differences."""
    return small_segmenter()


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    """A grey plate of 120 × 160 pixels with a dark spot at (100, 40)."""
    y, x = np.mgrid[:120, :160]
    plate = np.full((120, 160, 3), 150, np.uint8)
    plate += (np.random.default_rng(0).integers(0, 12, (120, 160, 1))).astype(np.uint8)
    plate[(x - 100) ** 2 + (y - 40) ** 2 < 144] = 30
    return plate
