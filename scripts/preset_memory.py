"""What each preset needs in memory: parameters computed from its config, and the peak of a real run on the CPU.

    python -m scripts.preset_memory [PRESET …] [--precision fp32,bf16] [--side 1024]

Models of the real sizes with random weights are written to a temporary folder and loaded from there as downloaded
ones are, in a process of their own that segments one image. Nothing is fetched. Prints a table for docs/space.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from zsas.models import PRESETS

CLIP_B16 = {
    "vision_config": {"patch_size": 16},
    "text_config": {"eos_token_id": 49407},
    "projection_dim": 512,
}
CLIP_L14_336 = {
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 336,
        "patch_size": 14,
    },
    "text_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "eos_token_id": 49407,
    },
    "projection_dim": 768,
}
SAM_H = {
    "vision_config": {
        "hidden_size": 1280,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "global_attn_indexes": [7, 15, 23, 31],
        "mlp_dim": 5120,
    }
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai/clip-vit-base-patch16": ("CLIP", CLIP_B16),
    "openai/clip-vit-large-patch14-336": ("CLIP", CLIP_L14_336),
    "facebook/sam-vit-base": ("Sam", {}),
    "facebook/sam-vit-huge": ("Sam", SAM_H),
    "facebook/sam2.1-hiera-tiny": ("Sam2", {}),  # the class's own defaults are of this size
}

RUN = """
import json, resource, sys, time
import numpy as np
from zsas import Segmenter, Settings
from zsas.device import keep_freed_memory
from zsas.models import ModelChoice
keep_freed_memory()
choice, side = ModelChoice(**json.loads(sys.argv[1])), int(sys.argv[2])
segmenter = Segmenter.from_choice(choice)
loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
image = np.random.default_rng(0).integers(0, 255, (side, side, 3)).astype(np.uint8)
settings = Settings(threshold=0.98, threshold_mode="quantile")
start = time.perf_counter()
segmenter.segment(segmenter.encode(image, settings), settings)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"loaded": loaded * 1024, "peak": peak * 1024, "seconds": seconds}))
"""


def build(source: str) -> Any:
    """A model of that repository's size with random weights."""
    import transformers

    kind, options = CONFIGS[source]
    config = getattr(transformers, f"{kind}Config")(**options)
    return getattr(transformers, f"{kind}Model")(config)


def parameters(source: str) -> int:
    """How many numbers a model has; of a folder, as many as are in its file."""
    if source in CONFIGS:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build(source).parameters())
    from safetensors.torch import load_file

    return sum(tensor.numel() for tensor in load_file(Path(source) / "model.safetensors").values())


def write(source: str, folder: Path) -> str:
    """A folder with a model of that size, as a download would leave it."""
    if source not in CONFIGS:
        return source
    target = folder / source.replace("/", "--")
    if not target.exists():
        torch.manual_seed(0)
        build(source).save_pretrained(target)
        if CONFIGS[source][0] == "CLIP":
            import open_clip

            from zsas.models.vocabulary import from_vocabulary

            words = Path(open_clip.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
            for name, data in from_vocabulary(words).items():
                (target / name).write_bytes(data)
    return str(target)


def measure(preset: str, precision: str, side: int, folder: Path) -> dict[str, float]:
    """Peak of memory in bytes, and seconds of one image, in a process of its own."""
    roles = PRESETS[preset].roles
    choice = {
        "preset": preset,
        "clip": None if PRESETS[preset].bundled else write(roles["clip"], folder),
        "sam": None if PRESETS[preset].bundled else write(roles["sam"], folder),
        "device": "cpu",
        "precision": precision,
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(choice), str(side)],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", default=list(PRESETS))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--side", type=int, default=1024)
    given = parser.parse_args()
    print("| preset | parameters | weights, fp32 | precision | loaded | peak | seconds |")
    print("| --- | ---: | ---: | --- | ---: | ---: | ---: |")
    for preset in given.presets:
        count = sum(parameters(source) for source in PRESETS[preset].roles.values())
        with tempfile.TemporaryDirectory() as folder:
            for precision in given.precision.split(","):
                found = measure(preset, precision, given.side, Path(folder))
                print(
                    f"| `{preset}` | {count / 1e6:.0f} M | {count * 4 / 1e9:.2f} GB | {precision} | "
                    f"{found['loaded'] / 1e9:.2f} GB | {found['peak'] / 1e9:.2f} GB | {found['seconds']:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
