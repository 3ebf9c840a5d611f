"""The device, the number format and the runtime of the models."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
from importlib.util import find_spec
from typing import Literal

import torch

from zsas.errors import ZsasError
from zsas.extras import require

Precision = Literal["auto", "fp32", "bf16", "int8"]
Runtime = Literal["torch", "compile", "openvino"]
"""What runs the vision encoders: torch, torch with its blocks compiled at first use, or OpenVINO on a CPU."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's `mallopt`."""


def pick_device(name: str | None = None) -> torch.device:
    """The named device, or the first GPU, or the CPU.

    Raises:
        ZsasError: If the name is no device of this machine.
    """
    if name in (None, "", "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device).cpu()  # "meta" computes nothing that could be read
    except (RuntimeError, AssertionError, ImportError):
        raise ZsasError(
            f"The device {name!r} is not available here; use cpu, or cuda or mps where PyTorch finds a GPU."
        ) from None
    return device


def keep_freed_memory(up_to: int = 1 << 30) -> bool:
    """Let glibc keep the memory that tensors free, instead of returning it to the kernel after every operation.

    By default each large tensor is a mapping of its own: every layer gets its pages from the kernel one by one, uses
    them once and returns them, which takes a CPU about as long as the arithmetic of a cheap layer. This changes the
    whole process, so only programs call it: the command line, the page and the workers.

    Args:
        up_to: Bytes that may lie unused at the heap's end, and size from which a block is still a mapping.

    Returns:
        Whether it is so; False without glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, up_to) and mallopt(_TRIM_THRESHOLD, up_to))


def give_back_memory() -> None:
    """Return to the system what freed tensors have left in this process; after work that needs much once.

    `keep_freed_memory` would keep it for the next image, which needs far less.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


def encoder_dtype(device: torch.device, precision: Precision = "auto") -> torch.dtype:
    """Number format of the encoders; the mask decoder always runs in fp32.

    bf16 where the hardware multiplies it natively. Never fp16: on CPUs it is emulated, several times slower. Never int8
    unless it is asked for: what it costs depends on the weights. With int8 it is the format of all but the products.

    Raises:
        ZsasError: If `precision` is none of auto, fp32, bf16 and int8, or int8 is asked for elsewhere than on a CPU.
    """
    if precision == "int8":
        if device.type != "cpu":
            raise ZsasError(
                f"The precision int8 runs on a CPU, but the device is {device}; use auto or bf16."
            )
        precision = "auto"
    if precision == "fp32":
        return torch.float32
    if precision == "bf16":
        return torch.bfloat16
    if precision != "auto":
        raise ZsasError(f"precision is {precision!r}, but it must be auto, fp32, bf16 or int8.")
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        native = bool(
            torch.backends.mkldnn.is_available()
            and torch.ops.mkldnn._is_mkldnn_bf16_supported()
            and torch.cpu.get_capabilities().get("avx512_bf16", False)
        )
    else:
        native = False
    return torch.bfloat16 if native else torch.float32


def lay_out_for(device: torch.device, encoder: torch.nn.Module) -> None:
    """On a GPU let convolutions keep the channels of a pixel side by side, as its matrix units read them.

    Only their weights are laid out anew; what they give out follows, to the same numbers.
    """
    if device.type != "cuda":
        return
    for module in encoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)


def check_runtime(device: torch.device, runtime: Runtime) -> None:
    """Check that the chosen runtime of the vision encoders can be used here.

    Raises:
        ZsasError: If there is no such runtime, it is not installed, or it does not run on the device.
    """
    if runtime == "torch":
        return
    if runtime == "compile":
        needed = "a C++ compiler" if device.type == "cpu" else "triton"
        if not (_cpp_compiler() if device.type == "cpu" else find_spec("triton")):
            raise ZsasError(
                f"The runtime compile needs {needed}, which is not here; install it or take the runtime torch."
            )
        return
    if runtime != "openvino":
        raise ZsasError(f"runtime is {runtime!r}, but it must be torch, compile or openvino.")
    if device.type != "cpu":
        raise ZsasError(
            f"The runtime openvino runs on a CPU, but the device is {device}; take another runtime, or --device cpu."
        )
    require("openvino")


def _cpp_compiler() -> bool:
    return any(shutil.which(one) for one in (os.environ.get("CXX", ""), "g++", "clang++") if one)


def default_batch(device: str | None = None) -> int:
    """Default number of images encoded together: 16 on a GPU, one elsewhere."""
    return 16 if pick_device(device).type == "cuda" else 1
