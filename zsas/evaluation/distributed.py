"""Measure a data set on a cluster; the driver loads no model and alone writes to the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zsas.distributed.ray import Cluster, spread
from zsas.evaluation.conditions import Condition
from zsas.evaluation.records import Record, Store

if TYPE_CHECKING:
    from zsas.datasets.samples import Dataset, Sample
    from zsas.distributed.ray import Load
    from zsas.evaluation.together import Known
    from zsas.good import Good
    from zsas.segmenter import Segmenter


@dataclass(frozen=True)
class Measure:
    """The task of a worker: records of some samples, each with the models that made it."""

    conditions: tuple[Condition, ...]
    side: int
    good: Good | None = None
    batches: Known | None = None

    def do(
        self, segmenter: Segmenter, samples: Sequence[Sample]
    ) -> list[tuple[Record, dict[str, Any]]]:
        """A record and the description of the models for each sample."""
        from zsas.evaluation.identity import describe
        from zsas.evaluation.run import measure_each

        models = describe(segmenter, self.conditions)
        records = measure_each(
            segmenter, samples, self.conditions, self.side, self.batches, self.good
        )
        return [(record, models) for record in records]

    def failed(self, sample: Sample, why: str) -> tuple[Record, None]:
        """A record with an error, which no models made."""
        error = f"{sample.key} could not be processed{why}."
        record = Record(
            sample.key, sample.category, sample.defect_type, sample.anomalous, (), error
        )
        return record, None


def evaluate(
    data: Dataset,
    conditions: Sequence[Condition],
    store: Store,
    load: Load,
    cluster: Cluster,
    *,
    side: int = 0,
    good: Good | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """`zsas.evaluation.run.evaluate` on a Ray cluster.

    The store learns from the first answer which models the workers have; workers with others end the run.

    Args:
        data: The images, on storage that all machines of the cluster share, at an address, or on the Hub.
        conditions: Rows of the table.
        store: Where records go.
        load: Makes the segmenter of a worker; see `zsas.distributed.ray.loader`.
        cluster: Where.
        side: See `zsas.evaluation.run.measure`.
        good: The same.
        progress: Told how many of how many images are done.

    Raises:
        ZsasError: If Ray is missing, the cluster cannot be reached, the models cannot be had, or are not those of the
            store.
    """
    samples = {sample.key: sample for sample in data if sample.key not in store.done}
    progress(len(store.done), len(data))
    task = Measure(tuple(conditions), side, good)
    keep_all(spread(samples, task, load, cluster), store, len(data), progress)


def keep_all(
    answers: Iterable[tuple[str, tuple[Record, dict[str, Any] | None]]],
    store: Store,
    count: int,
    progress: Callable[[int, int], None],
) -> None:
    """Put what workers answer into the store, of `count` images in all."""
    for _, (record, models) in answers:
        if models is not None:
            store.made_by(models)
        store.put(record)
        progress(len(store.done), count)
