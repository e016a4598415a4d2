"""What goes by itself: expired files, uploads that nobody completes, blobs and chunks without a row
(R-104).

Rules
1. Everything is done in steps of bounded size; any process of a database may do it, several at once
   too.
2. A blob is an orphan when no row names it an hour after it was made, twice in two rounds: a large
   object of S3 has the time at which its upload began, and clocks differ.
3. An index, or what it has of a file, is an orphan when no row knew it an hour ago either. What it
   should have and has not is read again: its file was lost, or is an older one.
4. What is removed is in the log: these rounds are the only ones that remove what nobody named.
5. A blob that cannot be removed is in nobody's way: it is an orphan, and tried again.
"""

from collections.abc import Callable
from contextlib import aclosing
from itertools import islice
from time import time
from typing import Final, TypeAlias

import structlog

from antiphon.blobs.base import Blobs
from antiphon.engine.files import log_stuck, remove_blobs
from antiphon.errors import APIError
from antiphon.retrieval.base import Index
from antiphon.store.base import Containers, Files, Images, VectorStores

_log = structlog.get_logger(__name__)

#: Seconds in which a blob gets its row, and more.
GRACE: Final = 3_600
#: Blobs, or files of a store, that one question is about.
_BATCH: Final = 500
#: Orphans that are remembered for the next round; the others are found again.
_MOST_SUSPECTS: Final = 100_000


class Orphans:
    """Looks after the blobs of all projects; `clock` gives Unix seconds."""

    def __init__(
        self,
        files: Files,
        containers: Containers,
        images: Images,
        blobs: Blobs,
        clock: Callable[[], float] = time,
    ) -> None:
        self._files = files
        self._containers = containers
        self._images = images
        self._blobs = blobs
        self._clock = clock
        self._suspects: frozenset[str] = frozenset()

    async def sweep(self, limit: int) -> int:
        """Remove what has expired, at most `limit` of each kind; `limit` means that there may be
        more."""
        now = int(self._clock())
        expired = await self._files.expired(now, limit)
        gone = [id_ for project, id_ in expired if await self._files.delete(project, id_)]
        parts, uploads = await self._files.end_uploads(now, limit)
        log_stuck(await remove_blobs(self._blobs, [*gone, *parts]))
        return max(len(expired), len(parts), uploads)

    async def collect(self) -> int:
        """One round over all blobs: how many orphans were removed."""
        seen: set[str] = set()
        stuck: dict[str, str] = {}
        removed = 0
        async with aclosing(self._blobs.ids(self._clock() - GRACE)) as ids:
            batch: list[str] = []
            async for id_ in ids:
                batch.append(id_)
                if len(batch) == _BATCH:
                    removed += await self._remove(batch, seen, stuck)
                    batch.clear()
        removed += await self._remove(batch, seen, stuck)
        log_stuck(stuck)
        self._suspects = frozenset(islice(seen, _MOST_SUSPECTS))
        return removed

    async def _remove(self, batch: list[str], seen: set[str], stuck: dict[str, str]) -> int:
        orphans = set(batch)
        for rows in (self._files, self._containers, self._images):
            if orphans:
                orphans -= await rows.known(orphans)
        certain = orphans & self._suspects
        left = await remove_blobs(self._blobs, certain)
        gone = certain - left.keys()
        for id_ in gone:
            _log.warning("orphan_removed", blob=id_)
        stuck |= left
        seen |= orphans - gone
        return len(gone)


#: A store, and the number of a file there; None: all of it.
_Suspect: TypeAlias = tuple[str, int | None]


class IndexOrphans:
    """Looks after the indexes of all stores; `clock` gives Unix seconds."""

    def __init__(
        self, index: Index, stores: VectorStores, clock: Callable[[], float] = time
    ) -> None:
        self._index = index
        self._stores = stores
        self._clock = clock
        #: Since when no row knows them.
        self._suspects: dict[_Suspect, float] = {}

    async def collect(self) -> None:
        """One round; an index that makes trouble keeps no other from it."""
        there = await self._index.stores()
        known = await self._stores.ids()  # later: what is new is no orphan
        seen: dict[_Suspect, float] = {}
        for store_id in known | there:
            try:
                if store_id in known:
                    await self._compare(store_id, seen)
                elif self._certain({(store_id, None)}, seen):
                    await self._index.remove(store_id)
                    _log.warning("orphan_removed", store_id=store_id)
            except APIError as error:
                _log.warning("index_not_compared", store_id=store_id, error=error.message)
        self._suspects = dict(islice(seen.items(), _MOST_SUSPECTS))

    async def _compare(self, store_id: str, seen: dict[_Suspect, float]) -> None:
        completed = await self._stores.completed(store_id)  # earlier: its chunks came before
        held = await self._index.numbers(store_id)
        if lost := sorted(completed - held):
            _log.warning("index_incomplete", store_id=store_id, files=len(lost))
        for first in range(0, len(lost), _BATCH):
            await self._stores.read_again(store_id, lost[first : first + _BATCH])
        orphans = held and held - await self._stores.numbers(store_id)
        if certain := self._certain({(store_id, number) for number in orphans}, seen):
            numbers = sorted(number for _, number in certain if number is not None)
            await self._index.drop(store_id, numbers)
            _log.warning("orphan_removed", store_id=store_id, numbers=numbers)

    def _certain(self, orphans: set[_Suspect], seen: dict[_Suspect, float]) -> set[_Suspect]:
        """Those that were orphans an hour ago; the others are remembered."""
        now = self._clock()
        since = {orphan: self._suspects.get(orphan, now) for orphan in orphans}
        seen |= since
        return {orphan for orphan, at in since.items() if now - at >= GRACE}
