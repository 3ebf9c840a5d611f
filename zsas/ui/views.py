"""What a visitor reads beside the image: verdict, findings, hints, what ran. Pure functions from a `Result` to HTML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from html import escape

import numpy as np

from zsas.localizers.tiles import TileSettings, tiles_wanted
from zsas.result import Region, Result
from zsas.review import place_in
from zsas.ui import drawing
from zsas.ui.good import GoodPlace, pair
from zsas.ui.good import crop as crop_of
from zsas.ui.visitor import View

ICONS = {"anomalous": "▲", "unsure": "?", "normal": "✓"}
SMALL_SIDE = 64
"""Below this longest side in pixels an answer means little."""
CSS = {"anomalous": "zs-bad", "unsure": "zs-unsure", "normal": "zs-good"}


STOPPED = (
    '<div class="zs-verdict zs-waiting"><h2>Stopped</h2>'
    '<button type="button" class="zs-button" data-do="rerun">Look again</button></div>'
)
"""The verdict's place where a run was ended, with the way to begin it anew."""


def waiting(text: str, detail: str) -> str:
    """The verdict's place while there is none."""
    return (
        f'<div class="zs-verdict zs-waiting"><h2>{escape(text)}</h2><p>{escape(detail)}</p></div>'
    )


def welcome(parts: int = 0) -> str:
    """The verdict's place before the first image, with so many good parts to compare with."""
    needs = (
        f"It is compared with {plural(parts, 'good part')}; no training is needed."
        if parts
        else "It is examined at once. No good parts and no training are needed."
    )
    return waiting("Drop a photo, or pick an example", needs)


def busy(text: str) -> str:
    """The verdict's place while work goes on, with the way to end it."""
    return (
        f'<div class="zs-verdict zs-busy"><h2><i class="zs-spin" aria-hidden="true"></i>{escape(text)}</h2>'
        '<button type="button" class="zs-button" data-do="stop">Stop</button></div>'
    )


def sorry(text: str) -> str:
    """The verdict's place when something can be mended by the visitor."""
    return f'<div class="zs-verdict zs-sorry" role="alert"><h2>That did not work</h2><p>{escape(text)}</p></div>'


def verdict(
    result: Result,
    view: View,
    parts: int = 0,
    others: int = 0,
    level: tuple[float, str] | None = None,
) -> str:
    """The verdict in words, its score on a meter whose tick is the limit, and what would help.

    Args:
        result: With the person's decisions.
        view: The person's points and decisions.
        parts: How many good parts it was compared with.
        others: How many other images of its batch.
        level: What `suggested_level` said where the result has no pixels any more.
    """
    settings = result.settings
    score, limit, band = result.image_score, settings.verdict_threshold, settings.unsure_band
    word = result.verdict
    by = '<small class="zs-by">by a person</small>' if result.persons_verdict else ""
    return (
        f'<div class="zs-verdict {CSS[word]}" data-score="{score:.6f}" data-band="{band:g}" '
        f'data-settled="{result.settled}">'
        f'<h2><i aria-hidden="true">{ICONS[word]}</i><span class="zs-word">{word.capitalize()}</span>{by}</h2>'
        f'<p class="zs-found">{escape(found(result))}</p>'
        f'<div class="zs-meter" style="--score:{score:.4f};--limit:{limit:.4f};--band:{band:.4f}">'
        '<i class="zs-band" aria-hidden="true"></i><b aria-hidden="true"></b>'
        f'<input type="range" class="zs-tick" name="verdict_threshold" min="0" max="1" step="0.01" value="{limit:g}" '
        'aria-label="Limit: the score from which a photo is anomalous"></div>'
        f'<p class="zs-score">{score_words(result)}</p>{_hints(result, view, parts, others, level)}'
        f"{_own_verdict(result, view)}</div>"
    )


def score_words(result: Result) -> str:
    """Score and limit in words, as HTML."""
    shown, limit = result.score_and_limit
    relation = "at or above" if result.anomalous else "below"
    words = f"Score <strong>{shown}</strong>, {relation} the limit <strong>{limit}</strong>"
    if result.settled and not result.persons_verdict:
        words += "<span>; it decides nothing, as all that is marked is too small to count</span>"
    return words


