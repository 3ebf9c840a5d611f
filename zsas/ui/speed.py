"""About how long an image takes with each preset on this machine: its arithmetic against one product measured here."""

from __future__ import annotations

import threading
import time

from zsas.models import PRESETS, is_here
from zsas.models.presets import Preset

REACHED = 0.5
"""The fraction that the encoders reach of one large product's speed; `python -m bench encoders` measures it."""
OVERHEAD_SECONDS = 0.3
"""Reading, deciding and drawing."""
_PRODUCT = (1024, 1024, 1024)


def product_speed() -> float:
    """GFLOP/s of one product of matrices in the encoders' number format, the best of three; a tenth of a second."""
    import torch

    from zsas.device import encoder_dtype, pick_device

    rows, depth, columns = _PRODUCT
    device = pick_device()
    dtype = encoder_dtype(device)
    one = torch.randn(rows, depth, dtype=dtype, device=device)
    other = torch.randn(depth, columns, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(4):  # the first one warms up
        started = time.perf_counter()
        float((one @ other)[0, 0])  # reading a value waits for a GPU
        best = min(best, time.perf_counter() - started)
    return 2 * rows * depth * columns / best / 1e9


class Speed:
    """How fast this machine is, measured once in the background.

    Attributes:
        gflops: Billions of operations a second, 0 while it is not known.
        over: Whether there is nothing more to wait for.
    """

    def __init__(self) -> None:
        self.gflops = 0.0
        self.over = False
        self._begun = threading.Lock()

    def measure(self) -> None:
        """Measure once; whoever comes second does nothing."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            self.gflops = product_speed()
        finally:
            self.over = True

    def seconds(self, preset: Preset) -> float:
        """Seconds that an image takes with a preset, about; 0 while it is not known."""
        if not self.gflops:
            return 0.0
        return OVERHEAD_SECONDS + preset.gflop / (REACHED * self.gflops)

    def words(self) -> dict[str, str]:
        """Each preset's line of the menu: what it needs and about how long an image takes."""
        return {name: " · ".join(self._parts(preset)) for name, preset in PRESETS.items()}

    def _parts(self, preset: Preset) -> list[str]:
        if preset.bundled:
            parts = [preset.name, "in the package"]
        elif is_here(preset):
            parts = [preset.name, "here"]
        else:
            parts = [preset.name, f"{preset.size_bytes / 1e9:.1f} GB to fetch"]
        seconds = self.seconds(preset)
        return [*parts, f"about {_plain(seconds)} a photo"] if seconds else parts


def _plain(seconds: float) -> str:
    """A rough time: 0.8 s, 12 s, 3 min."""
    if seconds < 1.95:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
