"""A real MCP server, which tests start as another process: over HTTP, HTTP with SSE, or pipes.

``python -m tests.tools.mcp_server http --log FILE [--token T] [--json] [--path /mcp]``

It writes ``port N`` to stdout when it listens (not over pipes), and what happens to the log, one
JSON object a line: requests with method, headers and what they ask; calls that began or were
cancelled."""

import argparse
import asyncio
import base64
import json
import os
import socket
import warnings
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from mcp import MCPError
from mcp.server import MCPServer
from mcp.server.mcpserver import Context, Image
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import (
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    SamplingMessage,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)
from pydantic import BaseModel

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

#: A picture of one pixel.
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
READS = ToolAnnotations(read_only_hint=True, title="Reads")

server = MCPServer("tickets", instructions="Nothing.")


class Sum(BaseModel):
    """What `add` says."""

    total: int


def note(**what: object) -> None:
    """One line of the log."""
    with Path(os.environ["MCP_TEST_LOG"]).open("a", encoding="utf-8") as log:
        log.write(json.dumps(what) + "\n")


@server.tool(annotations=READS)
def add(a: int, b: int) -> Sum:
    """Add two numbers."""
    return Sum(total=a + b)


@server.tool(annotations=READS)
def echo(text: str) -> str:
    """Say it again."""
    return text


@server.tool()
def write(text: str) -> str:
    """Write it down."""
    note(wrote=text)
    return "written"


@server.tool()
def picture() -> Image:
    """Draw."""
    return Image(data=PNG, format="png")


@server.tool(structured_output=False)
def false_picture() -> CallToolResult:
    """Say that a text is a picture."""
    fake = base64.b64encode(b"<svg onload=alert(1)>").decode()
    return CallToolResult(content=[ImageContent(data=fake, mime_type="image/png")])


@server.tool(structured_output=False)
def structured() -> CallToolResult:
    """Answer without text."""
    return CallToolResult(content=[], structured_content={"deep": {"n": 1}})


@server.tool(structured_output=False)
def resources() -> CallToolResult:
    """Answer with all kinds of resources."""
    blob = base64.b64encode(b"12345").decode()
    return CallToolResult(
        content=[
            TextContent(text="see"),
            ResourceLink(uri="file:///a.txt", name="a.txt", description="The letter a"),
            EmbeddedResource(resource=TextResourceContents(uri="file:///b", text="bee")),
            EmbeddedResource(
                resource=BlobResourceContents(uri="file:///c", blob=blob, mime_type="text/csv")
            ),
        ]
    )


@server.tool()
def broken() -> str:
    """Fail."""
    raise ToolError("no such ticket")


@server.tool()
def large(size: int) -> str:
    """Say much."""
    return "x" * size


@server.tool()
async def slow(seconds: float) -> str:
    """Take a while."""
    note(began="slow")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        note(cancelled="slow")
        raise
    return "done"


@server.tool()
def die() -> str:
    """End the server in the middle of a call."""
    note(began="die")
    os._exit(3)


@server.tool()
async def ask(ctx: Context[Any]) -> str:
    """Ask the client's model, and tell how it goes."""
    await ctx.report_progress(1, 2)
    try:
        await ctx.session.create_message(
            messages=[SamplingMessage(role="user", content=TextContent(text="hi"))], max_tokens=5
        )
    except MCPError as error:
        return f"declined: {error}"
    return "answered"


@server.tool()
def environment() -> str:
    """Tell the environment."""
    return json.dumps(dict(os.environ))


@server.tool(structured_output=False)
def who_runs() -> int:
    """Tell who runs this."""
    return os.getpid()


class Logged:
    """An application whose requests are logged, and refused if they do not know the token."""

    def __init__(self, app: App, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body = b""
        while scope["method"] == "POST":
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        asks = json.loads(body).get("method") if body else None
        note(http=scope["method"], path=scope["path"], asks=asks, headers=headers)
        if self._token is not None and headers.get("authorization") != f"Bearer {self._token}":
            head = {"type": "http.response.start", "status": 401, "headers": []}
            await send(head)
            return await send({"type": "http.response.body", "body": b"who are you?"})
        given = False

        async def again() -> Message:
            nonlocal given
            if scope["method"] != "POST" or given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        return await self._app(scope, again, send)


def main() -> None:
    """The program."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["http", "sse", "stdio"])
    parser.add_argument("--log", required=True)
    parser.add_argument("--token")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--path")
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    os.environ["MCP_TEST_LOG"] = given.log
    note(started=given.kind)
    if given.kind == "stdio":
        server.run("stdio")
        return
    app: Any
    if given.kind == "http":
        path = given.path or "/mcp"
        app = server.streamable_http_app(streamable_http_path=path, json_response=given.json)
    else:
        app = server.sse_app(sse_path=given.path or "/sse")
    listening = socket.create_server(("127.0.0.1", given.port))
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(f"port {listening.getsockname()[1]}", flush=True)
    config = uvicorn.Config(Logged(app, given.token), log_level="critical", lifespan="on")
    asyncio.run(uvicorn.Server(config).serve([listening]))


if __name__ == "__main__":
    main()
