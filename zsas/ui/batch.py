"""Many images at once: a row for each, bad files included, and everything in one ZIP."""

from __future__ import annotations

import json
import lzma
import os
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from zsas.annotations import Annotations
from zsas.bulk import unique_names, walk
from zsas.bulk.sheet import Line, csv_bytes
from zsas.cancellation import Cancelled, raise_if_cancelled
from zsas.errors import ZsasError
from zsas.export import save
from zsas.images import ReadImage, read_image
from zsas.localizers.mutual import check_count
from zsas.result import Result
from zsas.settings import Settings
from zsas.ui import export
from zsas.ui.engine import Engine

Item = TypeVar("Item")

MAX_FILES = 500
MAX_UNPACKED = 2 * 2**30
_CHUNK = 2**20
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError),
    *(RuntimeError, NotImplementedError),  # a password, an unknown compression
)


@dataclass(frozen=True)
class Progress:
    """The state of a batch.

    Attributes:
        lines: One for each file that is done.
        total: How many files there are.
        archive: The ZIP, when all is done or the rest is not wanted any more.
        stopped: Whether files were left out because the visitor stopped it.
    """

    lines: tuple[Line, ...]
    total: int
    archive: Path | None = None
    stopped: bool = False


def unpack(
    files: Iterable[tuple[str, Path]], folder: Path, most: int = MAX_FILES
) -> list[tuple[str, Path | None, str]]:
    """The files to look at: uploads, with each ZIP replaced by what is in it.

    Args:
        files: Names and uploaded files.
        folder: Where ZIPs are unpacked, each member under a number of its own.
        most: How many files there may be.

    Returns:
        (name to show, file or None, why there is none).

    Raises:
        ZsasError: If there is nothing at all, or more than `most`.
        Cancelled: If nobody waits for it any more.
    """
    found: list[tuple[str, Path | None, str]] = []
    room = MAX_UNPACKED
    for name, path in files:
        _check_count(len(found) + 1, most)
        if not zipfile.is_zipfile(path):
            found.append((name, path, ""))
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                members = [member for member in archive.infolist() if _is_wanted(member)]
                _check_count(len(found) + len(members), most)
                for member in members:
                    target = folder / f"{len(found):04d}"
                    size, trouble = _extract(archive, Path(name).name, member, target, room)
                    room -= size
                    found.append((member.filename, None if trouble else target, trouble))
        except _DAMAGE:
            trouble = f"{Path(name).name} is a ZIP that cannot be unpacked; pack it again."
            found.append((name, None, trouble))
    if not found:
        raise ZsasError("There are no files in this batch; choose photos, or a ZIP of photos.")
    return found


def _check_count(files: int, most: int) -> None:
    if files > most:
        raise ZsasError(f"A batch holds at most {most} files; split it, or use the command line.")


def _is_wanted(member: zipfile.ZipInfo) -> bool:
    path = Path(member.filename)
    return not (member.is_dir() or path.name.startswith(".") or "__MACOSX" in member.filename)


def _extract(
    archive: zipfile.ZipFile, packed: str, member: zipfile.ZipInfo, target: Path, room: int
) -> tuple[int, str]:
    """Unpack one member, whatever size it claims to have: how many bytes came, and why it failed, "" if it did not."""
    size, trouble = 0, ""
    try:
        with archive.open(member) as source, target.open("wb") as file:
            while chunk := source.read(_CHUNK):
                raise_if_cancelled()
                size += len(chunk)
                if size > room:
                    trouble = f"{packed} unpacks to more than 2 GB; split it."
                    break
                file.write(chunk)
    except _DAMAGE:
        name = Path(member.filename).name
        trouble = f"{name} cannot be unpacked from {packed}; pack it again, without a password."
    if trouble:
        target.unlink(missing_ok=True)
    return size, trouble


def compared(
    engine: Engine,
    preset: str,
    settings: Settings,
    region: Any,
    items: Iterable[Item],
    read: Callable[[Item], ReadImage],
    then: Callable[[Any], None],
) -> Iterator[Item]:
    """Compare the images of a lot with each other, each of which waits for its turn; yields each that was looked at.

    Args:
        engine: Looks.
        preset: Models.
        settings: Of all.
        region: Where to look on all of them; None for everywhere.
        items: Whatever `read` understands; those that cannot be read are left out.
        read: Gives an image.
        then: Told what they give, a `Batch`, at the end.

    Raises:
        ZsasError: If there are too few or too many images, or the system cannot compare them.
    """

    def gather(images: list[ReadImage]) -> list[Any]:
        return [engine.gather(preset, image, settings, region) for image in images]

    listed = list(items)
    check_count(len(listed))
    cells: list[Any] = []
    refused = ""
    for item, answer in walk(listed, read, gather):
        if isinstance(answer, str):
            refused = refused or answer
        else:
            cells.append(answer)
        yield item
    if refused and not cells:
        raise ZsasError(refused)
    then(engine.compare_batch(preset, cells, settings, region))


