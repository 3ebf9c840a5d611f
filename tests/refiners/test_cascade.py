"""The paper's refiner on a SAM that is written down: which prompts are put, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from zsas.frames import SamFrame
from zsas.localizers.base import Scored, map_stage
from zsas.prompts import Masks, Prompt
from zsas.refiners.base import Refined
from zsas.refiners.cascade import Cascade
from zsas.settings import Settings
from zsas.stages import Stage

FRAME = SamFrame(64, 64, side=64, stride=16)
Square = tuple[int, int, int, int]


def answer(*squares: Square | None, iou: tuple[float, ...] = (0.9, 0.1, 0.1)) -> Masks:
    """Three masks, each a square of logit cells (x0, y0, x1, y1) or nothing; a cell is 4 px wide."""
    logits = np.full((3, 16, 16), -8, np.float32)
    for i, square in enumerate(squares):
        if square:
            x0, y0, x1, y1 = square
            logits[i, y0:y1, x0:x1] = 8
    return Masks(logits, np.array(iou, np.float32))


class WrittenSam:
    """Stands for a `SamSession`: answers each prompt by a function, and remembers the prompts."""

    frame, side = FRAME, FRAME.side
    valid = np.random.default_rng(0).normal(size=(4, 4, 4)).astype(np.float32)

    def __init__(self, reply: Callable[[Prompt], Masks]) -> None:
        self.reply = reply
        self.asked: list[Prompt] = []

    def features_for_points(self, kind: str) -> tuple[NDArray[np.float32], SamFrame]:
        assert kind == "sam"
        return self.valid, self.frame

    def decode(self, prompts: Sequence[Prompt]) -> list[Masks]:
        self.asked += prompts
        return [self.reply(prompt) for prompt in prompts]


def spot(*squares: Square, level: float = 0.9) -> NDArray[np.float32]:
    heat = np.full((64, 64), 0.1, np.float32)
    for x0, y0, x1, y1 in squares:
        heat[y0:y1, x0:x1] = level
    return heat


def refine(
    heat: NDArray[np.float32],
    reply: Callable[[Prompt], Masks],
    clicks: Sequence[tuple[float, float, int]] = (),
    **settings: object,
) -> tuple[dict[str, Stage], Refined, WrittenSam]:
    sam = WrittenSam(reply)
    scored = Scored(heat, {}, (map_stage(heat, "Given"),))
    usual = {"threshold": 0.5, "reference_size": 0, "kernel_size": 9, "mask_level": 0}
    values = Settings(**{**usual, **settings})
    found = list(Cascade().refine(scored, sam, values, clicks))
    (refined,) = (one for one in found if isinstance(one, Refined))
    assert refined is found[-1]
    return {one.name: one for one in found if isinstance(one, Stage)}, refined, sam


def same_square(prompt: Prompt) -> Masks:
    return answer((4, 4, 8, 8))


def test_the_first_call_has_points_the_second_logits_the_third_a_tight_box():
    _, _, sam = refine(spot((16, 16, 32, 32)), same_square)
    first, second, third = sam.asked
    assert first.box is None
    assert first.logits is None
    assert second.box is None
    np.testing.assert_array_equal(second.logits, answer((4, 4, 8, 8)).logits[0])
    np.testing.assert_array_equal(third.logits, second.logits)
    # Cells 4..7 of 4 px each: the mask is where the interpolated logits are positive.
    np.testing.assert_allclose(third.box, [16, 16, 32, 32], atol=1)
    for prompt in sam.asked:
        np.testing.assert_array_equal(prompt.points, first.points)


def test_the_best_of_three_is_the_one_with_the_highest_predicted_iou():
    stages, _, sam = refine(
        spot((16, 16, 32, 32)),
        lambda _: answer((0, 0, 4, 4), (4, 4, 12, 12), None, iou=(0.3, 0.8, 0.5)),
    )
    assert stages["m1"].data["predicted_iou"] == pytest.approx(0.8)
    assert sam.asked[1].logits[6, 6] == 8


def test_an_empty_second_mask_gives_a_third_call_without_a_box():
    def reply(prompt: Prompt) -> Masks:
        return answer((4, 4, 8, 8) if prompt.logits is None else None, None, None)

    stages, refined, sam = refine(spot((16, 16, 32, 32)), reply)
    assert sam.asked[2].box is None
    assert sam.asked[2].logits is not None
    assert "box" not in stages
    assert refined.provenance == ("M1",)  # the last mask that is not empty


def test_where_all_masks_are_empty_the_region_stands():
    heat = spot((16, 16, 32, 32))
    _, refined, _ = refine(heat, lambda _: answer(None, None, None))
    np.testing.assert_array_equal(refined.mask, heat > 0.5)
    assert refined.provenance == ("region",)
    _, bare, _ = refine(heat, lambda _: answer(None, None, None), min_overlap=0.0)
    assert not bare.mask.any()


def test_a_mask_that_leaks_is_replaced_by_its_region():
    heat = spot((16, 16, 20, 20))
    leaking = answer((0, 0, 16, 16))
    _, refined, _ = refine(heat, lambda _: leaking, min_overlap=0.2)
    assert refined.provenance == ("region",)
    _, kept, _ = refine(heat, lambda _: leaking, min_overlap=0.0)
    assert kept.mask.all()


def test_mask_confidence_is_peak_times_predicted_iou_times_overlap():
    heat = spot((16, 16, 32, 32), level=0.6)
    _, whole, _ = refine(heat, same_square, fusion="mask")
    assert whole.score_map[24, 24] == pytest.approx(0.6 * 0.9, abs=0.01)
    heat[:, 24:] = 0.1  # half of the mask lies outside now
    _, half, _ = refine(heat, same_square, fusion="mask")
    assert half.score_map[24, 20] == pytest.approx(0.6 * 0.9 * 0.5, abs=0.05)


@pytest.mark.parametrize(("iou", "believed"), [(1.3, 1.0), (-0.2, 0.0), (0.4, 0.4)])
def test_a_predicted_iou_counts_between_0_and_1(iou, believed):
    heat = spot((16, 16, 32, 32), level=0.8)
    _, refined, _ = refine(heat, lambda _: answer((4, 4, 8, 8), iou=(iou, -9, -9)), fusion="mask")
    assert refined.score_map.max() == pytest.approx(0.8 * believed, abs=0.01)


def test_each_region_has_a_cascade_of_its_own_or_all_have_one():
    heat = spot((8, 8, 16, 16), (40, 40, 48, 48))
    _, _, apart = refine(heat, same_square)
    _, _, joint = refine(heat, same_square, prompting="joint")
    assert len(apart.asked) == 6
    assert len(joint.asked) == 3


TWO = spot((8, 8, 16, 16), (40, 40, 48, 48))


def own_piece(prompt: Prompt) -> Masks:
    """The square of the cascade's first positive point."""
    x, _ = prompt.points[prompt.labels == 1][0]
    return answer((2, 2, 4, 4) if x < 32 else (10, 10, 12, 12))


