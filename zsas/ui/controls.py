"""Sliders, switches and words made from `Settings`, and settings in a URL."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from zsas.declare import Setting
from zsas.errors import ZsasError
from zsas.settings import RENAMED, Settings, all_settings
from zsas.ui.gradio_internals import gr


def names() -> tuple[str, ...]:
    """Names of all settings, in the order of their controls."""
    return tuple(setting.name for setting in all_settings())


def control(setting: Setting) -> Any:
    """The Gradio component for one setting."""
    label = f"{setting.label} · {setting.symbol}" if setting.symbol else setting.label
    info = f"{setting.help} ({setting.unit})" if setting.unit else setting.help
    common: dict[str, Any] = {
        "label": _typeset(label),
        "info": _typeset(info),
        "elem_id": f"setting-{setting.name}",
    }
    if setting.choices:
        return gr.Dropdown(list(setting.choices), value=setting.default, filterable=False, **common)
    if setting.type is bool:
        return gr.Checkbox(value=setting.default, **common)
    if setting.type is str:
        return gr.Textbox(value=setting.default, max_lines=1, **common)
    assert setting.low is not None
    assert setting.high is not None
    return gr.Slider(
        setting.low,
        setting.high,
        value=setting.default,
        step=setting.step,
        buttons=["reset"],
        **common,
    )


def _typeset(text: str) -> str:
    """Gradio's labels are plain text: "S_a" with a small letter that Unicode has."""
    return re.sub(r"(?<=\w)_([ahls])\b", lambda index: "ₐₕₗₛ"["ahls".index(index[1])], text)


def settings_from(values: Sequence[Any]) -> Settings:
    """Settings from the values of all controls in the order of `names`.

    Raises:
        gr.Error: With the sentence of the `ZsasError`, for a value out of range.
    """
    try:
        return Settings.from_dict(dict(zip(names(), values, strict=True)))
    except ZsasError as error:
        raise gr.Error(str(error), print_exception=False) from None


def to_query(settings: Settings, **others: str) -> str:
    """The settings that differ from their system's defaults, and other non-empty pairs, as a query string."""
    pairs = {key: value for key, value in others.items() if value}
    usual = Settings(system=settings.system)
    for setting in all_settings():
        value = getattr(settings, setting.name)
        if value != getattr(usual if setting.name != "system" else Settings(), setting.name):
            pairs[setting.name] = (
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
    known = {setting.name: setting for setting in all_settings()}
    for name in (*known, *(old for old in RENAMED if old in query)):
        if name not in query:
            continue
        try:
            value = known[name].parse(query[name]) if name in known else query[name]
            settings = settings.replace(**{name: value})
        except ZsasError as error:
            refused.append(str(error))
    return settings, refused
