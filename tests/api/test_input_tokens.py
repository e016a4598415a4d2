"""``POST /v1/responses/input_tokens``: the endpoint, and the whole way to backends that count and
ones that do not (spec §2.1, App. G TokenCountsBody; issue 4/8)."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import orjson
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from antiphon.api.auth import Authenticator, hash_key
from antiphon.api.errors import EXCEPTION_HANDLERS
from antiphon.api.input_tokens import PATH, counting_tokens
from antiphon.backends.base import TokenCount
from antiphon.errors import APIError, PreviousResponseNotFound
from antiphon.protocol.counting import parse_counting
from antiphon.protocol.request import CreateResponse
from tests.api.talk import UNKNOWN, client_of, create, error_of
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import KEY, OTHER_KEY, LiveServer, serve

#: Every parameter that there is.
FULL: Final[dict[str, Any]] = {
    "model": "m",
    "input": "Hi",
    "instructions": "Be kind.",
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    "tool_choice": "auto",
    "text": {"verbosity": "low"},
    "reasoning": {"effort": "low"},
    "truncation": "auto",
    "parallel_tool_calls": True,
    "personality": "friendly",
}
SOURCE: Final = "x-antiphon-token-count"
IGNORED: Final = "x-antiphon-ignored"


class FixedCounter:
    """An engine that has counted already."""

    def __init__(self) -> None:
        self.asked: list[tuple[CreateResponse, str]] = []
        self.answer = TokenCount(17, "estimate")
        self.ignored: list[str] = []
        self.error: APIError | None = None
        self.pause = 0.0
        self.cancelled = False

    async def count_tokens(
        self, request: CreateResponse, project: str
    ) -> tuple[TokenCount, list[str]]:
        self.asked.append((request, project))
        if self.error is not None:
            raise self.error
        try:
            await asyncio.sleep(self.pause)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.answer, self.ignored


@pytest.fixture
def counter() -> FixedCounter:
    return FixedCounter()


def application(counter: FixedCounter) -> Starlette:
    auth = Authenticator({hash_key(KEY): "first"})
    endpoint = counting_tokens(counter, auth, max_body_bytes=1_000_000)
    return Starlette(
        routes=[Route(PATH, endpoint, methods=["POST"])], exception_handlers=EXCEPTION_HANDLERS
    )


@pytest.fixture
async def alone(counter: FixedCounter) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of the endpoint and nothing else."""
    transport = httpx2.ASGITransport(app=application(counter))
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://antiphon", headers=headers
    ) as client:
        yield client


# -- the endpoint alone --------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["backend", "tokenizer", "estimate"])
async def test_the_answer_and_who_counted(
    alone: httpx2.AsyncClient, counter: FixedCounter, source: Any
) -> None:
    counter.answer = TokenCount(42, source)
    reply = await alone.post(PATH, json={"model": "m", "input": "Hi"})
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json() == {"object": "response.input_tokens", "input_tokens": 42}
    assert reply.headers[SOURCE] == source
    assert IGNORED not in reply.headers
    ((request, project),) = counter.asked
    assert (request.model, project) == ("m", "first")


async def test_all_parameters_reach_the_engine(
    alone: httpx2.AsyncClient, counter: FixedCounter
) -> None:
    counter.ignored = ["reasoning.effort"]
    reply = await alone.post(PATH, json=FULL)
    assert reply.headers[IGNORED] == "reasoning.effort, personality"
    ((request, _),) = counter.asked
    for name in FULL.keys() - {"input", "personality"}:
        assert getattr(request, name) == FULL[name], name


async def test_every_parameter_may_be_null(
    alone: httpx2.AsyncClient, counter: FixedCounter
) -> None:
    nulls: dict[str, Any] = dict.fromkeys([*FULL, "previous_response_id", "conversation", "prompt"])
    reply = await alone.post(PATH, json={**nulls, "model": "m", "input": "Hi"})
    assert reply.status_code == 200, reply.text
    assert IGNORED not in reply.headers
    reply = await alone.post(PATH, json={**nulls, "model": "m", "previous_response_id": UNKNOWN})
    assert reply.status_code == 200, reply.text
    assert [request.previous_response_id for request, _ in counter.asked] == [None, UNKNOWN]


