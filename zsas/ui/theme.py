"""How the page looks: one theme, one style sheet, fonts that come with gradio, nothing from outside."""

from __future__ import annotations

from pathlib import Path
from string import Template

from zsas.ui.gradio_internals import gr

HERE = Path(__file__).parent / "static"


def theme() -> gr.themes.Base:  # one list of values, hence its length
    """Neutral surfaces and ink; colour is left to the findings."""
    return gr.themes.Base(
        primary_hue="zinc",
        secondary_hue="zinc",
        neutral_hue="zinc",
        radius_size="md",
        text_size="md",
        # Of gradio's own IBM Plex, the bold cut has no Latin letters; the system's fonts need no download.
        font=[
            "Inter",
            "ui-sans-serif",
            "system-ui",
            "Segoe UI",
            "Roboto",
            "Helvetica Neue",
            "Arial",
            "sans-serif",
        ],
        font_mono=[
            "ui-monospace",
            "SF Mono",
            "Cascadia Mono",
            "Menlo",
            "DejaVu Sans Mono",
            "monospace",
        ],
    ).set(
        body_background_fill="#fafafa",
        body_background_fill_dark="#0f0f11",
        body_text_color="#18181b",
        body_text_color_dark="#f4f4f5",
        body_text_color_subdued="#52525b",
        body_text_color_subdued_dark="#b4b4bd",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="#18181b",
        block_background_fill="#ffffff",
        block_background_fill_dark="#18181b",
        block_border_color="#e4e4e7",
        block_border_color_dark="#2e2e33",
        border_color_primary="#d4d4d8",
        border_color_primary_dark="#3f3f46",
        block_info_text_color="#52525b",
        block_info_text_color_dark="#b4b4bd",
        block_label_text_color="#3f3f46",
        block_label_text_color_dark="#d4d4d8",
        block_title_text_weight="500",
        block_title_text_color="#18181b",
        block_title_text_color_dark="#f4f4f5",
        input_background_fill="#ffffff",
        input_background_fill_dark="#18181b",
        input_border_color="#d4d4d8",
        input_border_color_dark="#3f3f46",
        input_border_width="1px",
        block_shadow="none",
        button_primary_background_fill="#18181b",
        button_primary_background_fill_hover="#3f3f46",
        button_primary_text_color="#ffffff",
        button_primary_background_fill_dark="#f4f4f5",
        button_primary_background_fill_hover_dark="#d4d4d8",
        button_primary_text_color_dark="#18181b",
        slider_color="#3f3f46",
        slider_color_dark="#d4d4d8",
        checkbox_background_color_selected="#18181b",
        checkbox_background_color_selected_dark="#71717a",
        link_text_color="#1d4ed8",
        link_text_color_dark="#93b4ff",
        color_accent="#3f3f46",
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
