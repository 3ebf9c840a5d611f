"""Events on one photo: open it, run it stage by stage, decide again, and the visitor's points."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zsas.errors import ZsasError
from zsas.result import Result
from zsas.settings import Settings
from zsas.stages import Stage, StageSpec
from zsas.systems import system_named
from zsas.ui import views
from zsas.ui.controls import to_query
from zsas.ui.engine import Engine
from zsas.ui.examples import Examples
from zsas.ui.upload import load_upload
from zsas.ui.visitor import MAX_CLICKS, Click, Session

REACH = 0.035
"""A click this near to one's own point, as a share of the longest side, is meant for that point."""


@dataclasses.dataclass(frozen=True)
class Screen:
    """What an event shows; the fields stand for components of the page in this order.

    Every field always has a value: leaving an HTML component out of an update empties it in gradio 6.
    """

    session: Session
    viewer: str = ""
    verdict: str = ""
    regions: str = ""
    gallery: str = ""
    facts: str = ""
    link: str = ""

    def outputs(self) -> tuple[Any, ...]:
        """The values for Gradio."""
        return tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    def drawn(self) -> tuple[Any, ...]:
        """The values without the session, which belongs to what the visitor does and not to work on its way."""
        return self.outputs()[1:]


def stages_of(settings: Settings) -> tuple[StageSpec, ...]:
    """The stages that the chosen system can show, in order."""
    return system_named(settings.system, refiner=settings.refiner).stages


def open_image(engine: Engine, path: str) -> Session:
    """Take in an uploaded file.

    Raises:
        ZsasError: One sentence, see `load_upload`.
    """
    return Session(image=engine.keep_image(load_upload(path)), name=Path(path).stem)


def open_example(engine: Engine, examples: Examples, key: str) -> Session:
    """Take in one of the examples.

    Raises:
        ZsasError: If there is none of that id.
    """
    example = examples.get(key)
    if example is None:
        raise ZsasError(f"There is no example {key!r}; choose one below the photo.")
    return Session(image=engine.keep_image(example.load()), name=example.id, example=example.id)


def opened(engine: Engine, session: Session, verdict: str = "") -> Screen:
    """The screen of a photo without a result."""
    image = engine.image(session.image)
    return Screen(
        session,
        viewer="" if image is None else views.bare_photo(image.shape),
        verdict=verdict or views.busy("Looking at the photo"),
        gallery=views.gallery(
            stages_of(Settings()), (), None if image is None else image.shape, coming=True
        ),
    )


def closed() -> Screen:
    """The screen without a photo."""
    return Screen(
        Session(),
        verdict=views.welcome(),
        gallery=views.gallery(stages_of(Settings()), (), None, coming=True),
    )


def run(
    engine: Engine, session: Session, preset: str, settings: Settings, scaled: bool
) -> Iterator[Screen]:
    """Everything from the photo to the result, one screen a stage; never raises a `ZsasError`."""
    if not session.image:
        yield closed()
        return
    started = opened(engine, session)
    if not engine.is_loaded(preset):
        yield dataclasses.replace(started, verdict=views.busy(f"Loading {preset}"))
    yield dataclasses.replace(started, verdict=views.busy("Encoding the photo"))
    try:
        result = None
        found: list[Stage] = []
        declared = stages_of(settings)
        image = engine.image(session.image)
        for step in engine.stages(preset, session.image, settings, session.clicks):
            if isinstance(step, Result):
                result = step
                continue
            if step.spec == declared[-1]:
                continue  # shown below, with the verdict
            found.append(step)
            assert image is not None
            number = declared.index(step.spec) + 1
            title = step.spec.title.lower()
            yield Screen(
                session,
                viewer=views.viewer(image.shape, found, scaled=scaled),
                verdict=views.busy(f"Stage {number} of {len(declared)}: {title}"),
                gallery=views.gallery(declared, found, image.shape, scaled=scaled, coming=True),
            )
    except ZsasError as error:
        yield opened(engine, session, views.sorry(str(error)))
        return
    assert result is not None
    yield decided(result, session, preset, scaled)


def decide_again(
    engine: Engine, session: Session, preset: str, settings: Settings, scaled: bool
) -> Screen:
    """A new decision from the cached encoding; says so where the encoding was let go."""
    if not session.image:
        return dataclasses.replace(closed(), link=to_query(settings, preset=preset))
    encoding = engine.known(preset, session.image, settings)
    if encoding is None:
        return opened(
            engine, session, views.waiting("Press Run", "This photo has to be encoded first.")
        )
    try:
        result = engine.decide(preset, encoding, settings, session.clicks)
    except ZsasError as error:
        return opened(engine, session, views.sorry(str(error)))
    return decided(result, session, preset, scaled)


def decided(result: Result, session: Session, preset: str, scaled: bool) -> Screen:
    """The screen of a whole result."""
    clicks = ";".join(f"{x:.0f},{y:.0f},{label}" for x, y, label in session.clicks)
    return Screen(
        session,
        viewer=views.viewer(result.image.shape, result.stages, result, scaled=scaled),
        verdict=views.verdict(result),
        regions=views.regions(result),
        gallery=views.gallery(
            stages_of(result.settings), result.stages, result.image.shape, scaled=scaled
        ),
        facts=views.facts(result),
        link=to_query(
            result.settings,
            example=session.example,
            preset=preset,
            points=clicks if session.example else "",
        ),
    )


def click(session: Session, shape: Sequence[int], x: float, y: float, action: str) -> Session:
    """The session after a click on the photo.

    Args:
        session: Before.
        shape: (H, W, ...) of the photo.
        x: Original pixels.
        y: Original pixels.
        action: "plus" or "minus" adds a point, or removes the visitor's own point that lies under the click.
    """
    height, width = shape[:2]
    x, y = min(max(float(x), 0.0), width - 1.0), min(max(float(y), 0.0), height - 1.0)

    def distance(point: Click) -> float:
        return (point[0] - x) ** 2 + (point[1] - y) ** 2

    near = min(session.clicks, key=distance, default=None)
    if near is not None and distance(near) <= (REACH * max(height, width)) ** 2:
        return session.clicked(tuple(point for point in session.clicks if point != near))
    return session.clicked((*session.clicks, (x, y, 0 if action == "minus" else 1)))


def parse_points(text: str, shape: Sequence[int]) -> tuple[Click, ...]:
    """The clicks of a URL, "x,y,label;…"; what cannot be read is left out."""
    height, width = shape[:2]
    found: list[Click] = []
    for piece in text.split(";")[:MAX_CLICKS]:
        try:
            x, y, label = (float(value) for value in piece.split(","))
        except ValueError:
            continue
        if 0 <= x < width and 0 <= y < height and label in (0, 1):
            found.append((x, y, int(label)))
    return tuple(found)
