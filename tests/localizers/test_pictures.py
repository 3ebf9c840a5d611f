"""Which images are mosaics, and where their seams lie."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.models import small_segmenter
from zsas.images import load_image
from zsas.localizers.pictures import pictures_of
from zsas.settings import Settings
from zsas.stages import Boxes

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.jpg"))


def shaded(seed: int, height: int = 120, width: int = 160) -> NDArray[np.uint8]:
    """A picture of even ground that is brighter on one side, as lamps make it, with noise."""
    rng = np.random.default_rng(seed)
    light = np.add.outer(np.linspace(-20, 20, height), np.linspace(-30, 30, width))
    level = rng.uniform(90, 160) + light * rng.choice([-1, 1]) + rng.normal(0, 4, (height, width))
    return np.repeat(np.clip(level, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def mosaic(rows: int, columns: int) -> NDArray[np.uint8]:
    return np.vstack(
        [np.hstack([shaded(r * columns + c) for c in range(columns)]) for r in range(rows)]
    )


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (1, 3), (4, 1), (4, 4)])
def test_the_pictures_of_a_mosaic_are_found(rows: int, columns: int) -> None:
    found = pictures_of(mosaic(rows, columns))
    assert found == tuple(
        (c * 160, r * 120, (c + 1) * 160, (r + 1) * 120)
        for r in range(rows)
        for c in range(columns)
    )


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_no_example_is_a_mosaic(file: Path) -> None:
    image = load_image(file)
    assert pictures_of(image) == ((0, 0, image.shape[1], image.shape[0]),)


@pytest.mark.parametrize("name", ["hazelnut-good", "tile-good"])
@pytest.mark.parametrize("side", [2, 4])
def test_copies_of_an_example_side_by_side_are(name: str, side: int) -> None:
    image = load_image(EXAMPLES[0].with_name(f"{name}.jpg"))
    assert len(pictures_of(np.tile(image, (side, side, 1)))) == side**2


def test_an_edge_that_ends_or_lies_elsewhere_divides_nothing() -> None:
    ends = shaded(0, 300, 400)
    ends[:120, 200:] = 30
    elsewhere = shaded(0, 300, 400)
    elsewhere[:, 170:] = 30
    for image in (ends, elsewhere, np.zeros((300, 400, 3), np.uint8)):
        assert len(pictures_of(image)) == 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 4000), (4000, 3), (191, 191)])
def test_small_and_narrow_images_are_one_picture(shape: tuple[int, int]) -> None:
    assert len(pictures_of(np.zeros((*shape, 3), np.uint8))) == 1


def test_no_tile_of_auto_lies_across_a_seam_and_the_result_says_so() -> None:
    segmenter = small_segmenter()
    image = mosaic(2, 2)
    stage = segmenter(image, Settings(refiner="none")).stage("anomaly_map")
    assert stage is not None
    assert (
        stage.data["tiles"] == 8
    )  # two in each picture, which is larger than the small model's frame
    (boxes,) = (layer.xyxy for layer in stage.layers if isinstance(layer, Boxes))
    assert all((x0 < 160) == (x1 <= 160) and (y0 < 120) == (y1 <= 120) for x0, y0, x1, y1 in boxes)
    assert "4 pictures" in stage.caption
    for settings in (Settings(refiner="none", max_tiles=3), Settings(refiner="none", tiles="off")):
        assert "pictures" not in segmenter(image, settings).stage("anomaly_map").caption
