"""Calls of the named endpoints by machines, over gradio's protocol and MCP: wrong values are sentences, answers JSON.

Reaches behind gradio's documented interface, as `gradio_internals` does; `tests/ui/test_calls.py` and
`tests/ui/test_ui_api.py` say what must hold after an update.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import JSONResponse

from zsas.declare import Setting
from zsas.errors import ZsasError, reason
from zsas.settings import Settings, all_settings
from zsas.ui.beside import MOST_REFERENCES
from zsas.ui.compare import answer_schema
from zsas.ui.gradio_internals import gr, mcp, taking_messages, without_stubs
from zsas.ui.openapi import TOGETHER, result_schema, schema_of
from zsas.ui.values import MOST_BYTES, MOST_SHOWN, WrongValue, read_settings, shortened

MORE = {
    "references": f"Images of good parts of the same kind, at most {MOST_REFERENCES}; what looks like them is no "
    "anomaly.",
    "region": "Where to look, as JSON: polygons and rectangles in pixels or fractions; see docs/parts.md. What lies "
    "outside never counts.",
    "part": "A part profile, a file of `zsas part`: settings, good images, region, millimetres per pixel.",
}
"""What `segment` and `batch` take beside image and settings, behind them."""
ENDPOINTS = {"segment": "image", "batch": "files", "compare": "image"}
"""The named endpoints, and what each calls its first value."""
OTHERS = {
    "compare": ("systems", "refiners", "mask"),
    "segment": tuple(MORE),
    "batch": (*MORE, *TOGETHER),
}
"""Further values of an endpoint that are no settings."""

with without_stubs():

    class Field(gr.Textbox):
        """A value that is taken as it was sent; None where it was not. Its schema is that of a setting."""

        is_template = True
        schema: Mapping[str, Any] = {"type": "string"}

        def preprocess(self, payload: Any) -> Any:
            """The value itself."""
            return payload

        def api_info(self) -> dict[str, Any]:
            """JSON schema of the value."""
            return dict(self.schema)

        def example_inputs(self) -> Any:
            """A value that works."""
            return self.schema.get("default", "")


def field(setting: Setting) -> Field:
    """The hidden component behind one parameter of the endpoints."""
    made = Field(label=setting.name)
    made.schema = schema_of(setting)
    return made


def settings_of(values: Sequence[Any]) -> Settings:
    """Settings from the values of an endpoint, in the order of their declaration.

    Raises:
        WrongValue: On a value that is refused; names the parameter.
    """
    names = [setting.name for setting in all_settings()]
    return read_settings(dict(zip(names, values, strict=True)))


def tolerant(blocks: gr.Blocks) -> gr.Blocks:
    """The same page, whose endpoints fill in values left out at the end and say in a sentence what is wrong."""
    preprocess = blocks.preprocess_data

    async def preprocess_data(block_fn: Any, inputs: list[Any], *more: Any, **named: Any) -> Any:
        first = ENDPOINTS.get(str(block_fn.api_name))
        if first is None:
            return await preprocess(block_fn, inputs, *more, **named)
        wanted = len(block_fn.inputs)
        if len(inputs) > wanted:
            raise gr.Error(
                f"{block_fn.api_name} takes {wanted} values, but {len(inputs)} were sent.",
                print_exception=False,
            )
        inputs = [*inputs, *[None] * (wanted - len(inputs))]
        try:
            return await preprocess(block_fn, inputs, *more, **named)
        except gr.Error:
            raise
        except (
            Exception
        ) as error:  # pydantic's, gradio's and the file system's, all for a value of another type
            raise gr.Error(
                f"{first} is {shortened(inputs[0])}, but it must be an uploaded file: upload it first, then name it as "
                '{"path": "…", "meta": {"_type": "gradio.FileData"}} '
                f"({type(error).__name__}).",
                print_exception=False,
            ) from None

    blocks.preprocess_data = preprocess_data  # type: ignore[method-assign]
    return blocks


async def refuse_call(request: Request, error: Exception) -> JSONResponse:
    """What a call by names answers where a name is unknown or missing; gradio lets the exception through."""
    if request.url.path.endswith("/upload") and not isinstance(error, KeyError):
        sentence = 'There is no file in the field "files"; send one as multipart/form-data.'
        return JSONResponse({"error": sentence, "parameter": "files"}, status_code=422)
    if "/call/" not in request.url.path:
        raise error
    if isinstance(error, KeyError):
        return JSONResponse(
            {"error": f"There is no endpoint {reason(error).strip(chr(39))}."}, status_code=404
        )
    unknown = re.search(r"`(.*)` is not a valid", str(error), re.DOTALL)
    if unknown is not None:
        names = ", ".join(setting.name for setting in all_settings())
        sentence = (
            f"There is no parameter {shortened(unknown[1])}; the parameters are image or files, preset, for a "
            f"comparison systems, refiners and mask, {names}, and else {', '.join((*MORE, *TOGETHER))}."
        )
        return JSONResponse(
            {"error": sentence, "parameter": unknown[1][:MOST_SHOWN]}, status_code=422
        )
    missing = re.search(r"required argument: (\w+)", str(error))
    if missing is None:
        raise error
    sentence = f"There is no {missing[1]}; upload it first, then name it in the call."
    return JSONResponse({"error": sentence, "parameter": missing[1]}, status_code=422)


HANDLERS: dict[type[Exception], Callable[..., Any]] = {
    TypeError: refuse_call,
    KeyError: refuse_call,
    AttributeError: refuse_call,
}
"""For the server's app."""


