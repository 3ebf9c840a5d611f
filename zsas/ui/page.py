"""The whole page: parts, events and the endpoints for code."""

from __future__ import annotations

from zsas.models import PRESETS
from zsas.settings import all_settings
from zsas.ui import api
from zsas.ui.calls import Field, field, tolerant
from zsas.ui.engine import Engine
from zsas.ui.events.batch import BatchEvents
from zsas.ui.events.compare import CompareEvents
from zsas.ui.events.image import ImageEvents
from zsas.ui.events.points import PointEvents
from zsas.ui.events.site import HEAVY, Site
from zsas.ui.events.visit import VisitEvents
from zsas.ui.examples import Examples
from zsas.ui.gradio_internals import gr
from zsas.ui.layout import lay_out
from zsas.ui.upload import UploadedFiles, UploadedImage
from zsas.ui.visitor import Visits

TITLE = "Zero-shot anomaly segmentation"


def build(engine: Engine, examples: Examples) -> gr.Blocks:
    """The page, wired to the models; not yet launched."""
    with gr.Blocks(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(1800, 7200)
    ) as blocks:
        parts = lay_out(engine, examples)
        site = Site(blocks, engine, examples, parts, Visits())
        image = ImageEvents(site, gr.State("why"))
        VisitEvents(site, image).wire(gr.State((False, 0)))
        image.wire()
        PointEvents(site, image).wire()
        CompareEvents(site).wire()
        BatchEvents(site).wire()
        _endpoints(site)
    return tolerant(blocks)


def _endpoints(site: Site) -> None:
    """The two named endpoints, each behind a button that nobody sees."""
    with gr.Column(visible=False):
        settings = [field(setting) for setting in all_settings()]
        image = UploadedImage(label="image", type="filepath", image_mode=None)
        files = UploadedFiles(label="files", file_count="multiple", type="filepath")
        preset = Field(value="", label="preset")
        preset.schema = {"type": "string", "enum": ["", *PRESETS], "default": ""}
        answer, rows = gr.JSON(label="result"), gr.JSON(label="rows")
        mask, score, overlay, everything, archive = (
            gr.File(label=name)
            for name in ("mask", "score map", "overlay", "everything", "archive")
        )
        one, many = gr.Button("segment"), gr.Button("segment_batch")
    one.click(
        api.make_segment(site.engine),
        [image, preset, *settings],
        [answer, mask, score, overlay, everything],
        api_name="segment",
        **HEAVY,
    )
    many.click(
        api.make_batch(site.engine),
        [files, preset, *settings],
        [rows, archive],
        api_name="batch",
        **HEAVY,
    )
