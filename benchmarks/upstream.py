"""A loopback chat-completions server, never the bottleneck: ``python -m benchmarks.upstream``.

Rules
1. The model's name says what is answered: ``plain`` (a short answer), ``burst-N`` (N tokens at
   once), ``paced-N-T`` (N tokens, one every T milliseconds), ``silent`` (a beginning and then
   nothing), ``tool`` (a call of the request's first tool, then a short answer once its result is
   there). Who does not ask for a stream gets the same answer whole.
2. Whatever can be is rendered once and kept: a plain request costs a few microseconds.
3. A paced token is the time of its writing: nanoseconds of the system's monotonic clock, which all
   processes of a machine share, so that a reader knows how long it was on its way.
4. For gateways that translate nothing there is ``/v1/responses`` (``plain``, ``burst``,
   ``silent``); for tool loops there is an MCP server at ``/mcp``.
5. The port is printed on the first line of stdout; the server stops when its stdin ends.
"""

import asyncio
import functools
import itertools
import re
import sys
import time
from typing import Final, cast

import uvloop

from benchmarks import responses_answers
from benchmarks.mcp_answers import mcp_answer

PLAIN_ANSWER: Final = ("Hello", " there", ".")
#: Tokens of a burst, over and over: two alike in a row look like a model that is stuck.
BURST_WORDS: Final = tuple(f" word{digit}" for digit in range(10))
#: Tokens that share one HTTP chunk of a burst.
_TOKENS_A_CHUNK: Final = 20

_MODEL: Final = re.compile(
    rb'"model": ?"(?:\w+/)?(plain|burst|paced|silent|tool)(?:-(\d+))?(?:-(\d+))?"'
)
_STREAM: Final = re.compile(rb'"stream": ?true')
_TOOL: Final = re.compile(rb'"function": ?\{[^{}]*?"name": ?"([^"]+)"')
_TOOL_RESULT: Final = re.compile(rb'"role": ?"tool"')
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_NAMES: Final = ("plain", "burst-200", "paced-100-20", "silent", "tool")
_LAST: Final = b"0\r\n\r\n"


