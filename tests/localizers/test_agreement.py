from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from zsas.localizers.agreement import ALIKE, FOREIGN, disagreement, trust_of
from zsas.localizers.patches import PatchFeatures, TileFeatures


def image(cells: torch.Tensor, inside: np.ndarray | None = None) -> PatchFeatures:
    """An image of one tile whose cells are given, (g_h, g_w, D)."""
    layers = F.normalize(cells.float(), dim=-1)[None, None]
    return PatchFeatures(
        (TileFeatures((0, 0, 80, 80), layers, torch.ones(2), (80, 80), inside=inside),)
    )


def part(seed: int, noise: int, size: int = 8) -> torch.Tensor:
    """A part of its own colour with a detail of its own at every place, photographed with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randn(32, generator=generator) + torch.randn(size, size, 32, generator=generator)
    other = torch.randn(size, size, 32, generator=torch.Generator().manual_seed(1000 + noise))
    return cells + 0.2 * other


def surface(noise: int, colour: int) -> torch.Tensor:
    """A surface of one colour, the same everywhere but for noise."""
    cells = torch.zeros(8, 8, 32)
    cells[..., colour] = 3.0
    return cells + 0.2 * torch.randn(8, 8, 32, generator=torch.Generator().manual_seed(noise))


def told(images: list[PatchFeatures]) -> float:
    return disagreement([[one] for one in images])


def test_images_of_one_part_agree_and_of_several_parts_do_not() -> None:
    assert told([image(part(0, noise)) for noise in range(4)]) < 0.3
    assert told([image(part(seed, seed)) for seed in range(4)]) > 1.2


def test_images_of_one_surface_agree_and_of_several_surfaces_do_not() -> None:
    assert told([image(surface(noise, 0)) for noise in range(4)]) < 1.2
    assert told([image(surface(noise, noise)) for noise in range(4)]) > 5


def test_one_that_differs_does_not_speak_for_the_others() -> None:
    images = [image(part(0, noise)) for noise in range(5)]
    assert told([*images, image(part(9, 9))]) < 0.3


def test_many_images_are_not_alike_by_their_number() -> None:
    few, many = ([image(part(seed, seed)) for seed in range(n)] for n in (4, 40))
    assert told(many) == pytest.approx(told(few), rel=0.15)


def test_a_turned_copy_speaks_for_its_image() -> None:
    """Each image shows the part at another angle, with other features; with copies at all angles they agree."""
    generator = torch.Generator().manual_seed(5)
    turns = [torch.linalg.qr(torch.randn(32, 32, generator=generator))[0] for _ in range(4)]
    turned = [image(part(0, k) @ turn) for k, turn in enumerate(turns)]
    copies = [image(part(0, 9) @ turn) for turn in turns]
    assert told(turned) > 1
    assert disagreement([[one, *copies] for one in turned]) < 0.3


def test_one_image_says_nothing() -> None:
    assert told([image(part(0, 0))]) == told([]) == ALIKE


def test_trust_falls_from_one_to_nothing() -> None:
    found = [trust_of(ratio) for ratio in (0.1, ALIKE, 1.5, FOREIGN, 9.0)]
    assert found == [1.0, 1.0, pytest.approx(0.5), 0.0, 0.0]


def test_only_what_is_looked_at_speaks() -> None:
    """Four images that share their left half: looked at there alone they agree."""
    left = np.zeros((8, 8), bool)
    left[:, :4] = True
    cells = []
    for seed in range(4):
        one = part(seed, seed)
        one[:, :4] = part(0, seed)[:, :4]
        cells.append(one)
    assert told([image(one) for one in cells]) > 2 * told([image(one, left) for one in cells])


@pytest.mark.parametrize("size", [1, 2, 3])
def test_an_image_without_a_rest_says_nothing(size: int) -> None:
    images = [image(part(seed, seed, size)) for seed in range(3)]
    assert told(images) == 1.0
