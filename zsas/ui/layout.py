"""What stands on the page, and where: photo on the left, verdict and settings on the right, tabs below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zsas.models import PRESETS
from zsas.settings import all_groups, all_settings
from zsas.ui import screen, snippets, views
from zsas.ui.controls import control, names
from zsas.ui.engine import Engine
from zsas.ui.examples import Examples
from zsas.ui.gradio_internals import gr
from zsas.ui.theme import script
from zsas.ui.upload import UploadedFiles, UploadedImage
from zsas.ui.visitor import Session

TOOLS = """
<div class="zs-tools">
  <fieldset><legend class="zs-sr">Show</legend>
    <label><input type="radio" name="zs-view" value="marks" checked>Result</label>
    <label><input type="radio" name="zs-view" value="heat">Heat map</label>
    <label><input type="radio" name="zs-view" value="photo">Photo</label></fieldset>
  <fieldset><legend class="zs-sr">What a click says</legend>
    <label><input type="radio" name="zs-tool" value="plus" checked>+ this is wrong</label>
    <label><input type="radio" name="zs-tool" value="minus">− this is fine</label></fieldset>
  <button type="button" data-do="undo">Undo</button>
  <button type="button" data-do="clear">Clear</button>
  <button type="button" data-do="new" class="zs-end">New photo</button>
</div>
<p class="zs-hint" id="zs-hint">Click the photo to correct the result, and a point of yours to remove it. Keyboard:
arrows move, Enter sets a point, − says this is fine, Backspace undoes.</p>
"""


_TURNING = "zs-spin"
TAKE = "Open a photo first; then its files are made here, without loss."
DOWNLOADS = (
    ("mask", "Mask, PNG"),
    ("score", "Score map, 16-bit PNG"),
    ("overlay", "Overlay, PNG"),
    ("json", "Result, JSON"),
    ("zip", "Everything, ZIP"),
)


@dataclass(frozen=True)
class Head:
    """The line on top: what runs here."""

    status: Any
    preset: Any
    timer: Any


@dataclass(frozen=True)
class ImageParts:
    """The image, what is dropped to get one, and what is chosen below it."""

    holder: Any
    closed: Any
    upload: Any
    opened: Any
    viewer: Any
    tools: Any
    strip: Any


@dataclass(frozen=True)
class Side:
    """What was found, and the settings; `controls` are by the name of their setting."""

    verdict: Any
    regions: Any
    facts: Any
    controls: dict[str, Any]
    run: Any
    stop: Any
    scaled: Any
    reset: Any
    link: Any

    @property
    def settings(self) -> list[Any]:
        """The controls in the order of `names()`."""
        return [self.controls[name] for name in names()]


@dataclass(frozen=True)
class Comparison:
    """The tab that decides on one image again and again."""

    start: Any
    truth: Any
    page: Any


@dataclass(frozen=True)
class Batch:
    """The tab for many images."""

    files: Any
    start: Any
    stop: Any
    archive: Any
    table: Any


@dataclass(frozen=True)
class Tabs:
    """What lies below: stages, slider, comparison, batch, downloads, code."""

    named: dict[str, Any]
    gallery: Any
    slider: Any
    comparison: Comparison
    batch: Batch
    take_note: Any
    downloads: list[Any]
    codes: list[Any]


@dataclass(frozen=True)
class Parts:
    """All of the page by name, so that each event can say what it reads and writes."""

    session: Any
    head: Head
    image: ImageParts
    side: Side
    tabs: Tabs

    @property
    def state(self) -> list[Any]:
        """What a decision reads: the visitor's view and every setting."""
        return [self.session, self.head.preset, self.side.scaled, *self.side.settings]

    @property
    def drawn(self) -> list[Any]:
        """What shows a view: `Screen` without the session, which is not theirs to change."""
        side = self.side
        return [
            self.image.viewer,
            side.verdict,
            side.regions,
            self.tabs.gallery,
            side.facts,
            side.link,
        ]

    @property
    def opened(self) -> list[Any]:
        """All that another image changes: the screen, the stage, and what was made from the one before."""
        image, tabs = self.image, self.tabs
        return [
            self.session,
            *self.drawn,
            *(image.holder, image.upload, image.closed, image.opened),
            *(tabs.comparison.page, tabs.comparison.truth, tabs.slider, tabs.take_note),
            *tabs.downloads,
        ]


