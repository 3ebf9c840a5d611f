"""The large drawing and the strip of stages under it, from `Stage.layers`; nothing here knows a stage by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from zsas.prompts import Points
from zsas.result import Result
from zsas.settings import Settings
from zsas.stages import Stage, StageSpec, marking_level
from zsas.systems import system_named
from zsas.ui import drawing

EMPTY = (
    '<g id="zs-tiles"></g>{heat}<g id="zs-live"></g><g class="zs-marks">{marks}</g><g id="zs-layer"></g>'
    '<g class="zs-points">{points}</g><g id="zs-preview"></g><g class="zs-cursor" aria-hidden="true"></g>'
)


def viewer(
    shape: Sequence[int],
    found: Sequence[Stage] = (),
    result: Result | None = None,
    *,
    settings: Settings,
    scaled: bool = False,
) -> str:
    """The large drawing: image, anomaly map, findings, a person's points; which is seen is chosen in the browser.

    Args:
        shape: (H, W, ...) of the image.
        found: The stages so far.
        result: The result, where it is there already.
        settings: The marking level is read.
        scaled: Colours of the map stretched to this image.
    """
    # Of several maps on the way the last one counts; in a result it is Map_a, whatever came before it.
    values = next((stage.heat for stage in reversed(found) if stage.heat is not None), None)
    if result is not None:
        values = result.anomaly_map
    level = marking_level(found if result is None else result.stages, settings.threshold)
    heat = "" if values is None else drawing.heat(values, scaled=scaled, level=level)
    marks, points, label = "", "", "The photo"
    if result is not None:
        marks = "" if result.inside is None else drawing.outside(result.inside)
        marks += drawing.marked_regions(result.regions, shape)
        points = drawing.point_marks(_clicks(result.points), shape)
        label = f"The photo with its result. {result.sentence}"
    elif found:
        marks = drawing.layers(found[-1], shape, scaled=scaled, level=level)
    parts = [drawing.IMAGE, EMPTY.format(heat=heat, marks=marks, points=points)]
    return drawing.drawing(
        shape, label, parts, 'id="zs-main" tabindex="0" aria-describedby="zs-keys"'
    )


def _clicks(points: Points) -> Points:
    """A person's points alone: the automatic ones are shown with their stage."""
    own = [i for i, source in enumerate(points.source) if source == "click"]
    return Points(points.xy[own], points.labels[own], ("click",) * len(own))


def scale(result: Result, *, scaled: bool = False) -> str:
    """The colour bar under the image, with the marking level as a tick that can be dragged.

    A level that was found for this image is shown as any other; dragging it sets one level for all images.
    """
    settings = result.settings
    low, high = drawing.scale_of(result.anomaly_map, scaled)
    level = result.marking_level
    movable = settings.threshold_mode in ("absolute", "adaptive")
    fixed = "" if movable and not scaled else " disabled"
    return (
        f'<div class="zs-bar" data-grey="{drawing.grey(result.anomaly_map)}">{_level(settings, level, scaled)}'
        f"<span>{low:.2f}</span>"
        f'<div class="zs-ramp" style="background:{drawing.ramp()};--level:{level:.4f}">'
        '<input type="range" class="zs-tick" name="threshold" min="0" max="1" step="0.01" '
        f'value="{level:.4g}"{fixed} aria-label="Marking level: what lies above it is marked"></div>'
        f'<span>{high:.2f}</span><output class="zs-at"></output></div>'
    )


def _level(settings: Settings, level: float, scaled: bool) -> str:
    """The marking level in words, and the way back where it was changed."""
    mode, usual = settings.threshold_mode, Settings(system=settings.system)
    if mode not in ("absolute", "adaptive"):
        return f'<span class="zs-level">Level by {escape(mode)}</span>'
    name, back = "threshold", f"{usual.threshold:g}"
    if mode != usual.threshold_mode:
        name, back = "threshold_mode", usual.threshold_mode
    changed = mode != usual.threshold_mode or settings.threshold != usual.threshold
    undo = (
        f'<button type="button" class="zs-x" data-do="set" data-name="{name}" data-value="{back}" '
        f'aria-label="Marking level back to {back}" title="changed; back to {back}">↺</button>'
        if changed and mode == "absolute"
        else ""
    )
    found = "<span> found for this photo</span>" if mode == "adaptive" else ""
    still = " (colours are stretched)" if scaled else ""
    return f'<span class="zs-level">Marking level <b>{level:.2f}</b>{found}{undo}{still}</span>'


def strip(
    shape: Sequence[int] | None,
    found: Sequence[Stage],
    settings: Settings,
    *,
    result: Result | None = None,
    scaled: bool = False,
) -> str:
    """The stages as a strip: one small drawing each, to be shown large; those that are still to come are empty."""
    there = {stage.name: stage for stage in found}
    level = marking_level(found, settings.threshold)
    pieces = []
    for number, spec in enumerate(expected(found, settings), 1):
        stage = there.get(spec.name)
        if stage is None or shape is None:
            pieces.append(_empty(number, spec, shape, result is not None))
            continue
        layers = drawing.layers(stage, shape, scaled=scaled, level=level)
        kept = result is not None and spec.name in {p.lower() for p in result.provenance}
        tag = '<span class="zs-kept">kept</span>' if kept else ""
        caption = with_subscripts(stage.caption)
        pieces.append(
            f'<li><button type="button" class="zs-why" data-stage="{spec.name}" aria-pressed="false" '
            f'title="Show it large">{drawing.drawing(shape, f"{spec.title}. {stage.caption}", [drawing.IMAGE, layers])}'
            f"<b>{number} {escape(spec.title)} {_symbol(spec)}{tag}</b></button><p>{caption}</p></li>"
        )
    return f'<ol class="zs-strip" tabindex="0" aria-label="Why: the stages, in order">{"".join(pieces)}</ol>'


def expected(found: Sequence[Stage], settings: Settings) -> tuple[StageSpec, ...]:
    """The stages that a system declares, behind those of good images or a region, which none declares."""
    declared = system_named(settings.system, settings.refiner).stages
    return (*(stage.spec for stage in found if stage.spec not in declared), *declared)


def _empty(number: int, spec: StageSpec, shape: Sequence[int] | None, over: bool) -> str:
    ratio = f"{shape[1]}/{shape[0]}" if shape is not None else "4/3"
    text = spec.absent if over else spec.preview
    css = "zs-why zs-none" if over or shape is None else "zs-why zs-coming"
    return (
        f'<li><div class="{css}"><div class="zs-blank" aria-hidden="true" style="aspect-ratio:{ratio}">'
        f"{'–' if over else number}</div><b>{number} {escape(spec.title)} {_symbol(spec)}</b></div>"
        f"<p>{with_subscripts(text)}</p></li>"
    )


def _symbol(spec: StageSpec) -> str:
    return f"<em>{with_subscripts(spec.symbol)}</em>" if spec.symbol else ""


def with_subscripts(text: str) -> str:
    """The paper's symbols with their index set low: "P_h" becomes P with a small h."""
    return re.sub(r"\b(\w+)_(\w)\b", r"\1<sub>\2</sub>", escape(text))
