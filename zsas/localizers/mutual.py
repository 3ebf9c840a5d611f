"""A batch of unlabelled images as further evidence: what one image shows and most others do not (MuSc, 2401.16753).

Each cell of an image is looked for in the other images. What is normal is found in most of them; what is anomalous is
found in few. No text and no reference is needed, but a batch of one product whose images are mostly good.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError
from zsas.lazy import F, torch
from zsas.localizers.agreement import differ_of, speakers, trust_of
from zsas.localizers.base import Scored
from zsas.localizers.calming import calibrated, calmed, in_frame, likely, lowered
from zsas.localizers.looking import cells_inside
from zsas.localizers.patches import PatchFeatures, TileFeatures, seen
from zsas.stages import HeatMap, Stage, StageSpec

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOURHOODS = (1, 3, 5)
"""Sides r of the neighbourhoods that are averaged around each cell, in cells."""
LOWEST = 0.3
"""Fraction of the other images, those in which a cell is found best, whose distances count."""
OTHERS = 30
"""Other images that each image is compared with at most, drawn at random."""
CELLS = 1024
"""Cells of one image that are compared at most, whatever the number of its tiles."""
LEAST, ADVISED, MOST = 5, 8, 500
"""Images of a batch: at least, from which on the result can be relied on, and at most: all cells are in memory."""
NEIGHBOURS = (1, 2)
"""Numbers k of the most similar images, the image itself among them, over which image scores are averaged; the paper's
third, 3, blurs the scores of small batches where all images of a part look alike to CLIP."""
TOP_CELLS = 0.005
"""Fraction of a tile's cells, those with the highest scores, whose mean stands for it in the image score."""
LIMIT = 3.0
"""An image whose score lies so many spreads above those of the better half reaches the usual limit."""
WEIGHT = 0.5
"""Weight of the batch in the image score; the rest is what is known of the image alone."""
CALMED = "Where most images of the batch look alike it was lowered."
_QUARTILES = 1.349
"""Distance of the quartiles of a normal distribution in standard deviations."""
_LEAST_SPREAD = 1e-3

MUTUAL = StageSpec(
    "mutual",
    "Compared with the batch",
    "u",
    "",
    "How rarely each place is found in the other images of the batch.",
    "Left out: the image was looked at alone.",
)


