"""A visitor comes, follows a link, waits for the models, leaves."""

from __future__ import annotations

import dataclasses
from typing import Any

from zsas.models import PRESETS
from zsas.ui import screen, snippets
from zsas.ui.controls import from_query, names
from zsas.ui.events.image import ImageEvents
from zsas.ui.events.site import HIDDEN, LIGHT, SPEAKING, Site
from zsas.ui.gradio_internals import forget_values, gr, uncover
from zsas.ui.layout import engine_line, is_waiting
from zsas.ui.visitor import Session


class VisitEvents:
    """What the opening and closing of a tab does."""

    def __init__(self, site: Site, image: ImageEvents) -> None:
        self.site, self.image = site, image

    def wire(self, seen: gr.State) -> None:
        """Connect the parts; `seen` is what the visitor was last told of loading models and examples."""
        parts, blocks = self.site.parts, self.site.blocks
        # Only an address that describes a view may fill the page: anything else would come late and empty what a
        # quick visitor has chosen meanwhile.
        followed = parts.side.link.submit(
            self._follow,
            parts.session,
            [*parts.opened, parts.head.preset, parts.image.strip, *parts.side.settings],
            **LIGHT,
        )
        self.image.run_after(followed).then(None, js=uncover(), **HIDDEN)
        blocks.load(self._arrive, None, parts.tabs.codes, **LIGHT).then(
            None, js=uncover("if (!document.body.dataset.linked)"), **HIDDEN
        )
        blocks.load(self._complain, None, None, **SPEAKING)
        blocks.unload(self._forget)
        head = parts.head
        head.timer.tick(
            self._tick, [seen, head.status], [head.status, head.preset, seen, head.timer], **LIGHT
        )
        seen.change(self._examples_now, parts.session, parts.image.strip, **LIGHT)

    def _arrive(self, request: gr.Request) -> tuple[str, ...]:
        """The server's address, in the texts that name it; the page is there, so the models may come."""
        self.site.engine.visited()
        return tuple(snippets.filled(_address(request)))

    def _follow(self, session: Session, request: gr.Request) -> tuple[Any, ...]:
        """The view that the address describes; an image that the visitor opened meanwhile stays."""
        self.site.visit(request).turn_to()
        engine, examples = self.site.engine, self.site.examples
        query = dict(request.query_params)
        settings, _ = from_query(query)
        preset = query.get("preset", "")
        preset = preset if preset in PRESETS else engine.running or engine.default
        if not session.image and examples.get(query.get("example", "")):
            session = screen.open_example(engine, examples, query["example"])
            image = engine.image(session.image)
            assert image is not None
            clicks = screen.parse_points(query.get("points", ""), image.shape)
            session = dataclasses.replace(session, clicks=clicks)
        values = [getattr(settings, name) for name in names()]
        return (*self.image.showing(session), preset, examples.html(session.example), *values)

    def _complain(self, request: gr.Request) -> None:
        """Say what in the address was refused; apart from `_follow`, which a full line must not keep waiting."""
        for sentence in from_query(dict(request.query_params))[1]:
            gr.Warning(f"The address was not understood: {sentence}")

    def _tick(self, seen: tuple[bool, int], shown: str) -> tuple[Any, ...]:
        """Follow the loading of models and examples until both are done.

        A status that waits for nothing any more stays: another event may have said something there meanwhile.
        """
        engine, examples = self.site.engine, self.site.examples
        running = bool(engine.running)
        preset = gr.skip()
        if running and not seen[0] and engine.running != engine.default:
            preset = engine.running
        done = (running or bool(engine.problem)) and examples.complete
        status = engine_line(engine) if not running or is_waiting(shown) else shown
        return status, preset, (running, len(examples)), gr.Timer(active=not done)

    def _examples_now(self, session: Session) -> str:
        return self.site.examples.html(session.example)

    def _forget(self, request: gr.Request) -> None:
        """The tab is closed: whatever runs or waits for it ends at its next step."""
        self.site.visit(request).stopped = True
        forget_values(self.site.blocks, request.session_hash)


def _address(request: gr.Request) -> str:
    """The server's address as the visitor's browser knows it."""
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", "http").split(",")[0].strip()
    host = (
        headers.get("x-forwarded-host", headers.get("host", "127.0.0.1:7860")).split(",")[0].strip()
    )
    return f"{scheme}://{host}"
