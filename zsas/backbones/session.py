"""SAM on one image: encoded on first use, decoded as often as wanted; also features of other backbones for eq. 4."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zsas.cache import ByteBudgetCache
from zsas.errors import ZsasError
from zsas.prompts import Masks, Prompt

if TYPE_CHECKING:
    from zsas.backbones.patch_features import PatchGrid
    from zsas.backbones.sam import Sam, SamFeatures
    from zsas.frames import SamFrame, Window

Answers = ByteBudgetCache[Masks]
"""Cache of SAM's answers, by image and prompt."""


class SamSession:
    """SAM on one image, for the length of one or several decisions.

    Args:
        sam: The model; a function, since many decisions never need it.
        features: Gives the image's features; called once, on first use.
        answers: Cache of answers, since the next decision on an image often has the same prompts.
        about: What an answer depends on in addition to the prompt, above all the image; part of the cache's key.
        others: Gives the features of another backbone by its kind, "dinov2" or "resnet", for eq. 4.
        crops: Gives SAM's features of windows of the image; their frames say where these lie.
    """

    def __init__(
        self,
        sam: Callable[[], Sam],
        features: Callable[[], SamFeatures],
        *,
        answers: Answers | None = None,
        about: tuple[Hashable, ...] = (),
        others: Callable[[str], PatchGrid] | None = None,
        crops: Callable[[Sequence[Window]], list[SamFeatures]] | None = None,
    ) -> None:
        self._sam = sam
        self._make = features
        self._features: SamFeatures | None = None
        self._others = others
        self._crops = crops
        self._cropped: dict[Window, SamSession] = {}
        self._answers, self._about = answers, about

    @property
    def features(self) -> SamFeatures:
        """F of eq. 4, for the decoder."""
        if self._features is None:
            self._features = self._make()
        return self._features

    @property
    def side(self) -> int:
        """Side of SAM's square in pixels; no image is encoded for it."""
        return self._sam().side

    @property
    def frame(self) -> SamFrame:
        """The image's geometry in SAM."""
        return self.features.frame

    @property
    def valid(self) -> NDArray[np.float32]:
        """F of eq. 4: the cells that show image rather than padding, float32 (C, *frame.grid_hw)."""
        return self.features.valid

    def crop(self, window: Window) -> SamSession:
        """SAM on a window of the image, encoded by itself; coordinates stay those of the whole image."""
        if window not in self._cropped:
            crops = self._crops
            assert crops is not None
            self._cropped[window] = SamSession(
                self._sam,
                lambda: crops([window])[0],
                answers=self._answers,
                about=(*self._about, window),
                others=self._others,
            )
        return self._cropped[window]

    def encode_crops(self, windows: Sequence[Window]) -> None:
        """Encode windows that will be asked about, several at once where there are cores for it."""
        if self._crops is not None and windows:
            self._crops(windows)

    def features_for_points(self, kind: str) -> tuple[NDArray[np.float32], SamFrame]:
        """F of eq. 4, float32 (C, *frame.grid_hw), and the frame that it lies in.

        Args:
            kind: `sam`, or another backbone, whose features have a grid and a frame of their own.
        """
        if kind == "sam":
            return self.valid, self.frame
        assert self._others is not None
        found = self._others(kind)
        return found.valid, found.frame

    def decode(self, prompts: Sequence[Prompt]) -> list[Masks]:
        """Dec of eqs 9, 10 and 12 for several prompts, each in the window of the image that it names, if any.

        Raises:
            ZsasError: If a prompt is none, see `zsas.backbones.sam.Sam.decode`, or an answer holds NaN.
        """
        crops = dict.fromkeys(prompt.crop for prompt in prompts)
        which = [[i for i, prompt in enumerate(prompts) if prompt.crop == crop] for crop in crops]
        found: list[list[Masks]] = []
        for crop, some in zip(crops, which, strict=True):
            seen = self if crop is None else self.crop(crop)
            found.append(seen._decode([prompts[i] for i in some]))
        pairs = zip(chain(*which), chain(*found), strict=True)
        return [answer for _, answer in sorted(pairs, key=lambda pair: pair[0])]

    def _decode(self, prompts: Sequence[Prompt]) -> list[Masks]:
        if self._answers is None:
            return self._ask(prompts)
        keys = [(*self._about, _question(prompt)) for prompt in prompts]
        found = {key: kept for key in keys if (kept := self._answers.get(key)) is not None}
        new = {key: p for key, p in zip(keys, prompts, strict=True) if key not in found}
        if new:
            answers = self._ask(list(new.values()))
            for key, answer in zip(new, answers, strict=True):
                found[key] = answer
                self._answers.put(key, answer)
        return [found[key] for key in keys]

    def _ask(self, prompts: Sequence[Prompt]) -> list[Masks]:
        answers = self._sam().decode(self.features, prompts)
        for answer in answers:  # one NaN is enough to make a sum one
            if not math.isfinite(float(answer.iou.sum()) + float(answer.logits.sum())):
                raise ZsasError(
                    "What SAM has answered is no mask: it holds NaN or infinity. The weights are damaged, or the "
                    "number format is too coarse for them; fetch them anew, or take --precision fp32."
                )
        return answers


def _question(prompt: Prompt) -> bytes:
    digest = hashlib.blake2b(b"1" if prompt.single else b"3", digest_size=16)
    for array in (prompt.points, prompt.labels, prompt.box, prompt.logits):
        digest.update(b"-" if array is None else np.ascontiguousarray(array).tobytes())
        digest.update(b"|")
    return digest.digest()
