"""A few images of good parts as further evidence: how far each place is from everything they show.

Distances are cosines to the nearest cell of a memory bank. What they mean is taken from the references themselves: each
is compared with the others (leave one out), and a distance counts in standard deviations above that level. References
that differ among themselves therefore say little, and say so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError
from zsas.lazy import F, torch
from zsas.localizers.base import MAP, Scored, top_mean
from zsas.localizers.patches import PatchFeatures, TileFeatures, blend
from zsas.stages import HeatMap, Stage, StageSpec

if TYPE_CHECKING:
    from torch import Tensor

BANK_CELLS = 4096
"""Cells that the memory bank keeps: more change little and cost time in proportion."""
GATE_Z = 2.0
"""Standard deviations above the references' own level at which the gate is half open."""
MOST_LOWERED = 0.5
"""Fraction of the map that references can take away at most: they can calm a place, not hide it."""
WEIGHT = 0.7
"""Weight of references that agree with each other in the image score; the rest is the zero-shot score."""
LIMIT_Z = 3.0
"""An image whose score lies so many standard deviations above the references' own reaches the usual limit."""
USUAL_LIMIT = 0.7
DISAGREES = 6.0
"""A reference whose own score lies so many robust deviations above the others' is given no weight."""
_MANY = 4096

REFERENCE = StageSpec(
    "references",
    "Distance from good images",
    "d",
    "",
    "How far each place is from everything that the good images show.",
    "Left out: no good images were given.",
)


@dataclass(frozen=True)
class References:
    """Images of good parts, remembered.

    Attributes:
        keys: Digests of the images' pixels.
        made_by: Models, localizer and encoding settings; other encodings cannot be compared with it.
        features: What the localizer keeps of each image.
        bank: Cells of the images that count, one tensor a layer, L2-normalised, fp16 (n, D).
        level: Mean and standard deviation of the references' own distances, one pair a layer.
        scores: Each reference's own score against the others: mean of its highest z.
        ignored: Indices of references that disagree with the others and are given no weight.
        names: What the images are called, for sentences.
    """

    keys: tuple[str, ...]
    made_by: tuple[object, ...]
    features: tuple[Any, ...]
    bank: tuple[Tensor, ...]
    level: tuple[tuple[float, float], ...]
    scores: tuple[float, ...]
    ignored: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def key(self) -> str:
        """Digest of all images and of what encoded them."""
        text = "|".join((*self.keys, *map(str, self.made_by)))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def usual(self) -> tuple[float, float]:
        """Mean and spread of the scores of the references that count."""
        kept = [s for i, s in enumerate(self.scores) if i not in self.ignored]
        spread = float(np.std(kept)) if len(kept) > 1 else 0.0
        mean = float(np.mean(kept))
        return mean, max(spread, 0.15 * abs(mean), 0.1)

    @property
    def trust(self) -> float:
        """How much the references deserve to be believed, in [0, 1].

        1 where their own scores against each other vary by less than a quarter of their mean, 0 where by half of it.
        """
        mean, spread = self.usual
        return min(max(2.0 - 4.0 * spread / max(abs(mean), 1e-6), 0.0), 1.0)


def remember(
    features: Sequence[Any],
    copies: Sequence[Any],
    *,
    keys: Sequence[str],
    made_by: tuple[object, ...],
    names: Sequence[str] = (),
) -> References:
    """A memory of images of good parts.

    Args:
        features: Of the images.
        copies: Where there is only one image, features of changed copies of it (shifted, mirrored, lighter), from which
            the normal level comes instead.
        keys: Digests of the images' pixels.
        made_by: See `References`.
        names: What the images are called.

    Raises:
        ZsasError: If the features cannot be compared cell by cell.
    """
    if not all(isinstance(one, PatchFeatures) for one in features):
        return References(tuple(keys), made_by, tuple(features), (), (), (), names=tuple(names))
    if len(features) == 1:
        others = [(copy, _bank(features)) for copy in copies]
    else:
        others = [(one, _bank(_without(features, i))) for i, one in enumerate(features)]
    distances = [_distances(one, bank) for one, bank in others]
    level = _level(distances)
    scores = [_score(_z(tiles, level)) for tiles in distances]
    ignored = _disagreeing(scores) if len(features) > 3 else ()
    if ignored:
        kept = [i for i in range(len(features)) if i not in ignored]
        level = _level([distances[i] for i in kept])
        scores = [_score(_z(tiles, level)) for tiles in distances]
    bank = _bank([one for i, one in enumerate(features) if i not in ignored])
    return References(
        tuple(keys), made_by, tuple(features), bank, level, tuple(scores), ignored, tuple(names)
    )


