"""One measurement a process: `python -m bench.measure NAME` prints a line of JSON."""

from __future__ import annotations

import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bench.sizes import VIT_H

CPU = torch.device("cpu")
FORMATS = {torch.float32: "fp32", torch.bfloat16: "bf16"}
EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def photo(side: int = 1024) -> NDArray[np.uint8]:
    """One of the example images, mirrored on at its borders to uint8 (side, side, 3): its detail stays as fine."""
    import cv2

    image = cv2.imread(str(EXAMPLES / "casting-crack.jpg"), cv2.IMREAD_COLOR_RGB)
    return np.ascontiguousarray(
        image[_mirrored(side, len(image))][:, _mirrored(side, image.shape[1])]
    )


def _mirrored(side: int, length: int) -> NDArray[np.int64]:
    """Indices that run to and fro: 0, 1, 2, 2, 1, 0, 0, 1 ..."""
    place = np.arange(side) % (2 * length)
    return np.where(place < length, place, 2 * length - 1 - place)


def seconds(
    work: Callable[[], object], times: int = 1, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Median seconds of a call; by `time.process_time`, which a stall of the machine does not count in, if told so."""
    taken = []
    for _ in range(times):
        started = clock()
        work()
        taken.append(clock() - started)
    return statistics.median(taken)


def peak_mb() -> float:
    """Peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


PRODUCT = (4096, 1280, 5120)
"""Rows, depth and columns of the product whose speed is called this processor's peak."""


def gemm_peak(precision: str) -> float:
    """GFLOP/s of one large product in a number format."""
    rows, depth, columns = PRODUCT
    if precision == "int8":
        one = torch.randint(-127, 127, (rows, depth), dtype=torch.int8)
        other = torch.randint(-127, 127, (columns, depth), dtype=torch.int8)
        taken = seconds(lambda: torch._int_mm(one, other.T), 3)
    else:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
        one, other = torch.randn(rows, depth).to(dtype), torch.randn(columns, depth).to(dtype)
        taken = seconds(lambda: torch.nn.functional.linear(one, other), 3)
    return 2 * rows * depth * columns / taken / 1e9


def _full_clip() -> Any:
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        text_config={
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "eos_token_id": 2,
            "bos_token_id": 1,
            "pad_token_id": 0,
            "vocab_size": 49408,
        },
        vision_config={
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "image_size": 336,
            "patch_size": 14,
        },
        projection_dim=768,
    )
    return CLIPModel(config).eval()


