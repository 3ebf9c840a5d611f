"""What makes the encoders of SAM and SAM-HQ, and a little that of SAM 2, quicker on a CPU.

Three things are exact but for rounding:

- *Global attention by strips.* The relative positions of a block that looks at the whole image are a bias of
  4096 × 4096 values a head. Here the bias of a few rows is written into a small buffer, the product of queries and keys
  is added to it in place, and softmax and the product with the values follow while it is in the cache.
- *Windows with the positions folded in.* In a window the bias is folded into queries and keys; see `folded`. The
  products before and after attention leave out the cells by which a window reaches over the grid: they become the bias.
- *Windows that are all padding.* Up to the first global block no window knows another, and padding is the same for
  every image. What such windows become is computed once per amount of padding and kept.

A fourth is not, and only done where it is asked for: *padding dropped.* No block sees the cells that show no image;
behind the neck stands in their place what an empty square becomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zsas.frames import SamFrame

STRIP_VALUES = 1 << 20
"""Attention weights that are held at a time: four megabytes in fp32."""


def attend_by_strips(device: torch.device, encoder: Any) -> None:
    """Let the global blocks of a `SamVisionEncoder` attend by strips and the others with folded positions.

    On a GPU the library's own kernels are left as they are.
    """
    if device.type != "cpu":
        return
    for layer in encoder.layers:
        if not layer.attn.use_rel_pos:
            continue
        if layer.window_size == 0:
            layer.attn.forward = partial(strip_attention, layer.attn)
        else:
            layer.forward = partial(window_block, layer)


def window_block(layer: Any, hidden_states: Tensor) -> Tensor:
    """The forward of transformers' `SamVisionLayer` for a block that attends within windows.

    Args:
        layer: The module.
        hidden_states: (B, h, w, C).

    Returns:
        (B, h, w, C).
    """
    attention, side = layer.attn, layer.window_size
    batch, height, width, _ = hidden_states.shape
    down, across = -(-height // side), -(-width // side)
    qkv = attention.qkv(layer.layer_norm1(hidden_states))
    if (down * side, across * side) != (height, width):
        # Beyond the grid a normalised cell is 0, of which the product makes its bias.
        beyond = (
            torch.zeros_like(qkv[0, 0, 0]) if attention.qkv.bias is None else attention.qkv.bias
        )
        filled = beyond.to(qkv.dtype).expand(batch, down * side, across * side, -1).contiguous()
        filled[:, :height, :width] = qkv
        qkv = filled
    count = attention.num_attention_heads
    windows = qkv.view(batch, down, side, across, side, 3, count, -1).permute(
        5, 0, 1, 3, 6, 2, 4, 7
    )
    query, key, value = windows.reshape(3, batch * down * across, count, side * side, -1)
    query, key = folded(attention, query, key, side, side)
    weights = torch.bmm(query.flatten(0, 1), key.flatten(0, 1).transpose(1, 2))
    torch.softmax(weights, -1, out=weights)
    mixed = torch.bmm(weights, value.flatten(0, 1))
    mixed = mixed.view(batch, down, across, count, side, side, -1).permute(0, 1, 4, 2, 5, 3, 6)
    mixed = mixed.reshape(batch, down * side, across * side, -1)[:, :height, :width]
    tokens = hidden_states + attention.proj(mixed)
    return tokens + layer.mlp(layer.layer_norm2(tokens))


def folded(
    attention: Any, query: Tensor, key: Tensor, height: int, width: int
) -> tuple[Tensor, Tensor]:
    """Queries and keys whose product is weight and relative positions together.

    The bias of query q and key k is h[q, row of k] + w[q, column of k]. With h and w beside the query and the row and
    the column of each key, as one of many, beside the key, one product gives both; it is exact.

    Args:
        attention: transformers' `SamVisionAttention`.
        query: (B, heads, height · width, c).
        key: The same.
        height: Rows of the grid.
        width: Its columns.

    Returns:
        Queries, scaled, and keys, (B, heads, height · width, c + height + width).
    """
    batch, count, cells, _ = query.shape
    grid = query.reshape(batch, count, height, width, -1)
    by_row = offsets(height, height, attention.rel_pos_h).transpose(1, 2)
    by_column = offsets(width, width, attention.rel_pos_w).transpose(1, 2)
    rel_h = (grid @ by_row).reshape(batch, count, cells, height)
    rel_w = (grid.transpose(2, 3) @ by_column).transpose(2, 3).reshape(batch, count, cells, width)
    place = torch.arange(cells, device=query.device)
    rows = F.one_hot(place // width, height)
    columns = F.one_hot(place % width, width)
    where = torch.cat([rows, columns], -1).to(key.dtype).expand(batch, count, -1, -1)
    return torch.cat([query * attention.scale, rel_h, rel_w], -1), torch.cat([key, where], -1)


@torch.compiler.disable  # hundreds of small steps, which a compiler would write out one by one
def strip_attention(
    attention: Any, hidden_states: Tensor, output_attentions: bool = False
) -> tuple[Tensor, None]:
    """The forward of transformers' `SamVisionAttention` for one head and a few rows of the grid at a time.

    Args:
        attention: The module.
        hidden_states: (B, h, w, C).
        output_attentions: There are none to give out.

    Returns:
        (B, h, w, C), and None for the attention weights.
    """
    batch, height, width, _ = hidden_states.shape
    count = attention.num_attention_heads
    qkv = attention.qkv(hidden_states).view(batch, height * width, 3, count, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).reshape(3, batch * count, height * width, -1)
    # The decomposed positions of MViTv2: a vertical and a horizontal part, each from the query and an offset.
    grid = query.view(batch * count, height, width, -1)
    offsets_h = attention.get_rel_pos(height, height, attention.rel_pos_h)
    offsets_w = attention.get_rel_pos(width, width, attention.rel_pos_w)
    rel_h = torch.einsum("bhwc,hkc->bhwk", grid, offsets_h)
    rel_w = torch.einsum("bhwc,wkc->bhwk", grid, offsets_w)
    rows = min(height, max(1, STRIP_VALUES // (width * height * width)))
    out = torch.empty_like(query)
    buffer = query.new_empty(rows * width * height * width)
    for head in range(batch * count):
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            strip = slice(top * width, bottom * width)
            size = (bottom - top) * width
            weights = buffer[: size * height * width].view(size, height * width)
            torch.add(
                rel_h[head, top:bottom, :, :, None],
                rel_w[head, top:bottom, :, None, :],
                out=weights.view(bottom - top, width, height, width),
            )
            weights.addmm_(query[head, strip], key[head].T, alpha=attention.scale)
            torch.softmax(weights, -1, out=weights)
            torch.mm(weights, value[head], out=out[head, strip])
    heads = out.view(batch, count, height, width, -1).permute(0, 2, 3, 1, 4)
    return attention.proj(heads.reshape(batch, height, width, -1)), None


def attend_without_waste(encoder: Any) -> None:
    """Let the blocks of SAM 2's encoder attend by `pooled_attention`; other encoders stay as they are."""
    for module in encoder.modules():
        if type(module).__name__ == "Sam2MultiScaleAttention":
            module.forward = partial(pooled_attention, module)


