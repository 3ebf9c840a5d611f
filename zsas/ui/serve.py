"""Serve the page until somebody ends it: what `zsas serve` and `app.py` do."""

from __future__ import annotations

import signal
import sys

from zsas.errors import ZsasError
from zsas.extras import require


def serve() -> None:
    """Start the page and wait; a sentence and exit code 1 if it cannot start, 130 if a person ends it."""
    # Whoever runs a server ends it with SIGTERM; as with Ctrl+C, visitors' files are removed on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        require("ui")
        from zsas.ui.server import launch

        launch()
    except ZsasError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
