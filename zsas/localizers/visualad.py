"""VisualAD (Hou et al., CVPR 2026, arXiv 2603.07952) on CLIP: two learned tokens look at the image, and no words.

An anomaly and a normal token run through the vision tower with the patches, which read them in every block. Patches of
four blocks go through a small transform each and are compared with the two tokens; the map is the difference of the
cosines, summed over the blocks. Nothing depends on the name of the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, Values, setting
from zsas.frames import Window
from zsas.lazy import F, torch
from zsas.localizers import visualad_net
from zsas.localizers.adapter import check_backbone
from zsas.localizers.base import Context, MapSettings, Scored
from zsas.localizers.patches import PatchFeatures, TileFeatures, blurred, to_grid
from zsas.localizers.references import ReferenceSettings
from zsas.localizers.tiles import TileSettings, View, ViewSettings
from zsas.localizers.tower import SeenView, TowerLocalizer, scored_tiles
from zsas.localizers.visualad_net import (
    VisualWeights,
    aimed,
    check_shapes,
    differences,
    read_visual,
    transformed,
)

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone

TOP = 0.01
"""Fraction of the highest pixels whose mean is the image score."""


@dataclass(frozen=True)
class VisualAdSettings(SettingsGroup, key="visualad", title="VisualAD"):
    """Which norm the tower ends with."""

    visualad_norm: Literal["trained", "pretrained"] = setting(
        "trained",
        "Last norm",
        "The tower's last norm: as trained with the tokens, or the backbone's own.",
        encoding=True,
    )


@dataclass(frozen=True, kw_only=True)
class VisualTile(TileFeatures):
    """A tile with its own anomaly and normal directions; `layers` are transformed patches (K, L, g_h, g_w, D).

    Attributes:
        difference: Anomaly minus normal direction of each view and layer, fp32 (K, L, D).
    """

    difference: Tensor


class VisualAd(TowerLocalizer):
    """Two learned tokens in the tower.

    Args:
        clip: The loaded backbone, whose vision tower is run with the weights' activation.
        weights: What was learned for it.

    Raises:
        ZsasError: If it was learned for another backbone.
    """

    name = "visualad"
    title = "two learned visual tokens, no words"
    settings = (MapSettings, TileSettings, ViewSettings, VisualAdSettings, ReferenceSettings)
    trained_as = "visualad"

    def __init__(self, clip: ClipBackbone, weights: VisualWeights) -> None:
        check_backbone(clip, weights.card)
        check_shapes(clip, weights)
        self.clip = clip
        self.card = weights.card
        self.held = weights.tensors
        self._here = {name: tensor.to(clip.device) for name, tensor in weights.tensors.items()}

    @classmethod
    def read(cls, file: Path) -> VisualWeights:
        """See `Localizer.read`."""
        return read_visual(file)

    def look(
        self, windows: Sequence[NDArray[np.uint8]], view: View, values: Values
    ) -> list[SeenView]:
        """Of each window the transformed patches (L, g_h, g_w, D), the class token and the differences (L, D)."""
        pixels = self.clip.pixels(windows, (view.height, view.width))
        pixels = pixels.flip(-1) if view.mirrored else pixels
        grid = (view.height // self.clip.patch, view.width // self.clip.patch)
        own = self.card.resolution // self.clip.patch
        norm = values.of(VisualAdSettings).visualad_norm
        with torch.inference_mode():
            looked = visualad_net.look(self.clip, pixels, self._here, self.card, norm)
            patches = transformed(self._here, looked, self.card).unflatten(2, grid)
            apart = differences(aimed(self._here, looked, self.card, grid, own))
        turned = patches.flip(3) if view.mirrored else patches
        return [(turned[i], looked.image[i].clone(), apart[i].clone()) for i in range(len(windows))]

    def joined(self, window: Window, views: Sequence[SeenView]) -> VisualTile:
        """The views of a tile on the first one's grid."""
        patches, image, _ = views[0]
        grid, patch = (int(patches.shape[1]), int(patches.shape[2])), self.clip.patch
        return VisualTile(
            window=window,
            layers=torch.stack([to_grid(patches, grid).half() for patches, _, _ in views]),
            image=F.normalize(image, dim=-1),
            frame_hw=(grid[0] * patch, grid[1] * patch),
            difference=torch.stack([apart for _, _, apart in views]),
        )

    def score(self, features: PatchFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`."""
        blur = values.of(MapSettings).blur
        maps, scores = [], []
        for tile in features.tiles:
            assert isinstance(tile, VisualTile)
            found = blurred(summed(tile), blur)
            count = max(1, int(np.ceil(TOP * found.size)))
            scores.append(float(np.partition(found.ravel(), -count)[-count:].mean()))
            maps.append(self.squeezed(found))
        evidence = {"map": float(self.squeezed(np.array(max(scores), np.float32)))}
        how = "Two learned tokens, anomalous and normal, are compared with each patch (VisualAD)"
        return scored_tiles(maps, features, evidence, context, how)

    def squeezed(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The published map, which is no probability and lies in [−8, 8], in [0, 1] with the same ranking.

        The logistic function of (x − level) / spread of the card, both chosen at the end of the training. Our choice.
        """
        scaled = (values - self.card.level) / self.card.spread
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(scaled, -60, 60))), np.float32)


def summed(tile: VisualTile) -> NDArray[np.float32]:
    """The published map of a tile in its frame: the sum over the layers, float32 (*frame_hw); views are averaged."""
    with torch.inference_mode():
        cells = (tile.layers.float() * tile.difference[:, :, None, None]).sum(dim=-1)
        wide = F.interpolate(cells, size=tile.frame_hw, mode="bilinear")
        return np.asarray(wide.sum(dim=1).mean(dim=0).cpu().numpy(), np.float32)
