"""Ready code for the "Use from code" part; the tests run it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from zsas.declare import Setting
from zsas.flags import flag_of
from zsas.settings import all_settings

PYTHON = """\
from gradio_client import Client, handle_file

client = Client("{url}")
answer, mask, score_map, overlay, everything = client.predict(
    image=handle_file("photo.png"),
    preset="{preset}",
{more}    api_name="/segment",
)
print(answer["sentence"])
for region in answer["regions"]:
    print(region["box"], region["score"])
print(mask)  # a PNG in a temporary folder
"""

CURL = """\
curl -s {url}/api/v1/segment -F image=@photo.png -F preset={preset}{fields}
"""

MCP = """\
{{
  "mcpServers": {{
    "zsas": {{ "url": "{url}/gradio_api/mcp/" }}
  }}
}}
"""

MCP_PYTHON = """\
import asyncio
import base64

from mcp import ClientSession
from mcp.client.streamable_http import streamablehttp_client


async def main():
    image = base64.b64encode(open("photo.png", "rb").read()).decode()
    async with streamablehttp_client("{url}/gradio_api/mcp/") as (read, write, _):
        async with ClientSession(read, write) as session:
            await session.initialize()
            answer = await session.call_tool(
                "segment", {{"image": f"data:image/png;base64,{{image}}", "preset": "{preset}"{extra}}}
            )
            print(answer.content[0].text)


asyncio.run(main())
"""

EMBED = """\
<!-- in a frame: works everywhere -->
<iframe src="{url}/?embed=1" title="Zero-shot anomaly segmentation" width="100%" height="820"
        style="border: 0" allow="clipboard-write; camera"></iframe>
<script>
  const frame = document.currentScript.previousElementSibling;
  addEventListener("message", ({{ data, source }}) => {{
    if (data?.zsas?.height && source === frame.contentWindow) frame.height = data.zsas.height;
  }});
</script>

<!-- or as a part of the page -->
<script type="module" src="{url}/gradio.js"></script>
<gradio-app src="{url}/"></gradio-app>
"""


TITLES = (
    ("install", "Install"),
    ("python_here", "Python, on your machine"),
    ("python", "Python, over HTTP"),
    ("curl", "curl"),
    ("mcp", "MCP server"),
    ("mcp_python", "MCP from Python"),
    ("embed", "Embed"),
)
INSTALL = """\
pip install .  # in a clone of the repository
zsas segment photo.png --out results{flags}
"""
PYTHON_HERE = """\
from zsas import Segmenter, Settings

segmenter = Segmenter.from_preset("{preset}")
result = segmenter.segment("photo.png", Settings({arguments}))
print(result.sentence)
"""


def _flag(setting: Setting, value: Any) -> str:
    """A setting as it is given in the shell."""
    flag = flag_of(setting)
    if isinstance(value, bool):
        return f" {flag}" if value else f" --no-{flag.removeprefix('--')}"
    return f" {flag} {shlex.quote(str(value))}"


def filled(
    url: str, preset: str = "tiny", changed: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Ready code by the keys of `TITLES`, for a server's address and a view's own settings.

    Args:
        url: Of the server.
        preset: Name.
        changed: Settings that differ from their defaults.
    """
    url, changed = url.rstrip("/"), dict(changed or {})
    arguments = [f"{name}={value!r}" for name, value in changed.items()]
    more = "".join(f"    {argument},\n" for argument in arguments)
    extra = "".join(f", {json.dumps(name)}: {json.dumps(value)}" for name, value in changed.items())
    known = {setting.name: setting for setting in all_settings()}
    words = (_flag(known[name], value) for name, value in changed.items())
    fields = "".join(f" -F {shlex.quote(f'{name}={value}')}" for name, value in changed.items())
    flags = f" --preset {preset}" + "".join(words)
    texts = (INSTALL, PYTHON_HERE, PYTHON, CURL, MCP, MCP_PYTHON, EMBED)
    places = {
        "url": url,
        "preset": preset,
        "flags": flags,
        "more": more,
        "extra": extra,
        "fields": fields,
        "arguments": ", ".join(arguments),
    }
    return {key: text.format(**places) for (key, _), text in zip(TITLES, texts, strict=True)}
