"""Feature maps of a ResNet with bottlenecks (ResNet-50, -101, Wide ResNet-50-2), from torchvision's names of weights.

torchvision is an extra, and three stages of convolutions are all that saliency needs, so they are built here; a test
compares them with torchvision's. timm's files have the same names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from zsas.backbones.sam import resized
from zsas.cancellation import raise_if_cancelled
from zsas.errors import ZsasError

STAGES = (1, 2, 3)
"""The stages whose maps are given: a quarter, an eighth and a sixteenth of the image's sides."""


class Bottleneck(nn.Module):
    """1 × 1, 3 × 3 (with the stride) and 1 × 1 convolutions beside a shortcut.

    Args:
        read: Channels in.
        inner: Channels of the 3 × 3 convolution.
        written: Channels out.
        stride: Of the 3 × 3 convolution and of the shortcut.
    """

    def __init__(self, read: int, inner: int, written: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(read, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, written, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(written)
        if stride != 1 or read != written:
            self.downsample = nn.Sequential(
                nn.Conv2d(read, written, 1, stride, bias=False), nn.BatchNorm2d(written)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, read, h, w) → (B, written, h / stride, w / stride)."""
        shortcut = self.downsample(x) if hasattr(self, "downsample") else x
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.relu(self.bn3(self.conv3(x)) + shortcut)


class ResNet(nn.Module):
    """The stem and the first three stages, of the shapes that some weights have.

    Args:
        weights: By torchvision's names; what belongs to the fourth stage and the classifier is not needed.

    Raises:
        ZsasError: If they are those of another network, or some are missing.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        kept = {
            name: value
            for name, value in weights.items()
            if not name.startswith(("layer4.", "fc.")) and not name.endswith("num_batches_tracked")
        }
        try:
            self._build({name: tuple(value.shape) for name, value in kept.items()})
            found = self.load_state_dict(kept, strict=False)
        except (LookupError, RuntimeError, ValueError):
            found = None
        own = "num_batches_tracked"
        missing = [n for n in (found.missing_keys if found else ()) if not n.endswith(own)]
        if found is None or missing or found.unexpected_keys:
            raise ZsasError(
                "The weights for the saliency are not those of a ResNet with bottlenecks under torchvision's names; "
                "name a folder or Hub id as timm/wide_resnet50_2.racm_in1k, or one of torchvision's .pth files."
            )

    def _build(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        read = shapes["conv1.weight"][0]
        self.conv1 = nn.Conv2d(3, read, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(read)
        for stage in STAGES:
            blocks: list[nn.Module] = []
            while f"layer{stage}.{len(blocks)}.conv3.weight" in shapes:
                name = f"layer{stage}.{len(blocks)}.conv3.weight"
                written, inner = shapes[name][:2]
                blocks.append(Bottleneck(read, inner, written, 1 if stage == 1 or blocks else 2))
                read = written
            if not blocks:
                raise LookupError(stage)
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalised pixels (B, 3, h, w) → the maps of the three stages."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        found = []
        for stage in STAGES:
            x = getattr(self, f"layer{stage}")(x)
            found.append(x)
        return found


class ResNetFeatures:
    """A frozen ResNet that turns images into maps of features.

    Args:
        model: The network.
        device: Where it runs; always in fp32.
    """

    def __init__(self, model: ResNet, device: torch.device) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.device = device
        for module in model.modules():
            if isinstance(module, Bottleneck):
                module.register_forward_pre_hook(raise_if_cancelled)

    def maps(self, images: Sequence[NDArray[np.uint8]], side: int) -> list[tuple[Tensor, ...]]:
        """Maps of the three stages for each image, squeezed to a square.

        Args:
            images: uint8 RGB (H, W, 3), of any sizes.
            side: Of the square, in pixels; a multiple of 16.

        Returns:
            For each image fp32 (C, side / 4, side / 4), (C, side / 8, …), (C, side / 16, …); none is negative.
        """
        found = []
        for image in images:
            with torch.inference_mode():
                levels = self.model(resized(image, (side, side))[None].to(self.device))
            found.append(tuple(level[0].float() for level in levels))
        return found
