"""An embeddings server for tests: a real one on loopback, which answers as a test wants."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import orjson
from aiohttp import web

KEY: Final = "sk-embeddings-key-of-the-operator"
#: Of the texts of a request, the `data` of its answer.
Rows: TypeAlias = Callable[[list[str]], Any]


def row(text: str, index: int) -> dict[str, Any]:
    """A vector that tells the length of the text."""
    return {"object": "embedding", "index": index, "embedding": [float(len(text)), 1.0]}


def rows(texts: list[str]) -> list[dict[str, Any]]:
    """A well-behaved answer."""
    return [row(text, index) for index, text in enumerate(texts)]


@dataclass
class EmbeddingsUpstream:
    """Answers with `faults` in turn (status, body, headers), then with `rows`."""

    rows: Rows = rows
    faults: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)
    #: Held back until it is set.
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    running: int = 0
    most: int = 0
    base_url: str = ""
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def __aenter__(self) -> Self:
        self.gate.set()
        application = web.Application(client_max_size=1 << 28)
        application.router.add_post("/v1/embeddings", self._answer)
        self._runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.gate.set()
        await self._runner.cleanup()

    async def until(self, running: int) -> None:
        """Wait for so many requests that are not answered yet."""
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(lambda: self.running == running)

    async def _run(self, more: int) -> None:
        async with self._changed:
            self.running += more
            self.most = max(self.most, self.running)
            self._changed.notify_all()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = orjson.loads(await request.read())
        self.requests.append(asked)
        self.headers.append(dict(request.headers))
        await self._run(1)
        try:
            await self.gate.wait()
        finally:
            await self._run(-1)
        if self.faults:
            status, body, headers = self.faults.pop(0)
            if not status:
                assert request.transport is not None
                request.transport.abort()
            return web.Response(status=status or 500, body=body, headers=headers)
        content = orjson.dumps({"object": "list", "data": self.rows(asked["input"])})
        return web.Response(body=content, content_type="application/json")
