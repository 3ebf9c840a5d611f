"""SAM behind one small class: encode a photo once, decode as many prompts as wanted.

Two backends hold the same network: transformers' `SamModel`, and Meta's own `segment-anything` package for people
who hold the original checkpoints. The encoder runs in bf16 where the hardware has it, the decoder in fp32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from zsas.backbones.sam_decoder import MaskDecoder
from zsas.cancellation import raise_if_cancelled
from zsas.device import Precision, encoder_dtype
from zsas.errors import ZsasError
from zsas.frames import SamFrame
from zsas.prompts import Masks, Prompt

PIXEL_MEAN = (123.675, 116.28, 103.53)
"""Mean of SAM's training pixels, RGB in [0, 255]."""
PIXEL_STD = (58.395, 57.12, 57.375)
"""Standard deviation of SAM's training pixels, RGB in [0, 255]."""


@dataclass(frozen=True)
class SamFeatures:
    """F of eq. 4 for one photo.

    Attributes:
        embedding: Features of the padded square, fp32 (1, C, g, g), on the model's device.
        frame: The photo's geometry.
    """

    embedding: Tensor
    frame: SamFrame

    @property
    def valid(self) -> NDArray[np.float32]:
        """The cells that show photo rather than padding, float32 (C, *frame.grid_hw)."""
        rows, columns = self.frame.grid_hw
        return self.embedding[0, :, :rows, :columns].float().cpu().numpy()

    def to(self, device: torch.device | str) -> SamFeatures:
        """These features on another device; themselves where they are there already."""
        if self.embedding.device == torch.device(device):
            return self
        return SamFeatures(self.embedding.to(device), self.frame)

    @property
    def nbytes(self) -> int:
        """Memory of the features in bytes."""
        return self.embedding.nbytes


