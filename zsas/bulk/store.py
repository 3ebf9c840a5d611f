"""Where rows are kept: lines of JSON beside folders, or parts of a Parquet table. Both can be gone on with."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

from zsas.bulk.jobs import Job, Output
from zsas.bulk.rows import Row
from zsas.errors import ZsasError, readable
from zsas.extras import require
from zsas.files import check_place, remedy, write_whole

ROWS_A_PART = 256
SECONDS_A_PART = 30.0

_FIELDS = [field.name for field in dataclasses.fields(Row)]


class Rows(Protocol):
    """Rows of one output folder; a context that writes what is waiting when it ends."""

    @property
    def names(self) -> Mapping[str, str]:
        """Image to name of every row, so that images keep their names."""
        ...

    def has(self, job: Job) -> bool:
        """Whether the image was examined, without an error and under the settings and models of this run."""
        ...

    def stored(self, jobs: Collection[Job]) -> Iterator[Row]:
        """The rows of some jobs that `has` said yes to."""
        ...

    def put(self, row: Row) -> None:
        """Keep a row; an earlier one of the same image is dropped, and its files where the image now fails."""
        ...

    def __enter__(self) -> Rows: ...

    def __exit__(self, *_: object) -> None: ...


def open_rows(output: Output, identity: Mapping[str, Any], run: str) -> Rows:
    """The rows of an output folder, which is made if it is missing.

    Args:
        output: Its folder is set.
        identity: Settings and models, as JSON types.
        run: Their digest.

    Raises:
        ZsasError: If the folder cannot be made or written to, or holds a table of another run.
    """
    assert output.folder is not None
    try:
        output.folder.mkdir(parents=True, exist_ok=True)
        if output.format == "table":
            return TableRows(output, identity)
        return FolderRows(output, run)
    except OSError as error:
        raise _no_place(output.folder, error) from None


def can_hold(folder: Path) -> None:
    """Try whether an output folder takes files.

    Raises:
        ZsasError: If it does not.
    """
    check_place(folder / "results.jsonl", partial(_no_place, folder))


def _no_place(folder: Path, error: OSError) -> ZsasError:
    return ZsasError(
        f"The folder {folder} cannot be made or written to ({error.strerror or error}); "
        f"{remedy(error, 'choose another one with --out')}."
    )


class FolderRows:
    """Lines in `results.jsonl`, each written when its image is done. A folder may hold several runs."""

    def __init__(self, output: Output, run: str) -> None:
        assert output.folder is not None
        self.path = output.folder / "results.jsonl"
        self._output, self._run = output, run
        self._stream: IO[bytes] | None = None
        self._known: dict[str, tuple[str, str, str]] = {}
        """Image to name, stamp and run; no run for a failure, which is tried again."""
        lines: dict[str, bytes] = {}
        whole = True
        for line, row in self._read():
            whole = whole and row is not None and row.image not in lines
            if row is not None:
                lines[row.image] = line
                self._note(row)
        if not whole:  # of a killed run the last line may be half
            write_whole(self.path, b"".join(lines.values()))

    @property
    def names(self) -> Mapping[str, str]:
        """See `Rows`."""
        return {image: name for image, (name, _, _) in self._known.items()}

    def has(self, job: Job) -> bool:
        """See `Rows`; files that somebody has taken away are made again."""
        assert self._output.folder is not None
        folder = self._output.folder / job.name
        needed = [folder / "result.json", self._output.folder / self._output.mask_of(job.name)]
        if self._output.stages:
            needed.append(folder / "stages")
        return self._known.get(job.image) == (job.name, job.stamp, self._run) and all(
            map(os.path.exists, needed)
        )

    def stored(self, jobs: Collection[Job]) -> Iterator[Row]:
        """See `Rows`."""
        wanted = {job.image for job in jobs}
        for _, row in self._read():
            if row is not None and row.image in wanted:
                yield row

    def put(self, row: Row) -> None:
        """See `Rows`."""
        assert self._output.folder is not None
        name, _, done = self._known.get(row.image, ("", "", ""))
        if row.error and done:
            _discard(self._output.folder / name)
        self._note(row)
        line = json.dumps(row.to_dict(), ensure_ascii=False) + "\n"
        try:
            if self._stream is None:
                self._stream = self.path.open("ab")
            self._stream.write(line.encode(errors="surrogatepass"))
            self._stream.flush()
        except OSError as error:
            raise _no_room(self.path, error) from None

    def __enter__(self) -> FolderRows:
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def _note(self, row: Row) -> None:
        self._known[row.image] = (row.name, row.stamp, "" if row.error else row.run)

    def _read(self) -> Iterator[tuple[bytes, Row | None]]:
        """Each line with its row; None for a line that is none."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            for line in stream:
                try:
                    values = json.loads(line.decode(errors="surrogatepass"))
                    yield line, Row(**{name: values[name] for name in _FIELDS})
                except (ValueError, KeyError, TypeError):
                    yield line, None


