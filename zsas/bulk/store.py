"""Where rows are kept: lines of JSON beside folders, or parts of a Parquet table. Both can be gone on with."""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import io
import json
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from zsas.bulk.jobs import Job, Output
from zsas.bulk.rows import Row
from zsas.errors import ZsasError, readable
from zsas.extras import require
from zsas.files import check_place, held, remedy, write_whole, writing

ROWS_A_PART = 256
SECONDS_A_PART = 30.0

_FIELDS = [field.name for field in dataclasses.fields(Row)]
_TEXTS = [field.name for field in dataclasses.fields(Row) if field.type == "str"]


class _Known(NamedTuple):
    """What is known of an image: its name, stamp and run ("" for a failure), and where its row stands."""

    name: str
    stamp: str
    run: str
    place: Any


class Rows(abc.ABC):
    """Rows of one output folder. Anybody may read them; the command that writes them is the only one, as a context.

    Of several rows of an image the last one counts; those before it go when the context begins and ends.

    Args:
        output: Its folder is that of the rows.
        run: Digest of settings and models.
    """

    def __init__(self, output: Output, run: str) -> None:
        assert output.folder is not None
        self._output, self._out, self._run = output, output.folder, run
        self._held = contextlib.ExitStack()
        self._look()

    @property
    def names(self) -> Mapping[str, str]:
        """Image to name of every row, so that images keep their names."""
        return {image: known.name for image, known in self._known.items()}

    def has(self, job: Job) -> bool:
        """Whether the image was examined, without an error and under the settings and models of this run.

        Files that somebody has taken away are made again.
        """
        known = self._known.get(self._key(job.image))
        return (
            known is not None
            and (known.stamp, known.run) == (job.stamp, self._run)
            and all((self._out / file).exists() for file in self._output.files_of(job.name))
        )

    def stored(self, jobs: Collection[Job]) -> Iterator[Row]:
        """The rows of some jobs that `has` said yes to."""
        wanted = {self._key(job.image): job for job in jobs}
        for values, place in self._each():
            job = wanted.get(values["image"])
            if job is not None and self._counts(values, place):
                facts = {name: values[name] for name in _FIELDS}
                yield Row(**{**facts, "image": job.image, "name": job.name})

    def put(self, row: Row) -> None:
        """Keep a row; an earlier one of the same image is dropped, and its files where the image now fails."""
        known = self._known.get(self._key(row.image))
        if known is not None:
            self._replaced = True
            if row.error and known.run:
                folder, mask = self._output.folder_of(row.name), self._output.mask_of(row.name)
                _discard(self._out / folder, self._out / mask)
        self._write(row)

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_alone(self._out))
            self._begin()
            self._tidy()
            self._held = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        with self._held:
            self._finish()
            if self._replaced:
                self._tidy()

    def _look(self) -> None:
        self._replaced = False
        self._known: dict[str, _Known] = {}
        for values, place in self._each("image", "name", "stamp", "run", "error"):
            run = "" if values["error"] else values["run"]
            self._known[values["image"]] = _Known(values["name"], values["stamp"], run, place)

    def _counts(self, values: Mapping[str, Any], place: Any) -> bool:
        return bool(self._known[values["image"]].place == place)

    @staticmethod
    def _key(image: str) -> str:
        """How an image is called in the rows."""
        return image

    @abc.abstractmethod
    def _each(self, *columns: str) -> Iterator[tuple[Mapping[str, Any], Any]]:
        """Each row with its place; these columns of it at least, all where none is named."""

    @abc.abstractmethod
    def _write(self, row: Row) -> None:
        """Add a row."""

    @abc.abstractmethod
    def _tidy(self) -> None:
        """Look again, and take away what does not count."""

    def _begin(self) -> None:  # noqa: B027 - nothing for most
        """Before the first row is written."""

    @abc.abstractmethod
    def _finish(self) -> None:
        """Write what is waiting."""


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
    with _writing(output.folder):
        output.folder.mkdir(parents=True, exist_ok=True)
        if output.format == "table":
            return TableRows(output, run, identity)
        return FolderRows(output, run)


