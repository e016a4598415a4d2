"""What upstreams do wrong, and the one outcome of each (must show 5; R-39 to R-47).

The bodies of the upstream's errors hold what no client may ever see: `LEAKS`.
"""

from dataclasses import dataclass
from typing import Final

import orjson

from tests.backends.upstream import DONE, Reply, Step, chunk, sse

UPSTREAM_KEY: Final = "sk-upstream-0123456789abcdefghij"
#: Words of the upstream: its key, its address, its own message.
LEAKS: Final = (UPSTREAM_KEY, "10.0.0.99", "gpu-node-7", "CUDA")
_SAID: Final = f"CUDA error on gpu-node-7 at http://10.0.0.99:8001 with {UPSTREAM_KEY}"
HELLO: Final = sse(chunk(content="Hello"))
STOP: Final = sse(chunk(finish="stop"))
MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Fault:
    """An answer of the upstream and what becomes of it.

    `status`, `code`, `param`, `retry` (``x-should-retry``) and `retry_after` are those of the HTTP
    answer. When the upstream had accepted the prompt, a stream has begun: then `failed` is the code
    in ``response.failed``, and `text` what was said before.
    """

    name: str
    reply: Reply
    status: int = 502
    code: str | None = "server_error"
    param: str | None = None
    retry: str | None = None
    retry_after: str | None = None
    failed: str | None = None
    text: str = ""


def _refusal(status: int, **keys: str | None) -> Reply:
    """An error of the upstream in OpenAI's shape."""
    error = {"message": _SAID, "type": "x", "param": None, "code": None, **keys}
    return Reply.json({"error": error}, status)


def _body(*steps: Step) -> Reply:
    return Reply(body=[HELLO, *steps])


def _in_stream(name: str, *steps: Step, status: int = 502) -> Fault:
    """A stream that breaks after its first word: tokens were spent."""
    return Fault(
        name, _body(0.05, *steps), status, retry="false", failed="server_error", text="Hello"
    )


def _page(status: int) -> Reply:
    page = f"<html><body><h1>Bad gateway</h1>{_SAID}</body></html>".encode()
    return Reply(status, [page], {"content-type": "text/html"})


_ERROR: Final = {"error": {"message": _SAID, "code": 500}}

#: Refused before a stream could begin: the same HTTP answer to both kinds of request.
REFUSALS: Final = [
    Fault(
        "429 with Retry-After",
        Reply.json({"error": {"message": _SAID}}, 429, retry_after="7"),
        429,
        "rate_limit_exceeded",
        retry_after="7",
    ),
    Fault(
        "429 with a senseless Retry-After",
        Reply.json({"error": {"message": _SAID}}, 429, retry_after="soon\x0b"),
        429,
        "rate_limit_exceeded",
    ),
    Fault(
        "429 without credit",
        _refusal(429, code="insufficient_quota"),
        429,
        "rate_limit_exceeded",
        retry="false",
    ),
    Fault("401", _refusal(401, code="invalid_api_key")),  # never a 401 to the client
    Fault("403", _refusal(403)),
    Fault("402", _refusal(402)),
    Fault("404", _refusal(404), 400, "model_not_found", "model"),
    Fault("500", _refusal(500)),
    Fault("503", _refusal(503)),
    Fault("502 page", _page(502)),
    Fault("504", _refusal(504), 504),
    Fault("413", _refusal(413), 413, "request_too_large"),
    Fault("302", Reply(302, [b""], {"location": "http://10.0.0.99/"})),
    Fault("204", Reply(204, [b""], {})),
    Fault("400", _refusal(400), 400, None),
    Fault("422 page", _page(422), 400, None),
    Fault(
        "400 too long",
        _refusal(400, code="context_length_exceeded"),
        400,
        "context_length_exceeded",
        "input",
    ),
    Fault(
        "400 names a parameter",
        _refusal(400, param="temperature"),
        400,
        "unsupported_parameter",
        "temperature",
    ),
    Fault("200 with a page", _page(200)),
    Fault("200 without a body", Reply(200, [], {"content-type": "application/json"})),
    Fault("200 with an error", Reply.json(_ERROR), retry="false"),
    Fault("200 with another object", Reply.json({"hello": "world"})),
    Fault("200 without choices", Reply.json({"object": "chat.completion", "choices": []})),
    Fault("no HTTP", Reply(raw=True, body=[b"SSH-2.0-OpenSSH_9.2\r\n"])),
    Fault("cut before the status", Reply(raw=True, body=["cut"])),
    Fault("no answer in time", Reply(raw=True, body=["stall"]), 504),
]

