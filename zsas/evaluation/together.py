"""Batch scoring of a data set on a cluster: one category after the other, each image encoded once, scored in blocks.

Encodings of a category are kept in a folder of the run that all machines share, and are removed before the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsas.distributed.batch import Kept, compare_far, waiting
from zsas.distributed.ray import Cluster, connected, spread
from zsas.errors import ZsasError
from zsas.evaluation.conditions import Condition
from zsas.evaluation.distributed import Measure, keep_all
from zsas.evaluation.records import Store
from zsas.localizers.mutual import Batch
from zsas.segmenter import Segmenter

if TYPE_CHECKING:
    from zsas.datasets.samples import Dataset, Sample
    from zsas.distributed.ray import Load
    from zsas.encoding import Encoding
    from zsas.good import Good


@dataclass(frozen=True)
class Known:
    """The batch and the encodings of one category; takes the place of `zsas.evaluation.batches.Batches`.

    Attributes:
        made: By the encoding's key; a sentence where the images cannot be compared.
        kept: Where encodings wait.
    """

    made: Mapping[Any, Batch | str]
    kept: Kept

    def of(self, category: str, condition: Condition) -> Batch:
        """See `Batches.of`."""
        batch = self.made[condition.settings.encoding_key]
        if isinstance(batch, str):
            raise ZsasError(batch)
        return batch

    def encode(
        self,
        segmenter: Segmenter,
        samples: Sequence[Sample],
        images: Sequence[NDArray[np.uint8]],
        condition: Condition,
    ) -> list[Encoding]:
        """See `Batches.encode`."""
        group = list(self.made).index(condition.settings.encoding_key)
        return [self.kept.get(sample.key, group, "encoding") for sample in samples]


def evaluate(
    data: Dataset,
    conditions: Sequence[Condition],
    store: Store,
    load: Load,
    cluster: Cluster,
    folder: Path,
    *,
    side: int = 0,
    good: Good | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """`zsas.evaluation.distributed.evaluate` with each category's images compared with each other.

    The folder is that of the run, which all machines share; the other arguments are as there.

    Raises:
        ZsasError: See there; or if images could not be compared because a worker died again and again.
    """
    # The first condition of each encoding.
    firsts = {one.settings.encoding_key: one for one in reversed(conditions)}
    wanted = [(one.settings, one.region) for one in reversed(firsts.values())]
    keys = list(reversed(firsts))
    progress(len(store.done), len(data))
    with connected(cluster.address):
        for category in data.categories:
            samples = {one.key: one for one in data.of(category)}
            left = {key: one for key, one in samples.items() if key not in store.done}
            if not left:
                continue
            with waiting(folder.absolute()) as kept:
                batches, _ = compare_far(
                    samples, methodcaller("load_image"), wanted, kept, load, cluster
                )
                each = [batches] * len(keys) if isinstance(batches, str) else batches
                made = Known(dict(zip(keys, each, strict=True)), kept)
                task = Measure(tuple(conditions), side, good, made)
                keep_all(spread(left, task, load, cluster), store, len(data), progress)
