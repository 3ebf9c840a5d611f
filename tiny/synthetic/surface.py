"""What every texture and object family of the image maker returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]


@dataclass
class Surface:
    """A normal (defect-free) surface or object, before defects and before the camera.

    Attributes:
        rgb: float32 ``(S, S, 3)`` in [0, 1], display-referred (sRGB-like) colour.
        region: bool ``(S, S)``, where the object is; all true for textures.
        parts: int32 ``(S, S)``; 0 is background, 1..n are distinct parts or repeated units.
        name: the noun used in text prompts, for example ``"wood"`` or ``"hazelnut"``.
        family: key of the family that made it.
        grain: typical scale of the texture's own detail, in pixels.
    """

    rgb: FloatImage
    region: Mask
    parts: Labels
    name: str
    family: str
    grain: float

    @property
    def size(self) -> int:
        """Side of the square image, in pixels."""
        return int(self.rgb.shape[0])
