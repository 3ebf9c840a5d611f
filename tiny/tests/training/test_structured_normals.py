"""Things whose order says that they are normal, and the one piece that breaks it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tiny.training.structured_normals import arrange, outline, pieces, thing, tiling

VALUES = {
    name: v
    for v, name in enumerate(("colour", "contamination", "misplaced", "missing", "stain"), start=1)
}
SIZE = 128


def donor(seed: int) -> np.ndarray:
    """A coarse coloured noise that is nowhere the same, uint8 (96, 96, 3)."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(noise, (96, 96), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_a_tiling_shows_its_piece_again() -> None:
    again = 0
    for seed in range(30):
        sheet = tiling(np.random.default_rng(seed), donor(seed), SIZE)
        assert sheet.shape == (SIZE, SIZE, 3)
        found = cv2.matchTemplate(sheet, sheet[50:70, 50:70], cv2.TM_CCOEFF_NORMED)
        found[46:55, 46:55] = -1  # the place it was taken from
        again += found.max() > 0.8
    assert again >= 24
    flat = cv2.matchTemplate(donor(0), donor(0)[40:60, 40:60], cv2.TM_CCOEFF_NORMED)
    flat[36:45, 36:45] = -1
    assert flat.max() < 0.8  # the donor itself does not


def test_an_outline_is_one_form_around_its_middle() -> None:
    for seed in range(20):
        form = outline(np.random.default_rng(seed), 201, (100, 100), 60.0) > 127
        assert 0.01 < form.mean() < 0.6
        assert cv2.connectedComponents(form.astype(np.uint8))[0] == 2
        assert np.allclose(np.argwhere(form).mean(0), 100, atol=2)


def in_order(seed: int, labels: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Pieces of the seed's donor on an even grey of 120."""
    plain = np.full((SIZE, SIZE, 3), 120, np.uint8)
    labels = np.zeros((SIZE, SIZE), np.uint8) if labels is None else labels
    return pieces(np.random.default_rng(seed), plain, labels, donor(seed), VALUES)


def test_only_an_odd_piece_is_labelled_and_the_rest_is_as_the_regular_order() -> None:
    defect_types: list[int] = []
    for seed in range(80):
        changed, labels = in_order(seed)
        assert np.abs(changed.astype(int) - 120).max() > 10  # something was laid down
        found = sorted(set(np.unique(labels)) - {0})
        assert len(found) <= 1
        assert (labels > 0).mean() < 0.3
        defect_types += found
    assert 15 < len(defect_types) < 65
    assert set(defect_types) == {
        VALUES[k] for k in ("colour", "contamination", "misplaced", "missing")
    }


def test_a_missing_piece_is_labelled_where_the_background_shows() -> None:
    seen = 0
    for seed in range(80):
        changed, labels = in_order(seed)
        inside = cv2.erode((labels == VALUES["missing"]).astype(np.uint8), np.ones((3, 3))) > 0
        if inside.any():
            seen += 1
            assert np.abs(changed[inside].astype(int) - 120).mean() < 12
    assert seen >= 3


def test_what_a_piece_covers_is_sound() -> None:
    stained = np.full((SIZE, SIZE), VALUES["stain"], np.uint8)
    _, labels = in_order(1, stained)
    assert 0 < (labels == 0).mean() < 1


def test_an_object_lies_where_its_region_says() -> None:
    for seed in range(12):
        behind = np.full((SIZE, SIZE, 3), 120, np.uint8)
        picture, region = thing(np.random.default_rng(seed), donor(seed), behind)
        assert 0.01 < region.mean() < 0.9
        outside = cv2.dilate(region.astype(np.uint8), np.ones((13, 13))) == 0
        if outside.any():
            assert picture[outside].std(axis=0).max() < 3


@pytest.mark.parametrize("seed", range(12))
def test_an_arrangement_covers_its_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture, inside = np.full((SIZE, SIZE, 3), 120, np.uint8), np.zeros((SIZE, SIZE), bool)
    stained = np.full((SIZE, SIZE), VALUES["stain"], np.uint8)
    made, labels, inside = arrange(rng, picture, stained, inside, donor(seed), VALUES)
    assert made.shape == picture.shape
    assert made.dtype == labels.dtype == np.uint8
    assert inside[labels > 0].all()
