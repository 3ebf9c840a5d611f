"""The generator's defects on surfaces out of photographs."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from tiny.synthetic.objects import OBJECTS
from tiny.synthetic.real_surfaces import FAMILY, real_object, real_surface, split, surfaces_in
from tiny.synthetic.scene import draft
from tiny.training.cache import CHUNK, fill
from zsas.errors import ZsasError


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder as `python -m tiny photographs` writes it: a red wall for training, a blue one to measure on."""
    folder = tmp_path / "photographs"
    (folder / "training").mkdir(parents=True)
    (folder / "statistics").mkdir()
    grain = np.random.default_rng(0).integers(0, 40, (300, 200, 1), np.uint8)
    for name, colour in (("training/a_wall.png", (0, 0, 200)), ("statistics/b.png", (200, 0, 0))):
        cv2.imwrite(str(folder / name), np.uint8(colour) + grain)
    listed = [
        {"file": "training/a_wall.png", "use": "training"},
        {"file": "statistics/b.png", "use": "statistics"},
    ]
    (folder / "manifest.json").write_text(json.dumps(listed))
    return folder


def test_only_photographs_for_training_become_surfaces(photographs: Path) -> None:
    files = surfaces_in(photographs)
    assert [file.name for file in files] == ["a_wall.png"]
    surface = real_surface(np.random.default_rng(1), 96, files)
    assert surface.rgb.shape == (96, 96, 3)
    assert surface.region.all()
    assert (surface.name, surface.family) == ("wall", FAMILY)
    red, _, blue = surface.rgb.mean((0, 1))
    assert red > 0.7 > 0.3 > blue
    again = real_surface(np.random.default_rng(1), 96, files)
    assert np.array_equal(surface.rgb, again.rgb)


def test_every_fourth_surface_is_kept_aside_with_all_its_pictures() -> None:
    names = [
        "brick1",
        "brick2",
        "brick2a",
        "brick2b",
        "metal",
        "plaster3c",
        "plaster3c-3",
        "wood07",
    ]
    files = [Path(f"{name}.png") for name in names]
    training, aside = split(files)
    assert [file.stem for file in aside] == ["plaster3c-3", "plaster3c"]
    assert sorted(training + aside) == sorted(files)
    assert split(files[::-1]) == (training, aside)


def test_a_small_photograph_is_repeated_and_not_blown_up(tmp_path: Path) -> None:
    grain = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "small.png"), grain)
    surface = real_surface(np.random.default_rng(2), 256, [tmp_path / "small.png"])
    shifted = np.roll(surface.rgb, -64, axis=1)[:, :192]
    assert np.abs(surface.rgb[:, :192] - shifted).mean() < 0.02  # one period is 64 px: twice 32
    assert surface.rgb.std() > 0.1


def test_a_defect_is_painted_on_the_photograph(photographs: Path) -> None:
    files = surfaces_in(photographs)
    scene = draft(
        4, 128, anomalous=True, grey=False, defect_types=["hole"],
        surface_from=lambda rng, size: real_surface(rng, size, files),
    )  # fmt: skip
    change = np.abs(scene.rgb - scene.clean).max(2)
    assert change[scene.defect_map > 0].mean() > 0.05
    assert scene.clean[..., 0].mean() > 2 * scene.clean[..., 2].mean()


def test_an_object_of_a_photographed_material_keeps_its_form_and_its_light(
    photographs: Path,
) -> None:
    files = surfaces_in(photographs)
    drawn = OBJECTS["tablet"](np.random.default_rng(3), 128)
    edge = cv2.dilate(drawn.region.astype(np.uint8), np.ones((7, 7))) - cv2.erode(
        drawn.region.astype(np.uint8), np.ones((7, 7))
    )
    inside, outside = drawn.region & (edge == 0), ~drawn.region & (edge == 0)
    materials = grounds = 0
    for seed in range(12):
        made = real_object(np.random.default_rng(seed), drawn, files)
        assert (made.name, made.family) == (drawn.name, drawn.family)
        assert np.array_equal(made.region, drawn.region)
        assert made.rgb.dtype == np.float32
        change = np.abs(made.rgb - drawn.rgb).mean(2)
        materials += change[inside].mean() > 0.01
        grounds += change[outside].mean() > 0.01
        assert change[inside].mean() > 0.01 or change[outside].mean() > 0.01
    assert 4 <= materials < 12
    assert 4 <= grounds < 12


@pytest.mark.slow
def test_a_cache_has_the_fraction_of_real_surfaces_and_says_so(
    photographs: Path, tmp_path: Path
) -> None:
    options = {"count": CHUNK, "size": 64, "photographs": photographs}
    cache = fill(tmp_path / "cache", **options, photograph_fraction=0.5)  # type: ignore[arg-type]
    real = sum(record.family == FAMILY for record in cache.records)
    assert 8 <= real <= 24
    with pytest.raises(ZsasError, match="another cache"):
        fill(tmp_path / "cache", count=CHUNK, size=64)
    things = fill(tmp_path / "things", **options, photograph_fraction=0.5, object_fraction=1.0)  # type: ignore[arg-type]
    assert not any(record.family == FAMILY for record in things.records)
    drawn = [record.family == FAMILY for record in cache.records]
    same = (things.image == cache.image).all(axis=(1, 2, 3))
    assert np.array_equal(same, ~np.array(drawn))  # what lies on no photograph is drawn as before


def test_without_licences_nothing_is_used(tmp_path: Path) -> None:
    with pytest.raises(ZsasError, match="tiny photographs"):
        surfaces_in(tmp_path)
