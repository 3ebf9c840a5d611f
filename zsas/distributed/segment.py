"""Segment many images on a cluster: the rows and files of `zsas.bulk`, made by its workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from zsas.bulk import Job, Output, Row, examine
from zsas.distributed.ray import Cluster, spread
from zsas.settings import Settings

if TYPE_CHECKING:
    from zsas.distributed.ray import Load
    from zsas.good import Good
    from zsas.part import Part
    from zsas.segmenter import Segmenter


@dataclass(frozen=True)
class Segment:
    """The task of a worker: examine a batch, and write its files to a folder that all machines share."""

    settings: Settings
    output: Output
    part: Part | None = None
    good: Good | None = None

    def do(self, segmenter: Segmenter, jobs: Sequence[Job]) -> list[Row]:
        """A row for each image; each worker remembers the good images once."""
        region = self.part.region if self.part is not None else None
        memory = self.good.of(segmenter, self.settings, region) if self.good else None
        given = (self.settings, self.output, len(jobs), memory)
        return list(examine(segmenter, jobs, *given, part=self.part))

    def failed(self, job: Job, why: str) -> Row:
        """A row with an error."""
        return Row.failed(job, f"{job.image} could not be processed{why}.")


def segment(
    jobs: Sequence[Job],
    settings: Settings,
    output: Output,
    load: Load,
    cluster: Cluster,
    part: Part | None = None,
    good: Good | None = None,
) -> Iterator[Row]:
    """A row for each job, in the order of completion.

    Args:
        jobs: From `zsas.bulk.prepare`.
        settings: Of all images.
        output: Its folder is one that all machines of the cluster share.
        load: Makes the segmenter of a worker; see `zsas.distributed.ray.loader`.
        cluster: Where.
        part: What belongs to the part.
        good: Good images, on storage that all machines share; they replace the profile's own.

    Raises:
        ZsasError: If Ray is missing, the cluster cannot be reached, or the models cannot be had.
    """
    for _, row in spread(
        {job.image: job for job in jobs}, Segment(settings, output, part, good), load, cluster
    ):
        yield row
