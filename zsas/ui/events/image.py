"""One image: open it, run it stage by stage, change a setting, stop."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from zsas.cancellation import raise_if_cancelled
from zsas.errors import ZsasError
from zsas.models import fetching
from zsas.part import Part
from zsas.prompts import Click
from zsas.result import Result
from zsas.review import reviewed
from zsas.settings import Settings, all_settings
from zsas.stages import Stage
from zsas.ui import screen, views
from zsas.ui.cards import reasons
from zsas.ui.drawer import changed, drawer
from zsas.ui.events.site import Parts, Site, action
from zsas.ui.good import GoodPlace, good_places, named
from zsas.ui.upload import load_upload, uploaded
from zsas.ui.values import read_preset
from zsas.ui.visitor import View, Visitor

SAY_SECONDS = 1.0
"""Seconds between two sentences about a download."""


@action
def open_upload(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Open a file that was uploaded: {path}."""
    path = uploaded(data.get("path"))
    image = load_upload(path)
    visitor.give_name_back()
    key = site.engine.keep_image(image, path)
    show(site, visitor, View(key, Path(path).stem, file=Path(path).name))


@action
def open_example(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Open one of the examples: {key}."""
    show(site, visitor, example_view(site, visitor, str(data.get("key", ""))))


def example_view(site: Site, visitor: Visitor, key: str) -> View:
    """The view of an example, whose object's name becomes the visitor's.

    Raises:
        ZsasError: If there is none of that id.
    """
    example = site.examples.get(key)
    if example is None:
        raise ZsasError(f"There is no example {key!r}; pick one of the row.")
    visitor.settings = visitor.settings.replace(object_name=example.object_name)
    visitor.lent_name = example.object_name
    image = site.engine.keep_image(example.load(), example.image)
    return View(image, key, key, file=example.image.name)


@action
def close(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Put the image away."""
    with visitor.lock:
        turn_to(visitor, View())
        visitor.show(screen.opened(visitor))


def turn_to(visitor: Visitor, view: View) -> None:
    """Leave the present image for another; what runs for the visitor ends."""
    visitor.turn_to()
    remember(visitor)
    visitor.view = view
    show_settings(visitor)


def remember(visitor: Visitor) -> None:
    """Keep what was said about the present image, so that Back and the batch find it again."""
    view = visitor.view
    if view.image:
        visitor.views[view.image] = view
        while len(visitor.views) > 32:
            visitor.views.pop(next(iter(visitor.views)))
    if view.row >= 0 and visitor.batch is not None:
        visitor.batch.views[view.row] = view
        if view.row < visitor.batch.done:
            visitor.show({f"row-{view.row}": visitor.batch.shown(view.row)})
        limit = visitor.in_force.verdict_threshold
        visitor.show({"proposal": visitor.batch.proposal(limit)})


def show(site: Site, visitor: Visitor, view: View) -> None:
    """Turn to an image."""
    with visitor.lock:
        turn_to(visitor, view)
    with contextlib.suppress(ZsasError):  # the run says it in the verdict's place
        if decided_at_once(site, visitor):
            return
    image = site.engine.image(view.image)
    with visitor.lock:
        if visitor.view is view:
            visitor.show(screen.opened(visitor, image, views.busy("Looking at the photo")))
    run(site, visitor)


def show_settings(visitor: Visitor) -> None:
    """Draw the controls as the settings stand."""
    visitor.show(
        {
            "zs-drawer-body": drawer(visitor.in_force),
            "settings": {
                "values": visitor.in_force.to_dict(),
                "changed": changed(visitor.settings),
                "preset": visitor.awaited or visitor.preset,
                "scaled": visitor.scaled,
                "lacking": reasons(visitor.preset),
            },
        }
    )


@action
def change(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Change one setting: {name, value}; a text is read as in an address."""
    name, value = str(data.get("name", "")), data.get("value")
    known = {setting.name: setting for setting in all_settings()}
    if name == "scaled":
        visitor.scaled = bool(value)
    else:
        if isinstance(value, str) and name in known:
            value = known[name].parse(value)
        visitor.settings = visitor.settings.replace(**{name: value})
    show_settings(visitor)
    decide(site, visitor)


@action
def reset(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """All settings as the system has them; the object keeps its name."""
    settings = visitor.settings
    visitor.settings = Settings(system=settings.system, object_name=settings.object_name)
    show_settings(visitor)
    decide(site, visitor)


@action
def preset(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Change the models: {name}; what runs goes on where they cannot be had."""
    before = visitor.preset
    name = read_preset(data.get("name"), before)

    def load() -> Iterator[Parts]:
        now, failure = name, {}
        try:
            yield from loading(site, name)
        except ZsasError as error:
            now, failure = before, {"failure": f"{error} {before} goes on."}
        with visitor.lock:
            raise_if_cancelled()
            visitor.preset, visitor.awaited = now, ""
            show_settings(visitor)
        yield failure
        yield from steps(site, visitor)

    with visitor.lock:
        site.start(visitor, load())
        visitor.awaited = name
        show_settings(visitor)


@action
def rerun(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Look at the image again, after Stop or a failure."""
    decide(site, visitor)


@action
def stop(site: Site, visitor: Visitor, data: Mapping[str, Any]) -> None:
    """Whatever runs for this visitor ends at its next step."""
    with visitor.lock:
        visitor.stopped, visitor.running, visitor.awaited = True, False, ""
        show_settings(visitor)
        welcome = views.welcome(len(visitor.parts))
        visitor.show({"zs-verdict": views.STOPPED if visitor.view.image else welcome})


def loading(site: Site, name: str) -> Iterator[Parts]:
    """Load the models of a preset; meanwhile the verdict's place says how far a download is.

    Who stops waits no longer; the models are loaded all the same, for the next one who asks.

    Raises:
        ZsasError: If they cannot be had.
        Cancelled: If the visitor turns to something else.
    """
    loader = ThreadPoolExecutor(1)
    work = loader.submit(site.engine.segmenter, name)
    loader.shutdown(wait=False)
    shown = ""
    while True:
        text = fetching().rstrip(".") or f"Loading {name}"
        if text != shown:
            yield {"zs-verdict": views.busy(text)}
        shown = text
        if wait([work], SAY_SECONDS).done:
            work.result()
            return
        raise_if_cancelled()


def _loaded(site: Site, visitor: Visitor) -> Iterator[Parts]:
    """Load the visitor's models; where they cannot be had, those that run here go on, and the page says so."""
    wanted, runs = visitor.preset, site.engine.running
    try:
        yield from loading(site, wanted)
    except ZsasError as error:
        if runs in ("", wanted):
            raise
        visitor.preset = runs
        visitor.run_key = _key_of(visitor)
        show_settings(visitor)
        yield {"failure": f"{error} {runs} runs instead."}


def result_of(
    site: Site, visitor: Visitor, clicks: tuple[Click, ...] | None = None
) -> Result | None:
    """The result of the present view with the person's corrections, None where it has to be encoded first.

    Args:
        site: The page.
        visitor: Whose view it is.
        clicks: Points in the place of the person's own, to see what they would do; None for those.
    """
    view, settings = visitor.view, visitor.settings
    encoding = site.engine.known(visitor.preset, view.image, settings) if view.image else None
    if encoding is None:
        return None
    memory = None
    if visitor.parts:
        memory = known_memory(site, visitor)
        if memory is None:
            return None
    given = (settings, view.now.clicks if clicks is None else clicks, memory)
    result = site.engine.decide(
        *(visitor.preset, encoding, *given, neighbours_of(visitor)),
        part=visitor.beside,
        keep=clicks is None,
    )
    return reviewed(named(result, visitor.parts), view.now.review)


def keys_of(visitor: Visitor) -> tuple[str, ...]:
    """Keys of the good parts."""
    return tuple(key for key, _ in visitor.parts)


def neighbours_of(visitor: Visitor) -> Any:
    """The batch that the present view's image was compared with; None outside one, or with other encodings."""
    many, settings = visitor.batch, visitor.settings
    if many is None or visitor.view.row < 0 or many.preset != visitor.preset:
        return None
    if many.region != beside_of(visitor).region:
        return None
    return many.neighbours if many.settings.encoding_key == settings.encoding_key else None


def beside_of(visitor: Visitor) -> Part:
    """Region, scale and profile of the part that the visitor looks at."""
    return visitor.beside or Part()


def known_memory(site: Site, visitor: Visitor) -> Any:
    """What the good parts look like, None where it has still to be made."""
    region = beside_of(visitor).region
    return site.engine.memory(visitor.preset, keys_of(visitor), visitor.settings, region)


def memory_of(site: Site, visitor: Visitor) -> Any:
    """What the good parts look like, encoded where it has to be; None without any."""
    if not visitor.parts:
        return None
    keys, region = keys_of(visitor), beside_of(visitor).region
    known = known_memory(site, visitor)
    return known or site.engine.remember(visitor.preset, keys, visitor.settings, region)


def decided_at_once(site: Site, visitor: Visitor) -> bool:
    """Show a decision where no encoder is needed; whether it was so."""
    view, settings = visitor.view, visitor.settings
    result = result_of(site, visitor)
    if result is None:
        return False
    with visitor.lock:
        if visitor.view is view and visitor.settings is settings:
            visitor.show(_decided(site, visitor, result))
    return True


def take_limit(visitor: Visitor, result: Result) -> None:
    """The limit that the good parts ask for, on all controls; none where they ask for none."""
    found = result.settings.verdict_threshold if result.limit_from == "references" else None
    if found != visitor.limit_found and result.limit_from in ("references", "default"):
        visitor.limit_found = found
        show_settings(visitor)


def _decided(site: Site, visitor: Visitor, result: Result) -> Parts:
    take_limit(visitor, result)
    return screen.decided(visitor, result, _good(site, visitor, result))


def decide(site: Site, visitor: Visitor) -> None:
    """Decide again with what the controls and the person say now; a run under way does so at its end."""
    if not visitor.view.image:
        verdict = views.welcome(len(visitor.parts))
        visitor.show({"state": screen.state(visitor, False), "zs-verdict": verdict})
        return
    with visitor.lock:
        under_way = visitor.awaited or visitor.run_key == _key_of(visitor)
    if not (visitor.running and under_way) and not decided_at_once(site, visitor):
        run(site, visitor)


def _key_of(visitor: Visitor) -> tuple[Any, ...]:
    """What a run encodes."""
    settings, region = visitor.settings, beside_of(visitor).region
    looked_at = region.key if region and visitor.parts else ""
    return (visitor.preset, visitor.view.image, settings.encoding_key, visitor.parts, looked_at)


def run(site: Site, visitor: Visitor) -> None:
    """Everything from the image to the result in the background."""
    site.start(visitor, steps(site, visitor))


def steps(site: Site, visitor: Visitor) -> Iterator[Parts]:
    """One screen a stage, then the result; again, if a setting or a correction was changed meanwhile."""
    view, settings = visitor.view, visitor.settings
    visitor.run_key = _key_of(visitor)
    if not view.image:
        yield screen.opened(visitor)
        return
    image = site.engine.image(view.image)
    if image is None:
        raise ZsasError("This photo is no longer in memory; open it again.")
    if not site.engine.is_loaded(visitor.preset):
        yield from _loaded(site, visitor)
    memory = None
    if visitor.parts:
        yield {"zs-verdict": views.busy(f"Reading {views.plural(len(visitor.parts), 'good part')}")}
        memory = memory_of(site, visitor)
    found: list[Stage] = []
    given = (view.image, settings, view.now.clicks, memory, neighbours_of(visitor))
    for step in site.engine.stages(visitor.preset, *given, part=visitor.beside):
        if isinstance(step, str):
            yield {"zs-verdict": views.busy(step or "Encoding the photo")}
        elif isinstance(step, Stage):
            found.append(step)
            yield screen.on_the_way(visitor, image.shape, found)
        else:
            result = reviewed(named(step, visitor.parts), view.now.review)
    while visitor.run_key:
        before = _as_it_stands(visitor)
        # The encoding may have been let go meanwhile.
        yield _decided(site, visitor, result_of(site, visitor) or result)
        with visitor.lock:  # whoever changes something from now on decides at once
            if all(a is b for a, b in zip(before, _as_it_stands(visitor), strict=True)):
                visitor.run_key = ()


def _as_it_stands(visitor: Visitor) -> tuple[Any, ...]:
    """What a decision follows without a new encoding."""
    return visitor.view, visitor.settings, visitor.beside, visitor.scaled


def _good(site: Site, visitor: Visitor, result: Result) -> Mapping[int, GoodPlace]:
    """For each finding the most similar place of the visitor's good parts; nothing without any."""
    if not visitor.parts:
        return {}
    encoding = site.engine.known(visitor.preset, visitor.view.image, visitor.settings)
    memory = known_memory(site, visitor)
    return good_places(site.engine, visitor.parts, encoding, memory, result)
