"""The encoders by themselves, and the preset `light` against `paper`: random weights of full size, on a CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from bench.measure import CPU, FORMATS, AnyWords, gemm_peak, peak_mb, photo, ready, seconds


def encoders() -> dict[str, Any]:
    """SAM ViT-B's encoder: share of the peak in each number format, on a square and a 2:1 image."""
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import SamConfig, SamModel

    from zsas.backbones.sam import Sam
    from zsas.backbones.sam_families import TransformersSam
    from zsas.device import encoder_dtype, keep_freed_memory

    keep_freed_memory()
    square = photo()
    auto = FORMATS[encoder_dtype(CPU)]
    found: dict[str, Any] = {"auto": auto}
    for precision in dict.fromkeys(("fp32", auto, "int8")):
        model = SamModel._from_config(SamConfig(), attn_implementation="sdpa")
        if (
            precision == "fp32"
        ):  # of the library's own forward: what ours leaves out or adds does not count
            with torch.inference_mode(), FlopCounterMode(display=False) as counter:
                model.eval().vision_encoder(torch.zeros(1, 3, 1024, 1024))
            found["gflop"] = counter.get_total_flops() / 1e9
        sam = Sam(TransformersSam(model, CPU, precision), CPU)  # type: ignore[arg-type]
        sam.encode([square[:512]])  # what its padding becomes is kept
        whole = seconds(partial(sam.encode, [square]), 2)
        busy, half = (
            seconds(partial(sam.encode, [image]), 2, time.process_time)
            for image in (square, square[:512])
        )
        dropping = Sam(sam.network, CPU, drop_padding=True)
        dropping.encode([square[:512]])  # what an empty square becomes is kept
        dropped = seconds(partial(dropping.encode, [square[:512]]), 2, time.process_time)
        peak = gemm_peak(precision)
        found[precision] = {
            "square_seconds": whole,
            "half_of_square": half / busy,
            "dropped_of_square": dropped / busy,
            "busy_seconds": busy,
            "peak_gflops": peak,
            "share": found["gflop"] / whole / peak,
        }
    return found


def parts() -> dict[str, dict[str, float]]:
    """Parts of both encoders in the format that `auto` takes here: seconds, GFLOP, share of the peak.

    SAM ViT-B's kinds of block, and CLIP ViT-L/14's tower at 518 px, random weights.
    """
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import CLIPVisionConfig, CLIPVisionModel, SamConfig, SamModel

    from zsas.backbones.sam_encoder import attend_by_strips
    from zsas.device import encoder_dtype, keep_freed_memory

    keep_freed_memory()
    dtype = encoder_dtype(CPU)
    vision = {"num_hidden_layers": 2, "global_attn_indexes": [1]}
    sam = SamModel._from_config(SamConfig(vision_config=vision), attn_implementation="sdpa").eval()
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16}
    config = CLIPVisionConfig(**sizes, num_hidden_layers=4, image_size=518, patch_size=14)
    clip = CLIPVisionModel._from_config(config, attn_implementation="sdpa").eval().to(dtype)
    windowed, whole = sam.vision_encoder.to(dtype).layers
    tokens = torch.randn(1, 64, 64, 768).to(dtype)
    pixels = torch.randn(1, 3, 518, 518).to(dtype)
    runs = {
        "windowed block": lambda: windowed(tokens),
        "global attention": lambda: whole.attn(tokens),
        "MLP": lambda: whole.mlp(tokens),
        "four blocks of CLIP": lambda: clip(pixels),
    }
    gflop = {}
    with torch.inference_mode():
        for name, run in runs.items():
            with FlopCounterMode(display=False) as counter:
                run()
            gflop[name] = counter.get_total_flops() / 1e9
        attend_by_strips(CPU, sam.vision_encoder)
        peak = gemm_peak(FORMATS[dtype])
        found = {}
        for name, run in runs.items():
            run()
            taken = seconds(run, 3)
            share = gflop[name] / taken / peak
            found[name] = {"seconds": taken, "gflop": gflop[name], "share": share}
    return found


def light() -> dict[str, float]:
    """The preset `light`: CLIP ViT-B/16 and SAM 2.1 tiny, the whole way on an image of 1024 × 1024."""
    from transformers import CLIPConfig, CLIPModel, Sam2Config, Sam2Model

    from zsas.backbones.clip import ClipBackbone
    from zsas.backbones.sam import Sam
    from zsas.backbones.sam_families import network_for
    from zsas.device import keep_freed_memory
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

    keep_freed_memory()
    sam2 = Sam2Model._from_config(Sam2Config(), attn_implementation="sdpa")
    sam = Sam(network_for(sam2, CPU), CPU)
    vision = {"image_size": 224, "patch_size": 16}  # the rest is ViT-B
    text = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": 49408}
    clip_model = CLIPModel(CLIPConfig(vision_config=vision, text_config=text))
    clip = ClipBackbone(clip_model, AnyWords(), name="light", device=CPU)
    segmenter = Segmenter(ready(clip, sam))
    clip.state_vectors("")
    settings = Settings(system="vv", threshold=0.95, threshold_mode="quantile", prompting="joint")
    started = time.perf_counter()
    segmenter(photo(), settings)
    return {"seconds": time.perf_counter() - started, "peak_mb": peak_mb()}


def features() -> str:
    """What this processor can do that matters here."""
    wanted = ("avx2", "avx512_f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
    able = torch.cpu.get_capabilities()
    return ", ".join(name for name in wanted if able.get(name)) or "none of the known ones"


def bf16_is_native() -> bool:
    """Whether `auto` is bf16 here."""
    from zsas.device import encoder_dtype

    return encoder_dtype(CPU) == torch.bfloat16


Row = tuple[str, str, str, bool | None]


def rows(found: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """Lines of the table: what, measured, goal, reached."""
    if "encoders" in found:
        measured = found["encoders"]
        auto, fp32, int8 = measured[measured["auto"]], measured["fp32"], measured["int8"]
        for name in dict.fromkeys(("fp32", measured["auto"], "int8")):
            one = measured[name]
            figure = f"{one['share']:.0%} of {one['peak_gflops']:.0f} GFLOP/s, {one['square_seconds']:.1f} s"
            reached = one["share"] >= 0.6
            yield f"SAM ViT-B encoder in {name}, share of the GEMM peak", figure, "≥ 60 %", reached
        ratio = auto["half_of_square"]
        yield (
            "the same, a 2:1 image against a square one, processor time",
            f"{ratio:.2f}",
            "≤ 0.92",
            ratio <= 0.92,
        )
        ratio = auto["dropped_of_square"]
        yield (
            "the same with --drop-padding, approximate",
            f"{ratio:.2f}",
            "≤ 0.65",
            ratio <= 0.65,
        )
        ratio = int8["busy_seconds"] / fp32["busy_seconds"]
        yield "the same, int8 against fp32, processor time", f"{ratio:.2f}", "≤ 0.5", ratio <= 0.5
    for name, one in found.get("parts", {}).items():
        figure = f"{one['share']:.0%}, {one['gflop']:.0f} GFLOP in {one['seconds']:.2f} s"
        yield f"share of the GEMM peak, {name}", figure, "≥ 60 %", one["share"] >= 0.6
    if "light" in found and "full" in found:
        one, other = found["light"]["seconds"], found["full"]["seconds"]
        figure = f"{one:.1f} s / {other:.1f} s = {one / other:.3f}"
        yield "`light` against `paper`, 1024 × 1024", figure, "≤ 0.10", one / other <= 0.1
    elif "light" in found:
        yield "`light`, 1024 × 1024", f"{found['light']['seconds']:.1f} s", "", None
