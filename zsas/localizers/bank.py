"""The memory bank of images of good parts: cells that cover all of them, and distances to the nearest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.lazy import F, torch
from zsas.localizers.patches import PatchFeatures, TileFeatures

if TYPE_CHECKING:
    from torch import Tensor

BANK_CELLS = 2048
"""Cells that the memory bank keeps: twice as many change little and cost time in proportion."""
CANDIDATES = 16384
"""Cells that those of the bank are chosen from, drawn evenly where there are more."""
_PROJECTED = 32
_MANY = 256
"""Cells that are compared at a time: their products stay in a processor's cache."""
_AXES, _WHOLE = 64, 96
"""Principal axes of the bank's cells along which the nearest is looked for, at least a third of their width; narrower
cells are compared whole."""


class Narrow(NamedTuple):
    """The cells of one layer of a bank, made narrower for finding the nearest.

    Attributes:
        middle: Their mean, fp32 (D,).
        axes: Principal axes, fp32 (D, k).
        cells: Along these axes, fp32 (k + 1, n): the last is −½ of their squared distance from the middle, so that of a
            product with [x, 1] the highest is of the nearest.
        whole: The cells, L2-normalised, fp16 (n, D).
    """

    middle: Tensor
    axes: Tensor
    cells: Tensor
    whole: Tensor


@dataclass(frozen=True)
class Bank:
    """Cells that others are compared with.

    Attributes:
        layers: One tensor a layer, L2-normalised, fp16 (n, D).
        places: x and y in [0, 1] on their images, fp32 (n, 2); None where nobody asks.
        owners: Number of the image of each, (n,); None where nobody asks.
        images: How many images they are of.
    """

    layers: tuple[Tensor, ...]
    places: Tensor | None = None
    owners: Tensor | None = None
    images: int = 0

    @cached_property
    def narrow(self) -> tuple[Narrow, ...]:
        """Its layers, ready to be compared with."""
        return tuple(map(_narrow, self.layers))


