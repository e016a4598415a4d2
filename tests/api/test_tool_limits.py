"""Ends of the tool loop, seen by a client of a real server with a real MCP server (issue 5/8, must
show 4; reliability R-52, R-120)."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.api.raw import eventually
from tests.api.talk import Json, client_of, error_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import CHAT_TOML, LiveServer, serve
from tests.tools.mcp_world import Running

CALL = Reply.calls(("write", {"text": "x"}))
FUNCTION: Json = {"type": "function", "name": "weather", "parameters": {"type": "object"}}


@pytest.fixture(scope="module")
def _tickets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("mcp") / "log") as running:
        yield running


@pytest.fixture
def tickets(_tickets: Running) -> Running:
    _tickets.forget()
    return _tickets


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, _upstream: ChatUpstream) -> Iterator[LiveServer]:
    env = {
        "ANTIPHON_ALLOW_PRIVATE_HOSTS": "127.0.0.1",
        "ANTIPHON_TOOL_TURNS": "4",
        "ANTIPHON_TOOL_TIMEOUT": "1",
        "ANTIPHON_TOOL_OUTPUT": "1024",
        "ANTIPHON_RUN_TIMEOUT": "5",
    }
    toml = CHAT_TOML.format(base_url=_upstream.base_url)
    with serve(tmp_path_factory.mktemp("server"), toml, env) as server:
        yield server


@pytest.fixture
def api(live: LiveServer) -> Iterator[httpx2.Client]:
    with client_of(live) as client:
        yield client


def body_of(tickets: Running, **more: Any) -> Json:
    tool = {"type": "mcp", "server_label": "t", "server_url": tickets.url}
    return {"model": "m", "input": "Hi", "tools": [{**tool, "require_approval": "never"}], **more}


def ask(api: httpx2.Client, tickets: Running, **more: Any) -> Json:
    reply = api.post("/v1/responses", json=body_of(tickets, **more))
    assert reply.status_code == 200, reply.text
    made: Json = reply.json()
    return made


def kinds(made: Json) -> list[str]:
    return [item["type"] for item in made["output"]]


def test_max_tool_calls(api: httpx2.Client, upstream: ChatUpstream, tickets: Running) -> None:
    both = Reply.calls(*[("write", {"text": str(n)}) for n in range(3)])
    upstream.script(both, CALL, Reply.chat("Enough."))
    made = ask(api, tickets, max_tool_calls=2)
    assert kinds(made) == ["mcp_list_tools", "mcp_call", "mcp_call", "message"]
    assert tickets.asked("tools/call") == 2
    told = [m["content"] for m in upstream.requests[1].json["messages"] if m["role"] == "tool"]
    assert len(told) == 3
    assert "max_tool_calls" in told[2]


def test_a_loop_without_end(api: httpx2.Client, upstream: ChatUpstream, tickets: Running) -> None:
    """Four turns, of which the last has no tools; nothing that an SDK would try again."""
    upstream.script(CALL)
    reply = api.post("/v1/responses", json=body_of(tickets))
    assert (reply.status_code, error_of(reply)["code"]) == (502, "server_error")
    assert reply.headers["x-should-retry"] == "false"
    assert ["tools" in request.json for request in upstream.requests] == [True] * 3 + [False]
    found = events(api.post("/v1/responses", json=body_of(tickets, stream=True)).text)
    assert found[-1]["type"] == "response.failed"
    final = found[-1]["response"]
    assert kinds(final).count("mcp_call") == 3, "what the last turn wanted is not run"
    assert {item.get("status", "completed") for item in final["output"]} == {"completed"}


def test_a_loop_without_end_but_with_a_budget(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    upstream.script(CALL)
    made = ask(api, tickets, max_tool_calls=1)
    assert (made["status"], kinds(made)) == ("completed", ["mcp_list_tools", "mcp_call"])
    assert tickets.asked("tools/call") == 1


def test_a_tool_that_is_not_allowed(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    """Though the model calls it."""
    choice = {
        "type": "allowed_tools",
        "mode": "auto",
        "tools": [{"type": "mcp", "server_label": "t", "name": "echo"}],
    }
    upstream.script(CALL)
    made = ask(api, tickets, tool_choice=choice)
    assert kinds(made) == ["mcp_list_tools"]
    assert tickets.asked("tools/call") == 0
    named = [tool["function"]["name"] for tool in upstream.requests[0].json["tools"]]
    assert named == ["echo"]


def test_a_tool_that_the_filter_leaves_out(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    """There is nobody to run it: the model is told, and goes on."""
    upstream.script(CALL, Reply.chat("Done."))
    body = body_of(tickets)
    body["tools"][0]["allowed_tools"] = ["echo"]
    made = api.post("/v1/responses", json=body).json()
    assert [tool["name"] for tool in made["output"][0]["tools"]] == ["echo"]
    assert [item["type"] for item in made["output"]] == ["mcp_list_tools", "message"]
    assert "There are: echo." in upstream.requests[-1].json["messages"][-1]["content"]
    assert tickets.asked("tools/call") == 0


def test_a_forced_tool(api: httpx2.Client, upstream: ChatUpstream, tickets: Running) -> None:
    choice = {"type": "mcp", "server_label": "t", "name": "write"}
    upstream.script(CALL, Reply.chat("Done."))
    made = ask(api, tickets, tool_choice=choice)
    assert made["output_text"] == "Done."
    assert [request.json["tool_choice"] for request in upstream.requests] == [
        {"type": "function", "function": {"name": "write"}},
        "auto",
    ]


def test_a_tool_that_takes_too_long(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    upstream.script(Reply.calls(("slow", {"seconds": 30})), Reply.chat("Too slow."))
    made = ask(api, tickets)
    assert made["output_text"] == "Too slow."
    assert made["output"][1]["status"] == "failed"
    assert eventually(lambda: {"cancelled": "slow"} in tickets.log()), "it was told to stop"


def test_a_response_that_takes_too_long(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    """The wall clock of the whole response, in a turn of the model."""
    upstream.script(CALL, Reply(body=["stall"]))
    reply = api.post("/v1/responses", json=body_of(tickets))
    assert reply.status_code == 504
    assert reply.headers["x-should-retry"] == "false"


def test_what_a_tool_brings_is_cut(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    upstream.script(Reply.calls(("large", {"size": 100_000})), Reply.chat("Much."))
    made = ask(api, tickets)
    assert 1_000 < len(made["output"][1]["output"]) < 1_200
    assert len(upstream.requests[1].body) < 40_000


def test_hosted_and_client_calls_in_one_turn(
    api: httpx2.Client, upstream: ChatUpstream, tickets: Running
) -> None:
    upstream.script(Reply.calls(("weather", {}), ("echo", {"text": "x"})), Reply.chat("Sunny x."))
    body = body_of(tickets)
    body["tools"].append(FUNCTION)
    first = api.post("/v1/responses", json=body).json()
    assert kinds(first) == ["mcp_list_tools", "function_call", "mcp_call"]
    answer = {
        "type": "function_call_output",
        "call_id": first["output"][1]["call_id"],
        "output": "sun",
    }
    more = {**body, "previous_response_id": first["id"], "input": [answer]}
    second = api.post("/v1/responses", json=more).json()
    assert second["output_text"] == "Sunny x."
    sent = upstream.requests[1].json["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert len(sent[1]["tool_calls"]) == 2
