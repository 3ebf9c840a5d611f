"""A segmenter without models: dark spots are anomalies. Fast, repeatable, and it counts what it encodes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.result import CascadeStep, Points, Result, find_regions
from zsas.settings import Settings
from zsas.stopping import Stopped, heed
from zsas.ui.engine import SegmenterLike


@dataclass(frozen=True)
class FakeEncoding:
    """What a real encoding has, as far as the page looks at it."""

    image: NDArray[np.uint8]
    patches: NDArray[np.float32]
    sam: NDArray[np.float32]
    localizer: str = "fake"


@dataclass
class FakeSegmenter:
    """Deterministic stand-in for `zsas.pipeline.Segmenter`.

    Attributes:
        preset: Name.
        seconds: How long encoding a photo takes.
        encoded: How many photos have been encoded.
        finished: How many runs of `stages` came to their end.
        interrupted: How many encodings ended early because nobody wanted them any more.
    """

    preset: str = "tiny"
    seconds: float = 0.0
    stage_seconds: float = 0.0
    encoded: int = 0
    finished: int = 0
    interrupted: int = 0
    _known: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def encode(self, image: NDArray[np.uint8], settings: Settings | None = None) -> FakeEncoding:
        key = hash(image.tobytes())
        with self._lock:
            new = key not in self._known
            self._known.add(key)
            self.encoded += new
        try:
            for _ in range(20 if new else 0):  # as many blocks
                heed()
                time.sleep(self.seconds / 20)
        except Stopped:
            self.interrupted += 1
            self._known.discard(key)
            raise
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        return FakeEncoding(image, 1 - grey, np.zeros(1, np.float32))

    def segment(
        self, encoding: FakeEncoding, settings: Settings | None = None, clicks: Sequence[Any] = ()
    ) -> Result:
        *_, (_, result) = self.stages(encoding, settings, clicks, quick=True)
        return result

    def stages(
        self,
        source: Any,
        settings: Settings | None = None,
        clicks: Sequence[Any] = (),
        quick: bool = False,
    ) -> Iterator[tuple[str, Result]]:
        settings = settings or Settings()
        encoding = source if isinstance(source, FakeEncoding) else self.encode(source, settings)
        image, heat = encoding.image, encoding.patches
        empty = np.zeros(heat.shape, bool)
        score = float(heat.max())
        result = Result(
            image=image, anomaly_map=heat, region=empty, ring=empty, points=Points.none(), steps=(),
            box=np.zeros((0, 4), np.float32), winner="", mask=empty, score_map=heat, image_score=score,
            anomalous=score >= settings.verdict_threshold, regions=(), settings=settings, preset=self.preset,
            localizer="fake", versions={"zsas": "test"}, timings={"clip": 0.01, "map": 0.001},
        )  # fmt: skip
        pause = (lambda: None) if quick else (lambda: time.sleep(self.stage_seconds))
        pause()
        yield "map", result
        region = heat >= settings.threshold
        size = settings.kernel_size
        shape = {
            "ellipse": cv2.MORPH_ELLIPSE,
            "rectangle": cv2.MORPH_RECT,
            "cross": cv2.MORPH_CROSS,
        }
        kernel = cv2.getStructuringElement(shape[settings.kernel_shape], (size, size))
        ring = cv2.dilate(region.astype(np.uint8), kernel).astype(bool) & ~region
        result = replace(result, region=region, ring=ring)
        pause()
        yield "region", result
        if region.any() or any(label == 1 for _, _, label in clicks):
            points = _points(heat, region, ring, settings, clicks)
            result = replace(result, points=points)
            yield "points", result
            mask = _clicked(region, clicks)
            for number in range(1, settings.steps + 1):
                if number == 3:
                    x, y, w, h = cv2.boundingRect(mask.astype(np.uint8))
                    result = replace(result, box=np.array([[x, y, x + w, y + h]], np.float32))
                    yield "box", result
                pause()
                step = CascadeStep(
                    f"M{number}", mask, 0.8 + 0.05 * number, prompts=f"{len(points)} points"
                )
                result = replace(result, steps=(*result.steps, step), winner=f"M{number}")
                yield f"m{number}", result
            score_map = np.clip(0.5 * mask + 0.5 * heat, 0, 1).astype(np.float32)
            if settings.fusion == "map":
                score_map = heat
            result = replace(
                result, mask=mask, score_map=score_map, regions=find_regions(mask, score_map)
            )
        if not quick:
            self.finished += 1
        yield "fused", result


def _points(
    heat: NDArray[np.float32],
    region: NDArray[np.bool_],
    ring: NDArray[np.bool_],
    settings: Settings,
    clicks: Any,
) -> Points:
    rows: list[tuple[float, float, int, str]] = []
    if region.any():
        order = np.argsort(-np.where(region, heat, -1), axis=None)[
            : 400 * settings.k_positive : 400
        ]
        rows += [(float(i % heat.shape[1]), float(i // heat.shape[1]), 1, "map") for i in order]
    around = np.flatnonzero(ring)
    if len(around):
        rows += [
            (float(i % heat.shape[1]), float(i // heat.shape[1]), 0, "ring")
            for i in around[:: max(1, len(around) // settings.k_negative)][: settings.k_negative]
        ]
    rows += [(x, y, label, "click") for x, y, label in clicks]
    xy = np.array([row[:2] for row in rows], np.float32).reshape(-1, 2)
    return Points(xy, np.array([row[2] for row in rows], np.int64), tuple(row[3] for row in rows))


def _clicked(region: NDArray[np.bool_], clicks: Any) -> NDArray[np.bool_]:
    """The region, with a disc around each positive click and without one around each negative."""
    mask = region.astype(np.uint8)
    for x, y, label in clicks:
        cv2.circle(mask, (round(x), round(y)), max(6, max(mask.shape) // 16), int(label == 1), -1)
    return mask.astype(bool)


def photo(seed: int = 0, size: tuple[int, int] = (240, 320)) -> NDArray[np.uint8]:
    """A bright plate with one or two dark spots whose places depend on the seed; uint8 RGB."""
    rng = np.random.default_rng(seed)
    height, width = size
    image = np.full((height, width, 3), 205, np.uint8)
    image = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    for _ in range(1 + seed % 2):
        centre = (int(rng.integers(40, width - 40)), int(rng.integers(40, height - 40)))
        cv2.circle(image, centre, int(rng.integers(12, 24)), (30, 25, 20), -1)
    return image


def _stands_in(fake: FakeSegmenter) -> SegmenterLike:
    """Checked by mypy: the stand-in has what the page needs of a segmenter."""
    return fake
