"""Meta's own SAM with the weights of a `SamModel`: what the two backends are compared with."""

from __future__ import annotations

import re
from functools import partial

import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    TwoWayTransformer,
)
from segment_anything.modeling import (
    Sam as MetaModel,
)
from transformers import SamConfig, SamModel

# transformers' names → Meta's, in order.
RENAMES = [
    (r"^vision_encoder\.patch_embed\.projection", "image_encoder.patch_embed.proj"),
    (r"^vision_encoder\.layers", "image_encoder.blocks"),
    (r"^vision_encoder\.neck\.conv1", "image_encoder.neck.0"),
    (r"^vision_encoder\.neck\.layer_norm1", "image_encoder.neck.1"),
    (r"^vision_encoder\.neck\.conv2", "image_encoder.neck.2"),
    (r"^vision_encoder\.neck\.layer_norm2", "image_encoder.neck.3"),
    (r"^vision_encoder", "image_encoder"),
    (r"^prompt_encoder\.shared_embedding\.positional_embedding", "PE"),
    (r"^prompt_encoder\.mask_embed\.conv1", "prompt_encoder.mask_downscaling.0"),
    (r"^prompt_encoder\.mask_embed\.layer_norm1", "prompt_encoder.mask_downscaling.1"),
    (r"^prompt_encoder\.mask_embed\.conv2", "prompt_encoder.mask_downscaling.3"),
    (r"^prompt_encoder\.mask_embed\.layer_norm2", "prompt_encoder.mask_downscaling.4"),
    (r"^prompt_encoder\.mask_embed\.conv3", "prompt_encoder.mask_downscaling.6"),
    (r"prompt_encoder\.point_embed\.", "prompt_encoder.point_embeddings."),
    (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"layer_norm_final_attn", "norm_final_attn"),
    (r"(hypernetworks_mlps\.\d+|iou_prediction_head)\.layers\.0", r"\1.HIDDEN"),
    (r"(hypernetworks_mlps\.\d+|iou_prediction_head)\.proj_in", r"\1.layers.0"),
    (r"(hypernetworks_mlps\.\d+|iou_prediction_head)\.proj_out", r"\1.layers.2"),
    (r"HIDDEN", "layers.1"),
    (r"layer_norm(\d)", r"norm\1"),
    (r"^PE$", "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"),
]


def metas_names(model: SamModel) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, value in model.state_dict().items():
        if name.startswith("shared_image_embedding"):
            continue
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def meta_model(config: SamConfig) -> MetaModel:
    """Meta's classes in the configuration of a `SamModel`."""
    vision, prompt, decoder = (
        config.vision_config,
        config.prompt_encoder_config,
        config.mask_decoder_config,
    )
    grid = vision.image_size // vision.patch_size
    return MetaModel(
        image_encoder=ImageEncoderViT(
            depth=vision.num_hidden_layers,
            embed_dim=vision.hidden_size,
            img_size=vision.image_size,
            mlp_ratio=vision.mlp_dim / vision.hidden_size,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            num_heads=vision.num_attention_heads,
            patch_size=vision.patch_size,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=vision.global_attn_indexes,
            window_size=vision.window_size,
            out_chans=vision.output_channels,
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=prompt.hidden_size,
            image_embedding_size=(grid, grid),
            input_image_size=(vision.image_size, vision.image_size),
            mask_in_chans=prompt.mask_input_channels,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2,
                embedding_dim=decoder.hidden_size,
                mlp_dim=decoder.mlp_dim,
                num_heads=decoder.num_attention_heads,
            ),
            transformer_dim=decoder.hidden_size,
            iou_head_depth=3,
            iou_head_hidden_dim=decoder.iou_head_hidden_dim,
        ),
    )
