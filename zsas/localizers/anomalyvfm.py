"""AnomalyVFM (Fučka et al., arXiv 2601.20524) on CLIP: no words; a tower taught on synthetic defects, and a decoder.

Low-rank changes (DoRA) of three matrices in every block adapt the vision tower; a small decoder turns its last patches
into a mask of twice their grid, and a linear layer its class token into the image score. Nothing depends on the name of
the object, so an image is encoded once and for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.declare import SettingsGroup, Values, setting
from zsas.frames import Window
from zsas.lazy import F, torch
from zsas.localizers.adapter import check_backbone
from zsas.localizers.anomalyvfm_net import (
    VfmWeights,
    adapted_pass,
    check_shapes,
    decoded,
    fold_tower,
    predicted,
    read_vfm,
)
from zsas.localizers.base import Context, MapSettings, Scored, top_mean
from zsas.localizers.patches import PatchFeatures, TileFeatures, blurred
from zsas.localizers.references import ReferenceSettings
from zsas.localizers.tiles import TileSettings, View, ViewSettings
from zsas.localizers.tower import SeenView, TowerLocalizer, scored_tiles

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class AnomalyVfmSettings(SettingsGroup, key="anomalyvfm", title="AnomalyVFM"):
    """How the decoder's mask becomes the map."""

    vfm_filter: int = setting(
        0,
        "Mean filter",
        "Side of the mean filter over the decoder's mask, in its cells, of which two lie on a patch; 1 for none.",
        low=0,
        high=15,
        step=1,
        unit="cells",
        zero="as the weights were made for",
    )
    vfm_filter_on: Literal["probability", "logit"] = setting(
        "probability", "Filter on", "What is averaged: probabilities, or the logits before them."
    )
    vfm_border: Literal["repeat", "zero"] = setting(
        "repeat",
        "Outside the mask",
        "What the filter finds outside: the border's own values, or zeros as in the published code, which darken the "
        "map at its border.",
    )


def filtered(logits: NDArray[np.float32], side: int, on: str, border: str) -> NDArray[np.float32]:
    """Probabilities of a mask after the mean filter, float32 of the mask's shape.

    Args:
        logits: Of the mask.
        side: Of the filter in cells.
        on: `probability` or `logit`: what is averaged.
        border: `repeat` or `zero`: what lies outside.
    """

    def mean(values: NDArray[np.float32]) -> NDArray[np.float32]:
        kind = cv2.BORDER_REPLICATE if border == "repeat" else cv2.BORDER_CONSTANT
        return np.asarray(cv2.blur(values, (side, side), borderType=kind), np.float32)

    def sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -60, 60))), np.float32)

    return sigmoid(mean(logits)) if on == "logit" else mean(sigmoid(logits))


@dataclass(frozen=True, kw_only=True)
class VfmTile(TileFeatures):
    """A tile with the decoder's output; `layers` are the last patches, L2-normalised, for reference images.

    Attributes:
        masks: Mask logits of each view, unmirrored, fp32 (2 g_h, 2 g_w) of its own grid.
        image_logit: Of the image score, the mean over the views.
    """

    masks: tuple[Tensor, ...]
    image_logit: float


class AnomalyVfm(TowerLocalizer):
    """The adapted tower and its decoder.

    Args:
        clip: The loaded backbone, whose vision tower is run with the weights' activation.
        weights: What was learned for it.

    Raises:
        ZsasError: If it was learned for another backbone.
    """

    name = "anomalyvfm"
    title = "adapted tower and decoder, no words"
    settings = (MapSettings, TileSettings, ViewSettings, AnomalyVfmSettings, ReferenceSettings)
    trained_as = "anomalyvfm"

    def __init__(self, clip: ClipBackbone, weights: VfmWeights) -> None:
        card = weights.card
        check_backbone(clip, card)
        check_shapes(clip, weights)
        self.clip = clip
        self.card = card
        self.held = weights.tensors
        head = {k: t.to(clip.device) for k, t in weights.tensors.items() if k[:7] != "layers."}
        self._head: dict[str, Tensor] = head
        with torch.inference_mode():
            self._blocks = fold_tower(clip, weights.tensors, card.alpha)

    @classmethod
    def read(cls, file: Path) -> VfmWeights:
        """See `Localizer.read`."""
        return read_vfm(file)

    def look(
        self, windows: Sequence[NDArray[np.uint8]], view: View, values: Values
    ) -> list[SeenView]:
        """Of each window the patches (g_h, g_w, D), the class token and the mask logits."""
        pixels = self.clip.pixels(windows, (view.height, view.width), smooth=False)
        pixels = pixels.flip(-1) if view.mirrored else pixels
        grid = (view.height // self.clip.patch, view.width // self.clip.patch)
        with torch.inference_mode():
            tokens = adapted_pass(self.clip, pixels, self._blocks, self.card.activation)
            patches = tokens[:, 1:].unflatten(1, grid)
            mask, _ = decoded(self._head, patches, self.card.groups)
            logits = predicted(self._head, tokens[:, 0])
        if view.mirrored:
            patches, mask = patches.flip(2), mask.flip(2)
        return [
            (patches[i], torch.cat([logits[i, None], tokens[i, 0]]), mask[i].clone())
            for i in range(len(windows))
        ]

    def joined(self, window: Window, views: Sequence[SeenView]) -> VfmTile:
        """The views of a tile; the first one's patches are kept."""
        patches, image, _ = views[0]
        patch = self.clip.patch
        return VfmTile(
            window=window,
            layers=F.normalize(patches, dim=-1)[None, None].half(),
            image=F.normalize(image[1:], dim=-1),
            frame_hw=(patches.shape[0] * patch, patches.shape[1] * patch),
            masks=tuple(mask for _, _, mask in views),
            image_logit=float(torch.stack([one[0] for _, one, _ in views]).mean()),
        )

    def score(self, features: PatchFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`."""
        chosen, blur = values.of(AnomalyVfmSettings), values.of(MapSettings).blur
        side = chosen.vfm_filter or self.card.filter
        maps = []
        for tile in features.tiles:
            assert isinstance(tile, VfmTile)
            height, width = tile.frame_hw
            masks = [
                cv2.resize(
                    filtered(mask.cpu().numpy(), side, chosen.vfm_filter_on, chosen.vfm_border),
                    (width, height),
                    interpolation=cv2.INTER_LINEAR,
                )
                for mask in tile.masks
            ]
            one = np.asarray(np.mean(masks, axis=0), np.float32)
            maps.append(np.clip(blurred(one, blur), 0.0, 1.0))
        logits = [tile.image_logit for tile in features.tiles if isinstance(tile, VfmTile)]
        evidence = {
            "map": max(top_mean(one) for one in maps),
            "clip": float(torch.sigmoid(torch.tensor(max(logits)))),
        }
        how = "An adapted CLIP and a decoder that were taught on synthetic defects (AnomalyVFM)"
        return scored_tiles(maps, features, evidence, context, how)
