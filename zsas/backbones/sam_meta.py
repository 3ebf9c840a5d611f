"""Meta's own SAM, for people who hold the original checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zsas.backbones.int8 import set_precision
from zsas.backbones.sam import PromptTensors, SamFeatures, SamInput
from zsas.cancellation import raise_if_cancelled
from zsas.device import Precision
from zsas.errors import ZsasError
from zsas.extras import require
from zsas.frames import SamFrame


class MetaSam:
    """Meta's `segment_anything.modeling.Sam` as a `SamNetwork`."""

    def __init__(self, model: Any, device: torch.device, precision: Precision = "auto") -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.dtype = set_precision(self.model.image_encoder, device, precision)
        for block in self.model.image_encoder.blocks:
            block.register_forward_pre_hook(raise_if_cancelled)
        side: int = model.image_encoder.img_size
        self.input = SamInput(side, side // model.prompt_encoder.image_embedding_size[0])

    def encoder(
        self, pixels: Tensor, frames: Sequence[SamFrame], *, padding: bool = True
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """See `SamNetwork.encoder`; padding always counts here."""
        return self.model.image_encoder(pixels.to(self.dtype)), ()

    def decoder(self, features: SamFeatures, prompts: PromptTensors) -> tuple[Tensor, Tensor]:
        """See `SamNetwork.decoder`; Meta's decoder repeats the embedding itself."""
        pointed = prompts.points is not None
        sparse, dense = self.model.prompt_encoder(
            points=(prompts.points, prompts.labels) if pointed else None,
            boxes=prompts.boxes,
            masks=prompts.logits,
        )
        return self.model.mask_decoder(
            image_embeddings=features.embedding,
            image_pe=self.model.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=not prompts.single,
        )


_META_TYPES = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


def load_meta_checkpoint(path: Path) -> Any:
    """Build Meta's model for an original checkpoint such as `sam_vit_h_4b8939.pth`.

    The size is read off the weights, and nothing but tensors is unpickled.

    Raises:
        ZsasError: If the file is no SAM checkpoint.
    """
    require("meta")
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
