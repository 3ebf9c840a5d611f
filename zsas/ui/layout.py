"""What stands on the page, and where: photo on the left, verdict and knobs on the right, tabs below."""

from __future__ import annotations

from typing import Any

from zsas.settings import knobs
from zsas.ui import snippets, views
from zsas.ui.controls import GROUPS, NAMES, control
from zsas.ui.examples import Examples
from zsas.ui.quick import gr
from zsas.ui.session import PRESETS, Workshop
from zsas.ui.theme import script
from zsas.ui.upload import UploadedFiles, UploadedImage

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


class Layout:
    """The parts of the page by name, so that each event can say what it reads and writes.

    Args:
        workshop: Its state is the first thing the page says.
        examples: The row below the photo.
        session: Where the visitor's view is kept; the first of what every view fills.
    """

    def __init__(self, workshop: Workshop, examples: Examples, session: gr.State) -> None:
        self.workshop, self.examples, self.session = workshop, examples, session
        self._head()
        with gr.Row(equal_height=False, elem_id="zs-work"):
            with gr.Column(scale=7, min_width=320):
                self._photo()
            with gr.Column(scale=4, min_width=300, elem_id="zs-side"):
                self._side()
        self._tabs()
        self.settings = [self.controls[name] for name in NAMES]

    @property
    def screen(self) -> list[Any]:
        """The components that `stages.Screen` stands for, in its order."""
        return [
            self.session,
            self.viewer,
            self.verdict,
            self.regions,
            self.gallery,
            self.facts,
            self.link,
        ]

    @property
    def drawn(self) -> list[Any]:
        """The components that show a view; the session is not theirs to change."""
        return self.screen[1:]

    @property
    def of_one_photo(self) -> list[Any]:
        """What was made from one photo, or for it, and is emptied with the next."""
        return [self.comparison, self.truth, self.slider, self.take_note, *self.downloads]

    def _status(self) -> str:
        waiting = not self.workshop.running and not self.workshop.problem
        return status_line(self.workshop.status, waiting)

    def _head(self) -> None:
        with gr.Row(elem_id="zs-head"):
            html(
                '<div class="zs-brand"><h1><i aria-hidden="true"></i>zsas</h1>'
                "<p>What is wrong on a photo, where, and why. No training pictures.</p></div>",
                scale=5,
                js_on_load=script("names"),
            )
            self.status = html(self._status(), scale=3)
            self.preset = gr.Dropdown(
                list(PRESETS),
                value=self.workshop.default,
                show_label=False,
                label="Preset",
                container=False,
                filterable=False,
                elem_id="zs-preset",
                scale=1,
                min_width=110,
            )
        self.timer = gr.Timer(1.0)

    def _photo(self) -> None:
        self.holder = html("", elem_id="zs-photo-holder")
        with gr.Column(visible=True) as self.closed:
            self.upload = UploadedImage(
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
        with gr.Column(visible=False) as self.opened:
            self.viewer = html("", elem_id="zs-viewer", js_on_load=script("viewer"))
            self.tools = html(TOOLS, elem_id="zs-tools", js_on_load=script("tools"))
        self.strip = html(
            self.examples.html(), elem_id="zs-examples", js_on_load=script("examples")
        )

    def _side(self) -> None:
        self.verdict = html(views.welcome(), elem_id="zs-verdict")
        self.regions = html("", elem_id="zs-regions", js_on_load=script("regions"))
        self.facts = html("", elem_id="zs-facts")
        self.controls: dict[str, Any] = {"object_name": control(knob_named("object_name"))}
        with gr.Row(elem_id="zs-actions"):
            self.run = gr.Button("Run", variant="primary", elem_id="zs-run")
            self.stop = gr.Button("Stop", elem_id="zs-stop")
        front = sorted((k for k in knobs() if k.front), key=lambda k: k.name != "threshold")
        for knob in front:
            self.controls[knob.name] = control(knob)
        for group, title in GROUPS.items():
            with gr.Accordion(title, open=False):
                for knob in knobs():
                    if knob.group == group and knob.name not in self.controls:
                        self.controls[knob.name] = control(knob)
        self.scaled = gr.Checkbox(
            False,
            label="Stretch colours to this photo",
            elem_id="zs-scaled",
            info="Off, colours mean the same on every photo. On, even a flawless photo shows bright places.",
        )
        with gr.Row(elem_id="zs-after"):
            self.reset = gr.Button("Reset to defaults", size="sm", elem_id="zs-reset")
            self.link = html(
                "",
                html_template='<button type="button" class="zs-link">Copy link</button>',
                elem_id="zs-link",
                js_on_load=script("link"),
                names=",".join((*NAMES, "example", "preset", "points")),
            )

    def _tabs(self) -> None:
        with gr.Tabs(elem_id="zs-tabs"):
            with gr.Tab("Why", id="why") as self.tab_why:
                self.gallery = html(
                    views.no_stages(), elem_id="zs-gallery", js_on_load=script("gallery")
                )
            with gr.Tab("Before and after", id="slider") as self.tab_slider:
                self.slider = gr.ImageSlider(
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
                html(
                    note(
                        "The same photo under other settings. With a mask of the defect, each variant is measured; "
                        "the examples bring theirs."
                    )
                )
                with gr.Row(equal_height=False, elem_classes="zs-middle"):
                    self.compare = gr.Button(
                        "Compare", variant="primary", scale=0, min_width=160, elem_id="zs-compare"
                    )
                    self.truth = UploadedFiles(
                        label="Mask of the defect (optional)",
                        file_count="single",
                        type="filepath",
                        height=112,
                        file_types=["image"],
                        scale=1,
                        elem_id="zs-truth",
                    )
                self.comparison = html("", elem_id="zs-comparison")
            with gr.Tab("Many photos", id="batch", elem_id="zs-tab-batch"):
                html(
                    note(
                        "Up to 500 photos, or ZIPs of photos, with the settings on the right above. The ZIP you get "
                        "holds masks, 16-bit score maps, overlays, JSON, CSV and COCO annotations."
                    )
                )
                self.files = UploadedFiles(
                    label="Photos or ZIPs",
                    file_count="multiple",
                    type="filepath",
                    elem_id="zs-files",
                    height=150,
                )
                with gr.Row():
                    self.run_all = gr.Button(
                        "Run all", variant="primary", scale=0, min_width=160, elem_id="zs-run-all"
                    )
                    self.stop_all = gr.Button("Stop", scale=0, min_width=100, elem_id="zs-stop-all")
                    self.archive = gr.DownloadButton(
                        "Download everything",
                        visible=False,
                        scale=0,
                        min_width=200,
                        elem_id="zs-archive",
                    )
                self.batch = html("", elem_id="zs-batch")
            with gr.Tab("Take away", id="take") as self.tab_take:
                self.take_note = html(note(TAKE))
                with gr.Row(elem_id="zs-takeaway"):
                    self.downloads = [
                        gr.DownloadButton(
                            title, interactive=False, scale=0, elem_id=f"zs-get-{key}"
                        )
                        for key, title in DOWNLOADS
                    ]
            with gr.Tab("Use from code", id="code", elem_id="zs-tab-code") as self.tab_code:
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
                self.codes = [
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


def knob_named(name: str) -> Any:
    """The knob of a setting."""
    return next(knob for knob in knobs() if knob.name == name)


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
