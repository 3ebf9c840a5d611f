"""Small histograms of single images, kept for the bootstrap after a run, when the pixels are gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zsas.evaluation.metrics import BINS, PixelCounts

COARSE_BINS = 2048
"""Bins of a single image's histogram, each 32 of `PixelCounts`: fine enough for the width of an interval."""
DRAWN_BINS = 512
"""Histograms of a category are reduced to this many bins before its images are resampled."""
MOST_IMAGES = 5000
"""Histograms are kept of at most this many images of a category, to bound the memory."""


@dataclass(frozen=True)
class CoarseCounts:
    """One image's `PixelCounts` in `COARSE_BINS` bins, of which only those in use are kept.

    Attributes:
        normal_bins: uint16 (n,), bins with normal pixels.
        normal: uint32 (n,), how many.
        anomalous_bins: uint16 (m,), bins with anomalous pixels.
        anomalous: uint32 (m,), how many.
        overlap: float32 (m,), the same, each weighted by 1 / area of its region.
        regions: Number of ground-truth regions.
    """

    normal_bins: NDArray[np.uint16]
    normal: NDArray[np.uint32]
    anomalous_bins: NDArray[np.uint16]
    anomalous: NDArray[np.uint32]
    overlap: NDArray[np.float32]
    regions: int

    @classmethod
    def of(cls, counts: PixelCounts) -> CoarseCounts:
        """Of one image's counts."""
        normal, anomalous, overlap = (
            array.reshape(COARSE_BINS, BINS // COARSE_BINS).sum(1)
            for array in (counts.normal, counts.anomalous, counts.overlap)
        )
        used, marked = np.flatnonzero(normal), np.flatnonzero(anomalous)
        return cls(
            used.astype(np.uint16),
            normal[used].astype(np.uint32),
            marked.astype(np.uint16),
            anomalous[marked].astype(np.uint32),
            overlap[marked].astype(np.float32),
            counts.regions,
        )


Each = tuple[tuple[CoarseCounts | None, ...], ...]
"""For each image its counts under each condition; None without ground truth, () for an image with an error."""

_NORMAL, _ANOMALOUS = ("normal_bins", "normal"), ("anomalous_bins", "anomalous", "overlap")


def to_arrays(each: Each) -> dict[str, NDArray[Any]]:
    """As flat arrays for a .npz file."""
    slots = [one for image in each for one in image]
    found = [one for one in slots if one is not None]
    arrays: dict[str, NDArray[Any]] = {
        "each_conditions": np.array([len(image) for image in each], np.int32),
        "each_normal_length": np.array([-1 if s is None else s.normal.size for s in slots], "i4"),
        "each_anomalous_length": np.array([one.anomalous.size for one in found], np.int32),
        "each_regions": np.array([one.regions for one in found], np.int32),
    }
    for name in (*_NORMAL, *_ANOMALOUS):
        parts = [getattr(one, name) for one in found]
        arrays[f"each_{name}"] = np.concatenate(parts) if parts else np.zeros(0)
    return arrays


def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> Each | None:
    """The reverse of `to_arrays`; None where a file holds none."""
    if "each_conditions" not in arrays:
        return None
    lengths = arrays["each_normal_length"]
    parts: dict[str, list[NDArray[Any]]] = {}
    for names, sizes in (
        (_NORMAL, lengths[lengths >= 0]),
        (_ANOMALOUS, arrays["each_anomalous_length"]),
    ):
        ends = np.cumsum(sizes)[:-1]
        for name in names:
            parts[name] = np.split(arrays[f"each_{name}"], ends) if sizes.size else []
    found = iter(
        CoarseCounts(**{name: parts[name][i] for name in parts}, regions=int(regions))  # type: ignore[arg-type]
        for i, regions in enumerate(arrays["each_regions"])
    )
    slots = iter([None if length < 0 else next(found) for length in lengths])
    return tuple(tuple(next(slots) for _ in range(count)) for count in arrays["each_conditions"])


def summed(each: Sequence[CoarseCounts | None]) -> PixelCounts:
    """The counts of several images under one condition together, in `COARSE_BINS` bins."""
    normal, anomalous, overlap = np.zeros((3, COARSE_BINS))
    known = [one for one in each if one is not None]
    for one in known:
        normal[one.normal_bins] += one.normal
        anomalous[one.anomalous_bins] += one.anomalous
        overlap[one.anomalous_bins] += one.overlap
    regions = sum(one.regions for one in known)
    return PixelCounts(normal.astype(np.int64), anomalous.astype(np.int64), overlap, regions)


def dense(
    each: Sequence[CoarseCounts | None],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Histograms of several images under one condition, and the number of regions (images,).

    Normal, anomalous and overlap are float64 (images, bins), at most about `DRAWN_BINS` bins, so that all together hold
    equal parts of the normal and of the anomalous pixels.
    """
    known = [one for one in each if one is not None]
    used = [array for one in known for array in (one.normal_bins, one.anomalous_bins)]
    bins = np.unique(np.concatenate(used)) if used else np.zeros(1, np.uint16)
    normal, anomalous, overlap = np.zeros((3, len(each), bins.size))
    regions = np.zeros(len(each))
    for row, one in enumerate(each):
        if one is not None:
            normal[row, np.searchsorted(bins, one.normal_bins)] = one.normal
            marked = np.searchsorted(bins, one.anomalous_bins)
            anomalous[row, marked], overlap[row, marked] = one.anomalous, one.overlap
            regions[row] = one.regions
    mass = normal.sum(0) / max(1.0, normal.sum()) + anomalous.sum(0) / max(1.0, anomalous.sum())
    # The bin that each belongs to; one that holds more than its part stays alone.
    joined = np.floor((np.cumsum(mass) - mass) * DRAWN_BINS / 2.0)
    starts = np.flatnonzero(np.diff(joined, prepend=-1.0))
    normal, anomalous, overlap = (
        np.add.reduceat(array, starts, axis=1) for array in (normal, anomalous, overlap)
    )
    return normal, anomalous, overlap, regions
