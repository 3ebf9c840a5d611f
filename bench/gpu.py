"""`python -m bench gpu`, or `python -m bench.gpu`: both encoders at full size on a GPU, random weights, one table.

Number formats, batches, channels-last, torch.compile, one stream against two, ways to do the global attention,
the mask decoder, and whether the numbers agree. Needs torch, transformers, numpy and this repository; other libraries
of the package may be missing. Whatever has not begun after `--seconds` is left out and named.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from bench.sizes import VIT_H

VIT_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "vocab_size": 49408,
}
SMALL = {
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "mlp_dim": 384,
    "global_attn_indexes": [1, 3],
}
CPU = torch.device("cpu")


def stand_in_for_missing() -> list[str]:
    """Empty modules for libraries that are imported by files used here, but not called."""
    missing = []
    for name in ("cv2", "PIL", "PIL.Image"):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = types.ModuleType(name)
            missing.append(name)
    if "PIL" in missing:
        sys.modules["PIL"].Image = sys.modules["PIL.Image"]  # type: ignore[attr-defined]
    return missing


class Bench:
    """The models, the clock and the lines of the table."""

    def __init__(self, device: torch.device, most: float, small: bool) -> None:
        self.device, self.most, self.small = device, most, small
        self.started = time.perf_counter()
        self.lines: list[tuple[str, str]] = []
        self.figures: dict[str, float] = {}

    def line(self, what: str, value: str, figure: float | None = None) -> None:
        """A line of the table, printed at once in case the rest never comes."""
        self.lines.append((what, value))
        print(f"| {what} | {value} |", flush=True)
        if figure is not None:
            self.figures[what] = figure

    @contextmanager
    def part(self, name: str) -> Iterator[bool]:
        """A part of the measurement: whether there is time for it; what goes wrong in it is a line."""
        spent = time.perf_counter() - self.started
        if spent > self.most:
            self.line(name, f"left out, {spent:.0f} s were spent")
            yield False
            return
        try:
            yield True
        except Exception as error:  # the other parts still count
            self.line(name, f"failed: {type(error).__name__}: {str(error).splitlines()[0][:200]}")
        finally:
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def milliseconds(self, work: Callable[[], object], times: int = 5, warm: int = 2) -> float:
        """Median of some calls, each waited for."""
        if self.small:
            times, warm = 1, 0
        with torch.inference_mode():
            for _ in range(warm):
                work()
            taken = []
            for _ in range(times):
                self.wait()
                begun = time.perf_counter()
                work()
                self.wait()
                taken.append(1e3 * (time.perf_counter() - begun))
        return statistics.median(taken)

    # The models.

    def sam(
        self, precision: str, runtime: str = "torch", config: dict[str, Any] | None = None
    ) -> Any:
        from transformers import SamConfig, SamModel

        from zsas.backbones.sam import Sam
        from zsas.backbones.sam_families import TransformersSam

        vision = config or (SMALL if self.small else VIT_H)
        torch.manual_seed(0)
        with torch.device(self.device):  # random numbers are quicker there
            model = SamModel._from_config(
                SamConfig(vision_config=vision), attn_implementation="sdpa"
            )
        with torch.no_grad():
            for name, weight in model.vision_encoder.named_parameters():
                if "rel_pos" in name:
                    weight.normal_(std=0.05)
        network = TransformersSam(model, self.device, precision, runtime=runtime)  # type: ignore[arg-type]
        return Sam(network, self.device)

    def clip(self, precision: str, runtime: str = "torch") -> Any:
        from transformers import CLIPConfig, CLIPModel

        from zsas.backbones.clip import ClipBackbone

        vision = {**VIT_L, "num_hidden_layers": 4} if self.small else VIT_L
        torch.manual_seed(0)
        with torch.device(self.device):
            config = CLIPConfig(text_config=TEXT, vision_config=vision, projection_dim=768)
            model = CLIPModel._from_config(config, attn_implementation="sdpa")
        return ClipBackbone(
            model,
            None,
            name="full",
            device=self.device,
            precision=precision,  # type: ignore[arg-type]
            runtime=runtime,  # type: ignore[arg-type]
        )

    def encode_sam(self, sam: Any, pixels: torch.Tensor) -> Any:
        frames = [sam.network.input.frame(1024, 1024)] * len(pixels)
        return sam.network.encoder(pixels, frames)

    def encode_clip(self, clip: Any, pixels: torch.Tensor) -> Any:
        # `_pass`: what was seen before is kept by `forward_vision`.
        depth = clip.depth
        blocks = (depth // 4, depth // 2, 3 * depth // 4, depth)
        return clip._pass(pixels.to(clip.dtype), blocks, depth // 4, None, "bicubic")

    def sam_pixels(self, count: int) -> torch.Tensor:
        return torch.randn(count, 3, 1024, 1024, device=self.device)

    def clip_pixels(self, count: int) -> torch.Tensor:
        return torch.randn(count, 3, 518, 518, device=self.device)


def formats_and_batches(bench: Bench, batches: tuple[int, ...] = (1, 4, 16)) -> None:
    """Each encoder in fp32, in fp32 with TF32 products, and in bf16; milliseconds an image."""
    for precision, tf32 in (("bf16", False), ("fp32", True), ("fp32", False)):
        name = f"{precision}{', TF32' if tf32 else ''}"
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        for what, make, encode, pixels in (
            ("SAM ViT-H, 1024 px", bench.sam, bench.encode_sam, bench.sam_pixels),
            ("CLIP ViT-L/14 and V-V, 518 px", bench.clip, bench.encode_clip, bench.clip_pixels),
        ):
            with bench.part(f"{what}, {name}") as go:
                if not go:
                    continue
                model = make(precision)
                several = precision == "bf16" and not bench.small
                for count in batches if several else batches[:1]:
                    if bench.device.type == "cuda":
                        torch.cuda.reset_peak_memory_stats()
                    given = pixels(count)
                    taken = bench.milliseconds(partial(encode, model, given)) / count
                    bench.line(
                        f"{what}, {name}, batch {count}",
                        f"{taken:.1f} ms an image{peak(bench)}",
                        taken,
                    )
                del model
    torch.set_float32_matmul_precision("highest")


def peak(bench: Bench) -> str:
    if bench.device.type != "cuda":
        return ""
    return f", peak {torch.cuda.max_memory_allocated() / 1e9:.1f} GB"


def streams(bench: Bench) -> None:
    """Both encoders on one image: one stream, two streams of one thread, and two of two threads."""
    with bench.part("both encoders, one stream against two") as go:
        if not go:
            return
        sam, clip = bench.sam("bf16"), bench.clip("bf16")
        large, small = bench.sam_pixels(1), bench.clip_pixels(1)

        def one() -> None:
            bench.encode_sam(sam, large)
            bench.encode_clip(clip, small)

        taken = bench.milliseconds(one)
        bench.line("both encoders, bf16, one image, one stream", f"{taken:.1f} ms", taken)
        if bench.device.type != "cuda":
            return
        beside = torch.cuda.Stream()

        def two() -> None:
            beside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(beside):
                bench.encode_clip(clip, small)
            bench.encode_sam(sam, large)
            torch.cuda.current_stream().wait_stream(beside)

        taken = bench.milliseconds(two)
        bench.line("the same, two streams, one thread", f"{taken:.1f} ms", taken)
        from concurrent.futures import ThreadPoolExecutor

        def clip_there() -> None:
            with torch.inference_mode(), torch.cuda.stream(beside):
                bench.encode_clip(clip, small)

        with ThreadPoolExecutor(1) as pool:

            def threads() -> None:
                waiting = pool.submit(clip_there)
                bench.encode_sam(sam, large)
                waiting.result()
                torch.cuda.current_stream().wait_stream(beside)

            taken = bench.milliseconds(threads)
        bench.line("the same, two streams, two threads", f"{taken:.1f} ms", taken)


def channels_last(bench: Bench) -> None:
    """Convolutions (patches, neck) with channels side by side in memory, as they are used, and without."""
    with bench.part("SAM ViT-H, channels-last") as go:
        if not go:
            return
        sam = bench.sam("bf16")
        given = bench.sam_pixels(4)
        taken = bench.milliseconds(lambda: bench.encode_sam(sam, given)) / 4
        for module in sam.network.model.vision_encoder.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.to(memory_format=torch.contiguous_format)
        without = bench.milliseconds(lambda: bench.encode_sam(sam, given)) / 4
        value = f"{taken:.1f} ms an image, {without:.1f} without"
        bench.line("SAM ViT-H, bf16, batch 4, channels-last", value, taken)


def compiled(bench: Bench) -> None:
    """`--runtime compile`, and how long compiling takes."""
    for what, make, encode, pixels in (
        ("CLIP ViT-L/14 and V-V", bench.clip, bench.encode_clip, bench.clip_pixels),
        ("SAM ViT-H", bench.sam, bench.encode_sam, bench.sam_pixels),
    ):
        with bench.part(f"{what}, compiled") as go:
            if not go:
                continue
            torch._dynamo.reset()
            model, given = make("bf16", "compile"), pixels(1)
            begun = time.perf_counter()
            with torch.inference_mode():
                encode(model, given)
            bench.wait()
            first = time.perf_counter() - begun
            taken = bench.milliseconds(partial(encode, model, given))
            value = f"{taken:.1f} ms an image, the first {first:.0f} s"
            bench.line(f"{what}, bf16, batch 1, torch.compile", value, taken)


def global_attention(bench: Bench) -> None:
    """SAM ViT-H's global attention: bias given to the kernel, and folded into queries and keys."""
    with bench.part("global attention") as go:
        if not go:
            return
        heads, cells, grid, depth = (4, 4096, 64, 80) if bench.small else (16, 4096, 64, 80)
        dtype = torch.bfloat16
        query, key, value = torch.randn(3, 1, heads, cells, depth, device=bench.device).to(dtype)
        rows, columns = torch.randn(2, 1, heads, cells, grid, device=bench.device).to(dtype)

        def biased() -> torch.Tensor:
            bias = (rows[..., :, None] + columns[..., None, :]).flatten(-2)
            return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)

        place = torch.arange(cells, device=bench.device)
        where = torch.cat([F.one_hot(place // grid, grid), F.one_hot(place % grid, grid)], -1).to(
            dtype
        )

        def folded() -> torch.Tensor:
            longer = torch.cat([query * depth**-0.5, rows, columns], -1)
            keys = torch.cat([key, where.expand(1, heads, -1, -1)], -1)
            return F.scaled_dot_product_attention(longer, keys, value, scale=1.0)

        with torch.inference_mode():
            apart = (biased().float() - folded().float()).abs().max()
        for name, work in (("bias as a mask", biased), ("folded", folded)):
            taken = bench.milliseconds(work)
            bench.line(f"one global attention of ViT-H, bf16, {name}", f"{taken:.2f} ms", taken)
        bench.line("the two, largest difference", f"{apart:.4f}", float(apart))


def decoder(bench: Bench) -> None:
    """One prompt, and sixteen in one call, as `Sam.decode` groups them."""
    with bench.part("mask decoder") as go:
        if not go:
            return
        from zsas.backbones.sam import SamFeatures
        from zsas.prompts import Prompt

        sam = bench.sam("bf16", config=SMALL)  # the decoder has one size
        frame = sam.network.input.frame(1024, 1024)
        embedding = torch.randn(1, 256, 64, 64, device=bench.device)
        features = SamFeatures(embedding, frame)
        points = np.array([[300.0, 300.0], [500.0, 500.0]], np.float32)
        prompt = Prompt(points, np.array([1, 0], np.int64))
        for count in (1, 16):
            prompts = [prompt] * count
            taken = bench.milliseconds(partial(sam.decode, features, prompts))
            bench.line(f"mask decoder, fp32, {count} prompts in one call", f"{taken:.1f} ms", taken)


def agreement(bench: Bench) -> None:
    """The GPU's numbers beside the CPU's, with a small SAM, on an image that is not square."""
    with bench.part("agreement") as go:
        if not go:
            return
        here = bench.sam("fp32", config=SMALL)
        there = Bench(CPU, bench.most, bench.small).sam("fp32", config=SMALL)
        weights = here.network.model.state_dict()
        there.network.model.load_state_dict({k: v.cpu() for k, v in weights.items()})
        reduced = bench.sam("bf16", config=SMALL)
        reduced.network.model.load_state_dict(weights)
        image = np.random.default_rng(0).integers(0, 255, (400, 1024, 3), dtype=np.uint8)
        wanted = there.encode([image])[0].embedding
        for name, sam in (("fp32", here), ("bf16", reduced)):
            found = sam.encode([image])[0].embedding.cpu()
            apart = float((found - wanted).abs().max() / wanted.abs().max())
            line = (
                f"small SAM, GPU {name} against CPU fp32, largest difference of the largest value"
            )
            bench.line(line, f"{apart:.1e}", apart)


PARTS = (
    *(agreement, formats_and_batches, streams, channels_last),
    *(global_attention, decoder, compiled),
)


def main(words: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench gpu", description=__doc__)
    parser.add_argument("--seconds", type=float, default=75, help="nothing begins after this")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="small models, to try the command")
    parser.add_argument("--only", nargs="*", choices=[one.__name__ for one in PARTS])
    parser.add_argument("--json", help="write the figures there too")
    given = parser.parse_args(words)
    device = torch.device(given.device)
    missing = stand_in_for_missing()
    import transformers

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, transformers {transformers.__version__}", end="")
    print(f"; not here and not needed: {', '.join(missing)}." if missing else ".")
    print("\n| what | measured |\n| --- | --- |", flush=True)
    bench = Bench(device, given.seconds, given.small)
    for part in PARTS:
        if not given.only or part.__name__ in given.only:
            part(bench)
    bench.line("the whole command", f"{time.perf_counter() - bench.started:.0f} s")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as stream:
            json.dump(bench.figures, stream, indent=1)


if __name__ == "__main__":
    main()
