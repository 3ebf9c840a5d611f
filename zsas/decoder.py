"""SAM's mask decoder cell by cell: the numbers of transformers' `SamModel`, in half to three quarters of its time.

The decoder is asked three times a region and again with every slider, so its time is what a person waits for. Three
things make transformers' module slow, none of them arithmetic: it copies features and positions for every prompt, it
changes between channels first and channels last, and it multiplies the same features by one matrix after the other.
Here the cells of the feature grid stay rows of one matrix from the first layer to the last, positions are folded into
the biases once, and what reads the same features is one product; where cells do not look at each other, a strip of them
goes through several layers before the next one, so that what lies between stays in the processor's cache. The weights
stay those of the model, and the words' side (points, boxes, mask tokens) runs through its own modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STRIP = 1024
"""Cells that go through cell-wise layers at a time: their widest values are two megabytes."""


class MaskDecoder:
    """Dec of eqs 9, 10 and 12.

    Args:
        model: transformers' `SamModel`, in evaluation mode; what its weights are at the first call is kept.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.modules = model.mask_decoder

    def __call__(self, embedding: Tensor, sparse: Tensor, dense: Tensor) -> tuple[Tensor, Tensor]:
        """Three masks for each prompt.

        Args:
            embedding: Image features, fp32 (B, C, g, g), one row a prompt; quickest in channels-last order.
            sparse: Embedded points and boxes, fp32 (B, n, C).
            dense: Embedded logits, fp32 (B, C, g, g).

        Returns:
            Logits, fp32 (B, 3, 4 g, 4 g), and predicted IoU, fp32 (B, 3).
        """
        modules, transformer = self.modules, self.modules.transformer
        first = torch.cat([modules.iou_token.weight, modules.mask_tokens.weight])
        asked = torch.cat([first.expand(len(embedding), -1, -1), sparse], 1)
        cells = (embedding + dense).flatten(2).transpose(1, 2)
        words = asked
        for number, (layer, read) in enumerate(
            zip(transformer.layers, self._readers[:-1], strict=True)
        ):
            # The first layer's words are the prompts themselves, so it adds them neither to queries nor to itself.
            query = words + asked if number else words
            told = _attend(layer.self_attn, query, query, words)
            words = layer.layer_norm1(words + told if number else told)
            keys, queries, values = read(cells)
            from_image = layer.cross_attn_token_to_image
            words = layer.layer_norm2(
                words + _mix(from_image, from_image.q_proj(words + asked), keys, values)
            )
            words = layer.layer_norm3(words + layer.mlp(words))
            to_image = layer.cross_attn_image_to_token
            keys, values = to_image.k_proj(words + asked), to_image.v_proj(words)
            for strip, query in zip(cells.split(STRIP, 1), queries.split(STRIP, 1), strict=True):
                told = _mix(to_image, query, keys, values)
                strip.copy_(layer.layer_norm4(told.add_(strip)))
        last = transformer.final_attn_token_to_image
        told = _mix(last, last.q_proj(words + asked), *self._readers[-1](cells))
        words = transformer.layer_norm_final_attn(words + told)
        return self._masks(cells, words, embedding.shape[-1]), modules.iou_prediction_head(
            words[:, 0]
        )[:, 1:]

    def _masks(self, cells: Tensor, words: Tensor, grid: int) -> Tensor:
        """Logits (B, 3, 4 g, 4 g) of the last three mask tokens; the first answers prompts without ambiguity."""
        modules = self.modules
        mlps = modules.output_hypernetworks_mlps[1:]
        tokens = words[:, 2 : 2 + len(mlps)].unbind(1)
        masks = torch.stack([mlp(token) for mlp, token in zip(mlps, tokens, strict=True)], 1)
        norm = modules.upscale_layer_norm
        first, second = self._upscaling
        found = []
        for strip in cells.split(STRIP, 1):
            wide = first(strip)
            wide = F.layer_norm(wide, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
            wide = modules.activation(second(modules.activation(wide)))
            found.append(masks @ wide.flatten(1, -2).transpose(1, 2))
        logits = torch.cat(found, -1)
        # Each cell's sixteen values lie in the order of the two upscalings: rows and columns of each.
        square = logits.view(len(logits), -1, grid, grid, 2, 2, 2, 2).permute(
            0, 1, 2, 4, 6, 3, 5, 7
        )
        return square.reshape(len(logits), -1, 4 * grid, 4 * grid)

    @cached_property
    def _readers(self) -> list[_Reader]:
        """What each layer, and then the final attention, reads off the cells; made at the first call."""
        positions = self.model.get_image_wide_positional_embeddings()[0].flatten(1).T
        transformer = self.modules.transformer
        found = []
        for layer in transformer.layers:
            asked, asking = layer.cross_attn_token_to_image, layer.cross_attn_image_to_token
            found.append(_Reader(positions, [asked.k_proj, asking.q_proj], asked.v_proj))
        final = transformer.final_attn_token_to_image
        return [*found, _Reader(positions, [final.k_proj], final.v_proj)]

    @cached_property
    def _upscaling(self) -> tuple[_Upscale, _Upscale]:
        return _Upscale(self.modules.upscale_conv1), _Upscale(self.modules.upscale_conv2)


class _Reader:
    """Several linear layers that read the same cells, as one product.

    Args:
        positions: Position embeddings of the cells, fp32 (N, C).
        placed: Layers that read cells with their positions added.
        plain: The layer that reads the cells alone.
    """

    def __init__(self, positions: Tensor, placed: Sequence[nn.Linear], plain: nn.Linear) -> None:
        layers = [*placed, plain]
        self.sizes = [layer.out_features for layer in layers]
        self.weight = torch.cat([layer.weight for layer in layers])
        # W (x + p) + b = W x + (W p + b), and the part in brackets is the same for every photo.
        biases = [*(layer(positions) for layer in placed), plain.bias.expand(len(positions), -1)]
        self.bias = torch.cat(biases, 1)

    def __call__(self, cells: Tensor) -> tuple[Tensor, ...]:
        """Cells, (B, N, C) → what each layer makes of them, (B, N, size), `plain` last."""
        if len(cells) == 1:
            read = torch.addmm(self.bias, cells[0], self.weight.T)[None]
        else:
            read = F.linear(cells, self.weight).add_(self.bias)
        return read.split(self.sizes, -1)


class _Upscale:
    """A transposed convolution whose kernel is its stride, two pixels: one product a cell.

    Args:
        step: 2 × 2 kernel, stride 2, from C channels to C'.
    """

    def __init__(self, step: Any) -> None:
        read, self.written = step.weight.shape[:2]
        self.weight = step.weight.permute(2, 3, 1, 0).reshape(4 * self.written, read)
        self.bias = step.bias.repeat(4)

    def __call__(self, cells: Tensor) -> Tensor:
        """Cells (..., C) → the four quarters of each, rows first, (..., 4, C')."""
        return F.linear(cells, self.weight, self.bias).unflatten(-1, (4, self.written))


def _attend(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """One of SAM's attentions with all its projections, (B, q, C)."""
    return _mix(attention, attention.q_proj(query), attention.k_proj(key), attention.v_proj(value))


def _mix(attention: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T) v of projected queries (B, q, D), keys and values (B, k, D), through the output projection."""
    heads = (
        each.unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
        for each in (query, key, value)
    )
    mixed = F.scaled_dot_product_attention(*heads)
    return attention.out_proj(mixed.transpose(1, 2).flatten(2))
