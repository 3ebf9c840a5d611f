"""Map_a without any training: V-V attention in CLIP's last blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsas.declare import Values
from zsas.lazy import F
from zsas.localizers.base import Context, Localizer, MapSettings, ObjectSettings, Scored
from zsas.localizers.edges import EdgeSettings
from zsas.localizers.patches import PatchFeatures, ViewPlan, encode_tiles, score_by_text
from zsas.localizers.references import ReferenceSettings
from zsas.localizers.tiles import TileSettings, View

if TYPE_CHECKING:
    from torch import Tensor


VV_BLOCKS = 6
"""How many of the last blocks carry the V-V stream (our choice, as in CLIP Surgery)."""


class VV(Localizer):
    """The V-V stream of the last blocks, projected and compared with the two text vectors."""

    name = "vv"
    tiled = True
    title = "V-V attention, no training"
    settings = (ObjectSettings, MapSettings, TileSettings, ReferenceSettings, EdgeSettings)

    def resolution(self, values: Values) -> int:
        """37 × 37 patches for a patch of 14 px; the same 518 px, rounded to patches, for other models."""
        own = round(518 / self.clip.patch) * self.clip.patch
        return values.of(MapSettings).resolution or own

    def encode(
        self,
        images: Sequence[NDArray[np.uint8]],
        values: Values,
        insides: Sequence[NDArray[np.bool_] | None] = (),
    ) -> list[PatchFeatures]:
        """Patch features of RGB images, one view and one layer each; see `Localizer.encode`."""
        plan = ViewPlan(self.resolution(values), self.clip.patch)
        return encode_tiles(images, values.of(TileSettings), self._encode_view, plan, insides)

    def _encode_view(
        self, windows: Sequence[NDArray[np.uint8]], view: View
    ) -> tuple[Tensor, Tensor]:
        """See `zsas.localizers.patches.EncodeView`."""
        pixels = self.clip.pixels(windows, (view.height, view.width))
        seen = self.clip.forward_vision(pixels, vv_blocks=min(VV_BLOCKS, self.clip.depth))
        assert seen.vv is not None
        grid = (view.height // self.clip.patch, view.width // self.clip.patch)
        return F.normalize(seen.vv.float(), dim=-1).unflatten(1, grid)[:, None], seen.image

    def score(self, features: PatchFeatures, values: Values, context: Context) -> Scored:
        """See `Localizer.score`."""
        return score_by_text(
            features,
            self.clip.state_vectors(values.of(ObjectSettings).object_name),
            scale=self.clip.logit_scale,
            logit_scale=self.clip.logit_scale,
            values=values,
            context=context,
            how="CLIP compares each patch with words for normal and damaged (V-V attention)",
        )

    def describe(self) -> Mapping[str, Any]:
        """Its number of V-V blocks."""
        return {"vv_blocks": min(VV_BLOCKS, self.clip.depth)}
