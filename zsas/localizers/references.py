"""A few images of good parts as further evidence: how far each place is from everything they show.

Distances are cosines to the nearest cell of a memory bank. What they mean is taken from the references themselves: each
is compared with the others (leave one out), and a distance counts in standard deviations above that level. Whether they
are worth believing is tried on copies of them with planted flaws, see `zsas.localizers.planting`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, setting
from zsas.errors import ZsasError
from zsas.localizers.bank import CANDIDATES, Bank, bank_of, distances_to
from zsas.localizers.base import Scored
from zsas.localizers.calming import (
    calm,
    calmed,
    in_frame,
    likely,
    lowered,
)
from zsas.localizers.patches import PatchFeatures, seen
from zsas.localizers.planting import Planted, gain, trust_in
from zsas.stages import HeatMap, Stage, StageSpec

if TYPE_CHECKING:
    from torch import Tensor

_LEAST = 1e-3
TOP = 0.005
"""Fraction of an image's cells, the farthest ones, that say how far it is from the references."""
CALMED = "Where it looks like the good images it was lowered."
KEPT_BYTES = 250_000_000
"""Features of good images that are kept at most, to show the most similar place; only the bank is compared with."""
DISAGREES, ROBUST = 3.0, 3.0
"""A reference that lies so many times as far from the others as the middle one, and so many robust deviations of
logarithms above it, is given no weight."""


@dataclass(frozen=True)
class ReferenceSettings(SettingsGroup, key="references", title="Good images"):
    """How good images are compared with; read where some are given."""

    reference_rotation: int = setting(
        0,
        "Turned copies",
        "Degrees between turned copies of each good image that are remembered too, for parts that lie at any angle.",
        low=0,
        high=180,
        step=15,
        unit="°",
        zero="none",
        floor=15,
    )
    reference_window: float = setting(
        0.0,
        "Only nearby places",
        "How far away on the good images a place is looked for, as a fraction of the image's size, for aligned parts.",
        low=0.0,
        high=1.0,
        step=0.05,
        zero="anywhere",
        floor=0.02,
    )


REFERENCE = StageSpec(
    "references",
    "Distance from good images",
    "d",
    "",
    "How far each place is from everything that the good images show.",
    "Left out: no good images were given.",
)


@dataclass(frozen=True, eq=False)
class References:
    """Images of good parts, remembered.

    Attributes:
        keys: Digests of the images' pixels.
        made_by: Models, localizer and encoding settings; other encodings cannot be compared with it.
        features: What the localizer keeps of each image.
        bank: Cells of the images that count, one tensor a layer, L2-normalised, fp16 (n, D).
        places: Where on their images these cells lie, x and y in [0, 1], fp32 (n, 2).
        window: How far away a cell is looked for, in these units; 0 for anywhere.
        level: Mean and standard deviation of the references' own distances, one pair a layer.
        usual: How far the references that count are from the others, see `_far`: their geometric mean.
        gained: How much they make planted flaws stand out, see `zsas.localizers.planting.gain`; infinite where nothing
            was planted.
        ignored: Indices of references that disagree with the others and are given no weight.
        names: What the images are called, for sentences.
        turned: Degrees between the turned copies that were remembered too; 0 for none.
        region: Key of the region of interest that they were looked at in, "" for whole images.
        alone: What the localizer says of each by itself, evidence as in `Scored`, with the settings that they were
            remembered with; of changed copies where there is one image; with a way of its own of each among the others.
        ratios: How many times as far each is from the others as they are from each other, as `normal_ratio`.
    """

    keys: tuple[str, ...]
    made_by: tuple[object, ...]
    features: tuple[Any, ...]
    bank: tuple[Tensor, ...]
    level: tuple[tuple[float, float], ...]
    ignored: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    places: Tensor | None = None
    window: float = 0.0
    turned: int = 0
    region: str = ""
    alone: tuple[Mapping[str, float], ...] = field(default=(), compare=False)
    ratios: tuple[float, ...] = ()
    usual: float = 1.0
    gained: float = math.inf

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return (
            f"<References: {len(self)} good image{'' if len(self) == 1 else 's'}, key {self.key}>"
        )

    @property
    def key(self) -> str:
        """Digest of all images and of what encoded them."""
        how = (self.window, self.turned, self.region)
        text = "|".join((*self.keys, *map(str, (*self.made_by, *how))))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def named(self) -> tuple[tuple[str, str], ...]:
        """Name, "" where it has none, and digest of each image."""
        return tuple(zip_longest(self.names, self.keys, fillvalue=""))

    @cached_property
    def compared(self) -> Bank:
        """What other images are compared with."""
        return Bank(self.bank, self.places)

    @property
    def own(self) -> tuple[Any, ...]:
        """What a localizer with a way of its own compares with: features, or a bank of the cells that it keeps."""
        if not self.bank:
            return self.features
        return (Bank(self.bank, self.places, images=len(self)),)

    @property
    def own_ratios(self) -> tuple[float, ...]:
        """`ratios` of the references that count."""
        return tuple(one for i, one in enumerate(self.ratios) if i not in self.ignored)

    @property
    def trust(self) -> float:
        """How much the references deserve to be believed, in [0, 1]: nothing where planted flaws do not stand out."""
        return trust_in(self.gained)


