"""The backend for Gemini over real sockets: turns, refusals, counting, models, windows."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import orjson
import pytest
from structlog.testing import capture_logs

from antiphon.backends.base import Media, Model, Prompt
from antiphon.backends.gemini.backend import Gemini
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.upstream import UpstreamConfig
from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    InvalidRequestError,
    ModelNotFound,
    RateLimitError,
    UpstreamError,
    UpstreamTimeout,
)
from antiphon.protocol.deltas import (
    Delta,
    Finish,
    ReasoningDelta,
    ReasoningState,
    TextDelta,
    ToolCallDelta,
    UsageReport,
)
from antiphon.protocol.items.reasoning import restored
from antiphon.protocol.request import parse_request
from antiphon.protocol.response import Usage
from tests.backends.asking import KEY, prompt
from tests.backends.upstream import ChatUpstream, Reply
from tests.conformance.gemini import GeminiWire, error
from tests.conformance.wire import Break, Message, Refusal, Turn

WIRE = GeminiWire()
F = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
COUNT = "/v1/models/real-name:countTokens"


@contextlib.asynccontextmanager
async def using(config: UpstreamConfig) -> AsyncIterator[Gemini]:
    made = Gemini(config)
    try:
        yield made
    finally:
        await made.aclose()


@pytest.fixture
def upstream() -> Iterator[ChatUpstream]:
    with ChatUpstream(WIRE.models("real-name", "other")) as server:
        yield server


@pytest.fixture
def config(upstream: ChatUpstream) -> UpstreamConfig:
    return UpstreamConfig(
        "google",
        upstream.base_url,
        api_key=KEY,
        first_byte_timeout=5.0,
        idle_timeout=5.0,
        max_retries=0,
        breaker=BreakerSettings(failures=100),
    )


@pytest.fixture
async def backend(config: UpstreamConfig) -> AsyncIterator[Gemini]:
    async with using(config) as made:
        yield made


async def ask(backend: Gemini, asked: Prompt) -> list[Delta]:
    async with contextlib.aclosing(backend.generate(asked)) as turn:
        return [delta async for deltas in turn for delta in deltas]


async def listen(backend: Gemini, said: list[Delta]) -> None:
    """Ask, and write down what is said until something goes wrong."""
    async for deltas in backend.generate(prompt()):
        said += deltas


async def refusal(backend: Gemini, **parameters: object) -> APIError:
    with pytest.raises(APIError) as caught:
        await ask(backend, prompt(**parameters))
    return caught.value


# -- turns ---------------------------------------------------------------------------------------


async def test_a_turn(backend: Gemini, upstream: ChatUpstream) -> None:
    upstream.script(WIRE.reply(Turn(["Hel", "lo"], ["hm"], usage=(7, 2, 5, 3), pause=0.01)))
    said = await ask(backend, prompt(instructions="Be kind.", temperature=0.5))
    assert said == [
        ReasoningDelta("hm"),
        TextDelta("Hel"),
        TextDelta("lo"),
        UsageReport(Usage(7, 2, 5, 3)),
        Finish(),
    ]
    (request,) = upstream.requests
    assert request.method == "POST"
    assert request.path == "/v1/models/real-name:streamGenerateContent?alt=sse"
    asked = WIRE.asked(request)
    assert (asked.model, asked.key, asked.system) == ("real-name", KEY, "Be kind.")
    assert (asked.temperature, asked.choice, asked.schema) == (0.5, None, None)
    assert asked.messages == [Message("user", "Hi")]


async def test_a_signed_call_comes_back(backend: Gemini, upstream: ChatUpstream) -> None:
    calls: list[tuple[str, dict[str, object]]] = [("f", {"a": 1}), ("f", {"a": 2})]
    upstream.script(WIRE.reply(Turn(thoughts=["hm"], signature="c2ln", calls=calls)))
    said = await ask(backend, prompt(tools=[F]))
    (state,) = (delta.state for delta in said if isinstance(delta, ReasoningState))
    ids = [delta.call_id for delta in said if isinstance(delta, ToolCallDelta)]
    assert ids == ["fc0", "fc1"]
    asked = prompt(tools=[F])
    reasoning = {"type": "reasoning", "summary": [], "encrypted_content": "x"}
    asked.items.append(restored(reasoning, {"content": "hm", "state": state}))
    for place, (name, arguments) in enumerate(calls):
        call = {"call_id": f"fc{place}", "name": name, "arguments": orjson.dumps(arguments)}
        asked.items.append({"type": "function_call", **call})
    for place in (1, 0):
        result = {"call_id": f"fc{place}", "output": f"result {place}"}
        asked.items.append({"type": "function_call_output", **result})
    await ask(backend, asked)
    assert WIRE.asked(upstream.requests[1]).messages[1:] == [
        Message("assistant", calls=tuple(calls), signature="c2ln"),
        Message("tool", "result 0"),
        Message("tool", "result 1"),
    ]
    first, second = upstream.requests[1].json["contents"][1]["parts"]
    assert "thoughtSignature" in first
    assert "thoughtSignature" not in second
    elsewhere = Prompt(asked.request, "other", asked.items)
    await ask(backend, elsewhere)
    assert WIRE.asked(upstream.requests[2]).messages[1].signature is None


async def test_later_turns_may_see_what_is_signed_on_text(
    backend: Gemini, upstream: ChatUpstream
) -> None:
    upstream.script(WIRE.reply(Turn(["Hello"], signature="c2ln")))
    said = await ask(backend, prompt(reasoning={"context": "all_turns"}))
    assert [type(delta) for delta in said[:2]] == [TextDelta, ReasoningState]
    assert not any(isinstance(delta, ReasoningState) for delta in await ask(backend, prompt()))


async def test_a_name_is_one_segment_of_the_address(
    backend: Gemini, upstream: ChatUpstream
) -> None:
    upstream.script(WIRE.reply(Turn(["Hello"])))
    request = parse_request(b'{"model": "x", "input": "Hi"}')
    names = {
        "../files?x=1#y": "models/..%2Ffiles%3Fx=1%23y",
        "models/gemini-x": "models/gemini-x",
        "tunedModels/mine": "tunedModels/mine",
    }
    for name in names:
        await ask(backend, Prompt(request, name, list(request.input)))
    paths = [asked.path.partition(":")[0].replace("%3D", "=") for asked in upstream.requests]
    assert paths == [f"/v1/{path}" for path in names.values()]


async def test_headers_of_the_configuration_come_last(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    upstream.script(WIRE.reply(Turn(["Hello"])))
    async with using(replace(config, api_key=None, headers={"x-extra": "1"})) as backend:
        await ask(backend, prompt())
    headers = upstream.requests[0].headers
    assert headers["x-extra"] == "1"
    assert "x-goog-api-key" not in headers


# -- what goes wrong -----------------------------------------------------------------------------

REFUSALS: dict[Refusal, type[APIError]] = {
    "rate": RateLimitError,
    "overloaded": UpstreamError,
    "broken": UpstreamError,
    "key": UpstreamError,
    "forbidden": UpstreamError,
    "too_long": ContextLengthExceeded,
    "no_model": ModelNotFound,
    "refused": InvalidRequestError,
    "web_page": UpstreamError,
    "garbage": UpstreamError,
}
BREAKS: dict[Break, type[APIError]] = {
    "error": UpstreamError,
    "cut": UpstreamError,
    "early": UpstreamError,
    "stall": UpstreamTimeout,
    "noise": UpstreamError,
}


@pytest.mark.parametrize(("fault", "expected"), REFUSALS.items())
async def test_refusals(
    backend: Gemini, upstream: ChatUpstream, fault: Refusal, expected: type[APIError]
) -> None:
    """R-39 to R-43, R-46."""
    upstream.script(WIRE.fault(fault))
    with capture_logs() as logs:
        raised = await refusal(backend)
    assert type(raised) is expected
    assert "SECRET" not in raised.message
    assert any("SECRET" in line["detail"] for line in logs) is (fault != "garbage")
    if fault == "rate":
        assert raised.retry_after == 1.0
    if fault == "no_model":
        assert "'alias'" in raised.message
    alarmed = [line["log_level"] == "error" for line in logs]
    assert any(alarmed) is (fault in ("key", "forbidden")), "R-41"


@pytest.mark.parametrize(("fault", "expected"), BREAKS.items())
async def test_broken_streams(
    config: UpstreamConfig, upstream: ChatUpstream, fault: Break, expected: type[APIError]
) -> None:
    """R-44, R-45, R-52."""
    upstream.script(WIRE.fault(fault))
    said: list[Delta] = []
    async with using(replace(config, idle_timeout=0.2)) as backend:
        with pytest.raises(APIError) as caught:
            await listen(backend, said)
    assert said == [TextDelta("Hel")]
    assert type(caught.value) is expected
    assert caught.value.should_retry is False


async def test_a_short_wait_is_waited_for(config: UpstreamConfig, upstream: ChatUpstream) -> None:
    """R-39: the body says how long."""
    upstream.script(WIRE.fault("rate"), WIRE.reply(Turn(["Hello"])))
    async with using(replace(config, max_retries=1)) as backend:
        assert TextDelta("Hello") in await ask(backend, prompt())
    first, second = upstream.requests
    assert second.at - first.at > 0.9


async def test_a_header_says_better_how_long_to_wait(
    backend: Gemini, upstream: ChatUpstream
) -> None:
    body = error(429, "RESOURCE_EXHAUSTED", "x", [{"retryDelay": "17s"}])
    upstream.script(Reply.json(body, 429, retry_after="5"), Reply.json(body, 429))
    assert (await refusal(backend)).retry_after == 5.0
    assert (await refusal(backend)).retry_after == 17.0


async def test_a_blocked_prompt(backend: Gemini, upstream: ChatUpstream) -> None:
    feedback = {"promptFeedback": {"blockReason": "SAFETY"}}
    upstream.script(Reply(body=[b"data: " + orjson.dumps(feedback) + b"\n\n"]))
    raised = await refusal(backend)
    assert type(raised) is InvalidRequestError
    assert raised.param == "input"


# -- counting, models, windows -------------------------------------------------------------------


async def test_counting(backend: Gemini, upstream: ChatUpstream) -> None:
    upstream.paths[COUNT] = Reply.json({"totalTokens": 31})
    assert await backend.count(prompt(instructions="Be kind.", tools=[F])) == 31
    asked = upstream.requests[0].json["generateContentRequest"]
    assert asked["model"] == "models/real-name"
    assert asked["systemInstruction"] == {"parts": [{"text": "Be kind."}]}
    assert asked["contents"] == [{"role": "user", "parts": [{"text": "Hi"}]}]
    heavy = prompt(input="x" * 1_200_000)
    assert await backend.count(heavy) == 31, "in a thread, and not in one piece"
    image = {"type": "input_image", "image_url": "https://x.example/a.png"}
    with capture_logs():
        assert await backend.count(prompt(input=[{"role": "user", "content": [image]}])) is None


@pytest.mark.parametrize("body", [{"totalTokens": "many"}, {}, []])
async def test_a_count_that_is_none(backend: Gemini, upstream: ChatUpstream, body: object) -> None:
    upstream.paths[COUNT] = Reply.json(body)
    with capture_logs():
        assert await backend.count(prompt()) is None


async def test_who_does_not_count_is_left_in_peace(backend: Gemini, upstream: ChatUpstream) -> None:
    for status, asked in ((400, 2), (404, 1)):
        upstream.requests.clear()
        upstream.paths[COUNT] = Reply.json(error(status, "X", "SECRET"), status)
        with capture_logs() as logs:
            assert await backend.count(prompt()) is None
            assert await backend.count(prompt()) is None
        assert len(upstream.requests) == asked
        assert logs[0]["event"] == "upstream_count_failed"


async def test_models_and_windows(backend: Gemini, upstream: ChatUpstream) -> None:
    embedder = {"name": "models/e", "supportedGenerationMethods": ["embedContent"]}
    rows = [
        {"name": "models/real-name", "inputTokenLimit": 1000},
        {"name": "tunedModels/mine", "supportedGenerationMethods": ["generateContent"]},
        embedder,
    ]
    upstream.models = Reply.json({"models": rows})
    assert await backend.models() == [
        Model("real-name", "google", context_window=1000),
        Model("tunedModels/mine", "google"),
    ]
    assert await backend.window("real-name") == 1000
    assert await backend.window("models/real-name") == 1000
    assert await backend.window("unknown") is None


async def test_a_list_of_several_pages(backend: Gemini, upstream: ChatUpstream) -> None:
    page = {"models": [{"name": "models/a"}], "nextPageToken": "a/b"}
    upstream.models = Reply.json(page)
    assert len(await backend.models()) == 10, "a list without end has one"
    assert upstream.listed == 10


@pytest.mark.parametrize("body", [[], {}, {"models": [5]}, {"models": [{}]}])
async def test_a_list_that_is_none(backend: Gemini, upstream: ChatUpstream, body: object) -> None:
    upstream.models = Reply.json(body)
    with capture_logs() as logs:
        assert await backend.models() == []
    assert logs[0]["event"] == "upstream_models_unknown"


async def test_a_configured_window(config: UpstreamConfig, upstream: ChatUpstream) -> None:
    async with using(replace(config, windows={"*": 500})) as backend:
        assert await backend.window("real-name") == 500
    assert upstream.listed == 0


async def test_media(config: UpstreamConfig) -> None:
    pdf = frozenset({"application/pdf"})
    async with using(config) as backend:
        assert backend.media("m") == Media(pdf, image_urls=False, made=True)
    async with using(replace(config, vision=[])) as backend:
        assert backend.media("m") == Media(pdf, image_urls=False, made=False)


async def test_what_is_dropped_depends_on_the_model_at_the_upstream(
    config: UpstreamConfig,
) -> None:
    asked = prompt(reasoning={"effort": "none"}).request
    for upstream_name, dropped in (
        ("gemini-2.5-flash", []),
        ("gemini-2.5-pro", ["reasoning.effort"]),
    ):
        assert Gemini(config).check(asked, upstream_name) == dropped
