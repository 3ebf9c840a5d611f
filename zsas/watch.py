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
import stat
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zsas.audit import AuditLog, Inspection
from zsas.bulk import Names, Output, save
from zsas.errors import ZsasError, reason
from zsas.images import SUFFIXES, ReadImage, ReadOptions, is_result, read_image
from zsas.settings import Settings

try:
    import fcntl
except ImportError:  # Windows has no leases
    fcntl = None  # type: ignore[assignment]

__all__ = ["AuditLog", "Inspection", "Timing", "Watcher", "is_being_written"]

if TYPE_CHECKING:
    from zsas.result import Result

MOST_DIGESTS = 100_000
"""The contents of this many images are remembered, so that a copy is recognised."""


MOST_BYTES = 200_000_000
"""Files of up to this many bytes are read into memory; a larger file is decoded from the disk."""


@dataclass(frozen=True)
class Timing:
    """When a file is complete.

    Attributes:
        poll: Seconds between two listings of the folder.
        settle: Seconds without a change after which a file is complete, if the system cannot say whether it is open.
        patience: Seconds for which a file that cannot be read is tried again after its last change.
    """

    poll: float = 0.1
    settle: float = 0.5
    patience: float = 5.0


@dataclass
class _Seen:
    """A file that is not complete yet: its stamp, when the stamp was first seen, and since when no writer was seen."""

    stamp: tuple[int, ...]
    first: float
    since: float
    tries: int = 0


