"""From files to what can be found: claimed from the rows, read, put into indexes (decision 0008).

Rules
1. Who has claimed a file reads it; the last word is fenced, so nobody's is said twice (R-57).
2. What is wrong with the file fails it, with a reason; what is wrong around it (embeddings, disk)
   puts it off, for longer each time, and fails it in the end. Others go on meanwhile (R-101).
3. A file over which a process has died may be the reason: it is read alone, so that nothing else
   is blamed for it, and fails after some deaths.
4. Chunks are in the index before the file is completed. When that word comes too late the rows
   know whether somebody else needs them; what a death leaves there nobody sees, and
   `engine.orphans` takes (R-104).
5. An index that cannot be used is in nobody's way: it is left alone for a while.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePath
from typing import Final

import structlog

from antiphon.blobs.base import BlobMissing, Blobs
from antiphon.documents.base import Chunking, Documents, Unreadable
from antiphon.engine.loops import for_ever
from antiphon.errors import APIError
from antiphon.retrieval.base import Embedder, Index, TooManyVectors, Vectors
from antiphon.store.base import Ingestion, Ingestions, Leftover, Runs

_log = structlog.get_logger(__name__)

#: Seconds between two looks when there is no news, and at least.
_LOOK: Final = 2.0
_PAUSE: Final = 0.05
#: Seconds before a file is tried again: doubled each time, up to.
_FIRST_WAIT: Final = 1
_LONGEST_WAIT: Final = 300
#: Files and stores that are forgotten in one go.
_MOST_LEFTOVERS: Final = 200
#: Rows of a store that is gone which are removed in one step: 15 ms of the writer.
_CLEARED: Final = 500
#: Seconds for which an index that made trouble is left alone.
_SPARED: Final = 60


@dataclass(frozen=True, slots=True)
class IngestionOptions:
    """`most` files at once in this process; `deaths` and `tries` after which a file fails; `clock`
    gives Unix seconds."""

    most: int = 2
    deaths: int = 3
    tries: int = 10
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Places:
    """Where everything is."""

    blobs: Blobs
    documents: Documents
    index: Index
    embedder: Embedder | None


class Ingester:
    """Reads files for one process, `start` to `close`."""

    def __init__(
        self,
        ingestions: Ingestions,
        runs: Runs,
        owner: str,
        places: Places,
        options: IngestionOptions | None = None,
    ) -> None:
        """`owner` is known to `runs` for as long as this works."""
        self._ingestions = ingestions
        self._runs = runs
        self._owner = owner
        self._places = places
        self._options = options or IngestionOptions()
        self._claimed: dict[int, asyncio.Task[None]] = {}
        #: Whether what is read now is to be alone.
        self._alone = False
        self._loops: list[asyncio.Task[None]] = []
        self._freed = asyncio.Event()
        #: Files about which the store could not be told.
        self._untold: list[Ingestion] = []
        #: Stores whose index makes trouble, and until when they are left alone.
        self._spared: dict[str, int] = {}

    def start(self) -> None:
        """Begin."""
        loops = {"index-leftovers": self._forget_on}
        if self._options.most:
            loops["ingestion"] = self._claim_on
        self._loops = [
            asyncio.create_task(for_ever(loop, name), name=name) for name, loop in loops.items()
        ]

    async def close(self) -> None:
        """Stop, and let others have what was not done."""
        tasks = [*self._loops, *self._claimed.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await self._ingestions.hand_back(self._owner)
        except APIError as error:
            _log.warning("ingestions_not_handed_back", error=error.message)

    # -- claims -------------------------------------------------------------------------------

    async def _claim_on(self) -> None:
        while True:
            self._freed.clear()
            free = self._options.most - len(self._claimed)  # at least one: see `_news`
            claimed: list[Ingestion] = []
            try:
                for told in list(self._untold):
                    await self._ingestions.put_off(told, self._now())
                    self._untold.remove(told)
                claimed = await self._ingestions.claim(
                    self._owner, free, self._now(), alone=not self._claimed
                )
            except APIError as error:
                _log.warning("ingestion_claim_failed", error=error.message)
            for file in claimed:
                self._alone = file.deaths > 0
                task = asyncio.create_task(self._ingest(file), name=f"ingest-{file.number}")
                self._claimed[file.number] = task
                task.add_done_callback(partial(self._done, file.number))
            await self._news(full=self._alone or len(self._claimed) >= self._options.most)

    def _done(self, number: int, _: asyncio.Task[None]) -> None:
        self._claimed.pop(number, None)
        self._alone = False  # if it was, this was the one
        self._freed.set()

    async def _news(self, *, full: bool) -> None:
        """Until there may be something to claim."""
        if full:
            await self._freed.wait()
            return
        waiting = {
            asyncio.ensure_future(self._freed.wait()),
            asyncio.ensure_future(self._runs.wait(_LOOK)),
        }
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(_PAUSE)

    # -- one file -----------------------------------------------------------------------------

    async def _ingest(self, claimed: Ingestion) -> None:
        """All that becomes of a claimed file."""
        try:
            await self._read(claimed)
        except Unreadable as reason:
            await self._fail(claimed, reason.code, reason.message)
        except TooManyVectors as reason:
            await self._fail(claimed, "invalid_file", str(reason))
        except BlobMissing:
            await self._put_off(claimed, APIError("The content of the file is gone."))
        except APIError as error:
            if error.should_retry is False:
                await self._fail(claimed, "server_error", error.message)
            else:
                await self._put_off(claimed, error)
        except Exception:  # noqa: BLE001 - the border of a worker (design §10 rule 7)
            _log.exception("ingestion_broke", file_id=claimed.file_id, store_id=claimed.store_id)
            await self._fail(claimed, "server_error", "The file could not be read.")

    async def _read(self, claimed: Ingestion) -> None:
        if claimed.deaths >= self._options.deaths:
            raise Unreadable(
                "server_error",
                f"The server was interrupted {claimed.deaths} times while it read the file.",
            )
        chunking = Chunking(claimed.chunk_size, claimed.chunk_overlap)
        places = self._places
        async with places.blobs.local(claimed.file_id) as path:
            chunks = await places.documents.chunks(
                claimed.project, path, claimed.filename, chunking
            )
        vectors = None
        if places.embedder is not None:
            rows = await places.embedder.documents(chunks)
            vectors = Vectors(places.embedder.name, rows, halves=True)
        title = PurePath(claimed.filename).stem
        await places.index.put(claimed.store_id, claimed.number, title, chunks, vectors)
        used = await asyncio.to_thread(_size, chunks)
        used += sum(map(len, vectors.rows)) if vectors is not None else 0
        await self._ingestions.complete(claimed, used, self._now())

    async def _fail(self, claimed: Ingestion, code: str, message: str) -> None:
        try:
            await self._ingestions.fail(claimed, code, message)
        except APIError:
            self._untold.append(claimed)

    async def _put_off(self, claimed: Ingestion, error: APIError) -> None:
        _log.warning(
            "ingestion_put_off",
            file_id=claimed.file_id,
            tries=claimed.tries + 1,
            error=error.message,
        )
        if claimed.tries + 1 >= self._options.tries:
            await self._fail(claimed, "server_error", error.message)
            return
        wait = min(_LONGEST_WAIT, _FIRST_WAIT * 2**claimed.tries)
        try:
            await self._ingestions.put_off(claimed, self._now() + wait)
        except APIError:
            self._untold.append(claimed)

    # -- what goes ----------------------------------------------------------------------------

    async def forget(self) -> None:
        """Let indexes forget what is written down, once; needs no `start`. Raises `APIError`."""
        await self._forget()

    async def _forget_on(self) -> None:
        while True:
            try:
                await self._forget()
            except APIError as error:
                _log.warning("index_cleaning_failed", error=error.message)
            await self._runs.wait(_LOOK)
            await asyncio.sleep(_PAUSE)

    async def _forget(self) -> None:
        """Let indexes forget what is written down, and what other processes have removed."""
        await self._places.index.let_go()
        last = 0
        while leftovers := await self._ingestions.leftovers(_MOST_LEFTOVERS, last):
            last = leftovers[-1].id
            by_store: dict[str, list[Leftover]] = {}
            for leftover in leftovers:
                by_store.setdefault(leftover.store_id, []).append(leftover)
            for store_id, gone in by_store.items():
                await self._forget_in(store_id, gone)

    async def _forget_in(self, store_id: str, gone: Sequence[Leftover]) -> None:
        index = self._places.index
        numbers = [leftover.number for leftover in gone if leftover.number is not None]
        try:
            if len(numbers) < len(gone):
                await index.remove(store_id)  # whatever is wrong with it
                while await self._ingestions.clear(store_id, _CLEARED) == _CLEARED:
                    pass
            elif self._spared.get(store_id, 0) > self._now():
                return
            else:
                await index.drop(store_id, numbers)
        except APIError as error:
            self._spared[store_id] = self._now() + _SPARED
            _log.warning("index_spared", store_id=store_id, error=error.message)
            return
        self._spared.pop(store_id, None)
        await self._ingestions.forgotten([leftover.id for leftover in gone])

    def _now(self) -> int:
        return int(self._options.clock())


def _size(chunks: Sequence[str]) -> int:
    """Bytes of UTF-8."""
    return sum(len(chunk.encode()) for chunk in chunks)
