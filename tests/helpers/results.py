"""Results for tests, made without any model."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np

from zsas.result import CascadeStep, Points, Result, find_regions
from zsas.settings import Settings


def make_result(height: int = 60, width: int = 80, **changes: Any) -> Result:
    """A whole result without any model: one round defect, and a click of a person."""
    rows, columns = np.mgrid[:height, :width]
    apart = np.hypot((columns - width * 0.4) / width, (rows - height * 0.5) / height)
    anomaly_map = (0.1 + 0.7 * np.exp(-((apart / 0.12) ** 2))).astype(np.float32)
    region = anomaly_map > 0.5
    ring = cv2.dilate(region.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~region
    image = np.full((height, width, 3), 128, np.uint8)
    image[..., 0] += (columns % 50).astype(np.uint8)
    mask = anomaly_map > 0.45
    score_map = (0.5 * mask + 0.5 * anomaly_map).astype(np.float32)
    result = Result(
        image=image,
        anomaly_map=anomaly_map,
        region=region,
        ring=ring,
        points=Points(
            np.array([[32, 30], [40, 30], [10, 10]], np.float32),
            np.array([1, 0, 0]),
            ("map", "ring", "click"),
        ),
        steps=(
            CascadeStep("M1", region, 0.71, prompts="3 points"),
            CascadeStep("M2", region, 0.82, prompts="3 points and the logits of M1"),
            CascadeStep("M3", mask, 0.93, prompts="3 points, box and the logits of M2"),
        ),
        box=np.array([[25, 20, 41, 42]], np.float32),
        winner="M3",
        mask=mask,
        score_map=score_map,
        image_score=0.83,
        anomalous=True,
        regions=find_regions(mask, score_map),
        settings=Settings(threshold=0.5, verdict_threshold=0.5, fusion_weight=0.5),
        preset="tiny",
        localizer="linear",
        versions={"zsas": "0.1.0"},
        timings={"encode": 0.5, "decide": 0.01},
    )
    return dataclasses.replace(result, **changes)


def normal_result() -> Result:
    """A defect-free photo: nothing above the threshold, so no points and no cascade."""
    nothing = np.zeros((60, 80), bool)
    return make_result(
        anomaly_map=np.full((60, 80), 0.1, np.float32),
        region=nothing,
        ring=nothing,
        points=Points.none(),
        steps=(),
        box=np.zeros((0, 4), np.float32),
        winner="",
        mask=nothing,
        score_map=np.full((60, 80), 0.05, np.float32),
        image_score=0.12,
        anomalous=False,
        regions=(),
    )
