"""The page: `python app.py`. On a Space this file is all that is run."""

from __future__ import annotations

import signal
import sys

from zsas.errors import ZsasError
from zsas.ui.server import launch

if __name__ == "__main__":
    # Whoever runs a server ends it with SIGTERM; as with Ctrl+C, visitors' files are removed on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        launch()
    except ZsasError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
