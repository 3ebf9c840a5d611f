"""What both trainings share: time budget, learning rate, optimisers, averages of weights.

A training is a function of its seed, its cache of synthetic images and its budget. A checkpoint holds
everything that is needed to go on after an interruption (weights, EMA, optimiser, step, seconds).
"""

from __future__ import annotations

import dataclasses
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from zsas.errors import ZsasError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Run:
    """Where a training writes, how long it lasts and how often it reports.

    Attributes:
        out: Folder of checkpoint and curves.
        minutes: Length in minutes, over all its resumed parts; None: `steps` decide.
        steps: Length in steps.
        seed: Seed of weights, batches and prompts.
        resume: Whether it goes on from the checkpoint in `out`.
        threads: Threads of torch.
        report_every: Steps between two rows of the curve.
        save_minutes: Minutes between two checkpoints.
        device: Where the model learns, as torch names it: "cpu" or "cuda".
        workers: Processes that make the batches; 0: a thread of this one.
    """

    out: Path
    minutes: float | None = None
    steps: int = 6000
    seed: int = 0
    resume: bool = True
    threads: int = 1
    report_every: int = 25
    save_minutes: float = 3.0
    device: str = "cpu"
    workers: int = 0


@dataclass
class Budget:
    """How long a training lasts: a number of steps, or minutes, whichever is given.

    With minutes the progress is a fraction of time, so that the schedule ends when the time does,
    whatever the machine's speed.

    Args:
        steps: Steps of the whole training; used when ``minutes`` is None.
        minutes: Minutes of the whole training, over all its resumed parts.
        seconds_before: Seconds that earlier parts of a resumed training took.
    """

    steps: int
    minutes: float | None = None
    seconds_before: float = 0.0
    started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Seconds of training so far, with the earlier parts."""
        return self.seconds_before + time.monotonic() - self.started

    def progress(self, step: int) -> float:
        """Fraction in [0, 1] of the training that is done before ``step``."""
        if self.minutes is not None:
            return min(1.0, self.seconds / (60.0 * self.minutes))
        return min(1.0, step / max(1, self.steps))

    def running(self, step: int) -> bool:
        """Whether ``step`` (counted from 0) is still to be made."""
        return self.progress(step) < 1.0


class DistributedGroup:
    """The processes that ``torchrun`` started for one training; without it, this process alone.

    All see other images and take the same step, the one of the mean of their gradients.

    Attributes:
        rank: 0 for the process that leads: it writes, and its clock counts.
        size: How many processes there are.
    """

    def __init__(self) -> None:
        self.rank, self.size = 0, 1
        if "WORLD_SIZE" in os.environ:
            if not dist.is_initialized():
                dist.init_process_group("gloo")
            self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def from_leader(self, value: float) -> float:
        """The value that the leading process has."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)

    def average_gradients(self, model: nn.Module) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.size == 1:
            return
        learning = [p for p in model.parameters() if p.requires_grad]
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        parts = flat.div_(self.size).split([p.numel() for p in learning])
        for parameter, part in zip(learning, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def leave(self) -> None:
        """Wait for all processes and end the group: one that left early would break the others' last exchange."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()


def prefetch(source: Iterator[Item], depth: int = 3) -> Iterator[Item]:
    """The same items, made by a thread in advance."""
    items: queue.Queue[Item | Exception] = queue.Queue(depth)
    stop = threading.Event()

    def hand(item: Item | Exception) -> None:
        while not stop.is_set():
            try:
                items.put(item, timeout=0.5)
                break
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in source:
                hand(item)
                if stop.is_set():
                    return
            hand(StopIteration())
        except Exception as wrong:  # handed to whoever reads
            hand(wrong)

    worker = threading.Thread(target=work, daemon=True, name="prefetch")
    worker.start()
    try:
        while True:
            item = items.get()
            if isinstance(item, StopIteration):
                return
            if isinstance(item, Exception):
                raise item
            yield item
    finally:
        stop.set()
        worker.join(10)  # a thread in the middle of a batch would abort the process on its way out


def chosen_device(name: str) -> str:
    """The device of a name; ``auto`` is a GPU where torch sees one, else the CPU.

    Raises:
        ZsasError: A GPU is asked for that torch does not see, or the name is none of the three.
    """
    found = torch.cuda.is_available()
    if name not in ("auto", "cpu", "cuda"):
        raise ZsasError(f"There is no device {name!r} to train on: choose auto, cpu or cuda.")
    if name == "cuda" and not found:
        raise ZsasError("torch sees no GPU here: train with --device cpu.")
    return "cuda" if found and name != "cpu" else "cpu"


class _Worked(IterableDataset[Item]):
    """What each of several processes makes."""

    def __init__(self, make: Callable[[int, int], Iterator[Item]]) -> None:
        self.make = make

    def __iter__(self) -> Iterator[Item]:
        cv2.setNumThreads(1)
        worker = get_worker_info()
        return self.make(worker.id, worker.num_workers) if worker else self.make(0, 1)


def in_advance(make: Callable[[int, int], Iterator[Item]], workers: int) -> Iterator[Item]:
    """Items made ahead of their use: by a thread, or by processes where one cannot keep up with a GPU.

    Args:
        make: Gives the items of process ``i`` of ``n``, both of which it is called with; 0 of 1 for the thread.
        workers: Processes; 0 for the thread.
    """
    if not workers:
        return prefetch(make(0, 1))
    # Forked: the images stay mapped once, and no worker touches the GPU.
    return iter(
        DataLoader(
            _Worked(make), batch_size=None, num_workers=workers, multiprocessing_context="fork"
        )
    )


def revisited(
    items: Iterator[Item], visits: int, again: Callable[[Item], Item], depth: int = 48
) -> Iterator[Item]:
    """Each item once as it is made, and about ``visits`` - 1 times more later, changed.

    Making a batch takes a processor longer than learning from it takes a GPU.

    Args:
        items: Batches, on the device that learns.
        visits: How often one is learned from on average; 1 is plainly ``items``.
        again: Another batch out of one, quickly, on the device.
        depth: Batches that are kept to come back to.
    """
    rng = np.random.default_rng(visits)
    kept: list[Item] = []
    for item in items:
        yield item
        if visits == 1:
            continue
        if len(kept) < depth:
            kept.append(item)
        else:
            kept[int(rng.integers(depth))] = item
        for _ in range(visits - 1):
            yield again(kept[int(rng.integers(len(kept)))])


def moved(item: Item, device: str) -> Item:
    """A dataclass of tensors and tuples of tensors, with all of them on a device."""

    def to(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, non_blocking=True)
        tensors = isinstance(value, tuple) and all(isinstance(part, Tensor) for part in value)
        return tuple(map(to, value)) if tensors else value

    fields: Any = item
    values = {each.name: to(getattr(item, each.name)) for each in dataclasses.fields(fields)}
    result: Item = dataclasses.replace(fields, **values)
    return result


def cosine_lr(progress: float, *, warmup: float = 0.03, floor: float = 0.01) -> float:
    """Factor of the learning rate: linear warm-up, then half a cosine down to ``floor``.

    Args:
        progress: Fraction of the training done, [0, 1].
        warmup: Fraction of the training spent warming up.
        floor: Factor at the end.
    """
    if progress < warmup:
        return max(1e-3, progress / warmup)
    x = (progress - warmup) / (1.0 - warmup)
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, x)))


class OptimizerGroup:
    """Several optimisers as one, each for its own parameters."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.optimizers = optimizers

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all of them."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        """One step of each."""
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, for a checkpoint."""
        return {str(i): optimizer.state_dict() for i, optimizer in enumerate(self.optimizers)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for i, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(state[str(i)])


def set_lr(optimizer: torch.optim.Optimizer | OptimizerGroup, factor: float) -> None:
    """Multiply each group's own ``base_lr`` (its first ``lr``) by ``factor``."""
    for group in optimizer.param_groups:
        group.setdefault("base_lr", group["lr"])
        group["lr"] = group["base_lr"] * factor


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices only: not on biases, norms, positions or single scales."""
    decay: list[Tensor] = []
    plain: list[Tensor] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_matrix = parameter.ndim >= 2 and "embedding" not in name and "embed" not in name
        (decay if is_matrix else plain).append(parameter)
    return [
        {"params": decay, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


class EMA:
    """Exponential moving average of a model's parameters; buffers are copied as they are.

    Args:
        model: The trained model.
        decay: Weight of the past at each step; the first steps use a shorter memory.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self.decay = decay
        self.updates = 0
        self.shadow: dict[str, Tensor] = {
            name: value.detach().clone() for name, value in model.state_dict().items()
        }

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's present weights."""
        self.updates += 1
        decay = min(self.decay, (1.0 + self.updates) / (10.0 + self.updates))
        floats: list[Tensor] = []
        news: list[Tensor] = []
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                floats.append(self.shadow[name])
                news.append(value.detach())
            else:
                self.shadow[name].copy_(value)
        torch._foreach_lerp_(floats, news, 1.0 - decay)

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, for a checkpoint."""
        return {"updates": self.updates, "shadow": self.shadow}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""
        self.updates = int(state["updates"])
        for name, value in state["shadow"].items():
            self.shadow[name].copy_(value)


def autocast(device: torch.device, enabled: bool = True) -> AbstractContextManager[Any]:
    """bfloat16 autocast (fast on GPUs, and where the processor has AMX or AVX512-BF16)."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)
