"""The audit log of a production line: one line of JSON a part, on the disk before anybody is told."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from zsas.errors import ZsasError
from zsas.files import lock


@dataclass(frozen=True)
class Inspection:
    """The outcome of one file: a line of the audit log.

    Attributes:
        file: Path below the watched folder.
        digest: SHA-256 of its bytes; "" where they could not be read.
        stamp: Size and times, by which a restart knows it.
        name: What its results are called; "" where there are none.
        verdict: "normal", "unsure" or "anomalous"; "" where it failed.
        ok: What the verdict means for a machine: `unsure_as` says what unsure counts as.
        score, limit: Image score and the threshold of the verdict; None where it failed.
        settings, models, versions: What the result depends on.
        time: When it was decided, ISO 8601 in UTC.
        latency: Seconds since the file was last written, or seen for the first time where that was later.
        error: Why it failed, or why its results could not be written, in a sentence.
        copy_of: The file with the same bytes that was examined before.
        notes: What was noted when the file was read.
    """

    file: str
    digest: str
    stamp: str
    name: str = ""
    verdict: str = ""
    ok: bool = False
    score: float | None = None
    limit: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    time: str = ""
    latency: float = 0.0
    error: str = ""
    copy_of: str = ""
    notes: Sequence[str] = ()

    @property
    def word(self) -> str:
        """OK for a normal part; NOK for an anomalous one, and for one that could not be examined."""
        return "OK" if self.ok else "NOK"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, with `word`, without what is empty."""
        values = {
            name: value for name, value in vars(self).items() if value not in ("", None, {}, (), [])
        }
        return {"word": self.word, **values}

    def to_line(self) -> bytes:
        """As a line of JSON in ASCII, since a file's name need not be UTF-8."""
        return json.dumps(self.to_dict()).encode() + b"\n"


class AuditLog:
    """Writes one line of JSON for each part. Another program may move or replace the file, as log rotation does.

    Args:
        path: Made if missing, gone on with if not.

    Raises:
        ZsasError: If it cannot be read or written, or another process writes to it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._opened()
            if not self._ends_with_a_line():  # a kill or a full disk has cut the last line
                os.write(self._stream, b"\n")
        except OSError as error:
            raise ZsasError(
                f"The log {path} cannot be written ({error.strerror}); name another one with --log."
            ) from None

    def history(self) -> Iterator[Inspection]:
        """The parts in the file, the first one first; lines that cannot be read are skipped.

        Parts that were decided under the same settings share them, so that a long log needs little memory.
        """
        declared = fields(Inspection)
        names = {field.name for field in declared}
        texts = [field.name for field in declared if field.type == "str"]
        shared: dict[str, Any] = {}
        with contextlib.suppress(OSError), open(self.path, "rb") as stream:
            for line in stream:
                with contextlib.suppress(ValueError, TypeError, AttributeError):
                    values = {k: v for k, v in json.loads(line).items() if k in names}
                    if not all(isinstance(values.get(name, ""), str) for name in texts):
                        continue
                    for name in ("settings", "models", "versions"):
                        if name in values:
                            values[name] = shared.setdefault(json.dumps(values[name]), values[name])
                    yield Inspection(**values)

    def append(self, part: Inspection) -> None:
        """Write one line and wait until the disk has it.

        Raises:
            ZsasError: If it cannot be written: a line without its record must not go on.
        """
        line = part.to_line()
        try:
            if self._is_moved():
                moved, self._stream = self._stream, self._opened()
                os.close(moved)
            if os.write(self._stream, line) < len(line):
                raise OSError(0, "only a part of the line was written")
            os.fsync(self._stream)
        except OSError as error:
            raise ZsasError(
                f"The log {self.path} cannot be written ({error.strerror}); make room, then start again."
            ) from None

    def close(self) -> None:
        """Close the file."""
        os.close(self._stream)

    def _opened(self) -> int:
        stream = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            lock(stream)
        except BlockingIOError:
            os.close(stream)
            raise ZsasError(
                f"Another process writes to the log {self.path}; end it, or name another log with --log."
            ) from None
        return stream

    def _is_moved(self) -> bool:
        """Whether the path now leads to another file than the open one."""
        ours = os.fstat(self._stream)
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return True
        return (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino)

    def _ends_with_a_line(self) -> bool:
        if not self.path.is_file() or not self.path.stat().st_size:
            return True
        with open(self.path, "rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) == b"\n"
