"""Many images: which they are, what their files are called, one walk over them, and one row for each.

The shell, the workers of a cluster and the page's batch all go through here, so an image has the same row and the
same names wherever it was examined, and a file that cannot be read is a row with a sentence everywhere.
"""

from __future__ import annotations

import collections
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from zsas.cancellation import Cancelled
from zsas.errors import ZsasError, reason
from zsas.extras import require
from zsas.images import (
    SUFFIXES,
    LeftOut,
    ReadImage,
    ReadOptions,
    Scan,
    find_images,
    is_result,
    read_image,
    scan_images,
)
from zsas.models import ModelChoice, Models
from zsas.settings import Settings
from zsas.systems import system_named

if TYPE_CHECKING:
    from zsas.localizers.references import References
    from zsas.result import Result
    from zsas.rows import Rows
    from zsas.segmenter import Segmenter


Format = Literal["folders", "table"]
Item = TypeVar("Item")
Photo = TypeVar("Photo")
"""An image as it was read: pixels, or a `ReadImage`."""

_OWN_FILES = ("result.json", "results.jsonl", "run.json")


@dataclass(frozen=True)
class Output:
    """Where results go.

    Attributes:
        folder: None where only rows are wanted.
        format: "folders" writes a folder for each image and `results.jsonl`, "table" writes `masks/` and
            `results/*.parquet`.
        stages: Write a picture of every stage as well.
    """

    folder: Path | None = None
    format: Format = "folders"
    stages: bool = False

    def mask_of(self, name: str) -> str:
        """The file of a mask, relative to `folder`."""
        return f"masks/{name}.png" if self.format == "table" else f"{name}/mask.png"


@dataclass(frozen=True)
class Job:
    """One image to be examined.

    Attributes:
        image: Path or address; with `#page=3` behind it where pages are images of their own.
        name: What its files are called below the output folder; no other image has it, whatever the case of letters.
        stamp: Size and time of the file, so that another image under the same path is noticed; "" where unknown.
        page: See `Reading`.
        bits: See `Reading`.
    """

    image: str
    name: str
    stamp: str = ""
    page: int = 0
    bits: int = 0

    @property
    def file(self) -> str:
        """The path or address without the page."""
        return self.image.removesuffix(_page_mark(self.page)) if self.page else self.image


def _page_mark(page: int) -> str:
    return f"#page={page}"


@dataclass(frozen=True)
class Reading:
    """What files are read how; see `zsas.images.ReadOptions`.

    Attributes:
        page: The page or frame, from 1; 0 for the first; "all" for each, as an image of its own.
        bits: Bits that are used of values of more than 8; 0 for what the file says.
    """

    page: int | Literal["all"] = 0
    bits: int = 0

    def to_dict(self) -> dict[str, Any]:
        """What stands in a run's identity; nothing where files are read as usual."""
        return {} if self == Reading() else {"reading": asdict(self)}


