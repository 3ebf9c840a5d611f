"""Images of one and the same part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tiny.synthetic.dataset import write_parts_once
from tiny.synthetic.one_part import make_part
from zsas.errors import ZsasError


def test_the_same_arguments_give_the_same_image() -> None:
    one, other = (make_part(1, 2, "gasket", anomalous=True, size=96) for _ in range(2))
    np.testing.assert_array_equal(one.image, other.image)
    assert one.mask.any()
    assert one.defect_type != "good"


def test_images_of_a_part_are_more_alike_than_those_of_two() -> None:
    def grey(seed: int, number: int) -> np.ndarray:
        image = make_part(seed, number, "bracket", anomalous=False, size=96).image
        return image.mean(axis=2).ravel()

    same = np.corrcoef(grey(1, 0), grey(1, 1))[0, 1]
    assert same > 0.8
    assert same > np.corrcoef(grey(1, 0), grey(2, 1))[0, 1] + 0.1


def test_sets_have_the_layout_that_an_evaluation_reads(tmp_path: Path) -> None:
    root = write_parts_once(tmp_path / "p", seed=1, per_category=4, size=64, families=["walnut"])
    assert {path.name for path in root.iterdir()} == {
        "dataset.json",
        "walnut_aligned",
        "walnut_turned",
    }
    for name in ("walnut_aligned", "walnut_turned"):
        assert len(list((root / name / "train/good").iterdir())) == 2
        assert len(list((root / name / "test/good").iterdir())) == 2
        masks = sorted(path.parent.name for path in (root / name).glob("ground_truth/*/*_mask.png"))
        kinds = {path.name for path in (root / name / "test").iterdir()} - {"good"}
        assert set(masks) == kinds


def test_an_unknown_family_is_a_sentence() -> None:
    with pytest.raises(ZsasError, match="There is no family"):
        make_part(1, 0, "teapot", anomalous=False)
