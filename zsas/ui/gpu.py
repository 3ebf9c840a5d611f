"""The calls that need a GPU: on a ZeroGPU for as long as their input needs, elsewhere as they are.

A ZeroGPU lends its device to a forked process for the length of one call. So these are plain functions of a module
with arguments that can be pickled, and the models are found by name in `SEGMENTERS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zsas.images import ReadImage
from zsas.localizers.tiles import TileSettings, tiles_wanted
from zsas.refiners.crops import AUTO
from zsas.settings import Settings
from zsas.systems import system_named

ZERO = bool(os.environ.get("SPACES_ZERO_GPU"))
SEGMENTERS: dict[str, Any] = {}

# Seconds for the start of a call, and for each megapixel that is read, drawn and sent back.
_SECONDS = {"encode": (12.0, 1.0), "decide": (4.0, 0.5)}
# Seconds for what settings ask for beside that: a tile more, a window that SAM encodes by itself, a detector's phrases.
_TILE, _WINDOW, _DETECTOR = 0.1, 0.5, 8.0
LONGEST = 60
"""Of a call on one image."""
LONGEST_OF_MANY = 120
"""Of a call on several good images."""


def seconds_for(
    work: str, *shapes: Sequence[int], more: float = 0.0, longest: int = LONGEST
) -> int:
    """How long a ZeroGPU is asked for, in whole seconds.

    Args:
        work: "encode" or "decide".
        shapes: (H, W, ...) of each image.
        more: Seconds for what settings ask for beside the images.
        longest: At most so many.
    """
    start, per_megapixel = _SECONDS[work]
    megapixels = sum(shape[0] * shape[1] for shape in shapes) / 1e6
    return min(longest, round(start + per_megapixel * megapixels + more + 0.5))


def _closer(preset: str, shape: Sequence[int], settings: Settings) -> float:
    """Seconds for the tiles beyond the first and the windows of SAM that an image is looked at in."""
    asked = 0.0
    crops = settings.sam_crops
    if (
        crops == "auto"
    ):  # as if SAM's square were not known: an image that fits into it has no windows
        crops = AUTO if max(shape[:2]) > 1024 else "off"
    if crops != "off":
        asked += _WINDOW * int(crops)
    localizer = SEGMENTERS[preset].localizer(settings)
    if localizer.tiled:
        tiles = settings.of(TileSettings)
        wanted = tiles_wanted(shape[0], shape[1], tiles, localizer.resolution(settings))
        asked += _TILE * (min(wanted, tiles.max_tiles) - 1)
    return asked


def _for_encode(preset: str, image: ReadImage, settings: Settings, *_: Any) -> int:
    shape = image.pixels.shape
    return seconds_for("encode", shape, more=_closer(preset, shape, settings))


def _for_remember(preset: str, images: Sequence[ReadImage], settings: Settings, *_: Any) -> int:
    shapes = [image.pixels.shape for image in images]
    more = sum(_closer(preset, shape, settings) for shape in shapes)
    return seconds_for("encode", *shapes, more=more, longest=LONGEST_OF_MANY)


def _for_decide(preset: str, encoding: Any, settings: Settings, *_: Any, **__: Any) -> int:
    roles = system_named(settings.system, refiner=settings.refiner).roles
    more = _DETECTOR if "detector" in roles else 0.0
    return seconds_for("decide", getattr(encoding, "image", encoding).shape, more=more)


def _gpu(duration: Callable[..., int]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if not ZERO:
        return lambda function: function
    import spaces

    return spaces.GPU(duration=duration)


@_gpu(_for_encode)
def begin(preset: str, image: ReadImage, settings: Settings) -> Any:
    """An `Encoding` without SAM, which its stages add."""
    return SEGMENTERS[preset].begin(image, settings)


@_gpu(_for_encode)
def encode(preset: str, image: ReadImage, settings: Settings) -> Any:
    """An `Encoding`: both encoders, once."""
    encoding = SEGMENTERS[preset].encode(image, settings)
    # The page's own process has no GPU to take it on.
    return encoding.to("cpu") if ZERO else encoding


@_gpu(_for_remember)
def remember(
    preset: str, images: Sequence[ReadImage], settings: Settings, region: Any = None
) -> Any:
    """`References`: images of good parts, encoded."""
    return SEGMENTERS[preset].remember(images, settings, region)


@_gpu(_for_encode)
def gather(preset: str, image: ReadImage, settings: Settings, region: Any = None) -> Any:
    """What is compared of an image of a batch, `Cells`."""
    (cells,) = SEGMENTERS[preset].gather([image], settings, region)
    return cells


@_gpu(_for_decide)
def decide(
    preset: str,
    encoding: Any,
    settings: Settings,
    clicks: Sequence[Any],
    references: Any = None,
    batch: Any = None,
    *,
    part: Any = None,
) -> Any:
    """A `Result`: everything after the encoders."""
    beside = (references, batch)
    return SEGMENTERS[preset].segment(encoding, settings, clicks, *beside, part=part)


@_gpu(_for_decide)
def stages(
    preset: str,
    encoding: Any,
    settings: Settings,
    clicks: Sequence[Any],
    references: Any = None,
    batch: Any = None,
    *,
    part: Any = None,
) -> Iterator[Any]:
    """The stages as they are found, then the `Result`."""
    beside = (references, batch)
    yield from SEGMENTERS[preset].stages(encoding, settings, clicks, *beside, part=part)
