"""An engine on a scripted backend and a memory store, for the tests of this folder."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson

from antiphon.backends.base import Backend, Model
from antiphon.engine.jobs import JobOptions
from antiphon.engine.log import EventLog
from antiphon.engine.made import Admitted, Foreground
from antiphon.engine.run import Run
from antiphon.engine.runner import Engine, EngineOptions
from antiphon.errors import ModelNotFound
from antiphon.protocol.deltas import Finish, TextDelta
from antiphon.protocol.request import CreateResponse
from antiphon.store.memory import MemoryStore
from antiphon.testing import ScriptedBackend, Step, decode
from antiphon.tools.base import Tool

Json = dict[str, Any]
HELLO: Sequence[Step] = [[], [TextDelta("Hel")], [TextDelta("lo"), Finish()]]
#: Says a word, then waits for longer than any test.
HANGS: Sequence[Step] = [[TextDelta("half")], 60.0]
#: Nothing happens by itself within a test.
JOBS = JobOptions(lease=60.0, run_timeout=30.0)


class OneBackend:
    """Routes everything to one backend."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def route(self, model: str, key: str | None = None) -> tuple[Backend, str]:
        if model == "nothing":
            raise ModelNotFound(model)
        return self.backend, model

    async def models(self) -> list[Model]:
        return []


class Bench:
    """An engine whose model says `turns`."""

    def __init__(
        self,
        *turns: Sequence[Step],
        store: MemoryStore | None = None,
        options: EngineOptions | None = None,
        tools: Mapping[str, Tool] | None = None,
    ) -> None:
        self.backend = ScriptedBackend(*turns)
        self.store = store or MemoryStore()
        options = options or EngineOptions(jobs=JOBS)
        self.engine = Engine(self.store, OneBackend(self.backend), options, tools)

    # -- in the foreground ---------------------------------------------------------------------

    async def start(self, **fields: Any) -> tuple[Run, "asyncio.Task[None]", EventLog]:
        """Set a foreground run going."""
        request = CreateResponse(model="m", **{"input": "hi", **fields})
        made = await self.engine.start(request, "p")
        assert isinstance(made, Foreground)
        return made.run, made.task, made.log

    async def events(self, **fields: Any) -> tuple[Run, list[Json]]:
        """A whole stream."""
        run, task, log = await self.start(stream=True, **fields)
        frames = [frame async for batch in log.read() for frame in batch]
        await task
        return run, decode(frames)

    # -- durable -------------------------------------------------------------------------------

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """As long as it lasts, the engine works on the queue; then it leaves."""
        await self.engine.open()
        try:
            yield
        finally:
            await self.engine.close()

    async def admit(self, key: str | None = None, **fields: Any) -> Admitted:
        """A durable request: in the background unless it says otherwise."""
        body = {"model": "m", "input": "hi", "background": True, **fields}
        made = await self.engine.start(CreateResponse(**body), "p", orjson.dumps(body), key)
        assert isinstance(made, Admitted)
        return made

    async def follow(self, response_id: str, after: int = -1) -> list[Json]:
        """The events of a durable response until it ends, above `after`."""
        async with asyncio.timeout(10):
            log = self.engine.follow(response_id, after=after, idle=5.0)
            return decode([frame async for batch in log for frame in batch])

    async def shown(self, response_id: str) -> Json:
        """What GET shows."""
        row = await self.store.get("p", response_id)
        assert row is not None
        body: Json = orjson.loads(row.body)
        assert body["status"] == row.status
        return body

    async def ended(self, response_id: str, *statuses: str) -> Json:
        """What GET shows once the response has ended, or has one of `statuses`."""
        wanted = statuses or ("completed", "incomplete", "failed", "cancelled")
        async with asyncio.timeout(10):
            while (shown := await self.shown(response_id))["status"] not in wanted:
                await self.store.runs.wait(5)
        return shown


def jobs(**changes: Any) -> EngineOptions:
    """Options with other settings for durable runs."""
    return EngineOptions(jobs=replace(JOBS, **changes))


async def until(true: Callable[[], bool]) -> None:
    """Wait until something that has no event of its own is so."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def pair(first: Bench, *turns: Sequence[Step], **more: Any) -> Bench:
    """Another engine on the same store."""
    return Bench(*turns, store=first.store, **more)


async def bury(bench: Bench) -> None:
    """What others do when they take its process for dead: rightly or not."""
    await bench.store.runs.release(bench.engine.jobs.owner, died=True)


async def said(bench: Bench, response_id: str, type_: str) -> None:
    """Wait until an event of this type is stored."""
    async with asyncio.timeout(5):
        log = bench.engine.follow(response_id, after=-1, idle=5.0)
        async for frames in log:
            if any(name == type_ for name, _ in frames):
                return