class TableRows:
    """Parquet parts in `results/`, each whole or not at all. `run.json` says what the table is of.

    Args:
        output: Its folder is that of the run.
        identity: What defines the run; a folder of another one is refused.
    """

    def __init__(self, output: Output, identity: Mapping[str, Any]) -> None:
        require("tables")
        assert output.folder is not None
        self._output, folder = output, output.folder
        self.folder = folder / "results"
        text = json.dumps({"format": 2, **identity}, indent=1, sort_keys=True) + "\n"
        stamp = folder / "run.json"
        self.folder.mkdir(exist_ok=True)
        if stamp.is_file() and stamp.read_text(encoding="utf-8") != text:
            raise ZsasError(
                f"{folder} holds a run of other settings or models (see run.json there); choose another --out."
            )
        write_whole(stamp, text.encode())
        self._known: dict[str, tuple[str, str]] = {}
        """Image to name and stamp of what is done; an image that failed is not: what was in its way may be gone."""
        self._waiting: list[Row] = []
        self._replaced: set[str] = set()
        self._held: int | None = None
        self._look()

    def _look(self) -> None:
        """What the parts hold."""
        self._parts = sorted(self.folder.glob("part-*.parquet"))
        for part in self._parts:
            self._recover(part)
        numbers = [int(part.stem.removeprefix("part-")) for part in self._parts]
        self._number = 1 + max(numbers, default=-1)
        self._since = time.monotonic()

    @property
    def names(self) -> Mapping[str, str]:
        """See `Rows`."""
        return {image: name for image, (name, _) in self._known.items()}

    def has(self, job: Job) -> bool:
        """See `Rows`."""
        known = self._known.get(readable(job.image))
        return known is not None and known[1] == job.stamp

    def stored(self, jobs: Collection[Job]) -> Iterator[Row]:
        """See `Rows`."""
        import pyarrow.parquet as pq

        wanted = {readable(job.image) for job in jobs}
        for part in self._parts:
            for values in pq.read_table(part).to_pylist():
                if values["image"] in wanted:
                    yield Row(**values)

    def put(self, row: Row) -> None:
        """See `Rows`; parts are written as rows and seconds come together."""
        name = row.name
        row = dataclasses.replace(row, image=readable(row.image), name=readable(row.name))
        if row.image in self._known:
            self._replaced.add(row.image)
            if row.error:
                _discard(
                    self.folder.parent / "stages" / name,
                    self.folder.parent / self._output.mask_of(name),
                )
        self._waiting.append(row)
        if len(self._waiting) >= ROWS_A_PART or time.monotonic() - self._since > SECONDS_A_PART:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as the next part."""
        self._since = time.monotonic()
        if not self._waiting:
            return
        path = self.folder / f"part-{self._number:06d}.parquet"
        try:
            write_whole(path, _parquet(self._waiting))
        except OSError as error:
            raise _no_room(path, error) from None
        self._number += 1
        self._waiting = []

    def __enter__(self) -> TableRows:
        self._held = _hold(self.folder)
        self._look()  # another command may have written since
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._finish()
        finally:
            if self._held is not None:
                os.close(self._held)
                self._held = None

    def _finish(self) -> None:
        self.flush()
        if self._replaced:  # images that have changed since an earlier call
            for part in self._parts:
                self._keep(part, lambda row: row["image"] not in self._replaced)

    def _recover(self, part: Path) -> None:
        for row in self._keep(part, lambda row: not row["error"]):
            self._known[row["image"]] = (row["name"], row["stamp"])

    def _keep(
        self, part: Path, wanted: Callable[[Mapping[str, Any]], bool]
    ) -> list[dict[str, Any]]:
        """Take all other rows out of a part; image, name, stamp and error of those that stay."""
        import pyarrow.parquet as pq

        table = pq.read_table(part, columns=["image", "name", "stamp", "error"]).to_pylist()
        good = [wanted(row) for row in table]
        if not all(good):
            write_whole(part, _bytes(pq.read_table(part).filter(good)))
        return [row for row, fine in zip(table, good, strict=True) if fine]


def _discard(folder: Path, *files: Path) -> None:
    """Take away what an earlier result of an image has left that fails now; its row says so, whatever stays."""
    from zsas.export import discard

    with contextlib.suppress(OSError):
        for file in files:
            file.unlink(missing_ok=True)
        discard(folder)


def _hold(folder: Path) -> int | None:
    """Take a folder for this command: two that number their parts alike would overwrite each other's.

    Returns:
        A descriptor, whose end lets the folder go; None where there are no locks.

    Raises:
        ZsasError: If another command has it.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ZsasError(
            f"Another command is writing the table in {folder.parent}; wait until it ends, or choose another --out."
        ) from None
    except OSError:  # a network drive without locks
        pass
    return descriptor


def _parquet(rows: list[Row]) -> bytes:
    import pyarrow as pa

    kinds = {
        "anomalous": pa.bool_(),
        "image_score": pa.float64(),
        "width": pa.int32(),
        "height": pa.int32(),
    }
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in _FIELDS])
    return _bytes(pa.Table.from_pylist([row.to_dict() for row in rows], schema=schema))


def _bytes(table: Any) -> bytes:
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _no_room(path: Path, error: OSError) -> ZsasError:
    return ZsasError(
        f"{path} cannot be written ({error.strerror or error}); {remedy(error, 'mend that')}, then give the same "
        "command again: it goes on where it stopped."
    )
