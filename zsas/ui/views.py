"""What a visitor reads: verdict, regions, stages, times. Pure functions from a `Result` to HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import numpy as np

from zsas import draw
from zsas.result import Result
from zsas.stages import PointMarks, Stage, StageSpec
from zsas.ui import drawing


def waiting(text: str, detail: str = "") -> str:
    """The verdict's place while there is none."""
    more = f"<p>{escape(detail)}</p>" if detail else ""
    return f'<div class="zs-verdict zs-waiting" role="status"><h2>{escape(text)}</h2>{more}</div>'


def welcome() -> str:
    """The verdict's place before the first photo."""
    return waiting(
        "Drop a photo, or take an example",
        "It is examined at once. No reference pictures and no training are needed; naming the object may help "
        "the larger models.",
    )


def busy(text: str) -> str:
    """The verdict's place while work goes on."""
    return (
        f'<div class="zs-verdict zs-busy" role="status"><h2><i class="zs-spin" aria-hidden="true"></i>'
        f"{escape(text)}</h2></div>"
    )


def sorry(text: str) -> str:
    """The verdict's place when something can be mended by the visitor."""
    return f'<div class="zs-verdict zs-sorry" role="alert"><h2>That did not work</h2><p>{escape(text)}</p></div>'


def verdict(result: Result) -> str:
    """The verdict in words, its score on a scale with the threshold, and what it is made of."""
    score, threshold = result.image_score, result.settings.verdict_threshold
    shown, compared = result.score_and_limit
    css, icon = ("zs-bad", "▲") if result.anomalous else ("zs-good", "✓")
    relation = "at or above" if score >= threshold else "below"
    return (
        f'<div class="zs-verdict {css}" role="status" data-score="{score:.6f}">'
        f'<h2><i aria-hidden="true">{icon}</i>{result.verdict.capitalize()}</h2>'
        f'<p class="zs-found">{escape(result.found[:1].upper() + result.found[1:])}</p>'
        f'<div class="zs-meter" aria-hidden="true"><b style="width:{100 * score:.1f}%"></b>'
        f'<i style="left:{100 * threshold:.1f}%"></i></div>'
        f'<p class="zs-score">Score <strong>{shown}</strong>, {relation} the limit '
        f"<strong>{compared}</strong></p></div>"
    )


def regions(result: Result) -> str:
    """The regions as a table whose rows light up their region."""
    if not result.regions:
        return ""
    rows = []
    for region in result.regions:
        x0, y0, x1, y1 = region.box
        rows.append(
            f'<tr data-region="{region.id}"><th scope="row"><button type="button" aria-pressed="false" '
            f'aria-label="Show region {region.id} alone">{region.id}</button></th>'
            f"<td>{x0}, {y0}</td><td>{x1 - x0} × {y1 - y0}</td><td>{region.area:,}</td><td>{region.score:.2f}</td></tr>"
        )
    return (
        '<div class="zs-scroll" tabindex="0" role="region" aria-label="Regions"><table class="zs-table zs-regions">'
        "<thead><tr><th scope='col'>Region</th><th scope='col'>x, y</th><th scope='col'>Box, px</th>"
        f"<th scope='col'>Area, px</th><th scope='col'>Score</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def viewer(
    shape: Sequence[int],
    found: Sequence[Stage],
    result: Result | None = None,
    *,
    scaled: bool = False,
) -> str:
    """The large drawing: image, heat map, regions, points; which of them is seen is chosen in the browser.

    Args:
        shape: (H, W, ...) of the image.
        found: The stages so far.
        result: The result, where it is there already.
        scaled: Colours of the map stretched to this image.
    """
    heat = next(stage.heat for stage in found if stage.heat is not None)
    low, high = drawing.scale_of(heat, scaled)
    parts = [drawing.PHOTO, drawing.heat(heat, scaled=scaled, name="zs-map")]
    marks = ""
    if result is not None:
        marks = drawing.marked_regions(result.regions, shape)
    elif (mask := next((s.mask for s in reversed(found) if s.mask is not None), None)) is not None:
        marks = drawing.area(mask)
    parts.append(f'<g class="zs-marks">{marks}</g>')
    points = [x.points for s in found for x in s.layers if isinstance(x, PointMarks)]
    if points:
        parts.append(f'<g class="zs-points">{drawing.point_marks(points[-1], shape)}</g>')
    parts.append('<g class="zs-cursor" aria-hidden="true"></g>')
    label = "The photo with its result so far."
    if result is not None:
        label = f"The photo with its result. {result.sentence}"
    picture = drawing.drawing(shape, label, parts, 'id="zs-main"')
    return picture + f'<div class="zs-scale">{drawing.colour_bar(low, high, scaled=scaled)}</div>'


