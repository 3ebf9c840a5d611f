"""Many workers give what one process gives, also when one of them is killed in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from tests.helpers.datasets import write_folder
from tests.helpers.fake import FakeSegmenter
from tests.helpers.jobs import plan as plan_images
from tests.helpers.models import small_segmenter
from zsas.bulk import Job, Output, prepare, read_job
from zsas.bulk.rows import Row
from zsas.cli import app
from zsas.datasets.load import load_dataset
from zsas.distributed import ray as ray_engine
from zsas.distributed.ray import Cluster
from zsas.distributed.segment import segment
from zsas.errors import ZsasError
from zsas.evaluation import distributed, run
from zsas.evaluation.conditions import plan
from zsas.evaluation.identity import identity, identity_of_data
from zsas.evaluation.records import Store
from zsas.evaluation.report import write_report
from zsas.images import load_image
from zsas.models import ModelChoice
from zsas.settings import Settings

pytestmark = pytest.mark.ray

SETTINGS = Settings(threshold=0.97, threshold_mode="quantile", spacing=0.0, max_regions=2)


@pytest.fixture(scope="module")
def cluster():
    """Two workers' worth of processes on this machine, which may be busy with other things."""
    import ray

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    path = os.pathsep.join(filter(None, [os.getcwd(), os.environ.get("PYTHONPATH")]))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            **ray_engine.PATIENCE,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": path,
        }.items():
            patch.setenv(name, value)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100 * 2**20,
        )
        yield ray
        ray.shutdown()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data") / "parts", per_kind=3)


def rows_of(out):
    return [
        row
        for part in sorted((out / "results").glob("*"))
        for row in pq.read_table(part).to_pylist()
    ]


