"""Intervals by bootstrap over images, and the table beside the paper's."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.helpers.datasets import write_folder
from tests.helpers.models import small_segmenter
from zsas.datasets.load import load_dataset
from zsas.errors import ZsasError
from zsas.evaluation import coarse, interval_tables, intervals, records, run, sizes, table_1
from zsas.evaluation.conditions import Condition, as_published, in_each, plan
from zsas.evaluation.identity import identity
from zsas.evaluation.intervals import Bootstrap
from zsas.evaluation.metrics import PixelCounts, Truth, image_metrics, pixel_metrics
from zsas.evaluation.records import Outcome, Record, Store, Totals
from zsas.evaluation.report import METRICS, category_row, write_report
from zsas.models import ModelChoice
from zsas.settings import Settings
from zsas.systems import SYSTEMS


def totals(images: int, shifts: tuple[float, ...], seed: int = 0) -> Totals:
    """Records of synthetic maps; a condition's map is higher inside the defect by its shift."""
    rng = np.random.default_rng(seed)
    total = Totals.empty(len(shifts))
    for i in range(images):
        mask = np.zeros((48, 48), bool)
        if i % 2:
            x, y = rng.integers(4, 30, 2)
            mask[y : y + 9, x : x + 9] = True
        noise = rng.normal(0.3, 0.1, mask.shape)
        outcomes = []
        for shift in shifts:
            found = np.clip(noise + shift * mask, 0, 1).astype(np.float32)
            marked = found > 0.5
            outcomes.append(
                Outcome(
                    Truth.of(mask).count(found),
                    float(np.sort(found.ravel())[-50:].mean()),
                    int((marked & mask).sum()),
                    int(marked.sum()),
                    int(mask.sum()),
                )
            )
        record = Record(f"a/{i}", "a", "x" if i % 2 else "good", bool(i % 2), tuple(outcomes))
        total = total + Totals.of(record, len(shifts))
    return total


def bootstrap_of(total: Totals, conditions: int, draws: int = 200) -> tuple[Bootstrap, list]:
    bootstrap = Bootstrap(draws)
    bootstrap.add("a", total, conditions)
    return bootstrap, [category_row(total, i) for i in range(conditions)]


def test_small_histograms_survive_the_disk():
    total = totals(4, (0.2, 0.1))
    failed = Totals.of(Record("a/9", "a", "x", True, (), "broken"), 2)
    total = total + failed
    back = Totals.from_bytes(total.to_bytes())
    assert [len(image) for image in back.each] == [2, 2, 2, 2, 0]
    for image, same in zip(total.each, back.each, strict=True):
        for one, other in zip(image, same, strict=True):
            for name in ("normal_bins", "normal", "anomalous_bins", "anomalous", "overlap"):
                np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert one.regions == other.regions
    assert len(back.without_failures().each) == 4


def test_undrawn_images_give_the_figures_themselves():
    total = totals(12, (0.15,))
    found = intervals._drawn(total, 0, np.ones((1, 12)))
    exact = category_row(total, 0)
    for metric in METRICS:
        assert found[metric][0] == pytest.approx(exact[metric], abs=6e-3), metric


def test_an_image_that_is_drawn_twice_counts_twice():
    total = totals(8, (0.15,))
    times = np.array([[2.0, 0, 1, 1, 0, 3, 1, 0]])
    found = intervals._drawn(total, 0, times)
    counts = PixelCounts.empty()
    scores, labels = [], []
    for i, count in enumerate(times[0].astype(int)):
        for _ in range(count):
            one = totals_of_image(total, i)
            counts = counts + one
            scores.append(total.images[i]["image_score"][0])
            labels.append(total.images[i]["anomalous"])
    exact = pixel_metrics(counts)
    assert found["pixel_auroc"][0] == pytest.approx(exact.auroc, abs=8e-3)
    assert found["pixel_f1_max"][0] == pytest.approx(exact.f1_max, abs=8e-3)
    assert found["pixel_aupro"][0] == pytest.approx(exact.aupro, abs=8e-3)
    assert found["image_auroc"][0] == pytest.approx(image_metrics(scores, labels).auroc)


def totals_of_image(total: Totals, number: int) -> PixelCounts:
    """Counts of one image out of its small histogram."""
    assert total.each is not None
    one = total.each[number][0]
    assert one is not None
    step = 65536 // coarse.COARSE_BINS
    normal, anomalous = np.zeros((2, 65536), np.int64)
    overlap = np.zeros(65536)
    normal[one.normal_bins.astype(int) * step] = one.normal
    anomalous[one.anomalous_bins.astype(int) * step] = one.anomalous
    overlap[one.anomalous_bins.astype(int) * step] = one.overlap
    return PixelCounts(normal, anomalous, overlap, one.regions)