@dataclass(frozen=True)
class Row:
    """What became of one image: JSON types alone, the same in every format.

    Attributes:
        image, name, stamp: As in its `Job`.
        run: Digest of settings and models; see `Output`.
        mask: File of the mask below the output folder; "" where there is none.
        error: Why it failed, in a sentence; "" if it did not.
        anomalous, image_score, width, height: From the result; None where it failed.
        result: `Result.to_dict` as JSON; "" where it failed.
    """

    image: str
    name: str
    stamp: str = ""
    run: str = ""
    mask: str = ""
    error: str = ""
    anomalous: bool | None = None
    image_score: float | None = None
    width: int | None = None
    height: int | None = None
    result: str = ""

    @classmethod
    def failed(cls, job: Job, why: str) -> Row:
        """The row of an image that could not be examined."""
        return cls(job.image, job.name, job.stamp, error=why)

    @classmethod
    def of(cls, job: Job, result: Result, mask: str) -> Row:
        """The row of an examined image."""
        facts = result.to_dict()
        text = json.dumps(facts, ensure_ascii=False, allow_nan=False)
        known = {name: facts[name] for name in ("anomalous", "image_score", "width", "height")}
        return cls(job.image, job.name, job.stamp, mask=mask, result=text, **known)

    def to_dict(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong, for a machine that knows no third answer; a failed image is not counted here."""
        return bool(self.error) or bool(json.loads(self.result).get("ok", not self.anomalous))

    @property
    def sentence(self) -> str:
        """The verdict in a sentence, or the error."""
        return self.error or json.loads(self.result)["sentence"]

    def shown(self) -> dict[str, Any]:
        """As it is printed: image, name, mask, and the entries of the result or the error."""
        if self.error:
            return {"image": self.image, "name": self.name, "error": self.error}
        where = {"mask": self.mask} if self.mask else {}
        return {"image": self.image, "name": self.name, **where, **json.loads(self.result)}


def unique_names(wanted: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A name for each file, without its suffix, none like another one's whatever the case of letters.

    Names that differ only by their suffix get it in the name ("gear_png", "gear_jpg"); a number follows where names are
    equal even so. Case is ignored because some file systems do not tell Gear from gear.

    Args:
        wanted: Relative paths with suffixes, folders separated by "/".
        taken: Names that others have already.

    >>> unique_names(["a/gear.png", "gear.png", "gear.jpg", "gear.jpg"])
    ['a/gear', 'gear_png', 'gear_jpg', 'gear_jpg_2']
    """
    paths = [PurePosixPath(name) for name in wanted]
    suffixes: dict[str, set[str]] = collections.defaultdict(set)
    for path in paths:
        suffixes[str(path.with_suffix("")).casefold()].add(path.suffix.casefold())
    used = {name.casefold() for name in taken}
    names = []
    for path in paths:
        stem = path.with_suffix("")
        if len(suffixes[str(stem).casefold()]) > 1:
            stem = path.with_name(path.name.replace(".", "_"))
        name, number = stem, 2
        while str(name).casefold() in used:
            name, number = stem.with_name(f"{stem.name}_{number}"), number + 1
        used.add(str(name).casefold())
        names.append(str(name))
    return names


def plan(
    sources: Sequence[str], output: Output, known: Mapping[str, str] | None = None
) -> list[Job]:
    """All images that files, folders and addresses name.

    The folders below a named folder are kept in the names; with several named folders each adds its own. Results are
    left out of a named folder: pictures beside a `result.json`, and what lies in the output's own folder or subfolders.

    Args:
        sources: Files and folders, local or at addresses that fsspec knows (s3://, gs://, hf://).
        output: Where results go; its folder is not read.
        known: Image to name of earlier calls for the same folder; they keep their names.

    Raises:
        ZsasError: If there is no image at all, or a folder or address cannot be listed.
    """
    return _jobs(_listed(sources, output, Scan()), known or {}, Reading())


def _listed(sources: Sequence[str], output: Output, scan: Scan) -> dict[str, tuple[str, str]]:
    """Image to relative name and stamp; what is left out goes to `scan`."""
    several = sum("://" in source or os.path.isdir(source) for source in sources) > 1
    found: dict[str, tuple[str, str]] = {}
    for source in sources:
        listed = _far(source, scan) if "://" in source else _near(source, output, scan)
        for image, name, stamp, is_folder in listed:
            if is_folder and several:
                name = f"{_last_part(source)}/{name}"
            found.setdefault(image, (name, stamp))
    if not found:
        raise ZsasError(
            f"There is no image in {', '.join(sources)}; name an image, or a folder with images."
        )
    return found


def _jobs(
    found: Mapping[str, tuple[str, str]], known: Mapping[str, str], reading: Reading
) -> list[Job]:
    if reading.page == "all":
        return _all_pages(found, known, reading)
    new = [image for image in found if image not in known]
    fresh = unique_names([found[image][0] for image in new], known.values())
    names = {**known, **dict(zip(new, fresh, strict=True))}
    return [
        Job(image, names[image], stamp, reading.page, reading.bits)
        for image, (_, stamp) in found.items()
    ]


def _all_pages(
    found: Mapping[str, tuple[str, str]], known: Mapping[str, str], reading: Reading
) -> list[Job]:
    """A job for each page of each file that has several."""
    pages: dict[str, int] = {}
    parts: dict[str, tuple[str, str]] = {}
    for image, (name, stamp) in found.items():
        number = _pages_of(image)
        for page in range(1, number + 1) if number > 1 else (0,):
            key = image + _page_mark(page) if page else image
            path = PurePosixPath(name)
            named = str(path.with_name(f"{path.stem}_p{page}{path.suffix}")) if page else name
            parts[key], pages[key] = (named, stamp), page
    jobs = _jobs(parts, known, Reading())
    return [replace(job, page=pages[job.image], bits=reading.bits) for job in jobs]


def _pages_of(image: str) -> int:
    """Pages of a file; 1 of what cannot be read, which is said when it is examined."""
    from zsas.datasets.folders import place
    from zsas.images import count_pages

    try:
        return count_pages(place(image))
    except ZsasError:
        return 1


def _near(source: str, output: Output, scan: Scan) -> Iterator[tuple[str, str, str, bool]]:
    """(path, relative name, stamp, whether the source is a folder) of files and folders on disk."""
    root = Path(os.path.expanduser(source))
    is_folder = os.path.isdir(root)
    ours = _own_folders(root, output) if is_folder else []
    below = scan_images([root])

    def is_ours(path: Path) -> bool:
        written = path.name in _OWN_FILES or is_result(path)
        return is_folder and (written or any(path.resolve().is_relative_to(o) for o in ours))

    scan.left_out += [each for each in below.left_out if not is_ours(each.path)]
    for path in below.images:
        if is_ours(path):
            continue
        name = path.relative_to(root).as_posix() if is_folder else path.name
        yield str(path), name, _stamp(path), is_folder


def _own_folders(root: Path, output: Output) -> list[Path]:
    """Folders below a named one that hold nothing but our own pictures."""
    if output.folder is None:
        return []
    out = output.folder.resolve()
    if root.resolve() in out.parents:
        return [out]
    return (
        [out / name for name in ("masks", "stages", "results")] if output.format == "table" else []
    )


def _far(source: str, scan: Scan) -> Iterator[tuple[str, str, str, bool]]:
    require("tables")
    import fsspec

    try:
        system, root = fsspec.core.url_to_fs(source)
        is_file = system.isfile(root)
        entries = {root: system.info(root)} if is_file else system.find(root, detail=True)
    except (OSError, ImportError, ValueError) as error:
        raise ZsasError(f"{source} cannot be listed ({reason(error)}).") from None
    for path, facts in sorted(entries.items()):
        if not path.lower().endswith(SUFFIXES):
            scan.left_out.append(LeftOut(Path(path), "no images"))
        else:
            name = path.removeprefix(root).strip("/") or PurePosixPath(path).name
            marks = (facts.get(key) for key in ("size", "ETag", "mtime", "LastModified"))
            stamp = "-".join(str(mark) for mark in marks if mark is not None)
            yield system.unstrip_protocol(path), name, stamp, not is_file


def _last_part(source: str) -> str:
    if "://" in source:
        return source.rstrip("/").rsplit("/", 1)[-1]
    return Path(os.path.expanduser(source)).resolve().name


def _stamp(path: Path) -> str:
    try:
        facts = path.stat()
    except OSError:
        return ""
    return f"{facts.st_size}-{facts.st_mtime_ns}"


@dataclass(frozen=True)
class Work:
    """What a command has to do.

    Attributes:
        jobs: All images, in order.
        left: Those without a row of this run.
        rows: Where rows are kept; None where nothing is written.
        run: Digest of settings and models.
        scan: What the named folders hold beside.
    """

    jobs: list[Job]
    left: list[Job]
    rows: Rows | None
    run: str
    scan: Scan

    def __iter__(self) -> Iterator[Row]:
        """The rows that earlier calls with the same settings and models have left."""
        if self.rows is not None and len(self.left) < len(self.jobs):
            left = {job.image for job in self.left}
            yield from self.rows.stored([job for job in self.jobs if job.image not in left])

    def keep(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Store each new row, and pass it on."""
        if self.rows is None:
            yield from rows
            return
        with self.rows:
            for row in rows:
                row = replace(row, run=self.run)
                self.rows.put(row)
                yield row


def load(choice: ModelChoice, settings: Settings, cache_bytes: int) -> Segmenter:
    """The segmenter of a choice, with the models that the system of some settings needs.

    Raises:
        ZsasError: If a model cannot be had or weights do not fit.
    """
    # A missing model is said at once, without torch; weights and a device are looked at first, with it.
    if not (choice.weights or choice.device):
        system = system_named(settings.system, refiner=settings.refiner)
        Models(choice).fetch_for(system.roles, system.localizers)
    from zsas.segmenter import Segmenter

    return Segmenter.from_choice(choice, settings=settings, cache_bytes=cache_bytes)


def prepare(
    sources: Sequence[str],
    output: Output,
    settings: Settings,
    choice: ModelChoice,
    reading: Reading | None = None,
    references: Sequence[str] = (),
) -> Work:
    """List the images and find what an earlier call has done; no model is loaded.

    Args:
        sources: As for `plan`.
        output: Where results go.
        settings: Of the whole run.
        choice: The models; on which device they run may change between calls.
        reading: Pages and bits.
        references: Files and folders of good images.

    Raises:
        ZsasError: If there is no image, or the folder cannot be written to or holds a table of another run.
    """
    reading = reading or Reading()
    model = replace(choice.named(), device=None).to_dict()
    identity = {"settings": settings.to_dict(), "model": model, **reading.to_dict()}
    if references:
        identity["references"] = [f"{path} {_stamp(path)}" for path in find_images(references)]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    # Listed before the folder is touched: a mistyped source leaves nothing behind.
    scan = Scan()
    found = _listed(sources, output, scan)
    if output.folder is None:
        jobs = _jobs(found, {}, reading)
        return Work(jobs, jobs, None, digest, scan)
    if output.format == "table":
        require("tables")
    from zsas.rows import open_rows

    rows = open_rows(output, identity, digest)
    jobs = _jobs(found, rows.names, reading)
    return Work(jobs, [job for job in jobs if not rows.has(job)], rows, digest, scan)


def walk(
    items: Iterable[Item],
    read: Callable[[Item], Photo],
    decide: Callable[[list[Photo]], list[Result]],
    batch: int = 1,
) -> Iterator[tuple[Item, Result | str]]:
    """Each item with its result, or with the sentence that says why there is none.

    The next batch is read while the present one is decided. A batch that fails is taken image by image, so that one
    image's fault takes no other along.

    Args:
        items: Anything that `read` understands, in order.
        read: Gives the image; a `ZsasError` becomes the item's sentence.
        decide: Results of some images, in their order.
        batch: Images decided together.

    Raises:
        Cancelled: If a step is cancelled; see `zsas.cancellation`.
    """
    for group in _read_ahead(items, read, batch):
        good = [image for _, image in group if not isinstance(image, str)]
        answers = iter(_decide(good, decide) if good else ())
        for item, image in group:
            yield item, image if isinstance(image, str) else next(answers)


def _read_ahead(
    items: Iterable[Item], read: Callable[[Item], Photo], batch: int
) -> Iterator[list[tuple[Item, Photo | str]]]:
    def one(item: Item) -> Photo | str:
        try:
            return read(item)
        except Cancelled:
            raise
        except ZsasError as error:
            return str(error)
        except Exception as error:  # one image must not stop the rest
            return f"The image could not be read ({type(error).__name__}: {reason(error)})."

    waiting = iter(items)
    if batch == 1:
        for item in waiting:
            yield [(item, one(item))]
        return
    with ThreadPoolExecutor(min(8, batch)) as readers:
        ahead = [(item, readers.submit(one, item)) for item in itertools.islice(waiting, batch)]
        while ahead:
            present = [(item, image.result()) for item, image in ahead]
            ahead = [(item, readers.submit(one, item)) for item in itertools.islice(waiting, batch)]
            yield present


def _decide(
    images: list[Photo], decide: Callable[[list[Photo]], list[Result]]
) -> list[Result | str]:
    try:
        return list(decide(images))
    except Cancelled:
        raise
    except Exception as error:  # too much for one batch, or one image's fault
        if len(images) > 1:
            return [answer for image in images for answer in _decide([image], decide)]
        if isinstance(error, ZsasError):
            return [str(error)]
        return [f"The image could not be segmented ({type(error).__name__}: {reason(error)})."]


def examine(
    segmenter: Segmenter,
    jobs: Iterable[Job],
    settings: Settings,
    output: Output,
    batch: int = 1,
    references: References | None = None,
) -> Iterator[Row]:
    """A row for each job, its files written first.

    Args:
        segmenter: The models.
        jobs: From `plan`.
        settings: Of all images.
        output: Where files go.
        batch: Images encoded together.
        references: Images of good parts, remembered.
    """

    def decide(images: list[ReadImage]) -> list[Result]:
        encodings = segmenter.encode_batch(images, settings)
        return [segmenter.segment(one, settings, references=references) for one in encodings]

    for job, answer in walk(jobs, read_job, decide, batch):
        yield (
            Row.failed(job, _named(answer, job))
            if isinstance(answer, str)
            else _saved(job, answer, output)
        )


def read_job(job: Job) -> ReadImage:
    """The image of a job, on disk or at an address.

    Raises:
        ZsasError: If it cannot be had.
    """
    from zsas.datasets.folders import place

    return read_image(place(job.file), ReadOptions(page=job.page, bits=job.bits))


def _named(sentence: str, job: Job) -> str:
    """Sentences about an image without a name get the job's."""
    return sentence.replace("The image could", f"{job.image} could", 1)


def _saved(job: Job, result: Result, output: Output) -> Row:
    try:
        save(result, job.name, output)
    except ZsasError as error:
        return Row.failed(job, str(error))
    mask = output.mask_of(job.name) if output.folder is not None else ""
    return Row.of(job, result, mask)


def save(result: Result, name: str, output: Output) -> None:
    """Write the files of one result, whole or not at all.

    Raises:
        ZsasError: If they cannot be written.
    """
    if output.folder is None:
        return
    from zsas import export

    if output.format == "folders":
        export.save(result, output.folder / name, stages=output.stages)
        return
    from zsas.files import write_whole

    path = output.folder / output.mask_of(name)
    try:
        write_whole(path, export.png(result.mask.astype("uint8") * 255))
    except OSError as error:
        raise ZsasError(
            f"{path} cannot be written ({error.strerror}); choose another --out, or make room there."
        ) from None
    if output.stages:
        export.save(result, output.folder / "stages" / name, stages=True)
