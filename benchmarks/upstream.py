"""A loopback chat-completions server, never the bottleneck: ``python -m benchmarks.upstream``.

Rules
1. The model's name says what is answered: ``plain`` (a short answer), ``burst-N`` (N tokens at
   once), ``paced-N-T`` (N tokens, one every T milliseconds).
2. Whatever can be is rendered once and kept: a plain request costs a few microseconds.
3. A paced token is the time of its writing: nanoseconds of the system's monotonic clock, which all
   processes of a machine share, so that a reader knows how long it was on its way.
4. The port is printed on the first line of stdout; the server stops when its stdin ends.
"""

import asyncio
import functools
import itertools
import re
import sys
import time
from typing import Final, cast

import uvloop

PLAIN_ANSWER: Final = ("Hello", " there", ".")
BURST_WORD: Final = " word"
#: Tokens that share one HTTP chunk of a burst.
_TOKENS_A_CHUNK: Final = 20

_MODEL: Final = re.compile(rb'"model": ?"(plain|burst|paced)(?:-(\d+))?(?:-(\d+))?"')
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_MODELS: Final = (
    b'{"object":"list","data":[{"id":"plain","object":"model","owned_by":"benchmark"}]}'
)
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


def _ending(tokens: int) -> bytes:
    usage = f'{{"prompt_tokens":5,"completion_tokens":{tokens},"total_tokens":{tokens + 5}}}'
    finish = _event('{"index":0,"delta":{},"finish_reason":"stop"}')
    return finish + _event("", usage) + b"data: [DONE]\n\n"


_ROLE: Final = _event('{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}')
_PACED_HEAD, _PACED_TAIL = _token("t0 ").split(b"t0 ")


#: Where in its pause a paced stream starts: spread evenly, since real streams do not tick together.
_PHASES: Final = itertools.cycle([step * 0.618034 % 1 for step in range(100)])


@functools.cache
def plain() -> bytes:
    """The whole answer to a plain request."""
    body = _ROLE + b"".join(map(_token, PLAIN_ANSWER)) + _ending(len(PLAIN_ANSWER))
    return _HEAD + _framed(body) + _LAST


@functools.cache
def burst(tokens: int) -> bytes:
    """The whole answer of `tokens` tokens."""
    full, rest = divmod(tokens, _TOKENS_A_CHUNK)
    chunk, last = _token(BURST_WORD) * _TOKENS_A_CHUNK, _token(BURST_WORD) * rest
    return _HEAD + _framed(_ROLE) + _framed(chunk) * full + _framed(last + _ending(tokens)) + _LAST


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
        model = _MODEL.search(request, head)
        if model is None:
            self._transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
                % (len(_MODELS), _MODELS)
            )
        elif model[1] == b"plain":
            self._transport.write(plain())
        elif model[1] == b"burst":
            self._transport.write(burst(int(model[2])))
        else:
            self._transport.write(_HEAD + _framed(_ROLE))
            tokens, pause = int(model[2]), int(model[3]) / 1000
            due = self._loop.time() + pause * next(_PHASES)
            self._loop.call_at(due, self._tick, tokens, tokens, pause, due + pause)

    def _tick(self, left: int, tokens: int, pause: float, due: float) -> None:
        """Write a token at each multiple of `pause`, then the end."""
        if self._transport.is_closing():
            return
        if left == 0:
            self._transport.write(_framed(_ending(tokens)) + _LAST)
            return
        now = b"t%d " % time.monotonic_ns()
        self._transport.write(_framed(_PACED_HEAD + now + _PACED_TAIL))
        self._loop.call_at(due, self._tick, left - 1, tokens, pause, due + pause)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(_serve())
