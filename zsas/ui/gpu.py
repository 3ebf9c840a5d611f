"""The calls that need a GPU: on a ZeroGPU for as long as their input needs, elsewhere as they are.

A ZeroGPU lends its device to a forked process for the length of one call. So these are plain functions of a module
with arguments that can be pickled, and the models are found by name in `SEGMENTERS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zsas.images import ReadImage
from zsas.settings import Settings

ZERO = bool(os.environ.get("SPACES_ZERO_GPU"))
SEGMENTERS: dict[str, Any] = {}

# Seconds for the start of a call, and for each megapixel that is read, drawn and sent back.
_SECONDS = {"encode": (12.0, 1.0), "decide": (4.0, 0.5)}
LONGEST = 60


def seconds_for(work: str, shape: Sequence[int]) -> int:
    """How long a ZeroGPU is asked for, in whole seconds, at most `LONGEST`.

    Args:
        work: "encode" or "decide".
        shape: (H, W, ...) of the image.
    """
    start, per_megapixel = _SECONDS[work]
    return min(LONGEST, round(start + per_megapixel * shape[0] * shape[1] / 1e6 + 0.5))


def _for_encode(preset: str, image: ReadImage, *_: Any) -> int:
    return seconds_for("encode", image.pixels.shape)


def _for_decide(preset: str, encoding: Any, *_: Any) -> int:
    return seconds_for("decide", getattr(encoding, "image", encoding).shape)


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


@_gpu(lambda preset, images, *_: seconds_for("encode", images[0].pixels.shape))
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