def found(result: Result) -> str:
    """What was found, without contradicting the verdict."""
    kept = [region for region in result.regions if region.counts]
    rejected = sum(region.rejected for region in result.regions)
    small = len(result.regions) - len(kept) - rejected
    specks = sum(drawing.is_speck(region, result.mask.shape) for region in kept)
    findings = len(kept) - specks
    parts = [f"{findings} finding{'' if findings == 1 else 's'}"] if findings else []
    parts += [f"{specks} speck{'' if specks == 1 else 's'}"] if specks else []
    if small:
        too_small = f"{plural(small, 'region')} smaller than {result.scale.least_words} ignored"
        parts += [too_small]
        if not kept:
            more = f", {rejected} rejected" if rejected else ""
            return f"Nothing that counts: {too_small}{more}."
    if not parts:
        if rejected:
            return f"No finding left, {rejected} rejected."
        marked = "nothing is marked"
        return f"Anomalous as a whole, but {marked}." if result.anomalous else "Nothing is marked."
    words = " and ".join(parts) + (f", {rejected} rejected" if rejected else "")
    weak = ""
    if result.verdict == "normal" and not result.persons_verdict:
        weak = f" {'It' if len(kept) == 1 else 'Each'} is too weak for the verdict."
    return f"{words}.{weak}"


def _hints(
    result: Result, view: View, parts: int, others: int, level: tuple[float, str] | None
) -> str:
    """What to turn, by what is seen: the table of docs/results.md as one line or two."""
    lines = [escape(text) for text in hints(result)]
    if suggestion := level or suggested_level(result):
        lines.append(
            f'{suggestion[1]} <button type="button" class="zs-try" data-do="set" data-name="threshold" '
            f'data-value="{suggestion[0]:.2f}">Try {suggestion[0]:.2f}</button>'
        )
    if closer := look_closer(result):
        name, value, count = closer
        tiles = result.settings.of(TileSettings)
        before = 1 if tiles.tiles == "off" else tiles.max_tiles
        words = closer_words(count, result.timings.get("encode", 0.0) * count / before)
        does = f'data-do="set" data-name="{name}" data-value="{value}"'
        if view.row >= 0:
            does = f'data-do="closer" data-row="{view.row}"'
        lines.append(
            f'{seen_words(result)} {words}. <button type="button" class="zs-try" {does}>Look closer</button>'
        )
    if parts or result.good_images:
        lines.append(compared(result, parts, others))
    elif others:
        lines.append(f"Compared with the {plural(others, 'other photo')} of the lot.")
    points = len(view.now.clicks)
    if points and not result.persons_verdict:
        lines.append(
            f"{points} point{'' if points == 1 else 's'} of yours; the verdict is the system's alone."
        )
    return (
        f'<ul class="zs-hints">{"".join(f"<li>{line}</li>" for line in lines)}</ul>'
        if lines
        else ""
    )


def compared(result: Result, parts: int, others: int = 0) -> str:
    """What good parts, and the others of a lot, changed; and a scale with each part and the photo on it, as HTML."""
    words = f"Compared with {plural(result.good_images or parts, 'good part')}"
    words += f" and the {plural(others, 'other photo')} of the lot" if others else ""
    ratio, goods = result.normal_ratio, result.good_ratios
    stage = result.stage("references")
    if others and stage is not None:  # the result's own ratio is then that to the others
        ratio = stage.data.get("normal_ratio")
    if result.score_alone is None or ratio is None:
        return f"{words}."
    it, usual = "them", "they differ from each other"
    if (result.good_images or parts) == 1 and not others:
        it, usual = "it", "changed copies of it do"
    words += (
        f": score {result.score_alone:.2f} without {it}, {result.image_score:.2f} with {it}. "
        f"The photo differs from {it} <strong>{ratio:.1f} times</strong> as much as {usual}."
    )
    end = max(2.0, 1.1 * max(ratio, *goods, 0.0))
    dots = "".join(f'<i style="left:{100 * one / end:.1f}%"></i>' for one in goods)
    return (
        f'{words}<span class="zs-ratio" role="img" aria-label="Good parts at '
        f'{", ".join(f"{one:.1f}" for one in goods)}; this photo at {ratio:.1f}, of {end:.1f}">'
        f'{dots}<b style="left:{100 * ratio / end:.1f}%"></b></span>'
    )


