"""One walk over many images, and one row for each."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from zsas import __version__
from zsas.bulk.jobs import Job, Output, Reading, list_images, name_jobs, stamp_of
from zsas.bulk.rows import Row
from zsas.bulk.store import Rows, can_hold, open_rows
from zsas.cancellation import Cancelled
from zsas.errors import ZsasError, reason
from zsas.extras import require
from zsas.files import write_whole, writing
from zsas.images import (
    ReadImage,
    ReadOptions,
    Scan,
    find_images,
    read_image,
)
from zsas.localizers.mutual import check_count, seconds_to_compare
from zsas.models import ModelChoice, Models
from zsas.settings import Settings
from zsas.systems import system_named

if TYPE_CHECKING:
    from zsas.localizers.mutual import Batch
    from zsas.localizers.references import References
    from zsas.part import Part
    from zsas.region import RegionOfInterest
    from zsas.result import Result
    from zsas.segmenter import Segmenter


Item = TypeVar("Item")
Answer = TypeVar("Answer")
Image = TypeVar("Image")
"""An image as it was read: pixels, or a `ReadImage`."""


@dataclass(frozen=True)
class Work:
    """The images of a run, and which of them are still to be examined.

    Attributes:
        jobs: All images, in order.
        left: Images for which no earlier call with the same settings and models has left a row.
        rows: Storage of the rows; None if nothing is written.
        run: Digest of settings and models.
        scan: Files in the named folders that are no images of this run.
    """

    jobs: list[Job]
    left: list[Job]
    rows: Rows | None
    run: str
    scan: Scan

    def __iter__(self) -> Iterator[Row]:
        """The rows of images that earlier calls with the same settings and models have examined."""
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
    """Load the models of a choice that the system in the settings needs.

    Raises:
        ZsasError: If a model cannot be had or weights do not fit.
    """
    # Without weights or a device to check, a missing model can be reported before torch is imported.
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
    mutual: bool = False,
    part: Part | None = None,
) -> Work:
    """List the images, and find out which of them an earlier call has examined; no model is loaded.

    Args:
        sources: Files, folders and addresses; see `zsas.bulk.jobs.list_images`.
        output: Where results go.
        settings: Settings of the whole run.
        choice: The models; the device may change between calls.
        reading: Pages and bits to read.
        references: Files and folders of reference images.
        mutual: Whether the images are compared with each other; one more image then makes another run.
        part: Profile of the part.

    Raises:
        ZsasError: If there is no image or too few to compare, or the folder cannot be written to or holds a table of
            another run.
    """
    reading = reading or Reading()
    model = replace(choice.named(), device=None).to_dict()
    identity: dict[str, Any] = {"zsas": __version__, "settings": settings.to_dict(), "model": model}
    identity |= reading.to_dict()
    if references:
        identity["references"] = [f"{path} {stamp_of(path)}" for path in find_images(references)]
    if part is not None:
        # Its name and date change no result, and its settings and models are in the identity already.
        facts = part.to_dict()
        kept = {key: facts[key] for key in ("region", "scale", "weights")}
        references_key = part.references.key if part.references else ""
        identity["part"] = {**kept, "references": references_key}
    # Sources are listed before the output folder is made, so that a mistyped source leaves no folder behind.
    scan = Scan()
    found = list_images(sources, output, scan)
    if mutual:
        check_count(len(found) if reading.page != "all" else len(name_jobs(found, {}, reading)))
        identity["batch"] = [f"{image} {stamp}" for image, (_, stamp) in found.items()]
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    if output.folder is None:
        jobs = name_jobs(found, {}, reading)
        return Work(jobs, jobs, None, digest, scan)
    if output.format == "table":
        require("tables")
    rows = open_rows(output, identity, digest)
    jobs = name_jobs(found, rows.names, reading)
    left = [job for job in jobs if not rows.has(job)]
    if left:  # before the models are loaded; a folder with nothing left to do is only read
        can_hold(output.folder)
    return Work(jobs, left, rows, digest, scan)


def walk(
    items: Iterable[Item],
    read: Callable[[Item], Image],
    decide: Callable[[list[Image]], list[Answer]],
    batch: int = 1,
) -> Iterator[tuple[Item, Answer | str]]:
    """Read and decide many images; yields each item with its result, or with a sentence that says why there is none.

    The next batch is read while the present one is decided. If a batch fails, its images are tried one by one, so that
    one bad image does not fail the others.

    Args:
        items: Anything that `read` understands, in order.
        read: Gives the image of an item; a `ZsasError` becomes the item's sentence.
        decide: Gives the results of several images, in their order.
        batch: How many images are decided together.

    Raises:
        Cancelled: If a step is cancelled; see `zsas.cancellation`.
    """
    for group in _read_ahead(items, read, batch):
        good = [image for _, image in group if not isinstance(image, str)]
        answers: Iterator[Answer | str] = iter(_decide(good, decide) if good else ())
        for item, image in group:
            yield item, image if isinstance(image, str) else next(answers)


def _read_ahead(
    items: Iterable[Item], read: Callable[[Item], Image], batch: int
) -> Iterator[list[tuple[Item, Image | str]]]:
    def one(item: Item) -> Image | str:
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
    images: list[Image], decide: Callable[[list[Image]], list[Answer]]
) -> list[Answer | str]:
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
    neighbours: Batch | None = None,
    part: Part | None = None,
) -> Iterator[Row]:
    """Examine images one after the other; yields the row of each after its files are written.

    Args:
        segmenter: The models.
        jobs: From `prepare`.
        settings: Settings for all images.
        output: Where files go.
        batch: How many images are encoded together.
        references: The memory of reference images.
        neighbours: The batch that the images belong to, from `compare_jobs`.
        part: Profile of the part; `references` replace its own reference images.
    """
    region = part.region if part is not None else None

    def decide(images: list[ReadImage]) -> list[Result]:
        encodings = segmenter.encode_batch(images, settings, region)
        return [
            segmenter.segment(one, settings, references=references, batch=neighbours, part=part)
            for one in encodings
        ]

    for job, answer in walk(jobs, read_job, decide, batch):
        yield (
            Row.failed(job, _named(answer, job))
            if isinstance(answer, str)
            else saved(job, answer, output)
        )


def compare_jobs(
    segmenter: Segmenter,
    jobs: Iterable[Job],
    settings: Settings,
    batch: int = 1,
    region: RegionOfInterest | None = None,
    expect: Callable[[int, float], None] = lambda images, seconds: None,
) -> Batch:
    """Compare the images of some jobs with each other; those that cannot be read are left out.

    Args:
        segmenter: The models; `examine` uses the encodings again if the segmenter's cache still holds them.
        jobs: From `prepare`.
        settings: Settings for all images.
        batch: How many images are encoded together.
        region: Region of interest on all of them.
        expect: Called before the comparison with the number of images and the estimated seconds.

    Raises:
        ZsasError: If too few can be read, or the system has no patch features to compare.
    """
    steps = walk(jobs, read_job, lambda images: segmenter.gather(images, settings, region), batch)
    answers = [answer for _, answer in steps]
    cells = [one for one in answers if not isinstance(one, str)]
    if not cells and answers:
        raise ZsasError(str(answers[0]))
    expect(len(cells), seconds_to_compare(cells))
    return segmenter.compare_batch(cells, settings, region)


def read_job(job: Job) -> ReadImage:
    """Read the image of a job, from disk or from an address.

    Raises:
        ZsasError: If it cannot be read.
    """
    from zsas.datasets.folders import place

    return read_image(place(job.file), ReadOptions(page=job.page, bits=job.bits))


def _named(sentence: str, job: Job) -> str:
    """An error sentence in which "The image" is replaced by the job's path or address."""
    return sentence.replace("The image could", f"{job.image} could", 1)


def saved(job: Job, result: Result, output: Output) -> Row:
    """Write the files of a result and return its row; the row has an error if they cannot be written."""
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

    if output.format == "folders" or output.stages:
        export.save(result, output.folder / output.folder_of(name), stages=output.stages)
    if output.format == "table":
        path = output.folder / output.mask_of(name)
        with writing(f"{path} cannot be written", "choose another --out"):
            write_whole(path, export.png(result.mask.astype("uint8") * 255))
