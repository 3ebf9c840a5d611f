"""SAM behind one small class: encode an image once, decode as many prompts as wanted.

`Sam` speaks image pixels and NumPy; a `SamNetwork` holds the weights of one family and speaks tensors in the SAM frame:
`sam_families` has those of transformers (SAM, SAM-HQ, SAM 2, SAM 3's tracker, EdgeTAM), `sam_meta` Meta's own package.
The encoder runs in bf16 where the hardware has it, the decoder in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError
from zsas.frames import Fit, SamFrame
from zsas.held import Held
from zsas.lazy import F, torch
from zsas.prompts import Masks, Prompt

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of RGB pixels in [0, 1] that SAM and SAM 2 were trained with."""


@dataclass(frozen=True)
class SamInput:
    """How a network wants an image.

    Attributes:
        side: Side of its square in pixels.
        stride: Pixels of the square per feature cell.
        fit: How an image is put into the square.
        mean: Of RGB pixels in [0, 1], subtracted.
        std: Divided by.
    """

    side: int
    stride: int
    fit: Fit = "pad"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def frame(self, height: int, width: int) -> SamFrame:
        """The geometry of an image of this size."""
        return SamFrame(height, width, self.side, self.stride, self.fit)


@dataclass(frozen=True)
class SamFeatures(Held):
    """What the encoder made of one image.

    Attributes:
        embedding: F of eq. 4: the features that the mask decoder reads, fp32 (1, C, g, g), on the model's device.
        frame: The image's geometry.
        details: What else a family's decoder reads of the image: finer levels (SAM 2, SAM 3, EdgeTAM), tokens of an
            early block (SAM-HQ); fp32, first axis 1.
    """

    embedding: Tensor
    frame: SamFrame
    details: tuple[Tensor, ...] = ()

    @property
    def valid(self) -> NDArray[np.float32]:
        """The cells that show image rather than padding, float32 (C, *frame.grid_hw)."""
        rows, columns = self.frame.grid_hw
        return self.embedding[0, :, :rows, :columns].float().cpu().numpy()


@dataclass(frozen=True)
class PromptTensors:
    """B prompts of one shape in the SAM frame.

    Attributes:
        points: fp32 (B, n, 2), or None.
        labels: int64 (B, n), or None.
        boxes: Corners as pixel centres, fp32 (B, 4), or None.
        logits: fp32 (B, 1, 4 g, 4 g), or None.
        single: Whether one mask a prompt is wanted.
    """

    points: Tensor | None
    labels: Tensor | None
    boxes: Tensor | None
    logits: Tensor | None
    single: bool = False

    def __len__(self) -> int:
        return len(self.boxes if self.points is None else self.points)  # type: ignore[arg-type]


