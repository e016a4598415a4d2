"""What one MCP server may take of this process: sockets and time of the loop (R-34, R-89, R-90,
R-118)."""

import asyncio
import contextlib
import json
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from antiphon.egress import Policy
from antiphon.errors import ExternalConnectorError
from antiphon.tools.mcp import sockets
from antiphon.tools.mcp.faults import TooLarge
from antiphon.tools.mcp.servers import Local, Server
from antiphon.tools.mcp.tool import Mcp
from antiphon.tools.mcp.weight import MOST_VALUES, Events, check_weight
from tests.pace import pace
from tests.tools.mcp_world import (
    HELLO,
    SCHEMA,
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
from tests.tools.test_mcp_old_transport import OldRaw

SSE = "text/event-stream"
LOST = "The connection to the server was lost."
TOO_LARGE = "The answer of the server is too large."


@pytest.fixture
async def mcp() -> AsyncIterator[Mcp]:
    async with hosting() as made:
        yield made


class Asking(Raw):
    """Asks without end, and never takes an answer: on the stream that a GET opened (``GET``), or
    in the answer to a call (``tools/call``)."""

    def __init__(self, where: str) -> None:
        super().__init__()
        hello = json.dumps({"jsonrpc": "2.0", "id": 1, "result": HELLO}).encode()
        self.answers["initialize"] = says(http(200, hello, more="mcp-session-id: s\r\n"))
        self.answers["tools/call"] = self._never
        self.answers[where] = self._ask
        self.answers["POST"] = self._never
        #: Answers that wait to be taken, now and at most.
        self.waiting = self.most = 0

    async def _ask(self, head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        for number in range(100_000):
            ping = {"jsonrpc": "2.0", "id": f"s{number}", "method": "ping"}
            writer.write(f"data: {json.dumps(ping)}\n\n".encode())
            await writer.drain()

    async def _never(self, head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        try:
            await asyncio.sleep(60)
        finally:
            self.waiting -= 1


@pytest.mark.parametrize("where", ["GET", "tools/call"])
async def test_a_server_that_asks_without_end_is_left(mcp: Mcp, where: str) -> None:
    """R-90: each answer was a socket of its own."""
    async with Asking(where) as server, asyncio.timeout(10):
        outcome = await opened(mcp, server.url).run(call("t"), call_item())
        assert outcome.told == LOST
        assert server.most <= 4 + (where == "GET")  # the call itself


async def test_a_server_of_the_old_transport_that_asks_without_end_is_left(mcp: Mcp) -> None:
    async with OldRaw() as server, asyncio.timeout(10):
        server.answers["POST"] = says(http(202))
        tool = opened(mcp, server.url)
        asked = asyncio.create_task(tool.run(call("mute"), call_item()))
        await asyncio.sleep(0.2)
        for number in range(300):
            server.out.put_nowait({"jsonrpc": "2.0", "id": f"s{number}", "method": "ping"})
        assert (await asked).told == LOST


async def test_a_server_may_ask_now_and_then(mcp: Mcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some ping as long as a session lasts."""
    monkeypatch.setattr("antiphon.tools.mcp.session._QUESTIONS_PER_SECOND", 1_000)
    pings = [{"jsonrpc": "2.0", "id": f"s{n}", "method": "ping"} for n in range(120)]

    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
        last = {"jsonrpc": "2.0", "id": message["id"], "result": {"content": []}}
        for event in (*pings, last):
            writer.write(f"data: {json.dumps(event)}\n\n".encode())
            await writer.drain()
            await asyncio.sleep(0.002)

    async with Raw(tools_call=answer, POST=says(http(202))) as server:
        outcome = await opened(mcp, server.url).run(call("t"), call_item())
        assert outcome.status == "completed"
        await asyncio.sleep(0.2)
        assert server.asked("POST") == 120


async def test_all_servers_together_have_so_many_sockets(
    mcp: Mcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-90: the process has others to serve."""
    monkeypatch.setattr(sockets, "MOST_SOCKETS", _count() + 3)
    async with Raw(tools_list=result({"tools": []}), tools_call=_wait) as server:
        tool = opened(mcp, server.url)
        await tool.prepare(Staged())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                calls = [tool.run(call("t"), call_item()) for _ in range(6)]
                await asyncio.gather(*calls)
        assert _count() <= sockets.MOST_SOCKETS
        monkeypatch.setattr(sockets, "MOST_SOCKETS", 0)
        with pytest.raises(ExternalConnectorError) as caught:
            await opened(mcp, server.url).prepare(Staged())
        assert caught.value.message.endswith("The server could not be reached.")


async def _wait(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


def _count() -> int:
    return sum(made.fileno() >= 0 for made in sockets._made)


def test_a_socket_that_was_closed_counts_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "MOST_SOCKETS", _count() + 1)
    make = sockets.counted(sockets.any_address)
    address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 1))
    first = make(address)
    with pytest.raises(OSError, match="too many"):
        make(address)
    first.close()
    make(address).close()


# -- weight ----------------------------------------------------------------------------------------

EMPTY = b"[" + b",".join([b"[]"] * 2_500_000) + b"]"
PARTS = b"[" + b",".join([b'{"type":"text","text":"x"}'] * 200_000) + b"]"
DEEP = b"[" * 500_000


@pytest.mark.parametrize(
    ("message", "fits"),
    [
        (b"", True),
        (b"[1" + b",1" * (MOST_VALUES - 1) + b"]", True),
        (b"[1" + b",1" * MOST_VALUES + b"]", False),
        (b"{}" * (MOST_VALUES + 1), False),
        (DEEP, False),
        (EMPTY, False),
        (PARTS, False),
        (b'"' + b"a,[{" * 1_000_000 + b'"', True),
        (b'"' + rb"\",[" * 1_000_000 + b'"', True),
        (b'"' + rb"\\" * 1_000_000 + b'",' + b"[" * 60_000, False),
        (b'"' + rb"\\\"[" * 100_000 + b'"', True),
        (b'["\\"",' + b"[" * 60_000, False),
        (b'"",' * 200_000, False),
        (b'"' * 8_000_000 + b"[" * 60_000, False),
        (b"[" + b"12" * 149 + b"]", True),
        (b"[" + b"12" * 150 + b"]", False),
        (b'["' + b"12" * 4_000_000 + b'"]', True),
        (b'["' + b"0" * 299 + b"a" + b"0" * 299 + b'"]' * 12_000, True),
    ],
)
def test_values_are_counted_and_text_is_not(message: bytes, fits: bool) -> None:
    begin = time.perf_counter()
    with contextlib.nullcontext() if fits else pytest.raises(TooLarge):
        check_weight(message)
    assert time.perf_counter() - begin < 0.3 * pace()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("size", [1, 7, 65_536])
def test_each_event_of_a_stream_is_weighed_by_itself(end: bytes, size: int) -> None:
    half = b"data: " + b"[" * (MOST_VALUES // 2) + end
    light, heavy = half + end, half + half + b"data: [" + end + end

    def read(stream: bytes) -> None:
        events = Events()
        for place in range(0, len(stream), size):
            events.check(stream[place : place + size])
        events.end()

    read(light * 4)
    for stream in (heavy, light + heavy, light + heavy[: -2 * len(end)]):
        with pytest.raises(TooLarge):
            read(stream)


async def longest_stop(work: asyncio.Task[Any]) -> float:
    """How long the loop stood still at most, until this was done."""
    longest = 0.0
    while not work.done():
        before = time.perf_counter()
        await asyncio.sleep(0)
        longest = max(longest, time.perf_counter() - before)
    return longest


HEAVY = [
    b'{"content":[],"structuredContent":{"a":' + EMPTY + b"}}",
    b'{"content":' + PARTS + b"}",
    b'{"content":[{"type":"text","text":' + DEEP,
    b'{"content":[],"structuredContent":{"a":[1' + (b"," + b"9" * 4_000) * 2_000 + b"]}}",
]


def _body(message: Json, value: bytes) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"result":%s}' % (message["id"], value)


def _json(value: bytes) -> Answer:
    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        writer.write(http(200, _body(message, value)))

    return answer


def _event(value: bytes, more: str = "") -> Answer:
    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        body = b"data: " + _body(message, value) + b"\n\n"
        writer.write(http(200, body, SSE + more))

    return answer


@pytest.mark.parametrize("value", HEAVY)
@pytest.mark.parametrize("way", [_json, _event])
async def test_an_answer_that_would_hold_everybody_up_is_not_parsed(
    mcp: Mcp, value: bytes, way: Callable[[bytes], Answer]
) -> None:
    """R-118; the limit is 100 ms, and the machine of a test may have others to serve."""
    async with Raw(tools_call=way(value)) as server:
        tool = opened(mcp, server.url)
        stops: list[float] = []
        while not stops or (min(stops) > 0.4 and len(stops) < 5):
            asked = asyncio.create_task(tool.run(call("t"), call_item()))
            stops.append(await longest_stop(asked))
            assert asked.result().told == TOO_LARGE
        assert min(stops) < 0.4
        server.answers["tools/call"] = result({"content": []})
        assert (await tool.run(call("t"), call_item())).status == "completed"


async def test_what_is_weighed_is_what_is_read(mcp: Mcp) -> None:
    """A server cannot hide the ends of events in another encoding."""
    value = b'{"content": [{"type": "text", "text": "\xc3\xa4"}]}'
    async with Raw(tools_call=_event(value, "; charset=utf-16")) as server:
        outcome = await opened(mcp, server.url).run(call("t"), call_item())
        assert outcome.fields["output"] == "ä"


async def test_a_list_that_would_hold_everybody_up_is_not_parsed(mcp: Mcp) -> None:
    wide = {f"p{n}": {"type": "string", "description": "<" * 20} for n in range(600)}
    tools = [{"name": f"t{n}", "inputSchema": {**SCHEMA, "properties": wide}} for n in range(100)]
    async with Raw(tools_list=result({"tools": tools})) as server:
        with pytest.raises(ExternalConnectorError) as caught:
            await opened(mcp, server.url).prepare(Staged())
        assert caught.value.message.endswith(TOO_LARGE)


async def test_a_heavy_event_of_the_old_transport_ends_the_session(mcp: Mcp) -> None:
    async with OldRaw() as server, asyncio.timeout(10):
        server.answers["tools/call"] = server._push({"content": [[]] * 100_000})
        tool = opened(mcp, server.url)
        assert (await tool.run(call("t"), call_item())).told == TOO_LARGE


SPEAKS = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    said = {"jsonrpc": "2.0", "id": asked["id"], "result": %s}
    if asked["method"] == "tools/call":
        said["result"] = eval(asked["params"]["arguments"]["value"])
    print(json.dumps(said), flush=True)
"""


@pytest.mark.parametrize(
    "value", ["{'content': [[]] * 100_000}", "{'content': [], 'a': 'x' * (9 << 20)}"]
)
async def test_a_heavy_or_long_line_of_a_program_ends_the_session(value: str) -> None:
    program = Local((sys.executable, "-c", SPEAKS % json.dumps(HELLO)))
    async with (
        hosting(Mcp(Policy(), {"local": Server("local", program)})) as mcp,
        asyncio.timeout(20),
    ):
        tool = opened(mcp, connector_id="local")
        assert (await tool.run(call("t", {"value": value}), call_item())).told == TOO_LARGE
        outcome = await tool.run(call("t", {"value": "{'content': []}"}), call_item())
        assert outcome.status == "completed"
