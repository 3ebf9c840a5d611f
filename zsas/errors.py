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


def readable(name: str) -> str:
    r"""A file's name as text: bytes in it that are no UTF-8 are written out, for they fit into no JSON and no page.

    Example:
        >>> readable("gr\udcfcn.png")
        'gr\\xfcn.png'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
