"""Examine each image of a folder once, when it is completely written: for a camera that writes files.

A file is taken for complete when nobody has it open for writing (Linux says so for files on its own disks), or when it
has not changed for a while. One that cannot be read yet, because its end is missing, is tried again for some seconds.
The audit log says which files were examined, so that a restart repeats nothing.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import signal
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.bulk import Output, save, unique_names
from zsas.errors import ZsasError, reason
from zsas.images import SUFFIXES, ReadImage, ReadOptions, is_result, read_image
from zsas.settings import Settings

try:
    import fcntl
except ImportError:  # Windows has no leases
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from zsas.result import Result

MOST_DIGESTS = 100_000
"""How many images are remembered by content, to know a copy of one."""


@dataclass(frozen=True)
class Timing:
    """When a file is complete.

    Attributes:
        poll: Seconds between two looks at the folder.
        settle: Seconds without a change where nobody can say whether the file is open.
        patience: Seconds for which a file that cannot be read is tried again after its last change.
    """

    poll: float = 0.1
    settle: float = 0.5
    patience: float = 5.0


@dataclass
class _Seen:
    """A file that waits: its stamp, when that was first seen, and since when nobody was seen to write it."""

    stamp: tuple[int, int]
    first: float
    since: float
    tries: int = 0


@dataclass(frozen=True)
class Part:
    """What became of one file; a line of the audit log.

    Attributes:
        file: Path below the watched folder.
        digest: SHA-256 of its bytes.
        stamp: Size and time, by which a restart knows it.
        name: What its results are called; "" where there are none.
        verdict: "normal", "unsure" or "anomalous"; "" where it failed.
        ok: What the verdict means for a machine: `unsure_as` says what unsure counts as.
        score, limit: Image score and the threshold of the verdict; None where it failed.
        settings, models, versions: What the result depends on.
        time: When it was decided, ISO 8601 in UTC.
        latency: Seconds since the file was last written, or seen for the first time where that was later.
        error: Why it failed, or why its results could not be written, in a sentence.
        copy_of: The file with the same bytes that was examined before.
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

    @property
    def word(self) -> str:
        """OK for a normal part; NOK for an anomalous one, and for one that could not be examined."""
        return "OK" if self.ok else "NOK"

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, with `word`, without what is empty."""
        values = {name: value for name, value in vars(self).items() if value not in ("", None, {})}
        return {"word": self.word, **values}


class AuditLog:
    """One line of JSON a part, on the disk before anybody is told.

    Args:
        path: Made if missing, gone on with if not.

    Raises:
        ZsasError: If it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts: list[Part] = []
        """What was there at the start."""
        names = set(Part.__dataclass_fields__)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes() if path.is_file() else b""
            self._stream = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            if data and not data.endswith(b"\n"):  # a kill or a full disk has cut the last line
                os.write(self._stream, b"\n")
        except OSError as error:
            raise ZsasError(
                f"The log {path} cannot be written ({error.strerror}); name another one with --log."
            ) from None
        for line in data.splitlines():
            with contextlib.suppress(ValueError, TypeError):
                values = json.loads(line)
                self.parts.append(Part(**{k: v for k, v in values.items() if k in names}))

    def append(self, part: Part) -> None:
        """Write one line and wait until the disk has it.

        Raises:
            ZsasError: If it cannot be written: a line without its record must not go on.
        """
        line = json.dumps(part.to_dict()).encode() + b"\n"
        try:
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


