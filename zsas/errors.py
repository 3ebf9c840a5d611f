"""The one exception that carries a sentence for a person."""

from __future__ import annotations


class ZsasError(ValueError):
    """Something a person can mend: a bad image, value, file, or an unreachable model.

    The message is one complete sentence that says what is wrong, what was expected and what to do.
    Interfaces (shell, page, HTTP) show it as it is; anything else that is raised is a bug.
    """


def reason(error: BaseException) -> str:
    """Why another library failed, for use in a sentence: the first line of its message, or the name of its class."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
