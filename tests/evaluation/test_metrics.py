"""Metrics against hand-computed cases, and against direct computation on random data."""

from __future__ import annotations

import resource
import sys

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score
from torchmetrics.functional.classification import binary_auroc

from zsas.errors import ZsasError
from zsas.evaluation.metrics import (
    BINS,
    PixelCounts,
    Truth,
    aupro,
    curves,
    image_metrics,
    pixel_metrics,
    to_bins,
)


def counted(score_map, mask):
    return Truth.of(np.asarray(mask, bool)).count(np.asarray(score_map, np.float32))


def test_a_perfect_map_reaches_one_everywhere():
    mask = np.zeros((8, 8), bool)
    mask[2:5, 2:5] = True
    metrics = pixel_metrics(counted(np.where(mask, 0.8, 0.1), mask))
    assert (metrics.auroc, metrics.f1_max, metrics.ap) == (1.0, 1.0, 1.0)
    assert metrics.aupro == pytest.approx(1.0)
    assert metrics.threshold == pytest.approx(0.8, abs=1e-4)


def test_a_constant_map_is_chance():
    mask = np.zeros((10, 10), bool)
    mask[:2] = True  # 20 % anomalous
    metrics = pixel_metrics(counted(np.full((10, 10), 0.5), mask))
    assert metrics.auroc == pytest.approx(0.5)
    assert metrics.ap == pytest.approx(0.2)
    assert metrics.f1_max == pytest.approx(2 * 0.2 / 1.2)
    # Straight line from (0, 0) to (1, 1), up to 0.3: area 0.045, divided by 0.3.
    assert metrics.aupro == pytest.approx(0.15)
    assert metrics.binning_error == pytest.approx(0.5)  # every pair shares a bin, and it says so


def test_four_pixels_by_hand():
    # Ranked: 0.9 anomalous, 0.7 normal, 0.4 anomalous, 0.2 normal.
    metrics = pixel_metrics(counted([[0.9, 0.7], [0.4, 0.2]], [[1, 0], [1, 0]]))
    assert metrics.auroc == pytest.approx(3 / 4)
    assert metrics.ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert metrics.f1_max == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert metrics.threshold == pytest.approx(0.4, abs=1e-4)


def test_aupro_weighs_a_small_region_like_a_large_one():
    mask = np.zeros((20, 20), bool)
    mask[0:10, 0:10] = True  # 100 pixels, found
    mask[15, 15] = True  # 1 pixel, ranked below every normal pixel
    score = np.where(mask, 0.9, 0.5)
    score[15, 15] = 0.1
    assert aupro(counted(score, mask)) == pytest.approx(0.5)


def test_regions_touching_at_a_corner_are_one():
    assert Truth.of(np.eye(4, dtype=bool)).regions == 1


def random_images(rng, number, side=64):
    for _ in range(number):
        mask = ndimage.gaussian_filter(rng.standard_normal((side, side)), 4) > 0.18
        noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), 1)
        yield (1 / (1 + np.exp(4.0 - 2.5 * mask - 5 * noise))).astype(np.float32), mask


def direct_aupro(maps, masks, limit=0.3):
    """Per-region overlap threshold by threshold, as the definition reads."""
    thresholds = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    normal = np.sort(np.concatenate([m[~t] for m, t in zip(maps, masks, strict=True)]))
    fpr = 1 - np.searchsorted(normal, thresholds, side="left") / normal.size
    overlaps = []
    for score, mask in zip(maps, masks, strict=True):
        labels, number = ndimage.label(mask, np.ones((3, 3)))
        for region in range(1, number + 1):
            values = np.sort(score[labels == region])
            overlaps.append(1 - np.searchsorted(values, thresholds, side="left") / values.size)
    fpr, overlap = np.append(0, fpr), np.append(0, np.mean(overlaps, 0))
    x = np.linspace(0, limit, 200_001)
    return np.trapezoid(np.interp(x, fpr, overlap), x) / limit


def test_random_images_agree_with_the_libraries_and_the_definitions():
    maps, masks = zip(*random_images(np.random.default_rng(0), 12), strict=True)
    total = PixelCounts.empty()
    for score, mask in zip(maps, masks, strict=True):
        total = total + counted(score, mask)
    metrics = pixel_metrics(total)
    scores, truth = np.stack(maps).ravel(), np.stack(masks).ravel()
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / (precision + recall + 1e-12)
    auroc = roc_auc_score(truth, scores)
    assert metrics.auroc == pytest.approx(auroc, abs=1e-4)
    assert abs(metrics.auroc - auroc) <= metrics.binning_error < 1e-4
    assert metrics.ap == pytest.approx(average_precision_score(truth, scores), abs=1e-3)
    assert metrics.f1_max == pytest.approx(f1.max(), abs=1e-3)
    assert metrics.threshold == pytest.approx(thresholds[f1.argmax()], abs=2e-3)
    assert metrics.aupro == pytest.approx(direct_aupro(maps, masks), abs=1e-3)


