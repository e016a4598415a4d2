"""CPU of one chat-completions call: our backend against other HTTP clients (decision 0002).

    PYTHONPATH=src python benchmarks/chat_backend.py

The upstream runs in a process of its own and answers at once with bytes made beforehand; only the
CPU of the client is counted. One line per client: µs per call of one token, µs per further token
when they come in a burst, and when each comes alone. Clients that are not installed are left out.
"""

import asyncio
import multiprocessing
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

import orjson

from antiphon.backends.base import Prompt
from antiphon.backends.chat_completions.backend import ChatCompletions
from antiphon.backends.upstream import UpstreamConfig
from antiphon.protocol.request import parse_request

BURST, PACED = 500, 200
#: Seconds between paced tokens.
PAUSE = 0.0005
#: One call to the model "1", "500" (a burst of so many tokens) or "200" (paced).
Call: TypeAlias = Callable[[str], Any]


def answer(tokens: int) -> list[bytes]:
    """A whole HTTP answer with so many tokens: its head, and the events as HTTP chunks."""
    chunk: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "created": 1}
    said: list[Any] = [{"delta": {"content": " tok"}, "finish_reason": None}] * tokens
    said.append({"delta": {}, "finish_reason": "stop"})
    events = [
        orjson.dumps({**chunk, "model": "m", "choices": [{"index": 0, "logprobs": None, **each}]})
        for each in said
    ]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
    framed = [b"data: %b\n\n" % event for event in (*events, b"[DONE]")]
    return [head + b"\r\n", *(b"%x\r\n%b\r\n" % (len(e), e) for e in framed), b"0\r\n\r\n"]


ANSWERS = {b'"model":"%d"' % tokens: answer(tokens) for tokens in (1, BURST, PACED)}
SLOW = b'"model":"%d"' % PACED


class Upstream(asyncio.Protocol):
    """Answers every request with the bytes for its model."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.got = b""

    def data_received(self, data: bytes) -> None:
        self.got += data.replace(b'": "', b'":"')
        for model, pieces in ANSWERS.items():
            if model not in self.got:
                continue
            self.got = b""
            if model == SLOW:
                loop = asyncio.get_running_loop()
                for number, piece in enumerate(pieces):
                    loop.call_later(number * PAUSE, self.transport.write, piece)
            else:
                self.transport.writelines(pieces)


def serve(pipe: Connection) -> None:
    """Run the upstream; its port goes into the pipe."""

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Call]:
    """The backend, deltas and all."""
    backend = ChatCompletions(UpstreamConfig("up", url))
    request = parse_request(b'{"model": "m", "input": "Hi"}')

    async def call(model: str) -> None:
        async with aclosing(backend.generate(Prompt(request, model, request.input))) as turn:
            async for _ in turn:
                pass

    yield call
    await backend.aclose()


@asynccontextmanager
async def by_lines(url: str) -> AsyncIterator[Call]:
    """httpx2, line by line, each parsed with orjson."""
    import httpx2  # noqa: PLC0415

    async with httpx2.AsyncClient() as client:

        async def call(model: str) -> None:
            asked: dict[str, Any] = {"model": model, "stream": True, "messages": []}
            async with client.stream("POST", f"{url}/chat/completions", json=asked) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        orjson.loads(line[6:])

        yield call


@asynccontextmanager
async def by_sdk(url: str) -> AsyncIterator[Call]:
    """openai-python."""
    import openai  # noqa: PLC0415

    async with openai.AsyncOpenAI(base_url=url, api_key="x") as client:

        async def call(model: str) -> None:
            stream = await client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "Hi"}], stream=True
            )
            async for _ in stream:
                pass

        yield call


async def cost(call: Call, model: str, calls: int) -> float:
    """CPU seconds per call, the best of three."""
    for _ in range(5):
        await call(model)
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        for _ in range(calls):
            await call(model)
        best = min(best, (time.process_time() - start) / calls)
    return best


async def compare(url: str) -> None:
    """Print a line per client."""
    for name, client in (("antiphon", ours), ("httpx2 lines", by_lines), ("openai SDK", by_sdk)):
        try:
            async with client(url) as call:
                one = await cost(call, "1", 200)
                burst = await cost(call, str(BURST), 20)
                paced = await cost(call, str(PACED), 5)
        except ImportError:
            print(f"{name:14} not installed")
            continue
        tokens = (burst - one) / (BURST - 1), (paced - one) / (PACED - 1)
        shown = "{:14} {:6.0f} µs/call {:6.1f} µs/token {:6.1f} µs/token paced"
        print(shown.format(name, one * 1e6, *(token * 1e6 for token in tokens)))


def main() -> None:
    """Start the upstream, compare, stop it."""
    here, there = multiprocessing.Pipe()
    upstream = multiprocessing.Process(target=serve, args=(there,), daemon=True)
    upstream.start()
    asyncio.run(compare(f"http://127.0.0.1:{here.recv()}/v1"))
    upstream.terminate()


if __name__ == "__main__":
    main()
