"""One image: open it, run it stage by stage, decide again, take it away."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from zsas.cancellation import Cancelled, until_cancelled
from zsas.errors import ZsasError
from zsas.settings import Settings, all_settings
from zsas.ui import drawing, export, screen, views
from zsas.ui.controls import names, settings_from
from zsas.ui.events.site import HEAVY, HIDDEN, LATEST, LIGHT, LINE, SPEAKING, Site
from zsas.ui.gradio_internals import events_in_line, gr
from zsas.ui.layout import DOWNLOADS, TAKE, engine_line, note, plain, status_line
from zsas.ui.upload import is_uploaded
from zsas.ui.visitor import Session

CHOICE: dict[str, Any] = {**SPEAKING, "trigger_mode": "multiple"}
"""Every image that is chosen begins to open at once, and the last one chosen is shown."""


class ImageEvents:
    """What opening an image, running it and changing a setting do."""

    def __init__(self, site: Site, tab_open: gr.State) -> None:
        self.site, self.tab_open = site, tab_open

    def wire(self) -> None:
        """Connect the parts."""
        self._wire_opening()
        self._wire_settings()
        parts = self.site.parts
        parts.side.stop.click(self._stop, parts.session, parts.side.verdict, **LIGHT)
        for name, tab in parts.tabs.named.items():
            self._refresh_after(tab.select(lambda name=name: name, None, self.tab_open, **LIGHT))

    def _wire_opening(self) -> None:
        parts = self.site.parts
        image = parts.image
        named = [*parts.opened, parts.side.controls["object_name"]]
        for event in (
            image.upload.input(self._open, [image.upload], parts.opened, **CHOICE),
            image.viewer.upload(self._open_dropped, None, parts.opened, **CHOICE),
            image.strip.select(self._open_example, None, named, **CHOICE),
            # A run under way ends; the one after it finds no image and draws the empty page, should a last step come
            # late.
            image.tools.delete(self._close, None, parts.opened, **LIGHT),
        ):
            self.run_after(event)

    def _wire_settings(self) -> None:
        parts = self.site.parts
        side, head = parts.side, parts.head
        system = side.controls["system"]
        encoding = [
            side.controls[one.name]
            for one in all_settings()
            if one.encoding and one.name != "system"
        ]
        name = side.controls["object_name"]
        others = [side.controls[setting.name] for setting in all_settings() if not setting.encoding]
        again = [side.run.click, name.submit, *(control.input for control in encoding)]
        self.run_after(gr.on(again, self._join, [parts.session], side.verdict, **LIGHT))
        chosen = system.input(
            self._take_system, [system, side.controls["object_name"]], side.settings, **LIGHT
        )
        self.run_after(chosen.success(self._join, [parts.session], side.verdict, **LIGHT))
        self.run_after(
            head.preset.input(
                self._switch,
                [head.preset, parts.session],
                [head.preset, side.verdict, head.status],
                show_progress="hidden",
                concurrency_id="load",
                concurrency_limit=2,
                **HIDDEN,
            )
        )
        changed = [
            *(control.input for control in others if control is not name),
            side.scaled.input,
        ]
        self._refresh_after(
            gr.on(changed, self._again, parts.state, parts.drawn, **LIGHT, **LATEST)
        )
        self.decide_after(side.reset.click(self._reset, None, side.settings, **LIGHT))

    def run_after(self, event: Any) -> Any:
        """Run the image after an event, and what that needs."""
        parts = self.site.parts
        running = event.success(
            self._run,
            parts.state,
            parts.drawn,
            show_progress="hidden",
            **HEAVY,
            **LATEST,
            **HIDDEN,
        )
        self._refresh_after(
            running.then(self._catch_up, parts.state, parts.drawn, **LIGHT, **LATEST)
        )
        return running

    def decide_after(self, event: Any) -> None:
        """Decide again after an event."""
        parts = self.site.parts
        self._refresh_after(event.success(self._again, parts.state, parts.drawn, **LIGHT, **LATEST))

    def _refresh_after(self, event: Any) -> None:
        tabs = self.site.parts.tabs
        event.then(
            self._refresh,
            [self.tab_open, *self.site.parts.state],
            [tabs.slider, tabs.take_note, *tabs.downloads],
            **LIGHT,
            **LATEST,
        )

    # What the events call

    def _take_system(self, system: str, object_name: str) -> list[Any]:
        """A system's own defaults in all controls; what the image shows stays."""
        settings = Settings(system=system, object_name=object_name)
        return [getattr(settings, name) for name in names()]

    def showing(self, session: Session) -> tuple[Any, ...]:
        """The values for `Parts.opened`, with an image or without."""
        engine = self.site.engine
        image = engine.image(session.image) if session.image else None
        shown = (
            screen.closed()
            if image is None
            else screen.opened(engine, session, self._line(session))
        )
        there = image is not None
        return (
            *shown.outputs(),
            "" if image is None else drawing.photo(image),
            None,
            gr.Column(visible=not there),
            gr.Column(visible=there),
            "",
            None,
            None,
            note(TAKE),
            *(gr.DownloadButton(value=None, interactive=False) for _ in DOWNLOADS),
        )

    def _nothing(self) -> tuple[Any, ...]:
        return tuple(gr.skip() for _ in self.site.parts.drawn)

    def _open(self, path: str | None, request: gr.Request) -> Any:
        return self._chosen(
            request, lambda: screen.open_image(self.site.engine, path) if path else Session()
        )

    def _open_dropped(self, event: gr.EventData, request: gr.Request) -> Any:
        path = str(getattr(event, "path", ""))
        if not is_uploaded(path):
            raise gr.Error("That is not an uploaded file.", print_exception=False)
        return self._chosen(request, lambda: screen.open_image(self.site.engine, path))

    def _open_example(self, event: gr.EventData, request: gr.Request) -> Any:
        key = str(getattr(event, "example", ""))
        example = self.site.examples.get(key)
        return self._chosen(
            request,
            lambda: screen.open_example(self.site.engine, self.site.examples, key),
            example.object_name if example else "",
        )

    def _chosen(self, request: gr.Request, opening: Callable[[], Session], *beside: str) -> Any:
        """The values that show an image, then `beside`; none if another was chosen while this one was being opened."""
        visit = self.site.visit(request)
        visit.turn_to()
        turn = visit.turn
        try:
            session = opening()
        except ZsasError as error:
            raise gr.Error(
                str(error), title="This file cannot be opened", print_exception=False
            ) from None
        if visit.turn != turn:
            return gr.skip()
        visit.turn_to()  # a run that began meanwhile is of the image before
        return (*self.showing(session), *beside)

    def _close(self, request: gr.Request) -> tuple[Any, ...]:
        self.site.visit(request).turn_to()
        return self.showing(Session())

    def _join(self, session: Session, request: gr.Request) -> str:
        self.site.visit(request).turn_to()
        return self._line(session)

    def _line(self, session: Session) -> str:
        """How long the line is, before joining it."""
        if not session.image:
            return views.welcome()
        ahead = events_in_line(self.site.blocks, LINE)
        return views.busy(f"Busy, {ahead} ahead" if ahead else "Looking at the photo")

    def _run(
        self, request: gr.Request, session: Session, preset: str, scaled: bool, *values: Any
    ) -> Iterator[tuple[Any, ...]]:
        engine, visit = self.site.engine, self.site.visit(request)
        shown = screen.opened(engine, session) if session.image else screen.closed()
        steps = screen.run(engine, session, preset, settings_from(values), scaled)
        visit.running, visit.late = True, False
        try:
            for shown in until_cancelled(steps, visit.unwanted()):
                yield shown.drawn()
        except Cancelled:
            # Whatever else the visitor turned to draws itself. A generator without any item would empty its outputs.
            verdict = self._stopped_verdict(session)
            yield (
                dataclasses.replace(shown, verdict=verdict).drawn()
                if visit.stopped
                else self._nothing()
            )
        finally:
            visit.running = False

    def _again(
        self, request: gr.Request, session: Session, preset: str, scaled: bool, *values: Any
    ) -> tuple[Any, ...]:
        visit = self.site.visit(request)
        if visit.running:
            visit.late = True
            return self._nothing()
        settings = settings_from(values)
        return screen.decide_again(self.site.engine, session, preset, settings, scaled).drawn()

    def _catch_up(
        self, request: gr.Request, session: Session, preset: str, scaled: bool, *values: Any
    ) -> tuple[Any, ...]:
        """After a run: decide again if a point or a setting was changed while it went on."""
        visit = self.site.visit(request)
        if visit.late and not visit.stopped:
            visit.late = False
            return self._again(request, session, preset, scaled, *values)
        return self._nothing()

    def _reset(self) -> tuple[Any, ...]:
        settings = Settings()
        return tuple(getattr(settings, name) for name in names())

    def _switch(
        self, preset: str, session: Session, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """Load another preset; keep what runs if it cannot be had."""
        engine = self.site.engine
        self.site.visit(request).turn_to()
        yield gr.skip(), views.busy(f"Loading {preset}"), engine_line(engine)
        shown: Any = gr.skip()
        try:
            engine.segmenter(preset)
            sentence = f"{preset} is ready."
        except ZsasError as error:
            shown = engine.running or engine.default
            gr.Warning(str(error), duration=20, title=f"{preset} is not available")
            sentence = f"{preset} is not available; {shown} goes on."
        verdict = views.busy("Looking at the photo") if session.image else views.welcome()
        yield shown, verdict, status_line(sentence)

    def _stop(self, session: Session, request: gr.Request) -> str:
        """Whatever runs or waits for this visitor ends at its next step."""
        self.site.visit(request).stopped = True
        return self._stopped_verdict(session)

    def _stopped_verdict(self, session: Session) -> str:
        if not session.image:
            return views.welcome()
        return views.waiting("Cancelled", "Press Run to start again.")

    def _refresh(
        self, tab: str, session: Session, preset: str, scaled: bool, *values: Any
    ) -> tuple[Any, ...]:
        """What only an open tab shows: the slider's two pictures, or the files to take away."""
        engine = self.site.engine
        nothing = (gr.skip(), note(TAKE), *(gr.skip() for _ in DOWNLOADS))
        settings = settings_from(values)
        encoding = engine.known(preset, session.image, settings) if session.image else None
        if tab not in ("slider", "take") or encoding is None:
            return nothing
        result = engine.decide(preset, encoding, settings, session.clicks)
        if tab == "slider":
            before = drawing.shrink(result.image, drawing.PHOTO_SIDE)
            return ((before, views.overlay(result)), *nothing[1:])
        files = export.save_all(result, session.name)
        buttons = [
            gr.DownloadButton(value=str(files[key]), interactive=True) for key, _ in DOWNLOADS
        ]
        height, width = result.mask.shape
        words = note(
            f"{plain(result.sentence)} All files are {width} × {height} px and lossless; "
            "in the 16-bit score map 65535 is a score of 1."
        )
        return (gr.skip(), words, *buttons)
