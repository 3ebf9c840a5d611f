"""Patch features against two text vectors: what the CLIP localizers share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.declare import Values
from zsas.frames import resize_map
from zsas.lazy import F, torch
from zsas.localizers.base import Context, MapSettings, Scored, map_stage, top_mean

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PatchFeatures:
    """One image as a CLIP localizer keeps it, before any text.

    Attributes:
        layers: L2-normalised patch features in the space of the text vectors, by test-time views and layers,
            fp16 (K, L, g, g, D); fp16 is storage only, every sum is in fp32.
        image: L2-normalised image embedding, fp32 (D,).
        resolution: Side of the CLIP frame in pixels.
    """

    layers: Tensor
    image: Tensor
    resolution: int

    def to(self, device: torch.device | str) -> PatchFeatures:
        """These features on another device; themselves where they are there already."""
        if self.layers.device == torch.device(device):
            return self
        return PatchFeatures(self.layers.to(device), self.image.to(device), self.resolution)

    @property
    def nbytes(self) -> int:
        """Memory of the tensors in bytes."""
        return self.layers.nbytes + self.image.nbytes


def text_map(
    features: PatchFeatures, states: Tensor, scale: float, blur: float = 0.0
) -> NDArray[np.float32]:
    """Map_a in the CLIP frame.

    Per layer: scale × cosine with the two text vectors, bilinear to the frame on the logits, softmax over
    {normal, anomalous}, the anomalous channel; then the mean over the layers. Where there are several test-time views,
    a layer's logits are those of their mean probability, patch by patch.

    Args:
        features: Of one image.
        states: The two text vectors, normal and anomalous, (2, D).
        scale: Factor on the cosines.
        blur: Standard deviation of a Gaussian blur, in pixels of a 518 px square; 0 for none.

    Returns:
        float32 (R, R) in [0, 1].
    """
    with torch.inference_mode():
        # A softmax over two logits is the sigmoid of their difference, so one channel is enough.
        difference = scale * (
            features.layers.float() @ (states[1] - states[0]).to(features.layers.device)
        )
        logits = difference[0]
        if len(difference) > 1:
            logits = torch.logit(difference.sigmoid().mean(0), eps=1e-6)
        side = features.resolution
        logits = F.interpolate(logits[:, None], size=(side, side), mode="bilinear")
        values = logits.sigmoid().mean(dim=(0, 1)).cpu().numpy()
    if blur > 0:
        values = cv2.GaussianBlur(values, (0, 0), blur * side / 518)
    return np.clip(values, 0.0, 1.0)


def image_probability(features: PatchFeatures, states: Tensor, logit_scale: float) -> float:
    """CLIP's zero-shot score of the whole image: the anomalous part of a softmax, in [0, 1]."""
    with torch.inference_mode():
        difference = (
            logit_scale * (states[1] - states[0]).to(features.image.device) @ features.image
        )
        return float(difference.sigmoid())


def score_by_text(
    features: PatchFeatures,
    states: Tensor,
    *,
    scale: float,
    logit_scale: float,
    values: Values,
    context: Context,
    how: str,
) -> Scored:
    """Map and image evidence of features that live in the space of the text vectors.

    Args:
        features: Of one image.
        states: The two text vectors, normal and anomalous, (2, D).
        scale: Factor on the patches' cosines.
        logit_scale: Factor on the image embedding's cosines.
        values: `blur` is read.
        context: The image, for its size.
        how: See `zsas.localizers.base.map_stage`.
    """
    square = text_map(features, states, scale, values.of(MapSettings).blur)
    anomaly_map = resize_map(square, *context.image.shape[:2])
    anomaly_map.setflags(write=False)
    evidence = {
        "map": top_mean(square),
        "clip": image_probability(features, states, logit_scale),
    }
    return Scored(anomaly_map, evidence, (map_stage(anomaly_map, how),))
