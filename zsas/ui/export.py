"""A result to take away: lossless files in folders that are cleaned up."""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
import threading
import time
import zipfile
from functools import cache
from pathlib import Path

from zsas.result import Result

KEEP_SECONDS = 3600.0
_lock = threading.Lock()


@cache
def scratch() -> Path:
    """The folder of this process for files to be downloaded; removed when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="zsas-page-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def new_folder() -> Path:
    """A fresh folder in `scratch`; those older than `KEEP_SECONDS` are removed on the way."""
    with _lock:
        old = time.time() - KEEP_SECONDS
        for folder in scratch().iterdir():
            if folder.stat().st_mtime < old:
                shutil.rmtree(folder, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=scratch()))


def stem_of(name: str) -> str:
    """A file name's harmless core."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:60] or "photo"


def zip_folder(folder: Path, target: Path) -> Path:
    """All files below a folder in one ZIP."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return target


def save_all(result: Result, name: str) -> dict[str, Path]:
    """Mask, 16-bit score map, overlay, JSON and a ZIP of them with the stages.

    Returns:
        "mask", "score", "overlay", "json" and "zip" to the files.
    """
    stem = stem_of(name)
    folder = new_folder()
    inside = folder / stem
    files = result.save(inside, stages=True, stem=stem)
    kept = {key: files[key] for key in ("mask", "score", "overlay", "json")}
    kept["zip"] = zip_folder(inside, folder / f"{stem}.zip")
    return kept
