"""MCP servers that break or lie: the call or the list fails, nothing hangs (R-89, R-90)."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from antiphon.errors import ExternalConnectorError
from antiphon.tools.mcp.tool import Mcp
from tests.pace import pace
from tests.tools.mcp_world import (
    HELLO,
    Answer,
    Json,
    Raw,
    Staged,
    call,
    call_item,
    hosting,
    http,
    opened,
    result,
    says,
)

NOT_MCP = "The server did not answer as an MCP server does."
UNREACHED = "The server could not be reached."
LOST = "The connection to the server was lost."
TOO_LARGE = "The answer of the server is too large."
SSE = "text/event-stream"


@pytest.fixture
async def mcp() -> AsyncIterator[Mcp]:
    """All that it opened is gone afterwards."""
    async with hosting() as made:
        yield made
    await asyncio.sleep(0)
    assert made._tasks == set()


def stream(*events: Json | str, more: str = "") -> bytes:
    """An answer that is a stream, and ends."""
    lines = [
        event if isinstance(event, str) else f"event: message\ndata: {json.dumps(event)}\n\n"
        for event in events
    ]
    return http(200, "".join(lines).encode(), SSE, more)


def body(value: Any) -> bytes:
    """An answer that is JSON."""
    return http(200, json.dumps(value).encode())


async def refuse(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
    """Close without a word."""
    writer.close()


async def wait(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.sleep(60)


async def half(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
    """Promise more than there is."""
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
    )
    await writer.drain()
    writer.close()


async def drip(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
    """A stream of events that never ends."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
    note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info"}}
    while True:
        writer.write(f"data: {json.dumps(note)}\n\n".encode())
        await writer.drain()
        await asyncio.sleep(0.01)


