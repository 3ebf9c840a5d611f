"""The images of a run as jobs, without settings and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from zsas.bulk.jobs import Job, Output, Reading, list_images, name_jobs
from zsas.images import Scan


def plan(
    sources: Sequence[str], output: Output, known: Mapping[str, str] | None = None
) -> list[Job]:
    """A job for each image; images in `known` keep their names."""
    return name_jobs(list_images(sources, output, Scan()), known or {}, Reading())
