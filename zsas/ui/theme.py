"""How the page looks: one theme, one style sheet, fonts that come with gradio, nothing from outside."""

from __future__ import annotations

from pathlib import Path
from string import Template

from zsas.ui.gradio_internals import gr

HERE = Path(__file__).parent / "static"


def theme() -> gr.themes.Base:
    """Neutral ground and ink; of gradio's own components none is shown."""
    return gr.themes.Base(
        # Of gradio's own IBM Plex, the bold cut has no Latin letters; the system's fonts need no download.
        font=[
            *("Inter", "ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "Helvetica Neue"),
            *("Arial", "sans-serif"),
        ],
        font_mono=[
            *("ui-monospace", "SF Mono", "Cascadia Mono", "Menlo", "DejaVu Sans Mono"),
            "monospace",
        ],
    ).set(
        body_background_fill="#fafafa",
        body_background_fill_dark="#0f0f11",
        body_text_color="#18181b",
        body_text_color_dark="#f4f4f5",
    )


def css() -> str:
    """The style sheet."""
    return (HERE / "page.css").read_text(encoding="utf-8")


def script(name: str) -> str:
    """The behaviour of one part of the page, from `static/<name>.js`."""
    return (HERE / f"{name}.js").read_text(encoding="utf-8")


def page_html(**places: str) -> str:
    """The page from `static/page.html`, with its places filled."""
    return Template((HERE / "page.html").read_text(encoding="utf-8")).substitute(places)
