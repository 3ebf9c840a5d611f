"""Several pieces of work at once on a CPU, each with its share of the cores.

Two encoders that run beside each other on half of the cores each wait less for their own threads than one after the
other on all of them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import TypeVar

from zsas.cancellation import carried
from zsas.lazy import torch

Item = TypeVar("Item")

_here = threading.local()


def side_by_side(jobs: Sequence[Callable[[], Item]]) -> list[Item]:
    """What each job gives, in their order.

    They share the threads that PyTorch has here: four jobs on two cores run two at a time, each on one. With a single
    core, as with `OMP_NUM_THREADS=1`, and inside a job they run one after the other in this thread. A job is cancelled
    as the work is that it belongs to.
    """
    cores = 1 if getattr(_here, "works", False) else torch.get_num_threads()
    at_once = min(len(jobs), cores)
    if at_once < 2:
        return [job() for job in jobs]
    waiting = [_pool(cores, cores // at_once).submit(carried(job)) for job in jobs]
    try:
        return [one.result() for one in waiting]
    finally:
        for one in waiting:  # where one fails, those that have not begun never do
            one.cancel()


@cache
def _pool(cores: int, each: int) -> ThreadPoolExecutor:
    """Threads of which each has so many of the cores; made once."""
    count = cores // each
    met = threading.Barrier(count + 1)
    pool = ThreadPoolExecutor(count, "zsas", partial(_begin, each, met))
    for _ in range(count):  # all of them start, because none is free before all have met
        pool.submit(int)
    met.wait()
    torch.set_num_threads(
        cores
    )  # for threads that begin later: the number is kept for each thread and for new ones
    return pool


def _begin(threads: int, met: threading.Barrier) -> None:
    _here.works = True
    torch.set_num_threads(threads)
    torch.get_num_threads()  # a thread's own number is settled at its first use, not when it is set
    met.wait()


os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
