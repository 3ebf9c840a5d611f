"""Fetch packages, keep the photographs that their licences allow, and write down where each came from."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from tiny.photographs.licences import (
    FOR_STATISTICS,
    FOR_TRAINING,
    Stanza,
    declared,
    nearest,
    stanza_of,
    stanzas,
)
from tiny.photographs.packages import SUFFIXES, download, images, maker, unpack
from zsas.errors import ZsasError
from zsas.files import write_whole

CHOSEN = Path(__file__).with_name("chosen.json")
"""Files that a person looked at, by package; in other packages, every image of a known licence is kept.

A choice may state a licence that the package itself names only in words, and where these stand.
"""

NOT_COLOURS = (
    "_nm", "_sm", "_gm", "_rm", "_norm", "_normal", "_nor", "_nrm", "_local", "_gloss", "_spec", "_height",
    "_bumpmap", "_roughness", "_metallic", "_disp",
)  # fmt: skip
"""Ends of names of maps that a game lays over its textures: slopes, gloss, heights."""

NOT_SURFACES = ("tex_pics/",)
"""Folders of drawings and paintings."""

SMALLEST_PX = 128
SIDE_PX = 768
JPEG_QUALITY = 90
ALIKE = 0.9
"""Correlation of two images' fine structure above which they show the same: one texture, recoloured or saved twice."""

Use = Literal["training", "statistics"]


@dataclass(frozen=True)
class Photograph:
    """A kept file, as it stands in the manifest.

    Attributes:
        file: Where it lies below the folder.
        use: What it may be used for.
        package, version: The package; one of PyPI or npm has its registry before its name, as `pypi:NAME`.
        source: Where the package's makers have it from.
        path: Its path in the package, an archive's name first where it lay in one.
        licence: Short name.
        licence_from: What names it: the copyright file's entry for the file, a licence file beside it, the whole
            package, or the words that a person read.
        authors: Holders of the copyright.
        width, height: Size as kept, in pixels.
        sha256: Of the kept bytes.
        original_sha256: Of the bytes in the package.
    """

    file: str
    use: Use
    package: str
    version: str
    source: str
    path: str
    licence: str
    licence_from: str
    authors: tuple[str, ...]
    width: int
    height: int
    sha256: str
    original_sha256: str


@dataclass(frozen=True)
class _Opened:
    """An unpacked package: who it is, and how to look a file's licence up."""

    root: Path
    name: str
    version: str
    source: str
    listed: list[Stanza] | None  # a Debian package's stanzas
    whole: Stanza | None  # what any other package declares


@lru_cache(maxsize=1)
def chosen() -> Mapping[str, list[dict[str, Any]]]:
    """The choices of `chosen.json`: package, then `in` (a folder), `files` below it, and perhaps a stated licence."""
    read: dict[str, list[dict[str, Any]]] = json.loads(CHOSEN.read_text(encoding="utf-8"))
    return read


PACKAGES = tuple(chosen())
"""Packages with photographs of surfaces whose licences are known."""


def fetch(
    out: Path,
    *,
    packages: Sequence[str] = PACKAGES,
    files: Sequence[Path] = (),
    statistics: bool = False,
    every: bool = False,
) -> list[Photograph]:
    """Download packages, keep the photographs that their licences allow, and write a manifest.

    Photographs for training are scaled to a shorter side of at most 768 px and kept as JPEG; one that shows the same
    as an earlier one is left out. Those for statistics are kept as they are.

    Args:
        out: Folder; gets `training/`, `statistics/` if asked for, `manifest.json` and `CREDITS.md`.
        packages: Names of Debian packages, `pypi:NAME` or `npm:NAME`.
        files: Package files that are here already; then `packages` are not fetched.
        statistics: Whether files under other free licences are kept, too, for measuring only.
        every: Whether packages that a person chose files of give all others of a known licence, too.

    Raises:
        ZsasError: If a package cannot be fetched or read, or does not say what its files are under.
    """
    found: list[Photograph] = []
    seen: list[NDArray[np.float32]] = []
    for package in files or packages:
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as root:
            file = package if isinstance(package, Path) else download(package, Path(folder))
            if not file.name.endswith(SUFFIXES):
                raise ZsasError(
                    f"{file} is no package: its name ends in none of {', '.join(SUFFIXES)}."
                )
            unpack(file, Path(root))
            found += _keep(_open(file, Path(root)), out, seen, statistics, every)
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


def _open(file: Path, root: Path) -> _Opened:
    if file.suffix == ".deb":
        name, version = [*file.name.removesuffix(".deb").split("_"), ""][:2]
        notes = sorted(root.glob("usr/share/doc/*/copyright"))
        if not notes:
            raise ZsasError(f"{file.name} has no copyright file, so the licences are unknown.")
        source, listed = stanzas(notes[0].read_text(encoding="utf-8", errors="replace"))
        return _Opened(root, name, version.replace("%3a", ":"), source, listed, None)
    try:
        name, version, source, whole = declared(root)
    except (ZsasError, ValueError) as error:
        raise ZsasError(f"{file.name} cannot be used: {error}") from None
    registry = "npm" if (root / "package/package.json").is_file() else "pypi"
    return _Opened(root, f"{registry}:{name}", version, source, None, whole)


