"""A run over a data set: encoded once, resumed after a kill, nothing counted twice."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.helpers.datasets import write_folder
from tests.helpers.models import small_segmenter
from zsas.cli import app
from zsas.datasets.load import load_dataset
from zsas.errors import ZsasError
from zsas.evaluation import records, report, run, sizes
from zsas.evaluation.conditions import parse_sweep, plan
from zsas.evaluation.identity import digest_of_samples, identity
from zsas.evaluation.records import Outcome, Record, Store, Totals
from zsas.evaluation.report import write_report
from zsas.settings import Settings

SETTINGS = Settings(threshold=0.97, threshold_mode="quantile", spacing=0.0, max_regions=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return load_dataset("folder", write_folder(tmp_path_factory.mktemp("parts") / "parts"))


@pytest.fixture(autouse=True)
def no_drawing(request, monkeypatch):
    """Curves take longer to draw than these images to measure; one test draws them."""
    if request.node.name != "test_the_same_command_gives_the_same_results":
        monkeypatch.setattr(report, "draw_curves", lambda *_: None)


def measured(segmenter, data, folder, conditions, **options):
    store = Store(folder, identity(data, conditions, segmenter, 0), len(conditions))
    run.evaluate(segmenter, data, conditions, store, **options)
    return write_report(store, data, conditions, {"side": 0})


def test_without_axes_the_map_and_the_mask_stand_beside_the_whole():
    names = [condition.name for condition in plan(Settings())]
    assert names == ["CLIP map alone", "mask alone", "as set"]


def test_axes_multiply():
    conditions = plan(Settings(), ["kernel", "cascade"], {"k_positive": [1, 3]})
    assert len(conditions) == 1 + 9 * 3 * 2
    assert conditions[-1].name == "ellipse 30, points + box + logit2, k_positive 3"
    assert conditions[-1].settings.kernel_size == 30


def test_images_of_which_nothing_is_known_give_a_sentence_and_no_empty_table(
    data, segmenter, tmp_path
):
    unknown = dataclasses.replace(
        data,
        samples=tuple(
            dataclasses.replace(one, anomalous=None, mask=None) for one in data.samples[:1]
        ),
    )
    results = measured(segmenter, unknown, tmp_path, plan(SETTINGS)[-1:])
    assert any("no figures" in warning for warning in results["warnings"])
    assert "1 image, 1 category;" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_two_axes_of_one_setting_are_refused():
    with pytest.raises(ZsasError, match="Two axes set kernel_size"):
        plan(Settings(), ["kernel"], {"kernel_size": [10, 20]})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k_positive=1,3", {"k_positive": [1, 3]}),
        ("fusion-weight=0.2, 1", {"fusion_weight": [0.2, 1.0]}),
        ("negatives=on,off", {"negatives": [True, False]}),
        ("similarity=mean,nearest", {"similarity": ["mean", "nearest"]}),
    ],
)
def test_sweeps_are_read(text, expected):
    assert parse_sweep([text]) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour=red", "must read name=v1,v2"),
        ("k_positive", "must read name=v1,v2"),
        ("k_positive=many", "must be a number, 1 to 20"),
        ("k_positive=99", "k_positive is 99"),
    ],
)
def test_wrong_sweeps_are_one_sentence(text, message):
    with pytest.raises(ZsasError, match=message):
        parse_sweep([text])


@pytest.mark.slow
@pytest.mark.parametrize(
    "conditions",
    [
        plan(SETTINGS, ["kernel", "cascade"]),
        plan(SETTINGS, sweep={"k_positive": [1, 5], "prompting": ["joint", "per_region"]}),
    ],
    ids=["ablated", "swept"],
)
def test_every_image_is_encoded_once_whatever_is_compared(data, tmp_path, conditions):
    segmenter = small_segmenter()
    results = measured(segmenter, data, tmp_path, conditions)
    assert segmenter.images_encoded == {"localizer": len(data), "sam": len(data)}
    assert [row["name"] for row in results["table"]] == [c.name for c in conditions]


@pytest.mark.slow
def test_each_category_is_prompted_by_its_own_name_unless_one_is_set(data, monkeypatch):
    segmenter, asked = small_segmenter(), []
    encode = segmenter.clip.encode_sentences

    def listen(sentences, *options):
        asked.extend(sentences)
        return encode(sentences, *options)

    monkeypatch.setattr(segmenter.clip, "encode_sentences", listen)
    run.measure(segmenter, data.samples, plan(SETTINGS))
    for name in ("metal nut", "tile"):
        assert any(f" {name}" in sentence for sentence in asked)
    assert not any("metal_nut" in sentence for sentence in asked)
    asked.clear()
    run.measure(segmenter, data.samples, plan(SETTINGS.replace(object_name="washer")))
    assert asked
    assert all(" washer" in sentence for sentence in asked)


def test_a_mean_is_over_the_categories_that_have_the_figure():
    rows = [{"f1": 0.5, "ap": None}, {"f1": 0.75, "ap": 0.25}, {"f1": 1.0, "ap": None}]
    assert report.mean_row(rows) == {"f1": 0.75, "ap": 0.25}
    assert report.mean_row([{"ap": None}]) == {"ap": None}
    assert report.mean_row([]) == {}


@pytest.mark.slow
def test_conditions_decided_together_equal_conditions_decided_alone(data, segmenter):
    encoding = segmenter.encode(data.samples[3].load_image())
    settings = [c.settings for c in plan(SETTINGS, ["kernel", "cascade"])]
    for one, together in zip(settings, segmenter.segment_each(encoding, settings), strict=True):
        alone = segmenter.segment(encoding, one)
        assert np.array_equal(alone.mask, together.mask)
        assert np.array_equal(alone.score_map, together.score_map)


def test_the_answer_of_sam_is_asked_once(data, segmenter, monkeypatch):
    asked = []
    decode = segmenter.sam.decode
    monkeypatch.setattr(segmenter.sam, "decode", lambda f, p: asked.extend(p) or decode(f, p))
    encoding = segmenter.encode(data.samples[3].load_image())
    one = SETTINGS.replace(max_regions=1)
    list(segmenter.segment_each(encoding, [one.replace(steps=n) for n in (1, 2, 3)]))
    assert len(asked) == 3


@pytest.mark.slow
def test_a_batch_changes_nothing(data, tmp_path):
    conditions = plan(SETTINGS)
    single = measured(small_segmenter(), data, tmp_path / "one", conditions)
    batched = measured(small_segmenter(), data, tmp_path / "five", conditions, batch=5)
    for a, b in zip(single["table"], batched["table"], strict=True):
        for name, value in a["mean"].items():
            assert b["mean"][name] == pytest.approx(value, abs=2e-3), name


@pytest.mark.slow
def test_the_same_command_gives_the_same_results(data, tmp_path):
    conditions = plan(SETTINGS)
    for name in ("a", "b"):
        measured(small_segmenter(), data, tmp_path / name, conditions)
    files = ("results.json", "table.md", "index.html", "curves.png")
    assert all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_stopped(data, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "RECORDS_AT_ONCE", 2)  # so that records are added up in between
    conditions = plan(SETTINGS)
    whole = measured(small_segmenter(), data, tmp_path / "whole", conditions)
    for stop in (1, 5):
        segmenter = small_segmenter()

        def progress(done, total, stop=stop):
            if done == stop:
                raise Killed

        with pytest.raises(Killed):
            measured(segmenter, data, tmp_path / f"cut{stop}", conditions, progress=progress)
        again = small_segmenter()
        results = measured(again, data, tmp_path / f"cut{stop}", conditions)
        assert segmenter.images_encoded["sam"] + again.images_encoded["sam"] == len(data)
        assert results == whole


@pytest.mark.slow
def test_a_kill_between_adding_up_and_cleaning_counts_nothing_twice(data, tmp_path):
    segmenter, conditions = small_segmenter(), plan(SETTINGS)
    facts = identity(data, conditions, segmenter, 0)
    store = Store(tmp_path / "run", facts, len(conditions))
    run.evaluate(segmenter, data, conditions, store)
    shutil.copytree(tmp_path / "run" / "records", tmp_path / "loose")
    whole = write_report(store, data, conditions, {"side": 0})
    for record in (
        tmp_path / "loose"
    ).iterdir():  # the records that should have been deleted are back
        shutil.copy(record, tmp_path / "run" / "records")
    again = Store(tmp_path / "run", facts, len(conditions))
    assert write_report(again, data, conditions, {"side": 0}) == whole


SCRIPT = """
import sys
from pathlib import Path
from tests.helpers.models import small_segmenter
from tests.evaluation.test_run import SETTINGS, measured
from zsas.datasets.load import load_dataset
from zsas.evaluation.conditions import plan
data = load_dataset("folder", sys.argv[1])
measured(small_segmenter(), data, Path(sys.argv[2]), plan(SETTINGS))
"""


@pytest.mark.slow
def test_a_killed_process_loses_at_most_the_image_it_was_at(tmp_path):
    root = write_folder(tmp_path / "parts", per_kind=5)
    data, conditions = load_dataset("folder", root), plan(SETTINGS)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, root, tmp_path / "run"], env=environment
    )
    records = tmp_path / "run" / "records"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(records.glob("*.npz"))) < 5:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(list(records.glob("*.npz")))
    assert 5 <= kept < len(data)
    segmenter = small_segmenter()
    results = measured(segmenter, data, tmp_path / "run", conditions)
    assert segmenter.images_encoded["sam"] == len(data) - kept
    assert results == measured(small_segmenter(), data, tmp_path / "fresh", conditions)


def test_a_folder_of_another_run_is_refused(data, tmp_path, segmenter):
    Store(tmp_path, identity(data, plan(SETTINGS), segmenter, 0), 3)
    with pytest.raises(ZsasError, match="run of other conditions"):
        Store(tmp_path, identity(data, plan(SETTINGS), segmenter, 518), 3)


@pytest.mark.slow
def test_a_broken_image_is_reported_and_not_counted(tmp_path, segmenter):
    root = write_folder(tmp_path / "parts")
    (root / "tile/test/spot/000.png").write_bytes(b"\x89PNG broken")
    results = measured(segmenter, load_dataset("folder", root), tmp_path / "run", plan(SETTINGS))
    assert list(results["unreadable"]) == ["tile/test/spot/000"]
    assert results["images"] == 11
    assert "1 image could not be measured" in (tmp_path / "run/table.md").read_text()


@pytest.mark.slow
def test_a_failure_is_tried_again_and_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(
        records, "RECORDS_AT_ONCE", 2
    )  # one failure is added up, the other stays loose
    root = write_folder(tmp_path / "parts")
    broken = [root / f"tile/test/{defect_type}/000.png" for defect_type in ("good", "spot")]
    whole = [path.read_bytes() for path in broken]
    data, conditions, segmenter = (
        load_dataset("folder", root),
        plan(SETTINGS),
        small_segmenter(),
    )
    store = Store(tmp_path / "run", {}, len(conditions))
    for path in broken:
        path.write_bytes(b"")
    run.evaluate(segmenter, data, conditions, store)
    for path, content in zip(broken, whole, strict=True):
        path.write_bytes(content)
    encoded = segmenter.images_encoded["sam"]
    store = Store(tmp_path / "run", {}, len(conditions))
    run.evaluate(segmenter, data, conditions, store)
    assert segmenter.images_encoded["sam"] - encoded == 2
    results = write_report(store, data, conditions, {"side": 0})
    assert not results["unreadable"]
    assert results["images"] == len(data)


@pytest.mark.slow
def test_two_processes_on_one_folder_count_nothing_twice(data, tmp_path):
    segmenter, conditions = small_segmenter(), plan(SETTINGS)
    stores = [Store(tmp_path / "run", {}, len(conditions)) for _ in range(2)]
    for store in stores:
        run.evaluate(segmenter, data, conditions, store)
    assert write_report(stores[0], data, conditions, {"side": 0})["images"] == len(data)
    assert write_report(stores[1], data, conditions, {"side": 0})["images"] == len(data)
    totals = [stores[1].totals(category) for category in data.categories]
    assert sum(len(total.images) for total in totals) == len(data)


@pytest.mark.slow
def test_an_image_that_breaks_the_work_takes_no_other_along(data, tmp_path, monkeypatch):
    measure = run.measure

    def breaks(segmenter, samples, *rest):
        if any(sample.key == "tile/test/spot/001" for sample in samples):
            raise MemoryError("too large")
        return measure(segmenter, samples, *rest)

    monkeypatch.setattr(run, "measure", breaks)
    results = measured(small_segmenter(), data, tmp_path, plan(SETTINGS), batch=4)
    assert results["unreadable"] == {
        "tile/test/spot/001": "tile/test/spot/001 could not be measured (too large)."
    }
    assert results["images"] == len(data) - 1


def test_a_long_and_narrow_photo_has_a_strip(segmenter):
    photo = np.full((20, 2000, 3), 90, np.uint8)
    strip = run.strip(segmenter(photo, SETTINGS), None)
    assert strip[:2] == b"\xff\xd8"


def test_other_weights_or_pictures_are_another_run(tmp_path):
    root = write_folder(tmp_path / "parts")
    conditions, segmenter = plan(SETTINGS), small_segmenter()

    def facts():
        return identity(load_dataset("folder", root), conditions, segmenter, 0)

    before = facts()
    assert facts() == before
    weight = next(segmenter.sam.network.model.parameters())
    with torch.no_grad():
        weight.flatten()[0] += 1
    trained = facts()
    assert trained != before
    (root / "tile/test/good/000.png").write_bytes((root / "tile/test/spot/000.png").read_bytes())
    assert facts() != trained


def test_a_corrected_mask_is_another_run_where_its_size_says_nothing(tmp_path):
    root = write_folder(tmp_path / "parts")
    good = root / "tile/ground_truth/spot/000_mask.png"
    mask = np.array(Image.open(good).convert("L"))
    good.unlink()
    digests = []
    for marked in (mask, np.roll(mask, 3, axis=1)):
        Image.fromarray(marked).save(good.with_suffix(".bmp"))
        digests.append(digest_of_samples(load_dataset("folder", root)))
    assert digests[0] != digests[1]


def test_an_evaluation_in_which_nothing_could_be_measured_fails(tmp_path):
    root = write_folder(tmp_path / "parts")
    for image in root.rglob("test/*/*.png"):
        image.write_bytes(b"no image")
    done = CliRunner().invoke(
        app,
        [
            "evaluate",
            "folder",
            "--root",
            str(root),
            "--preset",
            "tiny",
            "--out",
            str(tmp_path / "run"),
        ],
    )
    assert done.exit_code == 2
    assert "No image could be measured" in done.stderr
    assert "could not be measured; the end of table.md says why" in done.stderr


def test_averaged_masks_lose_what_is_thinner_than_half_a_pixel_of_the_square():
    mask = np.zeros((192, 192), bool)
    mask[:96] = True
    mask[150, :] = True  # half a pixel of the square high
    averaged = sizes.truth_at(mask, None, 0, 96, averaged=True)
    assert averaged.shape == (96, 96)
    assert averaged.index.size == 48 * 96
    assert sizes.truth_at(mask, None, 0, 96).index.size in (48 * 96, 49 * 96)
    whole = [sizes.truth_at(mask[:96], None, 0, 96, averaged=a).index.size for a in (True, False)]
    assert whole == [96 * 96] * 2


@pytest.mark.parametrize("name", ["run.json", "records/total-1.npz"])
@pytest.mark.parametrize("content", ["", "{", "[1]", "PK\x03\x04"])
def test_a_damaged_folder_is_one_sentence(tmp_path, name, content):
    Store(tmp_path, {"side": 0}, 1)
    (tmp_path / name).write_text(content)
    with pytest.raises(ZsasError, match=r"is damaged \(.*choose another --out"):
        Store(tmp_path, {"side": 0}, 1)


def test_a_damaged_record_is_measured_again(data, segmenter, tmp_path):
    conditions = plan(SETTINGS)[:1]
    store = Store(tmp_path, identity(data, conditions, segmenter, 0), 1)
    run.evaluate(segmenter, data, conditions, store)
    file = sorted((tmp_path / "records").glob("*.npz"))[0]
    file.write_bytes(file.read_bytes()[:100])
    again = Store(tmp_path, identity(data, conditions, segmenter, 0), 1)
    assert len(again.done) == len(data) - 1
    assert not file.exists()


def test_totals_survive_the_disk():
    rng = np.random.default_rng(0)
    truth = run.Truth.of(rng.random((20, 20)) < 0.2)
    counts = truth.count(rng.random((20, 20), dtype=np.float32))
    outcome = Outcome(counts, 0.5, 1, 2, 3)
    total = Totals.of(Record("a/b", "a", "b", True, (outcome, outcome)), 2)
    back = Totals.from_bytes(total.to_bytes())
    assert back.images == json.loads(json.dumps(total.images))
    for a, b in zip(total.counts, back.counts, strict=True):
        assert np.array_equal(a.normal, b.normal)
        assert np.array_equal(a.overlap, b.overlap)
        assert a.regions == b.regions
