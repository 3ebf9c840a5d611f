"""Where the engine stood in version 0.1, for code written for it; new code takes `from zsas import Segmenter`."""

from __future__ import annotations

from zsas.encoding import Encoding
from zsas.segmenter import Segmenter

__all__ = ["Encoding", "Segmenter"]
