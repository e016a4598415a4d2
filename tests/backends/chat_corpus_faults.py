"""Answers of chat-completions servers that end badly, each with its one outcome.

`error` is what the client gets, `retry` its `should_retry` (R-42, R-45, R-46, R-52).
"""

from dataclasses import dataclass

from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    InvalidRequestError,
    RateLimitError,
    UpstreamError,
)
from tests.backends.chat_corpus import HELLO, STOP, completion, usage
from tests.backends.chat_corpus_calls import CALLS, call, calls
from tests.backends.upstream import DONE, chunk, sse


@dataclass(frozen=True)
class Fault:
    """A body and the error that it ends in."""

    name: str
    body: bytes
    error: type[APIError] = UpstreamError
    retry: bool | None = False


FAULTS = [
    Fault("empty body", b"", retry=None),
    Fault("blanks", b"\n\n  ", retry=None),
    Fault("web page", b"<!DOCTYPE html><html>Bad gateway</html>", retry=None),
    Fault("garbage", b"\x00\x01\xfe\xff not a stream", retry=None),
    Fault("[DONE] alone", DONE, retry=None),
    Fault("only empty choices", usage() + sse({"choices": []}) + DONE, retry=None),
    Fault("no finish_reason", HELLO),
    Fault("[DONE] without finish_reason", HELLO + DONE),
    Fault("finish_reason null", HELLO + sse(chunk(finish=None)) + DONE),
    Fault("finish_reason empty", HELLO + sse(chunk(finish="")) + DONE),
    Fault("finish_reason error", HELLO + sse(chunk(finish="error"))),
    *(
        Fault(f"finish_reason {reason}", HELLO + sse(chunk(finish=reason)))
        for reason in (
            *("abort", "network_error", "insufficient_system_resource"),
            "function_call_filter: MALFORMED_FUNCTION_CALL",
        )
    ),
    Fault("chunk cut off", HELLO + STOP[:40]),
    Fault("chunk is no json", HELLO + b"data: {nonsense}\n\n" + STOP),
    Fault("chunk is a list", HELLO + sse([1]) + STOP),
    Fault("chunk is null", HELLO + sse(None) + STOP),
    Fault("choices is a number", HELLO + sse({"choices": 5}) + STOP),
    Fault("choice is a string", HELLO + sse({"choices": ["x"]}) + STOP),
    Fault("content is a number", HELLO + sse(chunk(content=5)) + STOP),
    Fault("reasoning is a number", HELLO + sse(chunk(reasoning=5)) + STOP),
    Fault("tool_calls is a number", HELLO + sse(chunk(tool_calls=5)) + STOP),
    Fault("tool call is a string", HELLO + sse(chunk(tool_calls=["x"])) + STOP),
    Fault("tool call without a name", HELLO + calls(call(0, "c", arguments="{}")) + CALLS),
    Fault("logprobs are strings", HELLO + sse(chunk(content="a", logprobs={"content": ["a"]}))),
    *(
        Fault(f"logprobs with {wrong}", HELLO + sse(chunk(content="a", logprobs=wrong)) + STOP)
        for wrong in (
            {"content": [{"token": "a", "logprob": "-1"}]},
            {"content": [{"token": "a", "logprob": -1, "bytes": 2**63}]},
            {"content": [{"token": "a", "logprob": -1, "bytes": [256]}]},
            {"content": [{"token": "a", "logprob": -1, "top_logprobs": [{"token": 1}]}]},
        )
    ),
    Fault("json body cut off", completion(content="Hello")[:-3], retry=None),
    Fault("json body with another object", b'{"hello": "world"}', retry=None),
    Fault(
        "json body without finish_reason", b'{"choices":[{"message":{"content":"a"}}]}', retry=None
    ),
    Fault("json body with an error", b'{"error":{"message":"boom","code":500}}'),
    Fault("json body with an error string", b'{"error":"boom"}'),
    Fault("json body with detail", b'{"detail":"boom"}'),
    Fault("error chunk", HELLO + sse({"error": {"message": "boom", "type": "server_error"}})),
    Fault("error chunk with choices", HELLO + sse({**chunk(), "error": {"message": "boom"}})),
    Fault(
        "error beside a good finish",
        HELLO + sse({**chunk(finish="stop"), "error": {"message": "boom"}}) + DONE,
    ),
    Fault("error string", HELLO + sse({"error": "boom"})),
    Fault("old vLLM error", HELLO + sse({"object": "error", "message": "boom", "code": 500})),
    Fault("error event", HELLO + b'event: error\ndata: {"message":"boom"}\n\n'),
    Fault("error event that is no json", HELLO + b"event: error\ndata: boom\n\n"),
    Fault("error after finish_reason", HELLO + STOP + sse({"error": "boom"})),
    Fault(
        "rate limit in the stream", sse({"error": {"code": 429, "message": "x"}}), RateLimitError
    ),
    Fault(
        "context length in the stream",
        sse({"error": {"code": 400, "message": "maximum context length is 10 tokens"}}),
        ContextLengthExceeded,
        None,
    ),
    Fault(
        "filter in the stream",
        sse({"error": {"code": "content_filter", "message": "x"}}),
        InvalidRequestError,
        None,
    ),
]
