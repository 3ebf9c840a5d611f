"""`zsas serve`."""

from __future__ import annotations


def serve() -> None:
    """Start the page and wait until somebody ends it."""
    from zsas.ui.serve import serve

    serve()
