"""Annotated defects, as MVTec LOCO AD has them: sPRO against its definition, and figures by kind of defect."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from tests.helpers.datasets import write
from tests.helpers.models import small_segmenter
from zsas.datasets.defects import Defect, saturation_area
from zsas.datasets.load import load_dataset
from zsas.evaluation import report, run
from zsas.evaluation.coarse import CoarseCounts, summed
from zsas.evaluation.conditions import plan
from zsas.evaluation.identity import identity
from zsas.evaluation.metrics import PixelCounts, Truth, aupro
from zsas.evaluation.records import Store
from zsas.evaluation.sizes import truth_at
from zsas.settings import Settings

NOTHING = np.zeros((64, 64), bool)


def random_images(rng, number, side=64):
    """Maps, and on two of three images two or three overlapping defects of both sorts of saturation."""
    for image in range(number):
        defects = []
        for sort in range(2 + image % 2) if image % 3 else ():
            where = ndimage.gaussian_filter(rng.standard_normal((side, side)), 5) > 0.09
            defects.append(Defect(where, *((0.4, True) if sort == 0 else (150.0, False))))
        mask = np.any([NOTHING, *(one.mask for one in defects)], axis=0)
        noise = ndimage.gaussian_filter(rng.standard_normal((side, side)), 1)
        yield (1 / (1 + np.exp(4.0 - 2.5 * mask - 5 * noise))).astype(np.float32), mask, defects


def direct_spro(images, limit):
    """The definition, threshold by threshold: mean over defects of min(found pixels / saturation area, 1)."""
    thresholds = np.unique(np.concatenate([score.ravel() for score, *_ in images]))[::-1]
    normal = np.sort(np.concatenate([score[~mask] for score, mask, _ in images]))
    fpr = 1 - np.searchsorted(normal, thresholds, side="left") / normal.size
    curves = []
    for score, _, defects in images:
        for defect in defects:
            values = np.sort(score[defect.mask])
            found = values.size - np.searchsorted(values, thresholds, side="left")
            own = defect.threshold * values.size
            area = own if defect.relative else min(defect.threshold, values.size)
            curves.append(np.minimum(found / area, 1.0))
    x = np.linspace(0, limit, 200_001)
    return (
        np.trapezoid(np.interp(x, np.append(0, fpr), np.append(0, np.mean(curves, 0))), x) / limit
    )


@pytest.mark.parametrize("limit", [0.05, 0.3])
def test_spro_agrees_with_its_definition(limit):
    images = list(random_images(np.random.default_rng(0), 12))
    total, coarse = PixelCounts.empty(), []
    for score, mask, defects in images:
        counts = Truth.of(mask, defects=defects).count(score)
        total += counts
        coarse.append(CoarseCounts.of(counts))
    expected = direct_spro(images, limit)
    assert aupro(total, limit) == pytest.approx(expected, abs=1e-4)
    assert aupro(summed(coarse), limit) == pytest.approx(expected, abs=2e-3)


def test_a_part_of_the_area_is_enough_and_more_adds_nothing():
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    score = np.full((8, 8), 0.5)
    score[:2] = 0.9  # half of it is above all that is normal
    for defect, reached in (
        (Defect(mask), 0.5),
        (Defect(mask, 0.5), 1.0),
        (Defect(mask, 64.0, False), 0.5),
    ):
        counts = Truth.of(mask, defects=[defect]).count(score.astype(np.float32))
        assert counts.overlap[counts.normal.nonzero()[0].max() + 1 :].sum() == pytest.approx(
            reached
        )
        assert counts.overlap.sum() == pytest.approx(1.0)
        assert counts.regions == 1


def test_whole_areas_and_separate_defects_are_the_usual_aupro():
    rng = np.random.default_rng(1)
    mask = np.zeros((40, 40), bool)
    mask[3:9, 3:20], mask[25:30, 10:14] = True, True
    score = rng.random((40, 40)).astype(np.float32)
    labels, count = ndimage.label(mask)
    defects = [Defect(labels == number) for number in range(1, count + 1)]
    usual, annotated = Truth.of(mask).count(score), Truth.of(mask, defects=defects).count(score)
    np.testing.assert_allclose(annotated.overlap, usual.overlap, atol=1e-12)
    assert annotated.regions == usual.regions == 2


def test_what_lies_outside_the_region_or_vanishes_in_the_square_is_no_defect():
    left = NOTHING.copy()
    left[:, :32] = True
    dot, plate = NOTHING.copy(), NOTHING.copy()
    dot[3, 3], plate[20:40, 20:60] = True, True
    defects = [Defect(dot), Defect(plate, 400.0, False)]
    truth = truth_at(dot | plate, left, 0, defects=defects)
    assert [where.size for where, _ in truth.defects] == [1, 20 * 12]
    assert truth.defects[1][1] == 20 * 12  # less than the threshold
    small = truth_at(dot | plate, None, 0, 32, averaged=True, defects=defects)
    assert [(where.size, area) for where, area in small.defects] == [(10 * 20, 100.0)]
    nothing = truth_at(dot, None, 0, 32, averaged=True, defects=defects[:1])
    assert nothing.count(np.zeros((32, 32), np.float32)).overlap.sum() == nothing.regions == 0
    assert saturation_area(Defect(plate, 0.25), 80) == 20


RULES = [
    {"defect_name": "missing", "pixel_value": 255, "saturation_threshold": 20, "relative_saturation": False},
    {"defect_name": "bent", "pixel_value": 254, "saturation_threshold": 1.0, "relative_saturation": True},
]  # fmt: skip


def write_loco(root):
    """Two categories with good images and both kinds of anomalies, of which logical ones have two masks each."""
    rng = np.random.default_rng(3)
    for category in ("juice_bottle", "screw_bag"):
        for kind in ("good", "logical_anomalies", "structural_anomalies"):
            for number in range(3):
                image = rng.integers(110, 140, (48, 64, 3)).astype(np.uint8)
                for each in range(0 if kind == "good" else 2 if kind[0] == "l" else 1):
                    mask = np.zeros((48, 64), np.uint8)
                    x, y = (int(v) for v in rng.integers(0, 30, 2))
                    mask[y : y + 12, x : x + 16] = 255 if kind[0] == "l" else 254
                    image[mask > 0] = 20
                    place = root / category / "ground_truth" / kind / f"{number:03d}"
                    write(place / f"{each:03d}.png", mask)
                write(root / category / "test" / kind / f"{number:03d}.png", image)
        write(root / category / "train/good/000.png", image)
        write(root / category / "validation/good/000.png", image)
        (root / category / "defects_config.json").write_text(json.dumps(RULES))
    return root


def test_a_run_gives_the_figures_of_each_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw_curves", lambda *_: None)
    data = load_dataset("loco", write_loco(tmp_path / "loco"))
    segmenter = small_segmenter()
    conditions = plan(Settings(refiner="none"), systems=["vv"])
    store = Store(tmp_path / "run", identity(data, conditions, segmenter, 0), 1)
    run.evaluate(segmenter, data, conditions, store)
    results = report.write_report(store, data, conditions, {"side": 0}, draws=0)
    row = results["table"][0]
    assert results["kinds"] == ["logical_anomalies", "structural_anomalies"]
    settings = conditions[0].settings
    images, expected = {}, {}
    for kind in results["kinds"]:
        each = []
        for category in data.categories:
            chosen = [s for s in data.of(category) if s.defect_type in ("good", kind)]
            scores = []
            for sample in chosen:
                named = settings.replace(object_name=sample.object_name)
                result = segmenter(sample.load_image(), named)
                scores.append(result.image_score)
                mask = sample.load_mask(result.score_map.shape)
                images.setdefault((kind, category), []).append(
                    (result.score_map, mask, sample.load_defects())
                )
            each.append(roc_auc_score([s.anomalous for s in chosen], scores))
        expected[kind] = np.mean(each)
    for kind in results["kinds"]:
        assert row["kinds"][kind]["image_auroc"] == pytest.approx(expected[kind], abs=1e-6)
        for limit in (0.05, 0.3):
            direct = np.mean([direct_spro(images[kind, c], limit) for c in data.categories])
            assert row["kinds"][kind][f"pixel_aupro_{limit:g}"] == pytest.approx(direct, abs=0.01)
    both = [expected[kind] for kind in results["kinds"]]
    assert row["kinds"]["mean"]["image_auroc"] == pytest.approx(np.mean(both), abs=1e-6)
    table = (tmp_path / "run/table.md").read_text(encoding="utf-8")
    assert "## By kind of defect" in table
    assert "sPRO" in table
    other = replace(data, samples=tuple(s for s in data if s.defect_type != "logical_anomalies"))
    assert not report.kinds_of(other)
