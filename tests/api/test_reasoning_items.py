"""Reasoning over the wire: shown, sealed, carried by the client, and given back to the backend
(spec §1 `reasoning`, `include`; §9; R-29).

Rules
1. Models are backends with the profile of that name; all are one upstream, which says what it was
   sent.
2. The history is stored, or the client carries it: the upstream must not see a difference.
"""

from collections.abc import Iterator
from typing import Any, Final

import httpx2
import pytest

from tests.api.talk import client_of, error_of, events
from tests.backends.upstream import ChatUpstream, Reply, chunk, sse
from tests.clients.replies import WEATHER, call, said
from tests.live import OTHER_KEY, LiveServer, serve

_BACKEND: Final = """
[[backends]]
name = "{profile}"
kind = "chat_completions"
base_url = "{base_url}"
profile = "{profile}"
models = ["{profile}"]
"""
_CALL: Final = sse(chunk(tool_calls=[call(0, "call_a", "weather", '{"city":"Rome"}')]))
_RESULT: Final = {"type": "function_call_output", "call_id": "call_a", "output": "sunny"}
_DETAIL: Final = {"type": "reasoning.text", "format": "anthropic-claude-v1", "index": 0}
_SIGNED: Final = {**_DETAIL, "text": "I need the weather.", "signature": "c2ln"}

#: Model → (what it says before it calls the tool, what it gets back with its call).
_THOUGHTS: Final[dict[str, tuple[list[bytes], dict[str, Any]]]] = {
    "llama.cpp": (
        [sse(chunk(reasoning_content=text)) for text in ("I need ", "the weather.")],
        {"reasoning_content": "I need the weather."},
    ),
    "vllm": (
        [sse(chunk(reasoning=text)) for text in ("I need ", "the weather.")],
        {"reasoning": "I need the weather."},
    ),
    "openrouter": (
        [
            sse(chunk(reasoning=text, reasoning_details=[{**_DETAIL, "text": text}]))
            for text in ("I need ", "the weather.")
        ]
        + [sse(chunk(reasoning_details=[{**_DETAIL, "signature": "c2ln"}]))],
        {"reasoning_details": [_SIGNED]},
    ),
}


@pytest.fixture(scope="module")
def thinkers(
    _upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveServer]:
    """A server with one upstream that stands for several."""
    toml = "".join(
        _BACKEND.format(profile=profile, base_url=_upstream.base_url) for profile in _THOUGHTS
    )
    with serve(tmp_path_factory.mktemp("thinkers"), toml) as live:
        yield live