def neighbourhoods(cells: Tensor, sizes: Sequence[int] = NEIGHBOURHOODS) -> Tensor:
    """LNAMD: each cell as the means of its neighbourhoods, normalised.

    Args:
        cells: Patch features of one tile, (L, g_h, g_w, D).
        sizes: Sides r, odd; places beyond the border count as zeros.

    Returns:
        L2-normalised, fp32 (R, L, g_h, g_w, D).
    """
    maps = cells.float().permute(0, 3, 1, 2)
    maps = F.layer_norm(maps, maps.shape[1:])
    means = [F.avg_pool2d(maps, r, stride=1, padding=r // 2) for r in sizes]
    return F.normalize(torch.stack(means), dim=2).permute(0, 1, 3, 4, 2)


def lowest_mean(distances: Tensor) -> Tensor:
    """MSM: mean of the lowest 30 % of the distances to the other images, (n, …), one row for each; at least of one."""
    count = max(1, math.floor(LOWEST * len(distances)))
    return distances.topk(count, dim=0, largest=False).values.mean(0)


def smoothed(
    scores: NDArray[np.float64],
    embeddings: NDArray[np.float64],
    neighbours: Sequence[int] = NEIGHBOURS,
) -> NDArray[np.float64]:
    """RsCIN: image scores averaged over the k most similar images, weighted by their cosine; mean over k.

    Args:
        scores: (n,).
        embeddings: L2-normalised image embeddings, (n, D).
        neighbours: Numbers k, the image itself counted; more than n means all.
    """
    weights = np.maximum(embeddings @ embeddings.T, 0.0)
    np.fill_diagonal(weights, 1.0)
    found = []
    for k in neighbours:
        kept = weights.copy()
        if k < len(scores):
            np.put_along_axis(kept, np.argpartition(kept, -k, axis=1)[:, :-k], 0.0, axis=1)
        found.append(kept @ scores / kept.sum(1))
    return np.mean(found, axis=0)


@dataclass(frozen=True)
class Cells:
    """What is compared of one image.

    Attributes:
        key: Digest of the image's pixels.
        tiles: For each tile its cells, L2-normalised, fp16 (R, L, g_h, g_w, D); R is 1 where the neighbourhoods are
            averaged before they are compared.
        image: L2-normalised image embedding, float64 (D,); with a region of interest of what lies inside alone.
        insides: For each tile the cells that are looked at, bool (g_h, g_w); None for all of them.
    """

    key: str
    tiles: tuple[Tensor, ...]
    image: NDArray[np.float64]
    insides: tuple[NDArray[np.bool_] | None, ...] = ()

    @property
    def flat(self) -> Tensor:
        """All cells that are looked at, fp32 (R·L, n, D)."""
        rows = [tile.float().flatten(0, 1).flatten(1, 2) for tile in self.tiles]
        for i, inside in enumerate(self.insides):
            if inside is not None:
                rows[i] = rows[i][:, torch.from_numpy(np.flatnonzero(inside))]
        return torch.cat(rows, dim=1)


def cells_of(features: Any, key: str, budget: int = CELLS) -> Cells:
    """The cells of one image, at most `budget` of all its tiles together: more are averaged into fewer.

    Raises:
        ZsasError: If there are no patch features.
    """
    if not isinstance(features, PatchFeatures):
        raise ZsasError(
            "This system has no patch features that images could be compared by; use another one, as auto, "
            "with batch scoring."
        )
    each = max(1, budget // len(features.tiles))
    with torch.inference_mode():
        tiles = tuple(_fewer(tile, each).half().cpu() for tile in features.tiles)
    insides = tuple(
        None if one.inside is None else cells_inside(one.inside, tile.shape[2:4])
        for one, tile in zip(features.tiles, tiles, strict=True)
    )
    image = np.mean([tile.image.double().cpu().numpy() for tile in features.tiles], axis=0)
    if any(inside is not None for inside in insides):
        # The embedding of a tile has seen what lies outside.
        image = Cells(key, tiles, image, insides).flat[-1].double().mean(0).numpy()
    return Cells(key, tiles, image / max(float(np.linalg.norm(image)), 1e-12), insides)


def _fewer(tile: TileFeatures, budget: int) -> Tensor:
    found = neighbourhoods(tile.compared).mean(0, keepdim=True)
    _, _, height, width, _ = found.shape
    if height * width > budget:
        scale = math.sqrt(budget / (height * width))
        grid = (max(1, int(height * scale)), max(1, int(width * scale)))
        maps = F.adaptive_avg_pool2d(found.flatten(0, 1).permute(0, 3, 1, 2), grid)
        found = maps.permute(0, 2, 3, 1).unflatten(0, found.shape[:2])
    return F.normalize(found, dim=-1)


def mutual_scores(cells: Sequence[Cells], others: int = OTHERS) -> list[list[NDArray[np.float32]]]:
    """MSM of a batch: for each image and each of its tiles the scores of its cells, float32 (g_h, g_w), in [0, 2].

    A cell's distance to another image is the Euclidean one to the nearest cell there; its score is the mean of the
    lowest 30 % of these, then the mean over layers and neighbourhoods. Each product of two images serves both of them.

    Args:
        cells: Of each image.
        others: How many others each image is compared with at most; they are drawn with a fixed seed.
    """
    count = len(cells)
    found: list[list[Tensor]] = [[] for _ in cells]
    order, reach = _circle(count, others)
    with torch.inference_mode():
        flat = [one.flat for one in cells]
        for step in range(1, reach + 1):
            halves = 2 * step == count  # the opposite one of a circle is met from both sides
            for at in range(count // 2 if halves else count):
                i, j = int(order[at]), int(order[(at + step) % count])
                cosines = flat[i] @ flat[j].transpose(1, 2)
                for image, axis in ((i, 2), (j, 1)):
                    nearest = cosines.amax(dim=axis)
                    found[image].append((2 - 2 * nearest).clamp_min(0).sqrt())
        scores = [lowest_mean(torch.stack(rows)).mean(0).numpy() for rows in found]
    return [_by_tile(one, image) for one, image in zip(scores, cells, strict=True)]


def _circle(count: int, others: int) -> tuple[NDArray[np.int64], int]:
    """The images in a circle of random order, and how many neighbours on either side each is compared with."""
    return np.random.default_rng(0).permutation(count), min(count // 2, max(1, others // 2))


def others_of(index: int, count: int, others: int = OTHERS) -> list[int]:
    """Numbers of the images that one of a batch is compared with in `mutual_scores`."""
    order, reach = _circle(count, others)
    at = int(np.flatnonzero(order == index)[0])
    around = [(at + sign * step) % count for step in range(1, reach + 1) for sign in (1, -1)]
    return list(dict.fromkeys(int(order[place]) for place in around))


def scores_against(cells: Cells, others: Sequence[Cells]) -> list[NDArray[np.float32]]:
    """`mutual_scores` of one image alone, for workers that take an image each."""
    with torch.inference_mode():
        flat = cells.flat
        rows = [
            (2 - 2 * (flat @ one.flat.transpose(1, 2)).amax(dim=2)).clamp_min(0).sqrt()
            for one in others
        ]
        scores = lowest_mean(torch.stack(rows)).mean(0).numpy()
    return _by_tile(scores, cells)


def seconds_to_compare(cells: Sequence[Cells], others: int = OTHERS) -> float:
    """About how long `mutual_scores` is going to take, from one of its products."""
    if len(cells) < 2:
        return 0.0
    began = time.perf_counter()
    with torch.inference_mode():
        cosines = cells[0].flat @ cells[-1].flat.transpose(1, 2)
        cosines.amax(dim=2), cosines.amax(dim=1)
    pairs = len(cells) * min(len(cells) - 1, others) / 2
    return pairs * (time.perf_counter() - began)


def _by_tile(scores: NDArray[np.float32], cells: Cells) -> list[NDArray[np.float32]]:
    """The scores of each tile's cells; those that are not looked at have the lowest score of all."""
    grids = [(int(tile.shape[2]), int(tile.shape[3])) for tile in cells.tiles]
    insides = [
        np.ones(grid, bool) if inside is None else inside
        for grid, inside in zip_longest(grids, cells.insides)
    ]
    parts = np.split(scores, np.cumsum([np.count_nonzero(one) for one in insides])[:-1])
    found = []
    for part, inside in zip(parts, insides, strict=True):
        tile = np.full(inside.shape, scores.min(), np.float32)
        tile[inside] = part
        found.append(tile)
    return found


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch that was compared with itself.

    Attributes:
        keys: Digests of the images' pixels.
        made_by: Models, localizer and encoding settings; other encodings cannot be decided with it.
        scores: For each image and each of its tiles the scores of its cells, float32 (g_h, g_w), in [0, 2].
        images: Scores of the images as a whole.
        level: Middle and spread of the scores of all cells of the batch.
        usual: Middle and spread of the scores of its better half of images, which stands for the good ones.
        region: Key of the region of interest that they were looked at in, "" for whole images.
        differ: See `zsas.localizers.agreement.disagreement`.
    """

    keys: tuple[str, ...]
    made_by: tuple[object, ...]
    scores: tuple[tuple[NDArray[np.float32], ...], ...]
    images: tuple[float, ...]
    level: tuple[float, float]
    usual: tuple[float, float]
    region: str = ""
    differ: float = 1.0

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"<Batch of {len(self)} images, key {self.key}>"

    @property
    def trust(self) -> float:
        """How much the batch deserves to be believed, in [0, 1]: nothing where it shows different parts."""
        return trust_of(self.differ)

    @property
    def key(self) -> str:
        """Digest of all images, in their order, and of what encoded them."""
        text = "|".join((*self.keys, *map(str, self.made_by), self.region))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def check_count(count: int, copies: int = 0) -> None:
    """Whether there are enough images to be compared with each other, and not too many.

    Args:
        count: How many there are.
        copies: How many more were left out because they are the same as others.

    Raises:
        ZsasError: If not.
    """
    if count < LEAST:
        out = f", copies of others ({copies}) left out" if copies else ""
        raise ZsasError(
            f"Images are compared with each other where there are at least {LEAST}, better {ADVISED}, of the same "
            f"product; there {'is' if count == 1 else 'are'} {count}{out}. Add images, or leave batch scoring out."
        )
    if count > MOST:
        raise ZsasError(
            f"At most {MOST} images are compared with each other, not {count}; split them."
        )


def compare_batch(
    cells: Sequence[Cells],
    made_by: tuple[object, ...],
    others: int = OTHERS,
    region: str = "",
    scores: Sequence[list[NDArray[np.float32]]] | None = None,
    differ: float | None = None,
) -> Batch:
    """Compare the images of a batch with each other.

    An image that is given several times counts once: its copy would be found in it as if it were normal.

    Args:
        cells: Of at least `LEAST` different images of the same product, mostly good.
        made_by: See `Batch`.
        others: See `mutual_scores`.
        region: See `Batch`.
        scores: What `mutual_scores` gives, where others have computed it.
        differ: What `differ_of` gives, where only others have the cells.

    Raises:
        ZsasError: If there are too few.
    """
    given, cells = len(cells), list({one.key: one for one in cells}.values())
    check_count(len(cells), given - len(cells))
    scores = scores or mutual_scores(cells, others)
    values = np.concatenate(
        [
            seen(tile, inside)
            for tiles, one in zip(scores, cells, strict=True)
            for tile, inside in zip_longest(tiles, one.insides)
        ]
    )
    low, middle, high = np.percentile(values, (25, 50, 75))
    tops = np.array([_top(tiles) for tiles in scores])
    images = smoothed(tops, np.stack([one.image for one in cells]))
    return Batch(
        tuple(one.key for one in cells),
        made_by,
        tuple(tuple(tiles) for tiles in scores),
        tuple(float(one) for one in images),
        (float(middle), max(float(high - low) / _QUARTILES, _LEAST_SPREAD)),
        _better_half(images),
        region,
        differ_of([cells[i] for i in speakers(len(cells))]) if differ is None else differ,
    )


def _top(tiles: Sequence[NDArray[np.float32]]) -> float:
    """Mean of the highest cells of the most deviating tile."""
    tops = [np.sort(one.ravel())[-max(1, round(TOP_CELLS * one.size)) :] for one in tiles]
    return max(float(top.mean()) for top in tops)


def _better_half(images: NDArray[np.float64]) -> tuple[float, float]:
    """Median of the lower half of the scores, and how far they lie from it."""
    half = np.sort(images)[: max(2, math.ceil(len(images) / 2))]
    middle = float(np.median(half))
    spread = float(np.sqrt(np.mean((half - middle) ** 2)))
    return middle, max(spread, 0.05 * abs(middle), _LEAST_SPREAD)


def weigh(scored: Scored, features: Any, batch: Batch, key: str) -> Scored:
    """A map and evidence, weighed with the batch that the image belongs to.

    Args:
        scored: The localizer's own, or what references made of it.
        features: Of the image.
        batch: From `compare_batch`.
        key: Digest of the image's pixels.

    Raises:
        ZsasError: If the image is not one of the batch.

    Returns:
        map: Lowered as by good images, see `zsas.localizers.calming.calmed`, z the cells' scores in spreads above the
            batch's middle.
        evidence: `map`, lowered as the map's highest thousandth is; `batch`, the calibrated score in [0, 1],
            `batch_weight`, its weight in the image score, and `normal_ratio`, how many times as far the image is from
            the others as the better half of the batch.
    """
    if key not in batch.keys:
        raise ZsasError(
            "This image is not one of the batch that was compared with itself; compare the batch again with it."
        )
    index = batch.keys.index(key)
    height, width = scored.map.shape
    middle, spread = batch.level
    z_tiles = [(one - middle) / spread for one in batch.scores[index]]
    z, peaks = in_frame(z_tiles, features, height, width)
    anomaly_map, lower = calmed(scored.map, z, batch.trust, peaks)
    usual, apart = batch.usual
    ratio = batch.images[index] / max(usual, _LEAST_SPREAD)
    evidence = {
        "map_alone": scored.evidence["map"],
        **scored.evidence,
        "map": scored.evidence["map"] * lower,
        "batch": calibrated(batch.images[index], usual, apart, LIMIT),
        "batch_weight": WEIGHT,
        "normal_ratio": ratio,
    }
    stages = lowered(scored.stages, anomaly_map, CALMED)
    return Scored(anomaly_map, evidence, (_stage(likely(z), ratio, batch), *stages))


def _stage(rarely: NDArray[np.float32], ratio: float, batch: Batch) -> Stage:
    caption = (
        f"Looked for in the other {len(batch) - 1} images of the batch: {ratio:.1f} times what its better half differs "
        "among itself."
    )
    if len(batch) < ADVISED:
        caption += f" {len(batch)} images are few; with {ADVISED} or more this says more."
    if not batch.trust:
        caption += " They seem to show different parts, so the map was left as it was."
    data = {"images": len(batch), "normal_ratio": round(ratio, 4)}
    return Stage(MUTUAL, caption, (HeatMap(rarely),), data)
