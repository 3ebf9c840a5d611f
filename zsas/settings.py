"""`Settings`: the values of all settings, those of the engine and those that localizers and refiners declare.

`Settings` holds the values flat and by name, validated when made; `settings.of(CascadeSettings)` hands a component its
own group. Which settings there are follows from the registry of systems.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from zsas import systems
from zsas.declare import Setting, SettingsGroup, declared
from zsas.errors import ZsasError

Group = TypeVar("Group", bound=SettingsGroup)

RENAMED = {
    "localizer": "system",
    "agreement": "min_overlap",
    "reference_side": "reference_size",
}
"""Names of settings in earlier versions, and their present names; stored settings with an old name are refused."""


class Settings:
    """Values of all settings by name; immutable.

    Args:
        values: Name to value. What is missing, or None, takes the default of the system, which is the setting's own
            unless the system says otherwise.

    Raises:
        ZsasError: If a name is no setting, or a value is out of range, naming setting, value and range.
    """

    __slots__ = ("_given", "_values")

    def __init__(self, **values: Any) -> None:
        known = {setting.name: setting for setting in all_settings()}
        for name in values:
            if name in RENAMED:
                raise ZsasError(f"The setting {name!r} is now called {RENAMED[name]!r}.")
            if name not in known:
                meant = difflib.get_close_matches(name, known, 1)
                asked = f" Did you mean {meant[0]!r}?" if meant else ""
                names = ", ".join(sorted(known))
                raise ZsasError(f"There is no setting {name!r}; the settings are {names}.{asked}")
        given = {
            name: known[name].checked(value) for name, value in values.items() if value is not None
        }
        system = systems.system_named(given.get("system", known["system"].default))
        defaults = dict(system.defaults)
        for name in given:
            if overrides := known[name].overrides:
                defaults.pop(overrides[0], None)
        resolved = {
            name: given.get(name, defaults.get(name, setting.default))
            for name, setting in known.items()
        }
        object.__setattr__(self, "_given", given)
        object.__setattr__(self, "_values", resolved)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"There is no setting {name!r}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Settings cannot be changed; use replace({name}=…).")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self._values == other._values

    def __hash__(self) -> int:
        return hash(tuple(self._values.items()))

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Settings.from_dict, (self._given,)

    def of(self, group: type[Group]) -> Group:
        """The values of one group, as that group."""
        return group(**{setting.name: self._values[setting.name] for setting in declared(group)})

    def replace(self, **changes: Any) -> Settings:
        """A copy with some settings changed; an unknown name is a `ZsasError`, None means the default again.

        A value that would have no effect takes away the value that keeps it from having one, and the other way round
        (`Setting.overrides`).
        """
        given = dict(self._given)
        for setting in all_settings():
            if not setting.overrides:
                continue
            name, without_effect = setting.overrides
            if changes.get(setting.name) is not None and given.get(name) == without_effect:
                del given[name]
            if changes.get(name) == without_effect and setting.name not in changes:
                given.pop(setting.name, None)
        return Settings(**{**given, **changes})

    def unless_given(self, **values: Any) -> Settings:
        """A copy in which these values replace defaults; values that were given are kept."""
        return Settings(**{**values, **self._given})

    @property
    def given(self) -> dict[str, Any]:
        """The settings that were given by name; all others have the system's defaults."""
        return dict(self._given)

    def to_dict(self) -> dict[str, Any]:
        """All settings by name, as JSON types."""
        return dict(self._values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from names and values; see the class for what is missing and what is refused."""
        return cls(**values)

    @property
    def encoding_key(self) -> tuple[Any, ...]:
        """The values that an encoding depends on; equal keys share one encoding."""
        return tuple(self._values[setting.name] for setting in all_settings() if setting.encoding)

    def changed(self) -> frozenset[str]:
        """Names of the settings that differ from the system's defaults, without those that follow from another one."""
        known = {setting.name: setting for setting in all_settings()}
        usual = Settings(system=self.system)
        found = {name for name, value in self._values.items() if value != usual._values[name]}
        for setting in known.values():
            if setting.overrides and setting.name in found:
                other = known[setting.overrides[0]]
                if self._values[other.name] == other.default:
                    found.discard(other.name)
        return frozenset(found)

    def used(self) -> frozenset[str]:
        """Names of the settings that the chosen system reads."""
        system = systems.system_named(self.system, refiner=self.refiner)
        return frozenset(
            setting.name for group in system.settings_groups for setting in declared(group)
        )


def settings_or_usual(settings: Settings | None, usual: Settings | None = None) -> Settings:
    """What somebody gave as settings, or the usual ones where nothing was given.

    Args:
        settings: What was given.
        usual: What is taken instead of nothing; None for the defaults.

    Raises:
        ZsasError: If something else was given.
    """
    if settings is None:
        return Settings() if usual is None else usual
    if not isinstance(settings, Settings):
        raise ZsasError(
            f"Settings were expected, as Settings(threshold=0.4), but this is of the type {type(settings).__name__}."
        )
    return settings


def all_settings() -> tuple[Setting, ...]:
    """All declarations in the order of the stages."""
    return tuple(setting for group in all_groups() for setting in _declared(group))


def all_groups() -> tuple[type[SettingsGroup], ...]:
    """Groups of all registered systems: the general ones, localizers', refiners', the verdict's; each once."""
    return systems.settings_groups()


def _declared(group: type[SettingsGroup]) -> Iterable[Setting]:
    """Declarations of a group, with the choices that only the registry knows filled in."""
    return (systems.with_choices(setting) for setting in declared(group))
