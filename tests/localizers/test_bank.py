from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.helpers.models import small_segmenter
from tests.localizers.test_references import SETTINGS, plate
from zsas.localizers import bank as banks
from zsas.localizers.bank import (
    bank_of,
    changed_copies,
    distances_to,
    farthest,
    turned_copies,
)
from zsas.localizers.patches import PatchFeatures, TileFeatures


@pytest.fixture(scope="module")
def segmenter():
    return small_segmenter()


def features(cells: torch.Tensor) -> PatchFeatures:
    """An image of one tile whose cells are given, (g_h, g_w, D)."""
    layers = F.normalize(cells.float(), dim=-1)[None, None]
    return PatchFeatures((TileFeatures((0, 0, 80, 40), layers, torch.ones(2), (40, 80)),))


def corners() -> torch.Tensor:
    """2 × 4 cells, each of a direction of its own."""
    return torch.eye(8).reshape(2, 4, 8)


def test_a_cell_that_the_bank_holds_is_near_and_another_is_far() -> None:
    bank = bank_of([[features(corners())]])
    (same,) = distances_to(features(corners()), bank)
    np.testing.assert_allclose(same, 0, atol=1e-3)
    (other,) = distances_to(features(-corners()), bank)
    assert (other > 0.9).all()


def test_the_image_that_is_left_out_does_not_count() -> None:
    mirrored = corners().roll(1, dims=-1) + corners()
    bank = bank_of([[features(corners())], [features(mirrored)]])
    (found,) = distances_to(features(corners()), bank, left_out=0)
    np.testing.assert_allclose(found, 1 - np.sqrt(0.5), atol=1e-3)


def test_a_window_only_looks_nearby() -> None:
    bank = bank_of([[features(corners())]])
    turned = features(corners().flip(1))
    (anywhere,) = distances_to(turned, bank)
    np.testing.assert_allclose(anywhere, 0, atol=1e-3)
    (nearby,) = distances_to(turned, bank, window=0.3)  # the middle columns are a quarter apart
    np.testing.assert_allclose(nearby[0, :, 1:3], 0, atol=1e-3)
    np.testing.assert_allclose(nearby[0, :, [0, 3]], 1, atol=1e-3)


def test_a_place_without_cells_nearby_looks_everywhere(monkeypatch) -> None:
    monkeypatch.setattr(banks, "BANK_CELLS", 1)
    bank = bank_of([[features(corners())]])
    (found,) = distances_to(features(corners()), bank, window=0.05)
    assert np.isfinite(found).all()
    assert found.max() <= 1.01


def test_the_bank_covers_what_is_rare() -> None:
    """A hundred cells of one kind and one of another: two chosen cells are one of each."""
    cells = torch.zeros(1, 101, 4)
    cells[0, :, 0] = 1
    cells[0, 57] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    assert 57 in farthest(cells, 2).tolist()


def test_a_hundred_images_take_no_more_cells_than_one_bank(monkeypatch) -> None:
    monkeypatch.setattr(banks, "CANDIDATES", 200)
    monkeypatch.setattr(banks, "BANK_CELLS", 50)
    generator = torch.Generator().manual_seed(0)
    images = [[features(torch.randn(4, 5, 6, generator=generator))] for _ in range(100)]
    bank = bank_of(images)
    assert all(layer.shape == (50, 6) for layer in bank.layers)
    assert bank.places is not None
    assert bank.owners is not None
    assert bank.places.shape == (50, 2)
    assert len(bank.owners.unique()) > 20


def test_turned_copies_keep_the_size_and_the_middle() -> None:
    image = plate(0)
    turned = turned_copies(image, 90)
    assert [one.shape for one in turned] == [image.shape] * 3
    square = image[:96, :96]
    np.testing.assert_array_equal(turned_copies(square, 90)[1], square[::-1, ::-1])
    assert turned_copies(image, 0) == []


@pytest.mark.slow
def test_turned_references_know_a_turned_part(segmenter) -> None:
    square = [plate(seed)[:96, :96] for seed in range(4)]
    upside = np.rot90(plate(20)[:96, :96]).copy()
    plain = segmenter.remember(square, SETTINGS)
    turning = SETTINGS.replace(reference_rotation=90)
    turned = segmenter.remember(square, turning)
    assert turned.turned == 90
    assert turned.key != plain.key
    far = segmenter(upside, SETTINGS, references=plain).normal_ratio
    near = segmenter(upside, turning, references=turned).normal_ratio
    assert near < far


def test_a_window_is_remembered(segmenter) -> None:
    settings = SETTINGS.replace(reference_window=0.1)
    references = segmenter.remember([plate(seed) for seed in range(4)], settings)
    assert references.window == 0.1
    assert references.key != segmenter.remember([plate(seed) for seed in range(4)], SETTINGS).key
    assert segmenter(plate(20, dent=True), settings, references=references).normal_ratio > 1


def test_the_changed_copies_of_one_image_are_mirrored_shifted_lighter_darker_and_noisy() -> None:
    image = np.random.default_rng(0).integers(40, 200, (60, 80, 3), dtype=np.uint8)
    mirrored, shifted, lighter, darker, noisy = changed_copies(image)
    np.testing.assert_array_equal(mirrored, image[:, ::-1])
    right, down = round(0.03 * 80), round(0.03 * 60)
    apart = shifted[down + 1 :, right + 1 :].astype(int) - image[1 : 60 - down, 1 : 80 - right]
    assert np.abs(apart).mean() < 25  # by a fraction of a pixel more or less
    assert lighter.mean() > image.mean() + 5
    assert darker.mean() < image.mean() - 5
    assert 2 < np.abs(noisy.astype(int) - image).mean() < 5