class SamNetwork(Protocol):
    """The parts of a SAM implementation; tensors in the SAM frame."""

    side: int
    stride: int

    def encoder(self, pixels: Tensor) -> Tensor:
        """(B, 3, side, side) → (B, C, g, g)."""
        ...

    def decoder(
        self,
        embedding: Tensor,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        logits: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Prompts of shape (B, n, 2), (B, n), (B, 4), (B, 1, 4 g, 4 g) → logits (B, 3, 4 g, 4 g) and IoU (B, 3)."""
        ...


class Sam:
    """Finds the edge: features once, masks often.

    Args:
        network: One of the two backends.
        device: Where it runs.
    """

    def __init__(self, network: SamNetwork, device: torch.device) -> None:
        self.network = network
        self.device = device

    def pixels(self, image: NDArray[np.uint8]) -> tuple[Tensor, SamFrame]:
        """A photo, uint8 RGB (H, W, 3), as the padded square: fp32 (3, side, side) and its geometry."""
        frame = SamFrame(image.shape[0], image.shape[1], self.network.side, self.network.stride)
        rows, columns = frame.resized_hw
        resized = np.asarray(
            Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR), np.float32
        )
        padded = np.zeros((frame.side, frame.side, 3), np.float32)
        # Padding comes after the normalisation: padded pixels are 0, not black.
        padded[:rows, :columns] = (resized - np.array(PIXEL_MEAN, np.float32)) / np.array(
            PIXEL_STD, np.float32
        )
        return torch.from_numpy(padded).permute(2, 0, 1).to(self.device), frame

    @torch.inference_mode()
    def encode(self, images: Sequence[NDArray[np.uint8]]) -> list[SamFeatures]:
        """F = Enc_I(img), eq. 4, for RGB photos, uint8 (H, W, 3), of any sizes."""
        pairs = [self.pixels(image) for image in images]
        embeddings = self.network.encoder(torch.stack([pixels for pixels, _ in pairs])).float()
        return [
            SamFeatures(_cell_by_cell(embeddings[i : i + 1]), frame)
            for i, (_, frame) in enumerate(pairs)
        ]

    @torch.inference_mode()
    def decode(self, features: SamFeatures, prompts: Sequence[Prompt]) -> list[Masks]:
        """Dec of eqs 9, 10 and 12 for several prompts on one photo.

        On a GPU prompts of one shape are decoded in one call. On a CPU each has a call of its own: at full size several
        in one call take as long, and an answer does not depend on its company to the last bit.

        Raises:
            ZsasError: If a prompt has neither points nor a box.
        """
        answers: list[Masks | None] = [None] * len(prompts)
        for group in self._groups(prompts):
            logits, iou = self.network.decoder(
                features.embedding.expand(len(group), -1, -1, -1),
                *self._tensors(features.frame, [prompts[i] for i in group]),
            )
            for row, i in enumerate(group):
                answers[i] = Masks(
                    logits[row].float().cpu().numpy(), iou[row].float().cpu().numpy()
                )
        return [answer for answer in answers if answer is not None]

    def _groups(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Indices of prompts that go into one call."""
        groups: dict[Any, list[int]] = {}
        for i, prompt in enumerate(prompts):
            if not len(prompt.points) and prompt.box is None:
                raise ZsasError("A prompt for SAM needs at least one point or a box.")
            shape = (len(prompt.points), prompt.box is None, prompt.logits is None)
            groups.setdefault(i if self.device.type == "cpu" else shape, []).append(i)
        return list(groups.values())

    def _tensors(
        self, frame: SamFrame, prompts: Sequence[Prompt]
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
        """Prompts of one shape as tensors in the SAM frame."""

        def stacked(arrays: list[NDArray[Any]]) -> Tensor:
            return torch.from_numpy(np.stack(arrays)).to(self.device)

        first = prompts[0]
        points = labels = boxes = logits = None
        if len(first.points):
            points = stacked([frame.points_to_frame(p.points) for p in prompts])
            labels = stacked([p.labels for p in prompts])
        if first.box is not None:
            boxes = stacked(
                [
                    # SAM wants the centres of the outermost pixels.
                    frame.points_to_frame(
                        p.box.reshape(2, 2) - np.array([[0, 0], [1, 1]], np.float32)
                    ).reshape(4)
                    for p in prompts
                    if p.box is not None
                ]
            )
        if first.logits is not None:
            logits = stacked([p.logits[None] for p in prompts if p.logits is not None])
        return points, labels, boxes, logits


def _cell_by_cell(maps: Tensor) -> Tensor:
    """A copy of maps (B, C, h, w) with the channels of a cell side by side in memory, as decoders read them."""
    return maps.clone(memory_format=torch.channels_last)


class TransformersSam:
    """transformers' `SamModel` as a `SamNetwork`."""

    def __init__(self, model: Any, device: torch.device, precision: Precision = "auto") -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.dtype = encoder_dtype(device, precision)
        self.model.vision_encoder.to(self.dtype)
        for layer in self.model.vision_encoder.layers:
            layer.register_forward_pre_hook(raise_if_cancelled)
        vision = model.config.vision_config
        self.side: int = vision.image_size
        self.stride: int = vision.patch_size
        self.decode = MaskDecoder(model)

    def encoder(self, pixels: Tensor) -> Tensor:
        """See `SamNetwork.encoder`."""
        return self.model.vision_encoder(pixels.to(self.dtype)).last_hidden_state

    def decoder(
        self,
        embedding: Tensor,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        logits: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """See `SamNetwork.decoder`."""
        sparse, dense = self.model.prompt_encoder(
            input_points=None if points is None else points[:, None],
            input_labels=None if labels is None else labels[:, None],
            input_boxes=None if boxes is None else boxes[:, None],
            input_masks=logits,
        )
        return self.decode(embedding, sparse[:, 0], dense)


class MetaSam:
    """Meta's `segment_anything.modeling.Sam` as a `SamNetwork`."""

    def __init__(self, model: Any, device: torch.device, precision: Precision = "auto") -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.dtype = encoder_dtype(device, precision)
        self.model.image_encoder.to(self.dtype)
        for block in self.model.image_encoder.blocks:
            block.register_forward_pre_hook(raise_if_cancelled)
        self.side: int = model.image_encoder.img_size
        self.stride: int = self.side // model.prompt_encoder.image_embedding_size[0]

    def encoder(self, pixels: Tensor) -> Tensor:
        """See `SamNetwork.encoder`."""
        return self.model.image_encoder(pixels.to(self.dtype))

    def decoder(
        self,
        embedding: Tensor,
        points: Tensor | None,
        labels: Tensor | None,
        boxes: Tensor | None,
        logits: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """See `SamNetwork.decoder`; Meta's decoder repeats one photo's embedding itself."""
        sparse, dense = self.model.prompt_encoder(
            points=None if points is None or labels is None else (points, labels),
            boxes=boxes,
            masks=logits,
        )
        return self.model.mask_decoder(
            image_embeddings=embedding[:1],
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
        )


_META_TYPES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


def load_meta_checkpoint(path: Path) -> Any:
    """Build Meta's model for an original checkpoint such as `sam_vit_h_4b8939.pth`.

    The size is read off the weights, and nothing but tensors is unpickled.

    Raises:
        ZsasError: If the file is no SAM checkpoint.
    """
    from segment_anything import sam_model_registry

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
        width = weights["image_encoder.patch_embed.proj.weight"].shape[0]
        model = sam_model_registry[_META_TYPES[width]](checkpoint=None)
        model.load_state_dict(weights)
    except Exception:  # torch raises half a dozen kinds for damaged, unsafe or foreign files
        raise ZsasError(
            f"{path.name} cannot be read as a SAM checkpoint; expected one of Meta's files sam_vit_h, sam_vit_l "
            "or sam_vit_b with nothing but tensors in it."
        ) from None
    return model
