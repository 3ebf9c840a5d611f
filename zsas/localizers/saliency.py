"""Saliency without text: what differs from the rest of the image (one object) or from the other objects (several).

Features come from three stages of a ResNet. For cells of the finest grid the two coarser maps are read at the nearest
cell, so the cosine of two cells is the sum of three products, of which the coarser two are computed once for their own
cells only. At 256 × 256 cells that is 3 · 10¹² operations in place of 1.5 · 10¹³.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zsas.lazy import F, torch

if TYPE_CHECKING:
    from torch import Tensor

BLOCK_BYTES = 200_000_000
"""Size of one block of cosines in bytes; about three blocks are in memory at a time."""


def unit_cells(levels: Sequence[Tensor]) -> Tensor:
    """Cells of the finest grid with the coarser maps read at the nearest cell, L2-normalised, fp32 (g², C).

    Args:
        levels: Maps (C, g, g), (C', g / 2, g / 2), …
    """
    side = levels[0].shape[-1]
    fine = [F.interpolate(one[None], size=(side, side), mode="nearest")[0] for one in levels]
    return F.normalize(torch.cat(fine).flatten(1).T.float(), dim=1)


def unlike_the_rest(cells: Tensor, most: int) -> Tensor:
    """For each cell the mean of its largest distances to all cells, (1 − cosine) / 2, fp32 (n,).

    Args:
        cells: L2-normalised, (n, C).
        most: How many of the largest distances count; at most all.
    """
    count = min(most, len(cells))
    rows = max(1, BLOCK_BYTES // (4 * len(cells)))
    found = [
        (part @ cells.T).topk(count, dim=1, largest=False, sorted=False).values.mean(dim=1)
        for part in cells.split(rows)
    ]
    return ((1.0 - torch.cat(found)) / 2).clamp(0.0, 1.0)


def unlike_the_others(
    levels: Sequence[Tensor], objects: Sequence[NDArray[np.bool_]]
) -> NDArray[np.float32] | None:
    """For each cell of an object half of 1 − its highest cosine to any cell of the other objects, float32 (g, g).

    A cell of several objects takes the highest of its values, a cell of none 0. Where objects overlap, their common
    cells count as unlike everything.

    Args:
        levels: Maps (C, g, g), (C', g / 2, g / 2), … without negative values.
        objects: Masks on the finest grid, bool (g, g); those without a cell are left out.

    Returns:
        None if fewer than two objects have cells.
    """
    objects = [one for one in objects if one.any()]
    if len(objects) < 2:
        return None
    side = levels[0].shape[-1]
    cells = _Cells(levels)
    found = np.zeros((side, side), np.float32)
    for i, own in enumerate(objects):
        others = np.zeros_like(own)
        for j, other in enumerate(objects):
            if j != i:
                others |= other
        others &= ~own
        own_cells = np.flatnonzero(own)
        nearest = cells.nearest(own_cells, np.flatnonzero(others))
        values = np.maximum(found.ravel()[own_cells], (1.0 - nearest) / 2)
        found.ravel()[own_cells] = values
    return found


class _Cells:
    """Features of the finest grid's cells, kept level by level.

    Args:
        levels: Maps (C, g, g), (C', g / 2, g / 2), …
    """

    def __init__(self, levels: Sequence[Tensor]) -> None:
        self.side = levels[0].shape[-1]
        self.sides = [one.shape[-1] for one in levels]
        self.flat = [one.flatten(1).T.float().contiguous() for one in levels]
        squares = [one.float().square().sum(dim=0)[None, None] for one in levels]
        size = (self.side, self.side)
        total = torch.stack([F.interpolate(one, size=size, mode="nearest") for one in squares])
        self.norm = total.sum(dim=0).flatten().sqrt().clamp_min(1e-12)

    def nearest(self, own: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float32]:
        """For each cell of some the highest cosine to any of others, 0 without any, float32 (n,)."""
        if not len(others):
            return np.zeros(len(own), np.float32)
        device = self.norm.device
        other = torch.from_numpy(others).to(device)
        scale = 1.0 / self.norm[other]
        rows = max(1, BLOCK_BYTES // (4 * len(others)))
        found = []
        # Cells in the order of the coarsest grid: a block then needs few of its cells.
        order = np.argsort(self._coarse(own, len(self.flat) - 1), kind="stable")
        for start in range(0, len(own), rows):
            part = torch.from_numpy(own[order[start : start + rows]]).to(device)
            found.append(self._products(0, part, other).mul_(scale).amax(dim=1) / self.norm[part])
        sorted_values = torch.cat(found).clamp(0.0, 1.0).cpu().numpy()
        values = np.empty(len(own), np.float32)
        values[order] = sorted_values
        return values

    def _products(self, level: int, own: Tensor, other: Tensor) -> Tensor:
        """Products of cells of one level, with those of all coarser levels added, fp32 (n, m)."""
        product = self.flat[level][own] @ self.flat[level][other].T
        if level + 1 < len(self.flat):
            up_own, back_own = self._up(own, level).unique(return_inverse=True)
            up_other, back_other = self._up(other, level).unique(return_inverse=True)
            coarse = self._products(level + 1, up_own, up_other).index_select(1, back_other)
            product += coarse.index_select(0, back_own)
        return product

    def _up(self, cells: Tensor, level: int) -> Tensor:
        """The cells of the next level at which cells of one are read."""
        side, coarser = self.sides[level], self.sides[level + 1]
        row, column = cells // side * coarser // side, cells % side * coarser // side
        return row * coarser + column

    def _coarse(self, cells: NDArray[np.int64], level: int) -> NDArray[np.int64]:
        """The cells of a level at which cells of the finest are read."""
        coarser = self.sides[level]
        row = cells // self.side * coarser // self.side
        column = cells % self.side * coarser // self.side
        return row * coarser + column
