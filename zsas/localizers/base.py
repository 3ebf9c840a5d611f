"""What every localizer is: images in, patch features out; features and two text vectors in, Map_a out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class PatchFeatures:
    """One photo as a localizer sees it, before any words: what an encoding keeps.

    Attributes:
        layers: L2-normalised patch features in the space of the text vectors, by looks at the photo and layers,
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


class Localizer(Protocol):
    """Finds the place: image → Map_a."""

    @property
    def name(self) -> str:
        """`linear` or `training_free`, as in `Settings.localizer`."""
        ...

    @property
    def scale(self) -> float:
        """Factor on the cosines before the softmax."""
        ...

    @property
    def resolution(self) -> int:
        """Side of the CLIP frame this localizer was made for."""
        ...

    def encode(self, images: Sequence[NDArray[np.uint8]], resolution: int) -> list[PatchFeatures]:
        """Patch features of RGB photos, uint8 (H, W, 3); the only costly step."""
        ...


@torch.inference_mode()
def anomaly_map(
    features: PatchFeatures, states: Tensor, scale: float, blur: float = 0.0
) -> NDArray[np.float32]:
    """Map_a in the CLIP frame.

    Per layer: scale × cosine with the two text vectors, bilinear to the frame on the logits, softmax over
    {sound, defective}, the defective channel; then the mean over the layers. Where there are several looks, a layer's
    logits are those of their mean probability, patch by patch.

    Args:
        features: Of one photo.
        states: The two text vectors, sound and defective, (2, D).
        scale: Factor on the cosines.
        blur: Standard deviation of a Gaussian blur, in pixels of a 518 px square; 0 for none.

    Returns:
        float32 (R, R) in [0, 1].
    """
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
    """CLIP's own zero-shot answer for the whole photo: the defective share of a softmax, in [0, 1]."""
    difference = logit_scale * (states[1] - states[0]).to(features.image.device) @ features.image
    return float(difference.sigmoid())
