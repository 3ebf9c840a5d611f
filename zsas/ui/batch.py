"""Many photos at once: a row for each, bad files included, and everything in one ZIP."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from zsas.errors import ZsasError
from zsas.images import load_image
from zsas.result import Result
from zsas.settings import Settings
from zsas.stopping import Stopped, heed
from zsas.ui import export
from zsas.ui.session import Workshop

MAX_FILES = 500
MAX_UNPACKED = 2 * 2**30
COLUMNS = ("file", "verdict", "score", "regions", "anomalous_px", "seconds", "error")


@dataclass(frozen=True)
class Line:
    """What became of one file.

    Attributes:
        file: Its name, as the visitor gave it.
        result: The decision, or None if it failed; its arrays are dropped once they are saved.
        error: Why it failed, "" if it did not.
    """

    file: str
    verdict: str = ""
    score: float | None = None
    regions: int = 0
    anomalous_px: int = 0
    seconds: float = 0.0
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        """As JSON types, with the names of `COLUMNS`."""
        return {name: getattr(self, name) for name in COLUMNS}


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


def unpack(paths: Sequence[str | Path], folder: Path) -> list[tuple[str, Path | None, str]]:
    """The files to look at: uploads, with each ZIP replaced by what is in it.

    Args:
        paths: Uploaded files.
        folder: Where ZIPs are unpacked, each member under a number of its own.

    Returns:
        (name to show, file or None, why there is none).

    Raises:
        ZsasError: If there is nothing at all, or more than `MAX_FILES`.
    """
    found: list[tuple[str, Path | None, str]] = []
    room = MAX_UNPACKED
    for path in map(Path, paths):
        if not zipfile.is_zipfile(path):
            found.append((path.name, path, ""))
            continue
        try:
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    name = member.filename
                    if (
                        member.is_dir()
                        or Path(name).name.startswith((".", "__MACOSX"))
                        or "__MACOSX" in name
                    ):
                        continue
                    if len(found) >= MAX_FILES:
                        break
                    room -= member.file_size
                    if room < 0:
                        found.append(
                            (name, None, f"{path.name} unpacks to more than 2 GB; split it.")
                        )
                        break
                    target = folder / f"{len(found):04d}-{export.stem_of(Path(name).stem)}"
                    with archive.open(member) as source, target.open("wb") as file:
                        file.write(source.read(member.file_size + 1))
                    found.append((name, target, ""))
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError):
            found.append(
                (path.name, None, f"{path.name} is a ZIP that cannot be unpacked; pack it again.")
            )
    if not found:
        raise ZsasError("There are no files in this batch; choose photos, or a ZIP of photos.")
    if len(found) > MAX_FILES or len(paths) > MAX_FILES:
        raise ZsasError(
            f"A batch holds at most {MAX_FILES} files; split it, or use the command line."
        )
    return found


def run(
    workshop: Workshop, paths: Sequence[str | Path], preset: str, settings: Settings
) -> Iterator[Progress]:
    """Decide on each file in turn; a file that fails becomes a line that says why.

    When it is stopped (:mod:`zsas.stopping`), what was finished by then is packed all the same.

    Raises:
        ZsasError: If there is nothing to do or the preset cannot be loaded.
    """
    workshop.segmenter(preset)
    folder = export.new_folder()
    inside = folder / "results"
    inside.mkdir()
    files = unpack(paths, _made(folder / "unpacked"))
    coco = Coco()
    lines: list[Line] = []
    yield Progress((), len(files))
    stems: set[str] = set()
    stopped = False
    for name, path, trouble in files:
        try:
            heed()
            line, result = (
                (Line(name, error=trouble), None)
                if path is None
                else _one(workshop, name, path, preset, settings)
            )
        except Stopped:
            stopped = True
            break
        if result is not None:
            stem = _unused(export.stem_of(Path(name).stem), stems)
            result.save(inside, stem=stem)
            coco.add(name, result)
        lines.append(line)
        yield Progress(tuple(lines), len(files))
    _write_summary(inside, lines, coco)
    archive = export.zip_folder(inside, folder / "zsas-results.zip") if lines else None
    yield Progress(tuple(lines), len(files), archive, stopped)


def _one(
    workshop: Workshop, name: str, path: Path, preset: str, settings: Settings
) -> tuple[Line, Result | None]:
    try:
        image = load_image(path)
        key = workshop.keep_photo(image)
        result = workshop.decide(preset, workshop.encode(preset, key, settings), settings)
    except ZsasError as error:
        return Line(name, error=str(error).replace(str(path), Path(name).name)), None
    line = Line(
        name,
        "anomalous" if result.anomalous else "normal",
        round(result.image_score, 4),
        len(result.regions),
        int(result.mask.sum()),
        round(sum(result.timings.values()), 3),
    )
    return line, result


class Coco:
    """Annotations in COCO's format, one for each region."""

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, name: str, result: Result) -> None:
        """Add one photo and its regions."""
        height, width = result.mask.shape
        image = len(self._images) + 1
        self._images.append({"id": image, "file_name": name, "width": width, "height": height})
        for region in result.regions:
            x0, y0, x1, y1 = region.box
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": region.area,
                    "segmentation": dict(region.rle),
                    "iscrowd": 0,
                    "score": round(region.score, 6),
                }
            )

    def to_dict(self) -> dict[str, Any]:
        """The whole file."""
        return {
            "images": self._images,
            "annotations": self._annotations,
            "categories": [{"id": 1, "name": "anomaly"}],
        }


