"""Every request parameter is honoured, named in ``x-antiphon-ignored``, or refused (must show 4).

The rows are in `parameter_table` and `parameter_tools`; here they are played against a live server,
and it is checked that no parameter, key, form or value of the spec is without a row.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, get_args

import httpx2
import pytest

from antiphon.protocol.parameters import Includable
from antiphon.protocol.request import CreateResponse
from antiphon.protocol.tools import CHOICE_TYPES
from tests.api import parameter_table as table
from tests.api import parameter_tools as tools
from tests.api.parameter_table import Row
from tests.api.talk import at, client_of, create, error_of, events
from tests.backends.upstream import DONE, ChatUpstream, Reply, chunk, sse
from tests.live import LiveServer, serve

ROWS: Final[list[Row]] = [
    *table.BASIC,
    *table.SAMPLING,
    *table.MODES,
    *table.HINTS,
    *table.INCLUDES,
    *table.OUTPUT,
    *table.SIMULATED,
    *tools.TOOLS,
    *tools.CHOICES,
    *tools.PARTS,
]
_BACKEND: Final = """
[[backends]]
name = "{name}"
kind = "chat_completions"
base_url = "{base_url}"
profile = "{profile}"
models = [{models}]
"""
_PROFILES: Final = {
    "generic": '"plain", {alias = "its-real-name"}',
    "openai": '"openai"',
    "openrouter": '"openrouter"',
    "ollama": '"ollama"',
}


@pytest.fixture(scope="module")
def profiles(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A server with one upstream that stands for servers of four kinds."""
    toml = "".join(
        _BACKEND.format(name=name, profile=name, models=models, base_url=_upstream.base_url)
        for name, models in _PROFILES.items()
    )
    with serve(tmp_path_factory.mktemp("profiles"), toml) as live:
        yield live


@pytest.fixture
def api(profiles: LiveServer, upstream: ChatUpstream) -> Iterator[httpx2.Client]:
    """A client of that server; the upstream answers a JSON object."""
    upstream.script(Reply.chat(table.ANSWER))
    with client_of(profiles) as client:
        yield client


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_row(row: Row, api: httpx2.Client, upstream: ChatUpstream) -> None:
    body = {"model": "plain", "input": "Hi", **row.body}
    reply = api.post("/v1/responses", json=body)
    if row.error is not None:
        error = error_of(reply)
        assert (reply.status_code, error["code"], error["param"]) == row.error, error["message"]
        assert upstream.requests == []
        return
    assert reply.status_code == 200, reply.text
    told = reply.headers.get("x-antiphon-ignored", "")
    assert sorted(filter(None, told.split(", "))) == sorted(row.ignored)
    sent = upstream.requests[0].json if upstream.requests else {}
    assert {path: at(sent, path) for path in row.upstream} == row.upstream
    streamed = reply.headers["content-type"].startswith("text/event-stream")
    assert streamed is (body.get("stream") is True)
    response = events(reply.text)[-1]["response"] if streamed else reply.json()
    assert {path: at(response, path) for path in row.echo} == row.echo


@pytest.mark.parametrize(
    ("asked", "made", "told"),
    [
        ("flex", "default", "default"),
        ("auto", "priority", "priority"),
        ("flex", None, "flex"),
        ("auto", "on_demand", "default"),
        ("auto", 5, "default"),
    ],
)
def test_the_response_says_in_which_tier_it_was_made(
    asked: str, made: object, told: str, api: httpx2.Client, upstream: ChatUpstream
) -> None:
    """Spec §1: the actual one, whatever was asked for."""
    counts = {"choices": [], "usage": {"prompt_tokens": 1}, "service_tier": made}
    upstream.script(Reply(body=[sse(chunk(content="x")), sse(chunk("stop")), sse(counts), DONE]))
    body = {"model": "openai", "input": "Hi", "service_tier": asked}
    assert api.post("/v1/responses", json=body).json()["service_tier"] == told


