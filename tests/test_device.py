"""Where the models run, and how their process keeps its memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from tests.helpers.models import small_sam
from zsas.device import encoder_dtype, lay_out_for, pick_device
from zsas.errors import ZsasError

# Page faults of sixteen results of 80 MB, each freed before the next is made; in a process of its own, for what it
# changes stays changed. The median, because the heap takes a few rounds to find their place.
FAULTS = """
import resource, statistics, sys
import torch
from zsas.device import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()
values = torch.ones(20_000_000)
faults = []
for _ in range(16):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    values * 2
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(int(statistics.median(faults)))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is not here")
def test_kept_memory_is_not_asked_of_the_kernel_again():
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS, how], text=True))
        for how in ("keep", "give back")
    }
    assert faults["keep"] < 0.1 * faults["give back"]


GIVEN_BACK = """
import torch
from pathlib import Path
from zsas.device import give_back_memory, keep_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
assert keep_freed_memory()
held = [torch.ones(2_500_000) for _ in range(20)]
last = torch.ones(10)
del held
before = resident()
give_back_memory()
print(before - resident())
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_what_was_kept_is_given_back_where_that_is_asked_for():
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_BACK], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) > 150_000_000


@pytest.mark.parametrize(
    ("library", "instructions", "expected"),
    [
        (True, True, torch.bfloat16),
        (True, False, torch.float32),
        (False, True, torch.float32),
    ],
)
def test_a_cpu_runs_bf16_only_where_it_multiplies_it(
    monkeypatch, library, instructions, expected
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: library)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": instructions})
    assert encoder_dtype(torch.device("cpu")) == expected


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_runs_bf16_only_where_it_is_not_emulated(monkeypatch, native) -> None:
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return native

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    expected = torch.bfloat16 if native else torch.float32
    assert encoder_dtype(torch.device("cuda")) == expected
    assert asked == [False]


def test_a_precision_can_be_asked_for_but_never_fp16() -> None:
    assert encoder_dtype(torch.device("cpu"), "bf16") == torch.bfloat16
    assert encoder_dtype(torch.device("cuda"), "fp32") == torch.float32
    with pytest.raises(ZsasError, match="must be auto, fp32, bf16 or int8"):
        encoder_dtype(torch.device("cpu"), "fp16")


@pytest.mark.parametrize("name", ["meta", "hpu", "cuda:77", "nowhere"])
def test_a_device_that_cannot_compute_here_is_one_sentence(name) -> None:
    with pytest.raises(ZsasError, match="is not available here"):
        pick_device(name)


def test_on_a_gpu_convolutions_are_laid_out_channels_last_and_give_the_same() -> None:
    """The layout that a GPU gets, tried on a CPU: nothing else of the model is touched."""
    torch.manual_seed(0)
    model = small_sam()
    pixels = torch.randn(2, 3, 256, 256)
    with torch.inference_mode():
        wanted = model.vision_encoder(pixels).last_hidden_state
        lay_out_for(torch.device("cpu"), model)
        assert model.vision_encoder.neck.conv2.weight.is_contiguous()
        lay_out_for(torch.device("cuda"), model.vision_encoder)
        kernel = model.vision_encoder.neck.conv2.weight
        assert kernel.is_contiguous(memory_format=torch.channels_last)
        assert not kernel.is_contiguous()
        assert model.vision_encoder.pos_embed.is_contiguous()
        found = model.vision_encoder(pixels).last_hidden_state
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
