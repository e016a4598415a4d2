"""The tool `mcp` and a real server over Streamable HTTP: spec §4.1; R-34, R-58, R-90."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import ResponseOutputItem
from pydantic import TypeAdapter

from antiphon.egress import Policy
from antiphon.errors import ToolFailed
from antiphon.tools.base import Outcome, Scope
from antiphon.tools.mcp.opened import OpenMcp
from antiphon.tools.mcp.tool import Mcp
from tests.tools.mcp_world import (
    LOOPBACK,
    Json,
    Running,
    Staged,
    call,
    call_item,
    hosting,
    opened,
)

ITEM: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)


@pytest.fixture(scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("mcp") / "log") as running:
        yield running


@pytest.fixture
def server(_server: Running) -> Running:
    """A server of which only this test counts."""
    _server.forget()
    return _server


@pytest.fixture
async def mcp() -> AsyncIterator[Mcp]:
    async with hosting() as made:
        yield made


@pytest.fixture
async def tool(mcp: Mcp, server: Running) -> OpenMcp:
    """Of a request whose list of tools stands in the context."""
    made = opened(mcp, server.url)
    await made.prepare(Staged([LIST]))
    return made


LIST = {
    "type": "mcp_list_tools",
    "id": "mcpl_1",
    "server_label": "tickets",
    "tools": [{"name": "echo", "input_schema": {"type": "object"}, "annotations": None}],
    "error": None,
}


def item_of(tool: OpenMcp, function: str, outcome: Outcome) -> Json:
    """The finished item, checked with OpenAI's own type."""
    begun = tool.begin(call(function))
    item = {"id": "mcp_1", "type": "mcp_call", "status": outcome.status, **begun, **outcome.fields}
    ITEM.validate_python(item, strict=True)
    return item


async def test_tools_are_listed_in_an_item_of_their_own(mcp: Mcp, server: Running) -> None:
    tool = opened(mcp, server.url, allowed_tools=["add", "write"], server_description="All\nof it")
    stage = Staged()
    assert tool.functions == []
    await tool.prepare(stage)
    [item] = stage.begun
    assert (item.type, item.status, item.events) == ("mcp_list_tools", "completed", [])
    assert list(item.fields) == ["server_label", "tools"]
    add, write = item.fields["tools"]
    assert list(add) == ["annotations", "description", "input_schema", "name"]
    mark = add["annotations"]["listed_for"]
    assert add["annotations"] == {"read_only": True, "listed_for": mark}
    assert write["annotations"] == {"read_only": False, "listed_for": mark}
    assert (add["name"], add["description"]) == ("add", "Add two numbers.")
    assert add["input_schema"]["required"] == ["a", "b"]
    ITEM.validate_python({"id": "mcpl_1", "type": item.type, **item.fields}, strict=True)
    functions = {function.name: function for function in tool.functions}
    assert list(functions) == ["add", "write"]
    assert functions["add"].description == "[All of it] Add two numbers."
    assert functions["add"].parameters == add["input_schema"]
    assert (functions["add"].repeatable, functions["write"].repeatable) == (True, False)


async def test_much_can_be_said_of_a_server(mcp: Mcp, server: Running) -> None:
    tool = opened(mcp, server.url, server_description="x" * 2_000)
    await tool.prepare(Staged([LIST]))
    assert tool.functions[0].description == f"[{'x' * 1_000}] "


async def test_a_list_in_the_context_is_not_fetched_again(mcp: Mcp, server: Running) -> None:
    first = opened(mcp, server.url)
    stage = Staged()
    await first.prepare(stage)
    listed = {"type": "mcp_list_tools", "id": "mcpl_1", **stage.begun[0].fields}
    server.forget()
    second = opened(mcp, server.url)
    empty = {**listed, "tools": []}
    later = Staged([listed, {**listed, "error": "broken"}, empty, {"type": "message"}])
    await second.prepare(later)
    assert (later.begun, server.log()) == ([], [])
    assert second.functions == first.functions
    assert len(second.functions) == 14


@pytest.mark.parametrize(
    ("then", "now", "again"),
    [
        (None, None, False),
        (None, ["echo"], False),
        ({"read_only": False}, None, False),
        (["echo", "add"], {"tool_names": ["add", "echo"]}, False),
        ({"read_only": True}, {"read_only": True}, False),
        (["echo"], ["echo", "add"], True),
        (["echo"], ["add"], True),
        (["echo"], None, True),
        ({"read_only": True}, None, True),
        (["echo"], {"tool_names": ["echo"], "read_only": True}, True),
    ],
)
async def test_a_list_is_fetched_again_where_other_tools_are_allowed(
    mcp: Mcp, server: Running, then: object, now: object, again: bool
) -> None:
    stage = Staged()
    await opened(mcp, server.url, allowed_tools=then).prepare(stage)
    listed = {"type": "mcp_list_tools", "id": "mcpl_1", **stage.begun[0].fields}
    later = Staged([listed])
    tool, fresh = (opened(mcp, server.url, allowed_tools=now) for _ in range(2))
    await tool.prepare(later)
    assert bool(later.begun) is again
    await fresh.prepare(Staged())
    assert tool.functions == fresh.functions


