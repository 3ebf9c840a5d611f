"""Time and memory of SAA and SAA+ at full size, for `bench.systems`; random weights.

SAM is asked on the way to their map; a stand-in fills each box, so that the figures show what is theirs alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from bench.measure import CPU, peak_mb, photo
from zsas.frames import SamFrame
from zsas.prompts import Masks, Prompt
from zsas.settings import Settings


class _AnyBert:
    """Token numbers where Grounding DINO looks for its marks; which words they are does not matter here."""

    all_special_tokens = ("[CLS]", "[SEP]")

    def __call__(self, texts: list[str], **_: object) -> dict[str, torch.Tensor]:
        words = [2000 + len(word) for word in texts[0].rstrip(".").split()]
        ids = torch.tensor([[101, *words, 1012, 102]])
        ones = torch.ones_like(ids)
        return {"input_ids": ids, "attention_mask": ones, "token_type_ids": torch.zeros_like(ids)}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        return [f"word{one}" for one in ids]


class _FilledBoxes:
    """In the place of SAM: a mask is its box."""

    def __init__(self, side: int) -> None:
        self.frame = SamFrame(side, side)

    def decode(self, prompts: Sequence[Prompt]) -> list[Masks]:
        found = []
        for prompt in prompts:
            assert prompt.box is not None
            x0, y0, x1, y1 = (round(float(v) * 256 / self.frame.side) for v in prompt.box)
            logits = np.full((1, 256, 256), -8, np.float32)
            logits[0, y0 : y1 + 1, x0 : x1 + 1] = 8
            found.append(Masks(logits, np.ones(1, np.float32)))
        return found


def wide_resnet() -> Any:
    """Wide ResNet-50-2 with random weights, by torchvision's names."""
    from zsas.backbones.resnet import ResNet

    shapes = {"conv1.weight": (64, 3, 7, 7), **_norm("bn1", 64)}
    read = 64
    for stage, (blocks, width) in enumerate(((3, 128), (4, 256), (6, 512)), 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            sizes = ((width, read, 1, 1), (width, width, 3, 3), (2 * width, width, 1, 1))
            for i, size in enumerate(sizes, 1):
                shapes |= {f"{at}.conv{i}.weight": size, **_norm(f"{at}.bn{i}", size[0])}
            if not block:
                shapes[f"{at}.downsample.0.weight"] = (2 * width, read, 1, 1)
                shapes |= _norm(f"{at}.downsample.1", 2 * width)
            read = 2 * width
    made = {name: 0.02 * torch.randn(size).abs() + 0.01 for name, size in shapes.items()}
    return ResNet(made)


def _norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")
    }


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds that passed, and seconds that the processor was busy with it."""
    started, busy = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - busy


def measure(name: str) -> dict[str, float]:
    """What `bench.systems` measures, with runs of the detector for passes; for SAA+ also both saliencies."""
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection

    from zsas.backbones.detector import Detector
    from zsas.backbones.resnet import ResNetFeatures
    from zsas.device import keep_freed_memory
    from zsas.localizers.base import Context
    from zsas.localizers.saa import SEVERAL_SIDE, Saa, SaaPlus
    from zsas.localizers.saliency import unit_cells, unlike_the_others, unlike_the_rest

    keep_freed_memory()
    torch.manual_seed(0)
    detector = Detector(GroundingDinoForObjectDetection(GroundingDinoConfig()), _AnyBert(), CPU)
    image, settings = photo(), Settings(system=name)
    session: Any = _FilledBoxes(len(image))
    found: dict[str, float] = {}
    localizer: Saa = Saa(detector)
    if name == "saa+":
        features = ResNetFeatures(wide_resnet(), CPU)
        localizer = SaaPlus(detector, features)

    def whole() -> None:
        with torch.inference_mode():
            (seen,) = localizer.encode([image], settings)
            localizer.score(seen, settings, Context(image, session))

    found["seconds"], found["busy_seconds"] = timed(whole)
    found["peak_mb"] = peak_mb()
    (seen,) = detector.encode([image])
    found["pass_busy_seconds"] = timed(lambda: detector.detect(seen, "defect on object"))[1]
    if name == "saa+":
        one = features.maps([image], 256)[0]
        found["saliency_busy_seconds"] = min(
            timed(lambda: unlike_the_rest(unit_cells(one), 400))[1] for _ in range(3)
        )
        fine = features.maps([image], SEVERAL_SIDE)[0]
        objects = [np.zeros((256, 256), bool) for _ in range(4)]
        for i, mask in enumerate(objects):  # they cover half of the image
            row, column = 19 + 128 * (i // 2), 19 + 128 * (i % 2)
            mask[row : row + 90, column : column + 90] = True
        found["several_busy_seconds"] = timed(lambda: unlike_the_others(fine, objects))[1]
        found["several_peak_mb"] = peak_mb()
    return found
