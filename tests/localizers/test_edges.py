"""The map is drawn along the image's edges; where there are none it stays as it was."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tests.helpers.models import small_segmenter
from zsas.localizers import edges
from zsas.localizers.edges import along_edges
from zsas.region import RegionOfInterest
from zsas.settings import Settings

SIDE = 160


def scratched() -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float32]]:
    """A grey plate with a dark line three pixels wide, where the line is, and a map that is as wide as a patch."""
    rng = np.random.default_rng(0)
    image = rng.normal(150, 1, (SIDE, SIDE, 3))
    line = np.zeros((SIDE, SIDE), bool)
    line[66:69, 30:130] = True
    image[line] = 60
    patches = cv2.resize(line.astype(np.float32), (10, 10), interpolation=cv2.INTER_AREA)
    heat = cv2.resize(patches, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    return np.clip(image, 0, 255).astype(np.uint8), line, 0.1 + 0.8 * heat / heat.max()


def overlap_at_best(heat: NDArray[np.float32], line: NDArray[np.bool_]) -> float:
    """Highest F1 of all thresholds."""
    return max(
        2 * int((line & (heat > t)).sum()) / int(line.sum() + (heat > t).sum())
        for t in np.linspace(0.05, 0.95, 46)
    )


def test_a_hairline_becomes_as_thin_as_it_is() -> None:
    image, line, heat = scratched()
    drawn = along_edges(heat, image, 8)
    assert overlap_at_best(heat, line) < 0.5
    assert overlap_at_best(drawn, line) > 0.8
    assert drawn.dtype == np.float32
    assert 0 <= drawn.min() <= drawn.max() <= 1


def test_an_edge_far_from_anything_anomalous_stays_normal() -> None:
    image, line, heat = scratched()
    image[:, 140:] = 20
    drawn = along_edges(np.where(line, heat, np.float32(0.1)), image, 8)
    assert abs(drawn[:48, 130:150] - 0.1).max() < 0.01


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_flat_map_and_a_flat_image_change_nothing(level: float) -> None:
    image, _, heat = scratched()
    flat = np.full((SIDE, SIDE), level, np.float32)
    np.testing.assert_allclose(along_edges(flat, image, 9), level, atol=2e-3)
    plain = along_edges(heat, np.full_like(image, 90), 1)
    np.testing.assert_allclose(plain, cv2.blur(cv2.blur(heat, (3, 3)), (3, 3)), atol=1e-4)


def test_strips_of_a_large_image_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _, heat = scratched()
    whole = along_edges(heat, image, 5)
    monkeypatch.setattr(edges, "STRIP", 1)
    np.testing.assert_allclose(along_edges(heat, image, 5), whole, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (300, 1)])
def test_the_smallest_images_have_a_map(shape: tuple[int, int]) -> None:
    heat = np.full(shape, 0.4, np.float32)
    np.testing.assert_allclose(
        along_edges(heat, np.zeros((*shape, 3), np.uint8), 12), 0.4, atol=1e-3
    )


def test_auto_draws_the_map_and_the_papers_system_does_not(photo: NDArray[np.uint8]) -> None:
    segmenter = small_segmenter()
    assert Settings(system="paper").edge_radius == 0
    auto = segmenter(photo, Settings(refiner="none"))
    smooth = segmenter(photo, Settings(refiner="none", edge_radius=0))
    assert (auto.anomaly_map != smooth.anomaly_map).any()
    assert auto.image_score == smooth.image_score
    caption = auto.stage("anomaly_map").caption
    assert "along the edges" in caption
    assert f" to {auto.anomaly_map.max():.2f} at (" in caption  # of the map that is shown
    assert "along the edges" not in smooth.stage("anomaly_map").caption
    np.testing.assert_array_equal(auto.stage("anomaly_map").heat, auto.anomaly_map)


def test_what_lies_outside_a_region_stays_zero(photo: NDArray[np.uint8]) -> None:
    width = photo.shape[1]
    region = RegionOfInterest.from_dict(
        {"region": [{"rectangle": [0, 0, 0.5, 1]}], "unit": "fraction"}
    )
    found = small_segmenter().segment(photo, Settings(refiner="none"), region=region)
    assert found.anomaly_map[:, : width // 2 - 1].max() > 0
    assert not found.anomaly_map[:, width // 2 + 1 :].any()