def hints(result: Result) -> list[str]:
    """Sentences on what would help, as plain text."""
    notes = [
        f"{note[:1].upper()}{note[1:]}" for note in (result.input.notes if result.input else ())
    ]
    if result.inside is not None:
        seen = percent(float(result.inside.mean()), 1.0)
        notes.append(f"Only {seen} of the photo is looked at.")
    stage = result.stage("references")
    for number in stage.data.get("ignored", ()) if stage is not None else ():
        name = result.references[number][0] if number < len(result.references) else ""
        notes.append(
            f"{name or f'Good part {number + 1}'} differs from the other good parts and counts for nothing."
        )
    if stage is not None and not stage.data.get("trust", 1):
        notes.append("The good parts seem to be different parts, so they leave the map as it is.")
    if max(result.mask.shape) < SMALL_SIDE:
        height, width = result.mask.shape
        notes.append(
            f"{width} × {height} px is very little to see anything in: send a larger photo."
        )
    if result.verdict != "unsure":
        return notes
    other = "try another system" if result.settings.object_name else "name the object"
    good = "More good parts may help" if result.good_images else "Good parts help most"
    return [
        *notes,
        f"The score is too near to the limit to be sure. {good}; or {other}.",
    ]


def suggested_level(result: Result) -> tuple[float, str] | None:
    """Another marking level that would show more, and why; None where the present one is right."""
    settings = result.settings
    if settings.threshold_mode not in ("absolute", "adaptive"):
        return None
    level, peak = result.marking_level, float(result.anomaly_map.max())
    if not result.regions:
        if result.verdict == "normal" or peak < 0.1:
            return None
        lower = max(0.05, np.floor(100 * (peak - 0.08)) / 100)
        return (lower, "Nothing is marked: lower the marking level.") if lower < level else None
    lower = round(level - 0.1, 2)
    if lower < 0.1 or result.verdict == "normal":
        return None
    marked, more = (float((result.anomaly_map > at).mean()) for at in (level, lower))
    if 1.6 * max(marked, 1e-4) < more < 0.25:
        return lower, "The map shows more than is marked."
    return None


def look_closer(result: Result) -> tuple[str, str, int] | None:
    """The setting and its value that give back what a large image lost, and the number of tiles.

    The encoder sees a large image smaller than it is. None where nothing was lost, or where nobody would wait for it.
    """
    settings, frame = result.settings, _frame(result)
    if not frame or "tiles" not in settings.used():
        return None
    height, width = result.mask.shape
    tiles = settings.of(TileSettings)
    if tiles.tiles == "off":
        if max(height, width) <= 2 * frame:
            return None
        wanted = tiles_wanted(height, width, replace(tiles, tiles="auto"), frame)
        return "tiles", "auto", min(tiles.max_tiles, wanted)
    wanted = tiles_wanted(height, width, tiles, frame)
    if wanted <= tiles.max_tiles or wanted > 256:
        return None
    return "max_tiles", str(wanted), wanted


def _frame(result: Result) -> int:
    """Side in pixels at which the encoder sees an image or a tile; 0 where it is not known."""
    models = result.models
    card = models.get(models.get("localizer", ""), {})
    return int(card.get("resolution", 0)) if isinstance(card, dict) else 0


def seen_words(result: Result) -> str:
    """How much of a large image was seen."""
    tiles = result.settings.of(TileSettings)
    if tiles.tiles == "off":
        return f"Seen at {_frame(result)} px of {max(result.mask.shape):,}."
    return f"Seen in {plural(tiles.max_tiles, 'tile')}."


def closer_words(tiles: int, seconds: float) -> str:
    """What a closer look is and costs."""
    price = f", about {max(1, round(seconds))} s" if seconds else ""
    return f"{plural(tiles, 'tile')} would show more{price}"


def _own_verdict(result: Result, view: View) -> str:
    own = view.now.review.verdict
    buttons = "".join(
        f'<button type="button" data-do="verdict" data-verdict="{word}" aria-pressed="{str(own == word).lower()}">'
        f"{word.capitalize()}</button>"
        for word in ("normal", "anomalous")
    )
    return f'<div class="zs-own" role="group" aria-label="Your own verdict"><span>You say</span>{buttons}</div>'


def findings(result: Result, good: Mapping[int, GoodPlace] | None = None) -> str:
    """The findings as lines with their picture, size and anomaly score; specks are folded.

    Args:
        result: With the person's decisions.
        good: For findings, by number, the most similar place of the good parts.
    """
    good = good or {}
    if not result.regions:
        return ""
    shape = result.mask.shape
    large = [r for r in result.regions if not drawing.is_speck(r, shape)]
    specks = [r for r in result.regions if drawing.is_speck(r, shape)]
    rows = "".join(_finding(result, region, good.get(region.id)) for region in large[:60])
    more = ""
    if specks:
        words = f"+ {len(specks)} speck{'' if len(specks) == 1 else 's'}"
        inside = "".join(_finding(result, region) for region in specks[:60])
        more = f'<details class="zs-specks"><summary>{words}</summary><ol class="zs-findings">{inside}</ol></details>'
    css = "zs-findings zs-with-good" if good else "zs-findings"
    return f'<ol class="{css}" aria-label="Findings">{rows}</ol>{more}'


