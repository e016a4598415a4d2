"""What all adapters have in common: how calls end, one deadline, places (R-40, R-44, R-50)."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from antiphon.backends import upstream as module
from antiphon.backends.base import Relayed
from antiphon.backends.idle import IdleTimer
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.upstream import UpstreamConfig
from antiphon.errors import APIError, Overloaded, RateLimitError, UpstreamError
from tests.backends.asking import ask, prompt, refusal, using
from tests.backends.upstream import ChatUpstream, Reply, chunk, sse

HELLO = sse(chunk(content="Hello"))
ANSWERS = {
    "whole": (Reply.chat("Hello"), "ok"),
    "cut": (Reply(body=[HELLO, "cut"]), "failed"),
    "an early end": (Reply(body=[HELLO]), "failed"),
    "garbage": (Reply(body=[HELLO, b"data: {nonsense\n\n"]), "failed"),
    "a web page": (Reply(200, [b"<html>"], {"content-type": "text/html"}), "failed"),
    "silence": (Reply(body=[HELLO, "stall"]), "late"),
    "its own error": (Reply(body=[sse({"error": {"message": "x", "code": 500}})]), "failed"),
    "a refusal": (Reply(body=[sse({"error": {"message": "x", "code": 400}})]), "refused"),
    "too many": (Reply(body=[sse({"error": {"message": "x", "code": 429}})]), "limited"),
    "too long": (
        Reply(body=[sse({"error": {"message": "x", "code": "context_length_exceeded"}})]),
        "refused",
    ),
}


@pytest.mark.parametrize(("reply", "outcome"), ANSWERS.values(), ids=ANSWERS)
async def test_every_call_has_one_outcome(
    config: UpstreamConfig, upstream: ChatUpstream, reply: Reply, outcome: str
) -> None:
    """R-138; what it failed to do opens its breaker, what it said of a request does not (R-50)."""
    upstream.script(reply)
    settings = BreakerSettings(failures=1)
    async with using(replace(config, idle_timeout=0.3, breaker=settings)) as backend:
        with contextlib.suppress(APIError):
            await ask(backend)
        health = backend.health()
    assert {how: n for how, n in health.outcomes.items() if n} == {outcome: 1}
    assert health.is_resting is (outcome in ("failed", "late"))


@pytest.mark.parametrize(("end", "outcome"), [("cut", "failed"), ("stall", "late")])
async def test_what_is_passed_on_has_one_outcome(
    config: UpstreamConfig, upstream: ChatUpstream, end: Any, outcome: str
) -> None:
    upstream.script(Reply(body=[HELLO, end]))
    async with using(replace(config, idle_timeout=0.3)) as backend:
        answer = backend.relay("/chat/completions", Relayed(b"{}", "m"))
        with pytest.raises(APIError):
            async for _ in answer:
                pass
        outcomes = backend.health().outcomes
    assert {how: n for how, n in outcomes.items() if n} == {outcome: 1}


async def test_a_refusal_whose_body_does_not_come_is_that_refusal(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """R-39."""
    json = {"content-type": "application/json"}
    upstream.script(Reply(429, [b"{", "stall"], json | {"retry-after": "7"}))
    async with using(replace(config, idle_timeout=0.3)) as backend:
        with pytest.raises(RateLimitError) as caught:
            await ask(backend)
    assert caught.value.retry_after == 7


async def test_who_breaks_off_is_the_upstream(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """Its breaker opens for others, too (R-45, R-50)."""
    upstream.script(Reply(body=[HELLO, "cut"]))
    async with using(replace(config, breaker=BreakerSettings(failures=2))) as backend:
        for _ in range(2):
            with pytest.raises(UpstreamError):
                await ask(backend)
        assert type(await refusal(backend)) is Overloaded


# -- one deadline --------------------------------------------------------------------------------


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the first bytes of answers were given, in the order of the answers."""
    given: list[float] = []

    class Noting(IdleTimer):
        def __init__(self, limit: float, expire: Callable[[], object], until: float) -> None:
            given.append(limit)
            super().__init__(limit, expire, until)

    monkeypatch.setattr(module, "IdleTimer", Noting)
    return given


async def test_the_first_byte_has_what_the_head_has_left(
    config: UpstreamConfig, upstream: ChatUpstream, limits: list[float]
) -> None:
    """R-44: one limit for both."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    upstream.script(Reply(body=[0.4, head, *Reply.chat("Hello").body], raw=True))
    async with using(replace(config, first_byte_timeout=20.0)) as backend:
        await ask(backend)
    assert 0 < limits[0] <= 19.7


async def test_who_waited_for_a_place_has_less_time(
    config: UpstreamConfig, upstream: ChatUpstream, limits: list[float]
) -> None:
    upstream.script(Reply(body=[HELLO, "stall"]), Reply.chat("Hello"))
    async with using(replace(config, first_byte_timeout=20.0, max_concurrency=1)) as backend:
        first = backend.generate(prompt())
        await anext(first)
        second = asyncio.create_task(ask(backend))
        await asyncio.sleep(0.4)
        assert len(upstream.requests) == 1
        await first.aclose()
        await second
    assert limits[-1] <= 19.7


async def test_there_is_time_left_for_the_answer_of_who_waited(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """A place is waited for during half of the limit; the upstream is not to blame (R-50)."""
    upstream.script(Reply(body=[HELLO, "stall"]))
    changed = replace(config, first_byte_timeout=2.0, max_concurrency=1)
    async with using(replace(changed, breaker=BreakerSettings(failures=1))) as backend:
        async with contextlib.aclosing(backend.generate(prompt())) as first:
            await anext(first)
            began = time.monotonic()
            assert type(await refusal(backend)) is Overloaded
            assert 0.9 < time.monotonic() - began < 2.0
        assert not backend.health().is_resting
    assert len(upstream.requests) == 1


# -- what is passed on ---------------------------------------------------------------------------


async def test_what_is_not_streamed_comes_when_all_is_said(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    upstream.script(Reply(body=[0.6, head], raw=True))
    async with using(replace(config, first_byte_timeout=0.2)) as backend:
        whole = backend.relay("/chat/completions", Relayed(b"{}", "m"))
        assert [piece async for piece in whole] == [b"application/json", b"{}"]
        streamed = backend.relay("/chat/completions", Relayed(b"{}", "m", is_streamed=True))
        with pytest.raises(APIError):
            await anext(streamed)


@pytest.mark.parametrize(("soon", "tries"), [(60.0, 3), (0.1, 1)])
async def test_long_work_is_not_done_twice(
    config: UpstreamConfig,
    upstream: ChatUpstream,
    monkeypatch: pytest.MonkeyPatch,
    soon: float,
    tries: int,
) -> None:
    """A gateway that gives up after a minute, say: the model had worked all the time."""
    monkeypatch.setattr(module, "_SOON", soon)
    late = b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\n\r\n"
    upstream.script(Reply(body=[0.3, late], raw=True))
    async with using(replace(config, retry_wait=0.01)) as backend:
        with pytest.raises(APIError):
            await anext(backend.relay("/chat/completions", Relayed(b"{}", "m")))
    assert len(upstream.requests) == tries


async def test_a_connection_that_was_closed_is_made_again(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """R-40: also for what is not streamed."""
    upstream.script(Reply(body=["cut"], raw=True), Reply.json({}))
    async with using(replace(config, retry_wait=0.01)) as backend:
        answer = backend.relay("/chat/completions", Relayed(b"{}", "m"))
        assert [piece async for piece in answer] == [b"application/json", b"{}"]
