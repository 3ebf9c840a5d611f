"""Sliders, switches and words made from `Settings`, and settings in a URL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from zsas.errors import ZsasError
from zsas.settings import Knob, Settings, knobs
from zsas.ui.gradio_internals import gr

GROUPS = {
    "localize": "Anomaly map",
    "points": "Region and points",
    "cascade": "Cascade",
    "fusion": "Fusion",
    "verdict": "Verdict",
}
NAMES = tuple(knob.name for knob in knobs())


def control(knob: Knob) -> Any:
    """The Gradio component for one knob."""
    label = f"{knob.label} · {knob.symbol}" if knob.symbol else knob.label
    info = f"{knob.help} ({knob.unit})" if knob.unit else knob.help
    common: dict[str, Any] = {
        "label": _typeset(label),
        "info": _typeset(info),
        "elem_id": f"knob-{knob.name}",
    }
    if knob.choices:
        return gr.Dropdown(list(knob.choices), value=knob.default, filterable=False, **common)
    if knob.type is bool:
        return gr.Checkbox(value=knob.default, **common)
    if knob.type is str:
        return gr.Textbox(value=knob.default, max_lines=1, **common)
    assert knob.low is not None
    assert knob.high is not None
    return gr.Slider(
        knob.low, knob.high, value=knob.default, step=knob.step, buttons=["reset"], **common
    )


def _typeset(text: str) -> str:
    """Gradio's labels are plain text: "S_a" with a small letter that Unicode has."""
    return re.sub(r"(?<=\w)_([ahls])\b", lambda index: "ₐₕₗₛ"["ahls".index(index[1])], text)


def settings_from(values: Sequence[Any]) -> Settings:
    """Settings from the values of all controls in the order of `NAMES`.

    Raises:
        gr.Error: With the sentence of the `ZsasError`, for a value out of range.
    """
    try:
        return Settings.from_dict(dict(zip(NAMES, values, strict=True)))
    except ZsasError as error:
        raise gr.Error(str(error), print_exception=False) from None


def to_query(settings: Settings, **others: str) -> str:
    """The settings that differ from their defaults, and other non-empty pairs, as a query string."""
    pairs = {key: value for key, value in others.items() if value}
    for knob in knobs():
        value = getattr(settings, knob.name)
        if value != knob.default:
            pairs[knob.name] = (
                f"{value:g}"
                if isinstance(value, float)
                else str(value).lower()
                if (isinstance(value, bool))
                else str(value)
            )
    return urlencode(pairs)


def from_query(query: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """Settings from the parameters of a URL, and one sentence for each parameter that was refused.

    Parameters that are no settings are left alone, because a URL carries other things as well.
    """
    settings, refused = Settings(), []
    for knob in knobs():
        if knob.name not in query:
            continue
        try:
            settings = settings.replace(**{knob.name: knob.parse(query[knob.name])})
        except ZsasError as error:
            refused.append(str(error))
    return settings, refused