class Watcher:
    """Finds the files of a folder as they become complete, and examines each once.

    Args:
        folder: Watched with all folders below it.
        examine: Gives the result of an image.
        settings: Settings for all images.
        output: Where results go; its folder is not watched.
        log: The audit log: files that it lists are not examined again, and a line is added for each new one.
        timing: When a file is complete.
        reading: How files are read.
        complain: Called with a sentence when the folder cannot be listed, and again when it can.
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
        complain: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.folder, self.settings, self.output, self.log = folder, settings, output, log
        self._examine = examine
        self._timing = timing or Timing()
        self._reading = reading or ReadOptions()
        self._complain = complain
        self._own = os.path.realpath(output.folder) if output.folder is not None else None
        self._done: dict[str, tuple[str, str]] = {}
        self._waiting: dict[str, _Seen] = {}
        self._lost = False
        self._names = Names()
        self._shared: dict[str, Any] = {}
        self._digests: OrderedDict[str, Inspection] = OrderedDict()
        for part in log.history():
            self._remember(part)
        # An earlier run may have had other settings, models or another profile: no copy is told as it was there.
        self._digests.clear()

    def run(
        self, stop: Callable[[], bool] = lambda: False, once: bool = False
    ) -> Iterator[Inspection]:
        """Yield the parts in the order in which their files are complete; each is in the log before it is yielded.

        Args:
            stop: Called between files and between listings; True ends the run.
            once: End when every file in the folder has been examined.

        Raises:
            ZsasError: If the folder cannot be listed at the start, or the log cannot be written.
        """
        found: dict[str, _Seen] | None = None
        while not stop():
            began = time.monotonic()
            found = self._found(found)
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
            time.sleep(
                max(self._timing.poll, spent)
            )  # a listing of very many files takes long itself

    def _found(self, former: dict[str, _Seen] | None) -> dict[str, _Seen]:
        """Files to be examined; none while the folder cannot be listed, for example on a lost network drive.

        Raises:
            ZsasError: If the folder cannot be listed the first time.
        """
        try:
            found = self._look()
        except ZsasError as error:
            if former is None:
                raise
            if not self._lost:
                self._complain(f"{error} It is looked at again until it is back.")
            self._lost = True
            return {}
        if self._lost:
            self._complain(f"The folder {self.folder} is back.")
        self._lost = False
        return found

    def _look(self) -> dict[str, _Seen]:
        """List the folder: adds new and changed files to those to be examined, and forgets files that are gone."""
        there: dict[str, tuple[int, ...]] = {}
        for path in self._files():
            with contextlib.suppress(OSError):  # taken away in between
                facts = path.stat()
                if stat.S_ISREG(facts.st_mode):  # reading a pipe would wait for ever
                    there[path.relative_to(self.folder).as_posix()] = _stamp(facts)
        self._waiting = {name: seen for name, seen in self._waiting.items() if name in there}
        if len(self._done) > MOST_DIGESTS:  # until then a drive that comes back is known
            self._done = {name: kept for name, kept in self._done.items() if name in there}
        for name, stamp in there.items():
            if self._done.get(name, ("", ""))[0] == _text(stamp):
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
                if not name.startswith(".") and os.path.realpath(Path(folder, name)) != self._own
            ]
            for name in files:
                path = Path(folder, name)
                wanted = not name.startswith(".") and path.suffix.lower() in SUFFIXES
                if wanted and not is_result(path):
                    yield path

    def _take(self, name: str, seen: _Seen) -> Inspection | None:
        """Examine a file; None if it is not complete yet, or was examined before."""
        path = self.folder / name
        age = time.monotonic() - seen.since
        if not self._is_complete(path, seen, age):
            return None
        try:
            data = path.read_bytes() if seen.stamp[0] <= MOST_BYTES else b""
            digest = hashlib.sha256(data).hexdigest() if data else _digest(path)
            after = path.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            if age < self._timing.patience:
                return None  # not to be read yet
            why = (
                f"{name} cannot be read ({error.strerror}); give the watcher permission to read it."
            )
            return self._timed(Inspection(name, "", _text(seen.stamp), error=why), seen)
        if _stamp(after) != seen.stamp:
            return None
        part = Inspection(name, digest, _text(seen.stamp))
        if self._done.get(name, ("", ""))[1] == part.digest:
            self._finish(name, part.stamp, part.digest)  # touched, or written again as it was
            return None
        former = self._digests.get(part.digest)
        if former is not None:
            part = replace(
                former, file=name, stamp=part.stamp, copy_of=former.copy_of or former.file
            )
        else:
            part = self._decided(part, data or path)
            if part.error and not part.verdict and age < self._timing.patience:
                return None  # its end may be missing still
        return self._timed(part, seen)

    def _timed(self, part: Inspection, seen: _Seen) -> Inspection:
        """A part with the time of its decision, and how long it took."""
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

    def _decided(self, part: Inspection, source: bytes | Path) -> Inspection:
        if part.stamp.startswith("0-"):
            return replace(part, error=f"{part.file} is empty; write the complete image file.")
        try:
            read = read_image(source, self._reading)
            result = self._examine(read)
        except ZsasError as error:
            sentence = str(error).replace(str(self.folder / part.file), part.file, 1)
            return replace(part, error=sentence.replace("The image", part.file, 1))
        except Exception as error:  # one image must not stop the rest
            why = f"{type(error).__name__}: {reason(error)}"
            return replace(part, error=f"{part.file} could not be segmented ({why}).")
        facts = result.to_dict()
        for one in ("settings", "models", "versions"):  # many parts are remembered, and share them
            facts[one] = self._shared.setdefault(json.dumps(facts[one]), facts[one])
        part = replace(
            part,
            verdict=result.verdict,
            ok=result.ok,
            score=facts["image_score"],
            limit=facts["limit"],
            settings=facts["settings"],
            models=facts["models"],
            versions=facts["versions"],
            notes=tuple(read.info.notes),
        )
        (name,) = self._names.unique([part.file])
        try:
            save(result, name, self.output)
        except ZsasError as error:  # a full disk is no reason to stop the line
            return replace(part, error=str(error))
        return replace(part, name=name)

    def _remember(self, part: Inspection) -> None:
        if part.name:
            self._names.add(part.name)
        if part.verdict:
            self._digests[part.digest] = part
            self._digests.move_to_end(part.digest)
            if len(self._digests) > MOST_DIGESTS:
                self._digests.popitem(last=False)
        self._finish(part.file, part.stamp, part.digest if part.verdict else "")

    def _finish(self, file: str, stamp: str, digest: str) -> None:
        """Remember a file as examined; without a digest it is examined again when it is touched."""
        self._done[file] = stamp, digest
        self._waiting.pop(file, None)


def _stamp(facts: os.stat_result) -> tuple[int, ...]:
    """Size, time of writing, and what else changes where another file takes the place of one as old and as large."""
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino


def _text(stamp: tuple[int, ...]) -> str:
    return "-".join(map(str, stamp))


def _digest(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def is_being_written(path: Path) -> bool | None:
    """Whether any process has a file open for writing; None if the system cannot say.

    Linux grants a lease for reading only where nobody does.
    """
    if fcntl is None or not hasattr(fcntl, "F_SETLEASE"):
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # If a process opens the file for writing meanwhile, the system sends a signal: one that is ignored by default.
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
