"""The images of a run (jobs), and the names of the files that are written for each."""

from __future__ import annotations

import collections
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from zsas.errors import ZsasError, reason
from zsas.extras import require
from zsas.images import SUFFIXES, LeftOut, Scan, is_result, scan_images

Format = Literal["folders", "table"]

_DEVICE = re.compile(r"con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]", re.I)
LONGEST = 240
"""Bytes of a file's name in the output folder."""
_OWN_FILES = ("result.json", "results.jsonl", "run.json")


@dataclass(frozen=True)
class Output:
    """Where results go.

    Attributes:
        folder: The output folder; None if only rows are wanted.
        format: "folders" writes a folder for each image and `results.jsonl`; "table" writes `masks/` and
            `results/*.parquet`.
        stages: Whether a picture of every stage is written as well.
    """

    folder: Path | None = None
    format: Format = "folders"
    stages: bool = False

    def mask_of(self, name: str) -> str:
        """The file of a mask, relative to `folder`."""
        return f"masks/{name}.png" if self.format == "table" else f"{name}/mask.png"

    def folder_of(self, name: str) -> str:
        """The folder of an image's other files, relative to `folder`; a table has one only with `stages`."""
        return f"stages/{name}" if self.format == "table" else name

    def files_of(self, name: str) -> list[str]:
        """What there is of an image that has been examined, relative to `folder`."""
        folder = self.folder_of(name)
        return [
            self.mask_of(name),
            *([f"{folder}/result.json"] if self.format == "folders" or self.stages else ()),
            *([f"{folder}/stages"] if self.stages else ()),
        ]


@dataclass(frozen=True)
class Job:
    """One image to be examined.

    Attributes:
        image: Path or address; `#page=3` is appended if each page is an image of its own.
        name: Name of its files in the output folder; unique even if upper and lower case are not told apart.
        stamp: Size and time of the file, so that another image under the same path is noticed; "" if unknown.
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
    """How files are read; see `zsas.images.ReadOptions`.

    Attributes:
        page: The page or frame, counted from 1; 0 for the first; "all" for each page as an image of its own.
        bits: How many bits of deep values (more than 8 bits) are in use; 0: as the file says.
    """

    page: int | Literal["all"] = 0
    bits: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The entries for a run's identity; none if both have their defaults."""
        return {} if self == Reading() else {"reading": asdict(self)}


class Names:
    """Names of files in an output folder, each once.

    Args:
        taken: Names that are in use already.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._used = {_same(PurePosixPath(name)) for name in taken}

    def add(self, name: str) -> None:
        """Take a name as it is."""
        self._used.add(_same(PurePosixPath(name)))

    def unique(self, wanted: Sequence[str]) -> list[str]:
        """A name for each file, which is then in use; see `unique_names`."""
        paths = [PurePosixPath(name) for name in wanted]
        suffixes: dict[str, set[str]] = collections.defaultdict(set)
        for path in paths:
            suffixes[_same(path.with_suffix(""))].add(path.suffix.casefold())
        names = []
        for path in paths:
            stem = path.with_suffix("")
            if len(suffixes[_same(stem)]) > 1:
                stem = path.with_name(path.name.replace(".", "_"))
            stem = PurePosixPath(*(part if part == "/" else _portable(part) for part in stem.parts))
            stem = stem.with_name(_shortened(stem.name)) if stem.name else stem
            name, number = stem, 2
            while _same(name) in self._used:
                name, number = stem.with_name(f"{stem.name}_{number}"), number + 1
            self._used.add(_same(name))
            names.append(str(name))
        return names


def unique_names(wanted: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A unique name for each file, without its suffix.

    Files that differ only by their suffix get it in the name ("gear_png", "gear_jpg"); names that are still equal get a
    number. Case is ignored, because some file systems do not tell Gear from gear. Characters that Windows cannot write
    are replaced, so that results can be copied anywhere.

    Args:
        wanted: Relative paths with suffixes, folders separated by "/".
        taken: Names that are in use already.

    >>> unique_names(["a/gear.png", "gear.png", "gear.jpg", "gear.jpg"])
    ['a/gear', 'gear_png', 'gear_jpg', 'gear_jpg_2']
    >>> list(map(len, unique_names(["x" * 255, "X" * 255])))
    [240, 242]
    """
    return Names(taken).unique(wanted)


