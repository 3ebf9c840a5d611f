"""`zsas settings`."""

from __future__ import annotations


def print_settings() -> None:
    """Print every setting with its range, default and meaning, as Markdown."""
    from zsas.docs import settings_page

    print(settings_page(), end="")
