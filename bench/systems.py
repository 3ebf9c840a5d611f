"""Time and memory of every system's map at full size: `python -m bench.systems [--rounds N] [NAME …]`, a table.

Random weights, each system in a process of its own, on the CLIP of its paper; the words are encoded before, as they are
kept. What follows the map (SAM, the cascade) is the same for all and measured by `python -m bench`. SAA and SAA+ ask
SAM on the way to their map; here a stand-in fills each box (`bench.saa`).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from bench import saa
from bench.measure import CPU, AnyWords, _full_clip, peak_mb, photo
from zsas.backbones.clip import ClipBackbone
from zsas.localizers.base import Localizer
from zsas.models import ModelChoice, Models
from zsas.segmenter import Segmenter
from zsas.settings import Settings
from zsas.systems import SYSTEMS


def plus_clip() -> Any:
    """ViT-B-16-plus-240 with random weights."""
    from transformers import CLIPConfig, CLIPModel

    vision = {
        "hidden_size": 896,
        "intermediate_size": 3584,
        "num_hidden_layers": 12,
        "num_attention_heads": 14,
        "image_size": 240,
        "patch_size": 16,
        "hidden_act": "gelu",
    }
    text = {
        "hidden_size": 640,
        "intermediate_size": 2560,
        "num_hidden_layers": 12,
        "num_attention_heads": 10,
        "hidden_act": "gelu",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=640)).eval()


class _Ready(Models):
    """A CLIP that is in memory."""

    def __init__(self, clip: ClipBackbone) -> None:
        super().__init__(ModelChoice("tiny", device="cpu"))
        self._loaded = {"clip": clip}

    def weights(self, localizer: str) -> None:
        return None


def _with_weights(name: str, clip: ClipBackbone) -> list[Localizer]:
    """A localizer that needs learned weights, with random ones."""
    from zsas.backbones.text import ENSEMBLE
    from zsas.localizers.adapter import Adapter, AdapterCard, Card, quarters
    from zsas.localizers.anomalyclip import AnomalyClip, Prompts
    from zsas.localizers.linear import Linear
    from zsas.localizers.sdp_plus import SdpPlus
    from zsas.localizers.umci import Umci, UmciCard, UmciLocalizer, first_weights

    side = 240 if clip.width == 896 else 518
    if name == "anomalyclip":
        tokens = [0.02 * torch.randn(count, 768) for count in (12, 12, *[4] * 8)]
        card = Card(clip.name, side, clip.activation, "")
        return [AnomalyClip(clip, Prompts(card, tokens[0], tokens[1], tuple(tokens[2:])))]
    if name == "umci":
        made = UmciCard(
            clip.name,
            side,
            clip.activation,
            "",
            blocks=quarters(clip.depth),
            text_ensemble=ENSEMBLE,
        )
        return [UmciLocalizer(clip, Umci(made, first_weights(made, clip.width, clip.projection)))]
    if name == "anomalyvfm":
        from zsas.localizers.anomalyvfm import AnomalyVfm
        from zsas.localizers.anomalyvfm_net import VfmCard, VfmWeights
        from zsas.training.towers import fresh

        own = VfmCard(clip.name, 672, clip.activation, "")
        return [AnomalyVfm(clip, VfmWeights(own, fresh(clip, 64, clip.width)))]
    if name == "visualad":
        from zsas.localizers.visualad import VisualAd
        from zsas.localizers.visualad_net import VisualCard, VisualWeights
        from zsas.training.towers import fresh_visual

        blocks = quarters(clip.depth)
        seen = VisualCard(clip.name, 518, clip.activation, "", blocks=blocks)
        return [VisualAd(clip, VisualWeights(seen, fresh_visual(clip, blocks, 37 * 37)))]
    card_ = AdapterCard(
        clip.name,
        side,
        clip.activation,
        "",
        blocks=quarters(clip.depth),
        text_ensemble="",
        localizer=name,
    )
    layers = [torch.randn(clip.projection, clip.width) for _ in card_.blocks]
    adapter = Adapter(card_, tuple(layers), tuple(torch.zeros(clip.projection) for _ in layers))
    return [SdpPlus(clip, adapter) if name == "sdp+" else Linear(clip, adapter)]


def measure(name: str, rounds: int) -> dict[str, float]:
    """Seconds of one image's map and of a plain pass of the same CLIP, the least of some rounds; peak memory in MB."""
    from zsas.device import keep_freed_memory

    if "clip" not in SYSTEMS[name].roles:
        return saa.measure(name)
    keep_freed_memory()
    part = SYSTEMS[name].localizers[-1]
    model = plus_clip() if part.backbone else _full_clip()
    clip = ClipBackbone(model, AnyWords(), name="full", device=CPU)
    learned = _with_weights(part.name, clip) if part.weights else []
    segmenter = Segmenter(_Ready(clip), localizers=learned, cache_bytes=0)
    settings = Settings(system=name, refiner="none")
    image = photo()
    segmenter(photo(64), settings)  # the words are known after that

    def timed(work: Callable[[], object]) -> tuple[float, float]:
        started, busy = time.perf_counter(), time.process_time()
        work()
        return time.perf_counter() - started, time.process_time() - busy

    size = segmenter.localizer(settings).resolution(settings)
    pairs = []
    for i in range(rounds):
        # In turn, so that what else runs on the machine meets both; each another image, as a pass is kept for systems
        # that share it.
        one, other = (np.roll(image, shift, axis=0) for shift in (16 * i, 16 * i + 8))
        pixels = clip.pixels([other], size)
        whole = timed(partial(segmenter, one, settings))
        pairs.append((whole, timed(partial(clip.forward_vision, pixels))))
    return {
        "seconds": min(whole[0] for whole, _ in pairs),
        "busy_seconds": min(whole[1] for whole, _ in pairs),
        "pass_busy_seconds": min(one[1] for _, one in pairs),
        "peak_mb": peak_mb(),
    }


