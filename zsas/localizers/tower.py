"""Base of localizers whose trained weights lie inside the vision tower (AnomalyVFM, VisualAD); no text is used."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsas.declare import Values
from zsas.frames import Window
from zsas.localizers.base import Context, Localizer, MapSettings, Scored
from zsas.localizers.patches import (
    PatchFeatures,
    TileFeatures,
    ViewPlan,
    blend,
    look_at_tiles,
    tiled_stage,
)
from zsas.localizers.tiles import TileSettings, View, ViewSettings

if TYPE_CHECKING:
    from torch import Tensor

    from zsas.backbones.clip import ClipBackbone

SeenView = tuple["Tensor", "Tensor", "Tensor"]
"""What one view of one window gives: its patches, what is known of the whole of it, and the localizer's own."""


class TowerLocalizer(Localizer):
    """A localizer with a changed vision tower, which runs once for each view.

    Attributes:
        clip: The loaded backbone.
        card: What the weights were made for; its `resolution` and `views` (scale, mirrored) are read here.
        held: The weights by name.
    """

    tiled = True
    weights = True
    by_steps = True
    clip: ClipBackbone
    card: Any
    held: Mapping[str, Tensor]

    @abstractmethod
    def __init__(self, clip: ClipBackbone, weights: Any) -> None: ...

    def resolution(self, values: Values) -> int:
        """The setting, or else the resolution of the card."""
        return values.of(MapSettings).resolution or self.card.resolution

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        values: Values,
        insides: Sequence[NDArray[np.bool_] | None] = (),
    ) -> list[PatchFeatures]:
        """The changed tower, one pass a view; see `Localizer.encode`."""
        frame, views = self.resolution(values), values.of(ViewSettings).views
        plan = ViewPlan(frame, self.clip.patch, self.card.views, views)

        def look(windows: Sequence[NDArray[np.uint8]], view: View) -> list[SeenView]:
            return self.look(windows, view, values)

        return look_at_tiles(images, values.of(TileSettings), look, self.joined, plan, insides)

    @abstractmethod
    def look(
        self, windows: Sequence[NDArray[np.uint8]], view: View, values: Values
    ) -> list[SeenView]:
        """Run the tower on one view of each window.

        Args:
            windows: uint8 RGB (h, w, 3).
            view: Its size in pixels, and whether it is mirrored; what is handed out is not.
            values: The settings.
        """

    @abstractmethod
    def joined(self, window: Window, views: Sequence[SeenView]) -> TileFeatures:
        """The features of a tile from those of its views.

        Args:
            window: x0, y0, x1, y1 of the tile in image pixels, x1 and y1 exclusive.
            views: What each gave.
        """

    def tensors(self) -> Sequence[Tensor]:
        """The learned weights."""
        return tuple(self.held.values())


def scored_tiles(
    maps: Sequence[NDArray[np.float32]],
    features: PatchFeatures,
    evidence: dict[str, float],
    context: Context,
    how: str,
) -> Scored:
    """Map and evidence of an image from its tiles' maps.

    Args:
        maps: One for each tile in its own frame, float32 in [0, 1].
        features: The tiles.
        evidence: Opinions on the whole image, each in [0, 1].
        context: The image, for its size.
        how: See `zsas.localizers.base.map_stage`.
    """
    windows = [tile.window for tile in features.tiles]
    anomaly_map = np.clip(blend(maps, windows, *context.image.shape[:2]), 0.0, 1.0)
    anomaly_map.setflags(write=False)
    return Scored(anomaly_map, evidence, (tiled_stage(anomaly_map, how, features),))
