"""The images that are meant by files and folders, and what is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from zsas.errors import ZsasError
from zsas.images.formats import HEAD, recognised, suffixes

_SEVERAL = {"no image": "no images", "link to a folder": "links to folders"}


@dataclass(frozen=True)
class LeftOut:
    """Something below a folder that is not examined.

    Attributes:
        path: Where it is.
        why: In a few words.
        unreadable: Whether it could be an image, so that somebody may miss it.
    """

    path: Path
    why: str
    unreadable: bool = False


@dataclass
class Scan:
    """What files and folders hold.

    Attributes:
        images: Files to be examined, sorted below each folder.
        left_out: What is not examined.
    """

    images: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """One line, "" where nothing was left out: "3 left out: 2 no images (a.txt, b.csv), 1 hidden (.c.png)."."""
        if not self.left_out:
            return ""
        by_reason = Counter(each.why for each in self.left_out)
        parts = []
        for why, number in by_reason.most_common():
            named = [each.path.name for each in self.left_out if each.why == why]
            shown = ", ".join(named[:3]) + (", …" if number > 3 else "")
            words = why if number == 1 else _SEVERAL.get(why, why)
            parts.append(f"{number} {words} ({shown})")
        return f"{len(self.left_out)} left out: {'; '.join(parts)}."

    @property
    def unreadable(self) -> list[LeftOut]:
        """What could be an image."""
        return [each for each in self.left_out if each.unreadable]


def scan_images(paths: Iterable[str | Path]) -> Scan:
    """The images that are meant by files and folders, and what is left out.

    A folder gives the files below it, at any depth, that have an image's suffix or begin like one of the formats that
    are read; those that then cannot be read are for `load_image` to say. Hidden files and folders, other files, and
    folders that are links or cannot be listed are left out. A file that is named is kept whatever it is called, even
    if it is missing. Doubles are dropped.

    Raises:
        ZsasError: If a named folder cannot be listed.
    """
    found: dict[Path, None] = {}
    scan = Scan()
    for path in map(Path, paths):
        if not os.path.isdir(path):
            found[path] = None
            continue
        below, aside = _below(path)
        found.update(dict.fromkeys(sorted(below)))
        scan.left_out += sorted(aside, key=lambda each: each.path)
    scan.images = list(found)
    return scan


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """The images of `scan_images`."""
    return scan_images(paths).images


def is_result(path: Path) -> bool:
    """Whether a file is a picture that `zsas.export.save` wrote: beside its `result.json`, or among its stages."""
    if path.parent.name == "stages":
        return os.path.isfile(path.parent.parent / "result.json")
    ours = path.name in ("mask.png", "score.png", "overlay.png")
    return ours and os.path.isfile(path.parent / "result.json")


def _below(root: Path) -> tuple[list[Path], list[LeftOut]]:
    """Images below a folder, and what is left out there."""
    images: list[Path] = []
    aside: list[LeftOut] = []

    def cannot_list(error: OSError) -> None:
        if Path(error.filename) == root:
            raise ZsasError(
                f"The folder {error.filename} cannot be listed ({error.strerror}); check its permissions."
            ) from None
        aside.append(LeftOut(Path(error.filename), f"cannot be listed, {error.strerror}", True))

    for folder, folders, files in os.walk(root, onerror=cannot_list):
        for name in folders:
            path = Path(folder, name)
            if name.startswith("."):
                aside.append(LeftOut(path, "hidden"))
            elif path.is_symlink():
                aside.append(LeftOut(path, "link to a folder"))
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            path = Path(folder, name)
            if name.startswith("."):
                aside.append(LeftOut(path, "hidden"))
            elif path.suffix.lower() in suffixes() or _begins_like_an_image(path):
                images.append(path)
            else:
                aside.append(LeftOut(path, "no image"))
    return images, aside


def _begins_like_an_image(path: Path) -> bool:
    """Whether a file without an image's suffix is one by its first bytes; TGA and bare bitmaps need theirs."""
    try:
        if not path.is_file():
            return False
        with open(path, "rb") as stream:
            found = recognised(stream.read(HEAD))
    except OSError:
        return False
    return found is not None and bool(found.reader) and found.name not in ("TGA", "bare bitmap")
