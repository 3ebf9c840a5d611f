"""What is drawn and said: verdicts, hints, findings, outlines."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.helpers.fake import FakeSegmenter, photo
from tests.helpers.results import make_result
from tests.helpers.visits import opened
from zsas import curves
from zsas.localizers.references import REFERENCE
from zsas.result import find_regions
from zsas.review import Review, reviewed
from zsas.settings import Settings
from zsas.stages import Stage
from zsas.ui import cards, drawer, drawing, views, why
from zsas.ui.events.site import Site
from zsas.ui.good import GoodPlace
from zsas.ui.visitor import View


def test_the_border_of_a_mask_is_drawn_in_pixels_of_the_photo() -> None:
    mask = np.zeros((50, 80), bool)
    mask[10:21, 30:61] = True
    numbers = {tuple(map(int, pair)) for pair in re.findall(r"(\d+) (\d+)", drawing.path_of(mask))}
    assert numbers == {(30, 10), (60, 10), (60, 20), (30, 20)}
    assert drawing.path_of(np.zeros((5, 5), bool)) == ""
    assert drawing.path_of(np.eye(5, dtype=bool) & (np.arange(5) == 2)) != ""


def test_names_from_outside_cannot_carry_markup() -> None:
    assert "<script" not in views.sorry("<script>")
    assert "<img" not in drawer.drawer(Settings(object_name="<img src=x>"))


@pytest.mark.slow
def test_every_picture_has_words_for_those_who_cannot_see_it(site: Site) -> None:
    visitor = opened(site, photo(1))
    for part in ("zs-viewer", "zs-strip"):
        for picture in re.findall(r"<svg[^>]*>", visitor.screen[part]):
            assert re.search(r'aria-label="[^"]{10,}"', picture)


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("limit", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("marked", [True, False])
def test_no_settings_give_a_verdict_that_contradicts_itself(
    threshold: float, limit: float, marked: bool
) -> None:
    changes: dict[str, Any] = {} if marked else {"regions": (), "mask": np.zeros((60, 80), bool)}
    settings = Settings(threshold=threshold, verdict_threshold=limit)
    result = make_result(image_score=0.5, settings=settings, **changes)
    text = views.verdict(result, View())
    if result.verdict == "normal" and marked:
        assert "too weak for the verdict" in text
    if result.verdict != "normal" and not marked:
        assert "Anomalous as a whole, but nothing is marked" in text or result.verdict == "unsure"
        assert "threshold" not in views.found(result)
    assert result.verdict.capitalize() in text
    assert "at or above the limit" in text or "below the limit" in text


def test_the_map_that_shows_more_than_is_marked_suggests_a_level() -> None:
    result = make_result(settings=Settings(threshold=0.7, verdict_threshold=0.5))
    assert views.suggested_level(result) is not None
    assert views.suggested_level(make_result(image_score=0.1)) is None


def test_against_a_mask_cards_have_figures_and_curves() -> None:
    result = make_result()
    found = [cards.Card("auto", result, "", *curves.measure(result, result.mask))]
    shown = cards.cards([*found, cards.Card("vv")], "auto", result.mask.shape)
    assert "Against the mask, in %: AUROC" in shown
    assert shown.count("<svg") == 2  # the drawing, and the curves
    assert "<svg" not in cards.cards([cards.Card("vv")], "auto", result.mask.shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "settings", "offer"),
    [
        (500, {"tiles": "off"}, None),
        (1500, {"tiles": "off"}, ("tiles", "auto")),
        (3000, {"tiles": "auto", "max_tiles": 4}, ("max_tiles", "25")),
        (3000, {"tiles": "auto", "max_tiles": 64}, None),
    ],
)
def test_what_a_large_photo_lost_can_be_looked_at_closer(
    size: int, settings: dict[str, Any], offer: tuple[str, str] | None
) -> None:
    models = {"localizer": "linear", "linear": {"resolution": 512}}
    found = views.look_closer(
        make_result(size, size, models=models, settings=Settings(**settings), stages=(), regions=())
    )
    assert (found[:2] if found else None) == offer


def test_specks_are_folded_and_sizes_are_fractions_of_the_photo() -> None:
    mask = np.zeros((1000, 1000), bool)
    mask[100:200, 100:200] = True
    mask[500:503, 500:503] = mask[700:702, 700:704] = True
    result = make_result(1000, 1000, mask=mask, regions=find_regions(mask, mask.astype(np.float32)))
    text = views.findings(result)
    assert "+ 2 specks" in text
    assert "1.0 %" in text
    assert views.found(result) == "1 finding and 2 specks."
    assert drawing.marked_regions(result.regions, mask.shape).count("<text") == 1


def test_beside_a_finding_stands_the_most_similar_place_of_a_good_part() -> None:
    result = FakeSegmenter().segment(photo(3))
    place = GoodPlace("abc", 'rim "7"', (200, 100), (50.0, 25.0))
    text = views.findings(result, {result.regions[0].id: place})
    assert "zs-with-good" in text
    assert text.count("image/abc.jpg") == 2  # in the line, and large
    assert "rim &quot;7&quot;" in text
    assert "zs-pair-of" not in views.findings(result)


def test_a_region_is_outlined_where_it_is() -> None:
    mask = np.zeros((300, 400), bool)
    mask[40:90, 350:400] = True  # at the right border
    mask[200:240, 100:180] = True
    (first, second) = find_regions(mask, mask.astype(np.float32))
    text = drawing.marked_regions((first, second), mask.shape)
    for x0, y0, x1, y1 in (first.box, second.box):
        assert f"{x0} {y0}L" in text
        assert f"L{x1 - 1} {y1 - 1}" in text


def test_good_parts_that_are_different_parts_are_said_to_change_no_map() -> None:
    for trust, said in ((0.0, True), (0.4, False)):
        stage = Stage(REFERENCE, "Compared.", (), {"ignored": [], "trust": trust})
        found = views.hints(make_result(stages=(stage,), references=(("a", "1"), ("b", "2"))))
        assert any("seem to be different parts" in line for line in found) is said


def test_a_good_part_unlike_the_others_is_named() -> None:
    stage = Stage(REFERENCE, "Compared.", (), {"ignored": [1]})
    result = make_result(stages=(stage,), references=(("a", "1"), ("rim7", "2"), ("c", "3")))
    assert (
        views.hints(result)[0] == "rim7 differs from the other good parts and counts for nothing."
    )


def test_the_empty_page_says_what_a_photo_will_be_compared_with() -> None:
    assert "No good parts" in views.welcome()
    assert "compared with 1 good part;" in views.welcome(1)


def test_the_verdict_says_what_it_was_compared_with() -> None:
    text = views.verdict(make_result(), View(), parts=2, others=1)
    assert "Compared with 2 good parts and the 1 other photo of the lot." in text
    assert "Compared with the 1 other photo of the lot." in views.verdict(
        make_result(), View(), others=1
    )
    assert "Compared" not in views.verdict(make_result(), View())


def test_a_verdict_that_no_limit_changes_says_so() -> None:
    """All that is marked is too small: a high score beside "Normal" would contradict it, here and in a lot."""
    result = make_result(image_score=0.9)
    assert "; it decides nothing" not in views.verdict(result, View())
    small = replace(result, regions=tuple(replace(r, ignored=True) for r in result.regions))
    assert small.regions
    assert (small.verdict, small.settled) == ("normal", "normal")
    text = views.verdict(small, View())
    assert 'data-settled="normal"' in text
    assert "; it decides nothing" in text
    by_person = views.verdict(replace(small, persons_verdict="anomalous"), View())
    assert 'data-settled="anomalous"' in by_person
    assert "; it decides nothing" not in by_person


def test_a_stage_without_anything_to_show_says_why() -> None:
    flawless = np.full((40, 60, 3), 205, np.uint8)
    result = FakeSegmenter()(flawless)
    drawn = why.strip(flawless.shape, result.stages, result.settings, result=result)
    assert "so SAM is not asked" in drawn


def test_a_photo_of_a_few_pixels_is_said_to_show_little() -> None:
    for width, said in ((30, True), (80, False)):
        found = views.hints(make_result(height=20, width=width))
        assert any("very little to see" in line for line in found) is said


def test_weakness_is_said_of_the_system_alone_and_in_the_right_number() -> None:
    settings = Settings(verdict_threshold=0.9)
    result = make_result(image_score=0.1, settings=settings)
    one = views.found(result)
    assert one.endswith("It is too weak for the verdict.") is (len(result.regions) == 1)
    assert "weak" not in views.found(reviewed(result, Review(verdict="normal")))


@pytest.mark.parametrize(("parts", "words"), [(1, "changed copies of it do"), (4, "each other")])
def test_what_is_compared_with_is_named_in_the_right_number(parts: int, words: str) -> None:
    changes = {"score_alone": 0.8, "normal_ratio": 2.0, "good_ratios": (1.0,) * parts}
    text = views.compared(make_result(image_score=0.5, **changes), parts)
    assert words in text
    assert ("with it." in text) is (parts == 1)


@pytest.mark.parametrize("level", [16, 2**40])
def test_a_tile_beyond_all_levels_is_none(level: int) -> None:
    assert drawing.tile(photo(1), level, 0, 0) is None
