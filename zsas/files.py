"""Files are written whole or not at all: under a temporary name beside their own, then renamed."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from zsas.errors import ZsasError

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]


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
            try:
                with temporary.open("xb") as stream:
                    stream.write(data)
            except OSError as error:  # of a write alone Python names no file
                error.filename = str(path)
                raise
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


def check_place(path: Path) -> None:
    """Try whether a file can be written at a path, before the work that it is to hold; folders above it are made.

    Raises:
        OSError: If it cannot, or a folder is there.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        temporary.touch()
    finally:
        temporary.unlink(missing_ok=True)


_ELSEWHERE = "choose a folder that can be written to"


@contextmanager
def writing(what: str, elsewhere: str = _ELSEWHERE) -> Iterator[None]:
    """A block that writes, in which an error is a sentence.

    Args:
        what: How it begins: "The report cannot be written to report.html".
        elsewhere: See `remedy`.

    Raises:
        ZsasError: If the block raises an `OSError`.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise ZsasError(f"{what} ({why}); {remedy(error, elsewhere)}.") from None


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder until the block ends, so that no other process can; nothing on Windows.

    Raises:
        BlockingIOError: If another one holds it.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def lock(descriptor: int) -> None:
    """Lock an open file or folder until it is closed; nothing on Windows, and on network drives without locks.

    Raises:
        BlockingIOError: If another process has locked it.
    """
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            pass


def remedy(error: OSError, elsewhere: str = _ELSEWHERE) -> str:
    """What a person can do about a file that could not be written, without a full stop.

    Args:
        error: Why.
        elsewhere: What to do where no other room and no shorter name would help.

    Example:
        >>> remedy(OSError(errno.ENOSPC, "No space left on device"))
        'make room there'
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room there"
    return "give it a shorter name" if error.errno == errno.ENAMETOOLONG else elsewhere


def _beside(path: Path) -> Path:
    # Not `tempfile`, whose files only their owner may read: some network drives refuse to change that.
    return path.with_name(f".{uuid.uuid4().hex}.part")
