"""Samples of a data set: an image, its mask, and what is on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zsas.datasets.defects import Defect, DefectMasks
from zsas.images import FarFile, load_image, read_mask

if TYPE_CHECKING:  # at run time only where somebody names an address
    from upath import UPath

    Place = Path | UPath
    """A file or folder on disk, or at an address."""

Split = Literal["test", "train"]
LICENCES = {
    "mvtec": "MVTec-AD: CC BY-NC-SA 4.0 (no commercial use), Bergmann et al., CVPR 2019",
    "loco": "MVTec LOCO AD: CC BY-NC-SA 4.0 (no commercial use), Bergmann et al., IJCV 2022",
    "visa": "VisA: CC BY 4.0, Zou et al., ECCV 2022",
}
OBJECT_NAMES = {
    "chewinggum": "chewing gum",
    "macaroni1": "macaroni",
    "macaroni2": "macaroni",
    "pcb1": "printed circuit board",
    "pcb2": "printed circuit board",
    "pcb3": "printed circuit board",
    "pcb4": "printed circuit board",
}


class Source(Protocol):
    """Where the bytes of one picture are: a small, picklable object; the picture is read when it is needed."""

    def picture(self) -> Path | FarFile | Image.Image:
        """A file to read, or a picture that has been read."""
        ...


@dataclass(frozen=True)
class File:
    """A picture on disk, or at an address."""

    path: Place

    def picture(self) -> Place:
        """The file."""
        return self.path


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    Attributes:
        key: Unique in the data set and the same on every machine, for example "cable/test/bent_wire/003".
        category: Folder name of the category.
        object_name: What the prompts call it.
        defect_type: Defect type, "good" for a normal part, "" if unknown.
        anomalous: True or False; None where nobody says.
        image: Where the picture is.
        mask: Where the mask is; None for a normal part (an empty mask) or where there is none.
    """

    key: str
    category: str
    object_name: str
    defect_type: str
    anomalous: bool | None
    image: Source
    mask: Source | None

    def load_image(self) -> NDArray[np.uint8]:
        """uint8 RGB, (H, W, 3).

        Raises:
            ZsasError: If the file is missing or is no image.
        """
        return load_image(self.image.picture())

    def load_mask(self, shape: tuple[int, int]) -> NDArray[np.bool_] | None:
        """bool, (H, W) = `shape`, True where anomalous; None if nothing is known about this image.

        Raises:
            ZsasError: If the file is missing, or is of another size than the image.
        """
        if self.mask is None:
            return None if self.anomalous is None or self.anomalous else np.zeros(shape, bool)
        return read_mask(self.mask.picture(), shape, name=f"The mask of {self.key}")

    def load_defects(self) -> Sequence[Defect]:
        """Its defects, each with its own mask and saturation; none where they have one mask together.

        Raises:
            ZsasError: If one cannot be read, or is of a type that its category's rules do not name.
        """
        return self.mask.defects() if isinstance(self.mask, DefectMasks) else ()


@dataclass(frozen=True)
class Dataset:
    """Samples sorted by category and key.

    Attributes:
        name: The layout's name, or that of the folder; what an adapter remembers being trained on.
        split: "test" or "train".
        samples: All samples.
        licence: One line to be shown, "" if unknown.
        notes: Sentences on what of the folder is no part of it.
    """

    name: str
    split: str
    samples: tuple[Sample, ...]
    licence: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories, sorted."""
        return tuple(sorted({sample.category for sample in self.samples}))

    def of(self, category: str) -> tuple[Sample, ...]:
        """The samples of one category."""
        return tuple(sample for sample in self.samples if sample.category == category)


def object_name(category: str) -> str:
    """What prompts call a category: "metal_nut" is a "metal nut", "pcb3" a "printed circuit board"."""
    return OBJECT_NAMES.get(
        category, " ".join(category.replace("_", " ").replace("-", " ").split())
    )
