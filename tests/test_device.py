"""Where the models run, and how their process keeps its memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is not here")
def test_kept_memory_is_not_asked_of_the_kernel_again():
    faults = {
        how: int(subprocess.check_output([sys.executable, "-c", FAULTS, how], text=True))
        for how in ("keep", "give back")
    }
    assert faults["keep"] < 0.1 * faults["give back"]
