"""A batch on a cluster gives what one process gives; the cluster is played by a loop."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.helpers.jobs import plan
from tests.helpers.models import small_segmenter
from tests.localizers.test_references import SETTINGS, plate
from zsas.bulk import Job, Output, compare_jobs, examine
from zsas.distributed import batch as far
from zsas.distributed import segment as alone
from zsas.distributed.ray import Cluster
from zsas.errors import ZsasError
from zsas.good import Good
from zsas.localizers.mutual import others_of


def in_turn(jobs, task, load, cluster):
    """Each job on a worker of its own, which shares nothing with the next but files and pickles."""
    for key, job in jobs.items():
        (answer,) = pickle.loads(pickle.dumps(task)).do(load(), [job])
        yield key, pickle.loads(pickle.dumps(answer))


@pytest.fixture(autouse=True)
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "spread", in_turn)


def folder_of(path: Path, count: int) -> list[Job]:
    path.mkdir()
    for i in range(count):
        Image.fromarray(plate(i, dent=i == 3)).save(path / f"{i}.png")
    (path / "broken.png").write_bytes(b"no image")
    return plan([str(path)], Output())


def together(jobs: list[Job], left: list[Job], out: Path):
    output = Output(out)
    return list(far.segment_together(jobs, left, SETTINGS, output, small_segmenter, Cluster()))


@pytest.mark.slow
def test_workers_give_what_one_process_gives(tmp_path: Path) -> None:
    jobs = folder_of(tmp_path / "in", 6)
    rows = {row.image: row for row in together(jobs, jobs, tmp_path / "far")}
    segmenter = small_segmenter()
    near = Output(tmp_path / "near")
    batch = compare_jobs(segmenter, jobs, SETTINGS)
    for row in examine(segmenter, jobs, SETTINGS, near, neighbours=batch):
        other = rows[row.image]
        assert bool(row.error) == bool(other.error)
        if not row.error:
            one, two = (json.loads(found.result) for found in (row, other))
            assert one["normal_ratio"] == pytest.approx(two["normal_ratio"], abs=2e-3)
            assert one["image_score"] == pytest.approx(two["image_score"], abs=5e-3)
    assert sum(bool(row.error) for row in rows.values()) == 1
    assert not (tmp_path / "far" / far.WAITING).exists()


@pytest.mark.slow
def test_a_resumed_run_compares_all_and_decides_what_is_left(tmp_path: Path) -> None:
    jobs = folder_of(tmp_path / "in", 5)
    rows = together(jobs, jobs[:1], tmp_path / "out")
    assert [row.image for row in rows] == [jobs[0].image]


@pytest.mark.slow
def test_too_few_are_a_sentence_and_leave_nothing(tmp_path: Path) -> None:
    jobs = folder_of(tmp_path / "in", 3)
    with pytest.raises(ZsasError, match="at least 5"):
        together(jobs, jobs, tmp_path / "out")
    assert not (tmp_path / "out" / far.WAITING).exists()


@pytest.mark.parametrize("count", [5, 6, 50])
def test_who_is_compared_with_whom_is_mutual(count: int) -> None:
    pairs = {(i, j) for i in range(count) for j in others_of(i, count)}
    assert pairs == {(j, i) for i, j in pairs}
    assert {len(others_of(i, count)) for i in range(count)} == {min(count - 1, 30)}


@pytest.mark.slow
def test_workers_compare_with_good_images_too(tmp_path: Path, monkeypatch: Any) -> None:
    jobs = folder_of(tmp_path / "in", 5)
    good = tmp_path / "good"
    good.mkdir()
    for seed in range(20, 23):
        Image.fromarray(plate(seed)).save(good / f"{seed}.png")
    remembered = Good([good])
    segmenter = small_segmenter()
    memory = remembered.of(segmenter, SETTINGS)
    monkeypatch.setattr(alone, "spread", in_turn)
    given = (SETTINGS, Output(tmp_path / "far"), small_segmenter, Cluster(), None, remembered)
    for rows, near in (
        (alone.segment(jobs, *given), None),
        (far.segment_together(jobs, jobs, *given), compare_jobs(segmenter, jobs, SETTINGS)),
    ):
        found = {row.image: row for row in rows}
        expected = examine(segmenter, jobs, SETTINGS, Output(tmp_path / "near"), 1, memory, near)
        for row in expected:
            if row.error:
                assert found[row.image].error
                continue
            one, two = (json.loads(r.result) for r in (row, found[row.image]))
            assert one["good_images"] == two["good_images"] == 3
            assert one["limit"] == pytest.approx(two["limit"], abs=2e-3)
            assert one["image_score"] == pytest.approx(two["image_score"], abs=5e-3)
