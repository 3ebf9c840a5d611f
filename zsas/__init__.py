"""Zero-shot anomaly segmentation that shows its reasons.

    from zsas import Segmenter, Settings, save
    result = Segmenter.from_preset("tiny").segment("image.png", Settings(threshold=0.4))
    save(result, "results/image")

Importing this costs next to nothing: what is named here is imported at its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zsas.errors import ZsasError
    from zsas.export import save
    from zsas.result import Result
    from zsas.segmenter import Segmenter
    from zsas.settings import Settings

__version__ = "0.2.0"
__all__ = ["Result", "Segmenter", "Settings", "ZsasError", "__version__", "save"]

_MODULES = {
    "Result": "zsas.result",
    "Segmenter": "zsas.segmenter",
    "Settings": "zsas.settings",
    "ZsasError": "zsas.errors",
    "save": "zsas.export",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'zsas' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