def _framed(payload: bytes) -> bytes:
    """One HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def _event(choices: str, usage: str = "null") -> bytes:
    return (
        'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"plain",'
        f'"choices":[{choices}],"usage":{usage}}}\n\n'
    ).encode()


def _token(text: str) -> bytes:
    return _event(f'{{"index":0,"delta":{{"content":"{text}"}},"finish_reason":null}}')


def _usage(tokens: int) -> str:
    return f'{{"prompt_tokens":5,"completion_tokens":{tokens},"total_tokens":{tokens + 5}}}'


def _ending(tokens: int, reason: str = "stop") -> bytes:
    finish = _event(f'{{"index":0,"delta":{{}},"finish_reason":"{reason}"}}')
    return finish + _event("", _usage(tokens)) + b"data: [DONE]\n\n"


def _json(body: str) -> bytes:
    """A whole answer with a JSON body."""
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
    return f"{head}{len(body)}\r\n\r\n{body}".encode()


def _whole(message: str, tokens: int, reason: str = "stop") -> bytes:
    """A completion that is not streamed."""
    return _json(
        '{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"plain","choices":[{"index":0,'
        f'"message":{{"role":"assistant",{message}}},"finish_reason":"{reason}"}}],'
        f'"usage":{_usage(tokens)}}}'
    )


_ROLE: Final = _event('{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}')
_PACED_HEAD, _PACED_TAIL = _token(" t0").split(b" t0")
_MODELS: Final = _json(
    '{"object":"list","data":['
    + ",".join(
        f'{{"id":"{name}","object":"model","created":1,"owned_by":"benchmark"}}' for name in _NAMES
    )
    + "]}"
)
#: Where in its pause a paced stream starts: spread evenly, since real streams do not tick together.
_PHASES: Final = itertools.cycle([step * 0.618034 % 1 for step in range(100)])


def words(tokens: int) -> tuple[str, ...]:
    """What a burst of so many says."""
    return tuple(itertools.islice(itertools.cycle(BURST_WORDS), tokens))


@functools.cache
def plain(streamed: bool = True) -> bytes:
    """The whole answer to a plain request."""
    if not streamed:
        return _whole(f'"content":"{"".join(PLAIN_ANSWER)}"', len(PLAIN_ANSWER))
    body = _ROLE + b"".join(map(_token, PLAIN_ANSWER)) + _ending(len(PLAIN_ANSWER))
    return _HEAD + _framed(body) + _LAST


@functools.cache
def burst(tokens: int, streamed: bool = True) -> bytes:
    """The whole answer of `tokens` tokens."""
    if not streamed:
        return _whole(f'"content":"{"".join(words(tokens))}"', tokens)
    full, rest = divmod(tokens, _TOKENS_A_CHUNK)
    chunk, last = (b"".join(map(_token, words(count))) for count in (_TOKENS_A_CHUNK, rest))
    return _HEAD + _framed(_ROLE) + _framed(chunk) * full + _framed(last + _ending(tokens)) + _LAST


@functools.cache
def call(tool: str, streamed: bool) -> bytes:
    """The whole answer that calls `tool`."""
    said = (
        f'"id":"call_1","type":"function","function":{{"name":"{tool}",'
        '"arguments":"{\\"text\\":\\"ping\\"}"}'
    )
    if not streamed:
        return _whole(f'"content":null,"tool_calls":[{{{said}}}]', 1, "tool_calls")
    delta = f'{{"index":0,"delta":{{"tool_calls":[{{"index":0,{said}}}]}},"finish_reason":null}}'
    return _HEAD + _framed(_ROLE + _event(delta) + _ending(1, "tool_calls")) + _LAST


class Upstream(asyncio.Protocol):
    """One connection: requests come one after another."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer once a request is whole."""
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = _LENGTH.search(self._received, 0, head)
        if len(self._received) < head + 4 + (int(length[1]) if length else 0):
            return
        request, self._received = self._received, b""
        self._answer(request, head)

    def _answer(self, request: bytes, head: int) -> None:
        method, path, _ = request.split(b" ", 2)
        if path == b"/mcp":
            self._transport.write(mcp_answer(method, request[head + 4 :]))
            return
        model = _MODEL.search(request, head)
        streamed = _STREAM.search(request, head) is not None
        if model is not None and path == b"/v1/responses":
            tokens = words(int(model[2])) if model[2] else PLAIN_ANSWER
            silent = model[1] == b"silent"
            answers = responses_answers
            self._transport.write(
                answers.beginning() if silent else answers.answer(tokens, streamed)
            )
            return
        match model and model[1]:
            case None:
                self._transport.write(_MODELS)
            case b"plain":
                self._transport.write(plain(streamed))
            case b"burst":
                assert model is not None
                self._transport.write(burst(int(model[2]), streamed))
            case b"tool":
                tool = None if _TOOL_RESULT.search(request, head) else _TOOL.search(request, head)
                answer = call(tool[1].decode(), streamed) if tool else plain(streamed)
                self._transport.write(answer)
            case b"silent":
                self._transport.write(_HEAD + _framed(_ROLE))
            case _:
                assert model is not None
                self._pace(int(model[2]), int(model[3]) / 1000)

    def _pace(self, tokens: int, pause: float) -> None:
        self._transport.write(_HEAD + _framed(_ROLE))
        due = self._loop.time() + pause * next(_PHASES)
        self._loop.call_at(due, self._tick, tokens, tokens, pause, due + pause)

    def _tick(self, left: int, tokens: int, pause: float, due: float) -> None:
        """Write a token at each multiple of `pause`, then the end."""
        if self._transport.is_closing():
            return
        if left == 0:
            self._transport.write(_framed(_ending(tokens)) + _LAST)
            return
        now = b" t%d" % time.monotonic_ns()
        self._transport.write(_framed(_PACED_HEAD + now + _PACED_TAIL))
        self._loop.call_at(due, self._tick, left - 1, tokens, pause, due + pause)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve())
