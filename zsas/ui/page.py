"""The whole page: what stands on it, what it calls, and the endpoints for code."""

from __future__ import annotations

from typing import Any

from zsas.models import PRESETS
from zsas.settings import all_settings
from zsas.ui import api, events
from zsas.ui.calls import Field, field, tolerant
from zsas.ui.events.site import Site, act
from zsas.ui.events.visit import hello, updates
from zsas.ui.gradio_internals import gr, without_bar
from zsas.ui.layout import lay_out
from zsas.ui.upload import UploadedFiles, UploadedImage
from zsas.ui.web import CALLS

TITLE = "Zero-shot anomaly segmentation"
TOGETHER: dict[str, Any] = {"concurrency_id": "code", "concurrency_limit": 8}
"""Calls from code run together; at the encoders they wait in the page's own line."""

assert events  # importing it names the actions


def build(site: Site) -> gr.Blocks:
    """The page, wired to what stands behind it; not yet launched."""
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(1800, 7200)
    ) as blocks:
        lay_out(_functions(site), site.engine.default, site.examples.html())
    # On a page of their own, which nobody opens: a browser would fetch and draw each of their hidden fields.
    with blocks.route("Calls", CALLS, show_in_navbar=False):
        _endpoints(site)
    return tolerant(without_bar(blocks))


def _functions(site: Site) -> list[Any]:
    """What the page's script calls, each with one object as its argument."""

    def page_hello(data: dict[str, Any]) -> dict[str, Any]:
        return hello(site, str(data.get("token", "")), str(data.get("query", "")))

    def page_act(data: dict[str, Any]) -> dict[str, Any]:
        given = data.get("data") or {}
        return act(site, str(data.get("token")), str(data.get("name")), given, int(data["seen"]))

    async def page_updates(data: dict[str, Any]) -> dict[str, Any]:
        return await updates(site, str(data.get("token")), int(data["seen"]))

    return [page_hello, page_act, page_updates]


def _endpoints(site: Site) -> None:
    """The named endpoints, each behind a button that nobody sees."""
    with gr.Column(visible=False):
        settings = [field(setting) for setting in all_settings()]
        image = UploadedImage(label="image", type="filepath", image_mode=None)
        files = UploadedFiles(label="files", file_count="multiple", type="filepath")
        more = [
            UploadedFiles(label="references", file_count="multiple", type="filepath"),
            Field(label="region"),
            UploadedFiles(label="part", file_count="single", type="filepath"),
        ]
        together = Field(label="batch_scoring")
        together.schema = {"type": "boolean", "default": False}
        preset = Field(value="", label="preset")
        preset.schema = {"type": "string", "enum": ["", *PRESETS], "default": ""}
        # One call's file only: a component that two calls share would be checked for both.
        compared = UploadedImage(label="image", type="filepath", image_mode=None)
        truth = UploadedImage(label="mask", type="filepath", image_mode=None)
        systems, refiners = Field(value="", label="systems"), Field(value="", label="refiners")
        answer, rows, table = (gr.JSON(label=name) for name in ("result", "rows", "comparison"))
        mask, score, overlay, everything, archive, sheet, comparison = (
            gr.File(label=name)
            for name in (
                *("mask", "score map", "overlay", "everything", "archive"),
                *("contact sheet", "all systems"),
            )
        )
        one, many = gr.Button("segment"), gr.Button("segment_batch")
        several = gr.Button("compare_systems")
    one.click(
        api.make_segment(site.engine),
        [image, preset, *settings, *more],
        [answer, mask, score, overlay, everything],
        api_name="segment",
        **TOGETHER,
    )
    many.click(
        api.make_batch(site.engine),
        [files, preset, *settings, *more, together],
        [rows, archive],
        api_name="batch",
        **TOGETHER,
    )
    several.click(
        api.make_compare(site.engine),
        [compared, preset, systems, refiners, truth, *settings],
        [table, sheet, comparison],
        api_name="compare",
        **TOGETHER,
    )