def test_auroc_agrees_with_torchmetrics_on_scores_crowded_near_zero():
    import torch

    rng = np.random.default_rng(1)
    mask = rng.random((128, 128)) < 0.1
    score = (rng.random((128, 128)) ** 8 * np.where(mask, 2e-3, 1e-3)).astype(np.float32)
    expected = binary_auroc(
        torch.from_numpy(score.ravel()), torch.from_numpy(mask.ravel().astype(int))
    )
    assert pixel_metrics(counted(score, mask)).auroc == pytest.approx(float(expected), abs=1e-3)


def test_image_metrics_by_hand():
    metrics = image_metrics([0.9, 0.7, 0.4, 0.2], [True, False, True, False])
    assert metrics.auroc == pytest.approx(0.75)
    assert metrics.ap == pytest.approx(5 / 6)
    assert metrics.f1_max == pytest.approx(0.8)
    assert metrics.threshold == pytest.approx(0.4)


def test_without_both_kinds_there_is_no_number():
    assert np.isnan(image_metrics([0.1, 0.2], [False, False]).auroc)
    assert np.isnan(pixel_metrics(counted(np.zeros((4, 4)), np.zeros((4, 4)))).aupro)
    assert curves(PixelCounts.empty()) is None


def test_curves_run_from_corner_to_corner_and_hold_the_area():
    maps, masks = zip(*random_images(np.random.default_rng(2), 4), strict=True)
    total = sum((counted(s, m) for s, m in zip(maps, masks, strict=True)), PixelCounts.empty())
    line = curves(total)
    assert line is not None
    assert line.fpr.size <= 402
    assert (line.fpr[0], line.tpr[0], line.fpr[-1], line.tpr[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(line.tpr, line.fpr) == pytest.approx(pixel_metrics(total).auroc, abs=2e-3)


@pytest.mark.parametrize("score", [-0.1, 1.5, np.nan])
def test_scores_outside_the_unit_interval_are_refused(score):
    with pytest.raises(ZsasError, match=r"must be numbers in \[0, 1\]"):
        counted([[score, 0.5]], [[0, 1]])


def test_bins_keep_the_order_and_reach_both_ends():
    bins = to_bins(np.array([0.0, 1e-6, 1e-3, 0.5, 0.999, 1.0], np.float32))
    assert bins[0] == 0
    assert bins[-1] == BINS - 1
    assert (np.diff(bins.astype(int)) > 0).all()


def test_map_and_mask_of_different_shape_are_refused():
    with pytest.raises(ZsasError, match="frame of the image"):
        counted(np.zeros((4, 4)), np.zeros((4, 5)))


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read the Linux way")
def test_memory_does_not_grow_with_the_number_of_images():
    rng = np.random.default_rng(3)
    score = rng.random((1024, 1024), dtype=np.float32)
    mask = np.zeros((1024, 1024), bool)
    mask[300:420, 300:500] = True
    truth, total = Truth.of(mask), PixelCounts.empty()
    total = total + truth.count(score)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        total = total + truth.count(score)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 100_000  # KiB: the 20 maps alone are 80 MiB and kept nowhere
    assert total.regions == 21
    assert int(total.normal.sum() + total.anomalous.sum()) == 21 << 20


def test_f1_max_and_aupro_agree_with_anomalib():
    """Needs anomalib installed beside the project, which does not depend on it; skipped without."""
    pytest.importorskip("anomalib")
    import torch
    from anomalib.metrics.aupro import _AUPRO
    from anomalib.metrics.f1_score import _F1Max

    maps, masks = zip(*random_images(np.random.default_rng(4), 6), strict=True)
    total = sum((counted(s, m) for s, m in zip(maps, masks, strict=True)), PixelCounts.empty())
    scores, truth = torch.from_numpy(np.stack(maps)), torch.from_numpy(np.stack(masks)).int()
    oracle, best = _AUPRO(fpr_limit=0.3), _F1Max()
    oracle.update(scores, truth)
    best.update(scores.flatten(), truth.flatten())
    metrics = pixel_metrics(total)
    assert metrics.aupro == pytest.approx(float(oracle.compute()), abs=1e-3)
    assert metrics.f1_max == pytest.approx(float(best.compute()), abs=1e-3)
