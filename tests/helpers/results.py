"""Results for tests, made without any model."""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.localizers.base import map_stage
from zsas.prompts import Points
from zsas.refiners.base import fused_stage
from zsas.refiners.cascade import BOX, M1, M2, M3, POINTS, REGION
from zsas.result import Result, find_regions
from zsas.settings import Settings
from zsas.stages import Area, Boxes, PointMarks, Stage


def make_result(height: int = 60, width: int = 80, **changes: Any) -> Result:
    """A whole result without any model: one round defect, and a click of a person."""
    rows, columns = np.mgrid[:height, :width]
    apart = np.hypot((columns - width * 0.4) / width, (rows - height * 0.5) / height)
    anomaly_map = (0.1 + 0.7 * np.exp(-((apart / 0.12) ** 2))).astype(np.float32)
    image = np.full((height, width, 3), 128, np.uint8)
    image[..., 0] += (columns % 50).astype(np.uint8)
    mask = anomaly_map > 0.45
    score_map = (0.5 * mask + 0.5 * anomaly_map).astype(np.float32)
    points = Points(
        np.array([[32, 30], [40, 30], [10, 10]], np.float32),
        np.array([1, 0, 0]),
        ("map", "ring", "click"),
    )
    result = Result(
        image=image,
        anomaly_map=anomaly_map,
        score_map=score_map,
        mask=mask,
        image_score=0.83,
        regions=find_regions(mask, score_map),
        stages=_stages(anomaly_map, mask, score_map, points),
        points=points,
        provenance=("M3",),
        settings=Settings(threshold=0.5, verdict_threshold=0.5, fusion_weight=0.5),
        models={"preset": "tiny", "localizer": "linear", "refiner": "cascade", "linear": {}},
        versions={"zsas": "0.1.0"},
        timings={"encode": 0.5, "decide": 0.01},
    )
    return dataclasses.replace(result, **changes)


def _stages(
    anomaly_map: NDArray[np.float32],
    mask: NDArray[np.bool_],
    score_map: NDArray[np.float32],
    points: Points,
) -> tuple[Stage, ...]:
    region = anomaly_map > 0.5
    ring = cv2.dilate(region.astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool) & ~region
    marks = PointMarks(points)
    boxes = np.array([[25, 20, 41, 42]], np.float32)
    return (
        map_stage(anomaly_map, "By hand"),
        Stage(REGION, "A region.", (Area(ring, "hatch"), Area(region))),
        Stage(POINTS, "Three points.", (Area(region, "line"), marks)),
        Stage(M1, "A mask.", (Area(region), marks), {"predicted_iou": 0.71}),
        Stage(M2, "Another.", (Area(region), marks), {"predicted_iou": 0.82}),
        Stage(BOX, "A box.", (Area(region, "faint"), Boxes(boxes)), {"boxes": boxes.tolist()}),
        Stage(M3, "The last.", (Area(mask), marks), {"predicted_iou": 0.93}),
        dataclasses.replace(
            fused_stage(score_map, mask, "Half and half."), data={"provenance": ["M3"]}
        ),
    )


def normal_result() -> Result:
    """An image without defects: nothing above the marking level, so no points and no cascade."""
    nothing = np.zeros((60, 80), bool)
    anomaly_map = np.full((60, 80), 0.1, np.float32)
    score_map = np.full((60, 80), 0.05, np.float32)
    return make_result(
        anomaly_map=anomaly_map,
        score_map=score_map,
        mask=nothing,
        image_score=0.12,
        regions=(),
        stages=(
            map_stage(anomaly_map, "By hand"),
            Stage(REGION, "Nothing.", (Area(nothing, "hatch"), Area(nothing))),
            fused_stage(score_map, nothing, "The map alone."),
        ),
        points=Points.none(),
        provenance=(),
    )
