"""Photographs that may be trained on, out of Debian packages, with where each came from: `python -m tiny photographs`.

A package's copyright file (https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/) gives the licence of
every file. Only files under licences that ask for no more than credit are kept for training; with `statistics`, other
free ones are kept aside to measure light, noise and spectra on, never as training pixels. What no stanza names by
itself is not taken.
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import cv2
import numpy as np

from zsas.errors import ZsasError, reason
from zsas.files import write_whole

PACKAGES = ("ufoai-textures",)
"""Packages with photographs of surfaces and a copyright file that machines can read."""

FOR_TRAINING = re.compile(
    r"public-domain|cc0(-1\.0)?|expat|mit|apache-2\.0|bsd-[23]-clause|zlib|cc-by-[234]\.[05]", re.I
)
FOR_STATISTICS = re.compile(r"(l?gpl-[123](\.\d)?\+?|cc-by-sa-[234]\.[05])", re.I)

IMAGES = {".png", ".jpg", ".jpeg", ".webp"}
ARCHIVES = {".pk3", ".pk4", ".zip"}
NOT_COLOURS = (
    "_nm",
    "_sm",
    "_gm",
    "_rm",
    "_norm",
    "_normal",
    "_local",
    "_gloss",
    "_spec",
    "_height",
)
"""Ends of names of maps that a game lays over its textures: slopes, gloss, heights."""

NOT_SURFACES = ("tex_pics/",)
"""Folders of drawings and paintings."""

SMALLEST_PX = 128

Use = Literal["training", "statistics"]


@dataclass(frozen=True)
class Stanza:
    """One paragraph of a copyright file: which files, whose, under what."""

    patterns: tuple[str, ...]
    licence: str
    authors: tuple[str, ...]


@dataclass(frozen=True)
class Photograph:
    """A kept file, as it stands in the manifest.

    Attributes:
        file: Where it lies below the folder.
        use: What it may be used for.
        package, version: The Debian package.
        source: Where the package's makers have it from.
        path: Its path in the package, an archive's name first where it lay in one.
        licence: Short name, as in the copyright file.
        authors: Holders of the copyright of the stanza that names it.
        width, height: Size in pixels.
        sha256: Of its bytes.
    """

    file: str
    use: Use
    package: str
    version: str
    source: str
    path: str
    licence: str
    authors: tuple[str, ...]
    width: int
    height: int
    sha256: str


def fetch(
    out: Path,
    *,
    packages: Sequence[str] = PACKAGES,
    debs: Sequence[Path] = (),
    statistics: bool = False,
) -> list[Photograph]:
    """Download packages, keep the photographs that their licences allow, and write a manifest.

    Args:
        out: Folder; gets `training/`, `statistics/` if asked for, `manifest.json` and `CREDITS.md`.
        packages: Names of Debian packages, fetched with `apt-get download`.
        debs: Package files that are here already; then `packages` are not fetched.
        statistics: Whether files under other free licences are kept, too, for measuring only.

    Raises:
        ZsasError: If a package cannot be fetched or read, or its copyright file names no files.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = list(debs) or [_download(name, Path(folder)) for name in packages]
        found = [photo for file in files for photo in _keep(file, out, statistics)]
    found.sort(key=lambda photo: photo.file)
    text = json.dumps([asdict(photo) for photo in found], indent=1, ensure_ascii=False)
    write_whole(out / "manifest.json", (text + "\n").encode())
    write_whole(out / "CREDITS.md", credits(found).encode())
    return found


def credits(photographs: Iterable[Photograph]) -> str:
    """Who made what was trained on, a line for each package, licence and set of authors, as Markdown."""
    lines: dict[str, int] = {}
    for photo in photographs:
        if photo.use == "training":
            line = (
                f"{photo.package} {photo.version} ({photo.source}), {photo.licence}: "
                f"{', '.join(photo.authors) or 'authors not named'}"
            )
            lines[line] = lines.get(line, 0) + 1
    return "".join(f"- {line}; {count} images\n" for line, count in sorted(lines.items()))


def stanzas(text: str) -> tuple[str, list[Stanza]]:
    """Source and file stanzas of a copyright file.

    Raises:
        ZsasError: If it is not in Debian's machine-readable format.
    """
    source, found = "", []
    for paragraph in re.split(r"\n\s*\n", text.replace("\r\n", "\n")):
        fields = _fields(paragraph)
        source = source or fields.get("source", "").strip()
        if "files" in fields and "license" in fields:
            found.append(
                Stanza(
                    tuple(fields["files"].split()),
                    (fields["license"].strip().splitlines() or [""])[0].strip(),
                    tuple(
                        line.strip()
                        for line in fields.get("copyright", "").splitlines()
                        if line.strip()
                    ),
                )
            )
    if not found or "copyright-format" not in text[:400]:
        raise ZsasError(
            "The package's copyright file does not list its files in Debian's machine-readable format, so their "
            "licences are unknown; choose another package."
        )
    return source, found


def _fields(paragraph: str) -> dict[str, str]:
    """`Name: value` with continuation lines, names in small letters."""
    fields: dict[str, str] = {}
    name = ""
    for line in paragraph.splitlines():
        match = re.match(r"([A-Za-z-]+):(.*)", line)
        if match:
            name = match[1].lower()
            fields[name] = match[2].strip()
        elif name and line[:1] in (" ", "\t"):
            fields[name] += "\n" + line.strip()
    return fields


