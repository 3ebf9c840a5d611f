"""Pixel and image metrics from histograms, so that a data set of any size fits into memory.

Every pixel metric of the field (AUROC, F1-max, AP, AUPRO) depends only on how many normal and how many
anomalous pixels lie above each threshold. One image therefore becomes three histograms of 65,536 bins,
histograms of many images are added, and scikit-learn does the rest with the counts as sample weights.

Bins are even in the square root of the score: scores of trained maps crowd near 0, where these bins
are finest. Two scores in one bin count as equal. That moves AUROC by at most half the fraction of
(normal, anomalous) pixel pairs that share a bin, which `PixelMetrics.binning_error` reports with every
result; on continuous maps it is below 1e-4, and the other metrics move by less than 1e-3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from zsas.datasets.defects import Defect, saturation_area
from zsas.errors import ZsasError

BINS = 1 << 16
FPR_LIMIT = 0.3


@dataclass(frozen=True)
class PixelCounts:
    """What one image, or many added together, contribute to the pixel metrics.

    Attributes:
        normal: int64 (BINS,), normal pixels in each score bin.
        anomalous: int64 (BINS,), anomalous pixels in each score bin.
        overlap: float64 (BINS,), anomalous pixels, each weighted by 1 / area of its own region; of annotated defects
            those that come on top of the ones above them, up to saturation.
        regions: Number of ground-truth regions (8-connected, or as annotated), which all weigh the same in AUPRO.
    """

    normal: NDArray[np.int64]
    anomalous: NDArray[np.int64]
    overlap: NDArray[np.float64]
    regions: int

    @classmethod
    def empty(cls) -> PixelCounts:
        """The counts of no image."""
        return cls(np.zeros(BINS, np.int64), np.zeros(BINS, np.int64), np.zeros(BINS), 0)

    def __add__(self, other: PixelCounts) -> PixelCounts:
        return PixelCounts(
            self.normal + other.normal,
            self.anomalous + other.anomalous,
            self.overlap + other.overlap,
            self.regions + other.regions,
        )


@dataclass(frozen=True)
class Truth:
    """A ground-truth mask prepared once, to be compared with many score maps.

    Attributes:
        shape: (H, W).
        index: int64 (n,), flat positions of the anomalous pixels.
        weight: float64 (n,), 1 / area of the region that each belongs to.
        regions: Number of 8-connected regions, or of annotated defects.
        inside: The pixels that are compared, bool (H, W); None for all of them.
        defects: Flat positions, int64 (m,), of each annotated defect and the area from which on it is found; where
            there are some, they take the place of connected regions (sPRO).
    """

    shape: tuple[int, int]
    index: NDArray[np.int64]
    weight: NDArray[np.float64]
    regions: int
    inside: NDArray[np.bool_] | None = None
    defects: tuple[tuple[NDArray[np.int64], float], ...] = ()

    @classmethod
    def of(
        cls,
        mask: NDArray[np.bool_],
        inside: NDArray[np.bool_] | None = None,
        defects: Sequence[Defect] = (),
        scale: float = 1.0,
    ) -> Truth:
        """Prepare a mask.

        Args:
            mask: bool (H, W), True where anomalous.
            inside: What lies outside is not compared, bool (H, W); None for the whole image.
            defects: The annotated defects whose union it is, each mask bool (H, W), if there are some.
            scale: Pixels of the mask for each pixel of the annotation.
        """
        if inside is not None:
            mask = mask & inside
        count, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
        index = np.flatnonzero(mask)
        label = labels.reshape(-1)[index]
        area = np.bincount(label, minlength=count)
        shape = (mask.shape[0], mask.shape[1])
        each = []
        for defect in defects:
            where = np.flatnonzero(defect.mask if inside is None else defect.mask & inside)
            if where.size:
                each.append((where, saturation_area(defect, where.size, scale)))
        if defects:
            return cls(shape, index, np.zeros(index.size), len(each), inside, tuple(each))
        return cls(shape, index, 1.0 / area[label], count - 1, inside)

    def count(self, score_map: NDArray[np.float32]) -> PixelCounts:
        """Histograms of one score map, float (H, W) in [0, 1], against this mask.

        Raises:
            ZsasError: If map and mask differ in shape, or a score is not in [0, 1].
        """
        if score_map.shape != self.shape:
            raise ZsasError(
                f"The score map has shape {score_map.shape} but the mask {self.shape}; "
                "both must be in the frame of the image."
            )
        bins = to_bins(score_map).reshape(-1)
        counted = bins if self.inside is None else bins[self.inside.reshape(-1)]
        every = np.bincount(counted, minlength=BINS)
        inside = bins[self.index]
        anomalous = np.bincount(inside, minlength=BINS)
        if self.defects:
            overlap = np.sum(
                [_saturated(bins[index], area) for index, area in self.defects], axis=0
            )
        else:
            overlap = np.asarray(np.bincount(inside, self.weight, BINS), np.float64)
        return PixelCounts(every - anomalous, anomalous, overlap, self.regions)


def _saturated(bins: NDArray[np.uint16], area: float) -> NDArray[np.float64]:
    """By how much each bin raises min(pixels from it on / area, 1) of one defect, float64 (BINS,)."""
    found = np.minimum(np.cumsum(np.bincount(bins, minlength=BINS)[::-1]) / area, 1.0)
    return np.diff(found, prepend=0.0)[::-1]


def to_bins(scores: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bin of each score in [0, 1], even in the square root; same shape, uint16."""
    lowest, highest = float(scores.min()), float(scores.max())
    if not (lowest >= 0.0 and highest <= 1.0):
        raise ZsasError(
            f"Scores span {lowest:g} to {highest:g}, but they must be numbers in [0, 1]: "
            "rescale the map before it is measured."
        )
    return (np.sqrt(scores, dtype=np.float32) * np.float32(BINS - 1) + np.float32(0.5)).astype(
        np.uint16
    )


