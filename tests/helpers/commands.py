"""What tests of the command line share: a segmenter without models, and photos on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image
from typer.testing import Result

from tests.helpers.results import make_result, normal_result
from zsas import models
from zsas.images import ReadImage
from zsas.settings import Settings

Run = Callable[..., Result]
"""Calls `zsas` with some words."""


class StandIn:
    """A segmenter without models: a bright photo is anomalous, a dark one normal, red fails."""

    loaded: ClassVar[models.ModelChoice]
    batches: ClassVar[list[int]]
    """Sizes of what was encoded by the latest call."""

    @classmethod
    def from_choice(cls, choice: models.ModelChoice, **_: object) -> StandIn:
        cls.loaded = choice
        return cls()

    @classmethod
    def seen(cls) -> int:
        return sum(cls.batches)

    def encode_batch(self, read: list[ReadImage], settings: Settings, *_: Any) -> Any:
        images = [each.pixels for each in read]
        type(self).batches.append(len(images))
        if len(images) > 1 and any((image[0, 0] == [255, 0, 0]).all() for image in images):
            raise RuntimeError("out of memory")
        return read

    def segment(self, read: ReadImage, settings: Settings, **_: Any) -> Any:
        image = read.pixels
        if (image[0, 0] == [255, 0, 0]).all():
            raise RuntimeError("out of memory")
        if image.mean() < 50:
            return normal_result()
        return make_result(*image.shape[:2], settings=settings, input=read.info)


def photo(path: Path, colour: str = "white", size: tuple[int, int] = (80, 60)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path
