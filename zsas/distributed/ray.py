"""Runs any task on many jobs with Ray Data: actors hold the models, and the driver gets one answer for each job.

Writes are atomic and idempotent, so the work of a failed worker is retried; Ray does that. A job that kills its worker
every time gets an answer that says so. Needs the extra `ray`.
"""

from __future__ import annotations

import functools
import math
import os
import pickle
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from zsas.errors import ZsasError, reason
from zsas.extras import require

if TYPE_CHECKING:
    from zsas.models import ModelChoice
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

    Load = Callable[[], Segmenter]

RETRIES = 3
CACHE_BYTES = 250_000_000
PATIENCE = {
    "RAY_raylet_start_wait_time_s": "600",
    "RAY_agent_register_timeout_ms": "600000",
    "RAY_worker_register_timeout_seconds": "600",
}
"""A local cluster on a machine whose cores are taken needs minutes to start; Ray would give up after one."""


@dataclass(frozen=True)
class Cluster:
    """Where the work is done.

    Attributes:
        address: The cluster; None starts one on this machine for as long as it takes.
        workers: How many actors hold the models; None takes one for each GPU, or for each core without.
        gpus_per_worker: Fraction of a GPU for each; None takes a whole one where there are GPUs.
        batch: Images encoded together; None takes 16 with a GPU and 1 without.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
    batch: int | None = None


class Task(Protocol):
    """What is done with each job. It is pickled and sent to every worker, as jobs and answers are."""

    def do(self, segmenter: Segmenter, jobs: Sequence[Any]) -> Sequence[Any]:
        """One answer for each job, in their order."""
        ...

    def failed(self, job: Any, why: str) -> Any:
        """The answer of a job that cannot be done; `why` goes on after "could not be processed"."""
        ...


@dataclass(frozen=True)
class Work:
    """What every worker gets: the task, the function that makes its segmenter, and the driver's folder."""

    task: Task
    load: Load
    folder: str


def spread(
    jobs: Mapping[str, Any], task: Task, load: Load, cluster: Cluster
) -> Iterator[tuple[str, Any]]:
    """Key and answer of every job, in the order of completion.

    What is missing after the first round, because its worker died again and again, gets a second round job by job,
    where a death takes no other job along; what is still missing then has failed.

    Args:
        jobs: By a key of their own.
        task: What is done with each.
        load: Makes the segmenter of a worker.
        cluster: Where.

    Raises:
        ZsasError: If Ray is missing, the cluster cannot be reached or has no such GPUs, or models cannot be had.
    """
    left = dict(jobs)
    if not left:
        return
    with connected(cluster.address) as ray:
        workers, gpus, batch = _sizes(cluster, ray.cluster_resources())
        for alone in (False, True):
            if left:
                actors = min(max(1, workers), len(left))
                size = 1 if alone else batch
                yield from _round(left, Work(task, load, os.getcwd()), actors, gpus, size, alone)
        for key, job in left.items():
            yield key, task.failed(job, f": its worker died {RETRIES + 1} times")


def loader(choice: ModelChoice, settings: Settings) -> Load:
    """The function that makes a worker's segmenter.

    The preset is fixed here by name, since a default chosen by each worker could differ.
    """
    return functools.partial(_load, choice.named(), settings)


def _load(choice: ModelChoice, settings: Settings) -> Segmenter:
    from zsas.bulk import load
    from zsas.device import keep_freed_memory

    keep_freed_memory()
    return load(choice, settings, cache_bytes=CACHE_BYTES)


def _sizes(cluster: Cluster, resources: Mapping[str, float]) -> tuple[int, float, int]:
    """Workers, fraction of a GPU for each, and images encoded together."""
    there = resources.get("GPU", 0)
    gpus = cluster.gpus_per_worker
    if gpus is None:
        gpus = 1.0 if there else 0.0
    if gpus > there:
        raise ZsasError(
            f"Each worker is to have {gpus:g} of a GPU, but the cluster has {there:g} GPUs: "
            "lower --gpus-per-worker, or add machines that have some."
        )
    workers = cluster.workers
    if workers is None:
        workers = int(there / gpus) if gpus else int(resources.get("CPU", 1))
    return workers, gpus, cluster.batch or (16 if gpus else 1)


class _Worker:
    """An actor: holds the models and does one batch after the other."""

    def __init__(self, work: Work) -> None:
        import torch

        if Path(work.folder).is_dir():
            os.chdir(work.folder)  # paths of the driver mean the same here
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        self.task = work.task
        self.startup_error = ""
        try:
            self.segmenter = work.load()
        except ZsasError as error:  # raised here, Ray would try again and hide the sentence
            self.startup_error = str(error)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[bytes]]:
        if self.startup_error:
            return {"answer": [pickle.dumps(ZsasError(self.startup_error))]}
        keys, jobs = zip(*map(pickle.loads, batch["job"]), strict=True)
        return {"answer": [pickle.dumps(pair) for pair in zip(keys, self._do(jobs), strict=True)]}

    def _do(self, jobs: Sequence[Any]) -> Sequence[Any]:
        try:
            return self.task.do(self.segmenter, jobs)
        except Exception as error:  # one job must not stop the rest
            if len(jobs) > 1:
                return [answer for job in jobs for answer in self._do([job])]
            return [self.task.failed(jobs[0], f" ({type(error).__name__}: {reason(error)})")]


def _round(
    left: dict[str, Any], work: Work, workers: int, gpus: float, batch: int, alone: bool
) -> Iterator[tuple[str, Any]]:
    """Yields answers as they arrive, and removes the answered jobs from `left`."""
    import ray.data as ray_data

    context = ray_data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1
    # A block is what is lost and done again when a worker dies: small, but ten million are too many to list.
    batches = 1 if alone else max(1, min(64, len(left) // (32 * workers * batch)))
    blocks = math.ceil(len(left) / (batch * batches))
    packed = [{"job": pickle.dumps(pair)} for pair in left.items()]
    with warnings.catch_warnings():
        # How often a task is tried has no named parameter, and Ray warns of those without a name.
        warnings.simplefilter("ignore", DeprecationWarning)
        answers = ray_data.from_items(packed, override_num_blocks=blocks).map_batches(
            _Worker,
            batch_size=batch,
            batch_format="numpy",
            compute=ray_data.ActorPoolStrategy(
                size=workers, max_tasks_in_flight_per_actor=1 if alone else None
            ),
            num_cpus=1,
            num_gpus=gpus or None,
            fn_constructor_args=(work,),
            max_restarts=-1,
            max_task_retries=RETRIES,
        )
    for item in answers.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=0):
        for one in item["answer"]:
            answer = pickle.loads(one)
            if isinstance(answer, ZsasError):
                raise answer
            key, found = answer
            if key in left:
                del left[key]
                yield key, found


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """Ray, joined or started; a cluster started here is stopped when the outermost context ends."""
    require("ray")
    import logging

    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # every failure becomes a row here
    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {}
    if address is None:
        options = {"include_dashboard": False}
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
    try:
        ray.init(
            address=address or "local", logging_level=logging.ERROR, log_to_driver=False, **options
        )
    except Exception as error:  # Ray raises a dozen kinds, a plain Exception among them
        why = reason(error)
        raise ZsasError(
            f"The Ray cluster {address or 'on this machine'} cannot be used ({why})."
        ) from None
    try:
        yield ray
    finally:
        ray.shutdown()
