"""The source of an image (a path, a file at an address, bytes or a file object), opened and named for messages."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from zsas.errors import ZsasError, reason
from zsas.extras import MissingExtra
from zsas.images.formats import HEAD, Format, recognised
from zsas.images.raster import MAX_BYTES

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+:/|data:)", re.I)


@runtime_checkable
class FarFile(Protocol):
    """A file at an address, as a `upath.UPath` is one."""

    def read_bytes(self) -> bytes:
        """All of it."""
        ...


class Content:
    """One file's content, with a name for messages.

    Attributes:
        name: For messages.
        size: Bytes.
        head: The first bytes, which tell the format.
    """

    def __init__(self, name: str, stream: BinaryIO) -> None:
        self.name = name
        self.stream = stream
        self.size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        self.head = stream.read(HEAD)
        stream.seek(0)

    @property
    def format(self) -> Format | None:
        """What the first bytes say, whatever the name does; None if they say nothing."""
        return recognised(self.head)

    def sha256(self) -> str:
        """Digest of all bytes, 64 hex digits."""
        self.stream.seek(0)
        found = hashlib.sha256()
        while block := self.stream.read(1 << 20):
            found.update(block)
        return found.hexdigest()

    def read(self) -> bytes:
        """All of it.

        Raises:
            ZsasError: If it is too much for the memory.
        """
        if self.size > MAX_BYTES:
            raise ZsasError(
                f"{self.name} has {self.size:,} bytes, but at most {MAX_BYTES:,} are read; make it smaller."
            )
        self.stream.seek(0)
        return self.stream.read()


@contextlib.contextmanager
def opened(source: object, name: str) -> Iterator[Content]:
    """The content of a path, a far file, bytes or a file object (read from its beginning, and left where it was).

    Args:
        source: See above.
        name: Of what has no name of its own.

    Raises:
        ZsasError: If there is no such file, it is empty, or it cannot be read; a `MissingExtra` names it.
    """
    with _opened(source, name) as content:
        try:
            yield content
        except MissingExtra as error:
            raise MissingExtra(f"{content.name} cannot be read here yet. {error}") from None


@contextlib.contextmanager
def _opened(source: object, name: str) -> Iterator[Content]:
    if isinstance(source, (bytes, bytearray, memoryview)):
        whole = source.tobytes() if isinstance(source, memoryview) else source
        yield Content(name, io.BytesIO(whole))
    elif isinstance(source, (str, Path)):
        with _file(source) as content:
            yield content
    elif isinstance(source, os.PathLike) and not isinstance(source, FarFile):
        with _file(os.fsdecode(source)) as content:
            yield content
    elif isinstance(source, FarFile):
        name = str(source)
        yield Content(name, io.BytesIO(_fetched(source, name)))
    elif hasattr(source, "read"):
        yield Content(name, io.BytesIO(_all_of(source, name)))
    else:
        raise ZsasError(
            "An image was expected as a path, a PIL image, an array, a file's bytes or an open file, but this is of "
            f"the type {type(source).__name__}."
        )


@contextlib.contextmanager
def _file(path: str | Path) -> Iterator[Content]:
    # A text is never an address: what a stranger writes must not make us fetch something.
    name = str(path)
    try:
        path = Path(os.path.expanduser(path))  # `Path.expanduser` takes "~gear.png" for a user
        if path.is_dir():
            raise ZsasError(
                f"{name or 'The empty path'} is a folder, but an image file was expected."
            )
        if not path.exists():
            if _ADDRESS.match(name):
                raise ZsasError(
                    f"{name[:80]} is an address, but a path was expected; save the file here, then name it."
                )
            if path.is_symlink():
                raise ZsasError(f"{name} is a link that leads to no file; mend the link.")
            raise ZsasError(f"There is no file {name}; check the path.")
        if not path.is_file():
            raise ZsasError(f"{name} is not a regular file, but an image file was expected.")
        if path.stat().st_size == 0:
            raise ZsasError(f"{name} is empty; take a complete image file.")
        stream = open(path, "rb")  # noqa: SIM115 - closed below
    except PermissionError:
        raise ZsasError(
            f"{name} may not be read; give yourself permission to read it, or take another file."
        ) from None
    except ZsasError:
        raise
    except (OSError, ValueError):  # a name that no file can have
        raise unreadable(name) from None
    with stream:
        yield Content(name, stream)


def _fetched(file: FarFile, name: str) -> bytes:
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        raise ZsasError(f"There is no file {name}; check the address.") from None
    except Exception as error:  # every kind of storage has errors of its own
        why = reason(error)
        raise ZsasError(f"{name} cannot be read ({why}).") from None
    if not data:
        raise ZsasError(f"{name} is empty; take a complete image file.")
    return data


def _all_of(stream: object, name: str) -> bytes:
    try:
        seekable = bool(getattr(stream, "seekable", lambda: False)())
        if seekable:
            where = stream.tell()  # type: ignore[attr-defined]
            stream.seek(0)  # type: ignore[attr-defined]
        data = _whole(stream)
        if seekable:
            stream.seek(where)  # type: ignore[attr-defined]
    except Exception as error:  # every kind of stream has errors of its own
        raise ZsasError(f"{name} cannot be read ({reason(error)}).") from None
    if not isinstance(data, bytes):
        raise ZsasError(f'{name} is a file opened as text; open it with the mode "rb".')
    if len(data) > MAX_BYTES:
        raise ZsasError(
            f"{name} has more than the {MAX_BYTES:,} bytes that are read; make it smaller."
        )
    if not data:
        raise ZsasError(f"{name} is empty; take a complete image file.")
    return data


def _whole(stream: Any) -> Any:
    """All bytes of a stream, at most one more than are allowed; pipes and sockets deliver them in parts."""
    first = stream.read(MAX_BYTES + 1)
    if not isinstance(first, bytes):
        return first
    parts, length = [first], len(first)
    while parts[-1] and length <= MAX_BYTES:
        more = stream.read(MAX_BYTES + 1 - length)
        parts.append(more or b"")
        length += len(parts[-1])
    return b"".join(parts)


def unreadable(name: str) -> ZsasError:
    """The error for a file whose format is not in the table."""
    return ZsasError(
        f"{name} is not an image that can be read, or its beginning is damaged; "
        "PNG, JPEG, TIFF, BMP, WebP and GIF can be read."
    )
