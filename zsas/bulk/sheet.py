"""A table for a spreadsheet: one line for each image, as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from zsas.bulk.rows import Row
from zsas.scale import Scale

COLUMNS = (
    *("file", "verdict", "decided_by", "score", "regions", "anomalous_px", "anomalous_mm2"),
    *("seconds", "error", "saved_as"),
)


@dataclass(frozen=True)
class Line:
    """What became of one file.

    Attributes:
        file: Its name, as it was given.
        error: Why it failed, "" if it did not.
        decided_by: Who gave the verdict, "system" or "person"; "" if it failed.
        anomalous_mm2: Area of the findings, None where millimetres per pixel are not known.
        saved_as: What the names of its output files begin with, "" if it failed.
    """

    file: str
    verdict: str = ""
    score: float | None = None
    regions: int = 0
    anomalous_px: int = 0
    seconds: float = 0.0
    error: str = ""
    saved_as: str = ""
    decided_by: str = ""
    anomalous_mm2: float | None = None

    @classmethod
    def of(cls, row: Row) -> Line:
        """The line of an image that a command examined."""
        if row.error:
            return cls(row.image, error=row.error)
        facts = json.loads(row.result)
        kept = [one for one in facts["regions"] if not (one["rejected"] or one.get("ignored"))]
        pixels = sum(one["area"] for one in kept)
        return cls(
            row.image,
            facts["verdict"],
            round(facts["image_score"], 4),
            len(kept),
            pixels,
            round(sum(facts["timings"].values()), 3),
            saved_as=row.name if row.mask else "",
            decided_by=facts["decided_by"],
            anomalous_mm2=Scale.from_dict(facts["scale"] or {}).area_mm2(pixels),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, with the names of `COLUMNS`."""
        return {name: getattr(self, name) for name in COLUMNS}


def csv_bytes(lines: Iterable[Line]) -> bytes:
    """The table as UTF-8 with the mark by which a spreadsheet knows it; names that are no UTF-8 are escaped."""
    # A leading sign would make a spreadsheet run the name of a file as a formula.
    signs = ("=", "+", "-", "@", "\t", "\r")
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(
        {
            key: f"'{v}" if isinstance(v, str) and v.startswith(signs) else v
            for key, v in line.to_dict().items()
        }
        for line in lines
    )
    return text.getvalue().encode("utf-8-sig", errors="backslashreplace")