def test_an_interval_holds_its_figure_and_narrows_with_more_images():
    widths = []
    for images in (10, 60):
        bootstrap, rows = bootstrap_of(totals(images, (0.15,)), 1)
        (found,) = bootstrap.intervals(rows)
        for metric in ("pixel_auroc", "pixel_ap", "mask_f1"):
            low, high = found[metric]
            assert low <= rows[0][metric] <= high
        widths.append(found["pixel_ap"][1] - found["pixel_ap"][0])
    assert widths[1] < 0.7 * widths[0]


@pytest.mark.slow
def test_the_interval_covers_what_other_images_give():
    truth = category_row(totals(300, (0.15,), seed=99), 0)["pixel_ap"]
    inside = 0
    for seed in range(20):
        bootstrap, rows = bootstrap_of(totals(20, (0.15,), seed=seed), 1)
        low, high = bootstrap.intervals(rows)[0]["pixel_ap"]
        inside += low <= truth <= high
    assert inside >= 15  # 95 % of 20 is 19; with ten anomalous images intervals are somewhat narrow


def test_pairs_are_decided_on_the_same_draws():
    bootstrap, rows = bootstrap_of(totals(20, (0.15, 0.16, 0.15)), 3)
    pairs = {(one["a"], one["b"]): one for one in bootstrap.pairs(["x", "y", "z"], rows)}
    same = pairs["x", "z"]["pixel_ap"]
    assert (same["difference"], same["p"], same["interval"]) == (0.0, 1.0, [0.0, 0.0])
    other = pairs["x", "y"]["pixel_ap"]
    assert other["difference"] < 0
    assert other["p_holm"] < 0.05  # though the intervals of both overlap
    spans = [one["pixel_ap"] for one in bootstrap.intervals(rows)]
    assert spans[0][1] > spans[1][0]
    assert other["p_holm"] >= other["p"]


def test_single_images_say_nothing():
    total = totals(2, (0.15, 0.3))
    bootstrap, rows = bootstrap_of(total, 2)
    assert bootstrap.intervals(rows) == [{}, {}]
    assert bootstrap.pairs(["a", "b"], rows) == []
    same = np.full(9, 0.1 + 0.2)
    assert intervals._difference(same, same - 0.1, 0.1)["p"] == 1.0


def test_holm_never_falls():
    tested = [{"p": 0.04}, {"p": 0.01}, {"p": 0.03}]
    intervals._holm(tested)
    assert [one["p_holm"] for one in tested] == [0.06, 0.03, 0.06]


def test_few_images_and_too_many_are_said(monkeypatch):
    bootstrap, _ = bootstrap_of(totals(4, (0.1,)), 1)
    assert bootstrap.facts["few_images"] == ["a"]
    monkeypatch.setattr(records, "MOST_IMAGES", 3)
    bootstrap, rows = bootstrap_of(totals(4, (0.1,)), 1)
    assert bootstrap.facts["too_many_images"] == ["a"]
    assert bootstrap.intervals(rows) == [{}]
    assert bootstrap_of(totals(4, (0.1,)), 1, draws=0)[0].intervals(rows) == [{}]


# Table 1


def test_every_system_of_a_paper_has_published_conditions():
    known = {name for name, system in SYSTEMS.items() if system.paper and name != "auto"}
    assert known <= set(table_1.PUBLISHED), "say in zsas/evaluation/table_1.py how it was published"
    for name in known:
        for changes in table_1.PUBLISHED[name].settings.values():
            Settings(system=name, **changes)


def test_rows_take_their_published_conditions_and_what_was_given_stays():
    rows = plan(Settings(), systems=["table1"], refiners=["own", "mmr"])
    found = {one.name: one for one in as_published(rows, "visa", square=True)}
    assert (found["winclip"].square, found["april-gan"].square) == (240, 518)
    assert found["sdp+"].settings.blur == 4.3
    assert found["sdp+"].published == "sdp+"
    assert (found["sdp+-mmr"].square, found["sdp+-mmr"].published) == (240, "")
    given = plan(Settings(blur=3.0), systems=["sdp+"])
    assert as_published(given, "visa", square=False)[0].settings.blur == 3.0
    assert as_published(given, "visa", square=False)[0].square == 0
    assert as_published(rows, "mvtec", square=True)[0].settings == rows[0].settings


