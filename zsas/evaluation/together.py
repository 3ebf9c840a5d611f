"""Batch scoring of a data set on a cluster: one category after the other, each image encoded once, scored in blocks.

What is encoded of a category waits in a folder of the run, which all machines share, and is taken away before the next.
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zsas.beside import cells_in
from zsas.distributed.batch import WAITING, load_waiting
from zsas.distributed.ray import Cluster, connected, spread
from zsas.errors import ZsasError
from zsas.evaluation.conditions import Condition
from zsas.evaluation.distributed import Measure
from zsas.evaluation.records import Store
from zsas.files import write_whole
from zsas.localizers.agreement import differ_of, speakers
from zsas.localizers.mutual import (
    Batch,
    Cells,
    check_count,
    compare_batch,
    others_of,
    scores_against,
)
from zsas.segmenter import Segmenter

if TYPE_CHECKING:
    from zsas.datasets.samples import Dataset, Sample
    from zsas.distributed.ray import Load
    from zsas.encoding import Encoding
    from zsas.good import Good


def _file(folder: Path, sample: Sample, group: int, kind: str) -> Path:
    return folder / f"{hashlib.sha256(sample.key.encode()).hexdigest()[:20]}-{group}.{kind}"


def encodings_of(conditions: Sequence[Condition]) -> list[Condition]:
    """The first condition of each encoding."""
    return list({one.settings.encoding_key: one for one in reversed(conditions)}.values())[::-1]


@dataclass(frozen=True)
class Encode:
    """The first task of a worker: encode under each condition of `encodings_of`, and keep what is compared."""

    conditions: tuple[Condition, ...]
    folder: Path

    def do(
        self, segmenter: Segmenter, samples: Sequence[Sample]
    ) -> list[list[tuple[Cells, Any]] | str]:
        """Of each image, for each encoding, its cells without their values and what made them; or why not."""
        return [self._one(segmenter, sample) for sample in samples]

    def _one(self, segmenter: Segmenter, sample: Sample) -> list[tuple[Cells, Any]] | str:
        found = []
        try:
            image = sample.load_image()
            for group, one in enumerate(self.conditions):
                encoding = segmenter.begin(image, one.settings, one.region)
                cells = cells_in(encoding, one.region)
                kept = pickle.dumps(encoding.to("cpu"))
                write_whole(_file(self.folder, sample, group, "encoding"), kept)
                write_whole(_file(self.folder, sample, group, "cells"), pickle.dumps(cells))
                found.append((replace(cells, tiles=()), encoding.made_by))
        except ZsasError as error:
            return str(error)
        return found

    def failed(self, sample: Sample, why: str) -> str:
        """Why it could not be encoded."""
        return f"{sample.key} could not be processed{why}."


@dataclass(frozen=True)
class Score:
    """The second task: one image of one encoding against its others."""

    folder: Path

    def do(self, segmenter: Segmenter, blocks: Sequence[tuple[int, Sequence[Sample]]]) -> list[Any]:
        """The scores of the first image of each block against the others."""
        found = []
        for group, (sample, *others) in blocks:
            cells, *rest = (
                load_waiting(_file(self.folder, one, group, "cells")) for one in (sample, *others)
            )
            found.append(scores_against(cells, rest))
        return found

    def failed(self, block: tuple[int, Sequence[Sample]], why: str) -> ZsasError:
        """What is raised: without one image's scores there is no batch."""
        return ZsasError(f"{block[1][0].key} could not be compared with the others{why}.")


@dataclass(frozen=True)
class Known:
    """The batch of a category and what was encoded of it, in the place of `zsas.evaluation.batches.Batches`.

    Attributes:
        made: By the encoding's key; a sentence where the images cannot be compared.
        folder: Where encodings wait.
    """

    made: Mapping[Any, Batch | str]
    folder: Path

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
        return [load_waiting(_file(self.folder, sample, group, "encoding")) for sample in samples]


# Long because of what it takes; the three tasks of a category stand in their order.
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

    Args:
        data: See there.
        conditions: See there.
        store: See there.
        load: See there.
        cluster: See there.
        folder: Of the run; all machines share it.
        side: See there.
        good: See there.
        progress: See there.

    Raises:
        ZsasError: See there; or if images could not be compared because a worker died again and again.
    """
    firsts = encodings_of(conditions)
    waiting = folder.absolute() / WAITING
    progress(len(store.done), len(data))
    with connected(cluster.address):
        for category in data.categories:
            samples = data.of(category)
            left = {one.key: one for one in samples if one.key not in store.done}
            if not left:
                continue
            try:
                waiting.mkdir(parents=True, exist_ok=True)
                made = _batches(samples, firsts, waiting, load, cluster)
                task = Measure(tuple(conditions), side, good, Known(made, waiting))
                for _, (record, models) in spread(left, task, load, cluster):
                    if models is not None:
                        store.made_by(models)
                    store.put(record)
                    progress(len(store.done), len(data))
            except OSError as error:
                raise ZsasError(f"{waiting} cannot be written to ({error.strerror}).") from None
            finally:
                shutil.rmtree(waiting, ignore_errors=True)


def _batches(
    samples: Sequence[Sample],
    firsts: Sequence[Condition],
    folder: Path,
    load: Load,
    cluster: Cluster,
) -> dict[Any, Batch | str]:
    """The images of a category compared with each other, for each encoding."""
    keys = [one.settings.encoding_key for one in firsts]
    encode = Encode(tuple(firsts), folder)
    answers = dict(spread({one.key: one for one in samples}, encode, load, cluster))
    readable = [one for one in samples if not isinstance(answers[one.key], str)]
    try:
        check_count(len(readable))
    except ZsasError as error:
        refused = [answer for answer in answers.values() if isinstance(answer, str)]
        sentence = refused[0] if refused and not readable else str(error)
        return dict.fromkeys(keys, sentence)
    blocks = {
        f"{group} {one.key}": (
            group,
            [one, *(readable[i] for i in others_of(at, len(readable)))],
        )
        for group in range(len(firsts))
        for at, one in enumerate(readable)
    }
    scored = dict(spread(blocks, Score(folder), load, cluster))
    for answer in scored.values():
        if isinstance(answer, ZsasError):
            raise answer
    found: dict[Any, Batch | str] = {}
    for group, (key, condition) in enumerate(zip(keys, firsts, strict=True)):
        cells = [answers[one.key][group][0] for one in readable]
        made_by = answers[readable[0].key][group][1]
        scores = [scored[f"{group} {one.key}"] for one in readable]
        region = condition.region.key if condition.region else ""
        asked = (_file(folder, readable[i], group, "cells") for i in speakers(len(readable)))
        differ = differ_of([load_waiting(one) for one in asked])
        found[key] = compare_batch(cells, made_by, region=region, scores=scores, differ=differ)
    return found
