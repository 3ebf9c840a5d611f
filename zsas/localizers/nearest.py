"""Where the good images show what is most like a place of an image: the other half of "this is not like the others"."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zsas.lazy import torch
from zsas.localizers.patches import PatchFeatures, TileFeatures
from zsas.localizers.references import References


@dataclass(frozen=True)
class Place:
    """A place on one of the good images.

    Attributes:
        image: Number of the image among the references.
        x: From its left edge, as a fraction of its width.
        y: From its upper edge, as a fraction of its height.
        similarity: Mean cosine over the layers, in [-1, 1].
    """

    image: int
    x: float
    y: float
    similarity: float


def nearest_places(
    features: Any, references: References, points: Sequence[tuple[float, float]]
) -> list[Place]:
    """For each point the most similar place of all good images that count.

    Args:
        features: Of the image, from the localizer that encoded the references.
        references: Images of good parts.
        points: x, y in pixels of the image.

    Returns:
        One place a point; none at all where the localizer has nothing to compare.
    """
    if not isinstance(features, PatchFeatures) or not points:
        return []
    kept = [
        (i, one)
        for i, one in enumerate(references.features)
        if isinstance(one, PatchFeatures) and i not in references.ignored
    ]
    cells = torch.stack([_cell_at(features, x, y) for x, y in points])  # (p, L, D)
    found: list[Place | None] = [None] * len(points)
    with torch.inference_mode():
        for number, one in kept:
            width = max(tile.window[2] for tile in one.tiles)
            height = max(tile.window[3] for tile in one.tiles)
            for tile in one.tiles:
                theirs = tile.compared.to(cells.device).float()  # they are normalised
                cosines = torch.einsum("pld,lhwd->phw", cells, theirs) / theirs.shape[0]
                if tile.inside is not None:
                    outside = ~torch.from_numpy(tile.inside).to(cosines.device)
                    cosines = cosines.masked_fill(outside, -1.0)
                best = cosines.flatten(1).max(dim=1)
                for i, (value, at) in enumerate(
                    zip(best.values.tolist(), best.indices.tolist(), strict=True)
                ):
                    before = found[i]
                    if before is None or value > before.similarity:
                        x, y = _middle(tile, at)
                        found[i] = Place(number, x / width, y / height, value)
    return [place for place in found if place is not None]


def _cell_at(features: PatchFeatures, x: float, y: float) -> Any:
    """The cell under a point in the smallest tile that holds it, L2-normalised, fp32 (L, D)."""

    def holds(tile: TileFeatures) -> bool:
        x0, y0, x1, y1 = tile.window
        return x0 <= x < x1 and y0 <= y < y1

    def size(tile: TileFeatures) -> int:
        x0, y0, x1, y1 = tile.window
        return (x1 - x0) * (y1 - y0)

    tile = min(filter(holds, features.tiles), key=size, default=features.tiles[0])
    x0, y0, x1, y1 = tile.window
    rows, columns = tile.layers.shape[2:4]
    row = min(max(int((y - y0) / (y1 - y0) * rows), 0), rows - 1)
    column = min(max(int((x - x0) / (x1 - x0) * columns), 0), columns - 1)
    return tile.compared[:, row, column].float()


def _middle(tile: TileFeatures, cell: int) -> tuple[float, float]:
    """The middle of a cell of a tile, x and y in pixels of its image."""
    x0, y0, x1, y1 = tile.window
    rows, columns = tile.layers.shape[2:4]
    row, column = divmod(cell, columns)
    return x0 + (column + 0.5) * (x1 - x0) / columns, y0 + (row + 0.5) * (y1 - y0) / rows
