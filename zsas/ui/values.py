"""Settings as machines send them: JSON values or text, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zsas.declare import Setting
from zsas.errors import ZsasError
from zsas.models import PRESETS
from zsas.settings import Settings, all_settings

MOST_BYTES = 64 * 2**20
"""Of an upload, and of a form with all of its files."""
MOST_SHOWN = 40
"""Characters of a wrong value that are said again."""


class WrongValue(ZsasError):
    """A value that is refused.

    Attributes:
        parameter: Whose value, "" where several are wrong together.
    """

    def __init__(self, parameter: str, sentence: str) -> None:
        super().__init__(sentence)
        self.parameter = parameter


def read_settings(values: Mapping[str, Any]) -> Settings:
    """Settings from names and values; a number or a switch may be text, and None or an empty text means the default.

    Args:
        values: JSON values, or text as it stands in a form.

    Raises:
        WrongValue: On a name that is no setting, or a value of a wrong type or out of its range; names the parameter.
    """
    known = {setting.name: setting for setting in all_settings()}
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise _unknown(name)
        if value is None or (value == "" and known[name].type is not str):
            continue
        chosen[name] = _read(known[name], value)
    try:
        return Settings(**chosen)
    except ZsasError as error:  # values that are right alone may not go together
        raise WrongValue("", str(error)) from None


def _unknown(name: str) -> WrongValue:
    try:
        Settings(**{name: None})
    except ZsasError as error:
        return WrongValue(name[:MOST_SHOWN], _short(str(error), name))
    raise AssertionError(name)


def _read(setting: Setting, value: Any) -> Any:
    if isinstance(value, str):
        read = setting.parse(value)
        if setting.type in (int, float) and isinstance(read, str) and read not in setting.words:
            raise refused(setting.name, value, f"a number, {setting.range_text}")
        value = read
    elif not isinstance(value, (int, float)):
        raise refused(setting.name, value, setting.range_text)
    try:
        return setting.checked(value)
    except ZsasError as error:
        raise WrongValue(setting.name, _short(str(error), value)) from None


def read_preset(value: Any, usual: str) -> str:
    """The preset of a call; the usual one where none is named.

    Raises:
        WrongValue: If there is none of that name.
    """
    if value is None or value == "":
        return usual
    if not isinstance(value, str) or value not in PRESETS:
        raise refused("preset", value, ", ".join(PRESETS))
    return value


def read_switch(name: str, value: Any) -> bool:
    """A switch that is no setting: true or false, 1 or 0, as JSON or as text; missing or empty means false.

    Raises:
        WrongValue: On anything else.
    """
    known = {"": False, "none": False, "false": False, "0": False, "true": True, "1": True}
    text = str(value).strip().lower()
    if text not in known:
        raise refused(name, value, "true or false")
    return known[text]


def refused(name: str, value: Any, wanted: str) -> WrongValue:
    """A value that is another than what is wanted."""
    return WrongValue(name, f"{name} is {shortened(value)}, but it must be {wanted}.")


def shortened(value: Any) -> str:
    """A value as it is said again: its beginning, where it is long."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _short(sentence: str, value: Any) -> str:
    return sentence.replace(repr(value), shortened(value))