@pytest.fixture
def api(thinkers: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(thinkers) as client:
        yield client


def ask(api: httpx2.Client, model: str, given: Any, **more: Any) -> httpx2.Response:
    body = {"model": model, "input": given, "tools": [WEATHER], **more}
    return api.post("/v1/responses", json=body)


@pytest.mark.parametrize("model", _THOUGHTS)
@pytest.mark.parametrize("summary", [None, "auto"])
@pytest.mark.parametrize("carried", ["stored", "encrypted only", "everything", "conversation"])
def test_a_tool_loop_gives_the_backend_its_reasoning_back(
    api: httpx2.Client, upstream: ChatUpstream, model: str, summary: str | None, carried: str
) -> None:
    thought, back = _THOUGHTS[model]
    upstream.script(said(*thought, _CALL, finish="tool_calls"), Reply.chat("Sunny."))
    first: dict[str, Any] = {"reasoning": {"summary": summary}}
    second: dict[str, Any] = {}
    if carried == "conversation":
        made = api.post("/v1/conversations", json={}).json()["id"]
        first["conversation"] = second["conversation"] = made
    elif carried != "stored":
        first["store"] = second["store"] = False
    answer = ask(api, model, "Rome?", **first).json()
    reasoning, calling = answer["output"]
    shown = [part["text"] for part in reasoning["summary"] + reasoning.get("content", [])]
    assert shown == ["I need the weather."]
    assert bool(reasoning["summary"]) is (summary is not None)
    assert ("encrypted_content" in reasoning) is (model == "openrouter" or "store" in first)
    given: list[Any] = [_RESULT]
    if carried == "stored":
        second["previous_response_id"] = answer["id"]
    elif "store" in first:
        if carried == "encrypted only":
            kept = {"type", "encrypted_content"}
            reasoning = {"summary": [], **{key: reasoning[key] for key in kept}}
        given = [{"role": "user", "content": "Rome?"}, reasoning, calling, _RESULT]
    reply = ask(api, model, given, **second)
    assert reply.status_code == 200, reply.text
    assert "x-antiphon-ignored" not in reply.headers
    turn = upstream.requests[-1].json["messages"][1]
    del turn["tool_calls"]
    assert turn == {"role": "assistant", "content": None, **back}


@pytest.mark.parametrize("include", [None, ["reasoning.encrypted_content"]])
def test_the_stream_has_the_seal_when_the_item_is_done(
    api: httpx2.Client, upstream: ChatUpstream, include: list[str] | None
) -> None:
    upstream.script(said(*_THOUGHTS["vllm"][0]))
    told = events(ask(api, "vllm", "Rome?", stream=True, include=include).text)
    added, done = (
        event["item"] for event in told if event["type"].startswith("response.output_item.")
    )
    assert "encrypted_content" not in added
    assert ("encrypted_content" in done) is (include is not None)
    assert told[-1]["response"]["output"] == [done]


def test_a_seal_opens_for_its_own_project_and_as_it_was_only(
    api: httpx2.Client, upstream: ChatUpstream, thinkers: LiveServer
) -> None:
    """R-29: another project's seal is as bad as a forged one."""
    upstream.script(said(*_THOUGHTS["vllm"][0]))
    (item,) = ask(api, "vllm", "Rome?", store=False).json()["output"]
    upstream.script(Reply.chat("Hi"))
    count = len(upstream.requests)

    def send(client: httpx2.Client, **changes: Any) -> httpx2.Response:
        return ask(client, "vllm", [{"role": "user", "content": "Rome?"}, {**item, **changes}])

    assert send(api).status_code == 200
    with client_of(thinkers, OTHER_KEY) as other:
        refused = [
            send(other),
            send(api, encrypted_content=item["encrypted_content"][:-4]),
            send(api, encrypted_content="antiphon.1.00000000.AAAA"),
        ]
    for reply in refused:
        assert reply.status_code == 400
        error = error_of(reply)
        assert error["code"] == "invalid_encrypted_content"
        assert error["message"] == (
            f"The encrypted content for item {item['id']} could not be verified. Reason: "
            "Encrypted content could not be decrypted or parsed."
        )
    assert len(upstream.requests) == count + 1


@pytest.mark.parametrize("value", [None, "", "gAAAAABpPDIU"])
def test_a_foreign_seal_is_left_out_and_named(
    api: httpx2.Client, upstream: ChatUpstream, value: str | None
) -> None:
    """Lessons rule 18."""
    upstream.script(Reply.chat("Hi"))
    summary = [{"type": "summary_text", "text": "Hm."}]
    item = {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": value}
    reply = ask(api, "vllm", [{"role": "user", "content": "Rome?"}, item])
    assert reply.status_code == 200, reply.text
    named = [] if value is None else ["input[1].encrypted_content"]
    assert reply.headers.get("x-antiphon-ignored", "").split(", ") == (named or [""])


def test_nobody_forges_what_a_backend_wants_back(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(Reply.chat("Hi"))
    state = {"value": {"turn": "t", "reasoning_details": [{"type": "reasoning.text", "text": "x"}]}}
    content = [{"type": "reasoning_text", "text": "mine"}]
    item = {"type": "reasoning", "summary": [], "content": content, "restored_state": state}
    calling = {"type": "function_call", "call_id": "call_a", "name": "weather", "arguments": "{}"}
    ask(api, "openrouter", [{"role": "user", "content": "Rome?"}, item, calling, _RESULT])
    turn = upstream.requests[-1].json["messages"][1]
    assert "reasoning_details" not in turn
    assert turn["reasoning"] == "mine"