def _narrow(whole: Tensor) -> Narrow:
    """Cells (n, D) along their principal axes."""
    width = whole.shape[1]
    with torch.inference_mode():
        middle = whole.float().mean(0)
        apart = whole.float() - middle
        axes = torch.eye(width, device=whole.device)
        if width > _WHOLE:
            found = torch.linalg.eigh(apart.T @ apart).eigenvectors
            axes = found[:, -max(_AXES, width // 3) :].contiguous()
        along = apart @ axes
        columns = torch.cat([along, -along.square().sum(1, keepdim=True) / 2], 1)
        return Narrow(middle, axes, columns.T.contiguous(), whole)


def _looked_at(tile: TileFeatures) -> Tensor:
    """Indices of the cells that are looked at, (n,)."""
    if tile.inside is None:
        return torch.arange(tile.layers.shape[2] * tile.layers.shape[3])
    return torch.from_numpy(np.flatnonzero(tile.inside))


def _flat(tile: TileFeatures) -> Tensor:
    """What its cells are compared by, fp32 (L, n, D)."""
    return tile.compared.float().flatten(1, 2)


def _places(features: PatchFeatures) -> list[Tensor]:
    """For each tile where its cells lie in the image, x and y in [0, 1], fp32 (n, 2)."""
    width = max(tile.window[2] for tile in features.tiles)
    height = max(tile.window[3] for tile in features.tiles)
    found = []
    for tile in features.tiles:
        x0, y0, x1, y1 = tile.window
        rows, columns = tile.layers.shape[2:4]
        y = (y0 + (torch.arange(rows) + 0.5) * (y1 - y0) / rows) / height
        x = (x0 + (torch.arange(columns) + 0.5) * (x1 - x0) / columns) / width
        grid = torch.meshgrid(y, x, indexing="ij")
        found.append(torch.stack([grid[1], grid[0]], -1).flatten(0, 1).to(tile.layers.device))
    return found


def bank_of(families: Sequence[Sequence[PatchFeatures]], most: int = 0) -> Bank:
    """At most `most` cells, `BANK_CELLS` without, of some images and their turned copies, the same of every layer.

    Where there is a region of interest, cells outside of it are left out.
    """
    owned = [(i, one) for i, family in enumerate(families) for one in family]
    counts = [[len(_looked_at(tile)) for tile in one.tiles] for _, one in owned]
    total = sum(map(sum, counts))
    kept = None
    if total > CANDIDATES:
        generator = torch.Generator().manual_seed(0)
        kept = torch.randperm(total, generator=generator)[:CANDIDATES].sort().values
    cells, places, owners, at = [], [], [], 0
    for i, one in owned:
        for tile, where in zip(one.tiles, _places(one), strict=True):
            part = _looked_at(tile)
            number = len(part)
            if kept is not None:
                part = part[kept[(kept >= at) & (kept < at + number)] - at]
            part = part.to(where.device)
            cells.append(F.normalize(_flat(tile)[:, part], dim=-1).half())
            places.append(where[part])
            owners.append(torch.full((len(part),), i, device=where.device))
            at += number
    joined, place, owner = torch.cat(cells, dim=1), torch.cat(places), torch.cat(owners)
    most = most or BANK_CELLS
    if joined.shape[1] > most:
        chosen = farthest(joined, most)
        joined, place, owner = joined[:, chosen], place[chosen], owner[chosen]
    return Bank(tuple(joined), place, owner, len(families))


def farthest(cells: Tensor, count: int) -> Tensor:
    """Indices of cells that cover all of them: each the farthest from those before it (k-center, greedy).

    Args:
        cells: (L, n, D); a cell's layers count together, through a random projection with a fixed seed.
        count: How many are chosen.
    """
    layers, number, width = cells.shape
    generator = torch.Generator().manual_seed(0)
    projection = torch.randn(layers, width, _PROJECTED, generator=generator).to(cells.device)
    points = torch.einsum("lnd,ldp->np", cells.float(), projection)
    squares = points.square().sum(1)
    nearest = torch.full((number,), math.inf, device=cells.device)
    chosen = torch.zeros(count, dtype=torch.long, device=cells.device)
    at = torch.zeros((), dtype=torch.long, device=cells.device)
    with torch.inference_mode():
        for i in range(count):
            chosen[i] = at
            distance = squares + squares[at] - 2 * (points @ points[at])
            nearest = torch.minimum(nearest, distance)
            at = nearest.argmax()
    return chosen


def distances_to(
    features: PatchFeatures, bank: Bank, window: float = 0.0, left_out: int = -1
) -> list[NDArray[np.float32]]:
    """1 − cosine to the nearest cell of the bank, for each tile float32 (L, g_h, g_w).

    Of wide cells the nearest is that along the bank's principal axes; the distance to it is that of the whole cells.

    Args:
        features: Of one image.
        bank: What it is compared with.
        window: How far away cells count, in x and in y as fractions of the image; 0 for all. A place without any looks
            everywhere.
        left_out: Number of the image whose cells do not count.
    """
    found = []
    layers = bank.narrow
    places = bank.places
    if left_out >= 0 and bank.owners is not None:
        others = bank.owners != left_out
        layers = tuple(
            one._replace(cells=one.cells[:, others], whole=one.whole[others]) for one in layers
        )
        places = None if places is None else places[others]
    with torch.inference_mode():
        for tile, where in zip(features.tiles, _places(features), strict=True):
            cells = F.normalize(_flat(tile), dim=-1)
            nearby = (where, places) if window and places is not None else None
            rows = [
                _distances(mine, theirs, nearby, window)
                for mine, theirs in zip(cells, layers, strict=True)
            ]
            joined = torch.stack(rows).unflatten(1, tuple(tile.layers.shape[2:4]))
            found.append(joined.cpu().numpy().astype(np.float32))
    return found


def _distances(
    cells: Tensor, layer: Narrow, nearby: tuple[Tensor, Tensor] | None, window: float
) -> Tensor:
    """1 − cosine of cells (n, D) to the nearest of a layer's, (n,)."""
    middle, axes, kept, whole = (one.to(cells.device) for one in layer)
    along = (cells - middle) @ axes
    asked = torch.cat([along, torch.ones_like(along[:, :1])], 1)
    nearest = torch.empty(len(asked), dtype=torch.long, device=cells.device)
    for start in range(0, len(asked), _MANY):
        part = slice(start, start + _MANY)
        products = asked[part] @ kept
        if nearby is not None:
            where, places = nearby
            apart = (where[part, None] - places[None].to(where.device)).abs().amax(-1)
            far = apart > window
            products = products.masked_fill(far & ~far.all(1, keepdim=True), -math.inf)
        nearest[part] = _highest(products)
    return 1 - (cells * whole[nearest].float()).sum(1)


def _highest(rows: Tensor) -> Tensor:
    """Where the highest of each row is, (n,)."""
    if rows.device.type != "cpu":
        return rows.argmax(1)
    return torch.from_numpy(rows.numpy().argmax(1))  # three times as fast as torch's own


def turned_copies(image: NDArray[np.uint8], step: int) -> list[NDArray[np.uint8]]:
    """An image turned about its middle by each multiple of `step` degrees, borders mirrored; uint8 RGB (H, W, 3)."""
    height, width = image.shape[:2]
    found = []
    for angle in range(step, 360, step) if step else ():
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
        turned = cv2.warpAffine(image, turn, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        found.append(np.asarray(turned, np.uint8))
    return found


def changed_copies(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Copies of one image that are still good: mirrored, shifted, lighter, darker and noisy; uint8 RGB (H, W, 3)."""
    height, width = image.shape[:2]
    generator = np.random.default_rng(0)
    shift = np.array([[1, 0, 0.03 * width], [0, 1, 0.03 * height]], np.float32)
    shifted = cv2.warpAffine(image, shift, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    noise = generator.normal(0, 4, image.shape)
    changed = [image[:, ::-1], shifted, image * 1.08, image * 0.92, image + noise]
    return [np.ascontiguousarray(np.clip(np.rint(x), 0, 255).astype(np.uint8)) for x in changed]


def turned_regions(inside: NDArray[np.bool_], step: int) -> list[NDArray[np.bool_]]:
    """Where the copies of `turned_copies` show what lies inside a region of their image, bool (H, W)."""
    height, width = inside.shape
    found = []
    for angle in range(step, 360, step) if step else ():
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
        turned = cv2.warpAffine(
            inside.astype(np.uint8), turn, (width, height), flags=cv2.INTER_NEAREST
        )
        found.append(turned > 0)
    return found


def changed_regions(inside: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Where the copies of `changed_copies` show what lies inside a region of their image, bool (H, W)."""
    height, width = inside.shape
    right, down = round(0.03 * width), round(0.03 * height)
    shifted = np.zeros_like(inside)
    shifted[down:, right:] = inside[: height - down, : width - right]
    return [inside[:, ::-1], shifted if shifted.any() else inside, inside, inside, inside]
