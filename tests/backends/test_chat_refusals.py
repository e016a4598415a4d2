"""The backend over real sockets: what the upstream refuses, retries, the breaker."""

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from antiphon.backends.chat_completions.backend import ChatCompletions
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.upstream import UpstreamConfig
from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    InvalidRequestError,
    ModelNotFound,
    Overloaded,
    PayloadTooLarge,
    RateLimitError,
    UnsupportedParameter,
    UpstreamError,
    UpstreamTimeout,
)
from antiphon.protocol.deltas import Finish
from tests.backends.asking import KEY, ask, failed, refusal, using
from tests.backends.upstream import ChatUpstream, Reply

SECRETS = (KEY, "/srv/models", "Traceback", "10.0.0.7")


# -- refused before the first byte ---------------------------------------------------------------


#: name, the reply, the error, how often the upstream is asked
REFUSALS: list[tuple[str, Reply, type[APIError], int]] = [
    ("500", failed(500, "Traceback at /srv/models"), UpstreamError, 3),
    ("502 html", Reply(502, [b"<html>10.0.0.7</html>"]), UpstreamError, 3),
    ("500 of the blind", failed(500, "image input is not supported"), InvalidRequestError, 1),
    ("500 too large", failed(500, "input is too large to process"), ContextLengthExceeded, 1),
    ("503", failed(503, "overloaded"), UpstreamError, 3),
    ("504", failed(504, "late"), UpstreamTimeout, 3),
    ("529", failed(529, "overloaded"), UpstreamError, 3),
    ("429", failed(429, "slow down"), RateLimitError, 3),
    ("429 no credit", failed(429, "x", code="insufficient_quota"), RateLimitError, 1),
    ("401", failed(401, f"Incorrect API key: {KEY}"), UpstreamError, 1),
    ("402", failed(402, "pay"), UpstreamError, 1),
    ("403", failed(403, "forbidden"), UpstreamError, 1),
    ("404", failed(404, "model 'real-name' not found"), ModelNotFound, 1),
    ("404 page", Reply(404, [b"<html>not here</html>"]), ModelNotFound, 1),
    ("408", failed(408, "late"), UpstreamTimeout, 1),
    ("409", failed(409, "conflict"), UpstreamError, 1),
    ("413", failed(413, "too large"), PayloadTooLarge, 1),
    ("400", failed(400, "bad at /srv/models"), InvalidRequestError, 1),
    ("422", Reply.json({"detail": [{"loc": ["body"]}]}, 422), InvalidRequestError, 1),
    ("400 no json", Reply(400, [b"bad\x00\x1b[31m"]), InvalidRequestError, 1),
    ("400 no body", Reply(400), InvalidRequestError, 1),
    ("400 parameter", failed(400, "x", param="temperature"), UnsupportedParameter, 1),
    ("400 no tools", failed(400, "library/gemma3 does not support tools"), UnsupportedParameter, 1),
    (
        "404 no tools",
        failed(404, "No endpoints found that support tool use."),
        UnsupportedParameter,
        1,
    ),
    ("400 model", failed(400, "The model `x` does not exist."), ModelNotFound, 1),
    ("400 filter", failed(400, "x", code="content_filter"), InvalidRequestError, 1),
    ("redirect", Reply(302, headers={"location": "http://127.0.0.1:1/"}), UpstreamError, 1),
    ("200 html", Reply(200, [b"<html>"], {"content-type": "text/html"}), UpstreamError, 1),
    ("200 json error", Reply.json({"error": {"message": "Traceback"}}), UpstreamError, 1),
    ("200 empty json", Reply.json({}), UpstreamError, 1),
    ("reset", Reply(body=["cut"], raw=True), UpstreamError, 3),
    ("closed", Reply(body=["close"], raw=True), UpstreamError, 3),
    ("not http", Reply(body=[b"SSH-2.0-OpenSSH_9.2\r\n"], raw=True), UpstreamError, 3),
]


@pytest.mark.parametrize(
    ("reply", "error", "times"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS]
)
async def test_refusals(
    config: UpstreamConfig,
    upstream: ChatUpstream,
    reply: Reply,
    error: type[APIError],
    times: int,
) -> None:
    """R-39 to R-43, R-46: one outcome each, nothing of the upstream's words for the client."""
    upstream.script(reply)
    async with using(replace(config, retry_wait=0.0)) as backend:
        with capture_logs() as logs:
            found = await refusal(backend)
    assert type(found) is error
    assert len(upstream.requests) == times
    for secret in (*SECRETS, "real-name", "gpu-box"):
        assert secret not in found.message
    assert logs, "the operator is told"
    for line in logs:
        assert KEY not in str(line)
        assert str(line["detail"]).isprintable()


