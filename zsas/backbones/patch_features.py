"""Features of a vision backbone without text, DINOv2's or a ResNet's: what eq. 4 may take in the place of SAM's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from zsas.backbones.sam import resized
from zsas.cancellation import raise_if_cancelled
from zsas.frames import SamFrame
from zsas.held import Held
from zsas.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.device import Precision

Kind = Literal["dinov2", "resnet"]

RESNET_SIDE, RESNET_STAGE = 512, 3
"""Side of the square that a ResNet looks at, in pixels, and the stage that is read, 16 px a cell; our choice."""


@dataclass(frozen=True)
class PatchGrid(Held):
    """Features of one image on the backbone's own grid.

    Attributes:
        valid: F of eq. 4, float32 (C, *frame.grid_hw).
        frame: The image's geometry in the backbone's square, to which both sides are squashed.
    """

    valid: NDArray[np.float32]
    frame: SamFrame


class PatchBackbone:
    """DINOv2 or a ResNet of transformers, frozen.

    Args:
        model: A loaded `Dinov2Model` or `ResNetModel`.
        name: Hub id or folder.
        device: Where it runs.
        precision: Number format.
    """

    def __init__(
        self, model: Any, *, name: str, device: torch.device, precision: Precision = "auto"
    ) -> None:
        from zsas.backbones.int8 import set_precision

        self.name = name
        self.kind: Kind = model.config.model_type
        self.device = device
        self.model = model.eval().requires_grad_(False).to(device)
        self.dtype = set_precision(self.model, device, precision)
        self.model.register_forward_pre_hook(raise_if_cancelled)

    @property
    def side(self) -> int:
        """Side of its square in pixels: what DINOv2 was trained on, 512 for a ResNet."""
        if self.kind == "resnet":
            return RESNET_SIDE
        config = self.model.config
        return max(1, int(config.image_size) // config.patch_size) * int(config.patch_size)

    def pixels(self, images: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Images, uint8 RGB (H, W, 3), of any sizes, squashed to the square and normalised, (B, 3, side, side)."""
        squares = [resized(image, (self.side, self.side)) for image in images]
        return torch.stack(squares).to(self.device, self.dtype)

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> list[PatchGrid]:
        """Features of some images: DINOv2's patches after its last norm, a ResNet's third stage."""
        with torch.inference_mode():
            found = self._features(self.pixels(images)).float().cpu().numpy()
        stride = self.side // found.shape[-1]
        return [
            PatchGrid(one, SamFrame(image.shape[0], image.shape[1], self.side, stride, "squash"))
            for one, image in zip(found, images, strict=True)
        ]

    def _features(self, pixels: Tensor) -> Tensor:
        """(B, 3, side, side) → (B, C, g, g)."""
        if self.kind == "resnet":
            maps = self.model(pixels, output_hidden_states=True).hidden_states
            found: Tensor = maps[min(RESNET_STAGE, len(maps) - 1)]
            return found
        tokens = self.model(pixels).last_hidden_state[:, 1:]
        grid = self.side // int(self.model.config.patch_size)
        return tokens.transpose(1, 2).unflatten(2, (grid, grid))  # type: ignore[no-any-return]
