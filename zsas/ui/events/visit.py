"""A visitor comes, comes back, follows a link, waits for the models."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from zsas.errors import ZsasError
from zsas.models import PRESETS
from zsas.settings import Settings
from zsas.ui import screen, snippets
from zsas.ui.address import from_query, names
from zsas.ui.events import parts, profile
from zsas.ui.events.batch import open_row
from zsas.ui.events.image import beside_of, close, example_view, show, show_settings
from zsas.ui.events.site import Site, action, answer
from zsas.ui.visitor import ONCE, Corrections, Review, View, Visitor

OURS = ("example", "preset", "points", "rejected")
"""What an address may say beside settings."""
NEWS_SECONDS = 15.0
"""How long a tab's question for news is kept open."""


def hello(site: Site, token: str, query: str) -> dict[str, Any]:
    """A tab opens: the visitor of the token where there is one and the address says nothing else, or a new one."""
    site.engine.visited()
    asked = dict(parse_qsl(query.removeprefix("?")))
    ours = {name: value for name, value in asked.items() if name in (*names(), *OURS)}
    visitor = site.visitors.known(token) if token else None
    problem = ""
    if visitor is None or (ours and dict(parse_qsl(screen.query_of(visitor))) != ours):
        visitor = site.visitors.new(site.engine.running or site.engine.default)
        problem = _follow(site, visitor, ours)
    elif not visitor.running:
        _wake(site, visitor)
    for said in ONCE:
        visitor.forget(said)
    show_status(site, visitor)
    return {**answer(visitor, 0, problem), "token": visitor.token}


def _wake(site: Site, visitor: Visitor) -> None:
    """Draw anew what was let go while the tab was silent, its pictures above all."""
    visitor.forget("zs-")
    show_settings(visitor)
    visitor.show({"zs-parts": parts.shown(visitor.parts), **profile.shown(beside_of(visitor))})
    _return_to(site, visitor, visitor.view)


@action
def come_back(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Go back to an image of before, or to none: {image}; one that was let go is as none."""
    view = visitor.views.get(str(data.get("image", "")), View())
    visitor.give_name_back()
    if view.example:
        example_view(site, visitor, view.example)  # for its object's name
    _return_to(site, visitor, view)


def _return_to(site: Site, visitor: Visitor, view: View) -> None:
    with contextlib.suppress(ZsasError):  # it is of no lot, or of one that is not kept any more
        open_row(site, visitor, {"number": view.row})
        return
    if site.engine.image(view.image) is not None:
        show(site, visitor, view)
    else:
        close(site, visitor, {})


def _follow(site: Site, visitor: Visitor, ours: Mapping[str, str]) -> str:
    """Show the view that an address describes; what of it was refused, in words."""
    settings, refused = from_query(ours)
    if site.part is not None:
        settings = site.part.chosen(settings)
        visitor.beside = dataclasses.replace(site.part, settings=Settings())
    # Also where there is nothing: a page that outlived its server still shows what it had.
    visitor.show({"zs-parts": parts.shown(()), **profile.shown(beside_of(visitor))})
    visitor.settings = settings
    preset, key = ours.get("preset", ""), ours.get("example", "")
    if preset in PRESETS:
        visitor.preset = preset
    elif preset:
        refused.append(f"There is no preset {preset!r}; {visitor.preset} runs.")
    if key and site.examples.get(key) is None:
        refused.append(f"There is no example {key!r} here.")
        key = ""
    if key:
        view = example_view(site, visitor, key)
        visitor.settings = settings if "object_name" in ours else visitor.settings
        image = site.engine.image(view.image)
        assert image is not None
        clicks = screen.parse_points(ours.get("points", ""), image.shape)
        places = screen.parse_places(ours.get("rejected", ""), image.shape)
        show(site, visitor, dataclasses.replace(view, now=Corrections(clicks, Review(places))))
    else:
        show_settings(visitor)
        visitor.show(screen.opened(visitor))
    return f"The address was not understood: {' '.join(refused)}" if refused else ""


@action
def look(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Ask how far models and examples are."""
    engine = site.engine
    if engine.running and not visitor.view.image and visitor.preset == engine.default:
        visitor.preset = engine.running
        show_settings(visitor)
    show_status(site, visitor)


def show_status(site: Site, visitor: Visitor) -> None:
    """What the models are doing, and examples that the page did not come with."""
    visitor.show({"status": status(site)})
    if len(site.examples) > site.examples.bundled:
        visitor.show({"zs-examples": site.examples.html()})


def status(site: Site) -> dict[str, Any]:
    """What the models are doing, and whether it is worth asking again."""
    engine = site.engine
    waiting = not engine.running and not engine.problem
    usual = bool(engine.running) and not engine.problem
    return {
        "text": "" if usual else engine.status,
        "waiting": waiting,
        "again": waiting or not site.examples.complete or not engine.speed.over,
        "presets": engine.speed.words(),
    }


async def updates(site: Site, token: str, seen: int) -> dict[str, Any]:
    """News for a tab for which something runs, as soon as there are any."""
    until = time.monotonic() + NEWS_SECONDS
    while True:
        visitor = site.visitors.known(token)
        if visitor is None:
            return {"gone": True}
        if visitor.news > seen or not visitor.is_busy or time.monotonic() > until:
            return answer(visitor, seen)
        await asyncio.sleep(0.03)


@action
def code(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """This view as code: {url}."""
    url = str(data.get("url", ""))
    usual = Settings(system=visitor.settings.system).to_dict()
    values = visitor.settings.to_dict()
    system = {} if values["system"] == Settings().system else {"system": values["system"]}
    changed = {name: value for name, value in values.items() if usual[name] != value}
    visitor.show({"code": snippets.filled(url, visitor.preset, {**system, **changed})})
