"""What tests of the tool `mcp` share: a running server, a stage for items, a server that lies."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self

from antiphon.egress import Policy
from antiphon.tools.base import Call, Scope
from antiphon.tools.mcp.opened import OpenMcp
from antiphon.tools.mcp.tool import Mcp
from tests.tools.at_once import at_once

Json = dict[str, Any]
ROOT: Final = Path(__file__).parents[2]
LOOPBACK: Final = ["127.0.0.0/8", "::1"]
PROGRAM: Final = (sys.executable, "-m", "tests.tools.mcp_server")


class Running:
    """`tests.tools.mcp_server` in a process of its own."""

    def __init__(self, log: Path, kind: str = "http", *options: str) -> None:
        log.touch()
        self._log = log
        self._seen = 0
        self._kind = kind
        self._options = options
        self.port = 0
        self._process = self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}/{'mcp' if self._kind == 'http' else 'sse'}"

    def restart(self) -> None:
        """Another process at the same port, which knows no session."""
        self._process.kill()
        self._process.communicate()
        self._process = self._start()

    def forget(self) -> None:
        """Only what is logged from now on counts."""
        self._seen = len(self._log.read_text().splitlines())

    def log(self) -> list[Json]:
        """What happened."""
        return [json.loads(line) for line in self._log.read_text().splitlines()[self._seen :]]

    def asked(self, method: str) -> int:
        """How often a JSON-RPC method was asked for."""
        return sum(entry.get("asks") == method for entry in self.log())

    async def until(self, times: int = 1, **entry: object) -> None:
        """Wait for so many entries of the log that have this in them."""
        async with asyncio.timeout(5):
            while sum(entry.items() <= found.items() for found in self.log()) < times:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*PROGRAM, self._kind, "--log", self._log, "--port", str(self.port), *self._options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )
        assert process.stdout is not None
        self.port = int(process.stdout.readline().split()[1])
        return process


@dataclass
class StagedItem:
    """A `CallItem` and `OwnItem` that remembers."""

    type: str
    fields: Json
    fresh: bool = True
    events: list[tuple[str, Json | None]] = field(default_factory=list)
    status: str | None = None

    def emit(self, event: str, fields: Json | None = None) -> None:
        """See `CallItem.emit`."""
        self.events.append((event, fields))

    def close(self, status: Literal["completed", "failed"], fields: Json) -> None:
        """See `OwnItem.close`."""
        assert self.status is None
        self.status = status
        self.fields = {**self.fields, **fields}


@dataclass
class Staged:
    """A `Stage` with this context."""

    items: Sequence[Json] = ()
    output: Sequence[Json] = ()
    begun: list[StagedItem] = field(default_factory=list)

    def begin(self, item_type: str, fields: Json) -> StagedItem:
        """See `Stage.begin`."""
        self.begun.append(item := StagedItem(item_type, fields))
        return item


def call_item(*, fresh: bool = True) -> StagedItem:
    """The item of a call."""
    return StagedItem("mcp_call", {}, fresh)


def call(function: str, arguments: Json | str | None = None, approval: str | None = None) -> Call:
    """A call."""
    text = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return Call(function, text, approval)


@contextlib.asynccontextmanager
async def hosting(mcp: Mcp | None = None) -> AsyncIterator[Mcp]:
    """A tool for servers on loopback."""
    made = mcp or Mcp(Policy(LOOPBACK), {})
    try:
        yield made
    finally:
        await made.aclose()


def opened(mcp: Mcp, url: str | None = None, scope: Scope | None = None, **more: Any) -> OpenMcp:
    """A tool of a request, checked and opened."""
    tool = {"type": "mcp", "server_label": "tickets", **more}
    if url is not None:
        tool["server_url"] = url
    at_once(mcp.check(tool, "tools[0]", "p"))
    return mcp.open(tool, scope or Scope("p"))


def is_alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def kill(pid: int) -> None:
    """End a process that this test has started."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


# -- a server that lies ----------------------------------------------------------------------------

#: What it does with a request: its head, its JSON, and where to write the answer.
Answer = Callable[[str, Json, asyncio.StreamWriter], Awaitable[None]]


def http(status: int, body: bytes = b"", kind: str = "application/json", more: str = "") -> bytes:
    """An answer."""
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\n{more}content-length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def says(raw: bytes) -> Answer:
    """Answers with these bytes."""

    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        writer.write(raw)

    return answer


def result(value: Json) -> Answer:
    """Answers with this JSON-RPC result."""

    async def answer(head: str, message: Json, writer: asyncio.StreamWriter) -> None:
        body = {"jsonrpc": "2.0", "id": message["id"], "result": value}
        writer.write(http(200, json.dumps(body).encode()))

    return answer


HELLO: Final = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "raw", "version": "1"},
}
SCHEMA: Final = {"type": "object", "properties": {}}


class Raw:
    """An MCP server made by hand: `answers` by JSON-RPC method, or by ``GET`` and ``DELETE``."""

    def __init__(self, host: str = "127.0.0.1", **answers: Answer) -> None:
        self._host = host
        self.answers: dict[str, Answer] = {
            "initialize": result(HELLO),
            "notifications/initialized": says(http(202)),
            "notifications/cancelled": says(http(202)),
            "GET": says(http(405)),
            "DELETE": says(http(200)),
        }
        self.answers |= {name.replace("_", "/"): answer for name, answer in answers.items()}
        #: Head and method of each request.
        self.got: list[tuple[str, str]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self._host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/mcp"

    def asked(self, method: str) -> int:
        """How often."""
        return sum(found == method for _, found in self.got)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = [line for line in head.lower().split("\r\n") if "content-length" in line]
                body = await reader.readexactly(int(length[0].split(":")[1])) if length else b""
                message = json.loads(body) if body else {}
                method = message.get("method") or head.split()[0]
                self.got.append((head, method))
                answer = self.answers.get(method)
                if answer is None:
                    return
                await answer(head, message, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client or the test has ended
        finally:
            writer.close()
            self._tasks.discard(task)