def _write_summary(folder: Path, lines: Sequence[Line], coco: Coco) -> None:
    with (folder / "results.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        # A leading sign would make a spreadsheet run the name of a file as a formula.
        writer.writerows(
            {
                key: f"'{v}" if isinstance(v, str) and v[:1] in "=+-@" else v
                for key, v in line.to_dict().items()
            }
            for line in lines
        )
    for name, value in (
        ("results.json", [line.to_dict() for line in lines]),
        ("coco.json", coco.to_dict()),
    ):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _unused(stem: str, stems: set[str]) -> str:
    name, number = stem, 2
    while name in stems:
        name, number = f"{stem}-{number}", number + 1
    stems.add(name)
    return name


def table(progress: Progress) -> str:
    """The state of a batch as HTML: a bar, counts in words, and the table."""
    done, total = len(progress.lines), progress.total
    bad = sum(bool(line.error) for line in progress.lines)
    anomalous = sum(line.verdict == "anomalous" for line in progress.lines)
    words = f"{done} of {total} done"
    if progress.stopped or progress.archive is not None:
        share = f"Stopped: {words}" if progress.stopped else f"{total} done"
        words = (
            f"{share}: {anomalous} anomalous, {done - anomalous - bad} normal, {bad} not readable"
        )
    rows = []
    for line in progress.lines:
        if line.error:
            rows.append(
                f'<tr class="zs-failed"><th scope="row">{escape(line.file)}</th>'
                f'<td colspan="4"><b>✕ </b>{escape(line.error)}</td></tr>'
            )
            continue
        icon = "▲" if line.verdict == "anomalous" else "✓"
        rows.append(
            f'<tr><th scope="row">{escape(line.file)}</th>'
            f'<td><b class="zs-{line.verdict}">{icon} {line.verdict}</b></td>'
            f"<td>{line.score:.2f}</td><td>{line.regions}</td><td>{line.anomalous_px:,}</td></tr>"
        )
    return (
        f'<div class="zs-batch"><p role="status">{words}</p>'
        f'<progress value="{done}" max="{total}" aria-label="{words}"></progress>'
        '<div class="zs-scroll" tabindex="0" role="region" aria-label="Results of all files"><table class="zs-table">'
        '<thead><tr><th scope="col">File</th><th scope="col">Verdict</th><th scope="col">Score</th>'
        f'<th scope="col">Regions</th><th scope="col">Area, px</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></div>"
    )
