"""Ready code for the "Use from code" part; the tests run it."""

from __future__ import annotations

PYTHON = """\
from gradio_client import Client, handle_file

client = Client("{url}")
answer, mask, score_map, overlay, everything = client.predict(
    image=handle_file("photo.png"),
    preset="tiny",
    object_name="metal plate",
    threshold=0.4,
    api_name="/segment",
)
print(answer["sentence"])
for region in answer["regions"]:
    print(region["box"], region["score"])
print(mask)  # a PNG in a temporary folder
"""

CURL = """\
# 1. upload the photo; the server answers with the path of the upload
FILE=$(curl -s -F "files=@photo.png" {url}/gradio_api/upload | tr -d '[]"')
# 2. ask; the answer is the id of the job
JOB=$(curl -s {url}/gradio_api/call/v2/segment -H 'Content-Type: application/json' \\
  -d '{{"image": {{"path": "'$FILE'", "meta": {{"_type": "gradio.FileData"}}}}, "preset": "tiny", "threshold": 0.4}}' \\
  | sed 's/.*"event_id" *: *"\\([^"]*\\)".*/\\1/')
# 3. read the result
curl -sN {url}/gradio_api/call/segment/$JOB
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
    photo = base64.b64encode(open("photo.png", "rb").read()).decode()
    async with streamablehttp_client("{url}/gradio_api/mcp/") as (read, write, _):
        async with ClientSession(read, write) as session:
            await session.initialize()
            answer = await session.call_tool(
                "segment", {{"image": f"data:image/png;base64,{{photo}}", "preset": "tiny"}}
            )
            print(answer.content[0].text)


asyncio.run(main())
"""

EMBED = """\
<!-- in a frame: works everywhere -->
<iframe src="{url}/?embed=1" title="Zero-shot anomaly segmentation" width="100%" height="1200"
        style="border: 0" allow="clipboard-write; camera"></iframe>

<!-- or as a part of the page -->
<script type="module" src="{url}/gradio.js"></script>
<gradio-app src="{url}/"></gradio-app>
"""


def filled(url: str) -> tuple[str, str, str, str, str]:
    """Python client, curl, MCP configuration, MCP client and embedding, for a server's address."""
    url = url.rstrip("/")
    return tuple(text.format(url=url) for text in (PYTHON, CURL, MCP, MCP_PYTHON, EMBED))  # type: ignore[return-value]