def lay_out(engine: Engine, examples: Examples) -> Parts:
    """Put everything on the page that is being made.

    Args:
        engine: Its state is the first thing the page says.
        examples: The row below the image.
    """
    session = gr.State(Session(), time_to_live=6 * 3600)
    head = _head(engine)
    with gr.Row(equal_height=False, elem_id="zs-work"):
        with gr.Column(scale=7, min_width=320):
            image = _image(examples)
        with gr.Column(scale=4, min_width=300, elem_id="zs-side"):
            side = _side()
    return Parts(session, head, image, side, _tabs())


def engine_line(engine: Engine) -> str:
    """What the models are doing."""
    return status_line(engine.status, not engine.running and not engine.problem)


def _head(engine: Engine) -> Head:
    with gr.Row(elem_id="zs-head"):
        html(
            '<div class="zs-brand"><h1><i aria-hidden="true"></i>zsas</h1>'
            "<p>What is wrong on a photo, where, and why. No training pictures.</p></div>",
            scale=5,
            js_on_load=script("names"),
        )
        status = html(engine_line(engine), scale=3)
        preset = gr.Dropdown(
            list(PRESETS),
            value=engine.default,
            show_label=False,
            label="Preset",
            container=False,
            filterable=False,
            elem_id="zs-preset",
            scale=1,
            min_width=110,
        )
    return Head(status, preset, gr.Timer(1.0))


def _image(examples: Examples) -> ImageParts:
    holder = html("", elem_id="zs-photo-holder")
    with gr.Column(visible=True) as closed:
        upload = UploadedImage(
            label="Photo",
            show_label=False,
            type="filepath",
            image_mode=None,
            elem_id="zs-upload",
            height=520,
            sources=["upload", "clipboard", "webcam"],
            buttons=[],
            placeholder="Drop a photo of one object or surface here, or click to choose a file",
        )
    with gr.Column(visible=False) as opened:
        viewer = html("", elem_id="zs-viewer", js_on_load=script("viewer"))
        tools = html(TOOLS, elem_id="zs-tools", js_on_load=script("tools"))
    strip = html(examples.html(), elem_id="zs-examples", js_on_load=script("examples"))
    return ImageParts(holder, closed, upload, opened, viewer, tools, strip)


def _side() -> Side:
    verdict = html(views.welcome(), elem_id="zs-verdict")
    regions = html("", elem_id="zs-regions", js_on_load=script("regions"))
    facts = html("", elem_id="zs-facts")
    controls: dict[str, Any] = {"object_name": control(setting_named("object_name"))}
    with gr.Row(elem_id="zs-actions"):
        run = gr.Button("Run", variant="primary", elem_id="zs-run")
        stop = gr.Button("Stop", elem_id="zs-stop")
    for setting in sorted(
        (k for k in all_settings() if k.front), key=lambda k: k.name != "threshold"
    ):
        controls[setting.name] = control(setting)
    for group in all_groups():
        with gr.Accordion(group.title, open=False):
            for setting in all_settings():
                if setting.group == group.key and setting.name not in controls:
                    controls[setting.name] = control(setting)
    scaled = gr.Checkbox(
        False,
        label="Stretch colours to this photo",
        elem_id="zs-scaled",
        info="Off, colours mean the same on every photo. On, even a flawless photo shows bright places.",
    )
    with gr.Row(elem_id="zs-after"):
        reset = gr.Button("Reset to defaults", size="sm", elem_id="zs-reset")
        link = html(
            "",
            html_template='<button type="button" class="zs-link">Copy link</button>',
            elem_id="zs-link",
            js_on_load=script("link"),
            names=",".join((*names(), "example", "preset", "points")),
        )
    return Side(verdict, regions, facts, controls, run, stop, scaled, reset, link)