def files_below(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def examined(sources, out, settings=SETTINGS, make=FakeSegmenter, **cluster):
    """New rows of a run on the cluster, as a list; each worker is a new process, in which the stand-in starts fast."""
    output = Output(out, "table")
    work = prepare([str(source) for source in sources], output, settings, ModelChoice())
    rows = segment(work.left, settings, output, make, Cluster(**cluster))
    return list(work.keep(rows))


@dataclass(frozen=True)
class Runs:
    """Three runs into one output folder: new rows of each, and all rows after the second and after the third."""

    photos: Path
    out: Path
    late: str
    first: list[Row]
    second: list[Row]
    third: list[Row]
    written: list[dict[str, Any]]
    mended: list[dict[str, Any]]


@pytest.fixture(scope="module")
def runs(cluster, folder, tmp_path_factory):
    """A run on some of the images, one on all with a file that is no image yet, and one after that is whole."""
    root = tmp_path_factory.mktemp("runs")
    photos = shutil.copytree(folder, root / "photos")
    out, late = root / "out", photos / "late.png"
    first = examined([photos / "tile"], out, workers=1)
    late.write_bytes(b"not an image")
    second = examined([photos], out, workers=2)
    written = rows_of(out)
    shutil.copy(photos / "tile/test/spot/000.png", late)
    third = examined([photos], out, workers=1)
    return Runs(photos, out, str(late), first, second, third, written, rows_of(out))


def test_two_workers_give_the_masks_of_one_process(runs):
    images = sorted(map(str, runs.photos.rglob("*.png")))
    assert sorted(row["image"] for row in runs.written) == images
    (broken,) = [row for row in runs.written if row["error"]]
    assert broken["image"] == runs.late
    assert "not an image" in broken["error"]
    new = {row.image: row.to_dict() for row in runs.first + runs.second}
    assert new == {row["image"]: row for row in runs.written}
    segmenter = FakeSegmenter()
    for row in runs.written:
        if not row["error"]:
            expected = segmenter(load_image(row["image"]), SETTINGS)
            mask = cv2.imread(str(runs.out / row["mask"]), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(mask > 0, expected.mask)
            assert row["image_score"] == pytest.approx(expected.image_score, abs=1e-4)
            assert len(json.loads(row["result"])["regions"]) == len(expected.regions)


def test_a_second_run_does_only_what_is_left(runs):
    assert runs.first
    assert {row.image for row in runs.first}.isdisjoint(row.image for row in runs.second)
    assert len(runs.first + runs.second) == len(runs.written)
    with pytest.raises(ZsasError, match="run of other settings"):
        examined([runs.photos], runs.out, Settings(), workers=1)


def test_a_failure_is_tried_again_and_has_one_row(runs):
    (again,) = runs.third
    assert again.image == runs.late
    assert len(runs.mended) == len(runs.written)
    assert not any(row["error"] for row in runs.mended)


def test_both_commands_take_the_engine(cluster, folder, tmp_path):
    """As typed: the flags reach the workers, and the answers are those of the commands without the engine."""
    engine = ["--engine", "ray", "--workers", "1"]
    shell = CliRunner()

    def typed(*words):
        done = shell.invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output

    for layout in ("folders", "table"):
        words = ["segment", folder / "tile", "--threshold", 0.4, "--format", layout]
        typed(*words, "--out", tmp_path / f"far-{layout}", *engine)
        typed(*words, "--out", tmp_path / f"near-{layout}")
        far, near = (files_below(tmp_path / f"{place}-{layout}") for place in ("far", "near"))
        # How many parts a table has depends on the seconds that it took.
        assert {n for n in far if "parquet" not in n} == {n for n in near if "parquet" not in n}
        assert {n: far[n] for n in far if n.endswith(".png")} == {
            n: near[n] for n in near if n.endswith(".png")
        }
    far, near = (
        {row["image"]: row for row in rows_of(tmp_path / f"{place}-table")}
        for place in ("far", "near")
    )
    assert len(far) == len(list((folder / "tile").rglob("*.png")))
    for image, row in far.items():
        assert row["name"] == near[image]["name"]
        one, other = (json.loads(found["result"]) for found in (row, near[image]))
        assert one["settings"]["threshold"] == 0.4
        assert one["regions"] == other["regions"]
    # Seen from here as from an address: S3 and the like differ in the word before the colon.
    measure = ["evaluate", "folder", "--root", folder.as_uri(), "--limit", 2]
    typed(*measure, "--out", tmp_path / "there", *engine)
    typed("evaluate", "folder", "--root", folder, "--limit", 2, "--out", tmp_path / "here")
    there, here = (
        json.loads((tmp_path / name / "results.json").read_text())["table"]
        for name in ("there", "here")
    )
    assert [row["mean"] for row in there] == [row["mean"] for row in here]


def slow_worker(pids):
    """Makes segmenters that leave their process id in a file, wait for a second one, and take their time."""

    def make():
        segmenter = small_segmenter()
        encode = segmenter.encode_batch

        def slowly(*arguments):
            time.sleep(0.3)
            return encode(*arguments)

        segmenter.encode_batch = slowly
        with open(pids, "a") as file:
            file.write(f"{os.getpid()}\n")
        while len(pids.read_text().split()) < 2:
            time.sleep(0.05)
        return segmenter

    return make


def test_a_killed_worker_is_replaced_and_nothing_is_lost_or_doubled(
    cluster, folder, tmp_path, monkeypatch
):
    pids = tmp_path / "pids"
    data = load_dataset("folder", folder)
    conditions = plan(SETTINGS)
    store = Store(tmp_path / "run", identity_of_data(data, conditions, 0), len(conditions))
    kills = []

    def kill_one_when_three_are_done(done, total):
        if done == 3:
            kills.append(int(pids.read_text().split()[0]))
            os.kill(kills[0], signal.SIGKILL)

    distributed.evaluate(
        data,
        conditions,
        store,
        slow_worker(pids),
        Cluster(workers=2),
        progress=kill_one_when_three_are_done,
    )
    assert len(kills) == 1
    assert len(set(pids.read_text().split())) == 3

    monkeypatch.setattr("zsas.evaluation.report.draw_curves", lambda *_: None)
    results = write_report(store, data, conditions, {"side": 0})
    facts = identity(data, conditions, small_segmenter(), 0)
    assert json.loads(json.dumps(facts)) == json.loads((tmp_path / "run/run.json").read_text())
    alone = Store(tmp_path / "alone", facts, len(conditions))
    run.evaluate(small_segmenter(), data, conditions, alone)
    expected = write_report(alone, data, conditions, {"side": 0})
    assert results["images"] == len(data) == expected["images"]
    assert results["table"] == expected["table"]


def worker_that_dies_of(deadly):
    """Makes a stand-in without models, which starts fast: its process is started six times."""

    def make():
        from tests.helpers.results import make_result

        class Segmenter:
            def encode_batch(self, images, settings, *_):
                if any(np.array_equal(image.pixels, deadly) for image in images):
                    os.kill(os.getpid(), signal.SIGKILL)
                return images

            def segment(self, encoding, settings, **_):
                return make_result()

        return Segmenter()

    return make


def test_an_image_that_kills_every_worker_is_a_row_with_an_error_and_takes_no_other_along(
    cluster, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(ray_engine, "RETRIES", 1)
    chosen = [str(path) for path in sorted(folder.glob("tile/test/good/*.png"))]
    make = worker_that_dies_of(load_image(chosen[1]))
    rows = examined(chosen, tmp_path / "out", make=make, workers=1, batch=2)
    errors = [row for row in rows if row.error]
    assert len(rows) == len(chosen)
    assert [row.image for row in errors] == [chosen[1]]
    assert "worker died" in errors[0].error


def test_models_that_cannot_be_had_stop_the_run_with_their_sentence(cluster, folder, tmp_path):
    def make():
        raise ZsasError("The weights are not here.")

    with pytest.raises(ZsasError, match="The weights are not here"):
        examined([folder], tmp_path / "out", make=make, workers=1)
    assert not rows_of(tmp_path / "out")


def test_workers_with_gpus_that_nobody_has_are_refused_instead_of_awaited(
    cluster, folder, tmp_path
):
    with pytest.raises(ZsasError, match="the cluster has 0 GPUs"):
        examined([folder], tmp_path / "out", gpus_per_worker=1)


def test_a_file_at_an_address_starts_no_program(monkeypatch):
    import fsspec
    from PIL import EpsImagePlugin

    started = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: started.append(1))
    fsspec.filesystem("memory").pipe(
        "/trap/x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n"
    )
    with pytest.raises(ZsasError, match=r"memory://trap/x\.png is a file of the format PostScript"):
        read_job(Job("memory://trap/x.png", "x"))
    assert not started


def test_every_worker_takes_the_preset_that_the_driver_chose(monkeypatch):
    monkeypatch.setattr("zsas.models.load.default_preset", lambda: "base")
    assert ray_engine.loader(ModelChoice(clip="x"), SETTINGS).args[0] == ModelChoice("base", "x")
    assert ray_engine.loader(ModelChoice("tiny"), SETTINGS).args[0] == ModelChoice("tiny")


def test_addresses_are_listed_through_fsspec():
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe(
        "/bucket/line/1.png", cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()
    )
    system.pipe("/bucket/notes.txt", b"")
    (job,) = plan_images(["memory://bucket"], Output(Path("/out"), "table"))
    work = prepare(["memory://bucket"], Output(), SETTINGS, ModelChoice())
    assert work.scan.sentence == "1 left out: 1 no image (notes.txt)."
    assert job.name == "line/1"
    assert job.stamp
    assert read_job(job).pixels.shape == (4, 4, 3)
    with pytest.raises(ZsasError, match="There is no file memory://"):
        read_job(Job("memory://bucket/gone.png", "gone"))