def test_published_weights_are_of_the_other_data_set(monkeypatch):
    asked = []

    def had(name):
        asked.append(name)
        if name.startswith("anomalyclip"):
            raise ZsasError("No network.")
        return name

    monkeypatch.setattr(table_1, "weights_file", had)
    found = table_1.with_published_weights(ModelChoice("paper"), "mvtec").weights
    assert found == {"linear": "april-gan:visa"}
    assert "anomalyclip:visa" in asked
    chosen = ModelChoice("paper", weights={"linear": "mine.safetensors"})
    assert table_1.with_published_weights(chosen, "visa").weights["linear"] == "mine.safetensors"
    assert table_1.with_published_weights(ModelChoice("tiny"), "mvtec").weights == {}
    assert table_1.with_published_weights(ModelChoice("paper"), "folder").weights == {}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """One image a kind, three systems with two refiners; sdp+ lacks its weights."""
    root = write_folder(tmp_path_factory.mktemp("parts") / "parts", per_kind=1)
    data = load_dataset("folder", root)
    settings = Settings(resolution=128, tiles="off")
    rows = plan(settings, systems=["april-gan", "vv"], refiners=["own", "none"])
    conditions = as_published(rows, "mvtec", square=True)
    segmenter = small_segmenter()
    out = tmp_path_factory.mktemp("run")
    store = Store(out, identity(data, conditions, segmenter, 0), len(conditions))
    run.evaluate(segmenter, data, conditions, store)
    facts = {"side": 0, "cannot_run": {"sdp+": "It needs layers: zsas train adapters."}}
    return write_report(store, data, conditions, facts, draws=50), (out / "table.md").read_text()


@pytest.mark.slow
def test_the_report_has_intervals_pairs_and_the_papers_rows(measured):
    results, text = measured
    assert [row["name"] for row in results["table"]] == ["april-gan", "vv", "vv-none"]
    assert [row.get("square") for row in results["table"]] == [518, None, None]
    for row in results["table"]:
        low, high = row["interval"]["pixel_auroc"]
        assert 0 <= low <= row["mean"]["pixel_auroc"] <= high + 1e-6
    assert "Too narrow, for fewer than five" in text
    assert "## Differences of pixel F1-max" in text
    beside = text.split("## Beside Table 1")[1]
    assert "87.6 / 43.3 / 40.8 | 87.5 / 42.3 / 39.1 (VisualAD's README)" in beside
    assert "compared at 518 × 518 px" in beside
    assert (
        "| sdp+ | not run | 91.2 / 41.9 / 39.4 | – | It needs layers: zsas train adapters. |"
        in beside
    )
    assert json.dumps(results, allow_nan=False)


def test_a_table_without_draws_says_nothing_of_intervals():
    results = {"table": [{"name": "a", "interval": {}}], "intervals": {}, "paired": []}
    assert interval_tables.intervals(results, METRICS) == []


def test_at_a_square_map_and_mask_have_its_size():
    assert sizes.at_size(np.zeros((30, 60), bool), 0, 24).shape == (24, 24)
    assert sizes.at_size(np.zeros((30, 60), np.float32), 20, 0).shape == (10, 20)


@pytest.mark.slow
def test_a_system_that_fails_leaves_the_others_their_images(tmp_path, monkeypatch):
    segmenter = small_segmenter()
    segment = segmenter.segment

    def failing(image, settings, *more, **beside):
        if settings.system == "vv":
            raise RuntimeError("not enough memory")
        return segment(image, settings, *more, **beside)

    monkeypatch.setattr(segmenter, "segment", failing)
    monkeypatch.setattr(run, "load_for", lambda *_: segmenter)
    data = load_dataset("folder", write_folder(tmp_path / "parts", per_kind=1), limit=1)
    conditions = plan(Settings(resolution=128), systems=["april-gan", "vv"], refiners=["none"])
    results = run.measure_and_report(data, conditions, tmp_path / "r", ModelChoice("tiny"), draws=0)
    assert [row["name"] for row in results["table"]] == ["april-gan"]
    assert "not enough memory" in results["cannot_run"]["vv-none"]
    assert results["unreadable"] == {}


# Number formats


@pytest.mark.slow
def test_several_formats_stand_side_by_side(tmp_path, monkeypatch):
    loaded = []

    def load_for(choice, settings, memory):
        loaded.append(choice.precision)
        return small_segmenter()

    monkeypatch.setattr(run, "load_for", load_for)
    data = load_dataset("folder", write_folder(tmp_path / "parts", per_kind=1), limit=1)
    rows = [Condition("vv", Settings(system="vv", resolution=128, refiner="none"))]
    conditions = in_each(rows, ["fp32", "int8"])
    assert in_each(rows, ["auto"]) == rows
    results = run.measure_and_report(data, conditions, tmp_path / "r", ModelChoice("tiny"), draws=0)
    assert [row["name"] for row in results["table"]] == ["vv, fp32", "vv, int8"]
    assert loaded == ["fp32", "int8"]
    assert ", " in results["models"]["precision"]
    assert results["table"][0]["mean"] == results["table"][1]["mean"]


def test_the_order_of_arrival_does_not_matter():
    total = totals(10, (0.15,))
    turned = Totals(total.counts, total.images[::-1], total.each[::-1])
    one, rows = bootstrap_of(total, 1)
    other, same = bootstrap_of(turned, 1)
    assert one.intervals(rows) == other.intervals(same)
