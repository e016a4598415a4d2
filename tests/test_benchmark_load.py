"""The load generator and the upstream of the benchmark."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from benchmarks.load import ServerError, Target, load, post
from benchmarks.peers import peers
from benchmarks.upstream import Upstream, words
from benchmarks.works import ANTIPHON, QUICK, works

OK = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"


class Says(asyncio.Protocol):
    """A server that says what a function makes of a body."""

    def __init__(self, answer: Callable[[Mapping[str, Any]], bytes]) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Requests of these tests are small: one piece each."""
        self._transport.write(self._answer(json.loads(data.split(b"\r\n\r\n", 1)[1])))


@asynccontextmanager
async def served(protocol: Callable[[], asyncio.Protocol]) -> AsyncIterator[int]:
    """The port of a server."""
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.05)  # for connections to be seen as closed


async def ask(port: int, path: str, **body: Any) -> tuple[bytes, bytes]:
    """Head and body of what the upstream says until it has been quiet."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(port, path, json.dumps(body).encode()))
    said = await reader.readuntil(b"\r\n\r\n")
    rest = b""
    while not rest.endswith((b"0\r\n\r\n", b"}")):
        rest += await asyncio.wait_for(reader.read(65536), 30)
        if body.get("model") == "silent":
            break
    writer.close()
    await writer.wait_closed()
    return said, rest


async def test_every_request_is_sent_once() -> None:
    asked: list[Mapping[str, Any]] = []

    def answer(body: Mapping[str, Any]) -> bytes:
        asked.append(body)
        return OK % (4, b"good")

    async with served(lambda: Says(answer)) as port:
        sample = await load(Target(port, post(port, "/", b"{}"), (b"good",)), 20, 3)

    assert len(sample.latencies) == len(asked) == 20


@pytest.mark.parametrize(
    "answer",
    [
        OK % (3, b"bad"),
        b"HTTP/1.1 500 Oops\r\ncontent-length: 4\r\n\r\ngood",
        OK % (14, b"good delta ..."),
    ],
    ids=["mark", "status", "deltas"],
)
async def test_a_bad_answer_ends_the_run(answer: bytes) -> None:
    async with served(lambda: Says(lambda _: answer)) as port:
        target = Target(port, post(port, "/", b"{}"), (b"good",), b"delta", 2)
        with pytest.raises(ServerError, match="Asked"):
            await load(target, 5, 1)


async def test_what_the_answer_says_is_wrong_is_what_is_shown() -> None:
    said = b'{"id": "resp_1", "error": {"code": "server_error"}, "output": []}'
    async with served(lambda: Says(lambda _: OK % (len(said), said))) as port:
        with pytest.raises(ServerError, match=r'200 OK: b\'"error": {"code": "server_error"}\''):
            await load(Target(port, post(port, "/", b"{}"), (b"good",)), 1, 1)


async def test_a_chain_names_the_response_before_and_then_begins_anew() -> None:
    asked: list[str | None] = []

    def answer(body: Mapping[str, Any]) -> bytes:
        asked.append(body.get("previous"))
        said = b'{"id": "resp_%d"}' % len(asked)
        return OK % (len(said), said)

    async with served(lambda: Says(answer)) as port:

        def follow(previous: str) -> bytes:
            return post(port, "/", json.dumps({"previous": previous}).encode())

        target = Target(port, post(port, "/", b"{}"), (b"resp_",), turns=3, follow=follow)
        await load(target, 6, 1)

    assert asked == [None, "resp_1", "resp_2", None, "resp_4", "resp_5"]


async def test_no_new_request_after_the_time_but_those_that_were_sent_are_waited_for() -> None:
    async with served(lambda: Says(lambda _: OK % (4, b"good"))) as port:
        target = Target(port, post(port, "/", b"{}"), (b"good",))
        sample = await load(target, 1_000_000, 4, seconds=0.05)

    assert 4 <= len(sample.latencies) < 1_000_000


async def test_paced_tokens_say_how_long_they_were_on_their_way() -> None:
    body = json.dumps({"model": "paced-5-20", "stream": True}).encode()
    async with served(Upstream) as port:
        request = post(port, "/v1/chat/completions", body)
        marks = (b"data: [DONE]\n",)
        delta = b'"delta":{"content"'
        target = Target(port, request, marks, delta, 5, stamped=True, token=delta)
        sample = await load(target, 2, 2)

    assert len(sample.firsts) == len(sample.tokens) == 2
    assert all(first < token for first, token in zip(sample.firsts, sample.tokens, strict=True))
    assert len(sample.transits) == 10
    assert all(0 <= transit < 60 for transit in sample.transits)


async def test_the_upstream_calls_a_tool_and_then_answers() -> None:
    tool = {"type": "function", "function": {"description": "x", "name": "echo", "parameters": {}}}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "ping"}
    async with served(Upstream) as port:
        path = "/v1/chat/completions"
        _, first = await ask(port, path, model="tool", tools=[tool], stream=True, messages=[])
        _, whole = await ask(port, path, model="tool", tools=[tool], messages=[])
        _, last = await ask(port, path, model="tool", tools=[tool], messages=[result])

    assert b'"name":"echo"' in first
    assert b'"finish_reason":"tool_calls"' in first
    call = json.loads(whole)["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(call["function"]["arguments"]) == {"text": "ping"}
    assert json.loads(last)["choices"][0]["message"]["content"] == "Hello there."


@pytest.mark.parametrize(
    ("path", "word"),
    [("/v1/chat/completions", b'{"content":" word'), ("/v1/responses", b'"delta":" word')],
)
async def test_the_upstream_says_as_many_tokens_as_the_model_has(path: str, word: bytes) -> None:
    async with served(Upstream) as port:
        _, streamed = await ask(port, path, model="burst-45", stream=True)
        _, whole = await ask(port, path, model="burst-45")

    assert streamed.count(word) == 45
    assert "".join(words(45)) in json.dumps(json.loads(whole))


@pytest.mark.parametrize(
    ("path", "beginning"),
    [("/v1/chat/completions", b'"role":"assistant"'), ("/v1/responses", b"response.in_progress")],
)
async def test_the_upstream_may_begin_and_then_say_nothing(path: str, beginning: bytes) -> None:
    async with served(Upstream) as port:
        head, begun = await ask(port, path, model="silent", stream=True)

    assert head.startswith(b"HTTP/1.1 200")
    assert beginning in begun
    assert not begun.endswith(b"0\r\n\r\n")


async def test_the_upstream_is_an_mcp_server_of_one_tool() -> None:
    async with served(Upstream) as port:
        said = [
            json.loads(
                (await ask(port, "/mcp", jsonrpc="2.0", id=1, method=method, params=asked))[1]
            )
            for method, asked in (
                ("initialize", {"protocolVersion": "2025-06-18"}),
                ("tools/list", {}),
                ("tools/call", {"name": "echo", "arguments": {"text": "ping"}}),
                ("prompts/list", {}),
            )
        ]

    assert said[0]["result"]["protocolVersion"] == "2025-06-18"
    assert [tool["name"] for tool in said[1]["result"]["tools"]] == ["echo"]
    assert said[2]["result"]["content"] == [{"type": "text", "text": "ping"}]
    assert said[3]["error"]["code"] == -32601


def test_servers_are_asked_the_same_but_for_names() -> None:
    for work in works(QUICK):
        bodies = []
        for peer in (ANTIPHON, *peers()):
            request = work.served(peer, 1, 2).request
            body = json.loads(request.split(b"\r\n\r\n", 1)[1])
            body["model"] = body["model"].rpartition("/")[2]
            for tool in body.get("tools", ()):
                tool["server_url"] = ""
            bodies.append(body)
        assert all(body == bodies[0] for body in bodies)
