"""Physical size: millimetres per pixel of a part's images, and the smallest anomaly that counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from zsas.errors import ZsasError

_SIZE = re.compile(r"([0-9]*[.,]?[0-9]+)\s*(mm2|mm²|px)", re.IGNORECASE)


@dataclass(frozen=True)
class Scale:
    """Physical size of what a part's images show.

    Attributes:
        mm_per_px: Millimetres that one pixel covers, along either side; None if not known.
        least_mm2: Regions of a smaller area than this do not count, in mm²; 0: all count.
        least_px: The same in pixels; if both are given, the larger area decides.

    Raises:
        ZsasError: If a value is no number of its range, or mm² are asked for without millimetres per pixel.
    """

    mm_per_px: float | None = None
    least_mm2: float = 0.0
    least_px: float = 0.0

    def __post_init__(self) -> None:
        if self.mm_per_px is not None and not _is_between(self.mm_per_px, 1e-6, 1e4):
            raise ZsasError(
                f"{self.mm_per_px!r} millimetres per pixel cannot be; name a number from 0.000001 to 10000."
            )
        for value, unit in ((self.least_mm2, "mm²"), (self.least_px, "px")):
            if not _is_between(value, 0.0, 1e9):
                raise ZsasError(f"The smallest anomaly that counts cannot be {value!r} {unit}.")
        if self.least_mm2 and self.mm_per_px is None:
            raise ZsasError(
                "The smallest anomaly is given in mm², but nobody said how many millimetres a pixel is; add "
                "--mm-per-pixel, or give it in px."
            )

    def __bool__(self) -> bool:
        return self.mm_per_px is not None or bool(self.least_px)

    @property
    def least_area(self) -> float:
        """Smallest area of a region that counts, in pixels; 0 if every region counts."""
        square = (self.mm_per_px or 1.0) ** 2
        return max(self.least_px, self.least_mm2 / square)

    def area_mm2(self, pixels: float) -> float | None:
        """An area in mm², rounded to six decimals; None where millimetres per pixel are not known."""
        return None if self.mm_per_px is None else round(pixels * self.mm_per_px**2, 6)

    @property
    def least_words(self) -> str:
        """The smallest anomaly that counts, in words: "0.5 mm²", "20 px"; "" if every region counts."""
        square = (self.mm_per_px or 1.0) ** 2
        if not self.least_area:
            return ""
        if self.least_mm2 and self.least_mm2 / square >= self.least_px:
            return f"{self.least_mm2:g} mm²"
        return f"{self.least_px:g} px"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, without values that were not given."""
        return {name: value for name, value in vars(self).items() if value}

    @classmethod
    def from_dict(cls, values: Any) -> Scale:
        """From JSON types.

        Raises:
            ZsasError: If an entry is unknown or no number of its range.
        """
        known = ("mm_per_px", "least_mm2", "least_px")
        if not isinstance(values, dict) or not set(values) <= set(known):
            raise ZsasError(f"The scale of a part may say {', '.join(known)}, and nothing else.")
        return cls(**values)


def _is_between(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def parse_smallest(text: str) -> dict[str, float]:
    """The text of `--smallest` as arguments of `Scale`.

    Raises:
        ZsasError: If it is no size.

    Example:
        >>> parse_smallest("0.5mm2"), parse_smallest("20 px")
        ({'least_mm2': 0.5, 'least_px': 0.0}, {'least_mm2': 0.0, 'least_px': 20.0})
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ZsasError(f"The smallest anomaly is {text!r}, but it must be as 0.5mm2 or 20px.")
    value = float(found[1].replace(",", "."))
    is_px = found[2].lower() == "px"
    return {"least_mm2": 0.0 if is_px else value, "least_px": value if is_px else 0.0}
