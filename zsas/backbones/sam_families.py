"""The families of SAM in transformers, each as a `SamNetwork`.

transformers' own table for mask generation says which class a config's `model_type` belongs to, so that the
repositories of SAM 2.1 and SAM 3, whose configs say `sam2_video` and `sam3_video`, are read as they are.

| class | image in the square | features of eq. 4 | three masks |
| --- | --- | --- | --- |
| `SamModel` (SAM, SlimSAM) | scaled, padded | the neck's output | of `sam_decoder` |
| `SamHQModel` | scaled, padded | the neck's output | best first, the high-quality mask added to each |
| `Sam2Model`, `EdgeTamModel` | squashed | coarsest level of the pyramid, stride 16 | of transformers |
| `Sam3TrackerModel` | squashed | level of the pyramid of stride 14 | of transformers |
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zsas.backbones.int8 import set_precision
from zsas.backbones.sam import IMAGENET_MEAN, IMAGENET_STD, PromptTensors, SamFeatures, SamInput
from zsas.backbones.sam_decoder import MaskDecoder
from zsas.backbones.sam_encoder import (
    PaddedEncoder,
    attend_by_strips,
    attend_without_waste,
)
from zsas.cancellation import raise_if_cancelled
from zsas.device import Precision, Runtime
from zsas.errors import ZsasError, reason
from zsas.frames import Fit, SamFrame

PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
"""Where a repository says how its images are normalised; newer ones put the first into the second."""


class TransformersSam:
    """transformers' `SamModel` as a `SamNetwork`; the other families change what differs.

    Args:
        model: A loaded model.
        device: Where it runs.
        precision: Number format of its vision encoder.
        normalisation: Mean and standard deviation of RGB pixels in [0, 1]; the family's own if None.
        runtime: What runs the vision encoder.
    """

    fit: ClassVar[Fit] = "pad"
    mean: ClassVar[tuple[float, ...]] = IMAGENET_MEAN
    std: ClassVar[tuple[float, ...]] = IMAGENET_STD
    key_mapping: ClassVar[dict[str, str] | None] = None

    def __init__(
        self,
        model: Any,
        device: torch.device,
        precision: Precision = "auto",
        normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None,
        runtime: Runtime = "torch",
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.dtype = set_precision(self.model.vision_encoder, device, precision, runtime)
        for block in self._blocks():
            block.register_forward_pre_hook(raise_if_cancelled)
        prompts = model.prompt_encoder
        mean, std = normalisation or (self.mean, self.std)
        side = _whole(prompts.input_image_size)
        stride = side // _whole(prompts.image_embedding_size)
        self.input = SamInput(side, stride, self.fit, mean, std)
        self._prepare(device)
        if runtime == "openvino":
            self._compile(precision)
        elif runtime == "compile":
            for block in self._blocks():  # blocks that are alike share what is compiled
                block.forward = torch.compile(block.forward, dynamic=False)

    def _prepare(self, device: torch.device) -> None:
        """What a family does with its loaded model."""
        attend_by_strips(device, self.model.vision_encoder)
        self.encode = PaddedEncoder(self.model.vision_encoder)
        self.decode = MaskDecoder(self.model)

    def _compile(self, precision: Precision) -> None:
        """Let OpenVINO run the encoder."""
        from zsas.backbones.openvino import CompiledPaddedEncoder

        self.encode = CompiledPaddedEncoder(self.model.vision_encoder, precision)

    def _blocks(self) -> list[nn.Module]:
        """The encoder's blocks, between which work may be cancelled."""
        return list(self.model.vision_encoder.layers)

    def encoder(
        self, pixels: Tensor, frames: Sequence[SamFrame], *, padding: bool = True
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `SamNetwork.encoder`."""
        features, _ = self.encode(pixels.to(self.dtype), frames, padding=padding)
        return features, ()

    def decoder(self, features: SamFeatures, prompts: PromptTensors) -> tuple[Tensor, Tensor]:
        """See `SamNetwork.decoder`."""
        sparse, _ = self._embedded(replace(prompts, logits=None))
        return self.decode(features.embedding, sparse[:, 0], prompts.logits, prompts.single)

    def _embedded(self, prompts: PromptTensors) -> tuple[Tensor, Tensor]:
        """Sparse (B, 1, n, C) and dense (B, C, g, g) embeddings of prompts."""
        points, labels, boxes = prompts.points, prompts.labels, prompts.boxes
        return self.model.prompt_encoder(
            input_points=None if points is None else points[:, None],
            input_labels=None if labels is None else labels[:, None],
            input_boxes=None if boxes is None else boxes[:, None],
            input_masks=prompts.logits,
        )

    def _decoder_inputs(self, features: SamFeatures, prompts: PromptTensors) -> dict[str, Any]:
        """What the mask decoders of all families take; each prompt is an image of its own to them."""
        sparse, dense = self._embedded(prompts)
        count = len(prompts)
        positions = self.model.get_image_wide_positional_embeddings()
        return {
            "image_embeddings": features.embedding.expand(count, -1, -1, -1),
            "image_positional_embeddings": positions.expand(count, -1, -1, -1),
            "sparse_prompt_embeddings": sparse,
            "dense_prompt_embeddings": dense,
            "multimask_output": not prompts.single,
        }


class TransformersSamHQ(TransformersSam):
    """transformers' `SamHQModel`: its decoder also reads the tokens of the first block that looks at the whole image.

    Its three masks are SAM's, best first, with the high-quality mask added to the logits of each.
    """

    def encoder(
        self, pixels: Tensor, frames: Sequence[SamFrame], *, padding: bool = True
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `SamNetwork.encoder`."""
        features, first_global = self.encode(pixels.to(self.dtype), frames, padding=padding)
        return features, (first_global,)

    def decoder(self, features: SamFeatures, prompts: PromptTensors) -> tuple[Tensor, Tensor]:
        """See `SamNetwork.decoder`."""
        masks, iou = self.model.mask_decoder(
            **self._decoder_inputs(features, prompts),
            hq_token_only=False,
            intermediate_embeddings=list(features.details),
        )
        return masks[:, 0], iou[:, 0]


class TransformersSam2(TransformersSam):
    """transformers' `Sam2Model` and what shares its decoder: finer levels of a feature pyramid go to the masks."""

    fit: ClassVar[Fit] = "squash"

    def _prepare(self, device: torch.device) -> None:
        # What follows the encoder belongs to the decoder and stays in fp32.
        self.model.vision_encoder.register_forward_hook(_levels_in_fp32)
        attend_without_waste(self.model.vision_encoder)

    def _compile(self, precision: Precision) -> None:
        from zsas.backbones.openvino import compile_pyramid

        compile_pyramid(self.model.vision_encoder, precision)

    def _blocks(self) -> list[nn.Module]:
        backbone = self.model.vision_encoder.backbone
        found = getattr(backbone, "blocks", None) or getattr(backbone, "layers", None)
        return list(found) if found is not None else [backbone, self.model.vision_encoder.neck]

    def encoder(
        self, pixels: Tensor, frames: Sequence[SamFrame], *, padding: bool = True
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `SamNetwork.encoder`; these families squash an image and know no padding."""
        *finer, embedding = self.model.get_image_embeddings(pixels.to(self.dtype))
        return embedding, tuple(finer)

    def decoder(self, features: SamFeatures, prompts: PromptTensors) -> tuple[Tensor, Tensor]:
        """See `SamNetwork.decoder`."""
        count = len(prompts)
        masks, iou, *_ = self.model.mask_decoder(
            **self._decoder_inputs(features, prompts),
            high_resolution_features=[d.expand(count, -1, -1, -1) for d in features.details],
        )
        return masks[:, 0], iou[:, 0]


class TransformersSam3(TransformersSam2):
    """transformers' `Sam3TrackerModel`."""

    mean: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    std: ClassVar[tuple[float, ...]] = (0.5, 0.5, 0.5)
    # In the published file the tracker's weights stand beside the detector's; the library's own rule misses them.
    key_mapping: ClassVar[dict[str, str] | None] = {r"^tracker_model\.(.+)": r"\1"}


FAMILIES: dict[str, type[TransformersSam]] = {
    "SamModel": TransformersSam,
    "SamHQModel": TransformersSamHQ,
    "Sam2Model": TransformersSam2,
    "EdgeTamModel": TransformersSam2,
    "Sam3TrackerModel": TransformersSam3,
}
"""The class of transformerses for mask generation → our networks."""


def sam_class(model_type: str) -> Any:
    """The class of transformers for a config's `model_type`.

    Raises:
        ZsasError: If it is no SAM, or a package is missing.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASK_GENERATION_MAPPING_NAMES

    table = MODEL_FOR_MASK_GENERATION_MAPPING_NAMES
    name = table.get(model_type, "")
    if name not in FAMILIES:
        known = ", ".join(key for key, value in table.items() if value in FAMILIES)
        raise ZsasError(
            f"A model of the type {model_type!r} is no SAM that can be used here; name a folder or Hub id whose "
            f"config.json has one of the types {known}, or one of Meta's .pth files."
        )
    return getattr(transformers, name)


def network_for(
    model: Any,
    device: torch.device,
    precision: Precision = "auto",
    folder: Path | None = None,
    runtime: Runtime = "torch",
) -> TransformersSam:
    """The network of a loaded model.

    Args:
        model: Of one of the classes in `FAMILIES`.
        device: Where it runs.
        precision: Number format of its vision encoder.
        folder: Where it was loaded from: its normalisation is read there.
        runtime: What runs its vision encoder.
    """
    normalisation = read_normalisation(folder) if folder is not None else None
    return FAMILIES[type(model).__name__](model, device, precision, normalisation, runtime)


def read_normalisation(folder: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and standard deviation of pixels in [0, 1] from a model's processor config; None where it has none.

    Raises:
        ZsasError: If the file cannot be read.
    """
    for name in PROCESSOR_FILES:
        file = folder / name
        if not file.is_file():
            continue
        try:
            said = json.loads(file.read_text(encoding="utf-8"))
            said = said.get("image_processor", said)
            if "image_mean" in said and "image_std" in said:
                mean, std = (tuple(map(float, said[key])) for key in ("image_mean", "image_std"))
                if len(mean) == len(std) == 3 and min(std) > 0:
                    return mean, std
                raise ValueError("three numbers each are expected")
        except (OSError, ValueError, TypeError, AttributeError) as wrong:
            raise ZsasError(
                f"The file {file} does not say how images are normalised ({reason(wrong)}); fetch it again."
            ) from None
    return None


def _whole(size: int | tuple[int, ...] | list[int]) -> int:
    """The side of a square that a config gives as one number or two."""
    return size if isinstance(size, int) else size[0]


def _levels_in_fp32(module: nn.Module, inputs: Any, output: Any) -> Any:
    """A forward hook: the pyramid of a bf16 encoder in the decoder's number format."""
    output.fpn_hidden_states = tuple(level.float() for level in output.fpn_hidden_states)
    return output
