"""`python -m bench`: every measurement in a process of its own, then one table.

Full-size models run with random weights, which cost the same as trained ones. Absolute seconds belong to the machine
they were taken on; the ratios are what to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from bench import references, tiles
from bench.browser import GOALS as PAGE
from bench.encoders import Row, bf16_is_native, features, rows
from bench.measure import BEFORE

MEASUREMENTS = (
    *(
        "reference",
        "full",
        "full_int8",
        "full_openvino",
        "full_openvino_int8",
        "encoders",
        "parts",
        "light",
    ),
    *("tiny", "tiny_before", "several", "tiles", "references", "references_full", "together"),
    *("synthetic", "page"),
)


class NotMeasured(Exception):
    """Why a measurement gave nothing, in a few words."""


def measure(name: str) -> dict[str, Any]:
    """Run one measurement in a fresh process; its peak memory is its own.

    Raises:
        NotMeasured: If it failed or was killed.
    """
    done = subprocess.run(
        [sys.executable, "-m", *(["bench.browser"] if name == "page" else ["bench.measure", name])],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode < 0:
        ended = signal.Signals(-done.returncode).name
        memory = ", as where memory runs out" if ended == "SIGKILL" else ""
        raise NotMeasured(f"its process was ended by {ended}{memory}")
    if done.returncode:
        raise NotMeasured(f"its process ended with exit code {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measured(names: Sequence[str]) -> Iterator[tuple[dict[str, dict[str, Any]], dict[str, str]]]:
    """After each measurement what all so far have found, and of those that found nothing why.

    One that fails does not end the others.
    """
    found: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for name in names:
        started = time.monotonic()
        try:
            one = measure(name)
            if one:
                found[name] = one
            else:
                missing[name] = "what it needs is not installed here"
        except NotMeasured as why:
            missing[name] = str(why)
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        yield found, missing


def row(what: str, value: str, goal: str, reached: bool | None) -> str:
    mark = {True: "yes", False: "NO", None: ""}[reached]
    return f"| {what} | {value} | {goal} | {mark} |"


FULL = {
    "full": "whole pipeline, full size, time against plain fp32 CLIP + SamPredictor",
    "full_int8": "the same in int8",
    "full_openvino": "the same, run by OpenVINO",
    "full_openvino_int8": "the same, run by OpenVINO in int8",
}


def full_rows(found: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """Lines of the full size: what is to be reached depends on whether the processor multiplies bf16."""
    if not found.get("reference"):
        return
    reference, native = found["reference"], bf16_is_native()
    for name, what in FULL.items():
        if not found.get(name):
            continue
        ratio = found[name]["seconds"] / reference["seconds"]
        figure = f"{found[name]['seconds']:.1f} s / {reference['seconds']:.1f} s = {ratio:.2f}"
        most = (0.15 if "int8" in name else 0.2) if native else 0.45
        yield what, figure, f"≤ {most:.2f}", ratio <= most
        memory = found[name]["peak_mb"] / reference["peak_mb"]
        figure = f"{found[name]['peak_mb']:.0f} MB / {reference['peak_mb']:.0f} MB = {memory:.2f}"
        yield "its peak memory", figure, "≤ 0.60", memory <= 0.6
        one = found[name]
        figure = f"{one['share']:.0%} of {one['peak_gflops']:.0f} GFLOP/s in {one['format']}"
        yield (
            "its share of the GEMM peak, over both encoders",
            figure,
            "≥ 60 %",
            one["share"] >= 0.6,
        )


def table(found: dict[str, dict[str, Any]]) -> Iterator[Row]:
    """All lines that can be made of what was found. One line after the other; hence its length."""
    yield from full_rows(found)
    if "full" in found:
        share = found["full"]["cascade_seconds"] / found["full"]["encode_seconds"]
        yield (
            "three cascade steps against both encoders, full size",
            f"{share:.2%}",
            "≤ 1 %",
            share <= 0.01,
        )
    yield from (*rows(found), *tiles.rows(found), *references.rows(found))
    if "tiny" in found:
        tiny = found["tiny"]
        again, whole = tiny["decide_seconds"], tiny["whole_seconds"]
        yield (
            "tiny, 1024 × 1024, deciding again (median)",
            f"{again * 1e3:.0f} ms",
            "≤ 60 ms",
            again <= 0.06,
        )
        yield (
            "tiny, 1024 × 1024, encode and decide (median)",
            f"{whole:.2f} s",
            "≤ 0.6 s",
            whole <= 0.6,
        )
        yield (
            "the same, peak memory",
            f"{tiny['peak_mb']:.0f} MB",
            "≤ 1200 MB",
            tiny["peak_mb"] <= 1200,
        )
        batch = tiny["batch_seconds"] / tiny["single_seconds"]
        yield (
            "tiny, encoding 8 photos in a batch against one at a time",
            f"{batch:.2f}",
            "≤ 1.05",
            batch <= 1.05,
        )
    if found.get("tiny_before"):
        now, before = found["tiny_before"]["now"], found["tiny_before"]["before"]
        yield (
            f"tiny, 1024 × 1024, encode and decide, tiles off, against commit {BEFORE}",
            f"{now:.2f} s / {before:.2f} s = {now / before:.2f}",
            "≤ 0.5",
            now <= 0.5 * before,
        )
    if "several" in found:
        five = found["several"]
        yield (
            "tiny, five systems on 1024 × 1024, tiles off, to the last result (median)",
            f"{five['seconds']:.2f} s, {five['busy_seconds']:.2f} s of processor time",
            f"≤ {five['goal']:g} s",
            five["seconds"] <= five["goal"],
        )
    if "synthetic" in found:
        rate = found["synthetic"]["images_per_second"]
        yield (
            "synthetic images of 256 × 256, two processes",
            f"{rate:.0f} a second",
            "≥ 60",
            rate >= 60,
        )
    if "page" in found:
        for goal in PAGE:
            yield goal.row(found["page"])


def main() -> None:
    """Measure what is asked for and print a table in Markdown, each line as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[*MEASUREMENTS, []], help="all if none is named")
    chosen = parser.parse_args().only or MEASUREMENTS
    cpu = platform.processor() or platform.machine()
    print(f"\n{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "gradio")))
    print(f"Processor features: {features()}.")
    print("Full size: ViT-L/14-336 at 518 px and ViT-H at 1024 px, random weights, CPU.\n")
    print("| what | measured | goal | reached |\n| --- | --- | --- | --- |", flush=True)
    printed: set[str] = set()
    for found, missing in measured(chosen):
        why = ((f"`{name}`", f"not measured: {text}", "", None) for name, text in missing.items())
        for line in (*table(found), *why):
            if (text := row(*line)) not in printed:
                print(text, flush=True)
                printed.add(text)


if __name__ == "__main__":
    if sys.argv[1:2] == ["gpu"]:
        from bench import gpu

        gpu.main(sys.argv[2:])
    else:
        main()
