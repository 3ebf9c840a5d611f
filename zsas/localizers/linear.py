"""Map_a from trained linear layers on four blocks: the APRIL-GAN recipe, which the paper uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from zsas.declare import Values
from zsas.lazy import F, torch
from zsas.localizers.adapter import Adapter, check_fit, read_adapter
from zsas.localizers.base import Context, Localizer, MapSettings, ObjectSettings, Scored
from zsas.localizers.edges import EdgeSettings
from zsas.localizers.patches import PatchFeatures, encode_tiles, score_by_text
from zsas.localizers.references import ReferenceSettings
from zsas.localizers.tiles import TileSettings, View, ViewSettings

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone
    from zsas.models import Models


class Linear(Localizer):
    """Four blocks, a linear layer each, compared with the two text vectors.

    Args:
        clip: The loaded backbone; its towers are run with the activation the adapter was trained with.
        adapter: The layers. Where it was made for a model in a folder, or one from a folder is loaded, names say
            nothing: it is taken if its shapes fit, with a warning in the log of `zsas`. Another warning says if it
            was trained against other sentences than ours.

    Raises:
        ZsasError: If the adapter was made for another backbone, naming both.
    """

    name = "linear"
    tiled = True
    title = "trained linear layers"
    settings = (
        ObjectSettings,
        MapSettings,
        TileSettings,
        ViewSettings,
        ReferenceSettings,
        EdgeSettings,
    )
    weights = True
    trained_as = "april-gan"

    def __init__(self, clip: ClipBackbone, adapter: Adapter) -> None:
        check_fit(clip, adapter)
        self.clip = clip
        self.adapter = adapter
        self.card = adapter.card
        self._layers = [
            (block, weight.to(clip.device), bias.to(clip.device))
            for block, weight, bias in zip(
                adapter.card.blocks, adapter.weights, adapter.biases, strict=True
            )
        ]

    @classmethod
    def read(cls, file: Path) -> Adapter:
        """See `Localizer.read`."""
        return read_adapter(file)

    @classmethod
    def load(cls, models: Models) -> Self:
        """See `Localizer.load`."""
        missing = (
            f"This system needs trained layers for {models.clip_name}; name an adapter file with --adapter, "
            "or use the system vv, which needs none."
        )
        own = cls.learned(models, missing)  # before the CLIP, which may have to be fetched
        return cls(models.clip, own)

    def resolution(self, values: Values) -> int:
        """The setting, or else the resolution of the adapter's card."""
        return values.of(MapSettings).resolution or self.card.resolution

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        values: Values,
        insides: Sequence[NDArray[np.bool_] | None] = (),
    ) -> list[PatchFeatures]:
        """Patch features of RGB images, one layer a block; see `Localizer.encode`."""
        return encode_tiles(
            images,
            values.of(TileSettings),
            self._encode_view,
            frame=self.resolution(values),
            patch=self.clip.patch,
            tta=self.card.views,
            views=values.of(ViewSettings).views,
            insides=insides,
        )

    def _encode_view(
        self, windows: Sequence[NDArray[np.uint8]], view: View
    ) -> tuple[Tensor, Tensor]:
        """See `zsas.localizers.patches.EncodeView`."""
        pixels = self.clip.pixels(windows, (view.height, view.width))
        seen = self.clip.forward_vision(
            pixels.flip(-1) if view.mirrored else pixels,
            blocks=self.card.blocks,
            activation=self.card.activation,
        )
        grid = (view.height // self.clip.patch, view.width // self.clip.patch)
        projected = [
            F.normalize(F.linear(seen.blocks[block].float(), weight, bias), dim=-1)
            for block, weight, bias in self._layers
        ]
        return torch.stack(projected, dim=1).unflatten(2, grid), seen.image

    def score(self, features: PatchFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`."""
        return score_by_text(
            features,
            # Both towers run with the activation that the layers were trained with.
            self.clip.state_vectors(values.of(ObjectSettings).object_name, self.card.activation),
            scale=self.card.scale,
            logit_scale=self.clip.logit_scale,
            values=values,
            context=context,
            how="CLIP compares each patch with words for normal and damaged (trained linear layers)",
        )

    def describe(self) -> Mapping[str, Any]:
        """The adapter's card."""
        return asdict(self.card)

    def tensors(self) -> Sequence[Tensor]:
        """The layers."""
        return (*self.adapter.weights, *self.adapter.biases)
