"""`POST /api/v1/segment`, `/batch` and `/compare`: one call for machines that speak plain HTTP.

A multipart form with the file field `image`, given again for each file of a batch, and settings as fields by their
names; the answer is what `result.json` or `compare.json` holds, or a row for each file. An error is JSON as well:
`{"error": sentence, "parameter": name}` with the status that fits.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import secrets
import shutil
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from zsas.bulk import walk
from zsas.comparison import Combination
from zsas.errors import ZsasError
from zsas.export import save
from zsas.images import ReadImage, ReadOptions, read_image
from zsas.result import Result
from zsas.ui import export
from zsas.ui.batch import MAX_FILES, compared, decider
from zsas.ui.beside import MOST_REFERENCES, Beside, preset_for, read_beside, read_part
from zsas.ui.compare import TEXTS, asked_for, compare, looker, truth_of
from zsas.ui.engine import Engine
from zsas.ui.forms import (
    choice_of_files,
    files_of,
    mask_of,
    mutual_of,
    only,
    texts_of,
    whole_number,
)
from zsas.ui.gradio_internals import root_of
from zsas.ui.openapi import FILES, FILES_OF_COMPARE, ROOT, document, page
from zsas.ui.values import MOST_BYTES, WrongValue, read_preset, read_settings, refused

MOST_WAITING = 40
RETRY_SECONDS = 10
HEADERS = {503: {"Retry-After": str(RETRY_SECONDS)}, 405: {"Allow": "POST"}}
"""What some refusals say beside their sentence, by status."""
EVERY_METHOD = ["GET", "POST", "PUT", "PATCH", "DELETE"]
GIVEN = ("references", "region", "ignore", "part")
"""Fields beside the image that may be files."""


class Refused(ZsasError):
    """A call that is refused for another reason than one of its values.

    Attributes:
        status: Of HTTP.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class _Asked:
    """A call, read and checked."""

    images: tuple[tuple[str, bytes], ...]
    preset: str
    beside: Beside
    files: tuple[str, ...]
    links: bool
    reading: ReadOptions
    mask: bytes = b""
    chosen: tuple[Combination, ...] = ()
    mutual: bool = False

    @property
    def name(self) -> str:
        """Of the only file."""
        return self.images[0][0]