def flood(kind: str, head: bytes, piece: bytes) -> Answer:
    """A body that never ends, as fast as it is read."""

    async def answer(_: str, message: Json, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n\r\n".encode() + head)
        while True:
            writer.write(piece)
            await writer.drain()

    return answer


LIES: list[tuple[Answer, str]] = [
    (refuse, UNREACHED),
    (half, UNREACHED),
    (says(b"SSH-2.0-OpenSSH_9.6\r\n"), UNREACHED),
    (says(http(500)), "Http status code: 500 (Internal Server Error)"),
    (says(http(401, b"no", "text/plain")), "Http status code: 401 (Unauthorized)"),
    (says(http(403)), "Http status code: 403 (Forbidden)"),
    (says(http(799)), "Http status code: 799 (Unknown)"),
    (says(http(500, b"", "text/\xe4")), "Http status code: 500 (Internal Server Error)"),
    (says(http(404)), "Http status code: 404 (Not Found)"),
    (says(http(200, b"<html>", "text/html")), NOT_MCP),
    (says(http(200, b"")), NOT_MCP),
    (says(http(200, b"{", more="content-encoding: gzip\r\n")), NOT_MCP),
    (says(http(202)), NOT_MCP),
    (says(http(204)), NOT_MCP),
    (says(body([])), NOT_MCP),
    (says(body({"jsonrpc": "2.0", "id": 77, "result": HELLO})), NOT_MCP),
    (says(body({"jsonrpc": "2.0", "id": None, "error": {"code": 1, "message": "x"}})), NOT_MCP),
    (result({"nonsense": True}), NOT_MCP),
    (result({**HELLO, "protocolVersion": "1999-01-01"}), NOT_MCP),
    (result({"tools": "none"}), NOT_MCP),
    (says(stream()), LOST),
    (says(stream("data: {nonsense\n\n")), NOT_MCP),
    (says(stream(": nothing\n\n" * 10)), LOST),
    (flood("application/json", b'{"a": "', b"x" * 65536), TOO_LARGE),
    (flood(SSE, b"data: ", b"x" * 65536), TOO_LARGE),
    (flood(SSE, b"", b": nothing\n\n" * 5000), TOO_LARGE),
    (says(http(200, b"\xff" * 10, SSE)), LOST),
]


@pytest.mark.parametrize("step", ["initialize", "tools/list"])
@pytest.mark.parametrize(("lie", "text"), LIES)
async def test_a_list_that_cannot_be_had_fails_at_once(
    mcp: Mcp, lie: Answer, text: str, step: str
) -> None:
    async with Raw() as server:
        server.answers[step] = lie
        begin = time.monotonic()
        stage = Staged()
        with pytest.raises(ExternalConnectorError) as caught:
            await opened(mcp, server.url).prepare(stage)
        assert time.monotonic() - begin < 3 * pace()
        reason = UNREACHED if text == LOST else text
        message = f"Error retrieving tool list from MCP server: 'tickets'. {reason}"
        error = caught.value
        assert (error.message, error.status, error.param) == (message, 424, "tools")
        assert (stage.begun[0].status, stage.begun[0].fields["error"]) == ("failed", message)
        assert stage.begun[0].fields["tools"] == []


@pytest.mark.parametrize(("lie", "text"), LIES)
async def test_a_call_that_goes_wrong_fails_with_its_reason(
    mcp: Mcp, lie: Answer, text: str
) -> None:
    async with Raw(tools_call=lie) as server:
        begin = time.monotonic()
        outcome = await opened(mcp, server.url).run(call("t"), call_item())
        assert time.monotonic() - begin < 3 * pace()
        assert (outcome.status, outcome.fields["output"]) == ("failed", None)
        told = str(outcome.told)
        assert told == text
        error = outcome.fields["error"]
        if text.startswith("Http"):
            assert error["type"] == "http_error"
            assert f"{error['code']} ({error['message']})" in text
        else:
            assert error == {
                "type": "mcp_tool_execution_error",
                "content": [{"type": "text", "text": text}],
            }


@pytest.mark.parametrize("step", ["initialize", "tools/list", "notifications/initialized"])
@pytest.mark.parametrize("answer", [wait, drip])
async def test_a_server_that_never_answers_is_not_waited_for(
    mcp: Mcp, answer: Answer, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-89: here with shorter limits."""
    monkeypatch.setattr("antiphon.tools.mcp.connection.LIST_TIMEOUT", 0.3)
    monkeypatch.setattr("antiphon.tools.mcp.connection.OPEN_TIMEOUT", 0.3)
    monkeypatch.setattr("antiphon.tools.mcp.transport._NOTE_TIMEOUT", 0.2)
    async with Raw(tools_list=result({"tools": []})) as server:
        server.answers[step] = answer
        begin = time.monotonic()
        tool = opened(mcp, server.url)
        if step == "notifications/initialized":
            await tool.prepare(Staged())
        else:
            with pytest.raises(ExternalConnectorError) as caught:
                await tool.prepare(Staged())
            assert caught.value.message.endswith(UNREACHED)
        assert time.monotonic() - begin < 2 * pace()


async def test_a_call_that_is_not_answered_can_be_given_up(mcp: Mcp) -> None:
    """The engine limits the time; whether the server takes a cancellation is its own matter."""
    async with Raw(tools_call=drip, notifications_cancelled=wait) as server:
        tool = opened(mcp, server.url)
        for _ in range(3):
            begin = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await tool.run(call("t"), call_item())
            assert time.monotonic() - begin < 1 * pace()
        assert server.asked("initialize") == 1


async def test_an_error_of_the_server_is_passed_on(mcp: Mcp) -> None:
    error = {"code": -32602, "message": "Unknown tool: " + "t" * 5000, "data": {"secret": 1}}

    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        status = 200 if server.asked("tools/call") == 1 else 400
        reply = {"jsonrpc": "2.0", "id": message["id"], "error": error}
        writer.write(http(status, json.dumps(reply).encode()))

    async with Raw(tools_call=answer) as server:
        tool = opened(mcp, server.url)
        for _ in range(2):
            outcome = await tool.run(call("t"), call_item())
            found = outcome.fields["error"]
            assert (found["type"], found["code"]) == ("mcp_protocol_error", -32602)
            assert found["message"].startswith("Unknown tool: ttt")
            assert len(found["message"]) < 2_100
            assert outcome.told == found["message"]


async def test_an_error_of_the_server_at_listing_is_named_by_its_code(mcp: Mcp) -> None:
    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        error = {"code": -32603, "message": "secret text"}
        writer.write(body({"jsonrpc": "2.0", "id": message["id"], "error": error}))

    async with Raw(tools_list=answer) as server:
        with pytest.raises(ExternalConnectorError) as caught:
            await opened(mcp, server.url).prepare(Staged())
        assert caught.value.message.endswith("The server answered with an error (code -32603).")


async def test_a_status_is_told_of_a_list_whatever_came_with_it(mcp: Mcp) -> None:
    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        error = {"code": -32001, "message": "no token"}
        reply = {"jsonrpc": "2.0", "id": message["id"], "error": error}
        writer.write(http(401, json.dumps(reply).encode()))

    async with Raw() as server:
        for step in ("tools/list", "initialize"):
            server.answers[step] = answer
            with pytest.raises(ExternalConnectorError) as caught:
                await opened(mcp, server.url).prepare(Staged())
            assert caught.value.message.endswith("Http status code: 401 (Unauthorized)")


async def test_a_session_that_the_server_ended_is_opened_anew_and_the_call_repeated(
    mcp: Mcp,
) -> None:
    """It was not run: the server did not know the session."""

    async def hello(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        reply = {"jsonrpc": "2.0", "id": message["id"], "result": HELLO}
        number = server.asked("initialize")
        writer.write(http(200, json.dumps(reply).encode(), more=f"mcp-session-id: s{number}\r\n"))

    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        if "mcp-session-id: s1" in head.lower():
            writer.write(http(404))
        else:
            await result({"content": [{"type": "text", "text": "ok"}]})(head, message, writer)

    async with Raw(initialize=hello, tools_call=answer) as server:
        tool = opened(mcp, server.url)
        outcomes = [await tool.run(call("t"), call_item()) for _ in range(2)]
        assert [outcome.fields["output"] for outcome in outcomes] == ["ok", "ok"]
        assert (server.asked("initialize"), server.asked("tools/call")) == (2, 3)


async def test_a_session_that_ended_for_one_call_ends_with_the_last_answer(mcp: Mcp) -> None:
    """R-34: what runs in it runs on."""
    going = asyncio.Event()

    async def hello(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        reply = {"jsonrpc": "2.0", "id": message["id"], "result": HELLO}
        number = server.asked("initialize")
        writer.write(http(200, json.dumps(reply).encode(), more=f"mcp-session-id: s{number}\r\n"))

    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        if message["params"]["name"] == "long":
            await going.wait()
        lost = message["params"]["name"] != "long" and "mcp-session-id: s1" in head.lower()
        await (says(http(404)) if lost else result({"content": []}))(head, message, writer)

    def ended() -> list[str]:
        return [head for head, method in server.got if method == "DELETE"]

    async with Raw(initialize=hello, tools_call=answer) as server:
        tool = opened(mcp, server.url)
        long = asyncio.create_task(tool.run(call("long"), call_item()))
        await asyncio.sleep(0.1)
        assert (await tool.run(call("short"), call_item())).status == "completed"
        assert ended() == []
        going.set()
        assert (await long).status == "completed"
        async with asyncio.timeout(2):
            while not ended():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert "mcp-session-id: s1" in ended()[0].lower()
        assert (await tool.run(call("short"), call_item())).status == "completed"


async def test_nothing_is_asked_before_the_server_knows_that_the_handshake_is_over(
    mcp: Mcp,
) -> None:
    known = asyncio.Event()

    async def initialized(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        known.set()
        writer.write(http(202))

    async def listed(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        lie = says(http(400)) if not known.is_set() else result({"tools": []})
        await lie(head, message, writer)

    async with Raw(notifications_initialized=initialized, tools_list=listed) as server:
        await opened(mcp, server.url).prepare(Staged())


async def test_a_session_that_is_always_unknown_is_opened_anew_once(mcp: Mcp) -> None:
    async with Raw(tools_call=says(http(404))) as server:
        hello = json.dumps({"jsonrpc": "2.0", "id": 1, "result": HELLO}).encode()
        server.answers["initialize"] = says(http(200, hello, more="mcp-session-id: s\r\n"))
        outcome = await opened(mcp, server.url).run(call("t"), call_item())
        assert outcome.told == "The server has ended the session."
        assert server.asked("initialize") == 2


async def test_a_session_id_that_no_header_can_have_is_refused(mcp: Mcp) -> None:
    async with Raw(tools_list=result({"tools": []})) as server:
        hello = json.dumps({"jsonrpc": "2.0", "id": 1, "result": HELLO}).encode()
        raw = http(200, hello, more="mcp-session-id: \xe4\r\n")
        server.answers["initialize"] = says(raw)
        with pytest.raises(ExternalConnectorError) as caught:
            await opened(mcp, server.url).prepare(Staged())
        assert caught.value.message.endswith(NOT_MCP)


async def test_a_stream_that_breaks_off_is_asked_for_again_but_not_for_ever(mcp: Mcp) -> None:
    broken = stream("id: 7\nretry: 0\ndata:\n\n")
    async with Raw(tools_call=says(broken), GET=says(broken)) as server:
        begin = time.monotonic()
        outcome = await opened(mcp, server.url).run(call("t"), call_item())
        assert outcome.status == "failed"
        assert server.asked("GET") <= 40
        assert time.monotonic() - begin < 3 * pace()


async def test_a_stream_that_breaks_off_goes_on(mcp: Mcp) -> None:
    answer = {"jsonrpc": "2.0", "id": 2, "result": {"content": [{"type": "text", "text": "ok"}]}}

    async def resume(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        resumed = "last-event-id: 7" in head.lower()
        writer.write(stream(answer) if resumed else http(405))

    broken = stream("id: 7\nretry: 0\ndata:\n\n")
    async with Raw(tools_call=says(broken), GET=resume) as server:
        outcome = await opened(mcp, server.url).run(call("t"), call_item())
        assert outcome.fields["output"] == "ok"


async def test_one_failed_call_leaves_the_others_alone(mcp: Mcp) -> None:
    """R-34."""
    going = asyncio.Event()

    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        if message["params"]["name"] == "bad":
            await half(head, message, writer)
        else:
            await going.wait()
            await result({"content": []})(head, message, writer)

    async with Raw(tools_call=answer) as server:
        tool = opened(mcp, server.url)
        good = asyncio.create_task(tool.run(call("good"), call_item()))
        await asyncio.sleep(0.1)
        bad = await tool.run(call("bad"), call_item())
        going.set()
        assert (bad.status, (await good).status) == ("failed", "completed")
        assert server.asked("initialize") == 1