NO_REFERENCES = References((), (), (), (), (), ())
"""An empty memory: decisions are those without one."""


def compare(scored: Scored, features: Any, references: References, key: str = "") -> Scored:
    """The zero-shot map and evidence, weighed with the references.

    Args:
        scored: The localizer's own.
        features: Of the image.
        references: Made with the same models and settings.
        key: Digest of the image's pixels; a reference itself has the distance 0.

    Raises:
        ZsasError: If the system has no patch features to compare.

    Returns:
        map: Map_a × (1 − t/2 + t/2 · sigmoid(z − 2)), z the distance in standard deviations above the references' own
            level and t how much they deserve to be believed.
        evidence: `reference`, the calibrated score in [0, 1], `reference_weight`, its weight in the image score, and
            `normal_ratio`, how many times as far the image is from the references as they are from each other.
    """
    if not isinstance(features, PatchFeatures):
        raise ZsasError(
            "This system has no patch features that good images could be compared with; use another one, as auto or "
            "winclip, with references."
        )
    distances = _distances(features, references.bank)
    if key in references.keys:
        distances = [np.zeros_like(tile) for tile in distances]
    z_tiles = _z(distances, references.level)
    height, width = scored.map.shape
    windows = [tile.window for tile in features.tiles]
    frames = [_to_frame(one, tile) for one, tile in zip(z_tiles, features.tiles, strict=True)]
    z = blend(frames, windows, height, width)
    lowered = MOST_LOWERED * references.trust
    gate = 1 - lowered + lowered / (1 + np.exp(-np.clip(z - GATE_Z, -30, 30)))
    anomaly_map = (scored.map * gate).astype(np.float32)
    anomaly_map.setflags(write=False)
    score = _score(z_tiles)
    mean, spread = references.usual
    usual = math.log(USUAL_LIMIT / (1 - USUAL_LIMIT))
    calibrated = 1 / (1 + math.exp(-np.clip((score - mean) / spread - LIMIT_Z + usual, -30, 30)))
    ratio = _ratio(distances, references)
    evidence = {
        **scored.evidence,
        "reference": float(calibrated),
        "reference_weight": WEIGHT * references.trust,
        "normal_ratio": ratio,
    }
    stages = tuple(
        _gated(stage, anomaly_map) if stage.spec == MAP else stage for stage in scored.stages
    )
    return Scored(anomaly_map, evidence, (_stage(z, ratio, references), *stages))


def _gated(stage: Stage, anomaly_map: NDArray[np.float32]) -> Stage:
    others = tuple(layer for layer in stage.layers if not isinstance(layer, HeatMap))
    caption = (
        stage.caption + " Where it looks like the good images it was lowered, at most by half."
    )
    data = {**stage.data, "peak": round(float(anomaly_map.max()), 6)}
    return replace(stage, caption=caption, layers=(HeatMap(anomaly_map), *others), data=data)


def _stage(z: NDArray[np.float32], ratio: float, references: References) -> Stage:
    count = len(references)
    rests = f"{count} good images" if count > 1 else "one good image and changed copies of it"
    caption = f"Compared with {rests}: {ratio:.1f} times what they differ among themselves."
    if references.trust < 0.5:
        caption += " They differ so much among themselves that they were given little weight."
    for i in references.ignored:
        name = references.names[i] if i < len(references.names) else f"number {i + 1}"
        caption += f" {name} disagrees with the others and was given no weight."
    shown = (1 / (1 + np.exp(-np.clip(z - GATE_Z, -30, 30)))).astype(np.float32)
    data = {
        "references": count,
        "ignored": [int(i) for i in references.ignored],
        "normal_ratio": round(ratio, 4),
    }
    return Stage(REFERENCE, caption, (HeatMap(shown),), data)


def _without(features: Sequence[PatchFeatures], left_out: int) -> list[PatchFeatures]:
    return [one for i, one in enumerate(features) if i != left_out]


def _cells(tile: TileFeatures) -> Tensor:
    """The first view's cells, fp32 (L, n, D)."""
    return tile.layers[0].float().flatten(1, 2)