def test_a_click_belongs_to_the_piece_it_lies_in_or_beside():
    def clicked(*clicks):
        _, _, sam = refine(TWO, own_piece, clicks, steps=1, k_positive=1, k_negative=1)
        given = {click[:2] for click in clicks}
        return [{tuple(p) for p in prompt.points.tolist()} & given for prompt in sam.asked]

    assert clicked() == [set(), set()]
    assert clicked((44, 44, 1)) == [set(), {(44, 44)}]
    assert clicked((50, 44, 0)) == [set(), {(50, 44)}]  # beside it, in its ring
    assert clicked((30, 4, 1)) == [set(), set(), {(30, 4)}]  # far from both: a cascade of its own
    assert clicked((30, 4, 0)) == [set(), set()]  # far from both: it reaches nobody


def test_what_lies_under_a_negative_click_is_never_in_the_result():
    _, before, _ = refine(TWO, own_piece)
    assert before.mask[12, 12]
    assert before.mask[44, 44]
    for settings in ({}, {"prompting": "joint"}, {"min_overlap": 1.0}, {"max_regions": 1}):
        _, after, _ = refine(TWO, own_piece, [(12, 12, 0)], **settings)
        assert not after.mask[12, 12], settings
    _, after, _ = refine(TWO, own_piece, [(12, 12, 0)])
    assert not after.mask[:32, :32].any()  # the piece under it goes
    np.testing.assert_array_equal(after.mask[32:, 32:], before.mask[32:, 32:])  # the other stays