def _answer_schemas() -> dict[str, dict[str, Any]]:
    url = {"type": "string", "format": "uri"}
    result, compared = result_schema(), answer_schema()
    files = {"type": "object", "additionalProperties": url}
    return {
        "segment": {
            **result,
            "properties": {**result["properties"], "files": files},
        },
        "batch": {
            "type": "object",
            "properties": {
                "rows": {"type": "array", "items": {"type": "object"}},
                "files": files,
            },
            "required": ["rows"],
        },
        "compare": {
            **compared,
            "properties": {**compared["properties"], "files": files},
        },
    }


FILES = {
    "segment": ("mask", "score", "overlay", "zip"),
    "batch": ("zip",),
    "compare": ("sheet", "zip"),
}


class JsonMcpServer(mcp.GradioMCPServer):
    """Gradio's MCP server, whose answers are JSON text and the same as structured content, with a schema."""

    # A file comes as a data URL, which has four bytes for three.
    StreamableHTTPSessionManager = taking_messages(
        mcp.GradioMCPServer.StreamableHTTPSessionManager, MOST_BYTES // 3 * 4 + 2**20
    )

    async def _execute_tool_without_progress(self, job: Any) -> list[Any]:
        result = await run_sync(job.result)
        return list(result) if isinstance(result, tuple) else [result]

    def postprocess_output_data(self, data: Any, root_url: str) -> list[Any]:
        """One part or two for each output; a dict or a list is one part of JSON."""
        parts: list[Any] = []
        for output in data:
            if _is_file(output) or not isinstance(output, (dict, list)):
                parts += super().postprocess_output_data([output], root_url)
            else:
                text = json.dumps(output, ensure_ascii=False)
                parts.append(self.types.TextContent(type="text", text=text))
        return parts

    def simplify_filedata_schema(self, schema: Any) -> Any:
        """With lists of files as well, which gradio leaves pointing to a definition that it takes away."""
        simple, positions = super().simplify_filedata_schema(schema)
        return _without_pointers(simple), positions

    def convert_strings_to_filedata(self, value: Any, filedata_positions: Any) -> Any:
        """With lists of files as well."""
        positions = list(filedata_positions)
        for path in filedata_positions:
            if len(path) == 2 and path[1] == "items" and isinstance(value.get(path[0]), list):
                positions += [[path[0], i] for i in range(len(value[path[0]]))]
        return super().convert_strings_to_filedata(value, positions)

    def create_mcp_server(self) -> Any:
        """With schemas of answers, values read as everywhere, and structured content."""
        server = super().create_mcp_server()
        types: Any = self.types
        handlers: Any = server.request_handlers
        list_tools, call_tool = handlers[types.ListToolsRequest], handlers[types.CallToolRequest]

        async def listed(request: Any) -> Any:
            answer = await list_tools(request)
            for tool in answer.root.tools:
                schema = _answer_schemas().get(self._endpoint(tool.name))
                tool.outputSchema = schema
            return answer

        async def called(request: Any) -> Any:
            endpoint = self._endpoint(request.params.name)
            try:
                request.params.arguments = _read_arguments(request.params.arguments or {}, endpoint)
            except ZsasError as error:
                text = types.TextContent(type="text", text=str(error))
                return types.ServerResult(types.CallToolResult(content=[text], isError=True))
            answer = await call_tool(request)
            if not answer.root.isError and endpoint in FILES:
                answer.root.structuredContent = _structured(answer.root.content, endpoint)
            return answer

        handlers[types.ListToolsRequest], handlers[types.CallToolRequest] = listed, called
        return server

    def _endpoint(self, tool: str) -> str:
        return self.tool_to_endpoint.get(tool, "").lstrip("/")


def answer_mcp_in_json() -> None:
    """Let gradio make its MCP server of our class."""
    mcp.GradioMCPServer = JsonMcpServer  # type: ignore[misc]


def _is_file(output: Any) -> bool:
    return isinstance(output, dict) and output.get("meta", {}).get("_type") == "gradio.FileData"


def _read_arguments(arguments: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    """The arguments of a tool with settings in their own types; what was not given stays away."""
    first = ENDPOINTS.get(endpoint)
    if first is None:
        return dict(arguments)
    others = {first, "preset", *OTHERS.get(endpoint, ())}
    settings = {name: value for name, value in arguments.items() if name not in others}
    read = read_settings(settings).to_dict()
    kept = {n: v for n, v in arguments.items() if n in others and v is not None}
    if first not in kept:
        raise WrongValue(first, f"There is no {first}; send it as a URL or a data URL.")
    return kept | {n: read[n] for n, v in settings.items() if v is not None}


def _without_pointers(schema: Any) -> Any:
    """A schema of files as addresses, without what pointed to their definition."""
    if isinstance(schema, list):
        return [_without_pointers(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    dropped = ("$defs", "$ref") if schema.get("type") == "string" else ("$defs",)
    return {key: _without_pointers(one) for key, one in schema.items() if key not in dropped}


def _structured(content: Sequence[Any], endpoint: str) -> dict[str, Any]:
    """The first part as values, and the addresses of the files in the order of the outputs."""
    values = json.loads(content[0].text)
    found = [re.search(r"https?://\S+", part.text) for part in content[1:] if part.type == "text"]
    urls = [match[0] for match in found if match is not None]
    body = {"rows": values} if endpoint == "batch" else values
    return {**body, "files": dict(zip(FILES[endpoint], urls, strict=False))}