def _points(side: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    xy = np.array([[0.3, 0.3], [0.32, 0.3], [0.3, 0.33], [0.5, 0.5], [0.2, 0.6], [0.7, 0.2]])
    return (xy * side).astype(np.float32), np.array([1, 1, 1, 0, 0, 0], np.int64)


def reference() -> dict[str, float]:
    """The plain way: transformers' CLIP in fp32 and Meta's SamPredictor in fp32, three predict calls."""
    from segment_anything import SamPredictor, sam_model_registry

    clip = _full_clip()
    predictor = SamPredictor(sam_model_registry["vit_h"]())
    image = photo()
    points, labels = _points(image.shape[0])

    @torch.inference_mode()
    def work() -> None:
        pixels = torch.randn(1, 3, 518, 518)
        clip.vision_model(pixels, interpolate_pos_encoding=True, output_hidden_states=True)
        predictor.set_image(image)
        _, iou, logits = predictor.predict(points, labels, multimask_output=True)
        best = logits[iou.argmax()][None]
        _, iou, logits = predictor.predict(points, labels, mask_input=best, multimask_output=True)
        best = logits[iou.argmax()][None]
        box = np.array([300, 300, 500, 500], np.float32)
        predictor.predict(points, labels, box=box, mask_input=best, multimask_output=True)

    return {"seconds": seconds(work), "peak_mb": peak_mb()}


class AnyWords:
    """A stand-in for the tokenizer: random weights read any words alike."""

    def __call__(self, sentences: list[str], **_: object) -> dict[str, torch.Tensor]:
        ids = torch.tensor([[1, 5 + len(s) % 100, 7, 2] for s in sentences])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def ready(clip: Any, sam: Any) -> Any:
    """Models that are in memory already, as `Segmenter` wants them."""
    from zsas.models import ModelChoice, Models

    class Ready(Models):
        def __init__(self) -> None:
            super().__init__(ModelChoice("tiny", device="cpu"))
            self._loaded = {"clip": clip, "sam": sam}

    return Ready()


def full_gflop() -> float:
    """GFLOP of both encoders at full size, once each, as transformers computes them; nothing is computed for it.

    What ours leaves out (padding) or adds (the V-V stream) does not count.
    """
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import CLIPVisionModel, SamConfig, SamModel

    with torch.device("meta"):
        config = SamConfig(vision_config=VIT_H)
        sam = SamModel._from_config(config, attn_implementation="sdpa").vision_encoder
        vision = _full_clip().config.vision_config
        clip = CLIPVisionModel._from_config(vision, attn_implementation="sdpa")
        sides = (torch.empty(1, 3, 1024, 1024), torch.empty(1, 3, 518, 518))
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        sam(sides[0])
        clip(sides[1], interpolate_pos_encoding=True)
    return counter.get_total_flops() / 1e9


def full(precision: str = "auto", runtime: str = "torch") -> dict[str, Any]:
    """Our whole pipeline at full size; the words are encoded before, as they are kept per object name."""
    from transformers import SamConfig, SamModel

    from zsas.backbones.clip import ClipBackbone
    from zsas.backbones.sam import Sam
    from zsas.backbones.sam_families import TransformersSam
    from zsas.device import encoder_dtype, keep_freed_memory
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

    keep_freed_memory()  # as the command line and the page do
    # As they are loaded: in fp32, the larger one first, each put into its number format before the next.
    how: Any = {"precision": precision, "runtime": runtime}
    sam = Sam(TransformersSam(SamModel(SamConfig(vision_config=VIT_H)), CPU, **how), CPU)
    clip = ClipBackbone(_full_clip(), AnyWords(), name="full", device=CPU, **how)
    segmenter = Segmenter(ready(clip, sam))
    clip.state_vectors("")
    image = photo()
    settings = Settings(system="vv", threshold=0.95, threshold_mode="quantile", prompting="joint")
    if runtime != "torch":  # compiled once, and kept on disk
        segmenter(np.roll(image, 8, axis=0), settings)
    started = time.perf_counter()
    result = segmenter(image, settings)
    whole = time.perf_counter() - started
    encoding = segmenter.encode(image, settings)
    # Another point each time: what was asked before is not asked again.
    again = [segmenter.segment(encoding, settings, [(9 + i, 9, 0)]).timings for i in range(3)]
    cascade = statistics.median(t["m1"] + t["m2"] + t["m3"] for t in again)
    kind = precision if precision == "int8" else FORMATS[encoder_dtype(CPU)]
    memory, peak = peak_mb(), gemm_peak(kind)
    return {
        "format": kind,
        "peak_gflops": peak,
        "share": full_gflop() / (result.timings["encode"] + result.timings["sam"]) / peak,
        "seconds": whole,
        "encode_seconds": result.timings["encode"] + result.timings["sam"],
        "cascade_seconds": cascade,
        "peak_mb": memory,
    }


def full_int8() -> dict[str, Any]:
    """`full` in int8."""
    return full("int8")


def full_openvino() -> dict[str, Any]:
    """`full` run by OpenVINO; nothing where the extra is not installed."""
    return full("auto", "openvino") if find_spec("openvino") else {}


def full_openvino_int8() -> dict[str, Any]:
    """`full` run by OpenVINO in int8; nothing where the extra is not installed."""
    return full("int8", "openvino") if find_spec("openvino") else {}


BEFORE = "cd8af0d"
"""The last commit before SAM 2.1, int8 and what else was to make encoders quicker."""
_WHOLE = """
import sys, time
import numpy as np
from zsas.device import keep_freed_memory
try:
    from zsas.segmenter import Segmenter
except ImportError:
    from zsas.pipeline import Segmenter
from zsas.settings import Settings
keep_freed_memory()
image = np.load(sys.argv[1])
segmenter = Segmenter.from_preset("tiny", cache_bytes=0)
try:
    settings = Settings(tiles="off")
except TypeError:  # there were no tiles yet
    settings = Settings()
taken = []
for number in range(10):
    given = np.roll(image, 8 * number, axis=0)
    started = time.perf_counter()
    segmenter(given, settings)
    taken.append(time.perf_counter() - started)
print(sorted(taken[1:])[4])
"""
"""Encode and decide with `tiny`, each time another image, tiles off: the median of nine."""


def tiny_before() -> dict[str, float]:
    """`tiny` encoding and deciding, here and at an earlier commit in turn; nothing where git does not hold it."""
    root = EXAMPLES.parent
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "archive", BEFORE, "zsas"], cwd=root, capture_output=True, check=False
        )
        if archive.returncode:
            return {}
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        np.save(f"{folder}/image.npy", photo())
        taken: dict[str, list[float]] = {"now": [], "before": []}
        for _ in range(2):
            for name, where in (("now", root), ("before", folder)):
                done = subprocess.run(
                    [sys.executable, "-c", _WHOLE, f"{folder}/image.npy"],
                    cwd=where,
                    env={**os.environ, "PYTHONPATH": str(where)},
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                taken[name].append(float(done.stdout.split()[-1]))
    return {name: min(times) for name, times in taken.items()}


def tiny() -> dict[str, float]:
    """The bundled models: deciding again, the whole way, and a batch."""
    from zsas.device import keep_freed_memory
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

    keep_freed_memory()
    segmenter = Segmenter.from_preset("tiny", cache_bytes=0)
    image = photo()
    segmenter(image)
    thresholds = iter(np.linspace(0.3, 0.6, 31))
    rolls = itertools.count(1)  # CLIP keeps the last passes: each time another image
    whole = seconds(lambda: segmenter(np.roll(image, 8 * next(rolls), axis=0)), 9)
    memory = peak_mb()
    encoding = segmenter.encode(image)
    decide = seconds(
        lambda: segmenter.segment(encoding, Settings(threshold=float(next(thresholds)))), 31
    )
    photos = [np.roll(image, i, axis=0) for i in range(8)]
    shifts = itertools.count(1)

    def fresh() -> list[NDArray[np.uint8]]:
        return [np.roll(p, 16 * next(shifts), axis=1) for p in photos]

    single = seconds(lambda: [segmenter.encode(p) for p in fresh()], 3)
    batch = seconds(lambda: segmenter.encode_batch(fresh()), 3)
    return {
        "decide_seconds": decide,
        "whole_seconds": whole,
        "peak_mb": memory,
        "single_seconds": single,
        "batch_seconds": batch,
    }


FIVE = ("auto", "paper", "april-gan", "vv", "sdp")
"""Systems that run on the bundled models."""


def several() -> dict[str, float]:
    """Five systems on one image, tiles off: seconds to the last, and of the processor; each time another image."""
    from zsas import comparison
    from zsas.device import encoder_dtype, keep_freed_memory
    from zsas.images import read_image
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

    keep_freed_memory()
    segmenter, image = Segmenter.from_preset("tiny"), photo()
    chosen, settings = comparison.combinations(FIVE), Settings(tiles="off")
    rolls = iter(range(100))

    def work() -> None:
        read = read_image(np.roll(image, 8 * next(rolls), axis=0))
        for row in comparison.compare(segmenter, read, chosen, settings):
            assert not row.error, row.error

    work()
    started = time.process_time()
    taken = seconds(work, 3)
    busy = (time.process_time() - started) / 3
    native = encoder_dtype(CPU) == torch.bfloat16
    return {"seconds": taken, "busy_seconds": busy, "goal": 3.0 if native else 6.0}


def _make(start: int) -> None:
    """Make fifty images, in a process of its own."""
    from tiny.synthetic.scene import make_image

    for seed in range(start, start + 50):
        make_image(seed, 256)


def synthetic() -> dict[str, float]:
    """How fast two processes draw synthetic images."""
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.map(_make, [0, 100], chunksize=1)  # starts the processes
        taken = seconds(lambda: pool.map(_make, [200, 300, 400, 500], chunksize=1))
    return {"images_per_second": 200 / taken}


if __name__ == "__main__":
    from bench.encoders import encoders, light, parts
    from bench.references import references, references_full, together
    from bench.tiles import tiles

    measurements = (
        *(reference, full, full_int8, full_openvino, full_openvino_int8, encoders, parts, light),
        *(tiny, tiny_before, several, tiles, synthetic),
        *(references, references_full, together),
    )
    print(json.dumps({f.__name__: f for f in measurements}[sys.argv[1]]()))
