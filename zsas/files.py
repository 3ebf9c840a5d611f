"""Files are written whole or not at all: under a temporary name beside their own, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write one file whole or not at all; folders above it are made.

    Raises:
        OSError: If it cannot be written; nothing of it is left then, and an older file stays as it was.
    """
    write_all({path: data})


def write_all(files: Mapping[Path, bytes]) -> None:
    """Write several files; all are complete under temporary names before the first one is renamed.

    Raises:
        OSError: If one cannot be written; no temporary file is left then.
    """
    waiting: list[tuple[Path, Path]] = []
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = _beside(path)
            waiting.append((temporary, path))
            with temporary.open("xb") as stream:
                stream.write(data)
        while waiting:
            temporary, path = waiting[0]
            os.replace(temporary, path)
            waiting.pop(0)
    finally:
        for temporary, _ in waiting:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path for another library to write to; it is renamed to `path` if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    # Not `tempfile`, whose files only their owner may read: some network drives refuse to change that.
    return path.with_name(f".{uuid.uuid4().hex}.part")
