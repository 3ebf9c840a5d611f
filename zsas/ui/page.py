"""Which event of the page calls what, and what it calls."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from zsas.errors import ZsasError
from zsas.images import read_mask
from zsas.settings import Settings, knobs
from zsas.stopping import Stopped, heeding, until_stopped
from zsas.ui import api, batch, compare, drawing, export, snippets, stages, views
from zsas.ui.controls import NAMES, from_query, settings_from
from zsas.ui.examples import Examples
from zsas.ui.layout import DOWNLOADS, TAKE, Layout, is_waiting, note, plain, status_line
from zsas.ui.quick import gr
from zsas.ui.session import PRESETS, Session, Workshop
from zsas.ui.upload import UploadedFiles, UploadedImage, is_uploaded
from zsas.ui.visits import Visits

TITLE = "Zero-shot anomaly segmentation"
HEAVY: dict[str, Any] = {"concurrency_id": "models", "concurrency_limit": 1}
"""Whatever may run an encoder waits in one line."""
LIGHT: dict[str, Any] = {"queue": False, "show_progress": "hidden"}
"""What takes milliseconds does not wait behind it."""
SPEAKING: dict[str, Any] = {"concurrency_limit": None, "show_progress": "hidden"}
"""As quick, and able to show a warning or an error: gradio shows neither of an event outside its queue."""
HIDDEN: dict[str, Any] = {"api_visibility": "private"}
POINTS: dict[str, Any] = {
    "concurrency_id": "points",
    "concurrency_limit": 1,
    "show_progress": "hidden",
}
"""One after the other: each click reads the session that the one before it wrote."""
LATEST: dict[str, Any] = {"trigger_mode": "always_last"}
"""What is asked for while the same event runs is done after it; gradio drops it by default."""
CHOICE: dict[str, Any] = {**SPEAKING, **HIDDEN, "trigger_mode": "multiple"}
"""Every photo that is chosen begins to open at once, and the last one chosen is shown."""


def build(workshop: Workshop, examples: Examples) -> gr.Blocks:
    """The page, wired to the models; not yet launched."""
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(1800, 7200)
    ) as page:
        session = gr.State(Session(), time_to_live=6 * 3600)
        tab_open = gr.State("why")
        seen = gr.State((False, 0))
        _Page(page, workshop, examples, session, tab_open, seen)
    return page


class _Nothing(dict[int, Any]):
    """Stays empty, whatever is put in."""

    def __setitem__(self, key: int, value: Any) -> None:
        pass

    def __missing__(self, key: int) -> dict[str, Any]:
        return {}


class _Page(Layout):
    """The parts of the page and what their events call."""

    def __init__(
        self,
        page: gr.Blocks,
        workshop: Workshop,
        examples: Examples,
        session: gr.State,
        tab_open: gr.State,
        seen: gr.State,
    ) -> None:
        super().__init__(workshop, examples, session)
        self.page, self.tab_open, self.seen = page, tab_open, seen
        self.visits = Visits()
        self._wire(page)
        self._endpoints()

    # Events

    def _wire(self, page: gr.Blocks) -> None:
        state = [self.session, self.preset, self.scaled, *self.settings]
        stage = [self.holder, self.upload, self.closed, self.opened, *self.of_one_photo]

        # Only an address that describes a view may fill the page: anything else would come late and empty what a
        # quick visitor has chosen meanwhile.
        followed = self.link.submit(
            self._follow,
            self.session,
            [*self.screen, *stage, self.preset, self.strip, *self.settings],
            **LIGHT,
            **HIDDEN,
        )
        linked = self._then_run(followed, state)
        linked.then(None, js=_arrived(), **HIDDEN)
        page.load(self._arrive, None, self.codes, **LIGHT, **HIDDEN).then(
            None, js=_arrived("if (!document.body.dataset.linked)"), **HIDDEN
        )
        page.load(self._complain, None, None, **SPEAKING, **HIDDEN)
        page.unload(self._forget)
        self.timer.tick(
            self._tick,
            [self.seen, self.status],
            [self.status, self.preset, self.seen, self.timer],
            **LIGHT,
            **HIDDEN,
        )
        self.seen.change(self._examples_now, self.session, self.strip, **LIGHT, **HIDDEN)

        opened = [
            self.upload.input(self._open, [self.upload], [*self.screen, *stage], **CHOICE),
            self.viewer.upload(self._open_dropped, None, [*self.screen, *stage], **CHOICE),
            self.strip.select(
                self._open_example,
                None,
                [*self.screen, *stage, self.controls["object_name"]],
                **CHOICE,
            ),
        ]
        for event in opened:
            self._then_run(event, state)
        # A run under way ends; the one after it finds no photo and draws the empty page, should a last step come late.
        self._then_run(
            self.tools.delete(self._close, None, [*self.screen, *stage], **LIGHT, **HIDDEN), state
        )

        encoding = [self.controls[knob.name] for knob in knobs() if knob.encoding]
        others = [self.controls[knob.name] for knob in knobs() if not knob.encoding]
        triggers = [
            self.run.click,
            self.controls["object_name"].submit,
            *(c.input for c in encoding),
        ]
        self._then_run(
            gr.on(triggers, self._join, [self.session], self.verdict, **LIGHT, **HIDDEN), state
        )
        self._then_run(
            self.preset.input(
                self._switch,
                [self.preset, self.session],
                [self.preset, self.verdict, self.status],
                show_progress="hidden",
                concurrency_id="load",
                concurrency_limit=2,
                **HIDDEN,
            ),
            state,
        )

        again = gr.on(
            [
                *(c.input for c in others if c is not self.controls["object_name"]),
                self.scaled.input,
            ],
            self._again,
            state,
            self.drawn,
            **LIGHT,
            **LATEST,
            **HIDDEN,
        )
        pointed = [
            event(what, self.session, self.session, trigger_mode="multiple", **POINTS, **HIDDEN)
            for event, what in (
                (self.viewer.select, self._click),
                (self.tools.undo, self._undo),
                (self.tools.clear, self._clear),
            )
        ]
        changed = [
            again,
            *(
                event.success(self._again, state, self.drawn, **LIGHT, **LATEST, **HIDDEN)
                for event in pointed
            ),
            self.reset.click(self._reset, None, self.settings, **LIGHT, **HIDDEN).success(
                self._again, state, self.drawn, **LIGHT, **LATEST, **HIDDEN
            ),
        ]
        for event in changed:
            self._then_refresh(event, state)
        for tab, name in (
            (self.tab_why, "why"),
            (self.tab_slider, "slider"),
            (self.tab_take, "take"),
            (self.tab_code, "code"),
        ):
            self._then_refresh(
                tab.select(lambda name=name: name, None, self.tab_open, **LIGHT, **HIDDEN), state
            )

        self.compare.click(self._go, None, None, **LIGHT, **HIDDEN).success(
            self._compare,
            [self.session, self.preset, self.truth, *self.settings],
            self.comparison,
            show_progress="minimal",
            **HEAVY,
            **HIDDEN,
        )
        self.run_all.click(self._go, None, None, **LIGHT, **HIDDEN).success(
            self._batch,
            [self.files, self.preset, *self.settings],
            [self.batch, self.archive],
            show_progress="minimal",
            **HEAVY,
            **HIDDEN,
        )
        self.stop.click(
            self._stop,
            self.session,
            self.verdict,
            **LIGHT,
            **HIDDEN,
        )
        self.stop_all.click(self._halt, None, None, **LIGHT, **HIDDEN)

    def _then_run(self, event: Any, state: list[Any]) -> Any:
        running = event.success(
            self._run, state, self.drawn, show_progress="hidden", **HEAVY, **LATEST, **HIDDEN
        )
        caught_up = running.then(self._catch_up, state, self.drawn, **LIGHT, **LATEST, **HIDDEN)
        self._then_refresh(caught_up, state)
        return running

    def _then_refresh(self, event: Any, state: list[Any]) -> None:
        event.then(
            self._refresh,
            [self.tab_open, *state],
            [self.slider, self.take_note, *self.downloads],
            **LIGHT,
            **LATEST,
            **HIDDEN,
        )

    def _endpoints(self) -> None:
        with gr.Column(visible=False):
            image = UploadedImage(label="image", type="filepath", image_mode=None)
            files = UploadedFiles(label="files", file_count="multiple", type="filepath")
            preset = gr.Dropdown(["", *PRESETS], value="", label="preset")
            answer, rows = gr.JSON(label="result"), gr.JSON(label="rows")
            mask, score, overlay, everything, archive = (
                gr.File(label=name)
                for name in ("mask", "score map", "overlay", "everything", "archive")
            )
            one, many = gr.Button("segment"), gr.Button("segment_batch")
        one.click(
            api.make_segment(self.workshop),
            [image, preset, *self.settings],
            [answer, mask, score, overlay, everything],
            api_name="segment",
            **HEAVY,
        )
        many.click(
            api.make_batch(self.workshop),
            [files, preset, *self.settings],
            [rows, archive],
            api_name="batch",
            **HEAVY,
        )

    # What the events call

    def _tick(self, seen: tuple[bool, int], shown: str) -> tuple[Any, ...]:
        """Follow the loading of models and examples until both are done.

        A status that waits for nothing any more stays: another event may have said something there meanwhile.
        """
        running = bool(self.workshop.running)
        preset = gr.skip()
        if running and not seen[0] and self.workshop.running != self.workshop.default:
            preset = self.workshop.running
        done = (running or bool(self.workshop.problem)) and self.examples.complete
        status = self._status() if not running or is_waiting(shown) else shown
        return status, preset, (running, len(self.examples)), gr.Timer(active=not done)

    def _forget(self, request: gr.Request) -> None:
        """Let go of what gradio keeps of a closed tab for its deep links: the last value of every component.

        For good: a run that was cancelled in the middle may write once more after this.
        """
        self._halt(request)
        state = self.page.state_holder.session_data.get(request.session_hash or "")
        if state is not None:
            state.config_values = _Nothing()

    def _examples_now(self, session: Session) -> str:
        return self.examples.html(session.example)

    def _arrive(self, request: gr.Request) -> tuple[str, ...]:
        """The server's address, in the texts that name it; the page is there, so the models may come."""
        self.workshop.visited()
        return tuple(snippets.filled(_address(request)))

    def _follow(self, session: Session, request: gr.Request) -> tuple[Any, ...]:
        """The view that the address describes; a photo that the visitor opened meanwhile stays."""
        self._turn(request)
        query = dict(request.query_params)
        settings, _ = from_query(query)
        preset = query.get("preset", "")
        preset = preset if preset in PRESETS else self.workshop.running or self.workshop.default
        if not session.photo and self.examples.get(query.get("example", "")):
            session = stages.open_example(self.workshop, self.examples, query["example"])
            photo = self.workshop.photo(session.photo)
            assert photo is not None
            clicks = stages.parse_points(query.get("points", ""), photo.shape)
            session = dataclasses.replace(session, clicks=clicks)
        values = [getattr(settings, name) for name in NAMES]
        return (*self._showing(session), preset, self.examples.html(session.example), *values)

    def _complain(self, request: gr.Request) -> None:
        """Say what in the address was refused; apart from `_follow`, which a full line must not keep waiting."""
        for sentence in from_query(dict(request.query_params))[1]:
            gr.Warning(f"The address was not understood: {sentence}")

    def _showing(self, session: Session) -> tuple[Any, ...]:
        """The values for screen and stage, with a photo or without."""
        image = self.workshop.photo(session.photo) if session.photo else None
        screen = (
            stages.closed()
            if image is None
            else stages.opened(self.workshop, session, self._line(session))
        )
        holder = "" if image is None else drawing.photo(image)
        there = image is not None
        return (
            *screen.outputs(),
            holder,
            None,
            gr.Column(visible=not there),
            gr.Column(visible=there),
            "",
            None,
            None,
            note(TAKE),
            *(gr.DownloadButton(value=None, interactive=False) for _ in self.downloads),
        )

    def _go(self, request: gr.Request) -> None:
        """Forget that this visitor stopped something."""
        self.visits.of(request.session_hash).stopped = False

    def _turn(self, request: gr.Request) -> None:
        """What this visitor's page shows is going to be another thing: what runs for it ends at its next step."""
        self.visits.of(request.session_hash).turn_to()

    def _halt(self, request: gr.Request) -> None:
        """Whatever runs or waits for this visitor ends at its next step."""
        self.visits.of(request.session_hash).stopped = True

    def _open(self, path: str | None, request: gr.Request) -> Any:
        return self._chosen(
            request, lambda: stages.open_photo(self.workshop, path) if path else Session()
        )

    def _open_dropped(self, event: gr.EventData, request: gr.Request) -> Any:
        path = str(getattr(event, "path", ""))
        if not is_uploaded(path):
            raise gr.Error("That is not an uploaded file.", print_exception=False)
        return self._chosen(request, lambda: stages.open_photo(self.workshop, path))

    def _open_example(self, event: gr.EventData, request: gr.Request) -> Any:
        key = str(getattr(event, "example", ""))
        example = self.examples.get(key)
        return self._chosen(
            request,
            lambda: stages.open_example(self.workshop, self.examples, key),
            example.object_name if example else "",
        )

    def _chosen(self, request: gr.Request, opening: Callable[[], Session], *beside: str) -> Any:
        """The values that show a photo, then `beside`; none if another was chosen while this one was being opened."""
        visit = self.visits.of(request.session_hash)
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
        visit.turn_to()  # a run that began meanwhile is of the photo before
        return (*self._showing(session), *beside)

    def _close(self, request: gr.Request) -> tuple[Any, ...]:
        self._turn(request)
        return self._showing(Session())

    def _join(self, session: Session, request: gr.Request) -> str:
        self._turn(request)
        return self._line(session)

    def _line(self, session: Session) -> str:
        """How long the line is, before joining it."""
        if not session.photo:
            return views.welcome()
        ahead = _ahead(self.page)
        return views.busy(f"Busy, {ahead} ahead" if ahead else "Looking at the photo")

    def _run(
        self, request: gr.Request, session: Session, preset: str, scaled: bool, *values: Any
    ) -> Iterator[tuple[Any, ...]]:
        visit = self.visits.of(request.session_hash)
        screen = stages.opened(self.workshop, session) if session.photo else stages.closed()
        steps = stages.run(self.workshop, session, preset, settings_from(values), scaled)
        visit.running, visit.late = True, False
        try:
            for screen in until_stopped(steps, self.visits.of(request.session_hash).unwanted()):
                yield screen.drawn()
        except Stopped:
            # Whatever else the visitor turned to draws itself. A generator without any item would empty its outputs.
            nothing = tuple(gr.skip() for _ in self.drawn)
            verdict = self._stopped_verdict(session)
            yield (
                dataclasses.replace(screen, verdict=verdict).drawn() if visit.stopped else nothing
            )
        finally:
            visit.running = False

    def _again(
        self, request: gr.Request, session: Session, preset: str, scaled: bool, *values: Any
    ) -> tuple[Any, ...]:
        visit = self.visits.of(request.session_hash)
        if visit.running:
            visit.late = True
            return tuple(gr.skip() for _ in self.drawn)
        settings = settings_from(values)
        return stages.decide_again(self.workshop, session, preset, settings, scaled).drawn()

    def _catch_up(
        self, request: gr.Request, session: Session, preset: str, scaled: bool, *values: Any
    ) -> tuple[Any, ...]:
        """After a run: decide again if a point or a setting was changed while it went on."""
        visit = self.visits.of(request.session_hash)
        if visit.late and not visit.stopped:
            visit.late = False
            return self._again(request, session, preset, scaled, *values)
        return tuple(gr.skip() for _ in self.drawn)

    def _reset(self) -> tuple[Any, ...]:
        settings = Settings()
        return tuple(getattr(settings, name) for name in NAMES)

    def _click(self, event: gr.EventData, session: Session) -> Session:
        photo = self.workshop.photo(session.photo)
        if photo is None:
            return session
        return stages.click(session, photo.shape, event.x, event.y, event.action)

    def _undo(self, session: Session) -> Session:
        return session.undone()

    def _clear(self, session: Session) -> Session:
        return session.clicked(()) if session.clicks else session

    def _switch(
        self, preset: str, session: Session, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        """Load another preset; keep what runs if it cannot be had."""
        self._turn(request)
        yield gr.skip(), views.busy(f"Loading {preset}"), self._status()
        try:
            self.workshop.segmenter(preset)
        except ZsasError as error:
            running = self.workshop.running or self.workshop.default
            gr.Warning(str(error), duration=20, title=f"{preset} is not available")
            sentence = f"{preset} is not available; {running} goes on."
            yield (
                running,
                views.busy("Looking at the photo") if session.photo else views.welcome(),
                status_line(sentence),
            )
            return
        ready = status_line(f"{preset} is ready.")
        yield (
            gr.skip(),
            views.busy("Looking at the photo") if session.photo else views.welcome(),
            ready,
        )

    def _stop(self, session: Session, request: gr.Request) -> str:
        self._halt(request)
        return self._stopped_verdict(session)

    def _stopped_verdict(self, session: Session) -> str:
        return (
            views.waiting("Stopped", "Press Run to start again.")
            if session.photo
            else views.welcome()
        )

    def _refresh(
        self, tab: str, session: Session, preset: str, scaled: bool, *values: Any
    ) -> tuple[Any, ...]:
        """What only an open tab shows: the slider's two pictures, or the files to take away."""
        nothing = (gr.skip(), note(TAKE), *(gr.skip() for _ in self.downloads))
        settings = settings_from(values)
        encoding = self.workshop.known(preset, session.photo, settings) if session.photo else None
        if tab not in ("slider", "take") or encoding is None:
            return nothing
        result = self.workshop.decide(preset, encoding, settings, session.clicks)
        if tab == "slider":
            before = drawing.shrink(result.image, drawing.PHOTO_SIDE)
            return ((before, views.overlay(result)), *nothing[1:])
        files = export.save_all(result, session.name)
        buttons = [
            gr.DownloadButton(value=str(files[key]), interactive=True) for key, _ in DOWNLOADS
        ]
        height, width = result.mask.shape
        words = note(
            f"{plain(result.verdict)} All files are {width} × {height} px and lossless; "
            "in the 16-bit score map 65535 is a score of 1."
        )
        return (gr.skip(), words, *buttons)

    def _compare(
        self,
        request: gr.Request,
        session: Session,
        preset: str,
        truth: str | None,
        *values: Any,
    ) -> Iterator[str]:
        photo = self.workshop.photo(session.photo)
        if photo is None:
            yield note("Open a photo first, then compare.")
            return
        try:
            mask = None
            example = self.examples.get(session.example)
            if truth:
                mask = read_mask(truth, photo.shape[:2])
            elif example is not None:
                mask = example.truth()
            settings = settings_from(values)
            steps = compare.compare(self.workshop, session, preset, settings, mask)
            with contextlib.suppress(Stopped):
                yield from until_stopped(steps, self.visits.of(request.session_hash).unwanted())
        except ZsasError as error:
            text = str(error).replace(truth, "The mask") if truth else str(error)
            raise gr.Error(text, print_exception=False) from None

    def _batch(
        self, request: gr.Request, files: list[str] | None, preset: str, *values: Any
    ) -> Iterator[tuple[Any, Any]]:
        try:
            yield note("Reading the files."), gr.DownloadButton(visible=False)
            steps = batch.run(self.workshop, files or [], preset, settings_from(values))
            visit = self.visits.of(request.session_hash)
            for progress in heeding(steps, lambda: visit.stopped):
                ready = gr.skip()
                if progress.archive is not None:
                    ready = gr.DownloadButton(value=str(progress.archive), visible=True)
                yield batch.table(progress), ready
        except ZsasError as error:
            yield views.sorry(str(error)), gr.DownloadButton(visible=False)


def _arrived(condition: str = "") -> str:
    """Script that takes away gradio's cover, and marks the page as ready for tests and screenshots.

    Where the first answer comes before gradio has counted its components, as on quick machines, it never finds itself
    loaded: its "Loading..." stays over the page, invisible, and takes every click.
    """
    cover = "document.querySelectorAll('.gradio-container > .main > [data-testid=status-tracker]')"
    return (
        f"() => {{ {cover}.forEach((cover) => {{ cover.style.display = 'none'; }}); "
        f"{condition} document.body.dataset.arrived = 'yes'; }}"
    )


def _address(request: gr.Request) -> str:
    """The server's address as the visitor's browser knows it."""
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", "http").split(",")[0].strip()
    host = (
        headers.get("x-forwarded-host", headers.get("host", "127.0.0.1:7860")).split(",")[0].strip()
    )
    return f"{scheme}://{host}"


def _ahead(page: gr.Blocks) -> int:
    """How many heavy events run or wait now."""
    line = page._queue.event_queue_per_concurrency_id.get(HEAVY["concurrency_id"])
    return 0 if line is None else len(line.queue) + line.current_concurrency
