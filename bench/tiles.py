"""What looking at the image's own resolution costs: seconds and memory of the bundled localizer by image size."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import peak_mb, photo, seconds

SIZES = ((512, 512), (1400, 500), (1024, 1024), (2048, 2048), (4096, 4096))
"""Height and width: whole, long, and square in ever more tiles, up to `max_tiles`."""

FOUR_VIEWS = ((1.0, False), (0.75, True), (0.5, True), (1.25, True))
"""How the bundled localizer looked at a whole image before it had tiles; the times are compared with this."""
GOALS = {"512 × 512": 0.6, "1024 × 1024": 1.2}
"""Most of the four views' time that an image may take that stays whole, and one in four tiles."""


def tiles() -> dict[str, Any]:
    """The map of each size, `auto` and four views squeezed into one square; sizes ascend, so that each peak is its own.

    Each call has an image of its own: the passes of the vision tower over the last few images are kept.
    """
    from zsas.device import keep_freed_memory
    from zsas.localizers.linear import read_adapter
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

    keep_freed_memory()
    bundled = read_adapter(
        Path(str(resources.files("zsas") / "weights/tiny/clip/adapter.safetensors"))
    )
    with tempfile.TemporaryDirectory() as folder:
        earlier = Path(folder) / "adapter.safetensors"
        replace(bundled, card=replace(bundled.card, views=FOUR_VIEWS)).save(earlier)
        four = Segmenter.from_preset("tiny", adapter=earlier, cache_bytes=0)
    segmenters = {"off": four, "auto": Segmenter.from_preset("tiny", cache_bytes=0)}
    found: dict[str, Any] = {}
    for height, width in SIZES:
        image = photo(max(height, width))[:height, :width]
        moved = itertools.count()
        one: dict[str, Any] = {}
        for name, segmenter in segmenters.items():
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
            f"{auto['seconds']:.2f} s of a processor in {many}, {off['seconds']:.2f} s squeezed, in four views "
            f"= {ratio:.2f}; "
            f"peak {auto['peak_mb']:.0f} MB"
        )
        goal = GOALS.get(size)
        said = f"≤ {goal}" if goal else ""
        yield f"map of `tiny`, {size}, tiles auto", figure, said, ratio <= goal if goal else None