@dataclass
class Rest:
    """The routes of one page."""

    engine: Engine
    root_path: str = ""
    _waiting: int = 0
    _count: threading.Lock = field(default_factory=threading.Lock)
    _links: dict[str, Path] = field(default_factory=dict)

    def routes(self) -> list[Route]:
        """For the server's app."""
        return [
            Route(f"{ROOT}/segment", _answers(self.segment), methods=["POST"]),
            Route(f"{ROOT}/batch", _answers(self.batch), methods=["POST"]),
            Route(f"{ROOT}/compare", _answers(self.compare), methods=["POST"]),
            Route(f"{ROOT}/files/{{token}}/{{name}}", _answers(self.file), methods=["GET"]),
            Route(f"{ROOT}/openapi.json", self.document, methods=["GET"]),
            Route(f"{ROOT}/docs", self.page, methods=["GET"]),
            Route(f"{ROOT}/{{rest:path}}", _answers(self.elsewhere), methods=EVERY_METHOD),
        ]

    async def segment(self, request: Request) -> Response:
        """Read the form, wait for the turn, examine, answer."""
        return await self._in_line(self._examine, await self._read(request))

    async def batch(self, request: Request) -> Response:
        """The same for several images."""
        return await self._in_line(self._examine_all, await self._read(request, "batch"))

    async def compare(self, request: Request) -> Response:
        """The same for several systems."""
        return await self._in_line(self._compare, await self._read(request, "compare"))

    async def _in_line(self, work: Callable[[_Asked], dict[str, Any]], asked: _Asked) -> Response:
        with self._count:
            if self._waiting >= MOST_WAITING:
                raise Refused(503, "The line is full: too many images wait. Try again in a minute.")
            self._waiting += 1
        try:
            return JSONResponse(await run_in_threadpool(work, asked))
        finally:
            with self._count:
                self._waiting -= 1

    async def file(self, request: Request) -> Response:
        """A file of an earlier answer."""
        path = self._links.get(request.path_params["token"])
        name = request.path_params["name"]
        known = {f"{one}.png" for one in (*FILES, *FILES_OF_COMPARE)}
        file = path / name if path is not None and name in known else None
        if file is None or not file.is_file():
            raise Refused(404, "There is no such file any more; files are kept for an hour.")
        return FileResponse(file, media_type="image/png")

    async def elsewhere(self, request: Request) -> Response:
        """What nothing above has answered: another method, or an address that does not exist."""
        place = request.path_params["rest"]
        if place in ("segment", "batch", "compare"):
            raise Refused(
                405, f"{place} takes a form by POST, not {request.method}; {ROOT}/docs says which."
            )
        raise Refused(404, f"There is nothing at {place!r:.80}; {ROOT}/docs says what there is.")

    async def document(self, _: Request) -> Response:
        """The OpenAPI document."""
        return JSONResponse(document(self.root_path))

    async def page(self, request: Request) -> Response:
        """The document for people, with this server's address in its examples."""
        return HTMLResponse(page(root_of(request, f"{ROOT}/docs", self.root_path)))

    async def _read(self, request: Request, kind: str = "segment") -> _Asked:
        several, most = kind == "compare", MAX_FILES if kind == "batch" else 1
        async with _form(request, most) as form:
            images = await _images(form, most)
            mask = await mask_of(form) if several else b""
            given = {key: await files_of(form, key) for key in GIVEN}
            others = texts_of(form, ("image", "mask", *GIVEN) if several else ("image", *GIVEN))
        part = read_part(only(given, "part"))
        usual = preset_for(part, self.engine.running or self.engine.default)
        preset = read_preset(others.pop("preset", ""), usual)
        files = choice_of_files(others.pop("files", ""), FILES_OF_COMPARE if several else FILES)
        mutual = mutual_of(others, len(images)) if kind == "batch" else False
        named = {name: others.pop(name, "") for name in TEXTS} if several else {}
        form_of = others.pop("files_as", "") or "base64"
        if form_of not in ("base64", "links"):
            raise refused("files_as", form_of, "base64 or links")
        reading = ReadOptions(page=whole_number("page", others), bits=whole_number("bits", others))
        settings = read_settings(others)
        chosen = tuple(asked_for(**named, settings=settings)) if several else ()
        beside = read_beside(
            settings,
            part,
            [(file, content) for file, content in given["references"] if content],
            only(given, "region"),
            only(given, "ignore"),
        )
        if kind != "batch" and not images[0][1]:
            raise WrongValue("image", "The image is empty; send a complete image file.")
        links = form_of == "links"
        return _Asked(images, preset, beside, files, links, reading, mask, chosen, mutual)

    def _ready(self, asked: _Asked) -> None:
        """Load the models of a call."""
        try:
            self.engine.segmenter(asked.preset)
        except ZsasError as error:
            raise Refused(503, str(error)) from None

    def _image(self, asked: _Asked) -> ReadImage:
        """The image of a call whose models are loaded."""
        self._ready(asked)
        try:
            return read_image(asked.images[0][1], asked.reading)
        except ZsasError as error:
            raise WrongValue("image", str(error)) from None

    def _compare(self, asked: _Asked) -> dict[str, Any]:
        image = self._image(asked)
        try:
            truth = truth_of(asked.mask, image)
        except ZsasError as error:
            raise WrongValue("mask", str(error)) from None
        look = looker(self.engine, asked.preset, image, asked.beside)
        try:
            its = asked.beside.part.settings
            facts, inside = compare(look, image, asked.chosen, its, truth, asked.name)
        finally:
            self.engine.answered(asked.preset, image)
        return facts | self._files(inside, inside.parent, asked)

    def _examine(self, asked: _Asked) -> dict[str, Any]:
        image = self._image(asked)
        try:
            # Not kept: nobody comes back to it, and the images that others look at would have to go.
            part = asked.beside.part
            memory = asked.beside.memory(self.engine, asked.preset)
            encoding = self.engine.encode_apart(asked.preset, image, part.settings, "image")
            result = self.engine.decide(
                asked.preset, encoding, part.settings, (), memory, part=part
            )
        finally:
            self.engine.answered(asked.preset, image)
        return self._answer(asked.name, result, asked)

    def _examine_all(self, asked: _Asked) -> dict[str, Any]:
        """A row for each file of a batch; what cannot be read is a row that says why."""
        self._ready(asked)
        part = asked.beside.part
        found: list[Any] = []

        def read(file: tuple[str, bytes]) -> ReadImage:
            if not file[1]:
                raise ZsasError(f"{file[0]} is empty; send a complete image file.")
            return read_image(file[1], asked.reading)

        memory = asked.beside.memory(self.engine, asked.preset)
        if asked.mutual:
            given = (self.engine, asked.preset, part.settings, part.region)
            for _ in compared(*given, asked.images, read, found.append):
                pass
        beside = (memory, found[0] if found else None)
        of_all = decider(self.engine, asked.preset, part.settings, beside, part)

        def decide(images: list[ReadImage]) -> list[Result]:
            results = of_all(images)
            for image in images:
                self.engine.answered(asked.preset, image)
            return results

        rows = [
            {"file": name, "error": answer.replace("The image", name, 1)}
            if isinstance(answer, str)
            else self._answer(name, answer, asked)
            for (name, _), answer in walk(asked.images, read, decide)
        ]
        return {"batch_scoring": asked.mutual, "rows": rows}

    def _answer(self, name: str, result: Result, asked: _Asked) -> dict[str, Any]:
        answer = {"file": name, **result.to_dict()}
        if asked.files:
            folder = export.new_folder()
            save(result, folder)
            answer |= self._files(folder, folder, asked)
        return answer

    def _files(self, inside: Path, folder: Path, asked: _Asked) -> dict[str, Any]:
        """{"files": …} for an answer, of what lies inside a folder, which goes where nothing links to it."""
        if asked.files and asked.links:
            token = secrets.token_urlsafe(16)
            self._links[token] = inside
            while len(self._links) > 10_000:
                self._links.pop(next(iter(self._links)))
            where = f"{self.root_path}{ROOT}/files/{token}"
            return {"files": {name: f"{where}/{name}.png" for name in asked.files}}
        read = {name: (inside / f"{name}.png").read_bytes() for name in asked.files}
        shutil.rmtree(folder, ignore_errors=True)
        files = {name: base64.b64encode(data).decode("ascii") for name, data in read.items()}
        return {"files": files} if files else {}


