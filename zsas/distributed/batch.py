"""Compare a batch with itself on a cluster: each image encoded once, scored in blocks, decided from its encoding.

What is encoded waits in a folder of the output, which all machines share, and is taken away at the end.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.beside import cells_in
from zsas.bulk import Job, Output, Row, read_job
from zsas.bulk.run import saved
from zsas.distributed.ray import Cluster, spread
from zsas.errors import ZsasError
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
from zsas.settings import Settings

if TYPE_CHECKING:
    from zsas.distributed.ray import Load
    from zsas.good import Good
    from zsas.part import Part

WAITING = ".encodings"
"""Folder of what workers keep for each other until a batch is compared."""


def _file(folder: Path, job: Job, kind: str) -> Path:
    return folder / f"{hashlib.sha256(os.fsencode(job.image)).hexdigest()[:20]}.{kind}"


def load_waiting(path: Path) -> Any:
    """What a worker of this run has kept."""
    return pickle.loads(path.read_bytes())  # written by this run's workers alone


@dataclass(frozen=True)
class Encode:
    """The first task of a worker: encode, and keep what is compared; the answer is light."""

    settings: Settings
    folder: Path
    part: Part | None

    def do(self, segmenter: Segmenter, jobs: Sequence[Job]) -> list[tuple[Cells, Any] | str]:
        """For each image its cells without their values and what made them, or why there are none."""
        return [self._one(segmenter, job) for job in jobs]

    def _one(self, segmenter: Segmenter, job: Job) -> tuple[Cells, Any] | str:
        region = self.part.region if self.part is not None else None
        try:
            encoding = segmenter.begin(read_job(job), self.settings, region)
            cells = cells_in(encoding, region)
        except ZsasError as error:
            return str(error).replace("The image could", f"{job.image} could", 1)
        write_whole(_file(self.folder, job, "encoding"), pickle.dumps(encoding.to("cpu")))
        write_whole(_file(self.folder, job, "cells"), pickle.dumps(cells))
        return replace(cells, tiles=(), insides=()), encoding.made_by

    def failed(self, job: Job, why: str) -> str:
        """Why it could not be encoded."""
        return f"{job.image} could not be processed{why}."


@dataclass(frozen=True)
class Score:
    """The second task: one image against its others."""

    folder: Path

    def do(self, segmenter: Segmenter, blocks: Sequence[tuple[Job, Sequence[Job]]]) -> list[Any]:
        """Scores and cells looked at of each image."""
        found = []
        for job, others in blocks:
            cells = load_waiting(_file(self.folder, job, "cells"))
            scores = scores_against(
                cells, [load_waiting(_file(self.folder, o, "cells")) for o in others]
            )
            found.append((scores, cells.insides))
        return found

    def failed(self, block: tuple[Job, Sequence[Job]], why: str) -> ZsasError:
        """What is raised: without one image's scores there is no batch."""
        return ZsasError(f"{block[0].image} could not be compared with the others{why}.")


@dataclass(frozen=True)
class Decide:
    """The third task: decide on each image from its encoding, and write its files."""

    settings: Settings
    output: Output
    folder: Path
    batch: Batch
    part: Part | None
    good: Good | None = None

    def do(self, segmenter: Segmenter, jobs: Sequence[Job]) -> list[Row]:
        """A row for each image."""
        region = self.part.region if self.part is not None else None
        memory = self.good.of(segmenter, self.settings, region) if self.good else None
        rows = []
        for job in jobs:
            encoding = load_waiting(_file(self.folder, job, "encoding"))
            beside: dict[str, Any] = {"references": memory, "batch": self.batch}
            result = segmenter.segment(encoding, self.settings, **beside, part=self.part)
            rows.append(saved(job, result, self.output))
        return rows

    def failed(self, job: Job, why: str) -> Row:
        """A row with an error."""
        return Row.failed(job, f"{job.image} could not be processed{why}.")


def segment_together(
    jobs: Sequence[Job],
    left: Sequence[Job],
    settings: Settings,
    output: Output,
    load: Load,
    cluster: Cluster,
    part: Part | None = None,
    good: Good | None = None,
) -> Iterator[Row]:
    """A row for each job that is left, in the order of completion; all jobs are compared with each other.

    Args:
        jobs: The whole batch.
        left: Those that are to be decided.
        settings: Of all images.
        output: Its folder is one that all machines of the cluster share.
        load: Makes the segmenter of a worker; see `zsas.distributed.ray.loader`.
        cluster: Where.
        part: What belongs to the part.
        good: See `zsas.distributed.segment.segment`.

    Raises:
        ZsasError: If there are too few images, one cannot be compared, or as in `zsas.distributed.segment`.
    """
    assert output.folder is not None
    folder = output.folder / WAITING
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZsasError(f"{folder} cannot be written to ({error.strerror}).") from None
    try:
        by_image = {job.image: job for job in jobs}
        answers = dict(spread(by_image, Encode(settings, folder, part), load, cluster))
        complaints = {image: one for image, one in answers.items() if isinstance(one, str)}
        readable = [job for job in jobs if job.image not in complaints]
        if not readable and complaints:
            raise ZsasError(next(iter(complaints.values())))
        check_count(len(readable))
        blocks = {
            job.image: (job, [readable[i] for i in others_of(at, len(readable))])
            for at, job in enumerate(readable)
        }
        scored = dict(spread(blocks, Score(folder), load, cluster))
        for one in scored.values():
            if isinstance(one, ZsasError):
                raise one
        cells = [replace(answers[job.image][0], insides=scored[job.image][1]) for job in readable]
        made_by = answers[readable[0].image][1]
        region = part.region.key if part is not None and part.region is not None else ""
        scores = [scored[job.image][0] for job in readable]
        asked = (_file(folder, readable[i], "cells") for i in speakers(len(readable)))
        differ = differ_of([load_waiting(one) for one in asked])
        batch = compare_batch(cells, made_by, region=region, scores=scores, differ=differ)
        for job in left:
            if job.image in complaints:
                yield Row.failed(job, complaints[job.image])
        wanted = {job.image: job for job in left if job.image not in complaints}
        decide = Decide(settings, output, folder, batch, part, good)
        for _, row in spread(wanted, decide, load, cluster):
            yield row
    finally:
        shutil.rmtree(folder, ignore_errors=True)
