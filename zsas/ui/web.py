"""Addresses that the page loads from beside gradio's own: the image and its tiles, and files to take away."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from zsas.errors import ZsasError
from zsas.ui import drawing, manual, take
from zsas.ui.events.site import Site
from zsas.ui.gradio_internals import script_of_component

IMMUTABLE = {
    "Cache-Control": "private, max-age=86400, immutable",
    "Access-Control-Allow-Origin": "*",
}
"""An image's key is made from its content, so that its address never means another one."""
CALLS = "/calls"
"""Where gradio would show the hidden fields of the endpoints; it leads to the page."""
OWN = "/zsas"
"""What the page's own addresses begin with."""
GONE = Response(status_code=404)


def routes(site: Site, root_path: str = "") -> list[Route]:
    """The routes of a page; keys and tokens cannot be guessed, and name nothing but a visitor's own.

    Args:
        site: The page.
        root_path: Where a proxy shows the page, as `/plant` or a whole address; "" at the top of the server.
    """

    def threaded(make: Callable[[Site, Request], Response]) -> Callable[[Request], Any]:
        @functools.wraps(make)
        async def endpoint(request: Request) -> Response:
            return await run_in_threadpool(make, site, request)

        return endpoint

    own = [
        Route("/gradio.js", _component),
        Route(CALLS, _to_the_page),
        Route("/zsas/docs/", _contents),
        Route("/zsas/docs/{name}", threaded(_manual)),
        Route("/zsas/image/{key}.jpg", threaded(_image)),
        Route("/zsas/png/{key}.png", threaded(_png)),
        Route("/zsas/tile/{key}/{level:int}/{column:int}/{row:int}.jpg", threaded(_tile)),
        Route("/zsas/thumb/{token}/{number:int}.jpg", threaded(_thumb)),
        Route("/zsas/example/{key}.jpg", threaded(_example)),
        Route("/zsas/get/{token}/{name}", threaded(_get)),
    ]
    if urlsplit(root_path).path.rstrip("/") != OWN:
        return own
    # A proxy that takes the path away leaves `/zsas/image/…`, of which the server takes it away once more.
    below = [route for route in own if route.path.startswith(OWN)]
    return [*own, *(Route(route.path.removeprefix(OWN), route.endpoint) for route in below)]


async def _component(_: Request) -> FileResponse:
    return FileResponse(script_of_component(), media_type="text/javascript")


def _to_the_page(_: Request) -> Response:
    return RedirectResponse("./")


def _contents(_: Request) -> Response:
    return HTMLResponse(manual.contents())


def _manual(_: Site, request: Request) -> Response:
    name = request.path_params["name"]
    picture = manual.picture(name)
    if picture is not None:
        return FileResponse(picture)
    text = manual.page(name)
    return GONE if text is None else HTMLResponse(text)


def _image(site: Site, request: Request) -> Response:
    image = site.engine.image(request.path_params["key"])
    if image is None:
        return GONE
    return Response(drawing.base(image), media_type="image/jpeg", headers=IMMUTABLE)


def _png(site: Site, request: Request) -> Response:
    picture = drawing.PICTURES.get(request.path_params["key"])
    if picture is None:
        return GONE
    return Response(picture.tobytes(), media_type="image/png", headers=IMMUTABLE)


def _tile(site: Site, request: Request) -> Response:
    where = request.path_params
    image = site.engine.image(where["key"])
    tile = None
    if image is not None:
        tile = drawing.tile(image, where["level"], where["column"], where["row"])
    if tile is None:
        return GONE
    return Response(tile, media_type="image/jpeg", headers=IMMUTABLE)


def _thumb(site: Site, request: Request) -> Response:
    visitor = site.visitors.known(request.path_params["token"])
    batch = visitor.batch if visitor is not None else None
    thumb = batch.thumb(request.path_params["number"]) if batch is not None else None
    if thumb is None:
        return GONE
    return Response(thumb, media_type="image/jpeg", headers=IMMUTABLE)


def _example(site: Site, request: Request) -> Response:
    thumb = site.examples.thumb(request.path_params["key"])
    if thumb is None:
        return GONE
    headers = {**IMMUTABLE, "Cache-Control": "public, max-age=3600"}
    return Response(thumb, media_type="image/jpeg", headers=headers)


def _get(site: Site, request: Request) -> Response:
    """A file to take away, made when it is asked for."""
    visitor = site.visitors.known(request.path_params["token"])
    if visitor is None:
        return GONE
    try:
        file = take.file(site, visitor, request.path_params["name"])
    except ZsasError as error:
        return Response(json.dumps({"error": str(error)}), 409, media_type="application/json")
    if file is None:
        return GONE
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.name)}"}
    if file.path is not None:
        return FileResponse(file.path, media_type=file.kind, headers=headers)
    return Response(file.data, media_type=file.kind, headers=headers)
