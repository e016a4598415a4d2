"""MCP servers of the old transport, HTTP with SSE, that break or lie: R-34, R-89, R-90."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from antiphon.errors import ExternalConnectorError
from antiphon.tools.mcp.tool import Mcp
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
    says,
)
from tests.tools.test_mcp_hostile import NOT_MCP, SSE, UNREACHED, flood, half, refuse, stream, wait


@pytest.fixture
async def mcp() -> AsyncIterator[Mcp]:
    async with hosting() as made:
        yield made


class OldRaw(Raw):
    """Answers everything on the stream that a GET opened. What `answers` has for a method answers
    the POST instead."""

    def __init__(self, **answers: Answer) -> None:
        super().__init__()
        self.answers = {name.replace("_", "/"): answer for name, answer in answers.items()}
        self.answers.setdefault("GET", self._listen)
        self.answers.setdefault("initialize", self._push(HELLO))
        self.answers.setdefault("tools/list", self._push({"tools": []}))
        self.answers.setdefault("tools/call", self._push({"content": []}))
        self.answers.setdefault("notifications/initialized", says(http(202)))
        self.answers.setdefault("notifications/cancelled", says(http(202)))
        self.out: asyncio.Queue[Json] = asyncio.Queue()

    @property
    def url(self) -> str:
        """Where it listens."""
        return super().url.replace("/mcp", "/sse")

    async def _listen(self, head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        writer.write(b"event: endpoint\ndata: /messages?s=1\n\n")
        while True:
            await writer.drain()
            writer.write(f"event: message\ndata: {json.dumps(await self.out.get())}\n\n".encode())

    def _push(self, value: Json) -> Answer:
        async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
            writer.write(http(202))
            if (message.get("params") or {}).get("name") != "mute":
                self.out.put_nowait({"jsonrpc": "2.0", "id": message["id"], "result": value})

        return answer


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (says(http(500)), "Http status code: 500 (Internal Server Error)"),
        (says(http(307, more="location: /elsewhere\r\n")), "Http status code: 307"),
        (refuse, UNREACHED),
        (half, None),
    ],
)
async def test_a_refused_message_of_the_old_transport_fails_its_call_only(
    mcp: Mcp, lie: Answer, told: str | None
) -> None:
    """R-34: the answer to another call is still waited for."""
    async with OldRaw(tools_call=lie) as server:
        bad = server.answers["tools/call"]

        async def choose(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
            good = message["params"]["name"] != "bad"
            await (server._push({"content": []}) if good else bad)(head, message, writer)

        server.answers["tools/call"] = choose
        tool = opened(mcp, server.url)
        mute = asyncio.create_task(tool.run(call("mute"), call_item()))
        await asyncio.sleep(0.05)
        if told is not None:
            outcome = await tool.run(call("bad"), call_item())
            assert (outcome.status, str(outcome.told)[: len(told)]) == ("failed", told)
        assert (await tool.run(call("good"), call_item())).status == "completed"
        assert not mute.done()
        mute.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mute
        assert server.asked("initialize") == 1


@pytest.mark.parametrize(
    ("lie", "text"),
    [
        (says(http(401)), "Http status code: 401 (Unauthorized)"),
        (says(http(200, b"{}")), NOT_MCP),
        (says(stream()), NOT_MCP),
        (says(stream("event: endpoint\ndata: /messages\n\n")), UNREACHED),
        (flood(SSE, b"", b": nothing\n\n" * 5000), UNREACHED),
        (refuse, UNREACHED),
        (wait, UNREACHED),
    ],
)
async def test_a_stream_of_the_old_transport_that_is_none_is_a_failed_list(
    mcp: Mcp, lie: Answer, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.tools.mcp.connection.OPEN_TIMEOUT", 1.0)
    async with OldRaw(GET=lie) as server:
        server.answers["initialize"] = says(http(405))
        begin = time.monotonic()
        with pytest.raises(ExternalConnectorError) as caught:
            await opened(mcp, server.url).prepare(Staged())
        assert caught.value.message.endswith(text)
        assert time.monotonic() - begin < 2


async def test_a_message_that_is_not_taken_holds_the_others_up_for_a_while_only(
    mcp: Mcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK sends one after the other there."""
    monkeypatch.setattr("antiphon.tools.mcp.transport._NOTE_TIMEOUT", 0.3)
    async with OldRaw() as server:
        tool = opened(mcp, server.url)
        assert (await tool.run(call("good"), call_item())).status == "completed"
        push = server.answers["tools/call"]
        server.answers["tools/call"] = wait
        doomed = asyncio.create_task(tool.run(call("bad"), call_item()))
        await asyncio.sleep(0.05)
        server.answers["tools/call"] = push
        begin = time.monotonic()
        assert (await tool.run(call("good"), call_item())).status == "completed"
        assert time.monotonic() - begin < 1
        assert (await doomed).told == UNREACHED
