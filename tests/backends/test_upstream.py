"""What all adapters have in common: how calls end, one deadline, places (R-40, R-44, R-50)."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from antiphon.backends.base import Relayed
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.upstream import UpstreamConfig
from antiphon.errors import APIError, Overloaded, UpstreamError
from tests.backends.asking import ask, refusal, using
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
