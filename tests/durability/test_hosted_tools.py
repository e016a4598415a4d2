"""``kill -9`` around calls of a real MCP server (R-66, decision 0007): what had ended is not run
again, what must not be made twice has failed, what only reads is made again in the same item."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from antiphon.testing import assert_valid_log
from tests.api.talk import Json, client_of, events
from tests.backends.upstream import ChatUpstream, Reply
from tests.live import CHAT_TOML, LiveServer, serve
from tests.tools.mcp_world import Running

ENV = {"ANTIPHON_ALLOW_PRIVATE_HOSTS": "127.0.0.1", "ANTIPHON_LEASE": "1"}


@pytest.fixture
def tickets(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "mcp.log") as running:
        yield running


def toml(upstream: ChatUpstream) -> str:
    return CHAT_TOML.format(base_url=upstream.base_url)


def begin(server: LiveServer, tickets: Running) -> str:
    """A background response with the MCP server; its id."""
    tool = {"type": "mcp", "server_label": "t", "server_url": tickets.url}
    body = {"model": "m", "input": "Hi", "tools": [{**tool, "require_approval": "never"}]}
    with client_of(server) as api:
        made = api.post("/v1/responses", json={**body, "background": True})
        id_: str = made.json()["id"]
    return id_


def until(tickets: Running, **entry: object) -> None:
    """Wait for an entry of the MCP server's log."""
    end = time.monotonic() + 10
    while not any(entry.items() <= found.items() for found in tickets.log()):
        assert time.monotonic() < end
        time.sleep(0.01)


def replay(api: httpx2.Client, id_: str) -> tuple[Json, list[Json]]:
    """The final Response and its whole log."""
    found = events(api.get(f"/v1/responses/{id_}", params={"stream": "true"}).text)
    return assert_valid_log(found), found


def test_killed_between_two_calls(tmp_path: Path, tickets: Running, upstream: ChatUpstream) -> None:
    """The first has its result, the model is asked for the second once more."""
    upstream.script(
        Reply.calls(("write", {"text": "once"})),
        Reply(body=["stall"]),
        Reply.calls(("echo", {"text": "later"})),
        Reply.chat("Done."),
    )
    with serve(tmp_path, toml(upstream), ENV) as server:
        id_ = begin(server, tickets)
        while len(upstream.requests) < 2:
            time.sleep(0.01)
        server.kill()
    with serve(tmp_path, env=ENV) as server, client_of(server) as api:
        final, _ = replay(api, id_)
    assert [item["type"] for item in final["output"]] == [
        *("mcp_list_tools", "mcp_call", "mcp_call", "message")
    ]
    assert [item["output"] for item in final["output"][1:3]] == ["written", "later"]
    assert sum("wrote" in entry for entry in tickets.log()) == 1
    assert tickets.asked("tools/list") == 1
    third = upstream.requests[2].json["messages"]
    assert [message["role"] for message in third] == ["user", "assistant", "tool"]


def test_killed_while_one_of_two_calls_runs(
    tmp_path: Path, tickets: Running, upstream: ChatUpstream
) -> None:
    """Both were made at once: the one that had ended stays, the other one's outcome is unknown."""
    upstream.script(
        Reply.calls(("slow", {"seconds": 20}), ("write", {"text": "once"})), Reply.chat("Done.")
    )
    with serve(tmp_path, toml(upstream), ENV) as server:
        id_ = begin(server, tickets)
        until(tickets, began="slow")
        until(tickets, wrote="once")
        with client_of(server) as api:
            while "written" not in api.get(f"/v1/responses/{id_}").text:
                time.sleep(0.01)
        server.kill()
    with serve(tmp_path, env=ENV) as server, client_of(server) as api:
        final, log = replay(api, id_)
    slow, write = final["output"][1:3]
    assert (slow["name"], slow["status"]) == ("slow", "failed")
    assert "unknown" in str(slow["error"])
    assert (write["name"], write["output"]) == ("write", "written")
    assert final["output_text"] == "Done."
    assert tickets.asked("tools/call") == 2
    announced = [e for e in log if e["type"] == "response.output_item.added"]
    assert len(announced) == len(final["output"]), "nothing was announced twice"
    told = [m["content"] for m in upstream.requests[1].json["messages"] if m["role"] == "tool"]
    assert "unknown" in told[0]
    assert "written" in told[1]
