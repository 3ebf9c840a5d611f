"""A small model with random weights of each family of SAM, and transformers' own way to ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    EdgeTamConfig,
    EdgeTamModel,
    Sam2Config,
    Sam2Model,
    Sam2VideoConfig,
    Sam2VideoModel,
    Sam3Config,
    Sam3TrackerConfig,
    Sam3TrackerModel,
    Sam3TrackerVideoConfig,
    Sam3VideoConfig,
    Sam3VideoModel,
    SamHQConfig,
    SamHQModel,
    TimmWrapperConfig,
)
from transformers.models.sam.image_processing_sam import SamImageProcessor
from transformers.models.sam2.image_processing_sam2 import Sam2ImageProcessor
from transformers.models.sam3.image_processing_sam3 import Sam3ImageProcessor

from tests.helpers.models import small_sam, with_lively_weights

DECODER = {"hidden_size": 32, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 32}


def _prompts(side: int, stride: int) -> dict[str, int]:
    return {"hidden_size": 32, "image_size": side, "patch_size": stride, "mask_input_channels": 8}


def _hq() -> SamHQModel:
    vision = small_sam().config.vision_config.to_dict()
    return SamHQModel(
        SamHQConfig(
            vision_config={k: v for k, v in vision.items() if k != "model_type"},
            prompt_encoder_config=_prompts(256, 16),
            mask_decoder_config={**DECODER, "vit_dim": 32},
        )
    )


def _hiera() -> dict[str, Any]:
    return {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "num_attention_heads": 1,
        "image_size": [256, 256],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 14, 7],
        "global_attention_blocks": [3],
    }


def sam2_config() -> Sam2Config:
    return Sam2Config(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": _hiera(),
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[64, 64], [32, 32], [16, 16]],
            "fpn_hidden_size": 32,
        },
        prompt_encoder_config=_prompts(256, 16),
        mask_decoder_config=DECODER,
    )


def sam3_config() -> Sam3TrackerConfig:
    return Sam3TrackerConfig(
        vision_config={
            "model_type": "sam3_vision_model",
            "backbone_config": {
                "model_type": "sam3_vit_model",
                "hidden_size": 32,
                "intermediate_size": 64,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 252,
                "patch_size": 14,
                "window_size": 6,
                "global_attn_indexes": [1],
                "pretrain_image_size": 84,
            },
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[72, 72], [36, 36], [18, 18]],
        },
        prompt_encoder_config=_prompts(252, 14),
        mask_decoder_config=DECODER,
    )


def _edgetam() -> EdgeTamModel:
    backbone = TimmWrapperConfig(
        architecture="repvit_m1",
        model_args={"in_chans": 3, "features_only": True, "out_indices": [0, 1, 2, 3]},
    )
    return EdgeTamModel(
        EdgeTamConfig(
            vision_config={
                "model_type": "edgetam_vision_model",
                "backbone_config": backbone.to_dict(),
                "backbone_feature_sizes": [[64, 64], [32, 32], [16, 16]],
                "fpn_hidden_size": 32,
            },
            prompt_encoder_config=_prompts(256, 16),
            mask_decoder_config=DECODER,
        )
    )


BUILDERS = {
    "sam": small_sam,
    "sam_hq": _hq,
    "sam2": lambda: Sam2Model(sam2_config()),
    "edgetam": _edgetam,
    "sam3_tracker": lambda: Sam3TrackerModel(sam3_config()),
}
"""Family → a small model of it, by the config's `model_type`."""


def small_model(family: str) -> Any:
    """A model of a family with random weights that matter, in evaluation mode."""
    torch.manual_seed(0)
    return with_lively_weights(BUILDERS[family]().eval())


def as_published(family: str, folder: Path) -> Any:
    """Save a small model as its makers' repository lays it out; returns the model."""
    model = small_model(family)
    if family == "sam2":
        video: Any = Sam2VideoModel(Sam2VideoConfig(**_parts(model), **_memory(16)))
        video.load_state_dict(model.state_dict(), strict=False)
    elif family == "sam3_tracker":
        video = _sam3_video(model)
    else:
        video = model
    video.save_pretrained(folder)
    return model


