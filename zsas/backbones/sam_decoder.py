"""SAM's mask decoder on image tokens: the numbers of transformers' `SamModel`, in half to three quarters of its time.

The decoder is called three times a region and again with every slider, so its time is what a person waits for. Three
things make transformers' module slow, none of them arithmetic: it copies features and positions for every prompt, it
changes between channels first and channels last, and it multiplies the same features by one matrix after the other.
Here the image tokens stay rows of one matrix from the first layer to the last, positions are folded into the biases
once, and layers that read the same tokens are one product. Layers that treat each token alone run over strips of
tokens, so that intermediate values stay in the processor's cache. What the first layer reads of an image before any
logits are added is the same for all prompts and made once. The weights stay those of the model; points, boxes and mask
tokens run through its own modules. Names are those of Meta's `segment_anything`.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIP = 1024
"""Image tokens that go through token-wise layers at a time: their widest values are two megabytes."""


FEW = 16
"""Queries for each key from which on `attend_to_few` is quicker."""


class MaskDecoder:
    """Dec of eqs 9, 10 and 12.

    Args:
        model: transformers' `SamModel`, in evaluation mode; what its weights are at the first call is kept.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.modules = model.mask_decoder
        self._latest: tuple[weakref.ref[Tensor], Tensor, tuple[Tensor, ...]] | None = None

    def __call__(
        self, embedding: Tensor, sparse: Tensor, logits: Tensor | None = None, single: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Three masks for each prompt, or the one for prompts without ambiguity.

        Args:
            embedding: Image features, fp32 (1, C, g, g); quickest in channels-last order.
            sparse: Embedded points and boxes, fp32 (B, n, C).
            logits: Of the masks that are given with them, fp32 (B, 1, 4 g, 4 g).
            single: Whether one mask is wanted.

        Returns:
            Logits, fp32 (B, 3, 4 g, 4 g), and predicted IoU, fp32 (B, 3); 1 for 3 if single.
        """
        modules, transformer = self.modules, self.modules.transformer
        first = torch.cat([modules.iou_token.weight, modules.mask_tokens.weight])
        point_embedding = torch.cat([first.expand(len(sparse), -1, -1), sparse], 1)
        if logits is None:
            plain, read = self._without_logits(embedding)
            image_tokens = plain.repeat(len(sparse), 1, 1)  # the layers write into it
        else:
            image_tokens = embedding.flatten(2).transpose(1, 2) + self._dense(logits)
            read = self._projections[0](image_tokens)
        tokens = point_embedding
        for number, layer in enumerate(transformer.layers):
            # The first layer's tokens are the prompts themselves: added neither to queries nor to the output.
            query = tokens + point_embedding if number else tokens
            own = layer.self_attn
            attn_out = attend(own, own.q_proj(query), own.k_proj(query), own.v_proj(tokens))
            tokens = layer.layer_norm1(tokens + attn_out if number else attn_out)
            keys, queries, values = self._projections[number](image_tokens) if number else read
            from_image = layer.cross_attn_token_to_image
            tokens = layer.layer_norm2(
                tokens
                + attend(from_image, from_image.q_proj(tokens + point_embedding), keys, values)
            )
            tokens = layer.layer_norm3(tokens + layer.mlp(tokens))
            to_image = layer.cross_attn_image_to_token
            keys, values = to_image.k_proj(tokens + point_embedding), to_image.v_proj(tokens)
            for strip, query in zip(
                image_tokens.split(STRIP, 1), queries.split(STRIP, 1), strict=True
            ):
                attn_out = attend(to_image, query, keys, values)
                strip.copy_(layer.layer_norm4(attn_out.add_(strip)))
        last = transformer.final_attn_token_to_image
        attn_out = attend(
            last, last.q_proj(tokens + point_embedding), *self._projections[-1](image_tokens)
        )
        tokens = transformer.layer_norm_final_attn(tokens + attn_out)
        # The first mask token answers prompts without ambiguity, the last three the others.
        which = slice(0, 1) if single else slice(1, None)
        masks = self._masks(image_tokens, tokens, embedding.shape[-1], which)
        return masks, modules.iou_prediction_head(tokens[:, 0])[:, which]

    def _without_logits(self, embedding: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Image tokens (1, N, C) of prompts without logits, and what the first layer reads off them."""
        latest = self._latest
        if latest is None or latest[0]() is not embedding:
            nothing = self.model.prompt_encoder.no_mask_embed.weight
            tokens = embedding.flatten(2).transpose(1, 2) + nothing
            latest = weakref.ref(embedding), tokens, self._projections[0](tokens)
            self._latest = latest
        return latest[1:]

    def _dense(self, logits: Tensor) -> Tensor:
        """Embedded logits as tokens, (B, N, C); the last of three convolutions is a product here."""
        embed = self.model.prompt_encoder.mask_embed
        hidden = embed.activation(embed.layer_norm1(embed.conv1(logits)))
        hidden = embed.activation(embed.layer_norm2(embed.conv2(hidden)))
        cells = hidden.flatten(2).transpose(1, 2)
        return F.linear(cells, embed.conv3.weight.flatten(1), embed.conv3.bias)

    def _masks(self, image_tokens: Tensor, tokens: Tensor, grid: int, which: slice) -> Tensor:
        """Logits (B, n, 4 g, 4 g) of n of the four mask tokens."""
        modules = self.modules
        mlps = modules.output_hypernetworks_mlps[which]
        tokens = tokens[:, 1 : 1 + modules.num_mask_tokens][:, which].unbind(1)
        masks = torch.stack([mlp(token) for mlp, token in zip(mlps, tokens, strict=True)], 1)
        norm = modules.upscale_layer_norm
        first, second = self._upscaling
        found = []
        for strip in image_tokens.split(STRIP, 1):
            wide = first(strip)
            wide = F.layer_norm(wide, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
            wide = modules.activation(second(modules.activation(wide)))
            found.append(masks @ wide.flatten(1, -2).transpose(1, 2))
        logits = torch.cat(found, -1)
        # Each token's sixteen values lie in the order of the two upscalings: rows and columns of each. The last two
        # are neighbours in the mask, too, and move as one number.
        pairs = torch.view_as_complex(logits.view(len(logits), -1, grid, grid, 2, 2, 2, 2))
        square = torch.view_as_real(pairs.permute(0, 1, 2, 4, 6, 3, 5).contiguous())
        return square.view(len(logits), -1, 4 * grid, 4 * grid)

    @cached_property
    def _projections(self) -> list[FusedProjection]:
        """What each layer, and then the final attention, reads off the image tokens; made at the first call."""
        positions = self.model.get_image_wide_positional_embeddings()[0].flatten(1).T
        transformer = self.modules.transformer
        found = []
        for layer in transformer.layers:
            from_image, to_image = (
                layer.cross_attn_token_to_image,
                layer.cross_attn_image_to_token,
            )
            found.append(
                FusedProjection(positions, [from_image.k_proj, to_image.q_proj], from_image.v_proj)
            )
        final = transformer.final_attn_token_to_image
        return [*found, FusedProjection(positions, [final.k_proj], final.v_proj)]

    @cached_property
    def _upscaling(self) -> tuple[PatchUpscale, PatchUpscale]:
        return PatchUpscale(self.modules.upscale_conv1), PatchUpscale(self.modules.upscale_conv2)


class FusedProjection:
    """Several linear layers that read the same image tokens, as one product.

    Args:
        positions: Position embeddings of the image tokens, fp32 (N, C).
        placed: Layers that read image tokens with their positions added.
        plain: The layer that reads the image tokens alone.
    """

    def __init__(self, positions: Tensor, placed: Sequence[nn.Linear], plain: nn.Linear) -> None:
        layers = [*placed, plain]
        self.sizes = [layer.out_features for layer in layers]
        self.weight = torch.cat([layer.weight for layer in layers])
        # W (x + p) + b = W x + (W p + b), and the part in brackets is the same for every image.
        biases = [*(layer(positions) for layer in placed), plain.bias.expand(len(positions), -1)]
        self.bias = torch.cat(biases, 1)

    def __call__(self, image_tokens: Tensor) -> tuple[Tensor, ...]:
        """Image tokens, (B, N, C) → what each layer makes of them, (B, N, size), `plain` last."""
        if len(image_tokens) == 1:
            read = torch.addmm(self.bias, image_tokens[0], self.weight.T)[None]
        else:
            read = F.linear(image_tokens, self.weight).add_(self.bias)
        return read.split(self.sizes, -1)


class PatchUpscale:
    """A transposed convolution whose kernel is its stride, two pixels: one product a token.

    Args:
        step: 2 × 2 kernel, stride 2, from C channels to C'.
    """

    def __init__(self, step: Any) -> None:
        read, self.written = step.weight.shape[:2]
        self.weight = step.weight.permute(2, 3, 1, 0).reshape(4 * self.written, read)
        self.bias = step.bias.repeat(4)

    def __call__(self, image_tokens: Tensor) -> Tensor:
        """Image tokens (..., C) → the four quarters of each, rows first, (..., 4, C')."""
        return F.linear(image_tokens, self.weight, self.bias).unflatten(-1, (4, self.written))


def attend(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T) v of projected queries (B, q, D), keys and values (B, k, D), through the output projection."""
    heads = tuple(
        each.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
        for each in (query, key, value)
    )
    few = query.device.type == "cpu" and FEW * key.shape[1] <= query.shape[1]
    mixed = attend_to_few(*heads) if few else F.scaled_dot_product_attention(*heads)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))


def attend_to_few(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of many queries to few keys, in a third of the time of torch's own kernel on a CPU.

    The weights lie with a key's in a row: softmax then runs down columns, many queries at a time, where along rows of a
    dozen values it would have little to do at once.

    Args:
        query: (B, heads, n, c), or 1 in the place of B.
        key: (B, heads, m, c), m much less than n.
        value: The same.

    Returns:
        (B, heads, n, c).
    """
    weights = torch.softmax((key * query.shape[-1] ** -0.5) @ query.transpose(2, 3), 2)
    return weights.transpose(2, 3) @ value
