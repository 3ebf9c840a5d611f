"""What trainings share: several processes as one, and batches made in advance."""

from __future__ import annotations

import dataclasses
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import torch
from torch import multiprocessing, nn

from tiny.training import loop
from tiny.training.loop import DistributedGroup, revisited
from zsas.errors import ZsasError


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


def every_nth(worker: int, workers: int) -> Iterator[tuple[int, int]]:
    return ((step, os.getpid()) for step in range(worker, 8, workers))


FORKED = """
import os
from tiny.tests.training.test_loop import every_nth
from tiny.training import loop
alone, together = (list(loop.in_advance(every_nth, workers)) for workers in (0, 2))
assert [step for step, _ in together] == [step for step, _ in alone] == list(range(8))
assert {pid for _, pid in alone} == {os.getpid()}
assert len({pid for _, pid in together} - {os.getpid()}) == 2
"""


@pytest.mark.slow
def test_processes_make_what_a_thread_makes_in_the_same_order() -> None:
    # In a process of its own, as a training is: one that other tests have given threads may not be forked.
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=120)


@dataclasses.dataclass(frozen=True)
class Pair:
    image: torch.Tensor
    points: tuple[torch.Tensor, torch.Tensor]
    place: tuple[int, int]


def test_a_batch_moves_with_all_its_tensors() -> None:
    pair = Pair(torch.zeros(2), (torch.zeros(1), torch.ones(1)), (3, 4))
    there = loop.moved(pair, "meta")
    assert there.image.is_meta
    assert all(tensor.is_meta for tensor in there.points)
    assert there.place == (3, 4)


def test_a_device_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [loop.chosen_device(name) for name in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert loop.chosen_device("auto") == "cpu"
    with pytest.raises(ZsasError, match="no GPU"):
        loop.chosen_device("cuda")
    with pytest.raises(ZsasError, match="no device 'tpu'"):
        loop.chosen_device("tpu")


def test_a_batch_is_come_back_to_as_often_as_asked() -> None:
    made = iter(range(1, 101))
    learned = list(itertools.islice(revisited(made, 3, lambda item: -item, depth=8), 300))
    fresh = [item for item in learned if item > 0]
    again = [-item for item in learned if item < 0]
    assert fresh == list(range(1, 101))
    assert len(again) + len(fresh) == 300
    for place, item in enumerate(learned):
        assert -item <= max([0, *learned[:place]])  # only what has come before comes again
    assert list(revisited(iter(range(5)), 1, lambda item: -item)) == list(range(5))