#: How servers say that the prompt does not fit.
TOO_LONG = [
    ("openai", {"error": {"message": "x", "code": "context_length_exceeded"}}),
    (
        "vllm",
        {
            "object": "error",
            "message": "This model's maximum context length is 8192 tokens. However, you requested",
            "code": 400,
        },
    ),
    ("vllm prompt", {"error": {"message": "The prompt is longer than the maximum model length"}}),
    ("sglang", {"message": "The input (9 tokens) is longer than the model's context length (8)."}),
    (
        "llama.cpp",
        {
            "error": {
                "code": 400,
                "message": "the request exceeds the available context size, try increasing it",
                "type": "exceed_context_size_error",
            }
        },
    ),
    ("ollama", {"error": {"message": "input length exceeds the context length"}}),
    ("lmstudio", {"error": "Trying to keep the first 9 tokens when context the overflows. However,"
                 " the model is loaded with context length of only 8 tokens"}),
    ("openrouter", {"error": {"message": "This endpoint's maximum context length is 8 tokens."}}),
    ("gemini", {"error": {"message": "The input token count (9) exceeds the maximum number"}}),
    ("anthropic", {"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}),
]  # fmt: skip


@pytest.mark.parametrize("body", [row[1] for row in TOO_LONG], ids=[row[0] for row in TOO_LONG])
async def test_a_prompt_that_does_not_fit(
    backend: ChatCompletions, upstream: ChatUpstream, body: dict[str, object]
) -> None:
    """R-43."""
    upstream.script(Reply.json(body, 400))
    error = await refusal(backend)
    assert type(error) is ContextLengthExceeded
    assert (error.code, error.param) == ("context_length_exceeded", "input")


async def test_the_client_reads_its_own_name_of_the_model(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    upstream.script(failed(404, "no"))
    error = await refusal(backend)
    assert error.message == "The requested model 'alias' does not exist."


async def test_the_refused_parameter_has_the_clients_name(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    """R-02."""
    upstream.script(failed(400, "x", param="max_completion_tokens"))
    assert (await refusal(backend)).param == "max_output_tokens"


@pytest.mark.parametrize(("status", "level"), [(401, "error"), (403, "error"), (400, "warning")])
async def test_a_refused_key_is_loud(
    backend: ChatCompletions, upstream: ChatUpstream, status: int, level: str
) -> None:
    """R-41, R-130: the operator learns it, with the cause but without the key."""
    upstream.script(failed(status, f"no such key: {KEY}\x1b[31m"))
    with capture_logs() as logs:
        await refusal(backend)
    (line,) = logs
    assert (line["log_level"], line["status"], line["backend"]) == (level, status, "gpu-box")
    assert "no such key" in line["detail"]
    assert KEY not in line["detail"]


@pytest.mark.parametrize(
    "said",
    [
        "Incorrect API key provided: sk-proj-abcdef123456",
        "bad header 'Authorization: Bearer abcdef123456'",
        "token hf_abcdef123456 is revoked",
    ],
)
async def test_nobodys_key_is_logged(
    backend: ChatCompletions, upstream: ChatUpstream, said: str
) -> None:
    """R-42, R-130: an upstream may quote the key of its own upstream."""
    upstream.script(failed(401, said))
    with capture_logs() as logs:
        await refusal(backend)
    assert "abcdef123456" not in str(logs)


async def test_the_log_line_is_short(backend: ChatCompletions, upstream: ChatUpstream) -> None:
    """R-42, R-119."""
    upstream.script(Reply(400, [b"x" * 100_000]))
    with capture_logs() as logs:
        await refusal(backend)
    assert len(logs[0]["detail"]) <= 2048


# -- retries -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    [
        failed(500, "x"),
        failed(429, "x"),
        Reply.json({}, 429, retry_after="0"),
        Reply(body=["cut"], raw=True),
    ],
    ids=["500", "429", "429 with retry-after", "reset"],
)
async def test_what_passes_is_tried_again(
    backend: ChatCompletions, upstream: ChatUpstream, first: Reply
) -> None:
    """R-39, R-40."""
    upstream.script(first, Reply.chat("Hello"))
    assert (await ask(backend))[-1][-1] == Finish()
    first_at, second_at = (request.at for request in upstream.requests)
    assert 0.1 < second_at - first_at < 1.0, "after a short, jittered wait"


async def test_a_long_retry_after_is_the_clients_to_wait_for(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    """R-39."""
    upstream.script(Reply.json({}, 429, retry_after="17"))
    error = await refusal(backend)
    assert error.headers()["retry-after"] == "17"
    assert len(upstream.requests) == 1


async def test_a_short_retry_after_is_kept_to(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    """R-39."""
    upstream.script(Reply.json({}, 429, retry_after="1"), Reply.chat("Hello"))
    await ask(backend)
    first_at, second_at = (request.at for request in upstream.requests)
    assert second_at - first_at >= 1.0


async def test_no_retries_when_told_so(config: UpstreamConfig, upstream: ChatUpstream) -> None:
    upstream.script(failed(500, "x"))
    async with using(replace(config, max_retries=0)) as backend:
        await refusal(backend)
    assert len(upstream.requests) == 1


async def test_retries_share_one_deadline(config: UpstreamConfig, upstream: ChatUpstream) -> None:
    """R-40, R-44: not additive."""
    upstream.script(Reply(body=[0.4, "cut"], raw=True))
    started = time.monotonic()
    async with using(replace(config, first_byte_timeout=0.6, max_retries=10)) as backend:
        assert type(await refusal(backend)) is UpstreamTimeout
    assert time.monotonic() - started < 1.0


async def test_nobody_there(config: UpstreamConfig) -> None:
    """R-40: refused, and a name that does not resolve."""
    for url in ("http://127.0.0.1:9/v1", "http://nowhere.invalid/v1", "https://127.0.0.1:9/v1"):
        async with using(replace(config, base_url=url, max_retries=0)) as backend:
            assert type(await refusal(backend)) is UpstreamError


async def test_tls_with_a_server_that_has_none(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """R-40."""
    url = upstream.base_url.replace("http:", "https:")
    async with using(replace(config, base_url=url, max_retries=0)) as backend:
        assert type(await refusal(backend)) is UpstreamError


# -- the breaker ---------------------------------------------------------------------------------


async def test_an_upstream_that_is_down_is_left_alone(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """R-40, R-50: open after failures, one probe later, closed by its success."""
    settings = BreakerSettings(failures=2, cool_down=0.3)
    upstream.script(failed(500, "x"))
    async with using(replace(config, breaker=settings, max_retries=0)) as backend:
        for _ in range(2):
            assert type(await refusal(backend)) is UpstreamError
        error = await refusal(backend)
        assert type(error) is Overloaded
        assert error.retry_after is not None
        assert len(upstream.requests) == 2
        upstream.script(Reply.chat("Hello"))
        await asyncio.sleep(0.35)
        await ask(backend)
        await ask(backend)


async def test_a_probe_whose_client_left_makes_room_for_another(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """R-50."""
    upstream.script(failed(500, "x"), Reply(body=["stall"], raw=True))
    settings = BreakerSettings(failures=1, cool_down=0.1)
    async with using(replace(config, breaker=settings, max_retries=0)) as backend:
        await refusal(backend)
        await asyncio.sleep(0.15)
        probe = asyncio.create_task(ask(backend))
        await asyncio.sleep(0.1)
        assert type(await refusal(backend)) is Overloaded
        probe.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await probe
        upstream.script(Reply.chat("Hello"))
        await ask(backend)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429])
async def test_one_callers_mistakes_lock_out_nobody(
    config: UpstreamConfig, upstream: ChatUpstream, status: int
) -> None:
    """R-50."""
    upstream.script(failed(status, "x"))
    settings = BreakerSettings(failures=1)
    async with using(replace(config, breaker=settings, max_retries=0)) as backend:
        for _ in range(3):
            await refusal(backend)
        upstream.script(Reply.chat("Hello"))
        await ask(backend)


async def test_leaving_is_no_failure(config: UpstreamConfig, upstream: ChatUpstream) -> None:
    """R-50."""
    upstream.script(Reply(body=["stall"], raw=True))
    async with using(replace(config, breaker=BreakerSettings(failures=1))) as backend:
        task = asyncio.create_task(ask(backend))
        await asyncio.sleep(0.1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        upstream.script(Reply.chat("Hello"))
        await ask(backend)


async def test_stalls_count_as_failures(config: UpstreamConfig, upstream: ChatUpstream) -> None:
    """R-50: an upstream that accepts and then says nothing."""
    upstream.script(Reply(body=["stall"]))
    settings = BreakerSettings(failures=2)
    async with using(replace(config, breaker=settings, first_byte_timeout=0.1)) as backend:
        for _ in range(2):
            assert type(await refusal(backend)) is UpstreamTimeout
        assert type(await refusal(backend)) is Overloaded
