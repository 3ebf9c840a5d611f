"""What an encoding keeps of its image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zsas.encoding import MOST_CROPS, Encoders, Encoding
from zsas.frames import SamFrame


@dataclass(frozen=True)
class Seen:
    """Stands for what SAM makes of a window."""

    frame: SamFrame
    nbytes: int = 1


class CountingSam:
    """Stands for SAM; knows how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def encode(self, images: list[np.ndarray]) -> list[Seen]:
        self.asked += len(images)
        return [Seen(SamFrame(*image.shape[:2])) for image in images]


def test_a_window_that_was_asked_for_early_is_there_when_room_is_made() -> None:
    encoders, sam = Encoders(0), CountingSam()
    features: Any = None
    encoding = Encoding("k", np.zeros((50, 50, 3), np.uint8), features, ("m", "vv"))
    windows = [(0, 0, 10 + i, 10) for i in range(MOST_CROPS)]
    give: Any = lambda: sam  # noqa: E731
    encoders.crops(encoding, windows, give)
    new = (5, 5, 20, 20)
    first, second = encoders.crops(encoding, [windows[0], new], give)
    assert (first.frame.width, second.frame.left) == (10, 5)
    assert sam.asked == MOST_CROPS + 1
    assert len(encoding.crops) == MOST_CROPS
    assert {windows[0], new} <= encoding.crops.keys()
    assert windows[1] not in encoding.crops
