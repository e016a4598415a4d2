"""How Responses servers fail, before their stream and in it → our errors, in our own words."""

from typing import Any

import orjson
import pytest

from antiphon.backends.faults import UpstreamFaultError
from antiphon.backends.responses.faults import error_for_status
from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    InvalidRequestError,
    ModelNotFound,
    PayloadTooLarge,
    RateLimitError,
    UnsupportedParameter,
    UpstreamError,
    UpstreamTimeout,
)
from tests.backends.responses_said import HELLO, called, end, event, text
from tests.backends.test_chat_stream import cut
from tests.backends.test_responses_stream import SEEDS, play
from tests.conformance.responses import response, sse


def error(**fields: Any) -> bytes:
    return sse({"type": "error", "sequence_number": 3, **fields})


def failed(code: str, message: str = "boom") -> bytes:
    return sse(end(status="failed", error={"code": code, "message": message}))


QUOTA = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "boom"}
POLICY = "Invalid prompt: your prompt was flagged as potentially violating our usage policy."
HEL = sse(text("Hel"))

#: Name → (bytes, the error, `should_retry`).
FAULTS: dict[str, tuple[bytes, type[APIError], bool | None]] = {
    "nothing": (b"", UpstreamError, None),
    "only blanks": (b"\n \n", UpstreamError, None),
    "no end": (HEL, UpstreamError, False),
    "only done": (HEL + b"data: [DONE]\n\n", UpstreamError, False),
    "created and no more": (
        sse({"type": "response.created", "response": response("in_progress")}),
        UpstreamError,
        None,
    ),
    "cut inside an event": (HEL + sse(end(HELLO))[:40], UpstreamError, False),
    "a web page": (b"<html>boom</html>", UpstreamError, None),
    "no JSON": (HEL + b"data: {boom\n\n", UpstreamError, False),
    "no object": (HEL + b'data: "boom"\n\n', UpstreamError, False),
    "no text": (sse(event("output_text.delta", delta=5)), UpstreamError, None),
    **{
        f"logprobs with {wrong}": (
            sse({**text("Hel"), "logprobs": [{"token": "Hel", "logprob": -1, **wrong}]}),
            UpstreamError,
            None,
        )
        for wrong in ({"logprob": "-1"}, {"bytes": 2**63}, {"bytes": 3}, {"bytes": [256]})
    },
    "an item that is none": (sse(event("output_item.done", item="boom")), UpstreamError, None),
    "a call without a name": (sse(end({**called(), "name": None})), UpstreamError, None),
    "an error": (
        HEL + error(error={"code": "server_error", "message": "boom"}),
        UpstreamError,
        False,
    ),
    "a flat error": (HEL + error(code="server_error", message="boom"), UpstreamError, False),
    "an error by name": (b'event: error\ndata: {"message": "boom"}\n\n', UpstreamError, False),
    "an error without a type": (b'data: {"error": "boom"}\n\n', UpstreamError, False),
    "no credit": (error(error=QUOTA), RateLimitError, False),
    "a flat rate limit": (error(code="rate_limit_exceeded", message="x"), RateLimitError, False),
    "failed": (HEL + failed("server_error"), UpstreamError, False),
    "cancelled": (HEL + sse(end(status="cancelled")), UpstreamError, False),
    "too long": (failed("context_length_exceeded"), ContextLengthExceeded, None),
    "against the rules": (failed("invalid_prompt", POLICY), InvalidRequestError, None),
    "refused": (failed("invalid_prompt"), InvalidRequestError, None),
    "a bad image": (failed("invalid_base64_image"), InvalidRequestError, None),
    "unreadable reasoning": (failed("invalid_encrypted_content"), InvalidRequestError, None),
    "JSON that means nothing": (b'{"boom": 1}', UpstreamError, None),
    "JSON that is not over": (orjson.dumps(response("in_progress")), UpstreamError, None),
    "JSON with an error": (orjson.dumps({"error": QUOTA}), RateLimitError, False),
    "JSON that failed": (orjson.dumps(response("failed")), UpstreamError, False),
    "half a JSON": (orjson.dumps(response("completed"))[:50], UpstreamError, None),
    "JSON with items that are none": (
        orjson.dumps(response("completed", ["boom"])),  # type: ignore[list-item]
        UpstreamError,
        None,
    ),
}


@pytest.mark.parametrize(("body", "kind", "retry"), FAULTS.values(), ids=list(FAULTS))
@pytest.mark.parametrize("seed", SEEDS)
def test_faults(body: bytes, kind: type[APIError], retry: bool | None, seed: int) -> None:
    """R-42, R-45, R-46, R-52: a defined error, never a `Finish`, no word of the upstream in it."""
    with pytest.raises(UpstreamFaultError) as caught:
        play(cut(body, seed))
    assert type(caught.value.error) is kind
    assert caught.value.error.should_retry is retry
    assert "boom" not in caught.value.error.message
    assert caught.value.detail.isprintable()