def routes(engine: Engine, root_path: str = "") -> list[Route]:
    """The plain HTTP interface of a page, for its server's app.

    Args:
        engine: Examines.
        root_path: Where a proxy shows the page, as `/zsas` or a whole address; "" at the top of the server.
    """
    return Rest(engine, root_path.rstrip("/")).routes()


def _answers(
    handler: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint whose refusals and bugs are JSON."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except ZsasError as error:
            body = {"error": str(error)}
            if isinstance(error, WrongValue) and error.parameter:
                body["parameter"] = error.parameter
            status = error.status if isinstance(error, Refused) else 422
            return JSONResponse(body, status, HEADERS.get(status, {}))
        except ClientDisconnect:
            return Response(status_code=400)
        except Exception:  # a bug, which is ours and not the caller's
            logging.getLogger("zsas").exception("a call of %s failed", request.url.path)
            return JSONResponse({"error": "Something failed on the server; see its log."}, 500)

    return endpoint


@contextlib.asynccontextmanager
async def _form(request: Request, images: int) -> AsyncIterator[FormData]:
    """The form of a request with so many images at most, closed at the end."""
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise Refused(
            415, 'Send a form of the type multipart/form-data with a file in its field "image".'
        )
    parser = MultiPartParser(
        request.headers,
        _counted(request.stream()),
        max_files=3 + images + MOST_REFERENCES,
        max_fields=200,
        max_part_size=64 * 1024,
    )
    try:
        form = await parser.parse()
    except Refused:  # it is too large
        raise
    except MultiPartException as error:
        sentence = f"The form cannot be read: {error.message}"
        if "exceeded maximum size" in error.message:
            sentence = "A field of text has more than 64 kB; send an image with a file name."
        raise Refused(400, sentence) from None
    except (ValueError, LookupError, AssertionError):
        raise Refused(400, "The form cannot be read: it is no whole multipart form.") from None
    try:
        yield form
    finally:
        await form.close()


async def _counted(stream: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    received = 0
    async for chunk in stream:
        received += len(chunk)
        if received > MOST_BYTES:
            raise Refused(
                413, f"At most {MOST_BYTES // 2**20} MB are accepted; send a smaller file."
            )
        yield chunk


async def _images(form: FormData, most: int) -> tuple[tuple[str, bytes], ...]:
    """Names and contents of the files of a call: one, or several of a batch."""
    given = form.getlist("image")
    files = [one for one in given if isinstance(one, UploadFile)]
    if not files or len(files) < len(given) or len(files) > most:
        wanted = "one file" if most == 1 else f"at least one file, and at most {most},"
        but = f", but it has {len(given)}." if len(given) > 1 else "."
        if len(given) == 1 and not files:
            but = ", but that is text; send it with a file name."
        raise WrongValue("image", f'The form needs {wanted} in its field "image"{but}')
    return tuple([(one.filename or "image", await one.read()) for one in files])
