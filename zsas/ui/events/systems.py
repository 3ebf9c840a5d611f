"""The image through every system: what is known already at once, the others on demand."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zsas import curves
from zsas.cancellation import Cancelled
from zsas.errors import ZsasError, reason
from zsas.extras import require
from zsas.images import read_mask
from zsas.review import reviewed
from zsas.settings import Settings
from zsas.ui.cards import Card, cards, reasons
from zsas.ui.events.image import (
    beside_of,
    decided_at_once,
    keys_of,
    show_settings,
    steps,
    stop,
)
from zsas.ui.events.site import Parts, Site, action
from zsas.ui.upload import uploaded
from zsas.ui.visitor import Visitor


@action
def systems(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Show the cards; with {run: true} the systems that have not seen this image look at it."""
    if site.engine.image(visitor.view.image) is None:
        raise ZsasError("Open a photo first, then compare the systems on it.")
    if not data.get("run"):
        visitor.show(*_steps(site, visitor, run=False))
        return
    with visitor.lock:
        site.start(visitor, _all(site, visitor, visitor.running))
        show_settings(visitor)


@action
def give_truth(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Compare with a mask: {path}, an upload of the image's size, black where normal."""
    image = site.engine.image(visitor.view.image)
    if image is None:
        raise ZsasError("Open a photo first, then give its mask.")
    path = uploaded(data.get("path"))
    require("evaluate")
    try:
        truth = read_mask(path, (image.shape[0], image.shape[1]))
    except ZsasError as error:
        raise ZsasError(str(error).replace(path, Path(path).name)) from None
    if not truth.any() or truth.all():
        raise ZsasError("The mask must have both normal (black) and anomalous pixels.")
    with visitor.lock:
        visitor.view = dataclasses.replace(visitor.view, truth=truth)
    systems(site, visitor, {})


@action
def stop_systems(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Leave out the systems that have not looked yet; the image's own result stays."""
    with visitor.lock:
        visitor.turn_to()
        show_settings(visitor)
    shown = False
    with contextlib.suppress(ZsasError):  # what the verdict's place has said already
        shown = bool(visitor.view.image) and decided_at_once(site, visitor)
    if not shown:
        stop(site, visitor, {})
    systems(site, visitor, {})


def _all(site: Site, visitor: Visitor, unfinished: bool) -> Iterator[Parts]:
    """The image's own result where it was under way, then those of all systems."""
    if unfinished:
        yield from steps(site, visitor)
    yield from _steps(site, visitor, run=True)


def _steps(site: Site, visitor: Visitor, *, run: bool) -> Iterator[Parts]:
    engine, view, settings = site.engine, visitor.view, visitor.settings
    image = engine.image(view.image)
    assert image is not None
    example = site.examples.get(view.example)
    truth = example.truth() if view.truth is None and example is not None else view.truth
    # Good images of a profile are one system's; its region holds for all.
    beside = dataclasses.replace(beside_of(visitor), references=None, weights="")
    found = [Card(name, why=why) for name, why in reasons(visitor.preset).items()]
    for number, card in enumerate(found):
        if card.why:
            continue
        its = settings.replace(system=card.name)
        encoding = engine.known(visitor.preset, view.image, its)
        try:
            if encoding is None and run:
                encoding = engine.encode(visitor.preset, view.image, its)
            if encoding is None:
                continue
            memory = _memory(site, visitor, its, run=run)
            given = (visitor.preset, encoding, its, view.now.clicks, memory)
            result = engine.decide(*given, part=beside)
        except ZsasError as error:
            found[number] = Card(card.name, why=str(error))
            continue
        except Cancelled:
            raise
        except Exception as error:  # too little memory, or a bug of this one: the others go on
            logging.getLogger("zsas").exception("%s could not be run", card.name)
            why = f"It could not be run ({reason(error)})."
            found[number] = Card(card.name, why=why)
            continue
        result = reviewed(result, view.now.review)
        found[number] = Card(card.name, result)
        if truth is not None and truth.any():
            found[number] = Card(card.name, result, "", *curves.measure(result, truth))
        if run:
            yield {"zs-systems": cards(found, settings.system, image.shape, running=True)}
    seconds = engine.line.seconds
    yield {"zs-systems": cards(found, settings.system, image.shape, seconds=seconds)}


def _memory(site: Site, visitor: Visitor, its: Settings, *, run: bool) -> Any:
    """What the good parts look like to a system; None without any, and where it cannot compare."""
    if not visitor.parts:
        return None
    given = (visitor.preset, keys_of(visitor), its, beside_of(visitor).region)
    known = site.engine.memory(*given)
    if known is not None or not run:
        return known
    try:
        return site.engine.remember(*given)
    except ZsasError:  # it has nothing to compare
        return None
