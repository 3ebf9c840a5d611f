"""Which models a person wants."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zsas.device import Precision
    from zsas.pipeline import Segmenter


@dataclass(frozen=True)
class ModelChoice:
    """Which models, and how they run.

    Attributes:
        preset: None for the default one.
        clip, sam: Instead of the preset's: a Hub id, a folder, or for SAM one of Meta's files.
        adapter: Linear layers for the CLIP.
        device: None for the best there is.
        precision: Number format of the encoders.
    """

    preset: str | None = None
    clip: str | None = None
    sam: str | None = None
    adapter: str | None = None
    device: str | None = None
    precision: Precision = "auto"

    def named(self) -> ModelChoice:
        """With the default preset by name."""
        from zsas.models import default_preset

        return dataclasses.replace(self, preset=self.preset or default_preset())

    def to_dict(self) -> dict[str, Any]:
        """What makes a result: names as JSON types, without the device, which may change between runs."""
        values = dataclasses.asdict(self.named())
        return {name: value for name, value in values.items() if value and name != "device"}

    def load(self, cache_bytes: int) -> Segmenter:
        """The segmenter.

        Raises:
            ZsasError: If a model cannot be had.
        """
        from zsas import models

        chosen = self.named()
        # A missing model is said at once, without torch; an adapter and a device are looked at first, with it.
        if not (chosen.adapter or chosen.device):
            models.fetch(models.preset_named(str(chosen.preset)), clip=self.clip, sam=self.sam)
        from zsas.pipeline import Segmenter

        return Segmenter.from_preset(**dataclasses.asdict(chosen), cache_bytes=cache_bytes)