def bare_photo(shape: tuple[int, ...]) -> str:
    """The large drawing before there is any result."""
    return drawing.drawing(shape, "The photo", [drawing.PHOTO], 'id="zs-main"')


def _blank(text: str, shape: Sequence[int]) -> str:
    """A place as large as the picture that will, or will not, take it."""
    return f'<div class="zs-blank" aria-hidden="true" style="aspect-ratio:{shape[1]}/{shape[0]}">{text}</div>'


def gallery(
    declared: Sequence[StageSpec],
    found: Sequence[Stage],
    shape: Sequence[int] | None,
    *,
    scaled: bool = False,
    coming: bool = False,
) -> str:
    """The gallery: one drawing a stage, with a caption that says what it decided.

    Args:
        declared: The stages of the system, in order.
        found: Those that are there.
        shape: (H, W, ...) of the image; without one there are words alone.
        scaled: Colours of the maps stretched to this image.
        coming: Whether what is not there may still come; it had nothing to do otherwise.
    """
    there = {stage.name: stage for stage in found}
    provenance = [n for stage in found for n in stage.data.get("provenance", ())]
    figures = []
    for number, spec in enumerate(declared, 1):
        stage = there.get(spec.name)
        if stage is not None and shape is not None:
            figures.append(_figure(number, stage, shape, scaled, provenance))
            continue
        css = " zs-coming" if coming else ""
        blank = _blank(str(number) if coming else "–", shape) if shape else ""
        text = spec.preview if coming else spec.absent
        figures.append(
            f'<figure class="zs-stage zs-empty{css}">{blank}{_caption(number, spec, text)}</figure>'
        )
    return f'<div class="zs-stages">{"".join(figures)}</div>'


def _figure(
    number: int, stage: Stage, shape: Sequence[int], scaled: bool, provenance: Sequence[str]
) -> str:
    spec = stage.spec
    label = f"{spec.title}. {stage.caption}"
    picture = drawing.drawing(shape, label, drawing.layers(stage, shape, scaled=scaled))
    bar = ""
    if stage.heat is not None:
        bar = drawing.colour_bar(*drawing.scale_of(stage.heat, scaled), scaled=scaled)
    kept = " zs-kept" if spec.symbol in provenance else ""
    return (
        f'<figure class="zs-stage{kept}" data-stage="{spec.name}"><button type="button" class="zs-zoom" '
        f'aria-expanded="false" aria-label="Enlarge stage {number}, {escape(spec.title)}">{picture}</button>{bar}'
        f"{_caption(number, spec, stage.caption)}</figure>"
    )


def _caption(number: int, spec: StageSpec, text: str) -> str:
    equations = f" · eq. {spec.equations}" if spec.equations else ""
    return (
        f"<figcaption><h3><span>{number}</span>{escape(spec.title)} "
        f"<em>{_with_subscripts(spec.symbol + equations)}</em></h3>"
        f"<p>{_with_subscripts(text)}</p></figcaption>"
    )


def _with_subscripts(text: str) -> str:
    """The paper's symbols with their index set low: "P_h" becomes P with a small h."""
    return re.sub(r"\b(\w+)_(\w)\b", r"\1<sub>\2</sub>", escape(text))


def facts(result: Result) -> str:
    """Which preset and system ran, and the seconds each stage took."""
    height, width = result.mask.shape
    what = " · ".join(
        (
            escape(result.models["preset"]),
            escape(result.settings.system),
            escape(f"{result.models['localizer']} + {result.models['refiner']}"),
            f"{width} × {height} px",
        )
    )
    total = sum(result.timings.values())
    rows = "".join(
        f"<tr><th scope='row'>{escape(name.replace('_', ' '))}</th><td>{_seconds(seconds)}</td></tr>"
        for name, seconds in result.timings.items()
    )
    return (
        f'<details class="zs-facts"><summary>{what} · {_seconds(total)}</summary>'
        f'<table class="zs-table"><thead><tr><th scope="col">Stage</th><th scope="col">Time</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>"
    )


def _seconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def overlay(result: Result) -> np.ndarray:
    """The photo with its mask, for the before/after slider: uint8 RGB, longest side `drawing.PHOTO_SIDE`."""
    image = drawing.shrink(result.image, drawing.PHOTO_SIDE)
    mask = drawing.shrink(result.mask.astype(np.uint8), drawing.PHOTO_SIDE) > 0
    return draw.mask_overlay(image, mask)
