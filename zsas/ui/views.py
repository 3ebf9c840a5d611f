"""What a visitor reads: verdict, regions, stages, times. Pure functions from a `Result` to HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import numpy as np

from zsas import draw
from zsas.result import Result
from zsas.ui import drawing

STAGES = (
    ("map", "Anomaly map", "Map_a", "CLIP compares every patch with words for sound and damaged."),
    (
        "region",
        "Region and ring",
        "S_a, N_a",
        "What is above the threshold, and the ring around it.",
    ),
    (
        "points",
        "Points",
        "P_h, P_l",
        "Hottest pixels in the region, most different ones in the ring.",
    ),
    ("m1", "First mask", "M1", "SAM draws from the points."),
    ("m2", "Second mask", "M2", "SAM draws again, from points and its own logits."),
    ("box", "Box", "eq. 11", "The tight box around the second mask."),
    ("m3", "Third mask", "M3", "SAM draws a last time, from points, box and logits."),
    ("fused", "Score map", "result", "The best mask and the map together decide."),
)
"""(name, title, symbol, what it is going to show) in the order of the method."""

ORDER = {stage[0]: number for number, stage in enumerate(STAGES)}


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
    shown, compared = result.score_and_threshold
    css, icon = ("zs-bad", "▲") if result.anomalous else ("zs-good", "✓")
    relation = "at or above" if score >= threshold else "below"
    return (
        f'<div class="zs-verdict {css}" role="status" data-score="{score:.6f}">'
        f'<h2><i aria-hidden="true">{icon}</i>{result.word}</h2>'
        f'<p class="zs-found">{escape(result.found[:1].upper() + result.found[1:])}</p>'
        f'<div class="zs-meter" aria-hidden="true"><b style="width:{100 * score:.1f}%"></b>'
        f'<i style="left:{100 * threshold:.1f}%"></i></div>'
        f'<p class="zs-score">Score <strong>{shown}</strong>, {relation} the threshold '
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


def viewer(result: Result, *, scaled: bool = False, upto: int = 99) -> str:
    """The large drawing: photo, heat map, regions, points; which of them is seen is chosen in the browser.

    Args:
        result: A whole result, or one on its way.
        scaled: Colours of the map stretched to this photo.
        upto: How many stages have been reached.
    """
    low, high = drawing.scale_of(result.anomaly_map, scaled)
    parts = [drawing.PHOTO, drawing.heat(result.anomaly_map, scaled=scaled, name="zs-map")]
    if upto >= ORDER["fused"]:
        parts += [
            f'<g class="zs-marks">{drawing.marked_regions(result.regions, result.image.shape)}</g>'
        ]
    elif upto >= ORDER["m1"] and result.steps:
        parts.append(f'<g class="zs-marks">{drawing.area(result.steps[-1].mask)}</g>')
    elif upto >= ORDER["region"]:
        parts.append(f'<g class="zs-marks">{drawing.area(result.region)}</g>')
    if upto >= ORDER["points"]:
        marks = drawing.point_marks(result.points, result.image.shape)
        parts.append(f'<g class="zs-points">{marks}</g>')
    parts.append('<g class="zs-cursor" aria-hidden="true"></g>')
    label = f"The photo with its result. {result.verdict}"
    picture = drawing.drawing(result.image.shape, label, parts, 'id="zs-main"')
    return picture + f'<div class="zs-scale">{drawing.colour_bar(low, high, scaled=scaled)}</div>'


def bare_photo(shape: tuple[int, ...]) -> str:
    """The large drawing before there is any result."""
    return drawing.drawing(shape, "The photo", [drawing.PHOTO], 'id="zs-main"')


def no_stages(shape: Sequence[int] | None = None) -> str:
    """The gallery before the first result: what each stage is going to show.

    Args:
        shape: (H, W, ...) of the photo that is on its way through them; without one there are words alone.
    """
    return _gallery(
        [
            f'<figure class="zs-stage zs-empty zs-coming">{_blank(str(number), shape) if shape else ""}'
            f"{_caption(number, title, symbol, text)}</figure>"
            for number, (_, title, symbol, text) in enumerate(STAGES, 1)
        ]
    )


def _blank(text: str, shape: Sequence[int]) -> str:
    """A place as large as the picture that will, or will not, take it."""
    return f'<div class="zs-blank" aria-hidden="true" style="aspect-ratio:{shape[1]}/{shape[0]}">{text}</div>'


def stages(result: Result, *, scaled: bool = False, upto: int = 99) -> str:
    """The gallery: one drawing a stage, with a caption that says what it decided.

    Args:
        result: A whole result, or one on its way.
        scaled: Colours of the maps stretched to this photo.
        upto: How many stages have been reached; later ones are shown as still to come.
    """
    words = {stage.name: stage.caption for stage in draw.stages(result)}
    figures = []
    for number, (name, title, symbol, text) in enumerate(STAGES, 1):
        if ORDER[name] > upto:
            figures.append(
                f'<figure class="zs-stage zs-empty zs-coming">{_blank(str(number), result.image.shape)}'
                f"{_caption(number, title, symbol, text)}</figure>"
            )
        elif name not in words:
            figures.append(
                f'<figure class="zs-stage zs-empty">{_blank("–", result.image.shape)}'
                f"{_caption(number, title, symbol, _why_not(name, result))}</figure>"
            )
        else:
            picture = drawing.drawing(
                result.image.shape, f"{title}. {words[name]}", _stage_parts(name, result, scaled)
            )
            bar = ""
            if name == "map":
                bar = drawing.colour_bar(
                    *drawing.scale_of(result.anomaly_map, scaled), scaled=scaled
                )
            elif name == "fused":
                bar = drawing.colour_bar(*drawing.scale_of(result.score_map, scaled), scaled=scaled)
            won = " zs-won" if name.upper() in result.winner.split(", ") else ""
            figures.append(
                f'<figure class="zs-stage{won}" data-stage="{name}"><button type="button" class="zs-zoom" '
                f'aria-expanded="false" aria-label="Enlarge stage {number}, {escape(title)}">{picture}</button>{bar}'
                f"{_caption(number, title, symbol, words[name])}</figure>"
            )
    return _gallery(figures)


def _stage_parts(name: str, result: Result, scaled: bool) -> list[str]:
    parts = [drawing.PHOTO]
    marks = drawing.point_marks(result.points, result.image.shape, 1.7)
    steps = {step.name: step for step in result.steps}
    if name == "map":
        parts.append('<use href="#zs-map"/>')
    elif name == "region":
        ring = drawing.path_of(result.ring)
        parts += [
            f'<path class="zs-ring" fill-rule="evenodd" d="{ring}"/>',
            drawing.area(result.region),
        ]
    elif name == "points":
        parts += [drawing.area(result.region, "zs-mask zs-faint"), marks]
    elif name in ("m1", "m2", "m3") and name.upper() in steps:
        parts += [drawing.area(steps[name.upper()].mask), marks]
    elif name == "box" and "M2" in steps:
        parts += [drawing.area(steps["M2"].mask, "zs-mask zs-faint"), drawing.box_marks(result.box)]
    elif name == "fused":
        parts += [
            drawing.heat(result.score_map, scaled=scaled),
            drawing.area(result.mask, "zs-mask zs-line"),
        ]
    return parts


def _why_not(name: str, result: Result) -> str:
    if not result.region.any() and not len(result.points):
        return "Not needed: nothing of the map is above the threshold, so SAM is not asked."
    if name in ("m2", "box", "m3"):
        return f"Left out: the cascade stops after step {len(result.steps)}."
    return "Nothing was found at this stage."


def _caption(number: int, title: str, symbol: str, text: str) -> str:
    return (
        f"<figcaption><h3><span>{number}</span>{escape(title)} <em>{_with_subscripts(symbol)}</em></h3>"
        f"<p>{_with_subscripts(text)}</p></figcaption>"
    )


def _with_subscripts(text: str) -> str:
    """The paper's symbols with their index set low: "P_h" becomes P with a small h."""
    return re.sub(r"\b(\w+)_(\w)\b", r"\1<sub>\2</sub>", escape(text))


def _gallery(figures: list[str]) -> str:
    return f'<div class="zs-stages">{"".join(figures)}</div>'


def facts(result: Result) -> str:
    """Which preset and localizer ran, and the seconds each stage took."""
    height, width = result.mask.shape
    what = f"{escape(result.preset)} · {escape(result.localizer.replace('_', '-'))} · {width} × {height} px"
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