# Long because of what it is told; the calibration is one walk.
def remember(
    features: Sequence[Any],
    copies: Sequence[Any] = (),
    *,
    keys: Sequence[str],
    made_by: tuple[object, ...],
    names: Sequence[str] = (),
    turned: Sequence[Sequence[Any]] = (),
    how: ReferenceSettings | None = None,
    region: str = "",
    alone: Sequence[tuple[Mapping[str, float], NDArray[np.float32] | None]] = (),
    planted: Sequence[Planted] = (),
    own_way: bool = False,
) -> References:
    """A memory of images of good parts.

    Args:
        features: Of the images.
        copies: Where there is only one image, features of changed copies of it (shifted, mirrored, lighter), from which
            the normal level comes instead.
        keys: Digests of the images' pixels.
        made_by: See `References`.
        names: What the images are called.
        turned: For each image features of turned copies of it, which are remembered with it.
        how: Where cells are looked for, and how far apart the copies were turned.
        region: See `References`.
        alone: Of each image, or of each copy of one, what the localizer says of it, evidence and map.
        planted: Copies of some images with flaws, where there are at least two.
        own_way: Whether the localizer compares with them itself; what it keeps is then remembered as it is.

    Raises:
        ZsasError: If the features cannot be compared cell by cell.
    """
    how = how or ReferenceSettings()
    facts: dict[str, Any] = {
        "names": tuple(names),
        "window": how.reference_window,
        "turned": how.reference_rotation,
        "region": region,
        "alone": tuple(evidence for evidence, _ in alone),
    }
    if not all(isinstance(one, PatchFeatures) for one in features):
        return References(tuple(keys), made_by, tuple(features), (), (), **facts)
    families = [[one, *more] for one, more in zip_longest(features, turned, fillvalue=())]
    if own_way:
        bank = bank_of(families, CANDIDATES)
        return References(
            tuple(keys), made_by, (), bank.layers, (), (), places=bank.places, **facts
        )
    # An image that is given twice is one image: left out among the others, it is left out with its doubles.
    firsts = [list(keys).index(key) for key in keys]
    single = len(set(keys)) == 1
    tested = [(-1, copy) for copy in copies] if single else list(zip(firsts, features, strict=True))
    counted = [counted_cells(one) for _, one in tested]
    ignored: tuple[int, ...] = ()
    while True:  # a second time where some disagree, as if they had not been given
        counts = [i for i in range(len(tested)) if i not in ignored]
        kept = [0] if single else sorted({firsts[i] for i in counts})
        bank = bank_of([families[i] for i in kept])
        numbers = {image: number for number, image in enumerate(kept)}
        distances = [
            distances_to(one, bank, how.reference_window, numbers.get(i, -1)) for i, one in tested
        ]
        level = _level([distances[i] for i in counts], [counted[i] for i in counts])
        pairs = zip(distances, counted, strict=True)
        apart = [_far(tiles, cells, level) for tiles, cells in pairs]
        if ignored or len(set(keys)) <= 3 or not (ignored := _disagreeing(apart)):
            break
    usual = math.exp(float(np.mean([_log(apart[i]) for i in counts])))
    asked = [(one, numbers[first]) for one in planted if (first := firsts[one.image]) in numbers]
    found = References(
        tuple(keys),
        made_by,
        tuple(features) if sum(one.nbytes for one in features) <= KEPT_BYTES else (),
        bank.layers,
        level,
        ignored,
        places=bank.places,
        ratios=tuple(one / usual for one in apart),
        usual=usual,
        gained=_gained(asked, bank, level, how.reference_window) if len(kept) > 1 else math.inf,
        **facts,
    )
    told = [
        {**evidence, "map": evidence["map"] * calm(one_map, _z(tiles, level), one, found.trust)}
        for (evidence, one_map), tiles, (_, one) in zip(alone, distances, tested, strict=False)
    ]
    return replace(found, alone=tuple(told))


