"""What looking at the image's own resolution costs: seconds and memory of the bundled localizer by image size."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.measure import peak_mb, photo, seconds

SIZES = ((512, 512), (1400, 500), (1024, 1024), (2048, 2048), (4096, 4096))
"""Height and width: whole, long, and square in ever more tiles, up to `max_tiles`."""


def tiles() -> dict[str, Any]:
    """The map of each size, `auto` and squeezed into one square; sizes ascend, so that each peak is its own.

    Each call has an image of its own: the passes of the vision tower over the last few images are kept.
    """
    from zsas.device import keep_freed_memory
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

    keep_freed_memory()
    segmenter = Segmenter.from_preset("tiny", cache_bytes=0)
    found: dict[str, Any] = {}
    for height, width in SIZES:
        image = photo(max(height, width))[:height, :width]
        moved = itertools.count()
        one: dict[str, Any] = {}
        for name in ("off", "auto"):
            settings = Settings(tiles=name, refiner="none")

            def run() -> Any:
                moved_image = np.roll(image, next(moved), axis=1)  # noqa: B023
                return segmenter(moved_image, settings)  # noqa: B023

            stage = run().stage("anomaly_map")
            one[name] = {
                "tiles": stage.data["tiles"],
                "seconds": seconds(run, 3, clock=time.process_time),
                "peak_mb": peak_mb(),
            }
        found[f"{width} × {height}"] = one
    return found


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str, bool | None]]:
    """Lines of the table: what, measured, goal, reached."""
    for size, one in found.get("tiles", {}).items():
        off, auto = one["off"], one["auto"]
        ratio = auto["seconds"] / off["seconds"]
        many = f"{auto['tiles']} tile{'s' if auto['tiles'] > 1 else ''}"
        figure = (
            f"{auto['seconds']:.2f} s of a processor in {many}, {off['seconds']:.2f} s squeezed = {ratio:.2f}; "
            f"peak {auto['peak_mb']:.0f} MB"
        )
        goal = "≤ 1.2" if size == "1024 × 1024" else ""
        yield f"map of `tiny`, {size}, tiles auto", figure, goal, ratio <= 1.2 if goal else None
