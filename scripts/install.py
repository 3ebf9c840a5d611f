"""pip install, with the smaller build of PyTorch where there is no NVIDIA GPU. Standard library only.

    python scripts/install.py -r requirements.txt -c requirements.lock

takes the same arguments as `pip install`. On Linux the default index offers PyTorch with CUDA: gigabytes that a machine
without an NVIDIA GPU never uses. There, and where PyTorch's own index of CPU builds answers, torch and torchvision come
from it; everything else comes from the index that pip is set up with. The variable TORCH_INDEX chooses instead: `cpu`,
`default`, or the address of an index.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import urllib.request
from itertools import pairwise
from pathlib import Path

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
BUILDS = ("torch", "torchvision")
"""What PyTorch's indexes hold and depends on the device; the newest common versions fit each other."""
WAIT = 5.0
"""Seconds after which an index that has not answered is left out."""


def has_nvidia_gpu() -> bool:
    """Whether a driver for NVIDIA's GPUs is loaded, or its tool is installed."""
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None


def answers(index: str) -> bool:
    """Whether an index says that it has torch."""
    try:
        with urllib.request.urlopen(f"{index.rstrip('/')}/torch/", timeout=WAIT):
            return True
    except (OSError, ValueError):
        return False


def choose_index(wanted: str) -> tuple[str | None, str]:
    """The index that torch comes from.

    Args:
        wanted: TORCH_INDEX: "", "cpu", "default" or an address.

    Returns:
        Its address, None for the default one; and the reason, to be printed.
    """
    if wanted == "default":
        return None, "TORCH_INDEX says default"
    if wanted == "cpu":
        return CPU_INDEX, "TORCH_INDEX says cpu"
    if wanted:
        return wanted, "TORCH_INDEX names it"
    if sys.platform != "linux":
        return None, "elsewhere than on Linux it has no CUDA"
    if has_nvidia_gpu():
        return None, "there is an NVIDIA GPU"
    if not answers(CPU_INDEX):
        return None, f"{CPU_INDEX} does not answer"
    return CPU_INDEX, "there is no NVIDIA GPU"


def build_requirements(arguments: list[str]) -> list[str]:
    """The lines for torch and torchvision in the files that `-r` names and that these include."""
    found: list[str] = []
    files = [Path(after) for flag, after in pairwise(arguments) if flag == "-r"]
    while files:
        file = files.pop()
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith("-r "):
                files.append(file.parent / line[3:].strip())
            elif line.replace(">", "=").replace("<", "=").split("=")[0] in BUILDS:
                found.append(line)
    return found


def main(arguments: list[str]) -> int:
    """Install, and say where torch comes from."""
    pip = [sys.executable, "-m", "pip", "install"]
    builds = build_requirements(arguments)
    if builds and importlib.util.find_spec("torch") is None:
        wanted = os.environ.get("TORCH_INDEX", "")
        index, why = choose_index(wanted)
        print(f"torch comes from {index or 'the default index'}: {why}.", flush=True)
        if index:
            locks = [
                word
                for flag, after in pairwise(arguments)
                if flag == "-c"
                for word in (flag, after)
            ]
            # What torch needs is installed below, from the default index: PyTorch's may be behind.
            done = subprocess.run([*pip, "--no-deps", "--index-url", index, *locks, *builds])
            if done.returncode and wanted:
                return done.returncode
            if done.returncode:
                print(
                    "That index lacks what is needed; torch comes from the default one.", flush=True
                )
    return subprocess.run([*pip, *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
