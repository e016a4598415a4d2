"""Counting with the tokenizer of the upstream, and its context windows, over real sockets.

vLLM: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html (Tokenizer API);
llama.cpp: ``tools/server/README.md`` (``/tokenize``, ``/apply-template``, ``input_tokens``).
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from antiphon.backends import catalog
from antiphon.backends.base import Model, Prompt
from antiphon.backends.catalog import Catalog, window_of
from antiphon.backends.chat_completions import tokenize
from antiphon.backends.chat_completions.backend import ChatCompletions
from antiphon.backends.profiles import GENERIC, PROFILES
from antiphon.backends.resilience import BreakerSettings
from antiphon.backends.upstream import UpstreamConfig
from antiphon.backends.windows import configured_window
from tests.backends.asking import ask, failed, prompt, using
from tests.backends.upstream import ChatUpstream, Reply, Step

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "auto"}
MISSING = failed(404, "no such thing")
VLLM = {"count": 17, "max_model_len": 4096, "tokens": list(range(17)), "token_strs": None}
HTML = Reply(200, [b"<html>hello</html>"], {"content-type": "text/html"})


@pytest.fixture(params=["vllm", "llama.cpp"])
async def counter(
    request: pytest.FixtureRequest, config: UpstreamConfig
) -> AsyncIterator[ChatCompletions]:
    """A backend of each kind that counts."""
    async with using(replace(config, profile=request.param)) as made:
        yield made


@pytest.fixture
async def vllm(config: UpstreamConfig) -> AsyncIterator[ChatCompletions]:
    breaker = BreakerSettings(failures=1)
    async with using(replace(config, profile="vllm", breaker=breaker)) as made:
        yield made


@pytest.fixture
async def llama(config: UpstreamConfig) -> AsyncIterator[ChatCompletions]:
    async with using(replace(config, profile="llama.cpp")) as made:
        yield made


def with_image() -> Prompt:
    asked = prompt()
    message = {"type": "message", "role": "user", "content": [IMAGE]}
    return replace(asked, items=[*asked.items, message])


def paths(upstream: ChatUpstream) -> list[str]:
    return [request.path for request in upstream.requests]


# -- counting ------------------------------------------------------------------------------------


async def test_vllm_counts_what_generate_would_send(
    vllm: ChatCompletions, upstream: ChatUpstream
) -> None:
    upstream.script(Reply.json(VLLM), Reply.chat("Hello"))
    asked = prompt(instructions="Be kind.", tools=[TOOL])
    assert await vllm.count(asked) == 17
    async for _ in vllm.generate(asked):
        pass
    counted, generated = upstream.requests
    assert (counted.method, counted.path) == ("POST", "/tokenize")
    assert counted.headers["authorization"] == generated.headers["authorization"]
    assert counted.json["add_generation_prompt"] is True
    for key in ("model", "messages", "tools"):
        assert counted.json[key] == generated.json[key], key
    assert set(counted.json) == {"model", "messages", "tools", "add_generation_prompt"}


async def test_llama_cpp_counts_a_whole_request(
    llama: ChatCompletions, upstream: ChatUpstream
) -> None:
    upstream.script(Reply.json({"object": "response.input_tokens", "input_tokens": 11}))
    assert await llama.count(with_image()) == 11
    (request,) = upstream.requests
    assert request.path == "/v1/chat/completions/input_tokens"
    assert set(request.json) == {"model", "messages"}


async def test_an_older_llama_cpp_renders_and_tokenizes(
    llama: ChatCompletions, upstream: ChatUpstream
) -> None:
    upstream.script(
        MISSING, Reply.json({"prompt": "<s>user: hi"}), Reply.json({"tokens": [1, 2, 3]})
    )
    assert await llama.count(prompt(tools=[TOOL])) == 3
    _, rendered, tokenized = upstream.requests
    assert (rendered.path, tokenized.path) == ("/apply-template", "/tokenize")
    assert set(rendered.json) == {"model", "messages", "tools"}
    assert tokenized.json == {
        "model": "real-name",
        "content": "<s>user: hi",
        "add_special": True,
        "parse_special": True,
    }


async def test_a_count_that_would_leave_images_out_is_none(
    llama: ChatCompletions, vllm: ChatCompletions, upstream: ChatUpstream
) -> None:
    assert await vllm.count(with_image()) is None
    assert paths(upstream) == []
    upstream.script(MISSING)
    assert await llama.count(with_image()) is None
    assert paths(upstream) == ["/v1/chat/completions/input_tokens"]


@pytest.mark.parametrize("profile", sorted(PROFILES.keys() - {"vllm", "llama.cpp"}))
async def test_others_do_not_count(
    config: UpstreamConfig, upstream: ChatUpstream, profile: str
) -> None:
    async with using(replace(config, profile=profile)) as backend:
        assert await backend.count(prompt()) is None
    assert paths(upstream) == []


async def test_the_model_list_tells_who_counts(
    backend: ChatCompletions, upstream: ChatUpstream
) -> None:
    upstream.models = Reply.json({"data": [{"id": "m", "owned_by": "vllm"}]})
    upstream.script(Reply.json(VLLM))
    assert await backend.count(prompt()) == 17
    assert await backend.count(prompt()) == 17
    assert upstream.listed == 1


async def test_a_long_prompt_and_a_long_answer(
    vllm: ChatCompletions, upstream: ChatUpstream
) -> None:
    tokens = list(range(100_000))
    upstream.script(Reply.json({**VLLM, "count": len(tokens), "tokens": tokens}))
    assert await vllm.count(prompt(input="x" * 2_000_000)) == 100_000
    assert len(upstream.requests[0].body) > 2_000_000


@pytest.mark.parametrize(
    "reply",
    [
        failed(400, "the template says no"),
        failed(500, "x"),
        failed(302, "x"),
        Reply.json([]),
        Reply.json({}),
        Reply.json({"count": "17", "input_tokens": "17"}),
        Reply.json({"count": True, "input_tokens": True}),
        Reply.json({"count": -1, "input_tokens": -1}),
        HTML,
        Reply(200, [b'{"count":17,"input_tokens":17,"x":"', *[b"x" * (1 << 20)] * 33, b'"}']),
    ],
    ids=["400", "500", "302", "list", "empty", "text", "true", "negative", "html", "endless"],
)
async def test_what_goes_wrong_is_logged_and_no_count(
    counter: ChatCompletions, upstream: ChatUpstream, reply: Reply
) -> None:
    upstream.script(reply)
    with capture_logs() as logs:
        assert await counter.count(prompt()) is None
    (line,) = logs
    assert (line["event"], line["backend"]) == ("upstream_count_failed", "gpu-box")
    await counter.count(prompt())
    assert len(upstream.requests) == 2, "another prompt may be luckier"


@pytest.mark.parametrize(
    "body", [["stall"], ["cut"], ["close"]], ids=["stalls", "resets", "leaves"]
)
async def test_a_server_that_does_not_answer_is_left_in_peace(
    counter: ChatCompletions,
    upstream: ChatUpstream,
    monkeypatch: pytest.MonkeyPatch,
    body: Sequence[Step],
) -> None:
    monkeypatch.setattr(tokenize, "DEADLINE", 0.2)
    upstream.script(Reply(body=body, raw=True))
    with capture_logs() as logs:
        async with asyncio.timeout(1):
            assert await counter.count(prompt()) is None
            asked = len(upstream.requests)
            assert await counter.count(prompt()) is None
    assert len(upstream.requests) == asked
    assert [line["event"] for line in logs] == ["upstream_count_failed"]


async def test_a_server_without_a_tokenizer_is_asked_again_later(
    vllm: ChatCompletions, upstream: ChatUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenize, "REST", 0.1)
    upstream.script(MISSING, Reply.json(VLLM))
    assert await vllm.count(prompt()) is None
    assert await vllm.count(prompt()) is None
    assert len(upstream.requests) == 1
    await asyncio.sleep(0.15)
    assert await vllm.count(prompt()) == 17


async def test_counting_never_opens_the_circuit_breaker(
    vllm: ChatCompletions, upstream: ChatUpstream
) -> None:
    """R-50: one failure opens the breaker of this backend."""
    upstream.paths["/tokenize"] = failed(500, "x")
    for _ in range(3):
        assert await vllm.count(prompt()) is None
    assert await ask(vllm)


async def test_who_counts_can_be_cancelled(vllm: ChatCompletions, upstream: ChatUpstream) -> None:
    upstream.script(Reply(body=["stall"]))
    task = asyncio.create_task(vllm.count(prompt()))
    while not upstream.requests:  # noqa: ASYNC110 - it lives in another thread
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(upstream.requests[0].left.wait, 2)


# -- context windows -----------------------------------------------------------------------------


def listing(*rows: dict[str, Any]) -> Reply:
    return Reply.json({"object": "list", "data": list(rows)})


LLAMA = {"owned_by": "llamacpp", "meta": {"n_ctx": 4096, "n_ctx_train": 131072}}
ROUTED = {"context_length": 200_000, "top_provider": {"context_length": 128_000}}


@pytest.mark.parametrize(
    ("profile", "row", "window"),
    [
        ("vllm", {"max_model_len": 8192}, 8192),
        ("vllm", {"max_model_len": None}, None),
        ("llama.cpp", LLAMA, 4096),
        ("llama.cpp", {"meta": {"n_ctx_train": 131072}}, None),
        ("llama.cpp", {"meta": None}, None),
        ("openrouter", ROUTED, 128_000),
        ("openrouter", {"context_length": 9, "top_provider": {"context_length": None}}, 9),
        ("generic", {"context_length": 32_768}, 32_768),
        ("generic", {"context_window": 131_072}, 131_072),
        ("generic", {"max_model_len": True, "context_length": -1}, None),
        ("ollama", {"context_length": 4096}, None),
        ("openai", {"context_length": 4096}, None),
        (None, {"owned_by": "vllm", "max_model_len": 77}, 77),
        (None, LLAMA, 4096),
    ],
)
async def test_windows_of_the_model_list(
    config: UpstreamConfig,
    upstream: ChatUpstream,
    profile: str | None,
    row: dict[str, Any],
    window: int | None,
) -> None:
    upstream.models = listing({"id": "a", **row}, {"id": "b"})
    async with using(replace(config, profile=profile)) as backend:
        assert await backend.window("a") == window
        assert await backend.window("b") is None
        assert await backend.window("c") is None
        assert upstream.listed == (0 if profile in ("ollama", "openai") else 1)


async def test_llama_cpp_has_one_model_for_all_names(
    llama: ChatCompletions, upstream: ChatUpstream
) -> None:
    upstream.models = listing({"id": "/models/q.gguf", **LLAMA})
    assert await llama.window("qwen") == 4096


async def test_lm_studio_tells_windows_at_another_place(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    upstream.models = listing({"id": "a", "owned_by": "organization_owner"}, {"id": "b"})
    upstream.paths["/api/v0/models"] = listing(
        {"id": "a", "state": "loaded", "max_context_length": 9, "loaded_context_length": 5},
        {"id": "b", "state": "not-loaded", "max_context_length": 9},
        {"no": "id"},
    )
    async with using(config) as backend:
        assert [await backend.window(name) for name in "ab"] == [5, None]
        upstream.paths["/api/v0/models"] = MISSING
        assert await backend.models() == [Model("a", "organization_owner"), Model("b", "gpu-box")]


async def test_the_configuration_beats_the_list(
    config: UpstreamConfig, upstream: ChatUpstream
) -> None:
    upstream.models = listing({"id": "a", "max_model_len": 5}, {"id": "b", "max_model_len": 6})
    async with using(replace(config, windows={"x*": 1, "a": 2})) as backend:
        assert await backend.window("a") == 2
        assert await backend.window("xy") == 1
        assert upstream.listed == 0
        assert await backend.window("b") == 6


def test_configured_windows() -> None:
    windows = {"q*": 1, "qwen": 2, "*": 3}
    assert [configured_window(windows, name) for name in ("qwen", "q", "z")] == [2, 1, 3]
    assert configured_window({"q*": 1}, "z") is None


async def test_the_first_requests_wait_together_and_not_for_long(
    vllm: ChatCompletions, upstream: ChatUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "PATIENCE", 0.2)
    upstream.models = Reply(body=[0.1, *listing({"id": "m", "max_model_len": 5}).body])
    assert await asyncio.gather(*(vllm.window("m") for _ in range(5))) == [5] * 5
    assert upstream.listed == 1


async def test_a_slow_list_is_waited_for_once(
    vllm: ChatCompletions, upstream: ChatUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "PATIENCE", 0.1)
    upstream.models = Reply(body=[0.4, *listing({"id": "m", "max_model_len": 5}).body])
    assert await vllm.window("m") is None
    async with asyncio.timeout(0.05):
        assert await vllm.window("m") is None
    await asyncio.sleep(0.5)
    assert await vllm.window("m") == 5
    assert upstream.listed == 1


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Lists:
    """Answers with a window of 1, then 2 …; None when it is told to fail."""

    def __init__(self) -> None:
        self.asked = 0
        self.fails = False

    async def __call__(self) -> list[Model] | None:
        self.asked += 1
        await asyncio.sleep(0)
        return None if self.fails else [Model("m", "o", 0, self.asked)]


async def known(held: Catalog) -> int | None:
    await held.known()
    return held.window("m", sole=False)


async def test_a_list_is_fetched_anew_in_the_background() -> None:
    lists, clock = Lists(), Clock()
    held = Catalog(lists, clock)
    assert await known(held) == 1
    clock.now += catalog.TTL - 1
    assert await known(held) == 1
    await asyncio.sleep(0.01)
    assert lists.asked == 1
    clock.now += 1
    assert (await known(held), await known(held)) == (1, 1), "nobody waits"
    await asyncio.sleep(0.01)
    assert (await known(held), lists.asked) == (2, 2)


async def test_a_list_that_fails_is_asked_for_again_soon_and_forgets_nothing() -> None:
    lists, clock = Lists(), Clock()
    held = Catalog(lists, clock)
    await known(held)
    lists.fails = True
    clock.now += catalog.TTL
    for _ in range(3):
        await known(held)
        await asyncio.sleep(0.01)
    assert (await known(held), lists.asked) == (1, 2)
    lists.fails = False
    clock.now += catalog.RETRY
    await known(held)
    await asyncio.sleep(0.01)
    assert await known(held) == 3


async def test_closing_ends_the_fetching(vllm: ChatCompletions, upstream: ChatUpstream) -> None:
    upstream.models = Reply(body=["stall"])
    task = asyncio.create_task(vllm.window("m"))
    while not upstream.listed:  # noqa: ASYNC110 - it lives in another thread
        await asyncio.sleep(0.005)
    task.cancel()
    async with asyncio.timeout(1):
        await vllm.aclose()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "model-list"]


def test_windows_are_positive_integers() -> None:
    rows: list[dict[str, Any]] = [{"max_model_len": value} for value in (0, "8", 1.5, [8], None)]
    assert [window_of(row, GENERIC.windows) for row in rows] == [None] * 5
