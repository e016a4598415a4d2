"""Hosted tools that the model's own server runs, as the configuration says (`hosted_tools`).

Rule: what the upstream says here has the order and the keys of recordings of OpenAI's wire.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from antiphon.app.backends import backends_of, routes_of
from antiphon.config import ConfigError, load_config
from antiphon.settings import Settings
from tests.api.talk import client_of, error_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.clients.replies import WEATHER
from tests.conformance.responses import ResponsesWire, response, sse, usage
from tests.conformance.wire import Turn
from tests.live import LiveServer, serve

Json = dict[str, Any]
_WIRE: Final = ResponsesWire()
_BACKENDS: Final = """
[[backends]]
name = "openai"
kind = "responses"
base_url = "{base_url}"
profile = "openai"
models = ["m"]
hosted_tools = ["web_search", "file_search", "code_interpreter"]

[[backends]]
name = "chat"
kind = "chat_completions"
base_url = "{base_url}"
models = ["other"]

[[routes]]
model = "both"
targets = [{{backend = "openai", model = "m"}}]
fallbacks = [{{backend = "chat", model = "other"}}]
"""
_SEARCH: Final = {"type": "web_search", "search_context_size": "low"}
_PYTHON: Final = {"type": "code_interpreter", "container": {"type": "auto"}}
_THOUGHT: Final = {"type": "reasoning", "id": "rs_up", "summary": [], "encrypted_content": "c2ln"}
_SOURCES: Final = {
    "type": "search",
    "query": "news",
    "sources": [{"type": "url", "url": "http://a"}],
}
_FOUND: Final = {"id": "ws_up", "type": "web_search_call", "status": "completed"}
_CITED: Final = {
    "type": "url_citation",
    "url": "http://a",
    "title": "A",
    "start_index": 0,
    "end_index": 4,
}
_PART: Final = {"type": "output_text", "text": "News", "annotations": [_CITED], "logprobs": []}
_SAID: Final = {
    "id": "msg_up",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [_PART],
}
#: What a message without text of its own says, event by event.
_OF_A_MESSAGE: Final = (
    *("output_item.added", "content_part.added", "output_text.delta"),
    *("output_text.annotation.added", "output_text.done", "content_part.done", "output_item.done"),
)
_BEFORE: Final = ("created", "in_progress", "output_item.added", "output_item.done")


@pytest.fixture(scope="module")
def live(_upstream: ChatUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    toml = _BACKENDS.format(base_url=_upstream.base_url)
    with serve(tmp_path_factory.mktemp("theirs"), toml) as server:
        yield server


@pytest.fixture
def api(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live) as client:
        yield client


def ask(api: httpx2.Client, given: Any = "News?", **more: Any) -> httpx2.Response:
    body = {"model": "m", "input": given, "tools": [_SEARCH], **more}
    return api.post("/v1/responses", json=body)


def step(name: str, index: int, id_: str, **fields: Any) -> Json:
    return {"type": f"response.{name}", "output_index": index, "item_id": id_, **fields}


def added(index: int, item: Json, **fields: Any) -> Json:
    return {"type": "response.output_item.added", "output_index": index, "item": {**item, **fields}}


def done(index: int, item: Json) -> Json:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def searching(index: int = 1) -> list[Json]:
    place = (index, "ws_up")
    return [
        added(index, _FOUND, status="in_progress"),
        step("web_search_call.in_progress", *place),
        step("web_search_call.searching", *place),
        step("web_search_call.completed", *place),
        done(index, {**_FOUND, "action": _SOURCES}),
    ]


def message(index: int) -> list[Json]:
    place = {"output_index": index, "item_id": "msg_up", "content_index": 0}
    bare = {**_PART, "text": "", "annotations": []}
    return [
        added(index, _SAID, status="in_progress", content=[]),
        {"type": "response.content_part.added", **place, "part": bare},
        {"type": "response.output_text.delta", **place, "delta": "News"},
        {
            "type": "response.output_text.annotation.added",
            **place,
            "annotation_index": 0,
            "annotation": _CITED,
        },
        {"type": "response.output_text.done", **place, "text": "News"},
        {"type": "response.content_part.done", **place, "part": _PART},
        done(index, _SAID),
    ]


def streamed(*told: Json, output: list[Json] | None = None) -> Reply:
    thinking = [added(0, {**_THOUGHT}, encrypted_content=None), done(0, _THOUGHT)]
    last = response("completed", output or [], usage=usage((1, 0, 2, 0)))
    whole = [
        {"type": "response.created", "response": response("in_progress")},
        {"type": "response.in_progress", "response": response("in_progress")},
        *thinking,
        *told,
        {"type": "response.completed", "response": last},
    ]
    return Reply(body=[sse({**one, "sequence_number": n}) for n, one in enumerate(whole)])


def names(told: list[Json]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in told]


def test_a_search_comes_event_by_event(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """Nothing is added to what the upstream told, and nothing lost."""
    upstream.script(streamed(*searching(), *message(2)))
    wanted = "web_search_call.action.sources"
    told = events(ask(api, stream=True, include=[wanted], max_tool_calls=3).text)
    assert names(told) == [
        *_BEFORE,
        "output_item.added",
        "web_search_call.in_progress",
        "web_search_call.searching",
        "web_search_call.completed",
        "output_item.done",
        *_OF_A_MESSAGE,
        "completed",
    ]
    asked = upstream.requests[-1].json
    assert (asked["tools"], asked["max_tool_calls"]) == ([_SEARCH], 3)
    assert wanted in asked["include"]
    final = told[-1]["response"]
    _, call, said = final["output"]
    assert (call["action"], call["status"]) == (_SOURCES, "completed")
    assert call["id"].startswith("ws_")
    assert call["id"] != "ws_up", "ids are this server's own"
    assert said["content"][0]["annotations"] == [_CITED]
    assert final["tool_usage"]["web_search"]["num_requests"] == 1


@pytest.mark.parametrize("store", [True, False])
def test_a_search_goes_back_as_it_came(
    api: httpx2.Client, upstream: ChatUpstream, *, store: bool
) -> None:
    """From the store and by way of the client; what was thought for an earlier answer is over."""
    upstream.script(streamed(*searching(), *message(2)), _WIRE.reply(Turn(["More."])))
    first = ask(api, store=store).json()
    second: Json = {"previous_response_id": first["id"], "given": "More?"}
    if not store:
        asked = {"role": "user", "content": "News?"}
        second = {"given": [asked, *first["output"], {"role": "user", "content": "More?"}]}
    reply = ask(api, store=store, **second)
    assert reply.json()["output_text"] == "More."
    given = upstream.requests[-1].json["input"]
    ours = first["output"][1]
    assert given[1] == {key: ours[key] for key in ("type", "id", "status", "action")}
    assert [item["type"] for item in given] == ["message", "web_search_call", "message", "message"]


def test_the_conversation_goes_on_with_a_server_that_has_no_tools(
    api: httpx2.Client, upstream: ChatUpstream
) -> None:
    upstream.script(streamed(*searching(), *message(2)), Reply.chat("More."))
    first = ask(api).json()
    body = {"model": "other", "input": "More?", "previous_response_id": first["id"]}
    reply = api.post("/v1/responses", json=body)
    assert reply.json()["output_text"] == "More."
    roles = [message["role"] for message in upstream.requests[-1].json["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "user"]


def test_code_is_streamed_while_it_is_written(api: httpx2.Client, upstream: ChatUpstream) -> None:
    place = (1, "ci_up")
    item = {"id": "ci_up", "type": "code_interpreter_call", "container_id": "cntr_up"}
    outputs = [{"type": "logs", "logs": "2"}]
    code = [
        added(1, item, status="in_progress", code="", outputs=[]),
        step("code_interpreter_call.in_progress", *place),
        step("code_interpreter_call_code.delta", *place, delta="1+"),
        step("code_interpreter_call_code.delta", *place, delta="1"),
        step("code_interpreter_call_code.done", *place, code="1+1"),
        step("code_interpreter_call.interpreting", *place),
        step("code_interpreter_call.completed", *place),
        done(1, {**item, "status": "completed", "code": "1+1", "outputs": outputs}),
    ]
    upstream.script(streamed(*code, *message(2)))
    told = events(ask(api, tools=[_PYTHON], stream=True).text)
    asked = [name for name in names(told) if name.startswith("code_interpreter")]
    assert asked == [event["type"].removeprefix("response.") for event in code[1:-1]]
    call = told[-1]["response"]["output"][1]
    assert (call["code"], call["outputs"]) == ("1+1", outputs)
    assert call["container_id"] == "cntr_up"
    assert upstream.requests[-1].json["tools"] == [_PYTHON]


def test_vector_stores_are_the_upstreams(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """None of ours has to have that id. The whole response may come at once."""
    item = {
        "id": "fs_up",
        "type": "file_search_call",
        "status": "completed",
        "queries": ["q"],
        "results": None,
    }
    upstream.script(Reply.json(response("completed", [item, _SAID])))
    tool = {"type": "file_search", "vector_store_ids": ["vs_theirs"]}
    answer = ask(api, tools=[tool]).json()
    call, said = answer["output"]
    assert (call["type"], call["queries"]) == ("file_search_call", ["q"])
    assert said["content"][0]["annotations"] == [_CITED]
    assert upstream.requests[-1].json["tools"] == [tool]


def test_beside_a_function_of_the_client(api: httpx2.Client, upstream: ChatUpstream) -> None:
    item = {"type": "function_call", "id": "fc_up", "call_id": "call_1", "name": "weather"}
    calling = [
        added(2, item, arguments="", status="in_progress"),
        done(2, {**item, "arguments": "{}", "status": "completed"}),
    ]
    upstream.script(streamed(*searching(), *calling), _WIRE.reply(Turn(["Sunny."])))
    tools = [_SEARCH, WEATHER]
    first = ask(api, tools=tools).json()
    assert [one["type"] for one in first["output"]] == [
        *("reasoning", "web_search_call", "function_call")
    ]
    result = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
    reply = ask(api, [result], tools=tools, previous_response_id=first["id"])
    assert reply.json()["output_text"] == "Sunny."
    given = upstream.requests[-1].json["input"]
    assert [one["type"] for one in given] == [
        *("message", "reasoning", "web_search_call", "function_call", "function_call_output")
    ]
    assert given[1] == _THOUGHT
    assert [tool["type"] for tool in upstream.requests[-1].json["tools"]] == [
        *("web_search", "function")
    ]


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "web_search"},
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}]},
        "none",
        "required",
    ],
    ids=str,
)
def test_a_choice_means_it_too(api: httpx2.Client, upstream: ChatUpstream, choice: Any) -> None:
    upstream.script(streamed(*message(1)))
    assert ask(api, tools=[_SEARCH, WEATHER], tool_choice=choice).status_code == 200
    assert upstream.requests[-1].json["tool_choice"] == choice


def test_who_has_no_such_tool_does_not_stand_in(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """It would answer without having searched. For what needs no search it may."""
    broken = [Reply(503) for _ in range(3)]
    upstream.script(*broken)
    refused = ask(api, model="both")
    assert (refused.status_code, error_of(refused)["code"]) == (502, "server_error")
    upstream.script(*broken, Reply.chat("Hello"))
    answer = ask(api, model="both", tools=[WEATHER])
    assert answer.status_code == 200, answer.text
    assert answer.json()["output_text"] == "Hello"


@pytest.mark.parametrize("whole", [False, True])
def test_messages_keep_their_phases(
    api: httpx2.Client, upstream: ChatUpstream, *, whole: bool
) -> None:
    """Spec §3.3: models want them back; two messages in a row are two (recorded: openai-phase)."""
    phases = ["commentary", "final_answer"]
    said = [{**_SAID, "id": f"msg_{phase}", "phase": phase} for phase in phases]
    told: list[Json] = []
    for index, item in enumerate(said):
        began, *rest = message(index)
        told += [{**began, "item": {**began["item"], "phase": phases[index]}}, *rest[:-1]]
        told.append(done(index, item))
    end = {"type": "response.completed", "response": response("completed", said)}
    reply = Reply.json(response("completed", said))
    upstream.script(reply if whole else Reply(body=[sse(one) for one in (*told, end)]))
    first = events(ask(api, stream=True).text)
    opened = [one["item"] for one in first if one["type"] == "response.output_item.added"]
    assert [item["phase"] for item in opened] == phases
    final = first[-1]["response"]
    assert [item["phase"] for item in final["output"]] == phases
    upstream.script(_WIRE.reply(Turn(["More."])))
    second = ask(api, "More?", previous_response_id=final["id"]).json()
    assert "phase" not in second["output"][-1]
    given = upstream.requests[-1].json["input"]
    assert [item.get("phase") for item in given] == [None, *phases, None]


def test_a_call_that_was_cut_off_is_incomplete(api: httpx2.Client, upstream: ChatUpstream) -> None:
    """R-45: the stream breaks while the upstream searches."""
    begun = [added(0, _FOUND, status="in_progress"), step("web_search_call.searching", 0, "ws_up")]
    upstream.script(Reply(body=[sse(event) for event in begun]))
    told = events(ask(api, stream=True).text)
    assert names(told)[-2:] == ["error", "failed"]
    (call,) = told[-1]["response"]["output"]
    assert (call["type"], call["status"]) == ("web_search_call", "incomplete")
    assert call["action"] == {"type": "search", "query": ""}, "typed clients want one"


@pytest.mark.parametrize("place", ["targets", "fallbacks"])
def test_chance_does_not_decide_where_a_tool_runs(tmp_path: Path, place: str) -> None:
    """Of the targets of a route anyone may be asked; a fallback is left out if it has to be."""
    backend = '[[backends]]\nname = "{}"\nkind = "responses"\nbase_url = "http://a/v1"\n'
    two = ["first", "second"]
    targets, fallbacks = (two, []) if place == "targets" else (two[:1], two[1:])
    route = f'[[routes]]\nmodel = "m"\ntargets = {targets}\nfallbacks = {fallbacks}\n'
    hosted = 'hosted_tools = ["web_search"]\n'
    file = tmp_path / "antiphon.toml"
    file.write_text(backend.format("first") + hosted + backend.format("second") + route)
    config = load_config(file)
    table = backends_of(Settings(), config)
    if place == "fallbacks":
        assert [one.name for one in routes_of(config, table)] == ["m"]
        return
    with pytest.raises(ConfigError, match="hosted_tools"):
        routes_of(config, table)


def test_only_servers_that_speak_responses_have_tools(tmp_path: Path) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_text(
        '[[backends]]\nname = "a"\nkind = "chat_completions"\nbase_url = "http://a/v1"\n'
        'hosted_tools = ["web_search"]\n'
    )
    with pytest.raises(ConfigError, match="hosted_tools"):
        load_config(file)