def can_hold(folder: Path) -> None:
    """Try whether an output folder takes files, before the work that they are to hold.

    Raises:
        ZsasError: If it does not, or another command writes there.
    """
    with _writing(folder):
        check_place(folder / "results.jsonl")
    with _alone(folder):
        pass


def _writing(folder: Path) -> contextlib.AbstractContextManager[None]:
    what = f"The folder {folder} cannot be made or written to"
    return writing(what, "choose another one with --out")


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
        assert output.folder is not None
        self.path = output.folder / "results.jsonl"
        self._stream: IO[bytes] | None = None
        super().__init__(output, run)

    def _lines(self) -> Iterator[tuple[bytes, Mapping[str, Any] | None]]:
        """Each line with its row; None for one that is none, or has no end: a kill may have cut the last."""
        if not self.path.is_file():
            return
        with self.path.open("rb") as stream:
            for line in stream:
                values: Any = None
                with contextlib.suppress(ValueError):
                    values = json.loads(line.decode(errors="surrogatepass"))
                good = isinstance(values, dict) and values.keys() >= {*_FIELDS}
                good = good and all(isinstance(values[name], str) for name in _TEXTS)
                yield line, values if good and line.endswith(b"\n") else None

    def _each(self, *columns: str) -> Iterator[tuple[Mapping[str, Any], int]]:
        for number, (_, values) in enumerate(self._lines()):
            if values is not None:
                yield values, number

    def _write(self, row: Row) -> None:
        line = json.dumps(row.to_dict(), ensure_ascii=False) + "\n"
        try:
            if self._stream is None:
                self._stream = self.path.open("ab")
            self._stream.write(line.encode(errors="surrogatepass"))
            self._stream.flush()
        except OSError as error:
            raise _no_room(self.path, error) from None

    def _tidy(self) -> None:
        last: dict[str, bytes] = {}
        read = 0
        for line, values in self._lines():
            read += 1
            if values is not None:
                last.pop(values["image"], None)
                last[values["image"]] = line
        if len(last) < read:
            write_whole(self.path, b"".join(last.values()))
        self._look()

    def _finish(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


class TableRows(Rows):
    """Parquet parts in `results/`, each whole or not at all. `run.json` says what the table is of.

    Args:
        output: Its folder is that of the run.
        run: Digest of settings and models.
        identity: What defines the run; a folder of another one is refused.
    """

    def __init__(self, output: Output, run: str, identity: Mapping[str, Any]) -> None:
        require("tables")
        assert output.folder is not None
        self.folder = output.folder / "results"
        self._stamp = output.folder / "run.json"
        self._identity = json.dumps({"format": 2, **identity}, indent=1, sort_keys=True) + "\n"
        self._waiting: list[Row] = []
        self._check_run()
        super().__init__(output, run)

    def _check_run(self) -> None:
        if self._stamp.is_file() and self._stamp.read_text(encoding="utf-8") != self._identity:
            raise ZsasError(
                f"{self._stamp.parent} holds a run of other settings or models (see run.json there); choose another "
                "--out."
            )

    @staticmethod
    def _key(image: str) -> str:
        return readable(image)

    @property
    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _each(self, *columns: str) -> Iterator[tuple[Mapping[str, Any], Path]]:
        import pyarrow.parquet as pq

        for part in self._parts:
            for values in pq.read_table(part, columns=list(columns) or None).to_pylist():
                yield values, part

    def _begin(self) -> None:
        self._check_run()
        write_whole(self._stamp, self._identity.encode())
        numbers = [int(part.stem.removeprefix("part-")) for part in self._parts]
        self._number = 1 + max(numbers, default=-1)
        self._since = time.monotonic()

    def _write(self, row: Row) -> None:
        """Parts are written as rows and seconds come together."""
        row = dataclasses.replace(row, image=readable(row.image), name=readable(row.name))
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

    def _tidy(self) -> None:
        import pyarrow.parquet as pq

        self._look()
        for part in self._parts:
            images = pq.read_table(part, columns=["image"])["image"].to_pylist()
            counts = [self._known[image].place == part for image in images]
            if not all(counts):
                write_whole(part, _bytes(pq.read_table(part).filter(counts)))

    def _finish(self) -> None:
        self.flush()


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
