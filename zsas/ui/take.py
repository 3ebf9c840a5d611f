"""Files to take away, by name: of the image that is shown, and of a batch."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from zsas.export import json_bytes, pictures, png
from zsas.report import Entry, report_html
from zsas.ui import export
from zsas.ui.events.batch import corrected
from zsas.ui.events.image import memory_of, result_of
from zsas.ui.events.profile import profile
from zsas.ui.events.site import Site
from zsas.ui.visitor import Visitor

KINDS = {
    ".png": "image/png",
    ".json": "application/json",
    ".zip": "application/zip",
    ".html": "text/html",
    ".zsas": "application/zip",
}


@dataclass(frozen=True)
class File:
    """One file: its bytes, or where they lie."""

    name: str
    data: bytes = b""
    path: Path | None = None

    @property
    def kind(self) -> str:
        """Its media type."""
        return KINDS[Path(self.name).suffix]


def file(site: Site, visitor: Visitor, name: str) -> File | None:
    """A file of what the visitor sees now, None where there is none of that name.

    Raises:
        ZsasError: If it cannot be made.
    """
    if name.startswith("batch-"):
        return _of_batch(site, visitor, name)
    if not visitor.view.image:
        return None
    result = result_of(site, visitor)
    if result is None:  # opened from a batch, whose encodings are not kept, or let go
        site.engine.encode(visitor.preset, visitor.view.image, visitor.settings)
        memory_of(site, visitor)
        result = result_of(site, visitor)
    if result is None:
        return None
    stem = export.stem_of(visitor.view.name)
    if name == "part.zsas":
        return File(f"{stem}.zsas", profile(site, visitor).to_bytes())
    if name in ("mask.png", "score.png", "overlay.png"):
        return File(f"{stem}_{name}", png(pictures(result)[name.removesuffix(".png")]))
    if name == "result.json":
        return File(f"{stem}_{name}", json_bytes(result))
    if name == "report.html":
        entry = Entry.of(result, visitor.view.title, clicks=visitor.view.now.clicks)
        return File(f"{stem}_{name}", report_html([entry]).encode())
    if name == "all.zip":
        entry = Entry.of(result, visitor.view.title, clicks=visitor.view.now.clicks)
        files = export.save_all(result, visitor.view.name, {"report.html": report_html([entry])})
        data = files["zip"].read_bytes()
        shutil.rmtree(files["zip"].parent, ignore_errors=True)
        return File(f"{stem}.zip", data)
    return None


def _of_batch(site: Site, visitor: Visitor, name: str) -> File | None:
    many, limit = visitor.batch, visitor.in_force.verdict_threshold
    if many is None:
        return None
    if name not in ("batch-report.html", "batch-all.zip"):
        return None
    many.check_kept()
    whole = corrected(site, visitor, many)
    if name == "batch-report.html":
        return File("zsas-report.html", many.report(limit, whole).encode())
    return File("zsas-results.zip", path=many.archive(limit, whole))
