"""`python -m bench.memory`: what a long run leaves behind, in one process or over HTTP.

Small synthetic images go through the preset `tiny`; the process may hold at most 50 MB more after the last than after
the first tenth. Each image is another one, so that no cache helps.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import cv2
import httpx
import numpy as np
from numpy.typing import NDArray

from bench.browser import resident_mb

MOST_MB = 50.0
SIDE = 128


def images(count: int) -> Iterator[NDArray[np.uint8]]:
    """Grey noise with a dark spot, each another one; uint8 RGB."""
    for number in range(count):
        rng = np.random.default_rng(number)
        image = rng.integers(120, 160, (SIDE, SIDE, 3)).astype(np.uint8)
        cv2.circle(image, tuple(rng.integers(20, SIDE - 20, 2).tolist()), 9, (20, 20, 20), -1)
        yield image


def grown(count: int, pid: int, work: Callable[[NDArray[np.uint8]], object]) -> float:
    """MB that a process grows by between a tenth of the images and all of them."""
    before = 0.0
    for number, image in enumerate(images(count), start=1):
        work(image)
        if number % max(1, count // 10) == 0:
            gc.collect()
            now = resident_mb(pid)
            before = before or now
            print(f"{number:6} images: {now:.0f} MB", flush=True)
    return now - before


def here(count: int) -> float:
    """One process, as `zsas segment` works."""
    from zsas import Segmenter, Settings
    from zsas.device import keep_freed_memory

    segmenter = Segmenter.from_preset("tiny", cache_bytes=0)
    keep_freed_memory()
    settings = Settings(resolution=112)
    return grown(count, os.getpid(), lambda image: segmenter(image, settings))


def over_http(count: int) -> float:
    """A page that is asked by `POST /api/v1/segment`."""
    port = "7917"
    environment = {**os.environ, "GRADIO_SERVER_PORT": port, "ZSAS_PRESET": "tiny"}
    environment |= {"HF_HUB_OFFLINE": "1"}
    server = subprocess.Popen(
        [sys.executable, "app.py"], env=environment, stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/api/v1"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{url}/openapi.json", timeout=5).raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.5)

        def ask(image: NDArray[np.uint8]) -> None:
            files = {
                "image": ("part.png", cv2.imencode(".png", image)[1].tobytes()),
                "resolution": (None, "112"),
            }
            httpx.post(f"{url}/segment", files=files, timeout=600).raise_for_status()

        return grown(count, server.pid, ask)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def main() -> None:
    """Measure, print, and end with exit code 1 where more is left behind than may be."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--http", action="store_true", help="over HTTP instead of in one process")
    given = parser.parse_args()
    growth = (over_http if given.http else here)(given.images)
    print(f"{growth:+.0f} MB from a tenth of {given.images} images to all; at most {MOST_MB:.0f}")
    sys.exit(growth > MOST_MB)


if __name__ == "__main__":
    main()
