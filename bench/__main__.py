"""`python -m bench`: every measurement in a process of its own, then one table.

Full-size models run with random weights, which cost the same as trained ones. Absolute seconds belong to the machine
they were taken on; the ratios are what to compare.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from typing import Any

from bench import references, tiles
from bench.browser import GOALS as PAGE
from bench.encoders import features, rows

MEASUREMENTS = (
    *("reference", "full", "encoders", "light"),
    *("tiny", "several", "tiles", "references", "references_full", "together"),
    *("synthetic", "page"),
)


def measure(name: str) -> dict[str, Any]:
    """Run one measurement in a fresh process; its peak memory is its own."""
    done = subprocess.run(
        [sys.executable, "-m", *(["bench.browser"] if name == "page" else ["bench.measure", name])],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def row(what: str, value: str, goal: str, reached: bool | None) -> str:
    mark = {True: "yes", False: "NO", None: ""}[reached]
    return f"| {what} | {value} | {goal} | {mark} |"


def main() -> None:
    """Measure what is asked for and print a table in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[*MEASUREMENTS, []], help="all if none is named")
    chosen = parser.parse_args().only or MEASUREMENTS
    found = {name: measure(name) for name in chosen}
    cpu = platform.processor() or platform.machine()
    print(f"\n{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    print(", ".join(f"{p} {version(p)}" for p in ("torch", "transformers", "gradio")))
    print(f"Processor features: {features()}.")
    print("Full size: ViT-L/14-336 at 518 px and ViT-H at 1024 px, random weights, CPU.\n")
    print("| what | measured | goal | reached |\n| --- | --- | --- | --- |")
    if "reference" in found and "full" in found:
        reference, full = found["reference"], found["full"]
        time_ratio = full["seconds"] / reference["seconds"]
        memory_ratio = full["peak_mb"] / reference["peak_mb"]
        print(
            row(
                "whole pipeline, full size, time against plain fp32 CLIP + SamPredictor",
                f"{full['seconds']:.1f} s / {reference['seconds']:.1f} s = {time_ratio:.2f}",
                "≤ 0.45",
                time_ratio <= 0.45,
            )
        )
        print(
            row(
                "the same, peak memory",
                f"{full['peak_mb']:.0f} MB / {reference['peak_mb']:.0f} MB = {memory_ratio:.2f}",
                "≤ 0.70",
                memory_ratio <= 0.70,
            )
        )
    if "full" in found:
        share = found["full"]["cascade_seconds"] / found["full"]["encode_seconds"]
        print(
            row(
                "three cascade steps against both encoders, full size",
                f"{share:.2%}",
                "≤ 1 %",
                share <= 0.01,
            )
        )
    for line in (*rows(found), *tiles.rows(found), *references.rows(found)):
        print(row(*line))
    if "tiny" in found:
        tiny = found["tiny"]
        again, whole = tiny["decide_seconds"], tiny["whole_seconds"]
        print(
            row(
                "tiny, 1024 × 1024, deciding again (median)",
                f"{again * 1e3:.0f} ms",
                "≤ 60 ms",
                again <= 0.06,
            )
        )
        print(
            row(
                "tiny, 1024 × 1024, encode and decide (median)",
                f"{whole:.2f} s",
                "≤ 0.6 s",
                whole <= 0.6,
            )
        )
        print(
            row(
                "the same, peak memory",
                f"{tiny['peak_mb']:.0f} MB",
                "≤ 1200 MB",
                tiny["peak_mb"] <= 1200,
            )
        )
        batch = tiny["batch_seconds"] / tiny["single_seconds"]
        print(
            row(
                "tiny, encoding 8 photos in a batch against one at a time",
                f"{batch:.2f}",
                "≤ 1.05",
                batch <= 1.05,
            )
        )
    if "several" in found:
        five = found["several"]
        print(
            row(
                "tiny, five systems on 1024 × 1024, tiles off, to the last result (median)",
                f"{five['seconds']:.2f} s, {five['busy_seconds']:.2f} s of processor time",
                f"≤ {five['goal']:g} s",
                five["seconds"] <= five["goal"],
            )
        )
    if "synthetic" in found:
        rate = found["synthetic"]["images_per_second"]
        print(
            row(
                "synthetic images of 256 × 256, two processes",
                f"{rate:.0f} a second",
                "≥ 60",
                rate >= 60,
            )
        )
    if "page" in found:
        for goal in PAGE:
            print(row(*goal.row(found["page"])))


if __name__ == "__main__":
    main()