def stanza_of(path: str, listed: Sequence[Stanza]) -> Stanza | None:
    """The last stanza that names a file; one that names all files (`*`) does not count.

    Stanzas name files as they lie in the source package, other folders above them than in the installed one: a folder
    and the name must agree at least.
    """
    parts = path.split("/")
    tails = ["/".join(parts[i:]) for i in range(len(parts) - 1)]
    chosen = None
    for stanza in listed:
        for pattern in stanza.patterns:
            if pattern != "*" and any(
                fnmatch.fnmatchcase(tail, pattern) or pattern.endswith(f"/{tail}") for tail in tails
            ):
                chosen = stanza
    return chosen


def _keep(deb: Path, out: Path, statistics: bool) -> Iterator[Photograph]:
    """Write the allowed photographs of a package and say what they are."""
    name, version = [*deb.name.removesuffix(".deb").split("_"), ""][:2]
    with tempfile.TemporaryDirectory() as unpacked:
        root = Path(unpacked)
        _unpack(deb, root)
        notes = sorted(root.glob("usr/share/doc/*/copyright"))
        if not notes:
            raise ZsasError(f"{deb.name} has no copyright file, so the licences are unknown.")
        source, listed = stanzas(notes[0].read_text(encoding="utf-8", errors="replace"))
        for path, data in _images(root):
            stanza = stanza_of(path.rpartition("!")[2], listed)
            use = _use(stanza, statistics)
            size = _size(data) if stanza and use else None
            if stanza is None or use is None or size is None:
                continue
            digest = hashlib.sha256(data).hexdigest()
            inner = path.rpartition("!")[2]
            flat = re.sub(r"[^A-Za-z0-9._-]+", "_", inner.removeprefix("usr/share/"))
            file = Path(use) / f"{name}_{flat}"
            write_whole(out / file, data)
            yield Photograph(
                file.as_posix(), use, name, version.replace("%3a", ":"), source, path,
                stanza.licence, stanza.authors, *size, digest,
            )  # fmt: skip


def _use(stanza: Stanza | None, statistics: bool) -> Use | None:
    if stanza is None:
        return None
    if FOR_TRAINING.fullmatch(stanza.licence):
        return "training"
    return "statistics" if statistics and FOR_STATISTICS.fullmatch(stanza.licence) else None


def _images(root: Path) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of all images of an unpacked package, also those in archives: `ARCHIVE!PATH`."""
    for file in sorted(
        path for path in root.rglob("*") if path.is_file() and not path.is_symlink()
    ):
        inner = file.relative_to(root).as_posix()
        if file.suffix.lower() in ARCHIVES and zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                for name in sorted(archive.namelist()):
                    if _is_colour_image(name):
                        yield f"{inner}!{name}", archive.read(name)
        elif _is_colour_image(inner):
            yield inner, file.read_bytes()


def _is_colour_image(name: str) -> bool:
    path = PurePosixPath(name)
    if any(folder in name for folder in NOT_SURFACES):
        return False
    return path.suffix.lower() in IMAGES and not path.stem.lower().endswith(NOT_COLOURS)


def _size(data: bytes) -> tuple[int, int] | None:
    """Width and height of an image that shows a surface: large enough, and nowhere transparent."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or min(image.shape[:2]) < SMALLEST_PX:
        return None
    if (
        image.ndim == 3
        and image.shape[2] == 4
        and int(image[..., 3].min()) < np.iinfo(image.dtype).max
    ):
        return None
    return int(image.shape[1]), int(image.shape[0])


def _download(name: str, folder: Path) -> Path:
    """Fetch a package file with the system's own client.

    Raises:
        ZsasError: If there is no `apt-get`, or it does not find the package.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name):
        raise ZsasError(f"{name!r} is no name of a Debian package.")
    if shutil.which("apt-get") is None:
        raise ZsasError(
            f"Debian's apt-get is not here; download {name} from packages.debian.org and give the file with --deb."
        )
    done = subprocess.run(
        ["apt-get", "download", name], cwd=folder, capture_output=True, text=True, check=False
    )
    files = list(folder.glob(f"{name}_*.deb"))
    if not files:
        lines = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        why = lines[0].removeprefix("E: ").rstrip(".") if lines else "no file came"
        raise ZsasError(f"The package {name} cannot be fetched ({why}); try `apt-get update`.")
    return files[0]


def _unpack(deb: Path, root: Path) -> None:
    """Unpack a package's files; a .deb is an `ar` archive whose member data.tar.* holds them.

    Raises:
        ZsasError: If the file is no package.
    """
    try:
        with deb.open("rb") as file:
            if file.read(8) != b"!<arch>\n":
                raise ValueError("it is no ar archive")
            while header := file.read(60):
                name, length = header[:16].decode().strip().rstrip("/"), int(header[48:58])
                data = file.read(length + length % 2)[:length]
                if name.startswith("data.tar"):
                    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                        tar.extractall(root, filter="data")
                    return
        raise ValueError("it has no data.tar")
    except (OSError, ValueError, tarfile.TarError) as error:
        raise ZsasError(f"{deb} cannot be read as a Debian package ({reason(error)}).") from None
