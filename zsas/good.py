"""The reference images of a run over many images or systems, remembered when they are first needed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.beside import memory_key
from zsas.images import find_images
from zsas.localizers.references import References
from zsas.memory import remember_files

if TYPE_CHECKING:
    from zsas.part import Part
    from zsas.region import RegionOfInterest
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings


class Good:
    """Reference images that all images of a run are compared with; each system makes its memory of them once.

    Args:
        sources: Files and folders of images, or one file of `zsas.memory.save`; they count more than the profile's.
        part: A profile; what it remembers belongs to its own system.
    """

    def __init__(self, sources: Sequence[str | Path] = (), part: Part | None = None) -> None:
        self.sources = tuple(str(one) for one in sources)
        self.part = part if part is not None and part.references else None
        self.left_out: list[str] = []
        self._made: dict[Any, References | None] = {}

    def __bool__(self) -> bool:
        return bool(self.sources or self.part)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_made": {}}

    def of(
        self, segmenter: Segmenter, settings: Settings, region: RegionOfInterest | None = None
    ) -> References | None:
        """Their memory for some models and settings; None without any, or where they are another system's.

        Raises:
            ZsasError: If no image can be read, or a file holds no memory.
        """
        if not self:
            return None
        slot = (id(segmenter), *segmenter.remembered_by(settings), *memory_key(settings))
        slot = (*slot, region.key if region else "")
        if slot not in self._made:
            self._made[slot] = self._remembered(segmenter, settings, region)
        return self._made[slot]

    def _remembered(
        self, segmenter: Segmenter, settings: Settings, region: RegionOfInterest | None
    ) -> References | None:
        if self.sources:
            found, self.left_out = remember_files(segmenter, self.sources, settings, region)
            return found
        assert self.part is not None
        return self.part.memory_for(segmenter, settings)

    def to_dict(self) -> dict[str, Any]:
        """Identifies the images in a run's identity: names and sizes of the files, or the profile's images."""
        if self.sources:
            paths = [Path(path) for path in find_images(self.sources)] or [
                Path(path) for path in self.sources
            ]
            text = "\n".join(f"{path} {path.stat().st_size}" for path in paths if path.is_file())
        else:
            assert self.part is not None
            assert self.part.references is not None
            text = self.part.references.key
        return {
            "good_images": hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
        }