def _keep(
    opened: _Opened, out: Path, seen: list[NDArray[np.float32]], statistics: bool, every: bool
) -> Iterator[Photograph]:
    """Write the allowed photographs of a package and say what they are."""
    choices = chosen().get(opened.name)
    for path, data in images(opened.root):
        choice = _choice(path, choices or ())
        if choice is None and ((choices is not None and not every) or not _is_colour_image(path)):
            continue
        known = _licence(opened, path, choice)
        use = _use(known[0], statistics) if known else None
        image = _surface(data) if use else None
        if known is None or use is None or image is None:
            continue
        stanza, licence_from = known
        kept, suffix = data, PurePosixPath(path).suffix
        if use == "training":
            mark = _structure(image)
            if any(float(np.vdot(mark, other)) > ALIKE for other in seen):
                continue
            seen.append(mark)
            (image, kept), suffix = _scaled(image, data, suffix), ".jpg"
        package = opened.name.rpartition(":")[2]
        flat = re.sub(
            r"[^A-Za-z0-9._-]+", "_", f"{package}_{_key(path).removeprefix('usr/share/')}"
        )
        file = Path(use) / f"{flat.removesuffix(PurePosixPath(path).suffix)}{suffix}"
        write_whole(out / file, kept)
        yield Photograph(
            file.as_posix(), use, opened.name, opened.version, opened.source, path, stanza.licence, licence_from,
            maker(opened.root, path) + stanza.authors, image.shape[1], image.shape[0],
            hashlib.sha256(kept).hexdigest(), hashlib.sha256(data).hexdigest(),
        )  # fmt: skip


def _key(path: str) -> str:
    """A path as licences and choices name it; an archive is the folder of its stem."""
    archive, _, inner = path.rpartition("!")
    return f"{PurePosixPath(archive).stem}/{inner}" if archive else inner


def _choice(path: str, choices: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    key = _key(path)
    for choice in choices:
        folder = f"{choice['in']}/" if choice.get("in") else ""
        if any(fnmatch.fnmatchcase(key, folder + pattern) for pattern in choice["files"]):
            return choice
    return None


def _licence(
    opened: _Opened, path: str, choice: Mapping[str, Any] | None
) -> tuple[Stanza, str] | None:
    """What a file is under, and what says so."""
    if choice is not None and "licence" in choice:
        return Stanza((), choice["licence"], tuple(choice["authors"])), choice["stated"]
    if opened.whole is not None:
        stanza = nearest(opened.root, path.partition("!")[0], opened.whole)
        return (
            (stanza, "package" if stanza is opened.whole else "licence file beside it")
            if stanza
            else None
        )
    stanza = stanza_of(_key(path), opened.listed or ())
    return (stanza, "copyright file") if stanza else None


def _use(stanza: Stanza, statistics: bool) -> Use | None:
    if FOR_TRAINING.fullmatch(stanza.licence):
        return "training"
    return "statistics" if statistics and FOR_STATISTICS.fullmatch(stanza.licence) else None


def _is_colour_image(name: str) -> bool:
    if any(folder in name for folder in NOT_SURFACES):
        return False
    return not PurePosixPath(name).stem.lower().endswith(NOT_COLOURS)


def _surface(data: bytes) -> NDArray[np.uint8] | None:
    """An image that shows a surface, (H, W, 3) BGR: large enough, and nowhere transparent; else None."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or min(image.shape[:2]) < SMALLEST_PX:
        return None
    if (
        image.ndim == 3
        and image.shape[2] == 4
        and int(image[..., 3].min()) < np.iinfo(image.dtype).max
    ):
        return None
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), np.uint8)


def _structure(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What is fine in an image, whatever its colours and brightness: (64, 64), mean near 0, norm 1."""
    grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.float32)
    small = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA)
    fine = small - cv2.GaussianBlur(small, (0, 0), 4)
    return np.asarray(fine / max(float(np.linalg.norm(fine)), 1e-6), np.float32)


def _scaled(image: NDArray[np.uint8], data: bytes, suffix: str) -> tuple[NDArray[np.uint8], bytes]:
    """The image with a shorter side of at most 768 px, and its JPEG: the file's own where it is one of that size."""
    height, width = image.shape[:2]
    scale = min(1.0, SIDE_PX / min(height, width), 1.5 * SIDE_PX / max(height, width))
    if scale == 1 and suffix.lower() in {".jpg", ".jpeg"}:
        return image, data
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return image, encoded.tobytes()
