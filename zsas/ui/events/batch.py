"""Many images: begin, stop, open one of them."""

from __future__ import annotations

import contextvars
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zsas.cancellation import Cancelled, cancellable
from zsas.errors import ZsasError
from zsas.images import digest
from zsas.localizers.mutual import check_count
from zsas.result import Result
from zsas.review import reviewed
from zsas.settings import Settings
from zsas.ui import screen, views
from zsas.ui.events.image import remember, show, show_settings, take_limit, turn_to
from zsas.ui.events.site import Parts, Site, action
from zsas.ui.examples import EXAMPLE_BATCH
from zsas.ui.good import GoodPlace, named
from zsas.ui.many import Many, at_limit
from zsas.ui.upload import uploaded
from zsas.ui.visitor import Corrections, View, Visitor


@action
def begin_batch(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Examine many uploads with the present settings: {files: [{name, path}] or example, mutual}."""
    if data.get("example"):
        files = [(path.name, path) for path in sorted(EXAMPLE_BATCH.glob("*.jpg"))]
    else:
        given = [(uploaded(file.get("path")), file.get("name")) for file in data["files"]]
        files = [(str(name or Path(path).name), Path(path)) for path, name in given]
    visitor.give_name_back()
    show_settings(visitor)
    many = Many.of(files, visitor.preset, visitor.settings)
    many.parts, many.beside = visitor.parts, visitor.beside
    many.mutual = bool(data.get("mutual"))
    if many.mutual:
        check_count(len(many.rows))
    with visitor.lock:
        remember(visitor)
        visitor.leave_lot()
        _start(site, visitor, many)


@action
def again_batch(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Examine the same images again, with what stands now; what a person said about them stays."""
    old = visitor.batch
    if old is None:
        raise ZsasError("There are no photos to look at again; choose some.")
    if old.running or old.looking:
        raise ZsasError("These photos are still being looked at; stop that first.")
    many = old.again(visitor.preset, visitor.settings)
    many.parts, many.beside = visitor.parts, visitor.beside
    _start(site, visitor, many)


def _start(site: Site, visitor: Visitor, many: Many) -> None:
    with visitor.lock:
        if visitor.batch is not None:
            visitor.batch.stopped = True
        visitor.batch = many
        visitor.forget("row-")
        visitor.show({"batch": many.summary(), "proposal": {}})
    site.pool.submit(contextvars.copy_context().run, _run, site, visitor, many)


def _run(site: Site, visitor: Visitor, many: Many) -> None:
    def unwanted() -> bool:
        return many.stopped or visitor.is_gone

    try:
        site.engine.segmenter(many.preset)
        for number in cancellable(many.run(site.engine, _draw(visitor, many)), unwanted):
            with visitor.lock:
                if visitor.batch is many:
                    whole = many.rows[number].result if number >= 0 else None
                    if whole is not None and not visitor.batch_is_old:
                        take_limit(visitor, whole)
                    row = {f"row-{number}": many.shown(number)} if number >= 0 else {}
                    visitor.show({**row, "batch": many.summary()})
    except Cancelled:
        many.stopped = True
    except Exception as error:
        many.stopped = True
        logging.getLogger(__name__).exception("a batch failed")
        visitor.show({"failure": str(error) if isinstance(error, ZsasError) else "It failed."})
    finally:
        with visitor.lock:  # a tab that is told that nothing runs any more does not ask again
            many.running = False
            if visitor.batch is many:
                proposal = many.proposal(visitor.in_force.verdict_threshold)
                visitor.show({"batch": many.summary(), "proposal": proposal})


def _draw(visitor: Visitor, many: Many) -> Callable[[int, Result, Mapping[int, GoodPlace]], Parts]:
    """What makes the screen of a row as it will be opened."""

    def draw(number: int, result: Result, good: Mapping[int, GoodPlace]) -> Parts:
        key = digest(result.image)
        view = View(key, Path(many.rows[number].name).stem, row=number)
        stand_in = Visitor("", many.preset, view, many.settings, parts=many.parts, batch=many)
        return screen.decided(stand_in, result, good)

    return draw


@action
def closer(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Look at one of the many again, with as many tiles as show everything: {number}."""
    many, number = visitor.batch, int(data.get("number", -1))
    if many is None or not 0 <= number < many.done or many.rows[number].closer is None:
        raise ZsasError("There is nothing to look at closer.")
    if number in many.looking:
        return
    many.looking.add(number)
    visitor.show({f"row-{number}": many.shown(number)})
    if visitor.view.row == number:
        visitor.show(
            {
                "zs-verdict": views.waiting(
                    "Looking closer", "The photo keeps its result until then."
                )
            }
        )
    site.pool.submit(contextvars.copy_context().run, _look_closer, site, visitor, many, number)


def _look_closer(site: Site, visitor: Visitor, many: Many, number: int) -> None:
    try:
        many.look_closer(site.engine, number, _draw(visitor, many))
    except Exception as error:
        logging.getLogger(__name__).exception("a closer look failed")
        visitor.show({"failure": str(error) if isinstance(error, ZsasError) else "It failed."})
    finally:
        with visitor.lock:
            many.looking.discard(number)
            if visitor.batch is many:
                visitor.show({f"row-{number}": many.shown(number)})
                if visitor.view.row == number:
                    open_row(site, visitor, {"number": number})


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
    image = many.image(number)
    key = site.engine.keep_image(image, row.path)
    remember(visitor)  # it may be this row that is open
    view = many.views.get(number) or View(key, Path(row.name).stem, row=number, file=row.name)
    if view.now != Corrections() or visitor.batch_is_old:
        _turn_to_tiles(visitor, row.settings or many.settings)
        show(site, visitor, view)
        return
    result = many.reviewed(number, visitor.in_force.verdict_threshold)
    with visitor.lock:
        turn_to(visitor, view)
        _turn_to_tiles(visitor, row.settings or many.settings)
        show_settings(visitor)
        beside = (len(visitor.parts), visitor.others)
        parts["zs-verdict"] = views.verdict(result, view, *beside, level=row.level)
        parts["state"] = screen.state(visitor, True)
        visitor.show(parts)


def _turn_to_tiles(visitor: Visitor, settings: Settings) -> None:
    """The number of tiles is a row's own: what it was looked at with holds while it is shown."""
    visitor.settings = visitor.settings.replace(tiles=settings.tiles, max_tiles=settings.max_tiles)


def corrected(site: Site, visitor: Visitor, many: Many) -> dict[int, Result]:
    """Whole results of the rows that a person corrected, or did before, for the files."""
    found = {}
    limit = visitor.in_force.verdict_threshold
    for number, view in many.views.items():
        said = view.now != Corrections() or number in many.written
        if not said or many.rows[number].result is None:
            continue
        key = site.engine.keep_image(many.image(number))
        settings = many.rows[number].settings or many.settings
        encoding = site.engine.encode(many.preset, key, settings)
        memory = many.memory(site.engine)
        given = (many.preset, encoding, settings, view.now.clicks, memory, many.neighbours)
        result = named(site.engine.decide(*given, part=many.beside), many.parts)
        found[number] = reviewed(at_limit(result, limit), view.now.review)
    return found
