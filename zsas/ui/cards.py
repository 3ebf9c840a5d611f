"""The same image through every system that can run here: a card each, and where they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from numpy.typing import NDArray

from zsas import curves
from zsas.comparison import METRICS
from zsas.result import Result
from zsas.systems import SYSTEMS
from zsas.ui import drawing, views


@dataclass(frozen=True)
class Card:
    """One system's answer.

    Attributes:
        name: Of the system.
        result: Its result, None where it has not run on this image.
        why: Why it cannot run here, "" where it can.
        metrics: Pixel AUROC, F1-max and AP against a given mask, by name; empty without one.
        line: The curves behind them.
    """

    name: str
    result: Result | None = None
    why: str = ""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    line: curves.Line | None = None


_GIVE_MASK = (
    '<label class="zs-button" title="A mask of the size of the photo, black where normal">Compare with a mask'
    '<input type="file" id="zs-truth-file" class="zs-sr" accept="image/*,.tif,.tiff,.bmp"></label>'
)


def cards(
    found: Sequence[Card],
    chosen: str,
    shape: Sequence[int],
    *,
    running: bool = False,
    seconds: float = 0.0,
) -> str:
    """All cards as HTML; those without a result are waiting or grey with their reason.

    Args:
        found: In the order of the registry.
        chosen: The present system.
        shape: (H, W, ...) of the image.
        running: Whether the others are being run.
        seconds: What one image takes here, about; 0 where it is not known.
    """
    done = [card for card in found if card.result is not None]
    bad = sum(card.result.verdict == "anomalous" for card in done if card.result is not None)
    waiting = [card for card in found if card.result is None and not card.why]
    words = f"{bad} of {len(done)} systems say anomalous" if len(done) > 1 else ""
    button = ""
    if running:
        words = words or "Running"
        button = '<button type="button" class="zs-button" data-do="stop_systems">Stop</button>'
    elif waiting:
        which = f"the other {len(waiting)}" if done else f"all {len(waiting)}"
        price = f", about {max(1, round(seconds * len(waiting)))} s" if seconds else ""
        button = f'<button type="button" class="zs-button" data-do="run_systems">Run {which}{price}</button>'
    pieces = [_card(card, chosen, shape) for card in found]
    if len(done) > 1:
        pieces.append(_agreement(done, shape))
    pieces += _curves(done)
    return (
        f'<p class="zs-systems-head"><b>{words}</b> {button}{_GIVE_MASK}</p>'
        f'<ul class="zs-cards">{"".join(pieces)}</ul>'
    )


def _card(card: Card, chosen: str, shape: Sequence[int]) -> str:
    title = f"<b>{escape(card.name)}</b> {escape(SYSTEMS[card.name].title)}"
    result = card.result
    if result is None:
        text = escape(card.why) if card.why else "not run yet"
        css = "zs-card zs-none" if card.why else "zs-card"
        blank = f'<div class="zs-blank" style="aspect-ratio:{shape[1]}/{shape[0]}" aria-hidden="true">–</div>'
        return f'<li class="{css}">{"" if card.why else blank}<p>{title}</p><p>{text}</p></li>'
    marks = drawing.marked_regions(result.regions, shape)
    heat = drawing.heat(result.score_map, level=result.settings.threshold)
    picture = drawing.drawing(
        shape, f"{card.name}: {result.sentence}", [drawing.IMAGE, heat, marks]
    )
    seconds = views.seconds_words(sum(result.timings.values()))
    measured = [
        f"{METRICS[name].removeprefix('pixel ')} {100 * value:.0f}"
        for name, value in card.metrics.items()
        if value is not None
    ]
    words = f"<p>Against the mask, in %: {', '.join(measured)}</p>" if measured else ""
    pressed = str(card.name == chosen).lower()
    score, limit = result.image_score, result.settings.verdict_threshold
    return (
        f'<li class="zs-card {views.CSS[result.verdict]}"><button type="button" data-do="take_system" '
        f'data-name="{escape(card.name)}" aria-pressed="{pressed}">{picture}<p>{title}</p>'
        f'<span class="zs-meter" style="--score:{score:.4f};--limit:{limit:.4f}">'
        f"<b></b></span><p>{views.ICONS[result.verdict]} {result.verdict.capitalize()} {score:.2f} · {seconds}</p>"
        f"{words}</button></li>"
    )


def _agreement(done: Sequence[Card], shape: Sequence[int]) -> str:
    agreed = agreement([card.result.mask for card in done if card.result is not None])
    label = f"Agreement: how many of {len(done)} systems mark each place"
    picture = drawing.drawing(shape, label, [drawing.IMAGE, drawing.heat(agreed, level=0.25)])
    return f'<li class="zs-card">{picture}<p><b>Agreement</b> how many systems mark each place</p></li>'


def _curves(done: Sequence[Card]) -> list[str]:
    """The curves of all cards that have some; a card of its own."""
    named = [(card.name, card.line) for card in done if card.line is not None]
    if not named:
        return []
    words = "against the mask at every marking level; a ring where each system's mask stands"
    drawn = f"{curves.svg(named)}<p><b>Curves</b> {words}</p>"
    return [f'<li class="zs-card" style="grid-column:1/-1;max-width:600px">{drawn}</li>']


def agreement(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.float32]:
    """The fraction of the masks that hold each pixel, float32 (H, W)."""
    return np.mean(np.stack(masks), axis=0, dtype=np.float32)


def reasons(preset: str) -> Mapping[str, str]:
    """Each system's name to why it cannot run under a preset here; "" where it can."""
    from zsas.catalogue import RUNS, entries

    # What only has to be fetched is fetched when it is asked for.
    able = (RUNS, "fetches ", "zsas models fetch")
    return {
        entry.name: "" if entry.presets[preset].startswith(able) else entry.presets[preset]
        for entry in entries()
    }
