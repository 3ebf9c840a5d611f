"""What good images and a batch cost: against zero-shot with `tiny`, at full size, and a batch of a hundred."""

from __future__ import annotations

import functools
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import peak_mb, photo, seconds

GOOD, BATCH, CELLS, WIDTH, LAYERS = 4, 100, 32, 192, 4
"""Good images; images of a batch, the side of each one's grid of cells, width and number of its tokens as in `tiny`."""


def references() -> dict[str, Any]:
    """Zero-shot and with four good images remembered, tiles off and `auto`; deciding again; then at full size."""
    from zsas.device import keep_freed_memory
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

    keep_freed_memory()
    segmenter = Segmenter.from_preset("tiny", cache_bytes=0)
    image = photo()
    good = [np.roll(image, 37 * i, axis=1) for i in range(1, GOOD + 1)]
    found: dict[str, Any] = {}
    for tiles in ("off", "auto"):
        settings = Settings(tiles=tiles)
        memory = segmenter.remember(good, settings)
        alone = functools.partial(segmenter.segment, image, settings)
        compared = functools.partial(alone, references=memory)
        alone(), compared()
        # Alternately, so that a busier minute of the machine falls on both.
        times = [(seconds(alone), seconds(compared)) for _ in range(7)]
        found[f"whole_{tiles}"] = [float(np.median(one)) for one in zip(*times, strict=True)]
    # What is looked up of a memory is kept while the localizer's settings stay: a marking level decides from there.
    kept = Segmenter.from_preset("tiny")
    memory, encoding = kept.remember(good), kept.encode(image)
    levels = iter(np.linspace(0.3, 0.6, 64))
    found["level"] = []
    for one in (None, memory):
        work = functools.partial(_decide, kept, encoding, levels, one)
        found["level"].append(seconds(work, 15))
    return found


def _decide(segmenter: Any, encoding: Any, levels: Iterator[Any], memory: Any) -> None:
    from zsas.settings import Settings

    segmenter.segment(encoding, Settings(threshold=float(next(levels))), (), memory)


def references_full() -> dict[str, Any]:
    """Full size: the CLIP's map, and what four good images add; SAM, which only lowers the ratio, is left out."""
    from bench.measure import CPU, AnyWords, _full_clip, ready
    from zsas.backbones.clip import ClipBackbone
    from zsas.device import keep_freed_memory
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

    keep_freed_memory()
    clip = ClipBackbone(_full_clip(), AnyWords(), name="full", device=CPU)
    models = ready(clip, None)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "adapter.safetensors"
        _any_layers(clip).save(file)
        models.weights = lambda _: file
        segmenter = Segmenter(models)
        settings = Settings(system="paper", refiner="none", tiles="off", views="one")
        segmenter.localizer(settings)
    image = photo()
    memory = segmenter.remember([np.roll(image, 37 * i, axis=1) for i in (1, 2, 3, 4)], settings)
    began = time.perf_counter()
    encoding = segmenter.encode(image, settings)
    segmenter.segment(encoding, settings)
    alone = time.perf_counter() - began
    again = time.perf_counter()
    segmenter.segment(encoding, settings, references=memory)
    return {"alone": alone, "more": time.perf_counter() - again, "peak_mb": peak_mb()}


def _any_layers(clip: Any) -> Any:
    """Linear layers of random weights: good images are compared by the blocks' own tokens, which are wider."""
    import torch

    from zsas.backbones.text import ENSEMBLE
    from zsas.localizers.adapter import Adapter, AdapterCard, quarters

    blocks = quarters(clip.depth)
    card = AdapterCard(
        clip.name, 518, clip.activation, "nothing", blocks=blocks, text_ensemble=ENSEMBLE
    )
    weights = tuple(torch.randn(clip.projection, clip.width) for _ in blocks)
    return Adapter(card, weights, tuple(torch.zeros(clip.projection) for _ in blocks))


def together() -> dict[str, Any]:
    """A hundred images of 1,024 cells each compared with each other, encodings there."""
    import torch

    from zsas.localizers.mutual import cells_of, compare_batch
    from zsas.localizers.patches import PatchFeatures, TileFeatures

    generator = torch.Generator().manual_seed(0)
    shape = (1, LAYERS, CELLS, CELLS, WIDTH)

    def one() -> PatchFeatures:
        layers = torch.nn.functional.normalize(torch.randn(shape, generator=generator), dim=-1)
        embedding = torch.nn.functional.normalize(torch.randn(WIDTH, generator=generator), dim=-1)
        side = 16 * CELLS
        return PatchFeatures(
            (TileFeatures((0, 0, side, side), layers.half(), embedding, (side, side)),)
        )

    images = [one() for _ in range(BATCH)]
    began, busy = time.perf_counter(), _busy()
    compare_batch([cells_of(image, str(i)) for i, image in enumerate(images)], ())
    return {
        "seconds": time.perf_counter() - began,
        "busy_seconds": _busy() - busy,
        "peak_mb": peak_mb(),
    }


def _busy() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str, bool | None]]:
    """Lines of the table: what, measured, goal, reached."""
    if "references" in found:
        one = found["references"]
        for tiles, most in (("off", 1.3), ("auto", 1.5)):
            alone, more = one[f"whole_{tiles}"]
            what = f"`tiny`, 1024 × 1024, tiles {tiles}, four good images remembered, against zero-shot"
            ratio = more / alone
            yield what, f"{more:.2f} s / {alone:.2f} s = {ratio:.2f}", f"≤ {most}", ratio <= most
        alone, more = one["level"]
        figure = f"{more * 1e3:.0f} ms / {alone * 1e3:.0f} ms = {more / alone:.2f}"
        yield (
            "deciding again with them, another marking level",
            figure,
            "≤ 1.1",
            more <= 1.1 * alone,
        )
    if "references_full" in found:
        full = found["references_full"]
        ratio = 1 + full["more"] / full["alone"]
        figure = (
            f"({full['alone']:.1f} + {full['more']:.2f}) s / {full['alone']:.1f} s = {ratio:.2f}"
        )
        yield (
            "full size, four good images against zero-shot, without SAM",
            figure,
            "≤ 1.1",
            ratio <= 1.1,
        )
    if "together" in found:
        batch = found["together"]
        figure = (
            f"{batch['seconds']:.0f} s, {batch['busy_seconds']:.0f} s of processor time, peak "
            f"{batch['peak_mb']:.0f} MB"
        )
        good = batch["seconds"] <= 60 and batch["peak_mb"] <= 2000
        yield "100 images of 1,024 cells compared with each other", figure, "≤ 60 s, ≤ 2 GB", good
