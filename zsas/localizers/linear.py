"""Map_a from trained linear layers on four blocks: the APRIL-GAN recipe, which the paper uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, Values, setting
from zsas.lazy import F, torch
from zsas.localizers.adapter import Adapter, check_fit, read_adapter
from zsas.localizers.bank import CANDIDATES, Bank, bank_of, distances_to
from zsas.localizers.base import (
    Context,
    Localizer,
    MapSettings,
    ObjectSettings,
    Scored,
    top_mean,
)
from zsas.localizers.calming import lowered
from zsas.localizers.edges import EdgeSettings
from zsas.localizers.looking import only_inside
from zsas.localizers.patches import (
    PatchFeatures,
    ViewPlan,
    blend,
    encode_tiles,
    enlarged,
    score_by_text,
)
from zsas.localizers.references import ReferenceSettings
from zsas.localizers.tiles import TileSettings, View, ViewSettings

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class FewShotSettings(SettingsGroup, key="few_shot", title="Form of good images"):
    """How reference images enter the map of the linear layers; each system has its default."""

    few_shot: Literal["calibrated", "published"] = setting(
        "calibrated",
        "Good images",
        "How good images count: calibrated by what they differ among themselves, or as published for APRIL-GAN, the "
        "distances of the blocks' own tokens added to the map.",
    )


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
        *(ObjectSettings, MapSettings, TileSettings, ViewSettings),
        *(ReferenceSettings, FewShotSettings, EdgeSettings),
    )
    weights = True
    missing = (
        "This system needs trained layers for {clip}; name an adapter file with --adapter, or use the system vv, which "
        "needs none."
    )
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
        frame, views = self.resolution(values), values.of(ViewSettings).views
        plan = ViewPlan(frame, self.clip.patch, self.card.views, views)
        return encode_tiles(images, values.of(TileSettings), self._encode_view, plan, insides)

    def own_way(self, values: Values) -> bool:
        """See `Localizer.own_way`."""
        return values.of(FewShotSettings).few_shot == "published"

    def kept(
        self,
        features: PatchFeatures,
        image: NDArray[np.uint8],
        inside: NDArray[np.bool_] | None,
        values: Values,
    ) -> PatchFeatures:
        """The blocks' own tokens, before the linear layers; see `Localizer.kept`."""
        tiles = tuple(
            replace(one, layers=one.compared[None], tokens=None) for one in features.tiles
        )
        found = replace(features, tiles=tiles)
        return found if inside is None else only_inside(found, inside)

    def _encode_view(
        self, windows: Sequence[NDArray[np.uint8]], view: View
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See `zsas.localizers.patches.EncodeView`; images are compared by the blocks' own tokens."""
        pixels = self.clip.pixels(windows, (view.height, view.width))
        seen = self.clip.forward_vision(
            pixels.flip(-1) if view.mirrored else pixels,
            blocks=self.card.blocks,
            activation=self.card.activation,
        )
        grid = (view.height // self.clip.patch, view.width // self.clip.patch)
        tokens = [seen.blocks[block].float() for block in self.card.blocks]
        projected = [
            F.normalize(F.linear(token, weight, bias), dim=-1)
            for token, (_, weight, bias) in zip(tokens, self._layers, strict=True)
        ]
        own = torch.stack([F.normalize(token, dim=-1).half() for token in tokens], dim=1)
        return torch.stack(projected, dim=1).unflatten(2, grid), seen.image, own.unflatten(2, grid)

    def score(self, features: PatchFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`; good images enter here in APRIL-GAN's own form."""
        scored = score_by_text(
            features,
            # Both towers run with the activation that the layers were trained with.
            self.clip.state_vectors(values.of(ObjectSettings).object_name, self.card.activation),
            scale=self.card.scale,
            logit_scale=self.clip.logit_scale,
            values=values,
            context=context,
            how="CLIP compares each patch with words for normal and damaged (trained linear layers)",
            corners=self.card.corners,
        )
        if not context.references or not self.own_way(values):
            return scored
        raw = self.kept(features, context.image, None, values)
        return with_distances(scored, raw, context.references, corners=self.card.corners)

    def tensors(self) -> Sequence[Tensor]:
        """The layers."""
        return (*self.adapter.weights, *self.adapter.biases)


def with_distances(
    scored: Scored,
    raw: PatchFeatures,
    references: Sequence[PatchFeatures | Bank],
    *,
    corners: bool = False,
) -> Scored:
    """APRIL-GAN's few-shot form: the layers' distances to the nearest cell of the good images, added to the map.

    Args:
        scored: Zero-shot.
        raw: Block tokens of the image, before the linear layers.
        references: The same of each good image, or the bank that was made of them.
        corners: See `zsas.localizers.patches.text_map`.

    Returns:
        map: (Map_a + d) / 2, d the mean over the layers of min (1 − cosine), at most 1. Published are sums, in another
            scale; the ranking is the same.
        evidence: `map`, the map's highest thousandth, which makes half of the image score. Published is the map's
            highest value, brought to [0, 1] over all test images.
    """
    first = references[0]
    families = [[one] for one in references if isinstance(one, PatchFeatures)]
    bank = first if isinstance(first, Bank) else bank_of(families, CANDIDATES)
    distances = distances_to(raw, bank)
    frames = [
        enlarged(torch.from_numpy(one.mean(axis=0))[None, None], tile.frame_hw, corners=corners)[
            0, 0
        ].numpy()
        for one, tile in zip(distances, raw.tiles, strict=True)
    ]
    far = blend(frames, [tile.window for tile in raw.tiles], *scored.map.shape)
    anomaly_map = np.clip((scored.map + far) / 2, 0, 1).astype(np.float32)
    anomaly_map.setflags(write=False)
    why = f"The distances to {bank.images} good image{'s' * (bank.images != 1)} were added (APRIL-GAN)."
    evidence = {**scored.evidence, "map": top_mean(anomaly_map), "map_weight": 0.5}
    return Scored(anomaly_map, evidence, lowered(scored.stages, anomaly_map, why))