def test_a_negative_click_beside_a_positive_one_cuts_a_disc():
    _, after, _ = refine(TWO, own_piece, [(13, 13, 0), (9, 9, 1)])
    assert not after.mask[13, 13]
    assert after.mask[9, 9]


def test_captions_name_what_was_decided():
    stages, refined, _ = refine(spot((16, 16, 32, 32)), same_square)
    assert "above 0.50" in stages["region_and_ring"].caption
    assert "dilated by 9 px (ellipse)" in stages["region_and_ring"].caption
    assert "3 positive points (+)" in stages["points"].caption
    assert "predicted IoU of 0.90" in stages["m1"].caption
    assert stages["box"].caption.startswith("1 tight box around M2: ")
    assert "0.50 × SAM's mask (M3)" in refined.stage.caption


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threshold_mode": "relative"}, "0.50 of the map's maximum"),
        ({"threshold_mode": "quantile", "threshold": 0.98}, "the 0.98 quantile"),
        ({"threshold_mode": "otsu"}, "Otsu's level"),
    ],
)
def test_the_caption_reads_the_level_as_the_mode_says(settings, words):
    stages, _, _ = refine(spot((16, 16, 32, 32)), same_square, **settings)
    assert words in stages["region_and_ring"].caption


def test_without_a_region_sam_is_asked_about_clicks_alone():
    nothing = spot()
    stages, refined, sam = refine(nothing, same_square)
    assert set(stages) == {"region_and_ring"}
    assert stages["region_and_ring"].caption.endswith("so SAM is not asked.")
    assert not sam.asked
    assert not refined.mask.any()
    stages, refined, _ = refine(nothing, same_square, [(20, 20, 1)])
    assert stages["region_and_ring"].caption.endswith("so SAM is asked about your clicks alone.")
    assert refined.mask[24, 24]


def test_map_and_mask_decide_together_where_they_must_agree():
    """Half of SAM's mask lies where the map says nothing; it is left out, and so is a mask that SAM doubts."""
    heat = spot((16, 16, 32, 32), level=0.7)
    wide = lambda prompt: answer((4, 4, 12, 8))  # noqa: E731
    _, usual, _ = refine(heat, wide, min_overlap=0.0)
    assert usual.mask[20, 44]
    _, agreed, _ = refine(heat, wide, mask_level=0.7)
    assert agreed.mask[20:28, 20:28].all()
    assert not agreed.mask[20, 44]
    assert agreed.stage.caption.endswith("reach a mean of 0.35.")
    doubted = lambda prompt: answer((4, 4, 8, 8), iou=(0.0, 0.0, 0.0))  # noqa: E731
    _, doubtful, _ = refine(heat, doubted, mask_level=0.8)
    assert not doubtful.mask.any()


def test_what_a_person_clicked_is_sams_whatever_the_map_says():
    _, refined, _ = refine(
        spot(), lambda prompt: answer((4, 4, 8, 8)), [(24.0, 24.0, 1)], mask_level=0.9
    )
    assert refined.mask[24, 24]


def test_a_negative_click_takes_its_piece_out_of_what_was_agreed():
    heat = spot((16, 16, 32, 32))
    _, refined, _ = refine(heat, same_square, [(18.0, 18.0, 0)], mask_level=0.7)
    assert not refined.mask.any()
