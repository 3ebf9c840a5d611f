"""Compares the images of a batch with each other on a cluster: each is encoded once, scored in blocks, then decided.

Encodings are kept in a folder of the output that all machines share, and are removed at the end.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    from zsas.images import ImageSource
    from zsas.part import Part
    from zsas.region import RegionOfInterest

    Wanted = tuple[Settings, RegionOfInterest | None]
    """How images are encoded, and where they are looked at."""

WAITING = ".encodings"
"""Folder of what workers keep for each other until a batch is compared."""


@dataclass(frozen=True)
class Kept:
    """Files that the workers of a run exchange, by the image's name, the number of the encoding, and the kind."""

    folder: Path

    def put(self, key: str, group: int, kind: str, value: Any) -> None:
        """Keep something."""
        write_whole(self._file(key, group, kind), pickle.dumps(value))

    def get(self, key: str, group: int, kind: str) -> Any:
        """What was kept."""
        return pickle.loads(self._file(key, group, kind).read_bytes())  # by this run alone

    def _file(self, key: str, group: int, kind: str) -> Path:
        name = hashlib.sha256(os.fsencode(key)).hexdigest()[:20]
        return self.folder / f"{name}-{group}.{kind}"


@contextmanager
def waiting(folder: Path) -> Iterator[Kept]:
    """A folder for exchanged files, below one that all machines share; it is removed afterwards.

    Raises:
        ZsasError: If it cannot be written to.
    """
    place = folder / WAITING
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ZsasError(f"{place} cannot be written to ({error.strerror}).") from None
    try:
        yield Kept(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@dataclass(frozen=True)
class Encode:
    """The first task of a worker: encode an image in several ways and store what is compared; the answer is small."""

    wanted: tuple[Wanted, ...]
    kept: Kept
    read: Callable[[Any], ImageSource]

    def do(
        self, segmenter: Segmenter, items: Sequence[tuple[str, Any]]
    ) -> list[list[tuple[Cells, Any]] | str]:
        """For each image and encoding: its cells without their values and what made them, or why there are none."""
        return [self._one(segmenter, *item) for item in items]

    def _one(self, segmenter: Segmenter, key: str, item: Any) -> list[tuple[Cells, Any]] | str:
        found = []
        try:
            image = self.read(item)
            for group, (settings, region) in enumerate(self.wanted):
                encoding = segmenter.begin(image, settings, region)
                cells = cells_in(encoding, region)
                self.kept.put(key, group, "encoding", encoding.to("cpu"))
                self.kept.put(key, group, "cells", cells)
                found.append((replace(cells, tiles=(), insides=()), encoding.made_by))
        except ZsasError as error:
            return str(error).replace("The image could", f"{key} could", 1)
        return found

    def failed(self, item: tuple[str, Any], why: str) -> str:
        """Why it could not be encoded."""
        return f"{item[0]} could not be processed{why}."


@dataclass(frozen=True)
class Score:
    """The second task: one image of one encoding against its others."""

    kept: Kept

    def do(
        self, segmenter: Segmenter, blocks: Sequence[tuple[int, str, Sequence[str]]]
    ) -> list[Any]:
        """Scores and cells looked at of each image."""
        found = []
        for group, key, others in blocks:
            cells = self.kept.get(key, group, "cells")
            rest = [self.kept.get(other, group, "cells") for other in others]
            found.append((scores_against(cells, rest), cells.insides))
        return found

    def failed(self, block: tuple[int, str, Sequence[str]], why: str) -> ZsasError:
        """Raises the error: without the scores of every image there is no batch."""
        return ZsasError(f"{block[1]} could not be compared with the others{why}.")


def compare_far(
    items: Mapping[str, Any],
    read: Callable[[Any], ImageSource],
    wanted: Sequence[Wanted],
    kept: Kept,
    load: Load,
    cluster: Cluster,
) -> tuple[list[Batch] | str, dict[str, str]]:
    """Images compared with each other on a cluster.

    Args:
        items: By the image's name.
        read: Reads one.
        wanted: How they are encoded, once for each.
        kept: Where encodings wait.
        load: Makes the segmenter of a worker; see `zsas.distributed.ray.loader`.
        cluster: Where.

    Returns:
        A batch for each encoding, or why there is none; and by name why images could not be encoded.

    Raises:
        ZsasError: If one cannot be compared, or as in `zsas.distributed.ray.spread`.
    """
    encode = Encode(tuple(wanted), kept, read)
    answers = dict(spread({key: (key, one) for key, one in items.items()}, encode, load, cluster))
    complaints = {key: one for key, one in answers.items() if isinstance(one, str)}
    named = [key for key in items if key not in complaints]
    pixels = {answers[key][0][0].key: key for key in reversed(named)}
    readable = [key for key in named if pixels[answers[key][0][0].key] == key]  # each image once
    try:
        check_count(len(readable), len(named) - len(readable))
    except ZsasError as error:
        unread = next(iter(complaints.values()), "") if not readable else ""
        return unread or str(error), complaints
    groups = range(len(wanted))
    blocks = {
        f"{group} {key}": (group, key, [readable[i] for i in others_of(at, len(readable))])
        for group in groups
        for at, key in enumerate(readable)
    }
    scored = dict(spread(blocks, Score(kept), load, cluster))
    for one in scored.values():
        if isinstance(one, ZsasError):
            raise one
    batches = []
    for group, (_, region) in zip(groups, wanted, strict=True):
        found = [scored[f"{group} {key}"] for key in readable]
        cells = [
            replace(answers[key][group][0], insides=insides)
            for key, (_, insides) in zip(readable, found, strict=True)
        ]
        made_by = answers[readable[0]][group][1]
        where = region.key if region else ""
        asked = [kept.get(readable[i], group, "cells") for i in speakers(len(readable))]
        scores, differ = [one for one, _ in found], differ_of(asked)
        batches.append(compare_batch(cells, made_by, region=where, scores=scores, differ=differ))
    return batches, complaints


@dataclass(frozen=True)
class Decide:
    """The third task: decide on each image from its encoding, and write its files."""

    settings: Settings
    output: Output
    kept: Kept
    batch: Batch
    part: Part | None
    good: Good | None = None

    def do(self, segmenter: Segmenter, jobs: Sequence[Job]) -> list[Row]:
        """A row for each image."""
        region = self.part.region if self.part is not None else None
        memory = self.good.of(segmenter, self.settings, region) if self.good else None
        rows = []
        for job in jobs:
            encoding = self.kept.get(job.image, 0, "encoding")
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
    with waiting(output.folder) as kept:
        by_image = {job.image: job for job in jobs}
        wanted = [(settings, part.region if part is not None else None)]
        batches, complaints = compare_far(by_image, read_job, wanted, kept, load, cluster)
        if isinstance(batches, str):
            raise ZsasError(batches)
        for job in left:
            if job.image in complaints:
                yield Row.failed(job, complaints[job.image])
        readable = {job.image: job for job in left if job.image not in complaints}
        decide = Decide(settings, output, kept, batches[0], part, good)
        for _, row in spread(readable, decide, load, cluster):
            yield row
