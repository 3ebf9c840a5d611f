"""Base of localizers whose trained weights lie inside the vision tower (AnomalyVFM, VisualAD); no text is used."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from zsas.declare import Values
from zsas.localizers.base import Context, Localizer, MapSettings, Scored, map_stage
from zsas.localizers.patches import PatchFeatures, TileFeatures, blend, each_view, plan_images
from zsas.localizers.tiles import TileSettings, View, ViewSettings, tiles_wanted

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
        tiles, views = values.of(TileSettings), values.of(ViewSettings).views
        frame, patch = self.resolution(values), self.clip.patch
        plans = plan_images(images, tiles, frame, patch, self.card.views, views, insides)
        seen = each_view(images, plans, lambda windows, view: self.look(windows, view, values))
        return [
            PatchFeatures(
                tuple(
                    self.joined(tile.window, [seen[i, j][k] for k in range(len(seen[i, j]))])
                    for j, tile in enumerate(plans[i])
                ),
                tiles_wanted(image.shape[0], image.shape[1], tiles, frame),
            )
            for i, image in enumerate(images)
        ]

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
    def joined(self, window: tuple[int, int, int, int], views: Sequence[SeenView]) -> TileFeatures:
        """The features of a tile from those of its views.

        Args:
            window: x0, y0, x1, y1 of the tile in image pixels, x1 and y1 exclusive.
            views: What each gave.
        """

    def tensors(self) -> Sequence[Tensor]:
        """The learned weights."""
        return tuple(self.held.values())


def blurred(values: NDArray[np.float32], blur: float) -> NDArray[np.float32]:
    """A tile's map after its blur.

    Args:
        values: float32 (h, w).
        blur: Standard deviation in pixels of a square of 518 × 518.
    """
    if blur <= 0:
        return values
    side = float(np.sqrt(values.size))
    return np.asarray(cv2.GaussianBlur(values, (0, 0), blur * side / 518), np.float32)


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
        features: Their windows, and how many tiles there would have to be.
        evidence: Opinions on the whole image, each in [0, 1].
        context: The image, for its size.
        how: See `zsas.localizers.base.map_stage`.
    """
    windows = [tile.window for tile in features.tiles]
    anomaly_map = np.clip(blend(maps, windows, *context.image.shape[:2]), 0.0, 1.0)
    anomaly_map.setflags(write=False)
    if features.wanted > len(windows):
        how += f", in {len(windows)} tiles where {features.wanted} would show it at its own size"
    return Scored(anomaly_map, evidence, (map_stage(anomaly_map, how, windows),))
