"""An MCP server of one tool, for the upstream to serve at ``/mcp``: Streamable HTTP, JSON answers.

Rules
1. It knows what a client asks that lists the tools and calls one; all else is an unknown method,
   which makes newer clients fall back to what this one speaks.
2. No sessions: each question is answered from itself.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

_TOOL: Final = {
    "name": "echo",
    "description": "Say it again.",
    "inputSchema": {
        "type": "object",
        "properties": {"text": {"type": "string"}},
        "required": ["text"],
    },
    "annotations": {"readOnlyHint": True},
}
_UNKNOWN: Final = {"code": -32601, "message": "Method not found"}


def mcp_answer(method: bytes, body: bytes) -> bytes:
    """The HTTP answer to a request: there is no stream to listen to, and no session to end."""
    if method != b"POST":
        return b"HTTP/1.1 405 Method Not Allowed\r\nallow: POST\r\ncontent-length: 0\r\n\r\n"
    question = orjson.loads(body)
    if "id" not in question:
        return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"
    said = {"jsonrpc": "2.0", "id": question["id"], **_said(question)}
    text = orjson.dumps(said)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % len(text) + text


def _said(question: Mapping[str, Any]) -> dict[str, Any]:
    asked = question.get("params") or {}
    match question["method"]:
        case "initialize":
            return {
                "result": {
                    "protocolVersion": asked["protocolVersion"],
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "benchmark", "version": "1"},
                }
            }
        case "tools/list":
            return {"result": {"tools": [_TOOL]}}
        case "tools/call":
            return {"result": {"content": [{"type": "text", "text": asked["arguments"]["text"]}]}}
        case "ping":
            return {"result": {}}
    return {"error": _UNKNOWN}
