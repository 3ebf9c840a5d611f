"""Settings as machines send them: JSON values or text, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zsas.errors import ZsasError
from zsas.settings import Settings, knobs

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
    known = {knob.name: knob for knob in knobs()}
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise WrongValue(
                shortened(name),
                f"There is no setting {shortened(name)!r}; the settings are {', '.join(known)}.",
            )
        knob = known[name]
        if value is None or (knob.type is not str and value == ""):
            continue
        if isinstance(value, str) and (knob.type is not str or knob.choices):
            value = _parsed(name, knob, value.strip())
        elif not isinstance(value, (str, int, float)):
            raise _refused(name, value, knob.range_text)
        chosen[name] = value
        try:
            Settings.from_dict({name: value})
        except ZsasError as error:
            raise WrongValue(name, _short_sentence(str(error), value)) from None
    try:
        return Settings.from_dict(chosen)
    except ZsasError as error:  # values that are right alone may not go together
        raise WrongValue("", str(error)) from None


def _parsed(name: str, knob: Any, text: str) -> Any:
    if knob.choices:
        return text
    if knob.type is bool:
        value = knob.parse(text)
        if isinstance(value, str):
            raise _refused(name, text, "true or false")
        return value
    try:
        return float(text) if len(text) < 400 else _fail()
    except ValueError:
        point = text.replace(",", ".", 1)
        hint = f"; write a point: {point}" if "," in text and _is_number(point) else ""
        raise _refused(name, text, f"a number, {knob.range_text}{hint}") from None


def _fail() -> float:
    raise ValueError


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refused(name: str, value: Any, wanted: str) -> WrongValue:
    return WrongValue(name, f"{name} is {shortened(value)}, but it must be {wanted}.")


def shortened(value: Any) -> str:
    """A value as it is said again: its beginning, where it is long; a text without marks stays without."""
    text = value if isinstance(value, str) and value.isidentifier() else repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def _short_sentence(sentence: str, value: Any) -> str:
    whole = repr(value)
    return (
        sentence.replace(whole, f"{whole[:MOST_SHOWN]}…") if len(whole) > MOST_SHOWN else sentence
    )
