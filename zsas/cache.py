"""Encodings kept in memory under a byte budget, shared by all users of a process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar

from cachetools import LRUCache


class Sized(Protocol):
    """Something that knows how many bytes it holds."""

    @property
    def nbytes(self) -> int:
        """Bytes of memory."""
        ...


Value = TypeVar("Value", bound=Sized)


class ByteBudgetCache(Generic[Value]):
    """Least recently used values, at most so many bytes in all; safe between threads.

    Args:
        max_bytes: The budget. A value larger than all of it is not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._values: LRUCache[Hashable, Value] = LRUCache(max_bytes, getsizeof=lambda v: v.nbytes)
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return int(self._values.currsize)

    def get(self, key: Hashable) -> Value | None:
        """The value of a key, or None."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value, dropping the least recently used ones where the budget asks for it."""
        if value.nbytes <= self.max_bytes:
            with self._lock:
                self._values[key] = value

    def get_or_make(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made and kept if it is missing."""
        value = self.get(key)
        if value is None:
            value = make()
            self.put(key, value)
        return value
