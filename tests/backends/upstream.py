"""A chat-completions server on loopback, with a script: the other end of the backend in tests.

    with ChatUpstream() as upstream:
        upstream.script(Reply.chat("Hello"), Reply(429, headers={"retry-after": "1"}))
        backend = ChatCompletions(UpstreamConfig("up", upstream.base_url))

Rules
1. It runs in its own thread with its own event loop and real sockets: nothing is patched.
2. Replies are used up in order; the last one is repeated. `GET /v1/models` has `models`, and what
   stands in `paths` has always the same reply.
3. A step of a body is bytes to send, seconds to wait, or one of the words of `Step`.
"""

import asyncio
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

import orjson

#: ``cut`` resets the connection, ``stall`` waits until the client leaves, ``close`` ends it without
#: the end of the body.
Step: TypeAlias = bytes | float | Literal["cut", "stall", "close"]


@dataclass(frozen=True)
class Reply:
    """One answer. Without `raw`, the body is sent chunked under a status line and `headers`."""

    status: int = 200
    body: Iterable[Step] = ()
    headers: Mapping[str, str] = field(
        default_factory=lambda: {"content-type": "text/event-stream"}
    )
    #: Send `body` as it is, with no status line and no headers.
    raw: bool = False

    @classmethod
    def chat(cls, *texts: str, pause: float = 0.0, usage: dict[str, Any] | None = None) -> "Reply":
        """A plain answer: one chunk for each text, then finish, usage and ``[DONE]``."""
        body: list[Step] = []
        for text in texts:
            body.append(sse(chunk(content=text)))
            if pause:
                body.append(pause)
        counts = usage or {"prompt_tokens": 7, "completion_tokens": len(texts)}
        body += [sse(chunk(finish="stop")), sse({"choices": [], "usage": counts}), DONE]
        return cls(body=body)

    @classmethod
    def calls(cls, *calls: tuple[str, Any]) -> "Reply":
        """Calls of functions: a name, and arguments as JSON or as the model wrote them."""
        body: list[Step] = []
        for index, (name, arguments) in enumerate(calls):
            text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
            function = {"name": name, "arguments": text}
            call = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
            body.append(sse(chunk(tool_calls=[call])))
        counts = {"prompt_tokens": 11, "completion_tokens": 5}
        body += [sse(chunk(finish="tool_calls")), sse({"choices": [], "usage": counts}), DONE]
        return cls(body=body)

    @classmethod
    def json(cls, value: Any, status: int = 200, **headers: str) -> "Reply":
        """A JSON body; underscores in the names of `headers` become dashes."""
        named = {key.replace("_", "-"): text for key, text in headers.items()}
        return cls(status, [orjson.dumps(value)], {"content-type": "application/json", **named})


@dataclass
class Request:
    """What the server got. `left` is set when the client closed before the answer was whole."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float = field(default_factory=time.monotonic)
    left: threading.Event = field(default_factory=threading.Event)

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return orjson.loads(self.body)


DONE = b"data: [DONE]\n\n"


def sse(value: Any) -> bytes:
    """One server-sent event with `value` as JSON."""
    return b"data: " + orjson.dumps(value) + b"\n\n"


def chunk(finish: str | None = None, logprobs: object = None, **delta: Any) -> dict[str, Any]:
    """A chat.completion.chunk with one choice."""
    choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": finish}
    if logprobs is not None:
        choice["logprobs"] = logprobs
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }


class ChatUpstream:
    """The server; use it as a context manager. `requests` are all but those for `models`, of which
    `listed` is the number."""

    def __init__(self, models: Reply | None = None) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.models = models or Reply.json({"object": "list", "data": [{"id": "m"}]})
        self.paths: dict[str, Reply] = {}
        self.listed = 0
        self._replies: list[Reply] = [Reply.chat("Hello")]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self.port = 0

    @property
    def base_url(self) -> str:
        """For `UpstreamConfig.base_url`."""
        return f"http://127.0.0.1:{self.port}/v1"

    def script(self, *replies: Reply) -> None:
        """The answers from now on, in order; the last one is repeated."""
        self._replies = list(replies)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait(5)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            task = self._loop.create_task(self._talk(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what they aborted is closed in the next round

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read_request(reader)) is not None:
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def _answer(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Send the next reply; True when the connection can serve another request."""
        if request.path in self.paths:
            self.requests.append(request)
            reply = self.paths[request.path]
        elif request.path.partition("?")[0].endswith("/models"):
            self.listed += 1
            reply = self.models
        else:
            self.requests.append(request)
            reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        # The client sends nothing more before the answer is whole: any end is a disconnect.
        watch = self._loop.create_task(reader.read(1))
        send = self._loop.create_task(_send(reply, writer))
        await asyncio.wait({watch, send}, return_when=asyncio.FIRST_COMPLETED)
        if not send.done():
            request.left.set()
        send.cancel()
        watch.cancel()
        whole, _ = await asyncio.gather(send, watch, return_exceptions=True)
        if isinstance(whole, ConnectionError):
            request.left.set()
        return whole is True


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        first = await reader.readexactly(1)
        if not first.isalpha():
            return None  # a TLS greeting, say
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    line, *fields = head.rstrip().split("\r\n")
    method, path, _ = line.split(" ")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)
    }
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body)


async def _send(reply: Reply, writer: asyncio.StreamWriter) -> bool:
    """Write the reply; True when it ended as HTTP asks."""
    if not reply.raw:
        fields = {**reply.headers, "transfer-encoding": "chunked"}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"HTTP/1.1 {reply.status} X\r\n{head}\r\n".encode("latin-1"))
    for step in reply.body:
        match step:
            case bytes():
                writer.write(step if reply.raw else b"%x\r\n%b\r\n" % (len(step), step))
                await writer.drain()
            case "stall":
                await asyncio.sleep(3600)
            case "cut":
                writer.transport.abort()
                return False
            case "close":
                writer.close()
                return False
            case _:
                await asyncio.sleep(float(step))
    if reply.raw:
        writer.close()
        return False
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True
