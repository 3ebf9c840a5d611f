"""What SAM is asked and what it answers, and the points of a decision: plain arrays in pixels of the original image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zsas.errors import ZsasError

Click = tuple[float, float, int]
"""A person's point: x, y in image pixels, label 1 for "this is anomalous", 0 for "this is normal", or `SPOT`."""

SPOT = 2
"""Label of a click that means the place alone and not the object it lies on; see `zsas.refiners.spots`."""


@dataclass(frozen=True)
class Points:
    """The point prompts P = Concat(P_h, P_l) of eq. 8, and a person's clicks.

    Attributes:
        xy: float32, shape = (n, 2), (x, y) in original pixels.
        labels: int64, shape = (n,), 1 for positive and 0 for negative.
        source: Where each point comes from: "map" (eq. 2), "ring" (eq. 7) or "click" (a person).
    """

    xy: NDArray[np.float32]
    labels: NDArray[np.int64]
    source: tuple[str, ...]

    @classmethod
    def none(cls) -> Points:
        """No points at all."""
        return cls(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), ())

    def with_clicks(self, clicks: Sequence[Click]) -> Points:
        """These points with a person's clicks behind them, positive ones first."""
        ordered = sorted(clicks, key=lambda click: -click[2])
        xy = np.array([click[:2] for click in ordered], np.float32).reshape(-1, 2)
        labels = np.array([click[2] for click in ordered], np.int64)
        return Points(
            np.concatenate([self.xy, xy]),
            np.concatenate([self.labels, labels]),
            self.source + ("click",) * len(ordered),
        )

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Prompt:
    """One question to the mask decoder.

    Attributes:
        points: (x, y) in image pixels, float32 (n, 2).
        labels: 1 for positive and 0 for negative points, int64 (n,).
        box: XYXY in image pixels, x1 and y1 exclusive, float32 (4,), or None.
        logits: Low-resolution logits of an earlier answer, float32 (h, w) in the decoder's own frame, or None.
        single: Whether the decoder's one mask for prompts without ambiguity is wanted instead of three.
        crop: Window of the image, XYXY in pixels, that SAM sees instead of the whole image, or None; points and box
            stay in pixels of the whole image.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.int64]
    box: NDArray[np.float32] | None = None
    logits: NDArray[np.float32] | None = None
    single: bool = False
    crop: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Masks:
    """The decoder's three answers to one prompt, or its single one.

    Attributes:
        logits: Low-resolution logits in the decoder's own frame, float32 (3 or 1, h, w); a mask is where they exceed 0.
        iou: The decoder's own estimate of each mask's IoU, float32 (3,) or (1,).
    """

    logits: NDArray[np.float32]
    iou: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        return self.logits.nbytes + self.iou.nbytes


def check_clicks(clicks: Iterable[Click] | None) -> tuple[Click, ...]:
    """A person's points, which may come one by one, as a tuple; none of them for None.

    Raises:
        ZsasError: If a click is not (x, y, label) with finite x and y and the label 0, 1 or `SPOT`.
    """
    if clicks is None:
        return ()
    if not isinstance(clicks, Iterable):
        raise ZsasError(f"Clicks are a list of (x, y, label), but this is {clicks!r}.")
    found = tuple(clicks)
    for click in found:
        try:
            good = len(click) == 3 and np.isfinite(click[:2]).all() and click[2] in (0, 1, SPOT)
        except (TypeError, ValueError):  # no three numbers
            good = False
        if not good:
            raise ZsasError(
                f"A click is {click!r}, but it must be x and y in image pixels and a label, 1 for what is anomalous, "
                "0 for what is normal or 2 for a spot alone that is anomalous."
            )
    return found
