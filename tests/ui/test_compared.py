"""What the page says of good parts: what they changed, where they stand, and the limit that they ask for."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from tests.helpers.results import make_result
from zsas.localizers.references import REFERENCE
from zsas.result import Result
from zsas.settings import Settings
from zsas.stages import Stage
from zsas.ui import views
from zsas.ui.events.image import take_limit
from zsas.ui.visitor import View, Visitor


def compared(ratio: float, goods: tuple[float, ...]) -> Result:
    result = make_result(image_score=0.62)
    return replace(
        result,
        normal_ratio=ratio,
        good_ratios=goods,
        references=tuple((f"{i}.png", "") for i in range(len(goods))),
        score_alone=0.81,
    )


@pytest.mark.parametrize("ratio", [0.0, 0.9, 4.2, 1e6])
def test_the_scale_holds_the_good_parts_and_the_photo(ratio: float) -> None:
    text = views.verdict(compared(ratio, (0.8, 1.1)), View(), 2)
    assert "Compared with 2 good parts: score 0.81 without them, 0.62 with them" in text
    assert f"{ratio:.1f} times" in text
    places = [float(at) for at in re.findall(r'style="left:([\d.]+)%"', text)]
    assert len(places) == 3
    assert all(0 <= at <= 100 for at in places)
    *goods, photo = places
    assert goods == sorted(goods)
    assert (photo > max(goods)) == (ratio > 1.1)


def test_beside_the_rest_of_a_lot_the_good_parts_keep_their_own_ratio() -> None:
    """A result's ratio is then that to the lot, and would stand on the scale of the good parts."""
    stage = Stage(REFERENCE, "Compared.", (), {"normal_ratio": 6.3})
    text = views.verdict(replace(compared(1.9, (0.8, 1.1)), stages=(stage,)), View(), 2, others=7)
    assert "2 good parts and the 7 other photos of the lot: score" in text
    assert "6.3 times" in text
    assert "1.9" not in text


def test_without_good_parts_there_is_no_scale() -> None:
    text = views.verdict(make_result(), View())
    assert "zs-ratio" not in text
    assert "good part" not in text


def test_the_limit_of_good_parts_is_on_the_controls_until_a_person_moves_it() -> None:
    visitor = Visitor("", "tiny")
    found = make_result(settings=Settings(verdict_threshold=0.42))
    take_limit(visitor, replace(found, limit_from="references"))
    assert visitor.in_force.verdict_threshold == 0.42
    assert visitor.screen["settings"]["values"]["verdict_threshold"] == 0.42
    assert "verdict_threshold" not in visitor.settings.given
    visitor.settings = visitor.settings.replace(verdict_threshold=0.6)
    take_limit(visitor, replace(found, limit_from="person"))
    assert visitor.in_force.verdict_threshold == 0.6
    visitor.settings = visitor.settings.replace(verdict_threshold=None)
    take_limit(visitor, replace(found, limit_from="default"))
    assert visitor.in_force.verdict_threshold == 0.7
