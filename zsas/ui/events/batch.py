"""Many images: run them, stop them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from zsas.cancellation import cancellable
from zsas.errors import ZsasError
from zsas.ui import batch, views
from zsas.ui.controls import settings_from
from zsas.ui.events.site import HEAVY, HIDDEN, LIGHT, Site
from zsas.ui.gradio_internals import gr
from zsas.ui.layout import note


class BatchEvents:
    """What the tab for many images does."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def wire(self) -> None:
        """Connect the parts."""
        parts = self.site.parts
        tab = parts.tabs.batch
        tab.start.click(self._go, None, None, **LIGHT).success(
            self._batch,
            [tab.files, parts.head.preset, *parts.side.settings],
            [tab.table, tab.archive],
            show_progress="minimal",
            **HEAVY,
            **HIDDEN,
        )
        tab.stop.click(self._halt, None, None, **LIGHT)

    def _go(self, request: gr.Request) -> None:
        """Forget that this visitor stopped something."""
        self.site.visit(request).stopped = False

    def _halt(self, request: gr.Request) -> None:
        """Whatever runs or waits for this visitor ends at its next step."""
        self.site.visit(request).stopped = True

    def _batch(
        self, request: gr.Request, files: list[str] | None, preset: str, *values: Any
    ) -> Iterator[tuple[Any, Any]]:
        try:
            yield note("Reading the files."), gr.DownloadButton(visible=False)
            steps = batch.run(self.site.engine, files or [], preset, settings_from(values))
            visit = self.site.visit(request)
            for progress in cancellable(steps, lambda: visit.stopped):
                ready = gr.skip()
                if progress.archive is not None:
                    ready = gr.DownloadButton(value=str(progress.archive), visible=True)
                yield batch.table(progress), ready
        except ZsasError as error:
            yield views.sorry(str(error)), gr.DownloadButton(visible=False)
