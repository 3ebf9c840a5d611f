"""What stands on the page, and where: the image with its reasons on the left, verdict and findings on the right."""

from __future__ import annotations

from html import escape
from typing import Any

from zsas.images.formats import suffixes
from zsas.refiners.none import NoRefiner
from zsas.systems import SYSTEMS
from zsas.ui import manual, snippets
from zsas.ui.gradio_internals import gr
from zsas.ui.speed import Speed
from zsas.ui.theme import page_html, script

DOWNLOADS = (
    ("mask.png", "Mask, PNG"),
    ("score.png", "Score map, 16-bit PNG"),
    ("overlay.png", "Overlay, PNG"),
    ("result.json", "Result, JSON"),
    ("all.zip", "Everything, ZIP"),
)
SCRIPTS = ("core", "viewer", "region", "ticks", "findings", "drawer", "share", "many")
"""Behaviour of the page, in the order in which the files are put together."""


def lay_out(functions: list[Any], default: str, examples: str) -> gr.HTML:
    """Put the page into the Blocks that are being made.

    Args:
        functions: What the script may call on the server.
        default: The preset that is chosen at first.
        examples: The row of examples, as far as they are here already.
    """
    return gr.HTML(
        shell(default, examples),
        apply_default_css=False,
        elem_id="zs-app",
        js_on_load="\n".join(script(name) for name in SCRIPTS),
        server_functions=functions,
    )


def shell(default: str, examples: str) -> str:
    """The page before anything is known of the visitor."""
    return page_html(
        examples=examples,
        # A browser knows fewer types of images by itself than are read: HEIC, DICOM, camera raw.
        accept=",".join(("image/*", *sorted(suffixes(read=True)))),
        links=links(),
        systems="".join(
            f'<option value="{name}" data-words="{escape(system_words(name))}">{escape(system_words(name))}</option>'
            for name in SYSTEMS
        ),
        presets="".join(
            f'<option value="{name}"{" selected" if name == default else ""}>{escape(words)}</option>'
            for name, words in Speed().words().items()
        ),
        downloads="".join(
            f'<a data-get="{name}" download>{title}</a>' for name, title in DOWNLOADS
        ),
        codes="".join(
            f'<h3>{escape(title)}</h3><pre tabindex="0" data-code="{key}"></pre>'
            for key, title in snippets.TITLES
        ),
    )


def system_words(name: str) -> str:
    """A system in the list: its name, what it is, the year of its paper, and whether it only makes a map."""
    system = SYSTEMS[name]
    year = f" 20{system.paper[:2]}" if system.paper and "paper" not in system.title else ""
    return f"{name}: {system.title}{year}{' · map only' if system.refiner is NoRefiner else ''}"


def links() -> str:
    """Links of the page's foot; `data-at` is an address from the root of the page itself."""
    return "\n  ".join(
        f'<a href="{escape(url)}" target="_blank" rel="noopener"'
        f"{'' if url.startswith('http') else f' data-at={chr(34)}{escape(url)}{chr(34)}'}>{escape(title)}</a>"
        for url, title in manual.links()
    )
