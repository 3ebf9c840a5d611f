"""The small SAM before its first step: its sizes, and initial values that let it learn.

The model is transformers' own ``SamModel``, only smaller. Three things keep SAM from learning when
it is started from transformers' initial values instead of Meta's weights, and all are mended here
(:func:`build`): the Fourier position embedding has sigma = hidden_size / 2 where Meta's has 1, the
encoder's matrices start at 1e-10, and the embeddings that tell a positive from a negative point
start 35 times smaller than the position they are added to.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    SamConfig,
    SamMaskDecoderConfig,
    SamModel,
    SamPromptEncoderConfig,
    SamVisionConfig,
)

from tiny.training.sam.recipe import PATCH, Recipe


def config_of(recipe: Recipe) -> SamConfig:
    """The transformers configuration of a recipe's model."""
    return SamConfig(
        vision_config=SamVisionConfig(
            hidden_size=recipe.width,
            mlp_dim=4 * recipe.width,
            output_channels=recipe.hidden,
            num_hidden_layers=recipe.depth,
            num_attention_heads=recipe.heads,
            image_size=recipe.frame,
            patch_size=PATCH,
            use_rel_pos=False,
            window_size=recipe.windows,
            global_attn_indexes=list(recipe.global_blocks),
            num_pos_feats=recipe.hidden // 2,
        ),
        prompt_encoder_config=SamPromptEncoderConfig(
            hidden_size=recipe.hidden, image_size=recipe.frame, patch_size=PATCH
        ),
        mask_decoder_config=SamMaskDecoderConfig(
            hidden_size=recipe.hidden,
            mlp_dim=4 * recipe.hidden,
            num_attention_heads=4,
            iou_head_hidden_dim=recipe.hidden,
        ),
    )


def build(recipe: Recipe, seed: int = 0) -> SamModel:
    """A small SAM that can learn: sensible initial values and a frozen Fourier embedding, sigma 1.

    Args:
        recipe: Sizes of the model.
        seed: Seed of the initial values.
    """
    torch.manual_seed(seed)
    config = config_of(recipe)
    config._attn_implementation = "eager"
    sam = SamModel(config)
    for module in sam.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    encoder = sam.vision_encoder
    for layer in encoder.layers:
        for linear in (layer.attn.qkv, layer.attn.proj, layer.mlp.lin1, layer.mlp.lin2):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)
    nn.init.trunc_normal_(encoder.pos_embed, std=0.1)
    fix_positions(sam, torch.randn(2, recipe.hidden // 2))
    listen_to_positions(sam)
    return sam


def fix_positions(sam: SamModel, gaussian: Tensor) -> None:
    """Put the same Fourier matrix in both places that hold it, and freeze both.

    Args:
        sam: The model.
        gaussian: float (2, hidden / 2), standard normal (sigma = 1).
    """
    for holder in (sam.shared_image_embedding, sam.prompt_encoder.shared_embedding):
        holder.positional_embedding.data.copy_(gaussian)
        holder.positional_embedding.requires_grad_(False)


def listen_to_positions(sam: SamModel, sharpness: float = 2.2) -> None:
    """Let the attention between prompts and image start by comparing positions.

    Queries and keys begin as the same sines and cosines of the Fourier embedding, eight
    frequencies a head, so that a point first looks at the cell it lies on and a cell at the points
    near it. From random projections this alone takes most of a short training to appear, and
    until it does the decoder is blind to its prompts.

    Args:
        sam: The model, changed in place.
        sharpness: Factor of the sines and cosines in queries and in keys.
    """
    gaussian = sam.shared_image_embedding.positional_embedding
    finest = gaussian.norm(dim=0).argsort(descending=True)
    transformer = sam.mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
        for norm in (layer.layer_norm1, layer.layer_norm2, layer.layer_norm3, layer.layer_norm4):
            nn.init.constant_(norm.weight, 0.5)
    nn.init.constant_(sam.vision_encoder.neck.layer_norm2.weight, 0.5)
    # What a point is (positive, negative, corner, none) must not drown where it is.
    for embedding in (*sam.prompt_encoder.point_embed, sam.prompt_encoder.not_a_point_embed):
        nn.init.normal_(embedding.weight, std=0.25)
    with torch.no_grad():
        for attention in attentions:
            size = attention.internal_dim
            waves = finest[: size // 2].reshape(-1, attention.num_attention_heads).T
            rows = torch.cat([waves, waves + len(finest)], 1).flatten()
            chosen = F.one_hot(rows, 2 * len(finest)).float()
            for linear in (attention.q_proj, attention.k_proj):
                linear.weight.mul_(0.3).add_(sharpness * chosen)
                linear.bias.zero_()


def start_patches(sam: SamModel, pixels: Tensor) -> None:
    """Let the patch embedding start as a cosine transform with outputs of unit variance.

    The mean brightness of a patch varies a hundred times more than its fine detail; without this
    the first layer norm hides scratches behind it, and most of a short training goes by until the
    patch embedding has found it out.

    Args:
        sam: The model, changed in place.
        pixels: float (B, 3, H, W), normalised images to measure the variances on.
    """
    projection = sam.vision_encoder.patch_embed.projection
    count = projection.out_channels
    n = np.arange(PATCH)
    waves = np.cos(np.pi * (n[None] + 0.5) * n[:, None] / PATCH) * math.sqrt(2 / PATCH)
    waves[0] /= math.sqrt(2)
    order = sorted(((u, v) for u in n for v in n), key=lambda f: (f[0] ** 2 + f[1] ** 2, f))
    colours = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]]) / np.sqrt([[3], [2], [6]])
    bright = count - 2 * (count // 5)
    kernels = [
        colour[:, None, None] * np.outer(waves[u], waves[v])
        for colour, amount in zip(colours, (bright, count // 5, count // 5), strict=True)
        for u, v in order[:amount]
    ]
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(np.stack(kernels)))
        projection.bias.zero_()
        found = projection(pixels).transpose(0, 1).flatten(1)
        scale = 1 / (found.std(1) + 0.1)
        projection.weight.mul_(scale[:, None, None, None])
        projection.bias.copy_(-found.mean(1) * scale)
