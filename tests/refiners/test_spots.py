"""Only a spot: a click that marks a small piece and never the whole object."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.fake import FakeSegmenter
from tests.helpers.fake import photo as plate
from tests.refiners.test_cascade import FRAME, WrittenSam, answer
from zsas.errors import ZsasError
from zsas.prompts import SPOT, check_clicks
from zsas.refiners.spots import SPOT_FRACTION, spot
from zsas.settings import Settings


def test_the_smallest_mask_that_holds_the_click_is_taken_and_never_reaches_far():
    sam = WrittenSam(lambda _: answer((0, 0, 16, 16), (6, 6, 10, 10), (0, 0, 2, 2)))
    found = spot((30, 30, SPOT), (64, 64), sam)
    assert found[30, 30]
    assert len(sam.asked) == 1
    rows, columns = np.nonzero(found)
    reach = max(2, round(SPOT_FRACTION * 64))
    assert np.hypot(rows - 30, columns - 30).max() <= reach
    assert FRAME.width == 64


@pytest.mark.parametrize("sam", [None, WrittenSam(lambda _: answer(None, None, None))])
def test_where_nothing_is_drawn_a_small_disc_is_the_spot(sam: WrittenSam | None):
    found = spot((30, 20, SPOT), (64, 64), sam)
    assert found[20, 30]
    assert 0 < found.sum() < 20


@pytest.mark.parametrize("refiner", ["own", "none", "mmr"])
def test_a_spot_adds_a_small_finding_to_any_system_and_a_minus_on_it_takes_it_away(refiner: str):
    segmenter = FakeSegmenter()
    settings = Settings(refiner=refiner)
    image = plate(3)
    before = segmenter.segment(image, settings)
    place = (5.0, 235.0)
    result = segmenter.segment(image, settings, [(*place, SPOT)])
    added = result.mask & ~before.mask
    assert added[235, 5]
    assert added.sum() < 0.01 * added.size
    np.testing.assert_array_equal(before.mask, result.mask & before.mask)
    assert len(result.regions) == len(before.regions) + 1
    assert result.points.source[-1] == "click"
    assert "1 spot marked by a person" in result.stage("fused").caption
    cut = segmenter.segment(image, settings, [(*place, SPOT), (*place, 0)])
    assert not cut.mask[235, 5]


def test_a_click_of_another_label_is_refused():
    check_clicks([(1, 1, SPOT)])
    with pytest.raises(ZsasError, match="2 for a spot alone"):
        check_clicks([(1, 1, 3)])
