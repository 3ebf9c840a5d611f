"""Where the models run, and how their process keeps its memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# Sixteen results of 80 MB, each freed before the next is made (the heap finds their place after a few); in a process of
# its own, for what it changes stays changed.
FAULTS = """
import resource, sys
import torch
from zsas.device import keep_freed_memory
torch.set_num_threads(1)
if sys.argv[1] == "keep":
    assert keep_freed_memory()
values = torch.ones(20_000_000)
for _ in range(4):
    values * 2
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(16):
    values * 2
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is not here")
def test_kept_memory_is_not_asked_of_the_kernel_again():
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS, how], text=True))
        for how in ("keep", "give back")
    }
    if faults["give back"] < 16:
        pytest.skip("this kernel counts no page faults")
    assert faults["keep"] < 0.5 * faults["give back"]
