"""The small CLIP as it is trained, and how it comes back from a checkpoint.

The model is transformers' own ``CLIPModel`` with four linear layers beside it, exactly those of the
method (patch tokens after four blocks, scaled cosine with two text vectors). Activations are bfloat16;
on a CPU attention keeps its weights instead of computing them twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from tiny.training import loop
from tiny.training.clip.recipe import PATCH, Recipe, recipe_from
from tiny.training.tokenizer import load_tokenizer
from zsas.localizers.linear import read_adapter
from zsas.models.loaders import from_folder
from zsas.training.checkpoint import load_checkpoint


def config_of(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPConfig:
    """The transformers configuration of a recipe's model."""
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": recipe.text_width,
        "intermediate_size": 4 * recipe.text_width,
        "num_hidden_layers": recipe.text_depth,
        "num_attention_heads": recipe.text_heads,
        "max_position_embeddings": recipe.context,
        "hidden_act": "gelu",
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "hidden_size": recipe.width,
        "intermediate_size": 4 * recipe.width,
        "num_hidden_layers": recipe.depth,
        "num_attention_heads": recipe.heads,
        "image_size": recipe.nominal,
        "patch_size": PATCH,
        "hidden_act": "gelu",
    }
    return CLIPConfig(
        text_config=text, vision_config=vision, projection_dim=recipe.projection,
        logit_scale_init_value=2.6592,
    )  # fmt: skip


class _Attention(torch.autograd.Function):
    """softmax(q k^T) v with the weights kept for the way back: on CPUs faster than flash attention."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = torch.softmax(q @ k.transpose(-1, -2), -1)
        out = weights @ v
        ctx.save_for_backward(q, k, v, weights, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, weights, out = ctx.saved_tensors
        grad = grads[0].contiguous()
        inner = grad @ v.transpose(-1, -2)
        scores = inner.sub_((grad * out).sum(-1, keepdim=True)).mul_(weights)
        return scores @ k, scores.transpose(-1, -2) @ q, weights.transpose(-1, -2) @ grad


def _mix(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v, each (B, heads, N, d)."""
    if q.device.type == "cpu":
        mixed: Tensor = _Attention.apply(q.contiguous(), k.contiguous(), v.contiguous())
        return mixed
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


