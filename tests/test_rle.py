"""The run-length code is COCO's own, character by character."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco

from zsas.rle import decode, pack_counts, unpack_counts


def runs(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Lengths of the runs of a mask, column by column, 0s first."""
    flat = np.r_[False, mask.T.ravel()]
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) - 0
    return np.diff(np.r_[0, edges, mask.size]).astype(np.int64)


def blobs(seed: int, shape: tuple[int, int], level: float) -> NDArray[np.bool_]:
    rng = np.random.default_rng(seed)
    coarse = rng.random((shape[0] // 8 + 1, shape[1] // 8 + 1))
    return np.kron(coarse, np.ones((8, 8)))[: shape[0], : shape[1]] > level


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 48), (500, 300)])
@pytest.mark.parametrize("level", [0.0, 0.5, 0.9, 1.0])
def test_the_text_is_that_of_pycocotools_and_gives_the_mask_back(
    shape: tuple[int, int], level: float
) -> None:
    mask = blobs(0, shape, level)
    theirs = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    ours = {"size": list(shape), "counts": pack_counts(runs(mask))}
    if ours["counts"] != theirs["counts"].decode():  # a last run of no pixels may be left out
        assert not runs(mask)[-1]
    np.testing.assert_array_equal(decode(ours), mask)
    np.testing.assert_array_equal(decode(theirs | {"counts": theirs["counts"].decode()}), mask)
    np.testing.assert_array_equal(coco.decode(ours).astype(bool), mask)


@pytest.mark.parametrize(
    "counts", [[7], [0, 9], [5, 1, 1], [3, 31, 32, 16, 15, 17], [0, 1, 10**9, 1, 2**40]]
)
def test_counts_of_any_size_come_back(counts: list[int]) -> None:
    packed = pack_counts(np.array(counts, np.int64))
    assert unpack_counts(packed).tolist() == counts


def test_a_code_written_down_by_hand() -> None:
    # 2 rows, 3 columns: 1 pixel off, 2 on, 3 off.
    assert pack_counts(np.array([1, 2, 3])) == "123"
    np.testing.assert_array_equal(
        decode({"size": [2, 3], "counts": "123"}), [[False, True, False], [True, False, False]]
    )
