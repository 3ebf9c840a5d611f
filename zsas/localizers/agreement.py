"""Whether images of a batch show one and the same: how far they lie from each other, over how far from themselves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zsas.lazy import torch
from zsas.localizers.patches import PatchFeatures, TileFeatures

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.localizers.mutual import Cells

ASKED = 256
"""Cells of an image that are looked for in the rest of it and in the others, drawn evenly from all of its tiles."""
OTHERS, OTHER_CELLS = 3, 12288
"""Other images that each is compared with at most, so that many images are not alike by their number alone, and cells
of them at most."""
MOST = 8
"""Images that are asked at most."""
APART = 2
"""A cell's neighbours up to so many cells away, in x and in y, are no rest of the image: they show the same place."""
DISTINCT = 0.2
"""Fraction of the cells, those that the rest of their image resembles least, that say whether images agree."""
ALIKE, FOREIGN = 1.0, 2.0
"""Images agree where their distinct cells, means of neighbourhoods, are no farther from the others than from the rest
of their own image; from twice as far they show other parts."""
_LEAST = 1e-6


def disagreement(families: Sequence[Sequence[PatchFeatures]]) -> float:
    """How much farther images lie from each other than each from the rest of itself, where it is most distinct.

    A surface is found again in its own image, a part's details only in images of the same part.

    Args:
        families: Each image and its turned copies.

    Returns:
        Median over the images of the mean over the layers of Σ d / Σ w over the fifth of the cells with the highest w,
        d the distance to the nearest cell of the next images and w to the nearest of the rest of the tile; 1 where
        nothing can be said.
    """
    count = len(families)
    found = []
    for i in speakers(count) if count > 1 else ():
        others = [families[(i + j) % count] for j in range(1, min(OTHERS, count - 1) + 1)]
        cells = torch.cat([_looked_at(tile) for f in others for one in f for tile in one.tiles], 1)
        cells = cells[:, :: -(-cells.shape[1] // OTHER_CELLS)]
        tiles = families[i][0].tiles
        pairs = [_distances(tile, cells, max(1, ASKED // len(tiles))) for tile in tiles]
        far, own = (np.concatenate(rows, axis=1) for rows in zip(*pairs, strict=True))
        if own.shape[1]:
            found.append(float(np.mean([_ratio(d, w) for d, w in zip(far, own, strict=True)])))
    return float(np.median(found)) if found else ALIKE


def speakers(count: int) -> list[int]:
    """Numbers of the images that say whether they show one part, drawn evenly."""
    return list(range(0, count, max(1, count // MOST)))[:MOST]


def differ_of(cells: Sequence[Cells]) -> float:
    """See `zsas.localizers.agreement.disagreement`, of the `speakers` of a batch."""
    return disagreement([[_as_features(one)] for one in cells])


def _as_features(cells: Cells) -> PatchFeatures:
    """The cells of an image as if they were its features."""
    image = torch.from_numpy(cells.image)
    return PatchFeatures(
        tuple(
            TileFeatures((0, 0, 1, 1), tile[:1], image, (1, 1), inside=inside)
            for tile, inside in zip_longest(cells.tiles, cells.insides)
        )
    )


def trust_of(ratio: float) -> float:
    """How much images that disagree so much deserve to be believed, in [0, 1]; 0 from `FOREIGN` on."""
    return min(max((FOREIGN - ratio) / (FOREIGN - ALIKE), 0.0), 1.0)


def _ratio(others: NDArray[np.float32], own: NDArray[np.float32]) -> float:
    distinct = own >= np.quantile(own, 1 - DISTINCT)
    return float((others[distinct].sum() + _LEAST) / (own[distinct].sum() + _LEAST))


def _looked_at(tile: TileFeatures) -> Tensor:
    """The cells of a tile that are looked at, fp32 (L, n, W)."""
    cells = tile.compared.float().flatten(1, 2)
    return cells if tile.inside is None else cells[:, torch.from_numpy(tile.inside.ravel())]


def _distances(
    tile: TileFeatures, others: Tensor, most: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of some cells of a tile the distances to other images' cells and to the rest of the tile, each float32 (L, n)."""
    cells = _looked_at(tile)
    inside = np.ones(tile.compared.shape[1:3], bool) if tile.inside is None else tile.inside
    row, column = (torch.from_numpy(at) for at in np.nonzero(inside))
    asked = torch.arange(len(row))[:: -(-len(row) // most)]
    near = (row - row[asked][:, None]).abs() <= APART
    near &= (column - column[asked][:, None]).abs() <= APART
    rest = ~near.all(1)  # a small image may have none
    asked, near = asked[rest], near[rest].to(cells.device)
    found = np.zeros((2, len(cells), len(asked)), np.float32)
    with torch.inference_mode():
        for i, (mine, theirs) in enumerate(zip(cells, others.to(cells.device), strict=True)):
            if len(asked):
                found[0, i] = (1 - (mine[asked] @ theirs.T).amax(1)).cpu().numpy()
                own = (mine[asked] @ mine.T).masked_fill(near, -1.0)
                found[1, i] = (1 - own.amax(1)).cpu().numpy()
    return found[0], found[1]