def _gained(
    asked: Sequence[tuple[Planted, int]],
    bank: Bank,
    level: Sequence[tuple[float, float]],
    window: float,
) -> float:
    """How much planted flaws stand out, each copy compared with the other images of the bank."""
    if not asked:
        return math.inf
    z_tiles = [_z(distances_to(one.features, bank, window, number), level) for one, number in asked]
    return gain([one for one, _ in asked], z_tiles)


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
        map: Map_a × (1 − 0.9 t + 0.9 t · sigmoid(z − 2)), z the distance in standard deviations above the references'
            own level and t how much they deserve to be believed.
        evidence: `map`, lowered as the map's highest thousandth is (t at least 1/2 here), and `map_alone`, as it was;
            `normal_ratio`, how
            many times as far the image is from the references as they are from each other.
    """
    if not isinstance(features, PatchFeatures):
        raise ZsasError(
            "This system has no patch features that good images could be compared with; use another one, as auto or "
            "winclip, with references."
        )
    distances = distances_to(features, references.compared, references.window)
    if key in references.keys:
        distances = [np.zeros_like(tile) for tile in distances]
    z_tiles = _z(distances, references.level)
    height, width = scored.map.shape
    z, peaks = in_frame(z_tiles, features, height, width)
    anomaly_map, lower = calmed(scored.map, z, references.trust, peaks)
    counted = counted_cells(features)
    ratio = _far(distances, counted, references.level) / references.usual
    evidence = {
        **scored.evidence,
        "map": scored.evidence["map"] * lower,
        "map_alone": scored.evidence["map"],
        "normal_ratio": ratio,
    }
    stages = lowered(scored.stages, anomaly_map, CALMED)
    return Scored(anomaly_map, evidence, (_stage(z, ratio, references), *stages))


def _log(far: float) -> float:
    return math.log(max(far, _LEAST))


def own_evidence(references: References) -> list[dict[str, float]]:
    """What is said of each reference, compared with the others alone (leave one out).

    Returns:
        Evidence of each that counts; of the changed copies where there is one image; none where it was not kept.
    """
    counted = [i for i in range(len(references.alone)) if i not in references.ignored]
    return [dict(references.alone[i]) for i in counted]


def _stage(z: NDArray[np.float32], ratio: float, references: References) -> Stage:
    count = len(set(references.keys))
    rests = f"{count} good images" if count > 1 else "one good image and changed copies of it"
    caption = f"Compared with {rests}: {ratio:.1f} times what they differ among themselves."
    if not references.trust:
        caption += " They seem to show different parts: flaws planted on them do not stand out."
        caption += " The map was left as it was."
    elif references.trust < 0.5:
        caption += " Flaws planted on them stood out little, so they were given little weight."
    for i in references.ignored:
        names = dict(enumerate(references.names))
        name = names.get(i) or f"number {i + 1}"
        caption += f" {name} disagrees with the others and was given no weight."
    data = {
        "references": count,
        "ignored": [int(i) for i in references.ignored],
        "normal_ratio": round(ratio, 4),
        "trust": round(references.trust, 4),
    }
    return Stage(REFERENCE, caption, (HeatMap(likely(z)),), data)


Counted = Sequence["NDArray[np.bool_] | None"]
"""Of each tile the cells that are looked at, bool (g_h, g_w); None for all of them."""


def counted_cells(features: PatchFeatures) -> Counted:
    """The cells of each tile that are looked at."""
    return [tile.inside for tile in features.tiles]


def _level(
    distances: Sequence[Sequence[NDArray[np.float32]]], counted: Sequence[Counted]
) -> tuple[tuple[float, float], ...]:
    """Mean and standard deviation of each layer's distances over all cells of the references."""
    layers = distances[0][0].shape[0]
    pairs = []
    for layer in range(layers):
        values = np.concatenate(
            [
                seen(tile[layer], inside)
                for one, cells in zip(distances, counted, strict=True)
                for tile, inside in zip(one, cells, strict=True)
            ]
        )
        pairs.append((float(values.mean()), max(float(values.std()), 1e-3)))
    return tuple(pairs)


def _z(
    distances: Sequence[NDArray[np.float32]], level: Sequence[tuple[float, float]]
) -> list[NDArray[np.float32]]:
    """Mean over the layers of the distances in standard deviations above the level, for each tile (g_h, g_w)."""
    mean = np.array([m for m, _ in level], np.float32)[:, None, None]
    deviation = np.array([s for _, s in level], np.float32)[:, None, None]
    return [((tile - mean) / deviation).mean(0) for tile in distances]


def _top(values: NDArray[np.float32], inside: NDArray[np.bool_] | None) -> float:
    """Mean of the highest cells of a tile that are looked at; one cell is a larger fraction than one pixel."""
    return float(np.sort(seen(values, inside))[-max(1, round(TOP * values.size)) :].mean())


def _far(
    distances: Sequence[NDArray[np.float32]],
    counted: Counted,
    level: Sequence[tuple[float, float]],
) -> float:
    """The image's highest distances over the references' mean distance, mean over the layers."""
    ratios = [
        max(_top(tile[layer], inside) for tile, inside in zip(distances, counted, strict=True))
        / max(mean, 1e-6)
        for layer, (mean, _) in enumerate(level)
    ]
    return float(np.mean(ratios))


def _disagreeing(apart: Sequence[float]) -> tuple[int, ...]:
    logs = np.array([_log(one) for one in apart])
    spread = 1.4826 * float(np.median(np.abs(logs - np.median(logs))))
    least = float(np.median(logs)) + max(ROBUST * spread, math.log(DISAGREES))
    return tuple(int(i) for i in np.flatnonzero(logs > least))
