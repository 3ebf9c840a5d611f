"""A segmenter without models: dark spots are anomalies. Fast, repeatable, and it counts what it encodes.

It is the real engine with a stand-in for the localizer and one for SAM, so that stages, settings and results are real.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from zsas.cancellation import Cancelled, raise_if_cancelled
from zsas.encoding import Encoding
from zsas.errors import ZsasError
from zsas.frames import SamFrame
from zsas.localizers.base import Context, Localizer, Scored, map_stage
from zsas.localizers.references import References
from zsas.models import ModelChoice
from zsas.prompts import Click, Masks, Prompt
from zsas.result import Result
from zsas.segmenter import Segmenter
from zsas.settings import Settings
from zsas.stages import Stage

GRID = 256
"""Side of the stand-in's logit grid."""


@dataclass(frozen=True)
class Darkness:
    """How dark each pixel is, float32 (H, W) in [0, 1]: what a real encoding has, as far as the page looks at it."""

    map: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        return self.map.nbytes

    def to(self, device: object) -> Self:
        return self


class DarkSpots(Localizer):
    """A stand-in under the name of the linear layers, which `auto` takes first."""

    name = "linear"
    title = "dark spots"

    def __init__(self, fake: FakeSegmenter) -> None:
        self.fake = fake

    @classmethod
    def load(cls, models: Any) -> Self:
        raise AssertionError("it is made, not loaded")

    def encode(self, images: Sequence[NDArray[np.uint8]], values: Any) -> list[Darkness]:
        try:
            blocks = max(20, round(10 * self.fake.seconds))  # of a tenth of a second at most
            for _ in range(blocks * len(images)):
                raise_if_cancelled()
                time.sleep(self.fake.seconds / blocks)
        except Cancelled:
            self.fake.interrupted += 1
            raise
        return [Darkness(darkness(image)) for image in images]

    def score(self, features: Darkness, values: Any, context: Context) -> Scored:
        evidence = {"map": float(features.map.max())}
        return Scored(features.map, evidence, (map_stage(features.map, "How dark it is"),))


def darkness(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    return (1 - grey).astype(np.float32)


@dataclass(frozen=True)
class DarkFeatures:
    """Stands for SAM's features: the darkness on the logit grid."""

    dark: NDArray[np.float32]
    frame: SamFrame

    @property
    def valid(self) -> NDArray[np.float32]:
        rows, columns = self.frame.grid_hw
        cells = cv2.resize(self.dark, (64, 64), interpolation=cv2.INTER_AREA)[:rows, :columns]
        return np.stack([cells, 1 - cells]).astype(np.float32)

    @property
    def nbytes(self) -> int:
        return self.dark.nbytes

    def to(self, device: object) -> Self:
        return self


class FakeSam:
    """Draws the dark piece under each positive point, and a disc around it; no disc around a negative one."""

    device = "cpu"
    side = 1024

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> list[DarkFeatures]:
        return [self._features(image) for image in images]

    def _features(self, image: NDArray[np.uint8]) -> DarkFeatures:
        frame = SamFrame(image.shape[0], image.shape[1])
        rows, columns = (max(1, n * GRID // frame.side) for n in frame.resized_hw)
        dark = np.zeros((GRID, GRID), np.float32)
        dark[:rows, :columns] = cv2.resize(darkness(image), (columns, rows))
        return DarkFeatures(dark, frame)

    def decode(self, features: DarkFeatures, prompts: Sequence[Prompt]) -> list[Masks]:
        return [self._answer(features, prompt) for prompt in prompts]

    def _answer(self, features: DarkFeatures, prompt: Prompt) -> Masks:
        _, pieces = cv2.connectedComponents((features.dark > 0.5).astype(np.uint8))
        cells = features.frame.points_to_frame(prompt.points) * GRID / features.frame.side
        mask = np.zeros((GRID, GRID), np.uint8)
        for (x, y), label in sorted(
            zip(cells.tolist(), prompt.labels.tolist(), strict=True), key=lambda pair: -pair[1]
        ):
            centre = (min(round(x), GRID - 1), min(round(y), GRID - 1))
            if label and pieces[centre[1], centre[0]]:
                mask[pieces == pieces[centre[1], centre[0]]] = 1
            cv2.circle(mask, centre, 6 if label else 2, int(label), -1)
        logits = np.where(mask, 8, -8).astype(np.float32)
        round_number = 1 + (prompt.logits is not None) + (prompt.box is not None)
        iou = np.array([0.8 + 0.05 * round_number, 0, 0], np.float32)
        return Masks(np.stack([logits] * 3), iou)


class _NoModels:
    """Stands for `zsas.models.Models`."""

    device = torch.device("cpu")
    clip_name = "none"

    def __init__(self, preset: str) -> None:
        self.choice = ModelChoice(preset)
        self.sam = FakeSam()

    def weights(self, localizer: str) -> None:
        return None

    def source_of_features(self, kind: str) -> str:
        raise ZsasError(f"There is no {kind}; take SAM's features.")

    patch_features = source_of_features


class FakeSegmenter(Segmenter):
    """Deterministic stand-in.

    Attributes:
        seconds: How long encoding an image takes.
        stage_seconds: How long each stage takes where they are looked at one by one.
        finished: How many runs of `stages` came to their end.
        interrupted: How many encodings ended early because nobody wanted them any more.
    """

    def __init__(
        self, preset: str = "tiny", seconds: float = 0.0, stage_seconds: float = 0.0
    ) -> None:
        super().__init__(_NoModels(preset), localizers=[DarkSpots(self)])  # type: ignore[arg-type]
        self.seconds, self.stage_seconds = seconds, stage_seconds
        self.finished = self.interrupted = 0

    @property
    def encoded(self) -> int:
        """How many images have been encoded."""
        return self.images_encoded["localizer"]

    def segment(
        self,
        source: Any,
        settings: Settings | None = None,
        clicks: Sequence[Click] = (),
        references: References | None = None,
        *more: Any,
        **given: Any,
    ) -> Result:
        *_, result = super().stages(source, settings, clicks, references, *more, **given)
        assert isinstance(result, Result)
        return result

    def stages(
        self,
        source: Encoding | Any,
        settings: Settings | None = None,
        clicks: Sequence[Click] = (),
        references: References | None = None,
        *more: Any,
        **given: Any,
    ) -> Iterator[Stage | Result]:
        for step in super().stages(source, settings, clicks, references, *more, **given):
            if isinstance(step, Result):
                self.finished += 1
            else:
                time.sleep(self.stage_seconds)
            yield step


def fakes(preset: str, **seconds: float) -> FakeSegmenter:
    """A stand-in for any preset but `paper`, which cannot be had."""
    if preset == "paper":
        raise ZsasError("The preset paper needs the Hub, which cannot be reached; use tiny.")
    return FakeSegmenter(preset, **seconds)


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
