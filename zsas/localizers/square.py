"""The square frame of systems that squeeze the whole image into one square, as their papers do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zsas.declare import Values
from zsas.frames import resize_map
from zsas.localizers.base import Context, MapSettings, Scored, map_stage, top_mean
from zsas.localizers.patches import PatchFeatures, TileFeatures, blurred

if TYPE_CHECKING:
    from torch import Tensor

Squeeze = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def square_resolution(values: Values, own: int, patch: int) -> int:
    """Side of the frame in pixels: the setting, or else the localizer's own, rounded down to whole patches."""
    return max(1, (values.of(MapSettings).resolution or own) // patch) * patch


def square_features(
    images: Sequence[NDArray[np.uint8]], layers: Tensor, embeddings: Tensor, side: int
) -> list[PatchFeatures]:
    """Features of images that were each encoded as one square.

    Args:
        images: uint8 RGB (H, W, 3).
        layers: L2-normalised patch features, (B, L, g, g, D); kept in fp16.
        embeddings: L2-normalised image embeddings, (B, D).
        side: Of the frame in pixels.
    """
    return [
        PatchFeatures(
            (
                TileFeatures(
                    (0, 0, image.shape[1], image.shape[0]),
                    layers[i].half()[None],
                    embeddings[i].clone(),
                    (side, side),
                ),
            )
        )
        for i, image in enumerate(images)
    ]


def _clipped(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(values, 0.0, 1.0)


def scored_square(
    square: Tensor,
    probability: float,
    values: Values,
    context: Context,
    how: str,
    squeezed: Squeeze = _clipped,
) -> Scored:
    """Map and evidence of an image from a published map in its square frame.

    Args:
        square: The published map before its blur, fp32 (R, R).
        probability: CLIP's answer for the whole image, in [0, 1].
        values: `blur` is read.
        context: The image, for its size.
        how: See `zsas.localizers.base.map_stage`.
        squeezed: Puts the map into [0, 1] without changing its ranking, where it is no probability.
    """
    found = blurred(square.cpu().numpy(), values.of(MapSettings).blur)
    anomaly_map = squeezed(resize_map(found, *context.image.shape[:2]))
    anomaly_map.setflags(write=False)
    evidence = {"map": top_mean(squeezed(found)), "clip": probability}
    return Scored(anomaly_map, evidence, (map_stage(anomaly_map, how),))
