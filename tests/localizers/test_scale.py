"""The image score depends on what is on the image, not on how large a picture it is in: with the bundled weights."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from zsas.images import load_image
from zsas.localizers.detail import detail_factor
from zsas.localizers.patches import of_tiles
from zsas.segmenter import Segmenter
from zsas.settings import Settings

EXAMPLES = Path(__file__).parents[2] / "examples"
GOOD = ("hazelnut-good", "tile-good")


@cache
def image(name: str) -> NDArray[np.uint8]:
    return load_image(EXAMPLES / f"{name}.jpg")


@cache
def tiny() -> Segmenter:
    return Segmenter.from_preset("tiny", device="cpu")


def score(picture: NDArray[np.uint8]) -> float:
    """The image score of the map and of CLIP; SAM has no say in it."""
    settings = Settings(refiner="none")
    return float(tiny()(picture, settings).image_score)


@cache
def alone(name: str) -> float:
    return score(image(name))


def on_bare_ground(picture: NDArray[np.uint8], times: int) -> NDArray[np.uint8]:
    """The picture unscaled in the middle of a larger one of the colour of its border, with a little noise."""
    height, width = picture.shape[:2]
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    noise = np.random.default_rng(0).normal(0, 2, (height * times, width * times, 1))
    whole = np.clip(np.median(border, axis=0) + noise, 0, 255).astype(np.uint8)
    y, x = (times - 1) * height // 2, (times - 1) * width // 2
    whole[y : y + height, x : x + width] = picture
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("how", [cv2.INTER_LINEAR, cv2.INTER_CUBIC])
@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("name", GOOD)
def test_an_enlarged_good_image_scores_no_higher(name: str, times: int, how: int) -> None:
    size = (image(name).shape[1] * times, image(name).shape[0] * times)
    larger = cv2.resize(image(name), size, interpolation=how)
    assert score(larger) <= alone(name) + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("side", [2, 4])
@pytest.mark.parametrize("name", GOOD)
def test_a_mosaic_of_a_good_image_scores_no_higher(name: str, side: int) -> None:
    assert score(np.tile(image(name), (side, side, 1))) <= alone(name) + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("times", [2, 4])
@pytest.mark.parametrize("name", ["hazelnut-broken", "tablet-dirt", "biscuit-broken", "ring-burnt"])
def test_a_defect_in_a_larger_picture_keeps_its_score(name: str, times: int) -> None:
    assert score(on_bare_ground(image(name), times)) >= alone(name) - 0.1


@pytest.mark.parametrize("times", [2, 3, 4])
@pytest.mark.parametrize("how", ["cubic", "linear"])
def test_an_enlarged_image_is_known_by_its_lack_of_detail(how: str, times: int) -> None:
    picture = image("tile-good")
    code = {"cubic": cv2.INTER_CUBIC, "linear": cv2.INTER_LINEAR}
    assert detail_factor(picture) == 1
    larger = cv2.resize(picture, None, fx=times, fy=times, interpolation=code[how])
    assert detail_factor(larger) == times
    sharp = larger.copy()
    sharp[100:220, 100:220] = np.random.default_rng(0).integers(0, 256, (120, 120, 3))
    assert detail_factor(sharp) == 1


@pytest.mark.parametrize("shape", [(1, 1), (40, 3000), (191, 500)])
def test_small_and_narrow_images_are_taken_as_they_are(shape: tuple[int, int]) -> None:
    assert detail_factor(np.zeros((*shape, 3), np.uint8)) == 1


def test_an_image_is_as_anomalous_as_its_most_anomalous_tile_unless_all_are_alike() -> None:
    assert of_tiles([0.7]) == 0.7
    assert of_tiles([0.9, 0.01, 0.02, 0.01]) == pytest.approx(0.9, abs=0.005)
    assert 0.5 < of_tiles([0.7, 0.7, 0.7, 0.7]) < 0.7
    assert of_tiles([0.7] * 16) < of_tiles([0.7] * 4)
    assert 0 <= of_tiles([0.0, 0.0]) < of_tiles([1.0, 1.0]) <= 1