def bin_scores() -> NDArray[np.float64]:
    """The score in the middle of each bin, float64 (BINS,), rising from 0 to 1."""
    return np.square(np.arange(BINS) / (BINS - 1))


@dataclass(frozen=True)
class PixelMetrics:
    """Pixel metrics in [0, 1]; nan where the images have no anomalous or no normal pixel.

    Attributes:
        auroc: Area under the ROC curve.
        f1_max: Best F1 over all thresholds.
        ap: Average precision.
        aupro: Area under per-region overlap against false-positive rate up to 0.3, divided by 0.3.
        threshold: Score at which `f1_max` is reached.
        binning_error: Upper bound of the error of `auroc` caused by the bins.
    """

    auroc: float
    f1_max: float
    ap: float
    aupro: float
    threshold: float
    binning_error: float


@dataclass(frozen=True)
class ImageMetrics:
    """Image metrics in [0, 1]; nan where there are only normal or only anomalous images."""

    auroc: float
    f1_max: float
    ap: float
    threshold: float


@dataclass(frozen=True)
class Curves:
    """Points of the curves, each array float64 (n,), n at most about `points`."""

    fpr: NDArray[np.float64]
    tpr: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]


def pixel_metrics(counts: PixelCounts) -> PixelMetrics:
    """All pixel metrics of the images that were counted."""
    positives, negatives = int(counts.anomalous.sum()), int(counts.normal.sum())
    if positives == 0 or negatives == 0:
        return PixelMetrics(*[math.nan] * len(fields(PixelMetrics)))
    labels, scores, weights = _weighted(counts)
    f1, threshold = _f1_max(labels, scores, weights)
    shared = float(np.dot(counts.normal.astype(np.float64), counts.anomalous))
    return PixelMetrics(
        auroc=float(roc_auc_score(labels, scores, sample_weight=weights)),
        f1_max=f1,
        ap=float(average_precision_score(labels, scores, sample_weight=weights)),
        aupro=aupro(counts),
        threshold=threshold,
        binning_error=0.5 * shared / (positives * negatives),
    )