def pooled_attention(attention: Any, hidden_states: Tensor, **_: object) -> Tensor:
    """The forward of transformers' `Sam2MultiScaleAttention`, which also makes attention weights that nobody reads.

    Args:
        attention: The module.
        hidden_states: (B, h, w, C).

    Returns:
        (B, h', w', C'), the grid smaller where the module pools its queries.
    """
    batch, height, width, _ = hidden_states.shape
    count = attention.num_attention_heads
    qkv = attention.qkv(hidden_states).view(batch, height * width, 3, count, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    if attention.query_stride:
        grid = query.reshape(batch * count, height, width, -1).permute(0, 3, 1, 2)
        pooled = F.max_pool2d(grid, attention.query_stride, attention.query_stride)
        height, width = pooled.shape[-2:]
        query = pooled.permute(0, 2, 3, 1).reshape(batch, count, height * width, -1)
    mixed = attend(query, key, value, attention.scale)
    return attention.proj(mixed.transpose(1, 2).reshape(batch, height, width, -1))


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Attention: in bf16 on a CPU by strips, in two thirds of the time that torch's own kernel takes there.

    Args:
        query: (B, heads, n, c).
        key: (B, heads, m, c).
        value: The same.
        scale: Of the products of queries and keys.

    Returns:
        (B, heads, n, c).
    """
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    shape, cells, others = query.shape, query.shape[2], key.shape[2]
    query, key, value = (one.flatten(0, 1) for one in (query * scale, key, value))
    found = torch.empty_like(query)
    heads = max(1, STRIP_VALUES // (cells * others))
    rows = max(1, STRIP_VALUES // others)
    for first in range(0, len(query), heads):
        some = slice(first, first + heads)
        keys = key[some].transpose(1, 2)
        for top in range(0, cells, rows):
            strip = slice(top, top + rows)
            weights = torch.bmm(query[some, strip], keys)
            torch.softmax(weights, -1, out=weights)
            found[some, strip] = torch.bmm(weights, value[some])
    return found.view(shape)


def offsets(query_size: int, key_size: int, table: Tensor) -> Tensor:
    """The part of a table of relative positions that cells of a smaller grid need, at the grid's own distances.

    transformers' own function stretches the table to the grid instead, so that neighbours would seem further apart.

    Args:
        query_size: Rows or columns of the grid.
        key_size: The same number.
        table: (2 n - 1, C) with n at least `query_size`, the distance 0 in its middle.

    Returns:
        (query_size, key_size, C).
    """
    place = torch.arange(query_size, device=table.device)
    other = torch.arange(key_size, device=table.device)
    return table[place[:, None] - other[None, :] + len(table) // 2]


class PaddedEncoder:
    """A `SamVisionEncoder` that leaves out windows which are all padding, up to its first global block.

    Args:
        encoder: The module, in evaluation mode and its number format.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        globals_at = [i for i, layer in enumerate(encoder.layers) if layer.window_size == 0]
        self.first_global = globals_at[0] if globals_at else 0
        self.window = encoder.layers[0].window_size if self.first_global else 0
        self._padding: dict[tuple[int, int], Tensor] = {}
        self._empty: tuple[Tensor, Tensor] | None = None
        for at in globals_at:
            encoder.layers[at].attn.get_rel_pos = offsets

    def __call__(
        self, pixels: Tensor, frames: Sequence[SamFrame], *, padding: bool = True
    ) -> tuple[Tensor, Tensor]:
        """Features of padded squares.

        Args:
            pixels: (B, 3, side, side), 0 where there is padding.
            frames: The geometry of each.
            padding: Whether the blocks see the padding, as they did when SAM was trained.

        Returns:
            The neck's output (B, C', g, g), and the tokens after the first global block (B, g, g, C).
        """
        if not padding:
            return self._without_padding(pixels, frames)
        tokens = self._embedded(pixels)
        rows, columns = self._used(frames, tokens.shape[1])
        whole = tokens.shape[1:3]
        if (rows, columns) != whole:
            used = self._windowed(tokens[:, :rows, :columns].contiguous())
            tokens = torch.empty_like(tokens)
            tokens[:, :rows, :columns] = used
            beyond = self._made_padding(rows, columns, pixels)
            if rows < whole[0]:
                tokens[:, rows:] = beyond
            else:
                tokens[:, :, columns:] = beyond
        else:
            tokens = self._windowed(tokens)
        return self._beyond_windows(tokens)

    def _without_padding(self, pixels: Tensor, frames: Sequence[SamFrame]) -> tuple[Tensor, Tensor]:
        """What `__call__` returns, each image by itself: it must not depend on its company."""
        tokens = self._embedded(pixels)
        if self._empty is None:
            self._empty = self._through(self._embedded(torch.zeros_like(pixels[:1])))
        whole, first = (part.repeat(len(pixels), 1, 1, 1) for part in self._empty)
        for i, frame in enumerate(frames):
            rows, columns = frame.grid_hw
            seen = self._through(tokens[i : i + 1, :rows, :columns].contiguous())
            whole[i, :, :rows, :columns], first[i, :rows, :columns] = seen[0][0], seen[1][0]
        return whole, first

    def _through(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return self._beyond_windows(self._windowed(tokens))

    def _beyond_windows(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What `__call__` returns, of tokens before the first global block."""
        first = tokens
        for number, layer in enumerate(self.encoder.layers[self.first_global :]):
            tokens = layer(tokens)
            first = tokens if number == 0 else first
        return self.encoder.neck(tokens), first

    def _embedded(self, pixels: Tensor) -> Tensor:
        tokens = self.encoder.patch_embed(pixels)
        return tokens if self.encoder.pos_embed is None else tokens + self.encoder.pos_embed

    def _windowed(self, tokens: Tensor) -> Tensor:
        for layer in self.encoder.layers[: self.first_global]:
            tokens = layer(tokens)
        return tokens

    def _used(self, frames: Sequence[SamFrame], grid: int) -> tuple[int, int]:
        """Rows and columns of the windows that show some image; the whole grid where nothing can be left out."""
        if not self.window:
            return grid, grid
        rows, columns = (max(frame.grid_hw[axis] for frame in frames) for axis in (0, 1))
        # An image fills one side of its square, so at most one of the two is less than the grid.
        return self._whole_windows(rows, grid), self._whole_windows(columns, grid)

    def _whole_windows(self, cells: int, grid: int) -> int:
        return min(grid, -(-cells // self.window) * self.window)

    def _made_padding(self, rows: int, columns: int, pixels: Tensor) -> Tensor:
        """The tokens of windows that are all padding, (1, h, w, C); the same for every image."""
        if (rows, columns) not in self._padding:
            empty = self._embedded(torch.zeros_like(pixels[:1]))
            part = empty[:, rows:] if rows < empty.shape[1] else empty[:, :, columns:]
            self._padding[rows, columns] = self._windowed(part.contiguous())
        return self._padding[rows, columns]
