"""What the menu of models says: needs, and about how long an image takes here."""

from __future__ import annotations

import pytest

from zsas.models import PRESETS
from zsas.ui.speed import Speed, product_speed


def test_the_menu_names_no_time_before_it_is_measured() -> None:
    words = Speed().words()
    assert list(words) == list(PRESETS)
    assert words["tiny"] == "tiny · in the package"
    assert "about" not in " ".join(words.values())


def test_times_follow_the_arithmetic_and_the_machine() -> None:
    slow, quick = Speed(), Speed()
    slow.gflops, quick.gflops = 50.0, 5000.0
    times = [slow.seconds(preset) for preset in PRESETS.values()]
    assert times == sorted(times)
    assert all(preset.gflop > 0 for preset in PRESETS.values())
    assert quick.seconds(PRESETS["paper"]) < slow.seconds(PRESETS["paper"]) / 20
    assert slow.words()["paper"].endswith("about 5 min a photo")


def test_it_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [100.0, 200.0]
    monkeypatch.setattr("zsas.ui.speed.product_speed", lambda: answers.pop(0))
    speed = Speed()
    speed.measure()
    speed.measure()
    assert (speed.gflops, speed.over, answers) == (100.0, True, [200.0])


def test_a_machine_that_cannot_be_measured_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> float:
        raise RuntimeError("no such number format")

    monkeypatch.setattr("zsas.ui.speed.product_speed", fail)
    speed = Speed()
    with pytest.raises(RuntimeError):
        speed.measure()
    assert speed.over


def test_this_machine_multiplies() -> None:
    assert product_speed() > 0.1