def run(name: str, rounds: int) -> dict[str, Any]:
    """What `measure` gives in a process of its own, or the last line of what it complained of."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.systems", "--rounds", str(rounds), "--one", name],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["no reason was given"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(name: str, one: dict[str, Any], auto: dict[str, Any]) -> str:
    """One line of the table; times are compared by what the processor did, which other programs change least."""
    if "error" in one:
        return f"| `{name}` | not measured: {one['error']} | | | | |"
    busy = one["busy_seconds"]
    cells = (
        f"`{name}`",
        f"{one['seconds']:.1f} s",
        f"{busy / auto['busy_seconds']:.2f}",
        f"{busy / one['pass_busy_seconds']:.1f}",
        f"{one['peak_mb']:.0f} MB",
        f"{one['peak_mb'] / auto['peak_mb']:.2f}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """One line of JSON for one name with `--one`; else the table, line by line as it is there."""
    parser = argparse.ArgumentParser(prog="python -m bench.systems", description=__doc__)
    parser.add_argument("names", nargs="*", help="all systems if none is named")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.names[0], given.rounds)))
        return
    names = given.names or list(SYSTEMS)
    print(
        "| system | map | against `auto` | passes of its CLIP or detector | peak memory | against `auto` |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    auto: dict[str, Any] = {}
    said: list[str] = []
    for name in dict.fromkeys(["auto", *names]):
        found = run(name, given.rounds)
        auto = auto or found
        print(row(name, found, auto), flush=True)
        if "saliency_busy_seconds" in found:
            said.append(
                f"The saliency of `{name}` takes {found['saliency_busy_seconds']:.1f} s of a processor; four objects "
                f"on half of an image take {found['several_busy_seconds']:.0f} s, with a peak of "
                f"{found['several_peak_mb']:.0f} MB."
            )
    print("", *said, sep="\n")


if __name__ == "__main__":
    main()
