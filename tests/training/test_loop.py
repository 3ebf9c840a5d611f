"""Several processes train as one."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import torch
from torch import multiprocessing, nn

from zsas.training.loop import Team


def test_without_torchrun_a_team_is_one() -> None:
    team = Team()
    assert (team.rank, team.size, team.leaders(0.3)) == (0, 1, 0.3)


def member(rank: int, port: int, folder: Path) -> None:
    """One of two processes; its loss is `rank + 1` times the sum of the outputs."""
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    team = Team()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 1), nn.Linear(1, 1))
    model[1].weight.requires_grad_(False)
    ((rank + 1) * model[0](torch.ones(2, 3)).sum()).backward()
    team.average_gradients(model)
    torch.save([team.leaders(float(rank + 5)), model[0].weight.grad], folder / f"{rank}.pt")


def test_two_processes_take_the_step_of_their_mean(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(member, (port, tmp_path), nprocs=2)
    for rank in range(2):
        leaders, grad = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert leaders == 5
        assert torch.equal(grad, torch.full((1, 3), 3.0))  # the mean of 2 and 4