@pytest.mark.parametrize(
    ("body", "param", "code", "message"),
    [
        (
            {"input": "Hi"},
            "model",
            "missing_required_parameter",
            "Missing required parameter: 'model'.",
        ),
        (
            {"model": None, "input": "Hi"},
            "model",
            "missing_required_parameter",
            "Missing required parameter: 'model'.",
        ),
        ({"model": "m"}, "input", "missing_required_parameter", None),
        ({"model": "m", "input": None}, "input", "missing_required_parameter", None),
        (
            {"model": "m", "input": "Hi", "temperature": 1},
            "temperature",
            "unknown_parameter",
            "Unknown parameter: 'temperature'.",
        ),
        ({"model": "m", "input": "Hi", "stream": None}, "stream", "unknown_parameter", None),
        (
            {"model": "m", "input": "Hi", "personality": 5},
            "personality",
            "invalid_type",
            "Invalid type for 'personality': expected a string, but got an integer instead.",
        ),
        (
            {"model": "m", "input": "Hi", "personality": "x" * 65},
            "personality",
            "string_above_max_length",
            None,
        ),
        ({"model": "m", "input": 5}, "input", "invalid_type", None),
        ({"model": "m", "input": "Hi", "truncation": "no"}, "truncation", "invalid_value", None),
        (
            {"model": "m", "input": "Hi", "previous_response_id": "resp_1", "conversation": "c_1"},
            None,
            "mutually_exclusive_parameters",
            None,
        ),
        ([], None, "invalid_type", None),
    ],
)
async def test_errors_are_those_of_a_response(
    alone: httpx2.AsyncClient,
    counter: FixedCounter,
    body: Any,
    param: str | None,
    code: str,
    message: str | None,
) -> None:
    reply = await alone.post(PATH, json=body)
    error = error_of(reply)
    assert (reply.status_code, error["param"], error["code"]) == (400, param, code)
    assert message is None or error["message"] == message
    assert counter.asked == []


async def test_errors_of_the_engine(alone: httpx2.AsyncClient, counter: FixedCounter) -> None:
    counter.error = PreviousResponseNotFound(UNKNOWN)
    reply = await alone.post(PATH, json={"model": "m", "previous_response_id": UNKNOWN})
    assert (reply.status_code, error_of(reply)["code"]) == (400, "previous_response_not_found")


async def test_a_key_is_needed_before_anything_is_read(
    alone: httpx2.AsyncClient, counter: FixedCounter
) -> None:
    """R-27."""
    wrong = {"authorization": "Bearer sk-wrong"}
    assert (await alone.post(PATH, content=b"{", headers=wrong)).status_code == 401
    assert (await alone.post(PATH, content=b"{}")).status_code == 415
    json = {"content-type": "application/json"}
    assert (await alone.post(PATH, content=b"x" * 1_000_001, headers=json)).status_code == 413
    assert counter.asked == []


async def test_a_long_body_is_read_too(alone: httpx2.AsyncClient, counter: FixedCounter) -> None:
    said = "word " * 100_000
    assert (await alone.post(PATH, json={"model": "m", "input": said})).status_code == 200
    ((request, _),) = counter.asked
    assert request.input[0]["content"][0]["text"] == said


async def test_a_client_that_leaves_is_not_counted_for(counter: FixedCounter) -> None:
    """R-54."""
    counter.pause = 30.0
    body = orjson.dumps({"model": "m", "input": "Hi"})
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": body, "more_body": False},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return messages.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    headers = [
        (b"authorization", f"Bearer {KEY}".encode()),
        (b"content-type", b"application/json"),
    ]
    scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers}
    auth = Authenticator({hash_key(KEY): "first"})
    async with asyncio.timeout(2):
        await counting_tokens(counter, auth, 1_000_000)(scope, receive, send)
    assert counter.cancelled


def test_a_template_may_bring_the_rest() -> None:
    request, ignored = parse_counting(orjson.dumps({"prompt": {"id": "pmpt_1"}}))
    assert (request.prompt, ignored) == ({"id": "pmpt_1"}, [])


# -- the whole way -------------------------------------------------------------------------------

TOML: Final = """
[[backends]]
name = "vllm"
kind = "chat_completions"
base_url = "{base_url}"
profile = "vllm"
models = [{{gpu = "real-name"}}]

[[backends]]
name = "other"
kind = "chat_completions"
base_url = "{base_url}"
profile = "openai"
models = ["gpt-4o", "llama-3"]

[[backends]]
name = "simulator"
kind = "simulator"
context_window = {{simulator = 9000}}
models = ["simulator"]
"""


