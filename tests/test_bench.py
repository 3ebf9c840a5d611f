"""The tables of `make bench`, without measuring."""

from __future__ import annotations

from bench import references, systems
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