def _same(path: PurePosixPath) -> str:
    """A key that is equal for names that some file system takes for the same: lower case, accents composed."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _portable(part: str) -> str:
    """A name that Windows accepts, too: no device's name (con, lpt1), and no dot or space at its end."""
    part = re.sub(r'[\x00-\x1f<>:"|?*\\]', "_", part.rstrip(" .")) or "_"
    return f"{part}_" if _DEVICE.fullmatch(part.partition(".")[0].rstrip(" ")) else part


def _shortened(name: str, longest: int = LONGEST) -> str:
    """A name with room for a suffix and a number behind it: most disks take 255 bytes."""
    data = name.encode(errors="surrogateescape")
    if len(data) <= longest:
        return name
    return data[:longest].decode(errors="ignore").rstrip(" .") or "_"


def list_images(sources: Sequence[str], output: Output, scan: Scan) -> dict[str, tuple[str, str]]:
    """All images that files, folders and addresses name, each with its relative name and its stamp.

    The folders below a named folder are kept in the names; with several named folders each adds its own. Results are
    left out of a named folder: pictures beside a `result.json`, and what lies in the output's own folder or subfolders.

    Args:
        sources: Files and folders, local or at addresses that fsspec knows (s3://, gs://, hf://).
        output: Where results go; no images are read from its folder.
        scan: Files that are left out are added to it.

    Raises:
        ZsasError: If there is no image at all, or a folder or address cannot be listed.
    """
    several = (
        sum("://" in source or Path(os.path.expanduser(source)).is_dir() for source in sources) > 1
    )
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


def name_jobs(
    found: Mapping[str, tuple[str, str]], known: Mapping[str, str], reading: Reading
) -> list[Job]:
    """A job with a unique name for each image; images in `known` keep their names."""
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
            stem = _shortened(path.stem, LONGEST - 8)  # the page's number stays
            named = str(path.with_name(f"{stem}_p{page}{path.suffix}")) if page else name
            parts[key], pages[key] = (named, stamp), page
    jobs = name_jobs(parts, known, Reading())
    return [replace(job, page=pages[job.image], bits=reading.bits) for job in jobs]


def _pages_of(image: str) -> int:
    """Number of pages of a file; 1 if it cannot be read: the error is reported when it is examined."""
    from zsas.datasets.folders import place
    from zsas.images import count_pages

    try:
        return count_pages(place(image))
    except ZsasError:
        return 1


def _near(source: str, output: Output, scan: Scan) -> Iterator[tuple[str, str, str, bool]]:
    """(path, relative name, stamp, whether the source is a folder) for each image of a file or folder on disk."""
    root = Path(os.path.expanduser(source))
    is_folder = os.path.isdir(root)
    ours = _own_folders(root, output) if is_folder else []
    below = scan_images([root])

    def is_ours(path: Path) -> bool:
        written = path.name in _OWN_FILES or is_result(path)
        return is_folder and (written or any(_real(path).is_relative_to(o) for o in ours))

    scan.left_out += [each for each in below.left_out if not is_ours(each.path)]
    for path in below.images:
        if is_ours(path):
            continue
        name = path.relative_to(root).as_posix() if is_folder else path.name
        yield str(path), name, stamp_of(path), is_folder


def _real(path: Path) -> Path:
    """As `Path.resolve`, which would raise at a link that points to itself."""
    return Path(os.path.realpath(path))


def _own_folders(root: Path, output: Output) -> list[Path]:
    """Folders below a source that hold nothing but results of zsas."""
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
            scan.left_out.append(LeftOut(Path(path), "no image"))
        else:
            name = path.removeprefix(root).strip("/") or PurePosixPath(path).name
            marks = (facts.get(key) for key in ("size", "ETag", "mtime", "LastModified"))
            stamp = "-".join(str(mark) for mark in marks if mark is not None)
            yield system.unstrip_protocol(path), name, stamp, not is_file


def _last_part(source: str) -> str:
    if "://" in source:
        return source.rstrip("/").rsplit("/", 1)[-1]
    return Path(os.path.expanduser(source)).resolve().name


def stamp_of(path: Path) -> str:
    """Size and time of a file, by which a change is noticed."""
    try:
        facts = path.stat()
    except OSError:
        return ""
    return f"{facts.st_size}-{facts.st_mtime_ns}"