def vision_tokens(
    model: CLIPModel, image: Tensor, blocks: Sequence[int], dtype: torch.dtype = torch.bfloat16
) -> tuple[list[Tensor], Tensor]:
    """The vision tower of transformers' ``CLIPModel``, the same numbers in less time.

    Args:
        model: Its weights are used (and get gradients).
        image: (B, R, R, 3) normalised RGB, R a multiple of the patch size.
        blocks: Blocks whose tokens are wanted, counted from 1.
        dtype: Number format of the matrix products.

    Returns:
        Tokens (B, 1 + g * g, width) after each of ``blocks``, and after the last block.
    """
    vision = model.vision_model
    embeddings = vision.embeddings
    size, grid = image.shape[0], image.shape[1] // PATCH
    patches = image.view(size, grid, PATCH, grid, PATCH, 3).permute(0, 1, 3, 5, 2, 4)
    flat = patches.reshape(size, grid * grid, -1).to(dtype)
    kernel = embeddings.patch_embedding.weight
    tokens = F.linear(flat, kernel.view(kernel.shape[0], -1).to(dtype)).float()
    position = embeddings.position_embedding.weight
    side = round((position.shape[0] - 1) ** 0.5)
    place = position[1:].view(1, side, side, -1).permute(0, 3, 1, 2)
    if side != grid:
        place = F.interpolate(place, size=(grid, grid), mode="bicubic", align_corners=False)
    tokens = tokens + place.flatten(2).transpose(1, 2)
    first = (embeddings.class_embedding + position[0]).expand(size, 1, -1)
    x = vision.pre_layrnorm(torch.cat([first, tokens], 1))

    def product(layer: nn.Linear, value: Tensor) -> Tensor:
        return F.linear(value, layer.weight.to(dtype), layer.bias.to(dtype))

    kept: list[Tensor] = []
    last = x
    for number, layer in enumerate(vision.encoder.layers, start=1):
        attention = layer.self_attn
        width = x.shape[-1]
        heads = attention.num_heads
        shape = (size, -1, 3, heads, width // heads)
        scale = (width // heads) ** -0.5
        q, k, v = attention.q_proj, attention.k_proj, attention.v_proj
        weight = torch.cat([q.weight * scale, k.weight, v.weight]).to(dtype)
        bias = torch.cat([q.bias * scale, k.bias, v.bias]).to(dtype)
        normed = layer.layer_norm1(x).to(dtype)
        split = F.linear(normed, weight, bias).view(shape).permute(2, 0, 3, 1, 4)
        mixed = _mix(*split.unbind(0))
        x = x + product(attention.out_proj, mixed.transpose(1, 2).reshape(x.shape))
        hidden = F.gelu(product(layer.mlp.fc1, layer.layer_norm2(x).to(dtype)))
        x = x + product(layer.mlp.fc2, hidden)
        last = x
        if number in blocks:
            kept.append(x)
    return kept, last


class TrainModel(nn.Module):
    """The small CLIP with its linear layers, as one thing to train.

    Args:
        recipe: Sizes.
        tokenizer: Decides the vocabulary.
    """

    def __init__(self, recipe: Recipe, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        self.recipe = recipe
        config = config_of(recipe, tokenizer)
        config.text_config._attn_implementation = "eager"  # faster backwards on short sentences
        self.clip = CLIPModel(config)
        # Its steps add up over 768 alike pixels and would drown all but brightness: kept as it starts.
        self.clip.vision_model.embeddings.patch_embedding.weight.requires_grad_(False)
        self.layers = nn.ModuleList(
            nn.Linear(recipe.width, recipe.projection) for _ in recipe.blocks
        )

    def encode_images(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed images.

        Args:
            image: (B, R, R, 3) normalised RGB.

        Returns:
            Normalised projected patches of each layer (B, L, g * g, D), those of the last layer
            through CLIP's own projection (B, g * g, D), and image embeddings (B, D), all fp32.
        """
        dtype = torch.bfloat16 if self.training else torch.float32
        kept, last = vision_tokens(self.clip, image, self.recipe.blocks, dtype)
        patches = torch.stack(
            [
                F.normalize(layer(tokens[:, 1:].float()), dim=-1)
                for layer, tokens in zip(self.layers, kept, strict=True)
            ],
            1,
        )
        own = self.clip.visual_projection(self.clip.vision_model.post_layernorm(last))
        own = F.normalize(own, dim=-1)
        return patches, own[:, 1:], own[:, 0]

    def encode_text(self, ids: Tensor) -> Tensor:
        """Normalised sentence embeddings, (n, D) fp32, of token ids (n, length)."""
        with loop.autocast(ids.device, self.training):
            output = self.clip.get_text_features(input_ids=ids)
        return F.normalize(output.pooler_output.float(), dim=-1)


def load_model(checkpoint: Path, *, ema: bool = True) -> tuple[TrainModel, CLIPTokenizer]:
    """A trained model for evaluation, with the averaged weights unless ``ema`` is False.

    Args:
        checkpoint: File of a training, or the folder of an exported model, as the shipped one.
        ema: Whether a training's averaged weights are wanted; an exported model has no others.
    """
    if checkpoint.is_dir():
        model, tokenizer = _exported(checkpoint)
    else:
        state = load_checkpoint(checkpoint)
        tokenizer = load_tokenizer(tokenizer_folder(checkpoint))
        model = TrainModel(recipe_from(state["recipe"]), tokenizer)
        model.load_state_dict(state["ema"]["shadow"] if ema else state["model"])
    return model.eval().requires_grad_(False), tokenizer


def tokenizer_folder(checkpoint: Path) -> Path:
    """Where the tokenizer of a checkpoint or of an exported model lies."""
    return checkpoint if checkpoint.is_dir() else checkpoint.parent / "tokenizer"


def _exported(folder: Path) -> tuple[TrainModel, CLIPTokenizer]:
    """The model that an exported model came from, as far as its sizes and weights tell."""
    clip = from_folder(CLIPModel, folder)
    adapter, tokenizer = read_adapter(folder / "adapter.safetensors"), load_tokenizer(folder)
    vision, text = clip.config.vision_config, clip.config.text_config
    recipe = Recipe(
        width=vision.hidden_size,
        depth=vision.num_hidden_layers,
        heads=vision.num_attention_heads,
        text_width=text.hidden_size,
        text_depth=text.num_hidden_layers,
        text_heads=text.num_attention_heads,
        context=text.max_position_embeddings,
        projection=clip.config.projection_dim,
        blocks=adapter.card.blocks,
        nominal=vision.image_size,
    )
    model = TrainModel(recipe, tokenizer)
    model.clip.load_state_dict(clip.state_dict())
    layers: dict[str, Tensor] = {}
    for i, (weight, bias) in enumerate(zip(adapter.weights, adapter.biases, strict=True)):
        layers |= {f"{i}.weight": weight, f"{i}.bias": bias}
    model.layers.load_state_dict(layers)
    return model, tokenizer
