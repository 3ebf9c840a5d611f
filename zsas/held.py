"""Base of dataclasses that hold tensors and arrays: their size in memory, and how they move to another device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import torch


class Held:
    """A dataclass whose fields are tensors, arrays, others of this kind, or tuples and mappings of these."""

    def to(self, device: torch.device | str) -> Self:
        """A copy on another device; itself if everything is there already."""
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
    """A value on a device; the value itself if nothing in it has to move."""
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
