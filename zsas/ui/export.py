"""A result to take away: lossless files in folders that are cleaned up."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import tempfile
import threading
import time
import unicodedata
import zipfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from zsas.export import save
from zsas.result import Result

try:
    import fcntl
except ImportError:  # Windows, where a dead process's folder stays
    fcntl = None  # type: ignore[assignment]

KEEP_SECONDS = 3600.0
_PREFIX = "zsas-page-"
_lock = threading.Lock()


@cache
def scratch() -> Path:
    """The folder of this process for files to be downloaded; removed when it ends.

    Those of processes that were killed before they could do so are removed on the way.
    """
    if fcntl is not None:
        for old in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with contextlib.suppress(OSError):
                if old.lstat().st_uid == os.getuid():
                    descriptor = _held(old)
                    shutil.rmtree(old, ignore_errors=True)
                    os.close(descriptor)
    folder = _own_folder()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _own_folder() -> Path:
    """A new folder, held. A server that starts at the same moment may take it for one left behind; then another."""
    for _ in range(5):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        if fcntl is None:
            break
        with contextlib.suppress(OSError):
            _held(folder)
            if folder.is_dir():
                break
    folder.mkdir(exist_ok=True)  # of a file system without locks
    return folder


def _held(folder: Path) -> int:
    """Lock a folder until the descriptor is closed, at the latest when this process ends, however it does.

    Not the process's number in the folder's name: in a container that is started again the number is the same.

    Raises:
        OSError: If another process holds it, or it cannot be locked.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def new_folder() -> Path:
    """A fresh folder in `scratch`; those that nothing was put in for `KEEP_SECONDS` are removed on the way."""
    with _lock:
        old = time.time() - KEEP_SECONDS
        for folder in scratch().iterdir():
            with contextlib.suppress(FileNotFoundError):  # whoever made it has taken it away
                if folder.stat().st_mtime < old:
                    shutil.rmtree(folder, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=scratch()))


def stem_of(name: str) -> str:
    """A file name's harmless core: letters and digits of any script; at most 200 bytes, so that endings have room."""
    return re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFC", name)).strip("-")[:50] or "photo"


def zip_folder(folder: Path, target: Path) -> Path:
    """All files below a folder in one ZIP."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return target


def save_all(result: Result, name: str, beside: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Mask, 16-bit score map, overlay, JSON and a ZIP of them with the stages.

    Args:
        result: What is written.
        name: What the names of the files begin with.
        beside: More files of the ZIP: names and texts.

    Returns:
        "mask", "score", "overlay", "json" and "zip" to the files.
    """
    stem = stem_of(name)
    folder = new_folder()
    inside = folder / stem
    files = save(result, inside, stages=True, stem=stem)
    for other, text in (beside or {}).items():
        (inside / other).write_text(text, encoding="utf-8")
    kept = {key: files[key] for key in ("mask", "score", "overlay", "json")}
    kept["zip"] = zip_folder(inside, folder / f"{stem}.zip")
    return kept
