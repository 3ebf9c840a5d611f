"""The drawer with all settings: two in plain words first, the others by stage with the paper's symbols."""

from __future__ import annotations

from html import escape

from zsas.declare import Setting
from zsas.settings import Settings, all_groups, all_settings
from zsas.ui.why import with_subscripts

PLAIN = {
    "threshold": (
        "Marking level",
        "What of the anomaly map is marked: lower marks more. Moved, one level holds for all photos.",
    ),
    "fusion_weight": (
        "How much SAM decides",
        "0 follows the anomaly map alone, 1 the outline that SAM draws.",
    ),
}
"""The settings that most people need, in their words."""
ELSEWHERE = ("system", "object_name")
"""Settings that have a place of their own on the page."""


def drawer(settings: Settings) -> str:
    """All settings as native controls; those that the chosen system does not read are left out.

    The browser keeps values inside their ranges before anything is sent.
    """
    known = {setting.name: setting for setting in all_settings()}
    used, usual = settings.used(), Settings(system=settings.system)
    first = "".join(
        _row(known[name], settings, usual, *words) for name, words in PLAIN.items() if name in used
    )
    groups = []
    for group in all_groups():
        rows = "".join(
            _row(setting, settings, usual)
            for setting in known.values()
            if setting.group == group.key
            and setting.name in used
            and setting.name not in (*PLAIN, *ELSEWHERE)
        )
        if rows:
            groups.append(f"<details><summary>{escape(group.title)}</summary>{rows}</details>")
    others = changed(settings)
    reset = "" if others else " disabled"
    count = sum(name not in ELSEWHERE for name in used)
    return (
        f'{first}<button type="button" class="zs-button" data-do="reset"{reset}>Reset to defaults'
        f"{f' ({others} changed)' if others else ''}</button>"
        f'<h3>All {count} settings</h3><p class="zs-note">With the symbols of the paper.</p>{"".join(groups)}'
    )


def changed(settings: Settings) -> int:
    """How many settings that the system reads are not as it has them."""
    return len((settings.changed() & settings.used()) - set(ELSEWHERE))


def _row(
    setting: Setting, settings: Settings, system: Settings, label: str = "", help: str = ""
) -> str:
    """One setting; `system` has the values as the system has them."""
    value, usual = getattr(settings, setting.name), getattr(system, setting.name)
    identity = f"zs-set-{setting.name}"
    symbol = f"<em>{with_subscripts(setting.symbol)}</em>" if setting.symbol else ""
    words = with_subscripts(help or setting.help) + (
        f" ({escape(setting.unit)})" if setting.unit else ""
    )
    undo = ""
    if value != usual:
        undo = (
            f'<button type="button" class="zs-x" data-do="set" data-name="{setting.name}" '
            f'data-value="{escape(str(usual))}" aria-label="Back to {escape(str(usual))}" '
            f'title="changed; back to {escape(str(usual))}">↺</button>'
        )
    return (
        f'<div class="zs-set"><label for="{identity}">{with_subscripts(label or setting.label)} {symbol}</label>{undo}'
        f"{_input(setting, value, identity)}<p>{words}</p></div>"
    )


def _input(setting: Setting, value: object, identity: str) -> str:
    name = f'name="{setting.name}" data-set'
    if setting.choices:
        options = "".join(
            f"<option{' selected' if choice == value else ''}>{escape(choice)}</option>"
            for choice in setting.choices
        )
        return f'<select id="{identity}" {name}>{options}</select>'
    if setting.type is bool:
        return f'<input type="checkbox" id="{identity}" {name}{" checked" if value else ""}>'
    if setting.type is str:
        return f'<input type="text" id="{identity}" {name} maxlength="80" value="{escape(str(value))}">'
    if setting.words:
        options = "".join(f'<option value="{escape(word)}">' for word in setting.words)
        return (
            f'<input type="text" id="{identity}" {name} list="{identity}-words" value="{escape(str(value))}" '
            f'title="{setting.range_text}"><datalist id="{identity}-words">{options}</datalist>'
        )
    limits = (
        f'min="{setting.low:g}" max="{setting.high:g}" step="{setting.step:g}" value="{value:g}"'
    )
    return (
        f'<span class="zs-pair"><input type="range" id="{identity}" {name} {limits}>'
        f'<input type="number" {name} {limits} aria-label="{escape(setting.label)}, exact" '
        f'title="{setting.range_text}"></span>'
    )
