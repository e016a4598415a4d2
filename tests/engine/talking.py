"""A conversation of an engine on a memory store in which others meddle, for the tests of runs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from antiphon.engine.conversations import ConversationService
from antiphon.engine.runner import EngineOptions
from antiphon.errors import (
    Overloaded,
)
from antiphon.protocol.items.base import Item
from antiphon.store.base import (
    Batch,
    ConversationBusy,
    Ending,
    IdempotencyKey,
    Lease,
    ResponseRow,
    Twin,
)
from antiphon.store.memory import MemoryStore
from antiphon.store.memory_runs import MemoryRuns
from antiphon.testing import Step
from tests.engine.bench import Bench


class Meddled(MemoryRuns):
    """Lets others be quicker, and fails when it is told to."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store._rows, store.conversations, store.webhooks, time.time)
        #: What happens before the next admissions, one for each.
        self.before: list[Callable[[], Awaitable[object]]] = []
        self.admissions = 0
        #: The next admissions are committed, but nobody is told.
        self.unanswered = 0
        #: So many ends fail before one is stored.
        self.lost_ends = 0

    async def admit(
        self,
        row: ResponseRow,
        events: Batch,
        *,
        job: bytes | None,
        key: IdempotencyKey | None,
        most_queued: int,
        version: int | None = None,
    ) -> Twin | None:
        self.admissions += 1
        if self.before:
            await self.before.pop(0)()
        twin = await super().admit(
            row, events, job=job, key=key, most_queued=most_queued, version=version
        )
        if self.unanswered:
            self.unanswered -= 1
            raise Overloaded(retry_after=1)
        return twin

    async def finish(self, lease: Lease, events: Batch, ending: Ending) -> bool:
        if self.lost_ends:
            self.lost_ends -= 1
            raise Overloaded(retry_after=1)
        return await super().finish(lease, events, ending)


class MeddledStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.runs: Meddled = Meddled(self)


class Talk:
    """One conversation of one engine."""

    def __init__(self, bench: Bench, store: MeddledStore, id_: str) -> None:
        self.bench = bench
        self.store = store
        self.service = ConversationService(store, bench.engine.sealer)
        self.id = id_

    async def items(self) -> list[Item]:
        items, _ = await self.service.page("p", self.id, after=None, limit=100, order="asc")
        return items

    async def texts(self) -> list[str]:
        return [text_of(item) for item in await self.items()]

    async def add(self, *texts: str) -> None:
        await self.service.add("p", self.id, [message(text) for text in texts])

    async def run(self, **fields: Any) -> dict[str, Any]:
        """A whole foreground response."""
        run, task, _ = await self.bench.start(conversation=self.id, **fields)
        await task
        body: dict[str, Any] = orjson.loads(run.body)
        return body

    async def is_free(self) -> bool:
        history = await self.store.conversations.history("p", self.id)
        assert history is not None
        try:
            return await self.store.conversations.append("p", self.id, [], history.version)
        except ConversationBusy:
            return False

    async def freed(self) -> None:
        async with asyncio.timeout(5):
            while not await self.is_free():
                await self.store.runs.wait(5)

    def shown(self, turn: int = -1) -> list[str]:
        """What the model saw."""
        return [text_of(item) for item in self.bench.backend.prompts[turn].items]


def message(text: str, **fields: Any) -> Item:
    part = {"type": "input_text", "text": text}
    return {"type": "message", "role": "user", "content": [part], **fields}


def text_of(item: Item) -> str:
    text: str = item["content"][0]["text"] if "content" in item else item["type"]
    return text


class Talks:
    """Makes conversations, each with an engine of its own; `close` ends them all."""

    def __init__(self) -> None:
        self._benches: list[Bench] = []

    async def __call__(
        self,
        *turns: Sequence[Step],
        items: Sequence[Item] = (),
        options: EngineOptions | None = None,
    ) -> Talk:
        """A conversation with `items`, and an engine that says `turns`."""
        store = MeddledStore()
        bench = Bench(*turns, store=store, options=options)
        await bench.engine.open()
        self._benches.append(bench)
        made = await ConversationService(store, bench.engine.sealer).create("p", {}, list(items))
        return Talk(bench, store, made.id)

    async def close(self) -> None:
        """Nothing runs on."""
        for bench in self._benches:
            bench.engine.stop()
            await bench.engine.close()