class Watcher:
    """The files of a folder as they become complete, each with what was decided.

    Args:
        folder: Watched with all folders below it.
        examine: Decides on an image.
        settings: Of all images.
        output: Where results go; its folder is not watched.
        log: Which files were examined, and where lines go.
        timing: When a file is complete.
        reading: How files are read.
    """

    def __init__(
        self,
        folder: Path,
        examine: Callable[[ReadImage], Result],
        settings: Settings,
        output: Output,
        log: AuditLog,
        timing: Timing | None = None,
        reading: ReadOptions | None = None,
    ) -> None:
        self.folder, self.settings, self.output, self.log = folder, settings, output, log
        self._examine = examine
        self._timing = timing or Timing()
        self._reading = reading or ReadOptions()
        self._own = output.folder.resolve() if output.folder is not None else None
        self._done: dict[str, str] = {}
        self._waiting: dict[str, _Seen] = {}
        self._names: set[str] = set()
        self._digests: OrderedDict[str, Part] = OrderedDict()
        for part in log.parts:
            self._remember(part)
        log.parts = []

    def run(self, stop: Callable[[], bool] = lambda: False, once: bool = False) -> Iterator[Part]:
        """Parts in the order in which their files are complete, each written to the log before it is handed out.

        Args:
            stop: Asked between two files and two looks at the folder.
            once: End when every file that is there has been examined.

        Raises:
            ZsasError: If the folder cannot be listed or the log cannot be written.
        """
        while not stop():
            began = time.monotonic()
            found = self._look()
            spent = time.monotonic() - began
            for path, seen in sorted(found.items(), key=lambda item: item[1].stamp[1]):
                if stop():
                    return
                part = self._take(path, seen)
                if part is not None:
                    self._remember(part)
                    self.log.append(part)
                    yield part
            if once and not self._waiting:
                return
            time.sleep(max(self._timing.poll, spent))  # of very many files a look takes long itself

    def _look(self) -> dict[str, _Seen]:
        """Files that wait, with what is new since the last look; those that are gone are forgotten."""
        there: dict[str, tuple[int, int]] = {}
        for path in self._files():
            with contextlib.suppress(OSError):  # taken away in between
                facts = path.stat()
                there[path.relative_to(self.folder).as_posix()] = (
                    facts.st_size,
                    facts.st_mtime_ns,
                )
        for known in (self._done, self._waiting):
            for name in [name for name in known if name not in there]:
                del known[name]  # type: ignore[attr-defined]
        for name, stamp in there.items():
            if self._done.get(name) == _text(stamp):
                continue
            seen = self._waiting.get(name)
            if seen is None or seen.stamp != stamp:
                now = time.monotonic()
                self._waiting[name] = _Seen(stamp, now, now)
        return dict(self._waiting)

    def _files(self) -> Iterator[Path]:
        try:
            os.listdir(self.folder)
        except OSError as error:
            raise ZsasError(
                f"The folder {self.folder} cannot be listed ({error.strerror}); check its permissions."
            ) from None
        for folder, folders, files in os.walk(self.folder):
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".") and Path(folder, name).resolve() != self._own
            ]
            for name in files:
                path = Path(folder, name)
                wanted = not name.startswith(".") and path.suffix.lower() in SUFFIXES
                if wanted and not is_result(path):
                    yield path

    def _take(self, name: str, seen: _Seen) -> Part | None:
        """What was decided on a file; None where it is not complete yet, or was examined before."""
        path = self.folder / name
        age = time.monotonic() - seen.since
        if not self._is_complete(path, seen, age):
            return None
        try:
            data = path.read_bytes()
            after = path.stat()
        except OSError:
            return None  # gone, or not to be read yet
        if (after.st_size, after.st_mtime_ns) != seen.stamp:
            return None
        part = Part(name, hashlib.sha256(data).hexdigest(), _text(seen.stamp))
        former = self._digests.get(part.digest)
        if former is not None and former.file == name:
            self._finish(part)  # touched, or written again as it was
            return None
        if former is not None:
            part = replace(
                former, file=name, stamp=part.stamp, copy_of=former.copy_of or former.file
            )
        else:
            part = self._decided(part, data)
            if part.error and not part.verdict and age < self._timing.patience:
                return None  # its end may be missing still
        waited = min(time.time() - seen.stamp[1] / 1e9, time.monotonic() - seen.first)
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        return replace(part, time=now, latency=round(max(0.0, waited), 3))

    def _is_complete(self, path: Path, seen: _Seen, age: float) -> bool:
        open_for_writing = is_being_written(path)
        if open_for_writing:
            seen.since = time.monotonic()
            return False
        if seen.stamp[0] == 0:
            return age >= self._timing.patience
        if seen.tries:
            # It could not be read: not at every look, and once more at the end of the patience.
            seen.tries += 1
            return seen.tries % 5 == 0 or age >= self._timing.patience
        if open_for_writing is None and age < self._timing.settle:
            return False
        seen.tries = 1
        return True

    def _decided(self, part: Part, data: bytes) -> Part:
        if not data:
            return replace(part, error=f"{part.file} is empty; write the complete image file.")
        try:
            result = self._examine(read_image(data, self._reading))
        except ZsasError as error:
            return replace(part, error=str(error).replace("The image", part.file, 1))
        except Exception as error:  # one image must not stop the rest
            why = f"{type(error).__name__}: {reason(error)}"
            return replace(part, error=f"{part.file} could not be segmented ({why}).")
        facts = result.to_dict()
        part = replace(
            part,
            verdict=result.verdict,
            ok=result.ok,
            score=facts["image_score"],
            limit=self.settings.verdict_threshold,
            settings=facts["settings"],
            models=facts["models"],
            versions=facts["versions"],
        )
        (name,) = unique_names([part.file], self._names)
        try:
            save(result, name, self.output)
        except ZsasError as error:  # a full disk is no reason to stop the line
            return replace(part, error=str(error))
        return replace(part, name=name)

    def _remember(self, part: Part) -> None:
        if part.name:
            self._names.add(part.name)
        if part.verdict:
            self._digests[part.digest] = part
            self._digests.move_to_end(part.digest)
            if len(self._digests) > MOST_DIGESTS:
                self._digests.popitem(last=False)
        self._finish(part)

    def _finish(self, part: Part) -> None:
        self._done[part.file] = part.stamp
        self._waiting.pop(part.file, None)


def _text(stamp: tuple[int, int]) -> str:
    return f"{stamp[0]}-{stamp[1]}"


def is_being_written(path: Path) -> bool | None:
    """Whether somebody has a file open for writing; None where that cannot be known.

    Linux grants a lease for reading only where nobody does.
    """
    if fcntl is None or not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # Who opens it for writing in between makes the system send a signal: one that nobody dies of.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:  # another one's file, or a network drive
        return None
    else:
        return False
    finally:
        os.close(descriptor)