async def test_a_list_of_another_server_is_not_used(mcp: Mcp, server: Running) -> None:
    """Under the same label: what one server says of its tools is nothing for calls of another."""
    stage = Staged()
    await opened(mcp, server.url + "?other").prepare(stage)
    other = {"type": "mcp_list_tools", "id": "mcpl_1", **stage.begun[0].fields}
    later = Staged([other])
    await opened(mcp, server.url).prepare(later)
    mine = {"type": "mcp_list_tools", "id": "mcpl_2", **later.begun[0].fields}
    for context in ([mine, other], [other, mine]):
        again = Staged(context)
        await opened(mcp, server.url).prepare(again)
        assert again.begun == []


@pytest.mark.parametrize(("allowed", "again"), [(None, False), (["echo"], False), (["add"], True)])
async def test_a_list_without_a_mark_is_used_unless_it_lacks_a_tool(
    mcp: Mcp, server: Running, allowed: object, again: bool
) -> None:
    """The client may have it from elsewhere."""
    stage = Staged([LIST])
    await opened(mcp, server.url, allowed_tools=allowed).prepare(stage)
    assert bool(stage.begun) is again


@pytest.mark.parametrize(
    "other",
    [
        {"server_label": "others"},
        {"error": "it failed"},
        {"error": {"type": "http_error"}},
        {"tools": []},
        {"tools": "echo"},
        {"tools": [1, {"name": "echo"}, {"input_schema": {}}]},
    ],
)
async def test_a_list_that_says_nothing_is_fetched(mcp: Mcp, server: Running, other: Json) -> None:
    stage = Staged([{**LIST, **other}])
    await opened(mcp, server.url).prepare(stage)
    assert (len(stage.begun), server.asked("tools/list")) == (1, 1)


async def test_one_connection_and_one_list_serve_a_whole_response(
    mcp: Mcp, server: Running
) -> None:
    tool = opened(mcp, server.url)
    await tool.prepare(Staged())
    for number in range(3):
        outcome = await tool.run(call("add", {"a": number, "b": 1}), call_item())
        assert json.loads(str(outcome.fields["output"])) == {"total": number + 1}
    assert server.asked("initialize") == 1
    assert server.asked("tools/list") == 1
    assert server.asked("tools/call") == 3
    tool.close()
    await mcp.aclose()
    assert [entry["http"] for entry in server.log()][-1] == "DELETE"


async def test_a_listed_tool_is_called_without_another_list(tool: OpenMcp, server: Running) -> None:
    """`add` has a schema for its output, which the SDK would ask for."""
    await tool.run(call("add", {"a": 1, "b": 2}), call_item())
    assert server.asked("tools/list") == 0


async def test_the_arguments_are_said_before_anything_else(tool: OpenMcp) -> None:
    item = call_item()
    running = asyncio.create_task(tool.run(call("echo", '{"text": "a"}'), item))
    await asyncio.sleep(0)
    assert item.events == [
        ("mcp_call_arguments.delta", {"delta": '{"text": "a"}'}),
        ("mcp_call_arguments.done", {"arguments": '{"text": "a"}'}),
    ]
    await running
    assert len(item.events) == 2


async def test_a_call_that_another_process_announced_says_nothing_twice(tool: OpenMcp) -> None:
    item = call_item(fresh=False)
    outcome = await tool.run(call("echo", {"text": "a"}), item)
    assert (item.events, outcome.fields["output"]) == ([], "a")


def test_a_call_begins_in_the_shape_of_the_recording() -> None:
    tool = opened(Mcp(Policy(LOOPBACK), {}), "http://127.0.0.1:1/mcp")
    begun = tool.begin(call("echo", {}, "mcpr_1"))
    assert list(begun.items()) == [
        ("approval_request_id", "mcpr_1"),
        ("arguments", ""),
        ("error", None),
        ("name", "echo"),
        ("output", None),
        ("server_label", "tickets"),
    ]
    tool.close()


@pytest.mark.parametrize(
    ("function", "output"),
    [
        ("structured", '{"deep":{"n":1}}'),
        ("picture", "[image/png, 70 bytes]"),
        ("false_picture", "[image/png, 21 bytes]"),
        (
            "resources",
            "see\n[resource: file:///a.txt]\na.txt\nThe letter a\nbee\n[text/csv, 5 bytes]",
        ),
        ("ask", "declined: Sampling not supported"),
    ],
)
async def test_what_a_tool_answers_becomes_text(tool: OpenMcp, function: str, output: str) -> None:
    outcome = await tool.run(call(function), call_item())
    assert outcome.fields == {"arguments": "{}", "output": output, "error": None}
    item_of(tool, function, outcome)
    if function == "picture":
        assert isinstance(outcome.told, list)
        assert outcome.told[0] == {"type": "input_text", "text": output}
        assert outcome.told[1]["type"] == "input_image"
        assert outcome.told[1]["image_url"].startswith("data:image/png;base64,iVBOR")
    else:
        assert outcome.told is None


