"""Many images: begin, stop, open one of them."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zsas.cancellation import Cancelled, cancellable
from zsas.errors import ZsasError
from zsas.images import digest, read_image
from zsas.localizers.mutual import check_count
from zsas.result import Result
from zsas.review import reviewed
from zsas.settings import Settings
from zsas.ui import screen, views
from zsas.ui.events.image import keys_of, memory_of, remember, show, show_settings
from zsas.ui.events.site import Parts, Site, action
from zsas.ui.examples import EXAMPLE_BATCH
from zsas.ui.many import Many
from zsas.ui.upload import is_uploaded
from zsas.ui.visitor import Corrections, View, Visitor


@action
def begin_batch(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Examine many uploads with the present settings: {files: [{name, path}] or example, mutual}."""
    if data.get("example"):
        files = [(path.name, path) for path in sorted(EXAMPLE_BATCH.glob("*.jpg"))]
    else:
        files = _uploaded(data["files"])
    many = Many.of(files, visitor.preset, visitor.settings)
    many.parts, many.beside = keys_of(visitor), visitor.beside
    many.mutual = bool(data.get("mutual"))
    if many.mutual:
        check_count(len(many.rows))
    with visitor.lock:
        if visitor.batch is not None:
            visitor.batch.stopped = True
        visitor.batch = many
        visitor.forget("row-")
        visitor.show({"batch": many.summary()})
    site.pool.submit(contextvars.copy_context().run, _run, site, visitor, many)


def _uploaded(given: Sequence[Mapping[str, Any]]) -> list[tuple[str, Path]]:
    """Names and paths of uploads: [{name, path}].

    Raises:
        ZsasError: If one is another file.
    """
    named = [(str(file.get("name", "")), str(file.get("path", ""))) for file in given]
    if not all(is_uploaded(path) for _, path in named):
        raise ZsasError("Not all of these are uploaded files; upload them first.")
    return [(name or Path(path).name, Path(path)) for name, path in named]


def _run(site: Site, visitor: Visitor, many: Many) -> None:
    def unwanted() -> bool:
        return many.stopped or visitor.is_gone

    def draw(number: int, result: Result) -> Parts:
        return _drawn(visitor, many, number, result)

    try:
        site.engine.segmenter(many.preset)
        for number in cancellable(many.run(site.engine, draw), unwanted):
            with visitor.lock:
                if visitor.batch is many:
                    row = {f"row-{number}": many.shown(number)} if number >= 0 else {}
                    visitor.show({**row, "batch": many.summary()})
    except Cancelled:
        many.stopped = True
    except Exception as error:
        many.stopped = True
        logging.getLogger(__name__).exception("a batch failed")
        visitor.show({"failure": str(error) if isinstance(error, ZsasError) else "It failed."})
    finally:
        many.running = False
        if visitor.batch is many:
            visitor.show({"batch": many.summary()})


def _drawn(visitor: Visitor, many: Many, number: int, result: Result) -> Parts:
    """The screen of a row as it will be opened."""
    key = digest(result.image)
    view = View(key, Path(many.rows[number].name).stem, row=number)
    stand_in = Visitor("", many.preset, view, many.settings)
    return screen.decided(stand_in, result)


@action
def stop_batch(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Leave out what is not done yet."""
    if visitor.batch is not None:
        visitor.batch.stopped = True


@action
def open_row(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Show one of the many as one image: {number}."""
    many, number = visitor.batch, int(data.get("number", -1))
    if many is None or not 0 <= number < many.done or many.rows[number].result is None:
        raise ZsasError("There is no such photo among these.")
    row = many.rows[number]
    parts = many.drawn(number)
    assert row.path is not None  # it has a result
    image = read_image(row.path)
    key = site.engine.keep_image(image)
    view = many.views.get(number) or View(key, Path(row.name).stem, row=number)
    if (
        view.now != Corrections()
        or many.parts != keys_of(visitor)
        or many.beside is not visitor.beside
        or not _same(visitor.settings, many.settings)
    ):
        show(site, visitor, view)
        return
    result = many.reviewed(number, visitor.settings.verdict_threshold)
    with visitor.lock:
        visitor.turn_to()
        visitor.running = False
        remember(visitor)
        visitor.view = view
        show_settings(visitor)
        parts["zs-verdict"] = views.verdict(result, view, len(visitor.parts))
        parts["state"] = screen.state(visitor, image.pixels.shape, True)
        visitor.show(parts)


def _same(one: Settings, other: Settings) -> bool:
    """Whether two settings differ in nothing but the limit."""
    return one.replace(verdict_threshold=0.5) == other.replace(verdict_threshold=0.5)


def corrected(site: Site, visitor: Visitor, many: Many) -> dict[int, Result]:
    """Whole results of the rows that a person corrected, for the files."""
    found = {}
    settings = many.settings.replace(verdict_threshold=visitor.settings.verdict_threshold)
    for number, view in many.views.items():
        if view.now == Corrections() or many.rows[number].result is None:
            continue
        path = many.rows[number].path
        assert path is not None  # it has a result
        key = site.engine.keep_image(read_image(path))
        encoding = site.engine.encode(many.preset, key, settings)
        memory = memory_of(site, visitor) if many.parts else None
        given = (many.preset, encoding, settings, view.now.clicks, memory, many.neighbours)
        result = site.engine.decide(*given, part=many.beside)
        found[number] = reviewed(result, view.now.review)
    return found
