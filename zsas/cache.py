"""Encodings kept in memory under a byte budget, shared by all users of a process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, Protocol, TypeVar


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
        max_values: Most values, so that small ones that nobody asks for again leave room; None for any number.
    """

    def __init__(self, max_bytes: int, max_values: int | None = None) -> None:
        self.max_bytes, self.max_values = max_bytes, max_values
        self._values: OrderedDict[Hashable, tuple[Value, int]] = OrderedDict()
        self._held = 0
        self._lock = threading.Lock()

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return self._held

    def get(self, key: Hashable) -> Value | None:
        """The value of a key, or None."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: Value) -> None:
        """Keep a value, dropping the least recently used ones where the budget asks for it."""
        size = value.nbytes
        if size > self.max_bytes:
            return
        with self._lock:
            self._held -= self._values.pop(key, (None, 0))[1]
            while self._held + size > self.max_bytes:
                self._held -= self._values.popitem(last=False)[1][1]
            self._values[key] = value, size
            self._held += size
            while self.max_values is not None and len(self._values) > self.max_values:
                self._held -= self._values.popitem(last=False)[1][1]

    def drop(self, part: Hashable) -> None:
        """Let go of all values whose key is a tuple that holds `part`."""
        with self._lock:
            for key in [key for key in self._values if isinstance(key, tuple) and part in key]:
                self._held -= self._values.pop(key)[1]

    def get_or_make(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of a key, made and kept if it is missing."""
        value = self.get(key)
        if value is None:
            value = make()
            self.put(key, value)
        return value
