"""The backend for Responses servers over real sockets: turns, faults, counting, models."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, get_args

import pytest
from structlog.testing import capture_logs

from antiphon.backends.base import Media, Model
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.responses.backend import Responses
from antiphon.backends.upstream import UpstreamConfig
from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    InvalidRequestError,
    ModelNotFound,
    Overloaded,
    RateLimitError,
    UpstreamError,
    UpstreamTimeout,
)
from antiphon.protocol.deltas import Delta, Finish, ReasoningDelta, TextDelta, ToolCallDelta
from tests.backends.asking import KEY, prompt
from tests.backends.upstream import ChatUpstream, Reply
from tests.conformance.responses import ResponsesWire, response
from tests.conformance.wire import Break, Refusal, Turn

WIRE = ResponsesWire()
COUNT = "/v1/responses/input_tokens"
HELLO: dict[str, Any] = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Hello"}],
}


@pytest.fixture
def settings(upstream: ChatUpstream) -> UpstreamConfig:
    return UpstreamConfig(
        "up",
        upstream.base_url,
        api_key=KEY,
        profile="openai",
        first_byte_timeout=5.0,
        idle_timeout=0.5,
        retry_wait=0.01,
        breaker=BreakerSettings(failures=100),
    )


@contextlib.asynccontextmanager
async def using(config: UpstreamConfig) -> AsyncIterator[Responses]:
    made = Responses(config)
    try:
        yield made
    finally:
        await made.aclose()


@pytest.fixture
async def responses(settings: UpstreamConfig) -> AsyncIterator[Responses]:
    async with using(settings) as made:
        yield made


async def ask(backend: Responses, **parameters: object) -> list[list[Delta]]:
    async with contextlib.aclosing(backend.generate(prompt(**parameters))) as turn:
        return [deltas async for deltas in turn]


async def listen(backend: Responses, said: list[Delta]) -> None:
    """A turn, of which `said` has all that came before it broke."""
    async with contextlib.aclosing(backend.generate(prompt())) as turn:
        async for deltas in turn:
            said += deltas


async def test_a_turn(responses: Responses, upstream: ChatUpstream) -> None:
    turn = Turn(["Hel", "lo"], ["hm"], calls=[("f", {"a": 1})], usage=(7, 1, 5, 2))
    upstream.script(WIRE.reply(turn))
    first, *rest = await ask(responses, instructions="Be kind.", temperature=0.5)
    assert first == [], "the upstream has accepted the prompt"
    said = [delta for deltas in rest for delta in deltas]
    assert [d.text for d in said if isinstance(d, ReasoningDelta)] == ["hm"]
    assert [d.text for d in said if isinstance(d, TextDelta)] == ["Hel", "lo"]
    assert [d.name for d in said if isinstance(d, ToolCallDelta) and d.name] == ["f"]
    assert said[-1] == Finish()
    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", "/v1/responses")
    asked = WIRE.asked(request)
    assert (asked.model, asked.system, asked.key) == ("real-name", "Be kind.", KEY)
    assert asked.temperature == 0.5
    assert [(m.role, m.text) for m in asked.messages] == [("user", "Hi")]
    assert request.json["include"] == ["reasoning.encrypted_content"]
    assert request.json["store"] is False


async def test_an_upstream_that_does_not_stream(
    responses: Responses, upstream: ChatUpstream
) -> None:
    upstream.script(Reply.json(response("completed", [HELLO])))
    assert await ask(responses) == [[TextDelta("Hello"), Finish()]]


async def test_headers_of_the_configuration_are_the_key(
    settings: UpstreamConfig, upstream: ChatUpstream
) -> None:
    """Azure wants its own header."""
    upstream.script(WIRE.reply(Turn(["Hello"])))
    async with using(replace(settings, api_key=None, headers={"api-key": "azure"})) as backend:
        await ask(backend)
    assert upstream.requests[0].headers["api-key"] == "azure"
    assert "authorization" not in upstream.requests[0].headers


REFUSALS: dict[Refusal, tuple[type[APIError], int]] = {
    "rate": (RateLimitError, 3),
    "overloaded": (UpstreamError, 3),
    "broken": (UpstreamError, 3),
    "key": (UpstreamError, 1),
    "forbidden": (UpstreamError, 1),
    "too_long": (ContextLengthExceeded, 1),
    "no_model": (ModelNotFound, 1),
    "refused": (InvalidRequestError, 1),
    "web_page": (UpstreamError, 1),
    "garbage": (UpstreamError, 1),
}


@pytest.mark.parametrize("fault", get_args(Refusal))
async def test_refusals(responses: Responses, upstream: ChatUpstream, fault: Refusal) -> None:
    """R-39 to R-43, R-46: tried again where that may help, told in our own words."""
    upstream.script(WIRE.fault(fault))
    kind, tries = REFUSALS[fault]
    with capture_logs() as logs, pytest.raises(APIError) as caught:
        await ask(responses)
    assert type(caught.value) is kind
    assert "SECRET" not in caught.value.message
    assert "SECRET" in str(logs), "the operator can find the cause"
    assert KEY not in str(logs)
    assert len(upstream.requests) == tries
    if fault == "rate":
        assert caught.value.retry_after == 1


@pytest.mark.parametrize("fault", get_args(Break))
async def test_breaks(responses: Responses, upstream: ChatUpstream, fault: Break) -> None:
    """R-44, R-45, R-52: what was said is told, never completed, never tried again."""
    upstream.script(WIRE.fault(fault))
    said: list[Delta] = []
    with pytest.raises(APIError) as caught:
        await listen(responses, said)
    assert type(caught.value) is (UpstreamTimeout if fault == "stall" else UpstreamError)
    assert caught.value.should_retry is False
    assert said == [TextDelta("Hel")]
    assert len(upstream.requests) == 1


async def test_the_breaker_is_that_of_all(settings: UpstreamConfig, upstream: ChatUpstream) -> None:
    """R-50."""
    upstream.script(WIRE.fault("broken"))
    breaker = BreakerSettings(failures=1)
    async with using(replace(settings, breaker=breaker, max_retries=0)) as backend:
        with pytest.raises(UpstreamError):
            await ask(backend)
        with pytest.raises(Overloaded):
            await ask(backend)
    assert len(upstream.requests) == 1


# -- counting ------------------------------------------------------------------------------------


async def test_tokens_are_counted_by_openai(responses: Responses, upstream: ChatUpstream) -> None:
    upstream.paths[COUNT] = Reply.json({"object": "response.input_tokens", "input_tokens": 11})
    assert await responses.count(prompt(instructions="Be kind.", temperature=0.5)) == 11
    (request,) = upstream.requests
    assert request.json.keys() == {"model", "instructions", "input"}
    assert await responses.count(prompt(input="x" * 200_000)) == 11, "made in a thread"


async def test_others_do_not_count(settings: UpstreamConfig, upstream: ChatUpstream) -> None:
    async with using(replace(settings, profile="vllm")) as backend:
        assert await backend.count(prompt()) is None
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("reply", "asked"),
    [
        (Reply.json({}, 404), 1),
        (Reply.json({}, 500), 1),
        (Reply.json({"input_tokens": "5"}), 1),
        (Reply.json({"input_tokens": True}), 1),
        (Reply.json([]), 1),
        (Reply(200, [b"<html>"]), 1),
        (Reply(body=["cut"], raw=True), 1),
        (Reply.json({}, 400), 2),
    ],
    ids=["404", "500", "text", "bool", "list", "html", "cut", "400"],
)
async def test_who_cannot_count_is_left_in_peace(
    responses: Responses, upstream: ChatUpstream, reply: Reply, asked: int
) -> None:
    """What is wrong with one prompt says nothing about the next one."""
    upstream.paths[COUNT] = reply
    with capture_logs() as logs:
        assert await responses.count(prompt()) is None
        assert await responses.count(prompt()) is None
    assert len(upstream.requests) == asked
    assert {log["event"] for log in logs} == {"upstream_count_failed"}


async def test_a_count_that_takes_too_long(
    responses: Responses, upstream: ChatUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.backends.responses.counting.DEADLINE", 0.1)
    upstream.paths[COUNT] = Reply(body=["stall"])
    with capture_logs() as logs:
        assert await responses.count(prompt()) is None
    assert "not asked again" in str(logs)


async def test_what_cannot_be_sent_is_not_counted(
    responses: Responses, upstream: ChatUpstream
) -> None:
    image = {"type": "input_image", "file_id": "file-1"}
    message = {"role": "user", "content": [image]}
    with capture_logs():
        assert await responses.count(prompt(input=[message])) is None
    assert upstream.requests == []


# -- models --------------------------------------------------------------------------------------


async def test_models(responses: Responses, upstream: ChatUpstream) -> None:
    upstream.models = WIRE.models("a", "b")
    assert await responses.models() == [Model("a", "openai", 1), Model("b", "openai", 1)]


@pytest.mark.parametrize(
    "reply",
    [Reply.json({}, 401), Reply.json({"data": 5}), Reply.json({"data": ["a"]}), Reply.json([])],
    ids=["401", "no list", "strings", "list"],
)
async def test_no_models(responses: Responses, upstream: ChatUpstream, reply: Reply) -> None:
    upstream.models = reply
    with capture_logs() as logs:
        assert await responses.models() == []
    assert logs


async def test_the_model_list_tells_dialect_and_window(
    settings: UpstreamConfig, upstream: ChatUpstream
) -> None:
    request = prompt(reasoning={"effort": "max"}).request
    row = {"id": "m", "owned_by": "vllm", "max_model_len": 4096}
    upstream.models = Reply.json({"data": [row, {"id": "n", "created": "x"}]})
    async with using(replace(settings, profile=None, windows={"n": 100})) as backend:
        assert backend.check(request, "m") == []
        assert await backend.window("n") == 100
        assert await backend.window("m") == 4096
        assert await backend.window("o") is None
        assert backend.check(request, "m") == ["reasoning.effort"]


async def test_openai_lists_no_windows(responses: Responses, upstream: ChatUpstream) -> None:
    assert await responses.window("gpt-5") is None
    assert upstream.listed == 0


async def test_media(settings: UpstreamConfig) -> None:
    pdf = frozenset({"application/pdf"})
    async with using(replace(settings, vision=["see-*"])) as backend:
        assert backend.media("see-1") == Media(pdf, image_urls=True, made=True)
        assert backend.media("blind") == Media(pdf, image_urls=True, made=False)
    async with using(replace(settings, profile="ollama")) as backend:
        assert backend.media("m") == Media(image_urls=False)


def test_the_key_is_not_in_the_repr(settings: UpstreamConfig) -> None:
    """R-130."""
    assert KEY not in repr(settings)
