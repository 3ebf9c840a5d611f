"""What trainings share: several processes as one, and batches made in advance."""

from __future__ import annotations

import itertools
import os
import socket
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from torch import multiprocessing, nn

from tiny.training import loop
from tiny.training.loop import DistributedGroup


def test_without_torchrun_a_group_is_one() -> None:
    group = DistributedGroup()
    assert (group.rank, group.size, group.from_leader(0.3)) == (0, 1, 0.3)


def member(rank: int, port: int, folder: Path) -> None:
    """One of two processes; its loss is `rank + 1` times the sum of the outputs."""
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    group = DistributedGroup()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 1))
    model[1].weight.requires_grad_(False)
    ((rank + 1) * model[0](torch.ones(2, 3)).sum()).backward()
    group.average_gradients(model)
    torch.save([group.from_leader(float(rank + 5)), model[0].weight.grad], folder / f"{rank}.pt")
    group.leave()


@pytest.mark.slow
def test_two_processes_take_the_step_of_their_mean(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(member, (port, tmp_path), nprocs=2)
    for rank in range(2):
        leaders, grad = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert leaders == 5
        assert torch.equal(grad, torch.full((1, 3), 3.0))  # the mean of 2 and 4


def test_what_is_made_in_advance_comes_in_order_ends_and_fails_as_it_would() -> None:
    assert list(loop.prefetch(iter(range(9)), depth=2)) == list(range(9))

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("spoilt")

    items = loop.prefetch(broken())
    assert next(items) == 1
    with pytest.raises(ValueError, match="spoilt"):
        next(items)
    endless = loop.prefetch(itertools.count())
    assert next(endless) == 0
    assert isinstance(endless, Generator)
    endless.close()  # and its thread with it, or this test would hang
    assert not [t for t in threading.enumerate() if t.name.startswith("prefetch")]
