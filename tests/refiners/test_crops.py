"""SAM close up: which windows it looks at, and that everything stays in the image's own coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.fake import FakeSegmenter
from zsas.frames import SamFrame, Window
from zsas.localizers.base import Scored, map_stage
from zsas.prompts import Masks, Prompt
from zsas.refiners.base import Refined
from zsas.refiners.cascade import Cascade
from zsas.refiners.crops import CropSettings, close_window, close_windows, closest
from zsas.settings import Settings
from zsas.stages import Boxes, Stage

HEIGHT, WIDTH = 400, 800
AUTO = CropSettings(sam_crops="auto")


def spots(*boxes: Window, level: float = 0.9) -> NDArray[np.float32]:
    heat = np.full((HEIGHT, WIDTH), 0.05, np.float32)
    for x0, y0, x1, y1 in boxes:
        heat[y0:y1, x0:x1] = level
    return heat


class ClosingSam:
    """Stands for a `SamSession`: draws the cell of the logit grid under each positive point, and is asked for crops."""

    def __init__(self, frame: SamFrame) -> None:
        self.frame, self.side = frame, frame.side
        self.asked: list[Prompt] = []
        self.crops: dict[Window, ClosingSam] = {}

    def crop(self, window: Window) -> ClosingSam:
        if window not in self.crops:
            x0, y0, x1, y1 = window
            self.crops[window] = ClosingSam(SamFrame(y1 - y0, x1 - x0, 256, 16, left=x0, top=y0))
        return self.crops[window]

    def encode_crops(self, windows: Sequence[Window]) -> None:
        for window in windows:
            self.crop(window)

    def features_for_points(self, kind: str) -> tuple[NDArray[np.float32], SamFrame]:
        return np.ones((2, *self.frame.grid_hw), np.float32), self.frame

    def decode(self, prompts: Sequence[Prompt]) -> list[Masks]:
        answers = []
        for prompt in prompts:
            seen = self if prompt.crop is None else self.crop(prompt.crop)
            seen.asked.append(prompt)
            logits = np.full((3, 64, 64), -8, np.float32)
            for x, y in seen.frame.points_to_frame(prompt.points[prompt.labels == 1]) / 4:
                logits[:, int(y), int(x)] = 8
            answers.append(Masks(logits, np.array([0.9, 0.1, 0.1], np.float32)))
        return answers


def refine(
    heat: NDArray[np.float32],
    clicks: Sequence[tuple[float, float, int]] = (),
    **settings: object,
) -> tuple[dict[str, Stage], Refined, ClosingSam]:
    sam = ClosingSam(SamFrame(HEIGHT, WIDTH, 256, 16))
    scored = Scored(heat, {}, (map_stage(heat, "Given"),))
    values = Settings(**{"sam_crops": "auto", "min_overlap": 0.0, "mask_level": 0, **settings})
    found = list(Cascade().refine(scored, sam, values, clicks))  # type: ignore[arg-type]
    (refined,) = (one for one in found if isinstance(one, Refined))
    return {one.name: one for one in found if isinstance(one, Stage)}, refined, sam


def windows_of(
    heat: NDArray[np.float32], settings: CropSettings, inside: NDArray[np.bool_] | None = None
) -> list[Window]:
    return close_windows(Scored(heat, {}, (), inside), settings, 256)


SMALL = (600, 100, 620, 110)
LONG = (100, 20, 160, 380)


def test_a_small_region_has_a_window_that_holds_it_and_a_large_one_has_none():
    (window,) = windows_of(spots(SMALL), AUTO)
    x0, y0, x1, y1 = window
    assert 0 <= x0 < 600 < 620 < x1 <= WIDTH
    assert 0 <= y0 < 100 < 110 < y1 <= HEIGHT
    assert x1 - x0 == y1 - y0 <= WIDTH / 2
    assert windows_of(spots(LONG), AUTO) == []
    assert windows_of(spots(SMALL), CropSettings(sam_crops="off")) == []
    assert windows_of(spots(), AUTO) == []


def test_auto_looks_closer_only_where_sam_makes_the_image_smaller_and_a_number_everywhere() -> None:
    scored = Scored(spots(SMALL), {}, ())
    assert close_windows(scored, AUTO, WIDTH - 1)
    assert close_windows(scored, AUTO, WIDTH) == []
    assert close_windows(scored, CropSettings(sam_crops=1), WIDTH)


def test_windows_are_as_many_as_were_asked_for_the_highest_first():
    heat = spots(SMALL, (20, 20, 30, 30), (300, 300, 310, 310))
    heat[300:310, 300:310] = 0.99
    one = windows_of(heat, CropSettings(sam_crops=1))
    assert len(one) == 1
    assert one[0] == closest(windows_of(heat, AUTO), (300, 300, 310, 310))
    assert len(windows_of(heat, AUTO)) == 3


def test_regions_beside_each_other_share_a_window():
    assert len(windows_of(spots(SMALL, (600, 120, 620, 130)), AUTO)) == 1


@pytest.mark.parametrize("box", [(0, 0, 3, 3), (797, 397, 800, 400), (0, 397, 3, 400)])
def test_windows_stay_inside_the_image(box):
    x0, y0, x1, y1 = close_window(box, HEIGHT, WIDTH)
    assert 0 <= x0 <= box[0]
    assert 0 <= y0 <= box[1]
    assert box[2] <= x1 <= WIDTH
    assert box[3] <= y1 <= HEIGHT


def test_only_pixels_that_are_looked_at_have_windows():
    inside = np.zeros((HEIGHT, WIDTH), bool)
    inside[:, :300] = True
    assert windows_of(spots(SMALL), AUTO, inside) == []


def test_sam_is_asked_about_a_small_region_in_its_window_and_the_mask_lies_where_the_region_is():
    stages, refined, sam = refine(spots(SMALL))
    (window,) = sam.crops
    assert not sam.asked
    assert len(sam.crops[window].asked) == 3
    ys, xs = np.nonzero(refined.mask)
    assert xs.min() >= 595
    assert xs.max() <= 625
    assert ys.min() >= 95
    assert ys.max() <= 115
    assert refined.score_map[105, 610] > refined.score_map[300, 100] + 0.3
    assert stages["points"].data["crops"] == [{"window": list(window), "region": list(SMALL)}]
    assert "1 region closer" in stages["points"].caption
    assert any(isinstance(layer, Boxes) for layer in stages["points"].layers)
    box = stages["box"].data["boxes"][0]
    assert 595 <= box[0] < box[2] <= 626


def test_a_window_draws_finer_than_the_whole_image():
    areas = [int(refine(spots(SMALL), sam_crops=n)[1].mask.sum()) for n in ("off", "auto")]
    assert areas[1] < areas[0] / 3


def test_large_regions_and_joint_prompts_are_asked_about_in_the_whole_image():
    for heat, settings in ((spots(LONG), {}), (spots(SMALL), {"prompting": "joint"})):
        stages, _, sam = refine(heat, **settings)
        assert sam.asked
        assert not sam.crops
        assert "crops" not in stages["points"].data


def test_a_click_beside_a_region_stays_in_its_cascade_and_one_elsewhere_sees_the_whole_image():
    _, _, sam = refine(spots(SMALL), clicks=[(612.0, 104.0, 1), (50.0, 350.0, 1)])
    (crop,) = sam.crops.values()
    assert (crop.asked[0].points == (612, 104)).all(axis=1).any()
    assert (sam.asked[0].points == (50, 350)).all(axis=1).any()


def test_the_papers_own_system_never_looks_closer():
    assert Settings(system="paper").sam_crops == "off"
    assert Settings(system="paper").prompting == "joint"


def dark_corner() -> NDArray[np.uint8]:
    image = np.full((HEIGHT, WIDTH, 3), 205, np.uint8)
    image[100:112, 600:620] = 25
    return image


def test_a_window_is_encoded_once_and_no_decision_encodes_again():
    segmenter = FakeSegmenter()
    encoding = segmenter.encode(dark_corner(), Settings(sam_crops=2))
    first = segmenter.segment(encoding, Settings(sam_crops=2))
    assert segmenter.images_encoded["sam_crops"] == 1
    assert first.stage("points").data["crops"]
    held = encoding.nbytes
    for settings in (
        Settings(sam_crops=2, threshold=0.3),
        Settings(sam_crops=4),
        Settings(sam_crops=2, steps=1),
    ):
        segmenter.segment(encoding, settings)
    assert segmenter.images_encoded["sam_crops"] == 1
    assert encoding.nbytes == held
    # Another encoding of the same pixels finds it in the cache.
    segmenter.segment(segmenter.begin(dark_corner()), Settings(sam_crops=2))
    assert segmenter.images_encoded["sam_crops"] == 1


def test_an_encoding_that_travels_takes_its_windows_along():
    segmenter = FakeSegmenter()
    encoding = segmenter.encode(dark_corner())
    segmenter.segment(encoding, Settings(sam_crops=2))
    assert encoding.to("cpu").crops.keys() == encoding.crops.keys() != set()
