"""The same image under other settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from zsas.cancellation import Cancelled, until_cancelled
from zsas.errors import ZsasError
from zsas.images import read_mask
from zsas.ui import compare
from zsas.ui.controls import settings_from
from zsas.ui.events.site import HEAVY, HIDDEN, LIGHT, Site
from zsas.ui.gradio_internals import gr
from zsas.ui.layout import note
from zsas.ui.visitor import Session


class CompareEvents:
    """What the comparison's button does."""

    def __init__(self, site: Site) -> None:
        self.site = site

    def wire(self) -> None:
        """Connect the parts."""
        parts = self.site.parts
        tab = parts.tabs.comparison
        tab.start.click(self._go, None, None, **LIGHT).success(
            self._compare,
            [parts.session, parts.head.preset, tab.truth, *parts.side.settings],
            tab.page,
            show_progress="minimal",
            **HEAVY,
            **HIDDEN,
        )

    def _go(self, request: gr.Request) -> None:
        """Forget that this visitor stopped something."""
        self.site.visit(request).stopped = False

    def _compare(
        self,
        request: gr.Request,
        session: Session,
        preset: str,
        truth: str | None,
        *values: Any,
    ) -> Iterator[str]:
        engine = self.site.engine
        image = engine.image(session.image)
        if image is None:
            yield note("Open a photo first, then compare.")
            return
        try:
            mask = None
            example = self.site.examples.get(session.example)
            if truth:
                mask = read_mask(truth, image.shape[:2])
            elif example is not None:
                mask = example.truth()
            steps = compare.compare(engine, session, preset, settings_from(values), mask)
            with contextlib.suppress(Cancelled):
                yield from until_cancelled(steps, self.site.visit(request).unwanted())
        except ZsasError as error:
            text = str(error).replace(truth, "The mask") if truth else str(error)
            raise gr.Error(text, print_exception=False) from None