def _finding(result: Result, region: Region, good: GoodPlace | None = None) -> str:
    x0, y0, x1, y1 = region.box
    height, width = result.mask.shape
    inside = region.mask[y0:y1, x0:x1]
    score = float(result.anomaly_map[y0:y1, x0:x1][inside].max())
    x, y = place_in(region, result)
    margin = 0.25 * max(x1 - x0, y1 - y0, max(height, width) / 40)
    side = max(x1 - x0, y1 - y0) + 2 * margin
    crop = f"{(x0 + x1 - side) / 2:.1f} {(y0 + y1 - side) / 2:.1f} {side:.1f} {side:.1f}"
    fraction = percent(region.area, height * width)
    name = f"finding {region.id}"
    detail = f"{x1 - x0} × {y1 - y0} px at {x0}, {y0}; {region.area:,} px"
    if region.area_mm2 is not None:
        detail += f", {region.area_mm2:.3g} mm²"
    press = (
        f'<button type="button" class="zs-x" data-do="restore" data-x="{x}" data-y="{y}" '
        f'aria-label="Restore {name}" title="Restore">↺</button>'
        if region.rejected
        else f'<button type="button" class="zs-x" data-do="reject" data-x="{x}" data-y="{y}" '
        f'aria-label="Reject {name}: nothing is wrong there" title="Nothing is wrong there (Del)">✕</button>'
    )
    css = "zs-finding" if region.counts else "zs-finding zs-out"
    picture = f'<svg viewBox="{crop}" aria-hidden="true">{drawing.IMAGE}</svg>'
    both, large = picture, ""
    if good is not None:
        width_of = side / max(height, width)
        both += crop_of(good, width_of)
        large = pair(picture, good, width_of)
        detail += f"; beside it the most similar place of {good.name}"
    out = '<span class="zs-sr">rejected</span>' if region.rejected else ""
    if region.ignored:
        out = '<span class="zs-sr">ignored: too small to count</span>'
    return (
        f'<li class="{css}" data-region="{region.id}" data-box="{x0},{y0},{x1},{y1}">'
        f'<button type="button" class="zs-show" aria-pressed="false" title="{escape(detail)}">'
        f'<b><span class="zs-sr">Show finding </span>{region.id}</b>'
        f'{both}<span class="zs-size">{_size(region, fraction)}'
        '<span class="zs-sr"> of the photo, anomaly score </span></span>'
        f'<span class="zs-heatbar" style="--heat:{score:.3f};--level:{result.marking_level:.3f}"><i></i></span>'
        f"<em>{score:.2f}</em>{out}</button>{press}{large}</li>"
    )


def _size(region: Region, fraction: str) -> str:
    """A finding's size in the list: in mm² where that is known."""
    return fraction if region.area_mm2 is None else f"{region.area_mm2:.3g} mm²"


def percent(part: float, whole: float) -> str:
    """A fraction in per cent with two digits that mean something: "0.8 %", "0.03 %", "12 %"."""
    value = 100 * part / whole
    digits = 0 if value >= 10 else 1 if value >= 0.95 else 2
    return f"{value:.{digits}f} %" if value >= 0.005 else "< 0.01 %"


def facts(result: Result) -> str:
    """What ran, and the seconds each stage took."""
    height, width = result.mask.shape
    models = result.models
    what = escape(
        f"{models.get('preset', '')} · {models.get('localizer', '')} · {width} × {height} px"
    )
    rows = "".join(
        f"<tr><th scope='row'>{escape(name.replace('_', ' '))}</th><td>{seconds_words(seconds)}</td></tr>"
        for name, seconds in result.timings.items()
    )
    return (
        f'<details class="zs-facts"><summary>{what}</summary>'
        f'<table class="zs-table"><thead><tr><th scope="col">Stage</th><th scope="col">Time</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></details>"
    )


def seconds_words(seconds: float) -> str:
    """A time in words."""
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def plural(count: int, one: str) -> str:
    """A number with its noun."""
    return f"{count} {one}{'' if count == 1 else 's'}"
