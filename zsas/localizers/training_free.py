"""Map_a without any training: V-V attention in CLIP's last blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from zsas.clip import ClipBackbone
from zsas.localizers.base import PatchFeatures

VV_BLOCKS = 6
"""How many of the last blocks carry the V-V stream (our choice, as in CLIP Surgery)."""


class TrainingFreeLocalizer:
    """The V-V stream of the last blocks, projected and compared with the two text vectors."""

    name = "training_free"

    def __init__(self, clip: ClipBackbone) -> None:
        self.clip = clip
        self.scale = clip.logit_scale

    @property
    def resolution(self) -> int:
        """37 × 37 patches for a patch of 14 px; the same 518 px, rounded to patches, for other models."""
        return round(518 / self.clip.patch) * self.clip.patch

    def encode(self, images: Sequence[NDArray[np.uint8]], resolution: int) -> list[PatchFeatures]:
        """Patch features of RGB photos, one layer each; see `zsas.localizers.base.Localizer`."""
        pixels = self.clip.pixels(images, resolution)
        seen = self.clip.look(pixels, vv_blocks=min(VV_BLOCKS, self.clip.depth))
        assert seen.vv is not None
        grid = pixels.shape[-1] // self.clip.patch
        tokens = F.normalize(seen.vv.float(), dim=-1).unflatten(1, (grid, grid)).half()
        return [
            PatchFeatures(tokens[i].clone()[None, None], seen.image[i], pixels.shape[-1])
            for i in range(len(images))
        ]
