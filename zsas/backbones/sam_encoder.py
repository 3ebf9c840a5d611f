"""What makes the ViT of SAM and SAM-HQ quicker on a CPU.

Two things are exact but for rounding:

- *Global attention by strips.* The relative positions of a block that looks at the whole image are a bias of
  4096 × 4096 values a head. Here the bias of a few rows is written into a small buffer, the product of queries and keys
  is added to it in place, and softmax and the product with the values follow while it is in the cache.
- *Windows that are all padding.* Up to the first global block no window knows another, and padding is the same for
  every image. What such windows become is computed once per amount of padding and kept.

A third is not, and only done where it is asked for: *padding dropped.* No block sees the cells that show no image;
behind the neck stands in their place what an empty square becomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from zsas.frames import SamFrame

STRIP_VALUES = 1 << 20
"""Attention weights that are held at a time: four megabytes in fp32."""


def attend_by_strips(device: torch.device, encoder: Any) -> None:
    """Let the global blocks of a `SamVisionEncoder` attend by strips; on a GPU the library's own kernels are better."""
    if device.type != "cpu":
        return
    for layer in encoder.layers:
        if layer.window_size == 0 and layer.attn.use_rel_pos:
            layer.attn.forward = partial(strip_attention, layer.attn)


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