async def test_a_tool_that_fails_says_why(tool: OpenMcp) -> None:
    outcome = await tool.run(call("broken"), call_item())
    text = "Error executing tool broken: no such ticket"
    assert (outcome.status, outcome.told) == ("failed", text)
    item = item_of(tool, "broken", outcome)
    assert item["output"] is None
    assert item["error"] == {
        "type": "mcp_tool_execution_error",
        "content": [{"type": "text", "text": text}],
    }


async def test_output_is_bounded_and_says_so(mcp: Mcp, server: Running) -> None:
    tool = opened(mcp, server.url, Scope("p", most_text=100))
    outcome = await tool.run(call("large", {"size": 2_000_000}), call_item())
    output = str(outcome.fields["output"])
    assert output == "x" * 100 + "\n[truncated: 100 of 2000000 characters]"


async def test_arguments_that_are_no_object_are_not_sent(tool: OpenMcp, server: Running) -> None:
    for arguments in ("[1]", "{", '"a"'):
        with pytest.raises(ToolFailed):
            await tool.run(call("echo", arguments), call_item())
    assert server.log() == []


def test_a_call_that_could_not_be_run_fails_with_its_reason() -> None:
    tool = opened(Mcp(Policy(LOOPBACK), {}), "http://127.0.0.1:1/mcp")
    outcome = tool.failed(call("echo", {"a": 1}), "The user said no.")
    assert (outcome.status, outcome.told) == ("failed", "The user said no.")
    item = item_of(tool, "echo", outcome)
    assert (item["arguments"], item["error"]["content"][0]["text"]) == (
        '{"a": 1}',
        "The user said no.",
    )
    tool.close()


async def test_calls_run_at_once_in_one_session(tool: OpenMcp, server: Running) -> None:
    begin = time.monotonic()
    calls = [tool.run(call("slow", {"seconds": 0.4}), call_item()) for _ in range(6)]
    outcomes = await asyncio.gather(*calls)
    assert {outcome.fields["output"] for outcome in outcomes} == {"done"}
    assert time.monotonic() - begin < 1.6
    assert server.asked("initialize") == 1


async def test_a_cancelled_call_is_cancelled_there_and_breaks_no_other(
    tool: OpenMcp, server: Running
) -> None:
    """R-34, R-58."""
    other = asyncio.create_task(tool.run(call("slow", {"seconds": 0.6}), call_item()))
    await server.until(began="slow")
    doomed = asyncio.create_task(tool.run(call("slow", {"seconds": 60}), call_item()))
    await server.until(2, began="slow")
    doomed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doomed
    await server.until(cancelled="slow")
    assert (await other).fields["output"] == "done"
    assert (await tool.run(call("echo", {"text": "on"}), call_item())).fields["output"] == "on"
    assert server.asked("initialize") == 1


async def test_a_closed_tool_ends_its_calls_and_opens_nothing(tool: OpenMcp, mcp: Mcp) -> None:
    running = asyncio.create_task(tool.run(call("slow", {"seconds": 60}), call_item()))
    await asyncio.sleep(0.2)
    tool.close()
    assert (await running).status == "failed"
    with pytest.raises(ToolFailed):
        await tool.run(call("echo", {"text": "a"}), call_item())
    await mcp.aclose()


async def test_a_tool_that_is_closed_while_it_connects_leaves_nothing(server: Running) -> None:
    async with hosting() as mcp:
        tool = opened(mcp, server.url)
        preparing = asyncio.create_task(tool.prepare(Staged()))
        await asyncio.sleep(0.005)
        preparing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await preparing
        tool.close()
    assert all(task is asyncio.current_task() for task in asyncio.all_tasks())


async def test_a_server_that_dies_fails_the_call_and_is_found_again(
    mcp: Mcp, tmp_path: Path
) -> None:
    """R-90: what is repeated is what the new process said that it had not run."""
    with Running(tmp_path / "log") as server:
        tool = opened(mcp, server.url)
        begin = time.monotonic()
        outcome = await tool.run(call("die"), call_item())
        assert (outcome.status, outcome.told) == (
            "failed",
            "The connection to the server was lost.",
        )
        assert time.monotonic() - begin < 3
        item_of(tool, "die", outcome)
        outcome = await tool.run(call("echo", {"text": "a"}), call_item())
        assert outcome.told == "The server could not be reached."
        server.restart()
        server.forget()
        outcome = await tool.run(call("write", {"text": "a"}), call_item())
        assert outcome.fields["output"] == "written"
        assert server.asked("initialize") == 1
        assert sum("wrote" in entry for entry in server.log()) == 1
        tool.close()
