"""What is kept of an image: how much memory it takes, and its way to another device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import torch


class Held:
    """A dataclass of tensors and arrays; tuples and mappings of them count, and others of this kind."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device; itself where it is there already."""
        values: Any = self
        moved = {
            one.name: new
            for one in fields(values)
            if (new := _moved(old := getattr(self, one.name), device)) is not old
        }
        return replace(values, **moved) if moved else self

    @property
    def nbytes(self) -> int:
        """Memory of its tensors and arrays in bytes."""
        values: Any = self
        return sum(one.nbytes for f in fields(values) for one in _sized(getattr(self, f.name)))


def _moved(value: Any, device: torch.device | str) -> Any:
    """A value on a device; itself where nothing of it moves."""
    if hasattr(value, "to"):
        return value.to(device)
    if isinstance(value, Mapping):
        items = list(value.items())  # another thread may add to it
        moved: Any = {key: _moved(one, device) for key, one in items}
        same = all(moved[key] is one for key, one in items)
    elif isinstance(value, tuple):
        moved = tuple(_moved(one, device) for one in value)
        same = all(new is old for new, old in zip(moved, value, strict=True))
    else:
        return value
    return value if same else moved


def _sized(value: Any) -> Iterator[Any]:
    if hasattr(value, "nbytes"):
        yield value
    elif isinstance(value, Mapping | tuple):
        for one in list(value.values()) if isinstance(value, Mapping) else value:
            yield from _sized(one)