def aupro(counts: PixelCounts, fpr_limit: float = FPR_LIMIT) -> float:
    """Normalised area under the per-region-overlap curve up to `fpr_limit`, in [0, 1].

    The mean over regions of the fraction of each that lies above a threshold is a cumulative sum of
    `overlap`, because every anomalous pixel there weighs 1 / area of its region. The curve is cut at
    the limit by linear interpolation (Bergmann et al., IJCV 2021). Of annotated defects it is that of sPRO (IJCV 2022).
    """
    negatives = counts.normal.sum()
    if counts.regions == 0 or negatives == 0:
        return math.nan
    fpr = np.concatenate([[0.0], np.cumsum(counts.normal[::-1]) / negatives])
    overlap = np.concatenate([[0.0], np.cumsum(counts.overlap[::-1]) / counts.regions])
    inside = fpr <= fpr_limit
    at_limit = np.interp(fpr_limit, fpr, overlap)
    x = np.append(fpr[inside], fpr_limit)
    y = np.append(overlap[inside], at_limit)
    return float(np.trapezoid(y, x) / fpr_limit)


def image_metrics(scores: Sequence[float], labels: Sequence[bool]) -> ImageMetrics:
    """Image metrics from one score in [0, 1] and one label (True = anomalous) for each image."""
    truth, values = np.asarray(labels, bool), np.asarray(scores, np.float64)
    if truth.size == 0 or truth.all() or not truth.any():
        return ImageMetrics(*[math.nan] * 4)
    f1, threshold = _f1_max(truth, values, None)
    return ImageMetrics(
        auroc=float(roc_auc_score(truth, values)),
        f1_max=f1,
        ap=float(average_precision_score(truth, values)),
        threshold=threshold,
    )


def curves(counts: PixelCounts, points: int = 400) -> Curves | None:
    """ROC and precision-recall curves to draw, thinned; None where they are undefined."""
    if not counts.anomalous.any() or not counts.normal.any():
        return None
    labels, scores, weights = _weighted(counts)
    fpr, tpr, _ = roc_curve(labels, scores, sample_weight=weights)
    precision, recall, _ = precision_recall_curve(labels, scores, sample_weight=weights)
    roc, pr = _spread(fpr + tpr, points), _spread(recall - precision, points)
    return Curves(fpr[roc], tpr[roc], recall[pr], precision[pr])


def _weighted(
    counts: PixelCounts,
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Labels, scores and weights of all bins in use, as scikit-learn takes them."""
    score = bin_scores()
    negative, positive = np.flatnonzero(counts.normal), np.flatnonzero(counts.anomalous)
    labels = np.concatenate([np.zeros(negative.size, bool), np.ones(positive.size, bool)])
    weights = np.concatenate([counts.normal[negative], counts.anomalous[positive]]).astype(
        np.float64
    )
    return labels, np.concatenate([score[negative], score[positive]]), weights


def _f1_max(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float64] | None
) -> tuple[float, float]:
    """Best F1 and the score from which on it is reached."""
    precision, recall, thresholds = precision_recall_curve(labels, scores, sample_weight=weights)
    total = precision + recall
    f1 = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    best = int(np.argmax(f1[:-1]))
    return float(f1[best]), float(thresholds[best])


def _spread(position: NDArray[np.float64], points: int) -> NDArray[np.int64]:
    """Indices of about `points` entries, evenly spread along the length of a curve."""
    travelled = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(position)))])
    wanted = np.linspace(0.0, travelled[-1], points)
    index = np.searchsorted(travelled, wanted).clip(0, position.size - 1)
    return np.unique(np.concatenate([[0], index, [position.size - 1]])).astype(np.int64)