def _bank(features: Sequence[PatchFeatures]) -> tuple[Tensor, ...]:
    """At most `BANK_CELLS` cells of some images, the same of every layer; drawn evenly with a fixed seed."""
    cells = torch.cat([_cells(tile) for one in features for tile in one.tiles], dim=1)
    if cells.shape[1] > BANK_CELLS:
        generator = torch.Generator().manual_seed(0)
        kept = torch.randperm(cells.shape[1], generator=generator)[:BANK_CELLS]
        cells = cells[:, kept.to(cells.device)]
    return tuple(F.normalize(layer, dim=-1).half() for layer in cells)


def _distances(features: PatchFeatures, bank: Sequence[Tensor]) -> list[NDArray[np.float32]]:
    """1 − cosine to the nearest cell of the bank, for each tile float32 (L, g_h, g_w)."""
    found = []
    with torch.inference_mode():
        for tile in features.tiles:
            layers = []
            for cells, kept in zip(_cells(tile), bank, strict=True):
                nearest = [
                    (F.normalize(part, dim=-1) @ kept.float().T).amax(dim=1)
                    for part in cells.split(_MANY)
                ]
                layers.append(1 - torch.cat(nearest))
            grid = tuple(tile.layers.shape[2:4])
            found.append(torch.stack(layers).unflatten(1, grid).cpu().numpy().astype(np.float32))
    return found


def _level(distances: Sequence[Sequence[NDArray[np.float32]]]) -> tuple[tuple[float, float], ...]:
    """Mean and standard deviation of each layer's distances over all cells of the references."""
    layers = distances[0][0].shape[0]
    pairs = []
    for layer in range(layers):
        values = np.concatenate([tile[layer].ravel() for one in distances for tile in one])
        pairs.append((float(values.mean()), max(float(values.std()), 1e-3)))
    return tuple(pairs)


def _z(
    distances: Sequence[NDArray[np.float32]], level: Sequence[tuple[float, float]]
) -> list[NDArray[np.float32]]:
    """Mean over the layers of the distances in standard deviations above the level, for each tile (g_h, g_w)."""
    mean = np.array([m for m, _ in level], np.float32)[:, None, None]
    deviation = np.array([s for _, s in level], np.float32)[:, None, None]
    return [((tile - mean) / deviation).mean(0) for tile in distances]


def _score(z_tiles: Sequence[NDArray[np.float32]]) -> float:
    """Mean of the highest cells of the most deviating tile; one cell is a larger fraction than one pixel."""
    tops = [np.sort(z.ravel())[-max(1, round(0.005 * z.size)) :] for z in z_tiles]
    return max(float(top.mean()) for top in tops)


def _ratio(distances: Sequence[NDArray[np.float32]], references: References) -> float:
    """The image's highest distances over the references' mean distance, mean over the layers."""
    ratios = []
    for layer, (mean, deviation) in enumerate(references.level):
        own = mean + 2 * deviation
        ratios.append(max(top_mean(tile[layer]) for tile in distances) / max(own, 1e-6))
    return float(np.mean(ratios))


def _disagreeing(scores: Sequence[float]) -> tuple[int, ...]:
    middle = float(np.median(scores))
    spread = 1.4826 * float(np.median(np.abs(np.array(scores) - middle)))
    least = max(spread, 0.1 * abs(middle), 0.1)
    return tuple(i for i, score in enumerate(scores) if score > middle + DISAGREES * least)


def _to_frame(z: NDArray[np.float32], tile: TileFeatures) -> NDArray[np.float32]:
    height, width = tile.frame_hw
    return cv2.resize(z, (width, height), interpolation=cv2.INTER_LINEAR)


def changed_copies(image: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Copies of one image that are still good: mirrored, shifted, lighter, darker and noisy; uint8 RGB (H, W, 3)."""
    height, width = image.shape[:2]
    generator = np.random.default_rng(0)
    shift = np.array([[1, 0, 0.03 * width], [0, 1, 0.03 * height]], np.float32)
    shifted = cv2.warpAffine(image, shift, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    noise = generator.normal(0, 4, image.shape)
    changed = [image[:, ::-1], shifted, image * 1.08, image * 0.92, image + noise]
    return [np.ascontiguousarray(np.clip(np.rint(x), 0, 255).astype(np.uint8)) for x in changed]
