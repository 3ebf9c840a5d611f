"""`zsas settings`: every setting as a page in Markdown."""

from __future__ import annotations

from zsas.flags import flag_of, shown
from zsas.settings import all_groups, all_settings


def print_settings() -> None:
    """Print every setting with its range, default and meaning, as Markdown."""
    print(settings_page(), end="")


def settings_page() -> str:
    """Every setting as a page in Markdown, which is `docs/settings.md`."""
    lines = [
        "# Settings",
        "",
        "Every setting, made from the declarations beside the code that reads them by `zsas settings`.",
        "The same names are arguments of `Settings`, fields over HTTP and sliders on the page. A value",
        "out of range is refused with the name, the value and the range. Only the settings marked with *",
        "need the image encoded again; after a change of any other, it is decided again from what is",
        "kept (a new object name encodes its sentences, once). A system may have defaults of its own.",
    ]
    for group in all_groups():
        lines += [
            "",
            f"## {group.title}",
            "",
            "| field | flag | default | range | unit | symbol | meaning |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for setting in (one for one in all_settings() if one.group == group.key):
            cells = (
                f"`{setting.name}`{'*' if setting.encoding else ''}",
                f"`{flag_of(setting)}`",
                shown(setting.default),
                setting.range_text,
                setting.unit,
                setting.symbol,
                setting.help,
            )
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
