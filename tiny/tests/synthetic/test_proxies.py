"""Stand-ins for photographs: their sizes, and defects of their sizes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tiny.synthetic.dataset import write_proxies_once
from tiny.synthetic.proxies import PROXIES, make_proxy
from zsas.datasets.load import load_dataset
from zsas.errors import ZsasError


def longest_side(mask: np.ndarray) -> int:
    rows, columns = np.nonzero(mask)
    return int(max(np.ptp(rows), np.ptp(columns))) + 1


@pytest.mark.parametrize(
    ("kind", "shape", "sides"),
    [
        ("long_part", (1400, 500), (20, 500)),
        ("tilted_object", (1024, 1024), (4, 100)),
        ("rough_ground", (320, 480), (60, 480)),
        ("soft_metal", (200, 200), (20, 200)),
    ],
)
def test_a_proxy_has_the_size_and_the_defect_of_its_kind(kind, shape, sides):
    found = make_proxy(3, kind, anomalous=True)
    assert found.image.shape == (*shape, 3)
    assert found.mask.shape == shape
    assert sides[0] <= longest_side(found.mask) <= sides[1]
    good = make_proxy(3, kind, anomalous=False)
    assert not good.mask.any()
    assert good.defect_type == "good"
    change = cv2.absdiff(found.image, good.image).max(axis=2).astype(float)
    assert change[found.mask].mean() > 2 * change[~found.mask].mean()


def test_hairlines_are_thin():
    mask = make_proxy(1, "long_part", anomalous=True).mask
    assert cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5).max() < 8


@pytest.mark.slow
def test_proxies_are_written_in_a_layout_that_is_read(tmp_path):
    root = write_proxies_once(tmp_path / "set", seed=1, per_category=2)
    data = load_dataset("folder", root)
    assert data.categories == tuple(sorted(PROXIES))
    for category in PROXIES:
        assert sorted(sample.anomalous for sample in data.of(category)) == [False, True]
    with pytest.raises(ZsasError, match="other parameters"):
        write_proxies_once(root, seed=2, per_category=2)


def test_a_kind_that_does_not_exist_is_a_sentence():
    with pytest.raises(ZsasError, match="no proxy 'unicorn'"):
        make_proxy(0, "unicorn", anomalous=True)
