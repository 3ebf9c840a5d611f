"""What several test files share: small models, a segmenter without models, results, data sets on disk.

Fixtures stay in the `conftest.py` beside their tests; what is imported by name lives here.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