def test_an_event_of_17_mib_is_not_read() -> None:
    """R-47."""
    with pytest.raises(UpstreamFaultError, match="too large"):
        play([b"data: ", *[b"x" * (1 << 20)] * 17])
    with pytest.raises(UpstreamFaultError, match="body larger"):
        play([b"{", *[b" " * (1 << 20)] * 17])


def body(message: str = "boom", **fields: Any) -> bytes:
    return orjson.dumps({"error": {"message": message, "param": None, "code": None, **fields}})


UNKNOWN_MODEL = "The model `boom` does not exist."
#: Name → (status, body, the error, its param).
STATUSES: dict[str, tuple[int, bytes, type[APIError], str | None]] = {
    "bad key": (401, body(), UpstreamError, None),
    "no credit left": (402, body(), UpstreamError, None),
    "forbidden": (403, body(), UpstreamError, None),
    "no model": (404, body(UNKNOWN_MODEL), ModelNotFound, "model"),
    "no model of Azure": (404, body(code="DeploymentNotFound"), ModelNotFound, "model"),
    "no model of Ollama": (404, body("model 'boom' not found"), ModelNotFound, "model"),
    "no endpoint": (404, b'{"detail":"Not Found"}', UpstreamError, None),
    "no model, as 400": (400, body(UNKNOWN_MODEL), ModelNotFound, "model"),
    "too large": (413, body(), PayloadTooLarge, None),
    "late": (504, b"boom", UpstreamTimeout, None),
    "broken": (500, b"boom", UpstreamError, None),
    "redirected": (302, b"", UpstreamError, None),
    "too long": (400, body(code="context_length_exceeded"), ContextLengthExceeded, "input"),
    "too long for vLLM": (
        400,
        body("This model's maximum context length is 10 tokens"),
        ContextLengthExceeded,
        "input",
    ),
    "temperature": (400, body(param="temperature"), UnsupportedParameter, "temperature"),
    "effort": (400, body(param="reasoning.effort"), UnsupportedParameter, "reasoning.effort"),
    "a tool": (400, body(param="tools[3].parameters"), UnsupportedParameter, "tools"),
    "a schema": (422, body(param="text.format.schema"), UnsupportedParameter, "text.format"),
    "an item of theirs": (400, body(param="input[7].content"), InvalidRequestError, None),
    "filtered": (400, body(code="content_filter"), InvalidRequestError, "input"),
    "an image": (400, body(code="image_too_large"), InvalidRequestError, "input"),
    "reasoning": (400, body(code="invalid_encrypted_content"), InvalidRequestError, "input"),
    "anything": (400, b"boom", InvalidRequestError, None),
    "a list": (400, b"[]", InvalidRequestError, None),
}


@pytest.mark.parametrize(("status", "said", "kind", "param"), STATUSES.values(), ids=list(STATUSES))
def test_statuses(status: int, said: bytes, kind: type[APIError], param: str | None) -> None:
    """R-41 to R-43."""
    error = error_for_status(status, said, "alias")
    assert type(error) is kind
    assert error.param == param
    assert "boom" not in error.message


def test_reasoning_that_cannot_be_read_is_named() -> None:
    refused = error_for_status(400, body(code="invalid_encrypted_content"), "alias")
    assert refused.code == "invalid_encrypted_content"


@pytest.mark.parametrize(("code", "retry"), [("insufficient_quota", False), ("x", None)])
def test_rate_limits(code: str, retry: bool | None) -> None:
    """R-39: what money alone can mend is not tried again."""
    error = error_for_status(429, body(code=code), "alias")
    assert type(error) is RateLimitError
    assert error.should_retry is retry


@pytest.mark.parametrize(
    "said",
    [
        end(status="failed", error={"code": "server_error", "message": "why"}),
        end(status="cancelled"),
        end({"type": "message", "content": "none"}),
        {**response("failed"), "error": {"message": "why"}},
        response("in_progress"),
        {**response("completed"), "output": "none"},
    ],
)
def test_the_log_has_no_words_of_the_client(said: dict[str, Any]) -> None:
    """R-130: a whole response says again what it was asked."""
    whole = said.get("response", said)
    whole["instructions"] = "SECRET of the client"
    body = sse(said) if "response" in said else orjson.dumps(said)
    with pytest.raises(UpstreamFaultError) as caught:
        play([body])
    assert "SECRET" not in caught.value.detail
    assert ("why" in caught.value.detail) is bool(whole.get("error"))
