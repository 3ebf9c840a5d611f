"""Pages of `docs/` that are made from the code: `python -m zsas.docs settings > docs/settings.md`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from zsas.flags import PANELS, flag_of
from zsas.settings import knobs


def settings_page() -> str:
    """Every setting as a page in Markdown, which is `docs/settings.md`."""
    lines = [
        "# Settings",
        "",
        "Every setting of the method, made from its declaration by `zsas settings`. The same names",
        "are fields of `Settings`, arguments over HTTP and sliders on the page. A value out of",
        "range is refused with the name, the value and the range. Only the settings marked with *",
        "need the image encoded again; after a change of any other, the image is decided again from",
        "what is kept (a new object name encodes its sentences, once).",
    ]
    group = ""
    for knob in knobs():
        if knob.group != group:
            group = knob.group
            lines += [
                "",
                f"## {PANELS[group]}",
                "",
                "| field | flag | default | range | unit | symbol | meaning |",
                "| --- | --- | --- | --- | --- | --- | --- |",
            ]
        cells = (
            f"`{knob.name}`{'*' if knob.encoding else ''}",
            f"`{flag_of(knob)}`",
            _shown(knob.default),
            knob.range_text,
            knob.unit,
            knob.symbol,
            knob.help,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, (int, float)) else value or "empty"


PAGES: dict[str, Callable[[], str]] = {"settings": settings_page}
"""Page name to what makes it."""


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(PAGES[name](), end="")
