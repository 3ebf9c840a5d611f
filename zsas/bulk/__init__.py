"""Many images: which they are, what their files are called, one walk over them, and one row for each.

The shell, the workers of a cluster and the page's batch all go through here, so an image has the same row and the
same names wherever it was examined, and a file that cannot be read is a row with a sentence everywhere.
"""

from __future__ import annotations

from zsas.bulk.jobs import Job, Names, Output, Reading, unique_names
from zsas.bulk.rows import Row
from zsas.bulk.run import Work, compare_jobs, examine, load, prepare, read_job, save, walk
from zsas.bulk.store import open_rows

__all__ = [
    "Job",
    "Names",
    "Output",
    "Reading",
    "Row",
    "Work",
    "compare_jobs",
    "examine",
    "load",
    "open_rows",
    "prepare",
    "read_job",
    "save",
    "unique_names",
    "walk",
]