def test_what_is_many_is_named_once(api: httpx2.Client) -> None:
    """Clients and proxies take no headers of 8 KB."""
    tools = [{"type": "function", "name": f"f{n}", "async": True} for n in range(9)]
    for count, told in (
        (8, ", ".join(f"tools[{n}].async" for n in range(8))),
        (9, "tools[].async"),
    ):
        body = {"model": "plain", "input": "Hi", "tools": tools[:count], "user": "u"}
        reply = api.post("/v1/responses", json=body)
        names = reply.headers["x-antiphon-ignored"].split(", ")
        assert sorted(names) == sorted([*told.split(", "), "user"])


# -- nothing without a row -----------------------------------------------------------------------


def _sent(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all keys in a body; steps of lists are left out."""
    match value:
        case Mapping():
            for key, inner in value.items():
                yield f"{path}.{key}" if path else key
                yield from _sent(inner, f"{path}.{key}" if path else key)
        case list():
            for inner in value:
                yield from _sent(inner, path)


def _described(schema: Any, whole: Any, path: str) -> Iterator[str]:
    """The paths of all keys that a JSON schema knows, below the parameters of `_ELSEWHERE`."""
    if reference := schema.get("$ref"):
        schema = whole["$defs"][reference.removeprefix("#/$defs/")]
    for key, inner in schema.get("properties", {}).items():
        where = f"{path}.{key}" if path else key
        if where not in _ELSEWHERE:
            yield where
            yield from _described(inner, whole, where)
    for inner in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), schema.get("items")):
        if isinstance(inner, Mapping):
            yield from _described(inner, whole, path)


#: Items and hosted tools have tables of their own (tests/protocol); tool_choice is below.
_ELSEWHERE: Final = ("input", "tools", "tool_choice")
SENT: Final = frozenset(path for row in ROWS for path in _sent(row.body))


def test_every_parameter_has_a_row() -> None:
    assert [name for name in CreateResponse.model_fields if name not in SENT] == []


def test_every_key_of_a_parameter_has_a_row() -> None:
    whole = CreateResponse.model_json_schema()
    known = set(_described(whole, whole, ""))
    assert {"text.format.strict", "reasoning.effort", "moderation.policy.input.mode"} <= known
    assert sorted(known - SENT) == []


def test_every_include_has_a_row() -> None:
    sent = {value for row in ROWS for value in row.body.get("include", ())}
    assert sent == set(get_args(Includable))


def test_every_tool_choice_has_a_row() -> None:
    choices = [row.body["tool_choice"] for row in ROWS if "tool_choice" in row.body]
    words = {choice for choice in choices if isinstance(choice, str)}
    types = {choice["type"] for choice in choices if not isinstance(choice, str)}
    assert words == {"none", "auto", "required"}
    assert types == {"function", "custom", "mcp", "allowed_tools", *CHOICE_TYPES}


def test_every_row_claims_something() -> None:
    silent = [r.name for r in ROWS if not (r.error or r.upstream or r.echo or r.ignored)]
    assert silent == []
    names = [row.name for row in ROWS]
    assert sorted(set(names)) == sorted(names)


# -- what a table cannot say ---------------------------------------------------------------------


def test_previous_response_id_brings_the_items_and_nothing_else(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    first = create(api, "plain", instructions="Latin.", temperature=0.5, metadata={"a": "b"})
    second = create(api, "plain", input="More", previous_response_id=first["id"])
    assert second["previous_response_id"] == first["id"]
    assert second["metadata"] == {}
    sent = upstream.requests[1].json
    assert sent["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": table.ANSWER},
        {"role": "user", "content": "More"},
    ]
    assert "temperature" not in sent


def test_item_reference_stands_for_the_item(api: httpx2.Client, upstream: ChatUpstream) -> None:
    first = create(api, "plain")
    reference = {"type": "item_reference", "id": first["output"][0]["id"]}
    create(api, "plain", input=[reference, {"role": "user", "content": "Why?"}])
    assert upstream.requests[1].json["messages"][0] == {
        "role": "assistant",
        "content": table.ANSWER,
    }


def test_store_decides_whether_it_can_be_read(api: httpx2.Client) -> None:
    for store, status in ((None, 200), (True, 200), (False, 404)):
        made = create(api, "plain", store=store)
        assert api.get(f"/v1/responses/{made['id']}").status_code == status


@pytest.mark.parametrize("wanted", [None, True, False])
def test_include_obfuscation_pads_the_deltas(api: httpx2.Client, wanted: bool | None) -> None:
    body = {"model": "plain", "input": "Hi", "stream": True}
    if wanted is not None:
        body["stream_options"] = {"include_obfuscation": wanted}
    deltas = [
        event
        for event in events(api.post("/v1/responses", json=body).text)
        if event["type"].endswith(".delta")
    ]
    assert deltas
    assert {"obfuscation" in event for event in deltas} == {wanted is not False}


def test_include_logprobs_shows_them(api: httpx2.Client, upstream: ChatUpstream) -> None:
    token = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
    body = [
        sse(chunk(content="Hi", logprobs={"content": [token]})),
        sse(chunk(finish="stop")),
        DONE,
    ]
    upstream.script(Reply(body=body))
    shown = create(api, "plain", include=["message.output_text.logprobs"], top_logprobs=1)
    assert shown["output"][0]["content"][0]["logprobs"] == [token]
    hidden = create(api, "plain", top_logprobs=1)
    assert hidden["output"][0]["content"][0]["logprobs"] == []


def _calling(*names: str) -> Reply:
    calls = [
        {
            "index": index,
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": '{"input": "x"}'},
        }
        for index, name in enumerate(names)
    ]
    body = [sse(chunk(tool_calls=[call])) for call in calls]
    return Reply(body=[*body, sse(chunk(finish="tool_calls")), DONE])


@pytest.mark.parametrize(
    ("body", "called"),
    [
        ({}, ["f", "g"]),
        ({"parallel_tool_calls": False}, ["f"]),
        ({"tool_choice": "none"}, []),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "g"}],
                }
            },
            ["g"],
        ),
    ],
)
def test_calls_that_were_not_allowed_are_suppressed(
    api: httpx2.Client, upstream: ChatUpstream, body: dict[str, Any], called: list[str]
) -> None:
    """A hard constraint, whatever the model says (spec §1, §10)."""
    upstream.script(_calling("f", "g"))
    functions = [{"type": "function", "name": name} for name in ("f", "g")]
    made = create(api, "plain", tools=functions, **body)
    assert [item["name"] for item in made["output"]] == called


def test_a_custom_tool_is_called_with_text(api: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(_calling("c"))
    (call,) = create(api, "plain", tools=[{"type": "custom", "name": "c"}])["output"]
    assert (call["type"], call["name"], call["input"]) == ("custom_tool_call", "c", "x")


def test_max_output_tokens_ends_as_incomplete(api: httpx2.Client, upstream: ChatUpstream) -> None:
    upstream.script(Reply(body=[sse(chunk(content="Half")), sse(chunk(finish="length")), DONE]))
    made = create(api, "plain", max_output_tokens=16)
    assert made["status"] == "incomplete"
    assert made["incomplete_details"] == {"reason": "max_output_tokens"}
    assert made["output"][0]["status"] == "incomplete"
    assert made["completed_at"] is None


def test_a_strict_schema_holds_the_answer(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """Spec §8: the answer is validated; what does not match is a failure, never `completed`."""
    text = {"format": {**table.FORMAT, "strict": True}}
    assert create(api, "plain", text=text)["output_text"] == table.ANSWER
    upstream.script(Reply.chat('{"goodbye": 1}'))
    reply = api.post("/v1/responses", json={"model": "plain", "input": "Hi", "text": text})
    assert reply.status_code == 502
    assert reply.headers["x-should-retry"] == "false"
    assert error_of(reply)["code"] == "server_error"
