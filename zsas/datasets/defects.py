"""Masks of single defects, several an image, and how much of each must be found: MVTec LOCO AD's annotations.

A logical anomaly, as a missing object, has many places where it could be marked; its annotation covers all of them,
and a part of that area is enough (saturation). Bergmann et al., IJCV 130, 2022.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from zsas.errors import ZsasError, reason
from zsas.images import load_image

if TYPE_CHECKING:
    from zsas.datasets.samples import Place

CONFIG = "defects_config.json"
"""File in a category's folder that says for each type of defect from which area on it counts as found."""


@dataclass(frozen=True)
class Saturation:
    """From which area on a type of defect counts as found.

    Attributes:
        value: Its pixels' value in the masks, 1 to 255.
        threshold: The area, in pixels, or as a fraction of the annotated area; above 0.
        relative: Whether it is a fraction.
    """

    value: int
    threshold: float
    relative: bool


@dataclass(frozen=True)
class Defect:
    """One annotated defect.

    Attributes:
        mask: Where it is, bool (H, W).
        threshold: The area from which on it counts as found; see `Saturation`.
        relative: Whether that is a fraction of its own area.
    """

    mask: NDArray[np.bool_]
    threshold: float = 1.0
    relative: bool = True


@dataclass(frozen=True)
class DefectMasks:
    """A `Source` of a mask that is the union of several, each of one defect.

    Attributes:
        files: One a defect, at least one.
        rules: Of their types; empty where nothing is known: each then counts by its whole area.
    """

    files: tuple[Place, ...]
    rules: tuple[Saturation, ...] = ()

    def picture(self) -> Image.Image:
        """The union, 0 or 255.

        Raises:
            ZsasError: If one cannot be read, or they differ in size.
        """
        layers = [self._layer(file) > 0 for file in self.files]
        for file, layer in zip(self.files, layers, strict=True):
            if layer.shape != layers[0].shape:
                raise ZsasError(f"{file} has another size than {self.files[0].name} beside it.")
        return Image.fromarray(reduce(np.logical_or, layers).astype(np.uint8) * 255)

    def defects(self) -> tuple[Defect, ...]:
        """Each of them, without those whose mask is empty.

        Raises:
            ZsasError: If one cannot be read, or is of a type that has no rule where others have.
        """
        found = []
        for file in self.files:
            layer = self._layer(file)
            value = int(layer.max())
            rule = next((one for one in self.rules if one.value == value), None)
            if not value:
                continue
            if self.rules and rule is None:
                raise ZsasError(
                    f"The pixels of {file} have the value {value}, which {CONFIG} does not name."
                )
            how = (rule.threshold, rule.relative) if rule else ()
            found.append(Defect(layer > 0, *how))
        return tuple(found)

    @staticmethod
    def _layer(file: Place) -> NDArray[np.uint8]:
        return load_image(file)[..., 0]


def read_rules(file: Place) -> tuple[Saturation, ...]:
    """The rules of a category from its `CONFIG`; none where there is no such file.

    Raises:
        ZsasError: If the file is no such list.
    """
    if not file.is_file():
        return ()
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
        rules = tuple(_rule(row) for row in rows)
    except (ValueError, TypeError, KeyError) as error:
        raise ZsasError(
            f"{file} cannot be read ({reason(error)}); expected a list of entries with pixel_value, "
            "saturation_threshold and relative_saturation, as in MVTec LOCO AD."
        ) from None
    return rules


def _rule(row: dict[str, object]) -> Saturation:
    value, threshold = row["pixel_value"], row["saturation_threshold"]
    relative = row["relative_saturation"]
    if not isinstance(value, int) or not isinstance(threshold, int | float):
        raise TypeError("numbers are expected")
    if not 1 <= value <= 255 or not 0 < threshold < float("inf") or (relative and threshold > 1):
        raise ValueError(f"{value} saturates at {threshold}")
    return Saturation(value, float(threshold), bool(relative))


def saturation_area(defect: Defect, pixels: int, scale: float = 1.0) -> float:
    """Pixels of a defect from which on it counts as found, at most all of them.

    Args:
        defect: Whose.
        pixels: Its area where it is compared.
        scale: Pixels there for each pixel of the annotation.
    """
    if defect.relative:
        return defect.threshold * pixels
    return min(defect.threshold * scale, float(pixels))
