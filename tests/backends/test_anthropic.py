"""The backend of the Messages API over real sockets: turns, failures, models, windows, counts."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from structlog.testing import capture_logs

from antiphon.app.backends import backends_of
from antiphon.backends.anthropic.backend import Anthropic
from antiphon.backends.base import Backend, Media, Model
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.upstream import UpstreamConfig
from antiphon.config import ConfigError, load_config
from antiphon.errors import (
    APIError,
    ContextLengthExceeded,
    InvalidRequestError,
    ModelNotFound,
    RateLimitError,
    UpstreamError,
    UpstreamTimeout,
)
from antiphon.protocol.deltas import Finish, ReasoningDelta, TextDelta, ToolCallDelta, UsageReport
from antiphon.protocol.response import Usage
from antiphon.settings import Settings
from tests.backends.asking import KEY, ask, prompt, refusal
from tests.backends.upstream import ChatUpstream, Reply
from tests.conformance.anthropic import SECRET, AnthropicWire, start, text
from tests.conformance.wire import Break, Refusal, Turn

WIRE = AnthropicWire()


@contextlib.asynccontextmanager
async def using(config: UpstreamConfig) -> AsyncIterator[Anthropic]:
    made = Anthropic(config)
    try:
        yield made
    finally:
        await made.aclose()


@pytest.fixture
def settings(upstream: ChatUpstream) -> UpstreamConfig:
    return UpstreamConfig(
        "claude",
        upstream.base_url,
        api_key=KEY,
        first_byte_timeout=5.0,
        idle_timeout=0.5,
        retry_wait=0.01,
        breaker=BreakerSettings(failures=100),
        profile="claude-sonnet-4-6",
    )


@pytest.fixture
async def claude(settings: UpstreamConfig) -> AsyncIterator[Anthropic]:
    async with using(settings) as made:
        yield made


async def test_a_turn(claude: Anthropic, upstream: ChatUpstream) -> None:
    turn = Turn(text=["Hel", "lo"], thoughts=["hm"], calls=[("f", {"x": 1})], usage=(9, 4, 6, 2))
    upstream.script(WIRE.reply(turn))
    first, *rest = await ask(claude, instructions="Be kind.", reasoning={"effort": "low"})
    assert first == [], "the upstream has accepted the prompt"
    said = [delta for deltas in rest for delta in deltas]
    assert [d.text for d in said if isinstance(d, ReasoningDelta)] == ["hm"]
    assert [d.text for d in said if isinstance(d, TextDelta)] == ["Hel", "lo"]
    calls = [d for d in said if isinstance(d, ToolCallDelta)]
    assert "".join(d.arguments for d in calls) == '{"x":1}'
    assert said[-2:] == [UsageReport(Usage(9, 4, 6, 2)), Finish()]
    (request,) = upstream.requests
    assert (request.method, request.path) == ("POST", "/v1/messages")
    assert request.headers["x-api-key"] == KEY
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert "authorization" not in request.headers
    asked = WIRE.asked(request)
    assert (asked.model, asked.system, asked.most_tokens) == ("real-name", "Be kind.", 64_000)
    assert request.json["stream"] is True


async def test_headers_of_the_configuration_come_last(
    settings: UpstreamConfig, upstream: ChatUpstream
) -> None:
    upstream.script(WIRE.reply(Turn(text=["Hi"])))
    headers = {"anthropic-version": "2026-10-21", "authorization": "Bearer x"}
    async with using(replace(settings, headers=headers, api_key=None)) as claude:
        await ask(claude)
    assert upstream.requests[0].headers["anthropic-version"] == "2026-10-21"
    assert upstream.requests[0].headers["authorization"] == "Bearer x"
    assert "x-api-key" not in upstream.requests[0].headers


REFUSED: dict[Refusal, tuple[type[APIError], int]] = {
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
async def test_refusals(claude: Anthropic, upstream: ChatUpstream, fault: Refusal) -> None:
    """R-39 to R-43, R-46."""
    upstream.script(WIRE.fault(fault))
    with capture_logs() as logs:
        error = await refusal(claude)
    expected, times = REFUSED[fault]
    assert type(error) is expected
    assert len(upstream.requests) == times
    assert SECRET not in error.message
    assert logs
    assert KEY not in str(logs)
    assert error.retry_after == (1.0 if fault == "rate" else None)


@pytest.mark.parametrize("fault", get_args(Break))
async def test_broken_streams(claude: Anthropic, upstream: ChatUpstream, fault: Break) -> None:
    """R-44, R-45: what was said stays, and it has failed."""
    upstream.script(WIRE.fault(fault))
    said: list[object] = []
    error: APIError | None = None
    try:
        async for deltas in claude.generate(prompt()):
            said += deltas
    except APIError as raised:
        error = raised
    assert said == [TextDelta("Hel")]
    assert error is not None
    assert type(error) is (UpstreamTimeout if fault == "stall" else UpstreamError)
    assert error.should_retry is False
    assert SECRET not in error.message
    assert len(upstream.requests) == 1


async def test_the_wire_says_what_can_be_said(claude: Anthropic, upstream: ChatUpstream) -> None:
    for finish, reason in (("length", "length"), ("filter", "content_filter"), ("stop", "stop")):
        upstream.script(WIRE.reply(Turn(text=["a"], finish=finish)))  # type: ignore[arg-type]
        assert (await ask(claude))[-1][-1] == Finish(reason)  # type: ignore[arg-type]


# -- models, windows, counts ---------------------------------------------------------------------


async def test_models_come_in_pages(claude: Anthropic, upstream: ChatUpstream) -> None:
    row = {"type": "model", "id": "a", "created_at": "1970-01-01T00:00:05Z"}
    upstream.models = Reply.json({"data": [row], "has_more": True, "last_id": "a"})
    upstream.paths["/v1/models?limit=1000&after_id=a"] = Reply.json(
        {
            "data": [{"id": "b", "max_input_tokens": 9, "created_at": "x"}, {"id": "c"}],
            "has_more": False,
        }
    )
    assert await claude.models() == [
        Model("a", "claude", 5),
        Model("b", "claude", 0, 9),
        Model("c", "claude", 0),
    ]


@pytest.mark.parametrize(
    "reply",
    [
        Reply.json({}, 500),
        Reply.json([]),
        Reply.json({"data": ["a"]}),
        Reply.json({"data": [], "has_more": True}),
        Reply(200, [b"<html>"]),
    ],
    ids=["500", "list", "strings", "no next page", "html"],
)
async def test_no_models(claude: Anthropic, upstream: ChatUpstream, reply: Reply) -> None:
    upstream.models = reply
    with capture_logs() as logs:
        assert await claude.models() == []
    assert logs


async def test_lists_end(claude: Anthropic, upstream: ChatUpstream) -> None:
    page = Reply.json({"data": [], "has_more": True, "last_id": "a"})
    upstream.models = page
    upstream.paths["/v1/models?limit=1000&after_id=a"] = page
    assert await claude.models() == []
    assert upstream.listed + len(upstream.requests) == 10


async def test_windows(settings: UpstreamConfig, upstream: ChatUpstream) -> None:
    upstream.models = Reply.json({"data": [{"id": "claude-opus-5", "max_input_tokens": 77}]})
    async with using(replace(settings, windows={"mine": 5}, profile=None)) as claude:
        assert await claude.window("mine") == 5
        assert await claude.window("claude-opus-5") == 77
        assert await claude.window("claude-sonnet-4-5") == 200_000
        assert await claude.window("kimi") is None


async def test_counting(claude: Anthropic, upstream: ChatUpstream) -> None:
    upstream.paths["/v1/messages/count_tokens"] = Reply.json({"input_tokens": 42})
    assert await claude.count(prompt(instructions="Be kind.", temperature=0.5)) == 42
    (request,) = upstream.requests
    assert request.json.keys() == {"model", "messages", "system"}


@pytest.mark.parametrize(
    ("reply", "asked"),
    [
        (Reply.json({}, 404), 1),
        (Reply(body=["cut"], raw=True), 1),
        (Reply.json({"error": "x"}, 400), 2),
        (Reply.json({"input_tokens": "x"}), 2),
        (Reply.json([]), 2),
        (Reply(200, [b"<html>"]), 2),
    ],
    ids=["missing", "cut", "refused", "no number", "list", "html"],
)
async def test_counting_is_a_courtesy(
    claude: Anthropic, upstream: ChatUpstream, reply: Reply, asked: int
) -> None:
    upstream.paths["/v1/messages/count_tokens"] = reply
    with capture_logs() as logs:
        assert await claude.count(prompt()) is None
        assert await claude.count(prompt()) is None
    assert logs
    assert len(upstream.requests) == asked


async def test_what_cannot_be_sent_is_not_counted(
    claude: Anthropic, upstream: ChatUpstream
) -> None:
    sound = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
    with capture_logs():
        assert await claude.count(prompt(input=[{"role": "user", "content": [sound]}])) is None
    assert upstream.requests == []


# -- configuration -------------------------------------------------------------------------------


async def test_a_model_is_what_its_name_at_the_upstream_says(settings: UpstreamConfig) -> None:
    async with contextlib.aclosing(Anthropic(replace(settings, profile=None))) as claude:
        request = prompt(temperature=0.5).request
        assert claude.check(request, "claude-opus-5") == ["temperature"]
        assert claude.check(request, "kimi") == []


async def test_media(settings: UpstreamConfig) -> None:
    async with using(replace(settings, profile=None, vision=["kimi-vl"])) as claude:
        media = claude.media("claude-opus-5")
        assert media == Media(
            frozenset({"application/pdf"}), image_urls=True, made=False, plain_http=False
        )
        kimi = Media(frozenset(), image_urls=False, made=True, schemas=False, plain_http=False)
        assert claude.media("kimi-vl") == kimi
    async with using(replace(settings, profile=None)) as claude:
        assert claude.media("claude-opus-5").made
        assert not claude.media("kimi").made
    async with using(replace(settings, profile=None, json_schema=["kimi"])) as claude:
        assert claude.media("kimi").schemas
        assert not claude.media("claude-opus-5").schemas


def test_the_key_is_not_in_the_repr(settings: UpstreamConfig) -> None:
    """R-130."""
    assert KEY not in repr(settings)


def configured(folder: Path, text: str) -> list[Backend]:
    path = folder / "antiphon.toml"
    path.write_text(f'[[backends]]\nname = "claude"\nkind = "anthropic"\n{text}', encoding="utf-8")
    table = backends_of(Settings(_env_file=None, discover=False), load_config(path))
    return [backend for backend, _ in table]


async def test_anthropic_needs_a_key_and_no_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_KEY", "k")
    backend, *_ = configured(tmp_path, 'api_key_env = "CLAUDE_KEY"\nprofile = "claude-opus-5"')
    assert isinstance(backend, Anthropic)
    assert backend._messages_url == "https://api.anthropic.com/v1/messages"
    backend, *_ = configured(tmp_path, 'base_url = "http://127.0.0.1:1/v1"')
    assert backend.name == "claude"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "needs an api_key_env"),
        ('api_key_env = "NO_SUCH_KEY"', "NO_SUCH_KEY is not set"),
        ('base_url = "http://h/v1"\nprofile = "vllm"', "no profile 'vllm'"),
    ],
)
def test_what_is_missing_is_said_at_the_start(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        configured(tmp_path, text)


async def test_a_cut_after_the_reason_does_no_harm(
    claude: Anthropic, upstream: ChatUpstream
) -> None:
    whole = list(WIRE.reply(Turn(text=["a"])).body)
    upstream.script(Reply(body=[*whole[:-1], 0.1, "cut"]))
    assert (await ask(claude))[-1][-1] == Finish()
    upstream.script(Reply(body=[start(), *text(0, "a"), "close"]))
    assert (await refusal(claude)).should_retry is False