def _parts(model: Any) -> dict[str, Any]:
    names = ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    return {name: getattr(model.config, name).to_dict() for name in names}


def _memory(grid: int) -> dict[str, Any]:
    """The parts of a video model that remember earlier frames, as small as they get."""
    return {
        "memory_attention_hidden_size": 32,
        "memory_encoder_hidden_size": 32,
        "memory_encoder_output_channels": 16,
        "mask_downsampler_embed_dim": 32,
        "memory_fuser_embed_dim": 32,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_attention_rope_feat_sizes": [grid, grid],
        "memory_fuser_intermediate_dim": 32,
    }


def _sam3_video(model: Any) -> Any:
    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32, "num_layers": 1}
    text = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 32}
    detector = Sam3Config(
        vision_config=_parts(model)["vision_config"],
        text_config={**text, "num_hidden_layers": 1, "vocab_size": 64, "projection_dim": 32},
        geometry_encoder_config={**small, "roi_size": 3},
        detr_encoder_config=small,
        detr_decoder_config={**small, "num_queries": 4},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    tracker = Sam3TrackerVideoConfig(**_parts(model), **_memory(18))
    config = Sam3VideoConfig(tracker_config=tracker.to_dict(), detector_config=detector.to_dict())
    video = Sam3VideoModel(config)
    weights = {}
    for name, value in model.state_dict().items():
        if name.startswith("vision_encoder.backbone."):
            weights["detector_model." + name] = value
        elif name.startswith("vision_encoder.neck."):
            weights[name.replace("vision_encoder.neck.", "tracker_neck.")] = value
        else:
            weights["tracker_model." + name] = value
    video.load_state_dict(weights, strict=False)
    return video


def processor(family: str) -> Any:
    """transformers' own image processor at the small model's size."""
    if family in ("sam", "sam_hq"):
        return SamImageProcessor(size={"longest_edge": 256}, pad_size={"height": 256, "width": 256})
    if family == "sam3_tracker":
        return Sam3ImageProcessor(size={"height": 252, "width": 252})
    return Sam2ImageProcessor(size={"height": 256, "width": 256})


def theirs(
    model: Any,
    family: str,
    image: NDArray[np.uint8],
    points: NDArray[np.float32] | None,
    labels: NDArray[np.int64] | None,
    box: NDArray[np.float32] | None = None,
    logits: NDArray[np.float32] | None = None,
    single: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """transformers' own processor and model: logits (3, 4 g, 4 g) and IoU (3,).

    Args:
        model: The model.
        family: As in `BUILDERS`.
        image: uint8 (H, W, 3).
        points: In image pixels, (n, 2).
        labels: (n,).
        box: Corners as pixel centres, (4,).
        logits: (4 g, 4 g).
        single: One mask for three.
    """
    from transformers import Sam2Processor, Sam3TrackerProcessor, SamHQProcessor, SamProcessor

    kinds = {
        "sam": SamProcessor,
        "sam_hq": SamHQProcessor,
        "sam3_tracker": Sam3TrackerProcessor,
    }
    process = kinds.get(family, Sam2Processor)(processor(family))
    prompts: dict[str, Any] = {}
    if points is not None and labels is not None:
        prompts |= {"input_points": [[points.tolist()]], "input_labels": [[labels.tolist()]]}
    if box is not None:
        prompts["input_boxes"] = [[box.tolist()]]
    inputs = process(images=image, return_tensors="pt", **prompts)
    tensors = {
        name: value.float() if value.dtype == torch.float64 else value
        for name, value in inputs.items()
        if name in ("pixel_values", "input_points", "input_labels", "input_boxes")
    }
    if logits is not None:
        tensors["input_masks"] = torch.from_numpy(logits)[None, None]
    with torch.inference_mode():
        out = model(**tensors, multimask_output=not single)
    return out.pred_masks[0, 0].numpy(), out.iou_scores[0, 0].numpy()
