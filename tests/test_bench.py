"""The tables of `make bench`, without measuring."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bench import __main__ as table
from bench import encoders, gpu, measure, references, systems
from bench.__main__ import row


def test_a_system_that_cannot_be_measured_is_a_line_with_its_reason():
    auto = {"seconds": 4.0, "busy_seconds": 2.0, "pass_busy_seconds": 0.5, "peak_mb": 1000.0}
    other = {"seconds": 1.0, "busy_seconds": 1.0, "pass_busy_seconds": 0.25, "peak_mb": 1500.0}
    assert systems.row("vv", other, auto) == "| `vv` | 1.0 s | 0.50 | 4.0 | 1500 MB | 1.50 |"
    assert "not measured: no detector" in systems.row("saa", {"error": "no detector"}, auto)


def test_a_goal_that_is_missed_is_seen():
    assert row("what", "7 s", "≤ 6 s", False) == "| what | 7 s | ≤ 6 s | NO |"


def test_good_images_and_batches_have_their_goals():
    found = {
        "references": {
            "whole_off": [1.0, 1.2],
            "whole_auto": [1.0, 1.6],
            "level": [0.05, 0.05],
        },
        "references_full": {"alone": 10.0, "more": 0.5},
        "together": {"seconds": 61.0, "busy_seconds": 70.0, "peak_mb": 900.0},
    }
    reached = {what: (goal, good) for what, _, goal, good in references.rows(found)}
    assert len(reached) == 5
    assert sorted(good for _, good in reached.values()) == [False, False, True, True, True]
    assert not list(references.rows({}))


@pytest.mark.parametrize(("native", "goals"), [(True, (0.2, 0.15)), (False, (0.45, 0.45))])
def test_the_goal_at_full_size_is_that_of_the_processor_and_the_format(monkeypatch, native, goals):
    monkeypatch.setattr(table, "bf16_is_native", lambda: native)
    share = {"format": "bf16", "peak_gflops": 900.0}
    found = {
        "reference": {"seconds": 50.0, "peak_mb": 8000.0},
        "full": {"seconds": 50.0 * goals[0], "peak_mb": 4000.0, **share, "share": 0.6},
        "full_int8": {"seconds": 50.0 * goals[1] + 1, "peak_mb": 5000.0, **share, "share": 0.4},
        "full_openvino": {},
    }
    lines = list(table.full_rows(found))
    assert [goal for _, _, goal, _ in lines] == [
        f"≤ {goals[0]:.2f}",
        "≤ 0.60",
        "≥ 60 %",
        f"≤ {goals[1]:.2f}",
        "≤ 0.60",
        "≥ 60 %",
    ]
    assert [reached for *_, reached in lines] == [True, True, True, False, False, False]
    assert lines[2][1] == "60% of 900 GFLOP/s in bf16"
    assert not list(table.full_rows({"full": found["full"]}))


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL, as where memory"),
        ("raise SystemExit(3)", "exit code 3"),
        ("print('{}')", "installed"),
    ],
)
def test_a_measurement_that_fails_is_a_line_and_the_others_go_on(monkeypatch, capsys, command, why):
    real = subprocess.run

    def run(words, **more):
        code = command if words[-1] == "light" else "print('{\"images_per_second\": 70.0}')"
        return real([sys.executable, "-c", code], **more)

    monkeypatch.setattr(table.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["bench", "light", "synthetic"])
    table.main()
    printed = capsys.readouterr()
    *_, failed, last = printed.out.strip().splitlines()
    assert failed.startswith("| `light` | not measured: ")
    assert why in failed
    assert last == "| synthetic images of 256 × 256, two processes | 70 a second | ≥ 60 | yes |"
    assert printed.out.count("`light`") == 1
    assert "synthetic: 0 s" in printed.err


@pytest.mark.slow
def test_the_whole_way_of_the_small_models_can_be_timed(tmp_path):
    """What is compared with an earlier commit runs with the settings of today."""
    np.save(tmp_path / "image.npy", np.full((64, 64, 3), 200, np.uint8))
    done = subprocess.run(
        [sys.executable, "-c", measure._WHOLE, str(tmp_path / "image.npy")],
        cwd=measure.EXAMPLES.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0


@pytest.mark.slow
def test_the_work_of_both_encoders_is_counted_without_computing_it():
    """SAM ViT-H at 1024 px has some 2.7 Tera of multiply-adds, CLIP ViT-L/14 at 518 px some 0.4."""
    assert 5500 < measure.full_gflop() < 7500


def test_each_part_of_the_encoders_has_its_share_of_the_peak():
    found = {"parts": {"MLP": {"share": 0.9, "gflop": 10, "seconds": 1.0}}}
    assert list(encoders.rows(found)) == [
        ("share of the GEMM peak, MLP", "90%, 10 GFLOP in 1.00 s", "≥ 60 %", True)
    ]


@pytest.mark.slow
def test_a_part_of_the_gpus_bench_that_fails_or_comes_too_late_is_a_line(capsys):
    bench = gpu.Bench(gpu.CPU, 1e9, small=True)
    with bench.part("broken"):
        raise RuntimeError("out of memory")
    bench.most = -1.0
    with bench.part("late") as go:
        assert not go
    printed = capsys.readouterr().out
    assert "| broken | failed: RuntimeError: out of memory |" in printed
    assert "| late | left out" in printed