#: The upstream answered 200 and began: JSON clients get a status, streams get events.
BREAKS: Final = [
    Fault("silence after 200", Reply(body=["stall"]), 504, retry="false", failed="server_error"),
    Fault("empty stream", Reply(body=[]), failed="server_error"),
    Fault("[DONE] alone", Reply(body=[DONE]), failed="server_error"),
    Fault("an error first", Reply(body=[sse(_ERROR), DONE]), retry="false", failed="server_error"),
    Fault(
        "too long, said in the stream",
        Reply(body=[sse({"error": {"message": "maximum context length is 9", "code": 400}})]),
        400,
        "context_length_exceeded",
        "input",
        failed="context_length_exceeded",
    ),
    Fault(
        "a limit, said in the stream",
        Reply(body=[sse({"error": {"message": _SAID, "code": 429}})]),
        429,
        "rate_limit_exceeded",
        retry="false",
        failed="rate_limit_exceeded",
    ),
    _in_stream("cut in the middle", "cut"),
    _in_stream("closed in the middle", "close"),
    _in_stream("silence in the middle", "stall", status=504),
    _in_stream("no finish_reason"),
    _in_stream("[DONE] without finish_reason", DONE),
    _in_stream("garbage", b"data: {nonsense " + _SAID.encode() + b"\n\n", STOP),
    _in_stream("an error in the middle", sse(_ERROR)),
    _in_stream("an error event", b"event: error\ndata: " + orjson.dumps(_ERROR) + b"\n\n"),
    _in_stream("a line of 17 MiB", b"data: " + b"x" * (17 * MIB) + b"\n\n"),
    _in_stream("a call without a name", sse(chunk(tool_calls=[{"index": 0}])), STOP),
]


@dataclass(frozen=True)
class Odd:
    """A strange answer that is whole all the same: what it says."""

    name: str
    reply: Reply
    text: str = "Hello"
    usage: tuple[int, int] = (0, 0)


_USAGE: Final = {"prompt_tokens": 3, "completion_tokens": 4}

_LONG: Final = "x" * (8 * MIB)

ODD: Final = [
    Odd("empty chunks", _body(sse({}), sse({"choices": []}), sse(chunk()), STOP, DONE)),
    Odd("empty text", _body(sse(chunk(content="")), sse(chunk(content=None)), STOP, DONE)),
    Odd("usage alone at the end", _body(STOP, sse({"usage": _USAGE}), DONE), usage=(3, 4)),
    Odd(
        "usage with empty choices", _body(STOP, sse({"choices": [], "usage": _USAGE})), usage=(3, 4)
    ),
    Odd("no [DONE]", _body(STOP)),
    Odd("no end", _body(STOP, DONE, "stall")),
    Odd("comments", _body(b": ping\n\n", b"\n\n", STOP, DONE)),
    Odd(
        "a line of 8 MiB",
        Reply(body=[sse(chunk(content="x" * (8 * MIB))), STOP, DONE]),
        "x" * (8 * MIB),
    ),
    Odd(
        "no stream at all",
        Reply.json(
            {
                "object": "chat.completion",
                "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}],
                "usage": _USAGE,
            }
        ),
        usage=(3, 4),
    ),
]
