"""VisualAD (Hou et al., CVPR 2026, arXiv 2603.07952) on CLIP: two learned tokens look at the image, and no words.

An anomaly and a normal token run through the vision tower with the patches, which read them in every block. Patches of
four blocks go through a small transform each and are compared with the two tokens; the map is the difference of the
cosines, summed over the blocks. Nothing depends on the name of the object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, Values, setting
from zsas.lazy import F, torch
from zsas.localizers.adapter import made_for_another, warn_of_doubt
from zsas.localizers.base import Context, Localizer, MapSettings, Scored, map_stage
from zsas.localizers.patches import (
    PatchFeatures,
    TileFeatures,
    blend,
    each_view,
    plan_images,
    to_grid,
)
from zsas.localizers.references import ReferenceSettings
from zsas.localizers.tiles import TileSettings, View, ViewSettings, tiles_wanted
from zsas.localizers.visualad_net import (
    VisualWeights,
    aimed,
    check_shapes,
    differences,
    look,
    read_visual,
    transformed,
)

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone
    from zsas.models import Models

TOP = 0.01
"""Fraction of the highest pixels whose mean is the image score."""


@dataclass(frozen=True)
class VisualAdSettings(SettingsGroup, key="visualad", title="VisualAD"):
    """Which norm the tower ends with."""

    visualad_norm: Literal["own", "trained", "pretrained"] = setting(
        "own",
        "Last norm",
        "The tower's last norm: as trained with the tokens, the backbone's own, or whichever of the two the weights "
        "were judged with.",
        encoding=True,
    )


@dataclass(frozen=True, kw_only=True)
class VisualTile(TileFeatures):
    """A tile with its own two directions; `layers` are the transformed patches (K, L, g_h, g_w, D).

    Attributes:
        difference: Anomaly minus normal direction of each view and layer, fp32 (K, L, D).
    """

    difference: Tensor

    def to(self, device: torch.device | str) -> VisualTile:
        """These features on another device; themselves where they are there already."""
        if self.layers.device == torch.device(device):
            return self
        return replace(
            self,
            layers=self.layers.to(device),
            image=self.image.to(device),
            difference=self.difference.to(device),
        )

    @property
    def nbytes(self) -> int:
        """Memory of the tensors in bytes."""
        return super().nbytes + self.difference.nbytes


class VisualAd(Localizer):
    """Two learned tokens in the tower.

    Args:
        clip: The loaded backbone, whose vision tower is run with the weights' activation.
        weights: What was learned for it.

    Raises:
        ZsasError: If it was learned for another backbone.
    """

    name = "visualad"
    tiled = True
    title = "two learned visual tokens, no words"
    settings = (MapSettings, TileSettings, ViewSettings, VisualAdSettings, ReferenceSettings)
    weights = True
    trained_as = "visualad"

    def __init__(self, clip: ClipBackbone, weights: VisualWeights) -> None:
        made_for_another(clip, weights.card.backbone)
        check_shapes(clip, weights)
        warn_of_doubt(clip, weights.card.backbone, weights.card.activation)
        self.clip = clip
        self.card = weights.card
        self.held = weights.tensors
        self._here = {name: tensor.to(clip.device) for name, tensor in weights.tensors.items()}

    @classmethod
    def read(cls, file: Path) -> VisualWeights:
        """See `Localizer.read`."""
        return read_visual(file)

    @classmethod
    def load(cls, models: Models) -> Self:
        """See `Localizer.load`."""
        missing = (
            "The system visualad needs trained weights; train some with `zsas train adapters --system visualad`, "
            "or name a file with --weights visualad=FILE."
        )
        own = cls.learned(models, missing)  # before the CLIP, which may have to be fetched
        return cls(models.clip_for(cls), own)

    def resolution(self, values: Values) -> int:
        """The setting, or else the resolution of the card."""
        return values.of(MapSettings).resolution or self.card.resolution

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        values: Values,
        insides: Sequence[NDArray[np.bool_] | None] = (),
    ) -> list[PatchFeatures]:
        """The tower with the two tokens, one pass a view; see `Localizer.encode`."""
        tiles, views = values.of(TileSettings), values.of(ViewSettings).views
        chosen = values.of(VisualAdSettings).visualad_norm
        norm = self.card.norm if chosen == "own" else chosen
        frame, patch = self.resolution(values), self.clip.patch
        plans = plan_images(images, tiles, frame, patch, self.card.views, views, insides)
        seen = each_view(images, plans, lambda windows, view: self._look(windows, view, norm))
        return [
            PatchFeatures(
                tuple(_joined(tile.window, seen[i, j], patch) for j, tile in enumerate(plans[i])),
                tiles_wanted(image.shape[0], image.shape[1], tiles, frame),
            )
            for i, image in enumerate(images)
        ]

    def _look(
        self, windows: Sequence[NDArray[np.uint8]], view: View, norm: str
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of each window the transformed patches (L, g_h, g_w, D), the class token and the differences (L, D)."""
        pixels = self.clip.pixels(windows, (view.height, view.width))
        pixels = pixels.flip(-1) if view.mirrored else pixels
        grid = (view.height // self.clip.patch, view.width // self.clip.patch)
        own = self.card.resolution // self.clip.patch
        with torch.inference_mode():
            looked = look(self.clip, pixels, self._here, self.card, norm)
            patches = transformed(self._here, looked, self.card).unflatten(2, grid)
            apart = differences(aimed(self._here, looked, self.card, grid, own))
        turned = patches.flip(3) if view.mirrored else patches
        return [(turned[i], looked.image[i].clone(), apart[i].clone()) for i in range(len(windows))]

    def score(self, features: PatchFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`."""
        blur = values.of(MapSettings).blur
        maps, scores = [], []
        for tile in features.tiles:
            assert isinstance(tile, VisualTile)
            found = summed(tile)
            if blur > 0:
                side = float(np.sqrt(found.size))
                found = cv2.GaussianBlur(found, (0, 0), blur * side / 518)
            count = max(1, int(np.ceil(TOP * found.size)))
            scores.append(float(np.partition(found.ravel(), -count)[-count:].mean()))
            maps.append(self.squeezed(found))
        windows = [tile.window for tile in features.tiles]
        anomaly_map = np.clip(blend(maps, windows, *context.image.shape[:2]), 0.0, 1.0)
        anomaly_map.setflags(write=False)
        evidence = {"map": float(self.squeezed(np.array(max(scores), np.float32)))}
        how = "Two learned tokens, anomalous and normal, are compared with each patch (VisualAD)"
        if features.wanted > len(windows):
            how += (
                f", in {len(windows)} tiles where {features.wanted} would show it at its own size"
            )
        return Scored(anomaly_map, evidence, (map_stage(anomaly_map, how, windows),))

    def squeezed(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The published map, which is no probability and lies in [−8, 8], in [0, 1] with the same ranking.

        The logistic function of (x − level) / spread of the card, both chosen at the end of the training. Our choice.
        """
        scaled = (values - self.card.level) / self.card.spread
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(scaled, -60, 60))), np.float32)

    def describe(self) -> Mapping[str, Any]:
        """The weights' card."""
        return asdict(self.card)

    def tensors(self) -> Sequence[Tensor]:
        """All that is learned."""
        return tuple(self.held.values())


def summed(tile: VisualTile) -> NDArray[np.float32]:
    """The published map of a tile in its frame: the sum over the layers, float32 (*frame_hw); views are averaged."""
    with torch.inference_mode():
        cells = (tile.layers.float() * tile.difference[:, :, None, None]).sum(dim=-1)
        wide = F.interpolate(cells, size=tile.frame_hw, mode="bilinear")
        return np.asarray(wide.sum(dim=1).mean(dim=0).cpu().numpy(), np.float32)


def _joined(
    window: tuple[int, int, int, int],
    views: Mapping[int, tuple[Tensor, Tensor, Tensor]],
    patch: int,
) -> VisualTile:
    """The views of a tile on the first one's grid."""
    ordered = [views[k] for k in range(len(views))]
    grid = (int(ordered[0][0].shape[1]), int(ordered[0][0].shape[2]))
    return VisualTile(
        window=window,
        layers=torch.stack([to_grid(patches, grid).half() for patches, _, _ in ordered]),
        image=F.normalize(ordered[0][1], dim=-1),
        frame_hw=(grid[0] * patch, grid[1] * patch),
        difference=torch.stack([apart for _, _, apart in ordered]),
    )
