"""Synthetic images: reproducible, exactly labelled, and written in MVTec-AD's layout."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tiny.synthetic.objects import OBJECTS
from tiny.synthetic.scene import (
    DEFECT_TYPES,
    FAMILIES,
    HELD_OUT_DEFECT_TYPES,
    HELD_OUT_FAMILIES,
    TRAIN_DEFECT_TYPES,
    TRAIN_FAMILIES,
    draft,
    make_image,
    write_dataset,
)
from tiny.synthetic.textures import TEXTURES
from tiny.tests.seeds import seeds
from zsas.errors import ZsasError

SIZE = 128


def test_a_seed_is_a_picture() -> None:
    first, again, other = make_image(7, SIZE), make_image(7, SIZE), make_image(8, SIZE)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.defect_map, again.defect_map)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("seed", seeds(8))
def test_labels_agree_with_each_other(seed: int) -> None:
    made = make_image(seed, SIZE, anomalous=True)
    assert made.image.shape == (SIZE, SIZE, 3)
    assert made.image.dtype == np.uint8
    assert np.array_equal(made.mask, made.defect_map > 0)
    assert made.mask.any()
    assert {DEFECT_TYPES[i - 1] for i in np.unique(made.defect_map[made.mask])} == set(
        made.defect_types
    )
    assert not made.parts[made.mask].any()


def test_good_images_have_empty_masks() -> None:
    for seed in range(6):
        made = make_image(seed, SIZE, anomalous=False)
        assert not made.mask.any()
        assert made.defect_types == ()


def test_good_and_anomalous_pairs_differ_only_at_the_defect() -> None:
    for seed in range(8):
        good, bad = draft(seed, SIZE, anomalous=False), draft(seed, SIZE, anomalous=True)
        assert np.array_equal(good.rgb, bad.clean)
        change = np.abs(bad.rgb - bad.clean).max(2)
        grown = cv2.dilate((bad.defect_map > 0).astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
        assert change[~grown].max(initial=0) == 0
        assert change[bad.defect_map > 0].mean() > 0.01


def test_grey_means_three_equal_channels() -> None:
    image = make_image(3, SIZE, grey=True).image
    assert np.array_equal(image[..., 0], image[..., 1])
    assert np.array_equal(image[..., 0], image[..., 2])


@pytest.mark.slow
def test_about_a_quarter_of_the_images_is_good() -> None:
    good = sum(not make_image(seed, 64, families=["plain_sheet"]).mask.any() for seed in range(80))
    assert 10 <= good <= 32


def test_families_and_kinds_can_be_chosen() -> None:
    made = make_image(1, SIZE, families=["wood"], defect_types=["hole"], anomalous=True)
    assert made.family == "wood"
    assert made.defect_types == ("hole",)
    with pytest.raises(ZsasError, match="no made family called 'unobtainium'"):
        make_image(1, SIZE, families=["unobtainium"])
    with pytest.raises(ZsasError, match="empty"):
        make_image(1, SIZE, defect_types=[])


def test_held_out_names_are_never_trained_on() -> None:
    assert set(TRAIN_FAMILIES).isdisjoint(HELD_OUT_FAMILIES)
    assert set(TRAIN_DEFECT_TYPES).isdisjoint(HELD_OUT_DEFECT_TYPES)
    assert set(TRAIN_FAMILIES) | set(HELD_OUT_FAMILIES) == set(FAMILIES)
    assert set(TRAIN_DEFECT_TYPES) | set(HELD_OUT_DEFECT_TYPES) == set(DEFECT_TYPES)
    assert len(set(HELD_OUT_FAMILIES) & set(TEXTURES)) >= 3
    assert len(set(HELD_OUT_FAMILIES) & set(OBJECTS)) >= 3
    assert len(HELD_OUT_DEFECT_TYPES) >= 3


@pytest.mark.slow
def test_data_set_has_the_mvtec_layout_and_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    wanted = {"seed": 5, "per_category": 8, "size": 64, "families": ["wood", "granite"]}
    one = write_dataset(tmp_path / "one", defect_types=["hole", "stain"], **wanted)  # type: ignore[arg-type]
    two = write_dataset(tmp_path / "two", defect_types=["hole", "stain"], workers=2, **wanted)  # type: ignore[arg-type]
    files = sorted(p.relative_to(one).as_posix() for p in one.rglob("*.png"))
    assert files == sorted(p.relative_to(two).as_posix() for p in two.rglob("*.png"))
    assert all((one / f).read_bytes() == (two / f).read_bytes() for f in files)
    assert "wood/train/good/001.png" in files
    assert "wood/test/good/001.png" in files
    for defect_type in ("hole", "stain"):
        for number in range(3):
            assert f"granite/test/{defect_type}/{number:03d}.png" in files
            mask = cv2.imread(
                str(one / f"granite/ground_truth/{defect_type}/{number:03d}_mask.png"),
                cv2.IMREAD_UNCHANGED,
            )
            assert set(np.unique(mask)) == {0, 255}
    assert len(files) == 2 * (2 + 2 + 6 + 6)


def test_every_family_and_defect_type_is_documented_and_held_out_ones_are_marked() -> None:
    page = (Path(__file__).parents[3] / "docs" / "synthetic_images.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines()]
    marked = {row[0]: row[-1] for row in rows if len(row) >= 4}
    for name in (*FAMILIES, *DEFECT_TYPES):
        unseen = name in HELD_OUT_FAMILIES or name in HELD_OUT_DEFECT_TYPES
        assert marked.get(name) == ("yes" if unseen else ""), name
