"""How components declare their settings: once, with default, range, unit, symbol and help, beside what reads them.

A component lists its settings as a frozen dataclass derived from `SettingsGroup`, each field made with `setting`.
Flags, sliders, the HTTP schema and `docs/settings.md` are made from these declarations.
"""

from __future__ import annotations

import dataclasses
import numbers
import typing
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from zsas.errors import ZsasError

MAX_TEXT = 80
"""Longest text value in characters."""

_SWITCH = {
    **dict.fromkeys(("true", "on", "yes", "1"), True),
    **dict.fromkeys(("false", "off", "no", "0"), False),
}


@dataclass(frozen=True)
class Setting:
    """The declaration of one setting: default, range, unit, symbol and help.

    Attributes:
        name: Name in `Settings`, of the flag and of the HTTP field.
        label: Short name for a slider.
        help: One sentence.
        default: Default value; a system may have one of its own.
        type: `bool`, `int`, `float` or `str`.
        low: Smallest value, inclusive; None where there is no range.
        high: Largest value, inclusive; None where there is no range.
        step: Slider step.
        unit: Unit of the value, "" for a pure number.
        symbol: The paper's symbol, "" where the paper has none.
        choices: Allowed words, empty for numbers and free text.
        group: Key of the group it belongs to.
        encoding: True if a change needs the encoders again; all others only decide again.
        words: Words that a number may be instead, "off" and "auto".
        zero: What 0 means where 0 lies outside the range proper, "" where it has no meaning of its own.
        floor: Smallest value other than 0 where `zero` is set, and smallest number where there are `words`.
        overrides: Another setting and the value of it under which this one has no effect: a person who names this
            one alone means it to have one, so the other then takes its own default, whatever the system's is.
    """

    name: str
    label: str
    help: str
    default: Any
    type: type
    low: float | None
    high: float | None
    step: float | None
    unit: str
    symbol: str
    choices: tuple[str, ...]
    group: str
    encoding: bool
    zero: str = ""
    floor: float = 0.0
    words: tuple[str, ...] = ()
    overrides: tuple[str, str] | None = None

    def parse(self, text: str) -> Any:
        """The value written as text; the text itself if it cannot be parsed, which `checked` then refuses."""
        if self.type is bool:
            return _SWITCH.get(text.strip().lower(), text)
        if self.type is str or text in self.words:
            return text
        try:
            number = float(text.strip().replace(",", ".") if text.count(",") == 1 else text)
        except ValueError:
            return text
        return int(number) if self.type is int and number.is_integer() else number

    @property
    def range_text(self) -> str:
        """The allowed values in words: "0 to 1", "ellipse, rectangle or cross", "on or off"."""
        if self.choices:
            return " or ".join(filter(None, (", ".join(self.choices[:-1]), self.choices[-1])))
        if self.type is bool:
            return "on or off"
        if self.type is str:
            return f"text of at most {MAX_TEXT} characters"
        if self.words:
            return f"{', '.join(self.words)} or {self.floor:g} to {self.high:g}"
        if self.zero:
            return f"0 ({self.zero}) or {self.floor:g} to {self.high:g}"
        return f"{self.low:g} to {self.high:g}"

    def checked(self, value: Any) -> Any:
        """The value in the setting's own type.

        Raises:
            ZsasError: One sentence that names setting, value and range.
        """
        wrong = ZsasError(f"{self.name} is {value!r}, but it must be {self.range_text}.")
        if isinstance(value, str) and value in self.words:
            return value
        if self.choices:
            if not isinstance(value, str) or value not in self.choices:
                raise wrong
            return str(value)  # a flag's enumeration is known in its own process alone
        if self.type is str:
            if not isinstance(value, str) or len(value) > MAX_TEXT:
                raise wrong
            try:  # a shell in another locale hands on UTF-8 as bytes
                value = value.encode("utf-8", "surrogateescape").decode("utf-8")
            except UnicodeError:
                raise ZsasError(
                    f"{self.name} is {value!r}, which is no valid text; write it in UTF-8."
                ) from None
            return " ".join(value.split())
        if self.type is bool:
            if value is None or hasattr(value, "__len__") or value not in (0, 1):
                raise wrong
            return bool(value)
        return self._checked_number(value, wrong)

    def _no_number(self, value: Any) -> ZsasError:
        words = self.range_text if self.words or self.zero else f"a number, {self.range_text}"
        return ZsasError(f"{self.name} is {value!r}, but it must be {words}.")

    def _checked_number(self, value: Any, wrong: ZsasError) -> Any:
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise self._no_number(value)
        assert self.low is not None
        assert self.high is not None
        try:
            number = float(value)
        except OverflowError:
            raise wrong from None
        above_zero = number > 0 or bool(self.words)
        if not self.low <= number <= self.high or (above_zero and number < self.floor):
            raise wrong
        if self.type is float:
            return number
        if not number.is_integer():
            raise ZsasError(
                f"{self.name} is {value!r}, but it must be a whole number, {self.range_text}."
            )
        return int(number)


def setting(
    default: Any,
    label: str,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    unit: str = "",
    symbol: str = "",
    encoding: bool = False,
    zero: str = "",
    floor: float = 0.0,
    words: tuple[str, ...] = (),
    overrides: tuple[str, str] | None = None,
) -> Any:
    """A field of a `SettingsGroup`; see `Setting` for what the arguments mean."""
    return dataclasses.field(
        default=default,
        metadata={
            "label": label,
            "help": help,
            "low": low,
            "high": high,
            "step": step,
            "unit": unit,
            "symbol": symbol,
            "encoding": encoding,
            "zero": zero,
            "floor": floor,
            "words": words,
            "overrides": overrides,
        },
    )


@dataclass(frozen=True)
class SettingsGroup:
    """Base of the settings of one component or of one concern that components share.

    A subclass is a frozen dataclass whose fields are made with `setting`; `key` and `title` are given in its class
    statement: `class PointSettings(SettingsGroup, key="points", title="Region and points")`.
    """

    key: ClassVar[str] = ""
    title: ClassVar[str] = ""

    def __init_subclass__(cls, key: str = "", title: str = "") -> None:
        super().__init_subclass__()
        cls.key, cls.title = key, title


Group = TypeVar("Group", bound=SettingsGroup)


class Values(Protocol):
    """The settings of one decision; components read their own group with `of`."""

    def of(self, group: type[Group]) -> Group:
        """The values of one group."""
        ...


def declared(group: type[SettingsGroup]) -> tuple[Setting, ...]:
    """The declarations of a group, in order."""
    if group not in _DECLARED:
        _DECLARED[group] = _read(group)
    return _DECLARED[group]


_DECLARED: dict[type[SettingsGroup], tuple[Setting, ...]] = {}


def _read(group: type[SettingsGroup]) -> tuple[Setting, ...]:
    hints = typing.get_type_hints(group)
    found = []
    for field in dataclasses.fields(group):
        hint = hints[field.name]
        choices = typing.get_args(hint) if typing.get_origin(hint) is Literal else ()
        found.append(
            Setting(
                name=field.name,
                default=field.default,
                type=str if choices else int if field.metadata["words"] else hint,
                choices=choices,
                group=group.key,
                **field.metadata,
            )
        )
    return tuple(found)