class SamNetwork(Protocol):
    """The parts of a SAM implementation; tensors in the SAM frame."""

    model: Any
    dtype: torch.dtype
    input: SamInput

    def encoder(
        self, pixels: Tensor, frames: Sequence[SamFrame], *, padding: bool = True
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """(B, 3, side, side) → features (B, C, g, g) for eq. 4 and the decoder, and what else the decoder reads.

        Without `padding` a network that can leaves out the cells that show no image, which changes the features.
        """
        ...

    def decoder(self, features: SamFeatures, prompts: PromptTensors) -> tuple[Tensor, Tensor]:
        """B prompts on one image → logits (B, 3, 4 g, 4 g) and predicted IoU (B, 3); 1 for 3 if single."""
        ...


class Sam:
    """Finds the edge: features once, masks often.

    Args:
        network: The network of one family.
        device: Where it runs.
        drop_padding: Whether cells that show no image are left out where the network can; see `SamNetwork.encoder`.
    """

    def __init__(
        self, network: SamNetwork, device: torch.device, *, drop_padding: bool = False
    ) -> None:
        self.network = network
        self.device = device
        self.drop_padding = drop_padding

    @property
    def side(self) -> int:
        """Side of its square in pixels: larger images are made smaller."""
        return self.network.input.side

    def pixels(self, image: NDArray[np.uint8]) -> tuple[Tensor, SamFrame]:
        """An image, uint8 RGB (H, W, 3), in the network's square: fp32 (3, side, side) and its geometry."""
        wanted = self.network.input
        frame = wanted.frame(*image.shape[:2])
        rows, columns = frame.resized_hw
        # Padding comes after the normalisation: padded pixels are 0, not black.
        padded = torch.zeros((3, frame.side, frame.side))
        padded[:, :rows, :columns] = resized(image, (rows, columns), wanted.mean, wanted.std)
        return padded.to(self.device), frame

    def encode(self, images: Sequence[NDArray[np.uint8]]) -> list[SamFeatures]:
        """F = Enc_I(img), eq. 4, for RGB images, uint8 (H, W, 3), of any sizes."""
        pairs = [self.pixels(image) for image in images]
        with torch.inference_mode():
            batch = torch.stack([pixels for pixels, _ in pairs])
            frames = [frame for _, frame in pairs]
            embeddings, details = self.network.encoder(batch, frames, padding=not self.drop_padding)
            return [
                SamFeatures(
                    _channels_last(embeddings[i : i + 1]),
                    frame,
                    tuple(detail[i : i + 1].float() for detail in details),
                )
                for i, (_, frame) in enumerate(pairs)
            ]

    def decode(self, features: SamFeatures, prompts: Sequence[Prompt]) -> list[Masks]:
        """Dec of eqs 9, 10 and 12 for several prompts on one image.

        On a GPU prompts of one shape are decoded in one call. On a CPU each has a call of its own: an answer does not
        depend on its company to the last bit.

        Raises:
            ZsasError: If a prompt has neither points nor a box.
        """

        def decoded(group: Sequence[int]) -> list[Masks]:
            with torch.inference_mode():
                tensors = self._tensors(features.frame, [prompts[i] for i in group])
                logits, iou = self.network.decoder(features, tensors)
                both = zip(logits.float().cpu().numpy(), iou.float().cpu().numpy(), strict=True)
                return [Masks(*one) for one in both]

        groups = self._groups(prompts)
        answers = {i: one for group in groups for i, one in zip(group, decoded(group), strict=True)}
        return [answers[i] for i in range(len(prompts))]

    def _groups(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Indices of prompts that go into one call."""
        groups: dict[Any, list[int]] = {}
        for i, prompt in enumerate(prompts):
            if not len(prompt.points) and prompt.box is None:
                raise ZsasError("A prompt for SAM needs at least one point or a box.")
            shape = (len(prompt.points), prompt.box is None, prompt.logits is None, prompt.single)
            groups.setdefault(i if self.device.type == "cpu" else shape, []).append(i)
        return list(groups.values())

    def _tensors(self, frame: SamFrame, prompts: Sequence[Prompt]) -> PromptTensors:
        """Prompts of one shape as tensors in the SAM frame."""

        def stacked(arrays: list[NDArray[Any]]) -> Tensor:
            return torch.from_numpy(np.stack(arrays)).to(self.device)

        first = prompts[0]
        points = labels = boxes = logits = None
        if len(first.points):
            points = stacked([frame.points_to_frame(p.points) for p in prompts])
            labels = stacked([p.labels for p in prompts])
        if first.box is not None:
            corners = [p.box.reshape(2, 2) for p in prompts if p.box is not None]
            # SAM's corners are pixel centres: the exclusive ones move one pixel inwards.
            inclusive = [xy - np.array([[0, 0], [1, 1]], np.float32) for xy in corners]
            boxes = stacked([frame.points_to_frame(xy).reshape(4) for xy in inclusive])
        if first.logits is not None:
            logits = stacked([p.logits[None] for p in prompts if p.logits is not None])
        return PromptTensors(points, labels, boxes, logits, first.single)


def resized(
    image: NDArray[np.uint8],
    size_hw: tuple[int, int],
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
) -> Tensor:
    """An image, uint8 RGB (H, W, 3), at another size and normalised, fp32 (3, h, w) on the CPU.

    Resized with antialiasing on whole levels of grey, as transformers' processors and Meta's predictor do.
    """
    channels = torch.from_numpy(np.array(image, order="C")).permute(2, 0, 1)[None]
    small = F.interpolate(channels, size_hw, mode="bilinear", antialias=True)[0]
    middle, spread = (torch.tensor(values).view(3, 1, 1) * 255 for values in (mean, std))
    return (small - middle) / spread


def _channels_last(maps: Tensor) -> Tensor:
    """A copy of maps (B, C, h, w) in fp32, a cell's channels side by side in memory, as decoders read them."""
    return maps.float().clone(memory_format=torch.channels_last)