def run(
    engine: Engine,
    paths: Sequence[str | Path],
    preset: str,
    settings: Settings,
    *,
    references: Any = None,
    part: Any = None,
    mutual: bool = False,
) -> Iterator[Progress]:
    """Decide on each file in turn; a file that fails becomes a line that says why.

    Good images that are remembered, and what belongs to the part, hold for all of them. With `mutual` they are compared
    with each other first.
    When it is stopped (:mod:`zsas.cancellation`), what was finished by then is packed all the same.

    Raises:
        ZsasError: If there is nothing to do or the preset cannot be loaded.
    """
    engine.segmenter(preset)
    folder = export.new_folder()
    inside = folder / "results"
    inside.mkdir()
    annotations = Annotations()
    lines: list[Line] = []
    stopped = False
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as unpacked:
        try:
            files = unpack(((Path(path).name, Path(path)) for path in paths), Path(unpacked))
        except Cancelled:
            yield Progress((), len(paths), stopped=True)
            return
        yield Progress((), len(files))
        stems = unique_names([_plain_name(name) for name, _, _ in files])
        jobs = list(zip(files, stems, strict=True))
        found: list[Any] = []
        region = part.region if part is not None else None
        try:
            if mutual:
                for _ in compared(engine, preset, settings, region, jobs, _read, found.append):
                    os.utime(folder)
            beside = (references, found[0] if found else None)
            steps = walk(jobs, _read, decider(engine, preset, settings, beside, part))
            for ((name, path, _), stem), answer in steps:
                if isinstance(answer, str):
                    line = Line(name, error=answer.replace(str(path), Path(name).name))
                else:
                    seconds = sum(answer.timings.values())
                    line = line_of(name, answer, stem, seconds)
                    save(answer, inside, stem=stem)
                    annotations.add(name, answer, stem)
                lines.append(line)
                os.utime(folder)  # else a batch of more than an hour would look forgotten
                yield Progress(tuple(lines), len(files))
        except Cancelled:
            stopped = True
    write_summary(inside, lines, annotations)
    archive = export.zip_folder(inside, folder / "zsas-results.zip") if lines else None
    yield Progress(tuple(lines), len(files), archive, stopped)


def _plain_name(name: str) -> str:
    path = Path(name)
    return f"{export.stem_of(path.stem)}{path.suffix}"


def _read(job: tuple[tuple[str, Path | None, str], str]) -> ReadImage:
    raise_if_cancelled()
    (_, path, trouble), _ = job
    if path is None:
        raise ZsasError(trouble)
    return read_image(path)


def decider(
    engine: Engine, preset: str, settings: Settings, beside: tuple[Any, Any], part: Any
) -> Callable[[list[ReadImage]], list[Result]]:
    """How an engine decides on images of a lot, beside good images and the batch they belong to."""

    def decide(images: list[ReadImage]) -> list[Result]:
        # Not kept in the engine: nobody comes back to it, and the images that others look at would have to go.
        encodings = [engine.encode_apart(preset, image, settings, "batch") for image in images]
        return [
            engine.decide(preset, encoding, settings, (), *beside, part=part)
            for encoding in encodings
        ]

    return decide


def line_of(name: str, result: Result, stem: str, seconds: float) -> Line:
    """What the table says of an image; regions that do not count are not in the mask."""
    kept = [region for region in result.regions if region.counts]
    pixels = sum(region.area for region in kept)
    return Line(
        name,
        result.verdict,
        round(result.image_score, 4),
        len(kept),
        pixels,
        round(seconds, 3),
        saved_as=stem,
        decided_by=result.decided_by,
        anomalous_mm2=result.scale.area_mm2(pixels),
    )


def write_summary(folder: Path, lines: Sequence[Line], annotations: Annotations) -> None:
    """Write `results.csv`, `results.json`, `coco.json` and `label_studio.json`."""
    (folder / "results.csv").write_bytes(csv_bytes(lines))
    for name, value in (
        ("results.json", [line.to_dict() for line in lines]),
        ("coco.json", annotations.coco()),
        ("label_studio.json", annotations.label_studio()),
    ):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
