"""torch, imported when something of it is first used.

Plug-ins (localizers and refiners) declare their settings and stages in the file that computes them. The shell's help
and the page need the declarations at once, and importing torch takes seconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
    import torch.nn.functional as F
else:

    class _Module:
        """Stands for a module until an attribute of it is read."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(importlib.import_module(self._name), attribute)

    torch = _Module("torch")
    F = _Module("torch.nn.functional")

__all__ = ["F", "torch"]
