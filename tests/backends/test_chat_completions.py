"""The backend over real sockets: turns, broken streams, time limits, leaving, models."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from antiphon.backends.base import Model
from antiphon.backends.chat_completions.backend import ChatCompletions
from antiphon.backends.upstream import UpstreamConfig
from antiphon.errors import (
    ContextLengthExceeded,
    InvalidRequestError,
    UpstreamError,
    UpstreamTimeout,
)
from antiphon.protocol.deltas import Finish, ReasoningDelta, TextDelta
from tests.backends.asking import KEY, ask, failed, prompt, refusal, using
from tests.backends.upstream import DONE, ChatUpstream, Reply, Step, chunk, sse

HELLO = sse(chunk(content="Hello"))


# -- the plain case ------------------------------------------------------------------------------


async def test_a_turn(backend: ChatCompletions, upstream: ChatUpstream) -> None:
    upstream.script(Reply.chat("Hel", "lo"))
    first, *rest = await ask(backend, instructions="Be kind.")
    assert first == [], "the upstream has accepted the prompt"
    said = [delta for deltas in rest for delta in deltas]
    assert [d.text for d in said if isinstance(d, TextDelta)] == ["Hel", "lo"]
    assert said[-1] == Finish()
    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.json["model"] == "real-name"
    assert request.json["stream"] is True
    assert request.json["stream_options"] == {"include_usage": True}
    assert request.json["messages"][0] == {"role": "system", "content": "Be kind."}


async def test_connections_are_kept(backend: ChatCompletions, upstream: ChatUpstream) -> None:
    late_end = replace(Reply.chat("Hello"), body=[*Reply.chat("Hello").body, 0.02])
    for reply in (Reply.chat("Hello"), late_end, Reply.chat("Hello"), failed(400, "x")):
        upstream.script(reply)
        with contextlib.suppress(InvalidRequestError):
            await ask(backend)
    assert upstream.connections == 1


async def test_the_end_is_told_although_the_upstream_does_not_hang_up(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    upstream.script(replace(Reply.chat("Hello"), body=[*Reply.chat("Hello").body, "stall"]))
    async with asyncio.timeout(1):
        assert (await ask(backend))[-1][-1] == Finish()


async def test_all_of_a_read_comes_in_one_list(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    upstream.script(Reply(body=[HELLO * 50, sse(chunk(finish="stop")) + DONE]))
    lists = await ask(backend)
    assert len(lists) <= 4
    assert sum(map(len, lists)) == 51


async def test_headers_of_the_configuration_are_sent(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    async with using(replace(config, headers={"X-Title": "Antiphon"}, api_key=None)) as backend:
        await ask(backend)
    assert upstream.requests[0].headers["x-title"] == "Antiphon"
    assert "authorization" not in upstream.requests[0].headers


async def test_the_configuration_says_that_the_template_opens_the_tag(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    upstream.script(Reply.chat("why</think>Hello"))
    backend = ChatCompletions(config, think="opened")
    said = [delta for deltas in await ask(backend) for delta in deltas]
    await backend.aclose()
    assert said[:2] == [ReasoningDelta("why"), TextDelta("Hello")]


def test_the_key_is_not_in_the_repr(config: UpstreamConfig) -> None:
    """R-130."""
    assert KEY not in repr(config)


# -- after the first byte ------------------------------------------------------------------------

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"

BROKEN: list[tuple[str, list[Step], bool]] = [
    ("cut", [HELLO, 0.1, "cut"], False),
    ("closed inside a chunked body", [HELLO, "close"], False),
    ("end of a body without length", [_HEAD, HELLO, "close"], True),
    ("cut inside an event", [HELLO, HELLO[:20], "close"], False),
]


@pytest.mark.parametrize(("body", "raw"), [r[1:] for r in BROKEN], ids=[r[0] for r in BROKEN])
async def test_a_stream_that_breaks_off_has_failed(
    backend: ChatCompletions, upstream: ChatUpstream, body: list[Step], raw: bool
) -> None:
    """R-45, R-52: never completed, never tried again."""
    upstream.script(Reply(body=body, raw=raw))
    with pytest.raises(UpstreamError) as caught:
        await ask(backend)
    assert caught.value.should_retry is False
    assert len(upstream.requests) == 1


async def test_what_was_said_before_the_cut_is_told(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    """R-45: partial output is kept."""
    upstream.script(Reply(body=[HELLO, 0.1, "cut"]))
    turn = backend.generate(prompt())
    assert await anext(turn) == []
    assert await anext(turn) == [TextDelta("Hello")]
    with pytest.raises(UpstreamError):
        await anext(turn)


async def test_bad_framing_inside_the_stream_ends(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    """R-45: at once, not when the idle limit is over."""
    head = _HEAD.replace(b"\r\n\r\n", b"\r\ntransfer-encoding: chunked\r\n\r\n")
    upstream.script(Reply(body=[head, 0.1, b"5\r\nhello\r\nzzz\r\n"], raw=True))
    error = await refusal(backend)
    assert (type(error), error.should_retry) == (UpstreamError, False)


async def test_after_the_finish_reason_a_cut_does_no_harm(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    upstream.script(Reply(body=[HELLO, sse(chunk(finish="length")), 0.1, "cut"]))
    assert (await ask(backend))[-1] == [Finish("length")]


async def test_after_the_finish_reason_silence_does_no_harm(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    upstream.script(Reply(body=[HELLO, sse(chunk(finish="stop")), "stall"]))
    async with using(replace(config, idle_timeout=0.2)) as backend:
        assert (await ask(backend))[-1] == [Finish()]
    assert upstream.requests[0].left.wait(2)


@pytest.mark.parametrize("body", [["stall"], [HELLO, "stall"]], ids=["silent", "after a token"])
async def test_an_idle_stream_is_given_up(
    config: UpstreamConfig, upstream: ChatUpstream, body: list[Step]
) -> None:
    """R-44."""
    upstream.script(Reply(body=body))
    async with using(replace(config, first_byte_timeout=0.3, idle_timeout=0.3)) as backend:
        with pytest.raises(UpstreamTimeout) as caught:
            await ask(backend)
    assert caught.value.should_retry is False
    assert upstream.requests[0].left.wait(2)


async def test_no_headers_in_time(config: UpstreamConfig, upstream: ChatUpstream) -> None:
    """R-44."""
    upstream.script(Reply(body=["stall"], raw=True))
    async with using(replace(config, first_byte_timeout=1.0)) as backend:
        error = await refusal(backend)
    assert type(error) is UpstreamTimeout
    assert upstream.requests[0].left.wait(2)


async def test_a_stream_that_never_ends_is_given_up(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """R-44: the total, although bytes keep coming."""
    upstream.script(Reply(body=[step for _ in range(100) for step in (HELLO, 0.05)]))
    async with using(replace(config, total_timeout=0.5)) as backend:
        with pytest.raises(UpstreamTimeout):
            await ask(backend)
    assert upstream.requests[0].left.wait(2)


async def test_a_reader_that_takes_its_time_is_no_timeout(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    upstream.script(Reply.chat("a", "b", pause=0.01))
    async with using(replace(config, idle_timeout=0.2)) as backend:
        async for _ in backend.generate(prompt()):
            await asyncio.sleep(0.4)


async def test_a_slow_reader_slows_the_upstream_down(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    """R-117: of 64 MiB only what sockets and one buffer hold is taken."""
    sent = 0

    def flood() -> Iterator[Step]:
        nonlocal sent
        event = sse(chunk(content="x" * 65_000))
        for _ in range(1_000):
            sent += len(event)
            yield event

    upstream.script(Reply(body=flood()))
    turn = backend.generate(prompt())
    await anext(turn)
    await anext(turn)
    await asyncio.sleep(0.5)
    await turn.aclose()
    assert sent < 16 << 20


# -- leaving -------------------------------------------------------------------------------------


async def test_closing_the_iterator_hangs_up(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    """R-53."""
    upstream.script(Reply(body=[HELLO, "stall"]))
    turn = backend.generate(prompt())
    assert await anext(turn) == []
    assert await anext(turn) == [TextDelta("Hello")]
    await turn.aclose()
    assert await asyncio.to_thread(upstream.requests[0].left.wait, 1)


@pytest.mark.parametrize("raw", [False, True], ids=["while streaming", "before the headers"])
async def test_cancelling_the_task_hangs_up(
    backend: ChatCompletions, upstream: ChatUpstream, raw: bool
) -> None:
    """R-53, R-54."""
    upstream.script(Reply(body=["stall"] if raw else [HELLO, "stall"], raw=raw))
    task = asyncio.create_task(ask(backend))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(upstream.requests[0].left.wait, 1)


async def test_leaving_while_waiting_for_a_retry_asks_no_more(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    """R-54."""
    upstream.script(Reply.json({}, 429, retry_after="2"))
    task = asyncio.create_task(ask(backend))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(upstream.requests) == 1


# -- models --------------------------------------------------------------------------------------


async def test_logs_of_broken_connections_have_no_headers(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """R-130."""
    upstream.script(Reply(body=[b"nonsense\r\n\r\n"], raw=True))
    async with using(replace(config, headers={"X-Api-Key": "hush"}, max_retries=0)) as backend:
        with capture_logs() as logs:
            await refusal(backend)
    assert logs
    assert "hush" not in str(logs)


async def test_models(backend: ChatCompletions, upstream: ChatUpstream) -> None:
    upstream.models = Reply.json(
        {"data": [{"id": "a", "owned_by": "vllm", "created": 5}, {"id": "b", "created": "x"}]}
    )
    assert await backend.models() == [Model("a", "vllm", 5), Model("b", "gpu-box", 0)]


@pytest.mark.parametrize(
    "reply",
    [
        failed(500, "x"),
        failed(401, "x"),
        Reply.json({"data": 5}),
        Reply.json({"data": ["a"]}),
        Reply.json([]),
        Reply(200, [b"<html>"]),
        Reply(body=["cut"], raw=True),
    ],
    ids=["500", "401", "no list", "strings", "list", "html", "cut"],
)
async def test_no_models(backend: ChatCompletions, upstream: ChatUpstream, reply: Reply) -> None:
    upstream.models = reply
    with capture_logs() as logs:
        assert await backend.models() == []
    assert logs


async def test_the_model_list_tells_the_profile(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    request = prompt(reasoning={"effort": "low"}).request
    assert backend.check(request, "m") == ["reasoning.effort"]
    upstream.models = Reply.json({"data": [{"id": "m", "owned_by": "vllm"}]})
    await backend.models()
    assert backend.check(request, "m") == []


async def test_an_error_that_comes_in_pieces_is_read_whole(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    said = b'{"error": {"message": "maximum context length is 9", "code": "x"}}'
    headers = {"content-type": "application/json"}
    upstream.script(Reply(400, [said[:25], 0.05, said[25:]], headers))
    assert isinstance(await refusal(backend), ContextLengthExceeded)


async def test_headers_of_the_configuration_come_last_and_are_not_told(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """However they are written; R-130."""
    secret = "another-secret"
    headers = {"authorization": f"Basic {secret}", "API-KEY": secret, "user-agent": "mine"}
    upstream.script(failed(401, f"not {secret}"))
    with capture_logs() as logs:
        async with using(replace(config, headers=headers)) as backend:
            await refusal(backend)
    got = upstream.requests[0].headers
    assert (got["authorization"], got["user-agent"]) == (f"Basic {secret}", "mine")
    assert logs
    assert secret not in str(logs)
