"""Where rows are kept: lines of JSON beside folders, or parts of a Parquet table. Both can be gone on with."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import io
import json
import time
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, Self

from zsas.bulk.jobs import Job, Output
from zsas.bulk.rows import Row
from zsas.errors import ZsasError, readable
from zsas.extras import require
from zsas.files import check_place, held, remedy, write_whole

ROWS_A_PART = 256
SECONDS_A_PART = 30.0

_FIELDS = [field.name for field in dataclasses.fields(Row)]


class Rows(abc.ABC):
    """Rows of one output folder. Anybody may read them; the command that writes them is the only one, as a context.

    Args:
        output: Its folder is that of the rows.
    """

    def __init__(self, output: Output) -> None:
        assert output.folder is not None
        self._output, self._out = output, output.folder
        self._held = contextlib.ExitStack()

    @property
    @abc.abstractmethod
    def names(self) -> Mapping[str, str]:
        """Image to name of every row, so that images keep their names."""

    def has(self, job: Job) -> bool:
        """Whether the image was examined, without an error and under the settings and models of this run.

        Files that somebody has taken away are made again.
        """
        return self._is_done(job) and all(
            (self._out / file).exists() for file in self._output.files_of(job.name)
        )

    @abc.abstractmethod
    def _is_done(self, job: Job) -> bool:
        """Whether there is such a row."""

    @abc.abstractmethod
    def stored(self, jobs: Collection[Job]) -> Iterator[Row]:
        """The rows of some jobs that `has` said yes to."""

    @abc.abstractmethod
    def put(self, row: Row) -> None:
        """Keep a row; an earlier one of the same image is dropped, and its files where the image now fails."""

    @abc.abstractmethod
    def _begin(self) -> None:
        """Look again: another command may have written since. Drops what a killed one has left."""

    @abc.abstractmethod
    def _finish(self) -> None:
        """Write what is waiting, and drop the rows that others have replaced."""

    def __enter__(self) -> Self:
        self._held.enter_context(_alone(self._out))
        self._begin()
        return self

    def __exit__(self, *_: object) -> None:
        with self._held:
            self._finish()


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
    """Try whether an output folder takes files, before the work that they are to hold.

    Raises:
        ZsasError: If it does not, or another command writes there.
    """
    check_place(folder / "results.jsonl", partial(_no_place, folder))
    with _alone(folder):
        pass


def _no_place(folder: Path, error: OSError) -> ZsasError:
    return ZsasError(
        f"The folder {folder} cannot be made or written to ({error.strerror or error}); "
        f"{remedy(error, 'choose another one with --out')}."
    )


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Have a folder for oneself: two commands would overwrite each other's rows.

    Raises:
        ZsasError: If another command has it.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(folder))
        except BlockingIOError:
            raise ZsasError(
                f"Another command is writing results to {folder}; wait until it ends, or choose another --out."
            ) from None
        yield


class FolderRows(Rows):
    """Lines in `results.jsonl`, each written when its image is done. A folder may hold several runs."""

    def __init__(self, output: Output, run: str) -> None:
        super().__init__(output)
        self.path = self._out / "results.jsonl"
        self._run = run
        self._stream: IO[bytes] | None = None
        self._look()

    def _look(self) -> None:
        self._known: dict[str, tuple[str, str, str]] = {}
        """Image to name, stamp and run; no run for a failure, which is tried again."""
        self._last: dict[str, int] = {}
        """Number of the line that counts for an image: its last one."""
        self._replaced = False
        for number, (_, row) in enumerate(self._read()):
            if row is not None:
                self._note(row)
                self._last[row.image] = number

    def _tidy(self) -> None:
        """Keep the last line of each image, and drop what is none: of a killed run the last line may be half."""
        lines: dict[str, bytes] = {}
        read = 0
        for line, row in self._read():
            read += 1
            if row is not None:
                lines[row.image] = line
        if len(lines) < read:
            write_whole(self.path, b"".join(lines.values()))

    @property
    def names(self) -> Mapping[str, str]:
        """See `Rows`."""
        return {image: name for image, (name, _, _) in self._known.items()}

    def _is_done(self, job: Job) -> bool:
        return self._known.get(job.image) == (job.name, job.stamp, self._run)

    def stored(self, jobs: Collection[Job]) -> Iterator[Row]:
        """See `Rows`."""
        wanted = {job.image for job in jobs}
        for number, (_, row) in enumerate(self._read()):
            if row is not None and row.image in wanted and self._last[row.image] == number:
                yield row

    def put(self, row: Row) -> None:
        """See `Rows`."""
        self._replaced |= row.image in self._known
        name, _, done = self._known.get(row.image, ("", "", ""))
        if row.error and done:
            _discard(self._out / name)
        self._note(row)
        line = json.dumps(row.to_dict(), ensure_ascii=False) + "\n"
        try:
            if self._stream is None:
                self._stream = self.path.open("ab")
            self._stream.write(line.encode(errors="surrogatepass"))
            self._stream.flush()
        except OSError as error:
            raise _no_room(self.path, error) from None

    def _begin(self) -> None:
        self._tidy()
        self._look()

    def _finish(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._replaced:
            self._begin()

    def _note(self, row: Row) -> None:
        self._known[row.image] = (row.name, row.stamp, "" if row.error else row.run)

    def _read(self) -> Iterator[tuple[bytes, Row | None]]:
        """Each line with its row; None for a line that is none, or has no end."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            for line in stream:
                row = None
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    values = json.loads(line.decode(errors="surrogatepass"))
                    if line.endswith(b"\n"):
                        row = Row(**{name: values[name] for name in _FIELDS})
                yield line, row


