"""Serve the page until somebody ends it: what `zsas serve` and `app.py` do."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Any, NoReturn

from zsas.errors import ZsasError, reason
from zsas.extras import require


def serve(**options: Any) -> None:
    """Start the page and wait; a sentence and exit code 2 if it cannot start, 130 if a person ends it.

    Args:
        options: For `gr.Blocks.launch`: `server_name`, `server_port`.
    """
    # Whoever runs a server ends it with SIGTERM; as with Ctrl+C, visitors' files are removed on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        require("ui")
        gc.disable()  # importing throws nothing away, and looking for it takes a tenth of the time; `launch` enables it
        from zsas.ui.server import launch

        launch(**options)
    except ZsasError as error:
        _refuse(str(error))
    except OSError as error:
        if "empty port" not in str(error):  # gradio's words where it found none
            file = "a file" if error.filename is None else os.fsdecode(error.filename)
            _refuse(
                f"The page cannot be served: {file} cannot be used ({error.strerror or reason(error)}). TMPDIR and "
                "GRADIO_TEMP_DIR name folders for what visitors send."
            )
        _refuse(
            "The page cannot be served: the port is taken, or the address is not one of this machine. Choose others "
            "with --host and --port, or with GRADIO_SERVER_NAME and GRADIO_SERVER_PORT."
        )
    except KeyboardInterrupt:
        sys.exit(130)


def _refuse(sentence: str) -> NoReturn:
    """As all commands say what a person can mend: `app.py` has no shell around it."""
    print(f"zsas: {sentence}", file=sys.stderr)
    sys.exit(2)
