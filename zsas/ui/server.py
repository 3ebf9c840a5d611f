"""Start the page: what it serves, to whom, and what it refuses."""

from __future__ import annotations

import gc
import os
from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from zsas.errors import ZsasError
from zsas.extras import require
from zsas.models import default_preset, preset_named
from zsas.part import Part
from zsas.ui import export, rest
from zsas.ui.calls import HANDLERS, answer_mcp_in_json
from zsas.ui.engine import Engine
from zsas.ui.events.site import Site
from zsas.ui.examples import Examples
from zsas.ui.gpu import ZERO
from zsas.ui.gradio_internals import gr, remove_uploads, without_apps
from zsas.ui.page import build
from zsas.ui.theme import css, theme
from zsas.ui.values import MOST_BYTES
from zsas.ui.web import routes

LINE = 40
"""How many events may wait; the next one is told that the line is full."""
SESSIONS = 300
"""How many visitors are remembered; of each, gradio keeps the last value of every component."""

HEAD_START = 4.0
"""Seconds at most in which importing torch does not slow down the first delivery of the page."""


LAUNCH: dict[str, Any] = {
    "max_file_size": MOST_BYTES,
    "allowed_paths": [],
    "enable_monitoring": False,
    "show_error": False,
    "strict_cors": True,
    "ssr_mode": False,
    "pwa": False,
    "run_history": False,
    "footer_links": [],
    "state_session_capacity": SESSIONS,
    "mcp_server": True,
    "_frontend": False,  # else gradio asks its own page first, and gives up where that takes three seconds
    "app_kwargs": {
        "docs_url": None,
        "redoc_url": None,
        "openapi_url": None,
    },
}
"""Gradio's own defaults serve more: `/monitoring` is on, uploads have no limit, tracebacks may be shown."""


def load_segmenter(preset: str) -> Any:
    """A real segmenter; torch is imported here, in the background, after the page is up.

    Its own cache holds maps, and encodings only on their way to the engine, which keeps them.
    """
    from zsas.device import keep_freed_memory
    from zsas.segmenter import Segmenter

    keep_freed_memory()
    adapter = None
    if preset == default_preset() and not preset_named(preset).weights:
        adapter = os.environ.get("ZSAS_ADAPTER") or None
    return Segmenter.from_preset(preset, adapter=adapter, cache_bytes=_cache_bytes() // 4)


def default_engine() -> Engine:
    """The usual one, as the environment wants it; nothing is loaded yet.

    Raises:
        ZsasError: If ZSAS_PRESET or ZSAS_CACHE_MB makes no sense.
    """
    return Engine(load_segmenter, default_preset(), budget=_cache_bytes())


def _cache_bytes() -> int:
    megabytes = os.environ.get("ZSAS_CACHE_MB") or "1024"
    if not megabytes.isdecimal() or not int(megabytes):
        raise ZsasError(
            f"ZSAS_CACHE_MB is {megabytes!r}, but it must be a whole number of megabytes, 1 or more."
        )
    return int(megabytes) * 2**20


def make_page(site: Site) -> gr.Blocks:
    """The page with a bounded queue, not yet launched."""
    with without_apps():
        return build(site).queue(max_size=LINE, default_concurrency_limit=4, api_open=False)


def launch(
    engine: Engine | None = None, examples: Examples | None = None, **options: Any
) -> gr.Blocks:
    """Start the page and, behind it, the loading of models and of the Hub's examples.

    Args:
        engine: Of another kind than the usual, for tests.
        examples: Of another folder than the usual, for tests.
        options: For `gr.Blocks.launch`, over `LAUNCH`.

    Raises:
        ZsasError: If the environment asks for what makes no sense, or the MCP extra of gradio is missing; gradio
            itself would go on without the MCP server.
    """
    require("ui")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    engine = engine or default_engine()
    export.scratch()  # takes away what a server that was killed has left
    examples = examples or Examples()
    file = os.environ.get("ZSAS_PART")
    site = Site(engine, examples, Part.load(file) if file else None)
    page = make_page(site)
    if ZERO:  # a ZeroGPU wants the models in memory before its first call
        engine.start_here()
    blocked = [os.getcwd()]
    root_path = options.get("root_path") or os.environ.get("GRADIO_ROOT_PATH", "")
    app = {
        **LAUNCH["app_kwargs"],
        "routes": [*routes(site, root_path), *rest.routes(engine, root_path)],
        "exception_handlers": HANDLERS,
        # Gradio sends the page and all answers as they are; pictures are left alone.
        "middleware": [Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)],
    }
    answer_mcp_in_json()
    wanted = {
        **LAUNCH,
        "app_kwargs": app,
        "blocked_paths": blocked,
        "theme": theme(),
        "css": css(),
        **options,
    }
    block = not wanted.pop("prevent_thread_lock", False)
    page.launch(prevent_thread_lock=True, **wanted)
    keep_what_is_there()
    engine.start(HEAD_START)
    examples.fetch_in_background()
    if block:
        page.block_thread()
        remove_uploads(page)
    return page


def keep_what_is_there() -> None:
    """Collect garbage again where `serve` stopped it; what the start has made stays, and is never looked at."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
