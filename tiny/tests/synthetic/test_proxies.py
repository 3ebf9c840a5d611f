"""Stand-ins for photographs: their sizes, and defects of their sizes."""

from __future__ import annotations

import json

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


@pytest.mark.slow
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


@pytest.mark.parametrize("kind", ["rough_ground", "soft_metal"])
def test_a_proxy_can_lie_on_a_photograph(kind, tmp_path):
    """The ground is the photograph's, so that nothing of its two greys in between is to be seen but the defect."""
    board = np.kron(np.indices((16, 16)).sum(0) % 2, np.ones((32, 32))) * 160 + 40
    file = tmp_path / "metal_concrete.png"
    cv2.imwrite(str(file), np.uint8(board))
    real = make_proxy(3, kind, anomalous=True, photographs=[file])
    good = make_proxy(3, kind, anomalous=False, photographs=[file])
    assert real.mask.any()
    assert real.image.shape == make_proxy(3, kind, anomalous=True).image.shape
    grey = cv2.GaussianBlur(good.image[..., 1], (0, 0), 3)
    dark, bright = np.quantile(grey, (0.2, 0.8))
    assert bright > 1.5 * dark


def test_proxies_on_photographs_take_those_that_no_training_uses(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(
        "tiny.synthetic.proxies.write_proxies", lambda root, **options: given.append(options)
    )
    listed = [{"file": f"training/s{i}0.png", "use": "training"} for i in range(8)]
    (tmp_path / "manifest.json").write_text(json.dumps(listed))
    write_proxies_once(tmp_path / "set", seed=1, per_category=2, photographs=tmp_path)
    assert [file.name for file in given[0]["photographs"]] == ["s30.png", "s70.png"]
    with pytest.raises(ZsasError, match="other parameters"):
        write_proxies_once(tmp_path / "set", seed=1, per_category=2)


def test_a_kind_that_does_not_exist_is_a_sentence():
    with pytest.raises(ZsasError, match="no proxy 'unicorn'"):
        make_proxy(0, "unicorn", anomalous=True)
