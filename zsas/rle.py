"""COCO's run-length code of a mask: runs of a mask's pixels, column by column, packed into text.

The counts of 0s and 1s in turn, from the fourth on as the difference to the one two before, each in groups of 5 bits,
the low group first; a sixth bit says that another group follows, and 48 is added to make each a printable character.
The format is that of pycocotools, against which the tests compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BITS, _SIGN, _MORE, _FIRST = 5, 16, 32, 48
_GROUPS = 13
"""Enough groups of 5 bits for any count of 64."""


def pack_counts(counts: NDArray[np.int64]) -> str:
    """The text of runs.

    Args:
        counts: Lengths of the runs, 0s first, column by column, shape = (n,).
    """
    left = counts.astype(np.int64)
    left[3:] -= counts[1:-2]
    groups, used, running = [], [], np.ones(left.shape, bool)
    for _ in range(_GROUPS):
        low, left = left & (_MORE - 1), left >> _BITS
        more = np.where(low & _SIGN, left != -1, left != 0)
        groups.append(low + _MORE * more + _FIRST)
        used.append(running)
        running = running & more
        if not running.any():
            break
    text = np.stack(groups, axis=1)[np.stack(used, axis=1)]
    return text.astype(np.uint8).tobytes().decode("ascii")


def unpack_counts(text: str) -> NDArray[np.int64]:
    """The runs of a text from `pack_counts`, shape = (n,)."""
    groups = np.frombuffer(text.encode("ascii"), np.uint8).astype(np.int64) - _FIRST
    if not groups.size:
        return np.zeros(0, np.int64)
    last = (groups & _MORE) == 0
    starts = np.flatnonzero(np.r_[True, last[:-1]])
    place = np.arange(groups.size) - np.repeat(starts, np.diff(np.r_[starts, groups.size]))
    counts = np.add.reduceat((groups & (_MORE - 1)) << (_BITS * place), starts)
    end = groups[last]
    counts -= np.where(end & _SIGN, np.int64(1) << (_BITS * (place[last] + 1)), 0)
    for first in (
        1,
        2,
    ):  # each is the difference to the one two before; the first three are themselves
        counts[first::2] = np.cumsum(counts[first::2])
    return counts


def decode(rle: Mapping[str, Any]) -> NDArray[np.bool_]:
    """The mask of a code {"size": [H, W], "counts": str}: bool, shape = (H, W)."""
    height, width = rle["size"]
    counts = unpack_counts(rle["counts"])
    values = np.arange(counts.size) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T
