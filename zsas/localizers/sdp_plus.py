"""SDP+ of CLIP-AD (Chen et al., arXiv 2311.00453): SDP and, beside it, four trained linear layers on the same pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zsas.declare import Values
from zsas.errors import ZsasError
from zsas.lazy import F, torch
from zsas.localizers.adapter import Adapter, check_fit, quarters, read_adapter
from zsas.localizers.base import Context, Scored
from zsas.localizers.sdp import ENSEMBLE, Sdp, StagedFeatures, staged_pass, two_class_map
from zsas.localizers.square import square_resolution

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone


class SdpPlus(Sdp):
    """SDP's map plus the probabilities of four trained linear layers on the original stream.

    Args:
        clip: The loaded backbone.
        adapter: The layers, for the last block of each quarter. Where its card says `aliased`, the original stream is
            read as the published code reads it; see `zsas.localizers.sdp.staged_pass`.

    Raises:
        ZsasError: If the adapter was made for another backbone, or for other blocks.
    """

    name = "sdp+"
    title = "SDP with trained linear layers"
    weights = True
    missing = (
        "The system sdp+ needs trained layers; train some with `zsas train adapters --system sdp+`, or name a file "
        "with --weights sdp+=FILE."
    )
    trained_as = "sdp+"

    def __init__(self, clip: ClipBackbone, adapter: Adapter) -> None:
        check_fit(clip, adapter, self.name, ENSEMBLE)
        if adapter.card.blocks != quarters(clip.depth):
            raise ZsasError(
                f"SDP+ reads the blocks {quarters(clip.depth)} of {clip.name}, but the adapter was trained on "
                f"{adapter.card.blocks}; train one with `zsas train adapters --system sdp+`."
            )
        super().__init__(clip)
        self.adapter = adapter
        self.card = adapter.card
        self._layers = [
            (weight.to(clip.device), bias.to(clip.device))
            for weight, bias in zip(adapter.weights, adapter.biases, strict=True)
        ]

    @classmethod
    def read(cls, file: Path) -> Adapter:
        """See `Localizer.read`."""
        return read_adapter(file)

    def resolution(self, values: Values) -> int:
        """The setting, or else the resolution of the adapter's card."""
        return square_resolution(values, self.card.resolution, self.clip.patch)

    def encode(self, images: Sequence[NDArray[np.uint8]], values: Values) -> list[StagedFeatures]:
        """One pass with both streams, the original one through the layers; see `Localizer.encode`."""
        pixels = self.clip.pixels(images, self.resolution(values))
        passed = staged_pass(self.clip, pixels, aliased=self.card.aliased)
        grid = pixels.shape[-1] // self.clip.patch
        projected = [
            F.normalize(F.linear(tokens.float(), weight, bias), dim=-1)
            for tokens, (weight, bias) in zip(passed.tokens, self._layers, strict=True)
        ]
        trained = torch.stack(projected, dim=1).unflatten(2, (grid, grid)).half()
        return [passed.features(i, image, trained[i].clone()) for i, image in enumerate(images)]

    def score(self, features: StagedFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`."""
        states = self.states(values)
        square = two_class_map(features, states) + trained_map(features, states, self.card.scale)
        how = "CLIP compares V-V patches, and patches through trained layers, with words for normal and damaged (SDP+)"
        return self.scored(square, features, states, values, context, how)

    def squeezed(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The published map, a sum of four probabilities and SDP's, in [0, 1] with the same ranking.

        The logistic function of 2 x − 4, so that ½ lies where the mean of the four probabilities is ½. Our choice.
        """
        return np.asarray(1.0 / (1.0 + np.exp(4.0 - 2.0 * values)), np.float32)

    def tensors(self) -> Sequence[Tensor]:
        """The layers."""
        return (*self.adapter.weights, *self.adapter.biases)


def trained_map(features: StagedFeatures, states: Tensor, scale: float) -> Tensor:
    """Sum of the layers' anomalous probabilities in the CLIP frame, fp32 (R, R), in [0, 4].

    Logits are enlarged with corners aligned before the softmax, as published.
    """
    assert features.trained is not None
    difference = (states[1] - states[0]).to(features.trained.device)
    logits = scale * (features.trained.float() @ difference)
    side = features.resolution
    wide = F.interpolate(logits[:, None], size=(side, side), mode="bilinear", align_corners=True)
    return wide.sigmoid().sum(dim=(0, 1))