class TableRows(Rows):
    """Parquet parts in `results/`, each whole or not at all. `run.json` says what the table is of.

    Args:
        output: Its folder is that of the run.
        identity: What defines the run; a folder of another one is refused.
    """

    def __init__(self, output: Output, identity: Mapping[str, Any]) -> None:
        require("tables")
        super().__init__(output)
        self.folder = self._out / "results"
        self._stamp = self._out / "run.json"
        self._identity = json.dumps({"format": 2, **identity}, indent=1, sort_keys=True) + "\n"
        self._waiting: list[Row] = []
        self._check_run()
        self._look()

    def _check_run(self) -> None:
        if self._stamp.is_file() and self._stamp.read_text(encoding="utf-8") != self._identity:
            raise ZsasError(
                f"{self._out} holds a run of other settings or models (see run.json there); choose another --out."
            )

    def _look(self) -> None:
        """What the parts hold."""
        self._parts = sorted(self.folder.glob("part-*.parquet"))
        self._known: dict[str, tuple[str, str, bool, Path]] = {}
        """Image to name, stamp, whether it is done, and its last part: only the row there counts."""
        self._replaced = False
        for part in self._parts:
            for row in _read_part(part, "image", "name", "stamp", "error"):
                self._known[row["image"]] = (row["name"], row["stamp"], not row["error"], part)
        numbers = [int(part.stem.removeprefix("part-")) for part in self._parts]
        self._number = 1 + max(numbers, default=-1)
        self._since = time.monotonic()

    def _tidy(self) -> None:
        """Take the rows out of each part that later parts have replaced."""
        import pyarrow.parquet as pq

        for part in self._parts:
            counts = [self._known[row["image"]][3] == part for row in _read_part(part, "image")]
            if not all(counts):
                write_whole(part, _bytes(pq.read_table(part).filter(counts)))

    @property
    def names(self) -> Mapping[str, str]:
        """See `Rows`."""
        return {image: known[0] for image, known in self._known.items()}

    def _is_done(self, job: Job) -> bool:
        known = self._known.get(readable(job.image))
        return known is not None and known[1:3] == (job.stamp, True)

    def stored(self, jobs: Collection[Job]) -> Iterator[Row]:
        """See `Rows`."""
        wanted = {readable(job.image): job for job in jobs}
        for part in self._parts:
            for values in _read_part(part):
                job = wanted.get(values["image"])
                if job is not None and self._known[values["image"]][3] == part:
                    yield Row(**{**values, "image": job.image, "name": job.name})

    def put(self, row: Row) -> None:
        """See `Rows`; parts are written as rows and seconds come together."""
        files = [
            self._out / self._output.folder_of(row.name),
            self._out / self._output.mask_of(row.name),
        ]
        row = dataclasses.replace(row, image=readable(row.image), name=readable(row.name))
        known = self._known.get(row.image)
        if known is not None:
            self._replaced = True
            if row.error and known[2]:
                _discard(*files)
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

    def _begin(self) -> None:
        self._check_run()
        write_whole(self._stamp, self._identity.encode())
        self._look()
        self._tidy()

    def _finish(self) -> None:
        self.flush()
        if self._replaced:
            self._look()
            self._tidy()


def _read_part(part: Path, *columns: str) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    rows: list[dict[str, Any]] = pq.read_table(part, columns=list(columns) or None).to_pylist()
    return rows


def _discard(folder: Path, *files: Path) -> None:
    """Take away what an earlier result of an image has left that fails now; its row says so, whatever stays."""
    from zsas.export import discard

    with contextlib.suppress(OSError):
        for file in files:
            file.unlink(missing_ok=True)
        discard(folder)


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