@pytest.fixture(scope="module")
def counting(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    folder: Path = tmp_path_factory.mktemp("counting")
    with serve(folder, TOML.format(base_url=_upstream.base_url)) as live:
        yield live


@pytest.fixture
def plain(counting: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(counting) as client:
        yield client


def count(client: httpx2.Client, **body: Any) -> httpx2.Response:
    reply = client.post(PATH, json={"model": "simulator", "input": "Hi", **body})
    assert reply.status_code == 200, reply.text
    assert reply.json()["object"] == "response.input_tokens"
    return reply


def test_the_simulator_counts_what_its_usage_says(plain: httpx2.Client) -> None:
    asked = {"instructions": "Be kind. " * 20, "input": "How are you?", "tools": FULL["tools"]}
    reply = count(plain, **asked)
    assert reply.headers[SOURCE] == "backend"
    made = create(plain, "simulator", **asked)
    assert reply.json()["input_tokens"] == made["usage"]["input_tokens"]


def test_the_tokenizer_of_the_backend_counts(plain: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(Reply.json({"count": 99, "max_model_len": 5000, "tokens": []}))
    reply = count(plain, model="gpu", personality="pragmatic")
    assert (reply.json()["input_tokens"], reply.headers[SOURCE]) == (99, "backend")
    assert reply.headers[IGNORED] == "personality"
    (request,) = upstream.requests
    assert request.path == "/tokenize"
    assert request.json["model"] == "real-name"


def test_without_one_our_own_or_nobody_counts(plain: httpx2.Client, upstream: ChatUpstream) -> None:
    known = count(plain, model="gpt-4o", input="Hello, how are you?")
    assert known.headers[SOURCE] == "tokenizer"
    unknown = count(plain, model="llama-3", input="Hello, how are you?")
    assert unknown.headers[SOURCE] == "estimate"
    assert unknown.json()["input_tokens"] == pytest.approx(known.json()["input_tokens"], abs=4)
    assert upstream.requests == []


def test_history_counts_and_nothing_is_stored(plain: httpx2.Client) -> None:
    first = create(plain, "simulator", input="a" * 400)
    both = count(plain, previous_response_id=first["id"], input="b" * 40).json()["input_tokens"]
    alone = count(plain, input="b" * 40).json()["input_tokens"]
    assert both >= alone + 100
    again = count(plain, previous_response_id=first["id"], input="b" * 40).json()["input_tokens"]
    assert again == both


@pytest.mark.parametrize(
    "body",
    [
        {"model": "nobody-has-it"},
        {"previous_response_id": UNKNOWN},
        {"conversation": "conv_" + "0" * 48},
        {"prompt": {"id": "pmpt_" + "0" * 48}},
        {"input": [{"type": "item_reference", "id": "msg_" + "0" * 48}]},
        {"tools": [{"type": "web_search"}]},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
        {"text": {"format": {"type": "json_object"}}},
        {"tool_choice": "required"},
    ],
    ids=lambda body: next(iter(body)),
)
def test_what_a_response_refuses_is_refused(plain: httpx2.Client, body: dict[str, Any]) -> None:
    body = {"model": "simulator", "input": "Hi", **body}
    counted, made = plain.post(PATH, json=body), plain.post("/v1/responses", json=body)
    assert counted.status_code == made.status_code >= 400
    assert error_of(counted) == error_of(made)


def test_another_project_has_no_history_here(plain: httpx2.Client, counting: LiveServer) -> None:
    """R-29: an id of another project is as unknown as one that never was."""
    first = create(plain, "simulator")
    with client_of(counting, OTHER_KEY) as other:
        reply = other.post(
            PATH, json={"model": "simulator", "input": "x", "previous_response_id": first["id"]}
        )
    assert error_of(reply)["code"] == "previous_response_not_found"


def test_windows_are_shown_with_the_models(plain: httpx2.Client) -> None:
    models = {row["id"]: row for row in plain.get("/v1/models").json()["data"]}
    assert models["simulator"]["context_window"] == 9000
    assert "context_window" not in models["gpt-4o"]
    assert plain.get("/v1/models/simulator").json()["context_window"] == 9000
