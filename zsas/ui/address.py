"""Settings in a URL."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

from zsas.errors import ZsasError
from zsas.settings import RENAMED, Settings, all_settings


def names() -> tuple[str, ...]:
    """Names of all settings, in the order of their declaration."""
    return tuple(setting.name for setting in all_settings())


def to_query(settings: Settings, **others: str) -> str:
    """The settings that differ from their system's defaults, and other non-empty pairs, as a query string."""
    pairs = {key: value for key, value in others.items() if value}
    changed = settings.changed() | ({"system"} if settings.system != Settings().system else set())
    for setting in all_settings():
        value = getattr(settings, setting.name)
        if setting.name in changed:
            text = f"{value:g}" if isinstance(value, float) else str(value)
            pairs[setting.name] = text.lower() if isinstance(value, bool) else text
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