def _tabs() -> Tabs:
    with gr.Tabs(elem_id="zs-tabs"):
        with gr.Tab("Why", id="why") as why:
            gallery = html(
                screen.closed().gallery, elem_id="zs-gallery", js_on_load=script("gallery")
            )
        with gr.Tab("Before and after", id="slider") as slider_tab:
            slider = gr.ImageSlider(
                label="Photo and result",
                show_label=False,
                interactive=False,
                format="png",
                type="filepath",
                buttons=["fullscreen"],
                elem_id="zs-slider",
                max_height=640,
            )
        with gr.Tab("Compare", id="compare"):
            comparison = _comparison()
        with gr.Tab("Many photos", id="batch", elem_id="zs-tab-batch"):
            batch = _batch()
        with gr.Tab("Take away", id="take") as take_tab:
            take_note = html(note(TAKE))
            with gr.Row(elem_id="zs-takeaway"):
                downloads = [
                    gr.DownloadButton(title, interactive=False, scale=0, elem_id=f"zs-get-{key}")
                    for key, title in DOWNLOADS
                ]
        with gr.Tab("Use from code", id="code", elem_id="zs-tab-code") as code_tab:
            codes = _codes()
    named = {"why": why, "slider": slider_tab, "take": take_tab, "code": code_tab}
    return Tabs(named, gallery, slider, comparison, batch, take_note, downloads, codes)


def _comparison() -> Comparison:
    html(
        note(
            "The same photo under other settings. With a mask of the defect, each variant is measured; "
            "the examples bring theirs."
        )
    )
    with gr.Row(equal_height=False, elem_classes="zs-middle"):
        start = gr.Button(
            "Compare", variant="primary", scale=0, min_width=160, elem_id="zs-compare"
        )
        truth = UploadedFiles(
            label="Mask of the defect (optional)",
            file_count="single",
            type="filepath",
            height=112,
            file_types=["image"],
            scale=1,
            elem_id="zs-truth",
        )
    return Comparison(start, truth, html("", elem_id="zs-comparison"))


def _batch() -> Batch:
    html(
        note(
            "Up to 500 photos, or ZIPs of photos, with the settings on the right above. The ZIP you get "
            "holds masks, 16-bit score maps, overlays, JSON, CSV and COCO annotations."
        )
    )
    files = UploadedFiles(
        label="Photos or ZIPs",
        file_count="multiple",
        type="filepath",
        elem_id="zs-files",
        height=150,
    )
    with gr.Row():
        start = gr.Button(
            "Run all", variant="primary", scale=0, min_width=160, elem_id="zs-run-all"
        )
        stop = gr.Button("Stop", scale=0, min_width=100, elem_id="zs-stop-all")
        archive = gr.DownloadButton(
            "Download everything",
            visible=False,
            scale=0,
            min_width=200,
            elem_id="zs-archive",
        )
    return Batch(files, start, stop, archive, html("", elem_id="zs-batch"))


def _codes() -> list[Any]:
    html(
        note(
            "The same engine over HTTP. Every setting is a parameter of its own; the schema is at "
            "<code>/gradio_api/info</code>, the MCP tools are <code>segment</code> and "
            "<code>segment_batch</code>."
        )
    )
    languages: tuple[tuple[str, Any], ...] = (
        ("Python", "python"),
        ("curl", "shell"),
        ("MCP server", "json"),
        ("MCP from Python", "python"),
        ("Embed", "html"),
    )
    return [
        gr.Code(
            text,
            language=language,
            label=label,
            interactive=False,
            wrap_lines=False,
            show_line_numbers=False,
        )
        for (label, language), text in zip(
            languages, snippets.filled("http://127.0.0.1:7860"), strict=True
        )
    ]


def setting_named(name: str) -> Any:
    """The setting of a setting."""
    return next(setting for setting in all_settings() if setting.name == name)


def html(value: str, **options: Any) -> gr.HTML:
    """HTML that only the page's own style sheet touches."""
    return gr.HTML(value, apply_default_css=False, **options)


def status_line(text: str, waiting: bool = False) -> str:
    """What the models are doing, in a line of the head; with a turning mark while somebody waits for them."""
    mark = f'<i class="{_TURNING}" aria-hidden="true"></i> ' if waiting else ""
    return f'<div class="zs-status" role="status">{mark}{plain(text)}</div>'


def is_waiting(status: str) -> bool:
    """Whether a line of `status_line` has the turning mark."""
    return _TURNING in status


def note(text: str) -> str:
    """A paragraph of explanation; the text is HTML."""
    return f'<div class="zs-note"><p>{text}</p></div>'


def plain(text: str) -> str:
    """Any text as HTML that shows it."""
    return text.replace("&", "&amp;").replace("<", "&lt;")
