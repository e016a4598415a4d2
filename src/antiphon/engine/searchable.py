"""What can be found in each vector store, as far as this process has asked (decision 0008).

Rules
1. The store's `version` says whether what is known is of now; what changed since is asked for, not
   all of it. Who asks while that is being read waits for the same answer, or the same error.
2. A file that has expired is gone from that second on, swept or not; the others are not read again.
3. Bounded by bytes, the store that was searched longest ago goes first; the last one stays, however
   large. What is gone is forgotten at once by who is told that it is.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from sys import getsizeof
from typing import Any, Final, TypeAlias

import orjson

from antiphon.protocol.filters import matcher
from antiphon.retrieval.base import Selection
from antiphon.store.base import News, Searchable, VectorStoreRow, VectorStores

#: Files of a store above which news are merged in a thread (R-118).
_MERGED_AT_ONCE: Final = 2_000
#: Bytes of all stores that are remembered: some 330,000 files without attributes, 73,000 with eight
#: short ones.
_MOST_BYTES: Final = 128 * 1024 * 1024
#: Bytes of a store and of a selection, without files: measured, and rounded up. So there are at
#: most 65,536 stores.
_STORE_BYTES: Final = 2_048
_SELECTION_BYTES: Final = 256
#: Files times bytes of a filter above which it is asked in a thread (R-118): about 5 ms.
_AT_ONCE: Final = 100_000
#: Filters of a store whose selections are remembered.
_MOST_SELECTIONS: Final = 16

#: Project and id of a store.
_Key: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class Contents:
    """The files of a store at a version."""

    version: int = -1
    files: dict[int, Searchable] = field(default_factory=dict)
    #: When the first of them expires.
    until: float = float("inf")
    #: What they take, without their places in `files`.
    file_bytes: int = 0
    #: Filter, as the hash of its JSON → what it selects.
    selections: OrderedDict[bytes, Selection] = field(default_factory=OrderedDict)
    selection_bytes: int = 0
    #: The weight, as it is in the sum of the shelf.
    counted: int = 0

    @property
    def weight(self) -> int:
        """Bytes that all this takes."""
        return _STORE_BYTES + self.file_bytes + getsizeof(self.files) + self.selection_bytes

    def are_of(self, version: int, now: float) -> bool:
        """Whether they are at least of this version, and none of them has expired."""
        return self.version >= version and now < self.until

    async def select(self, filters: dict[str, Any] | None) -> Selection:
        """The files that pass."""
        written = b"" if filters is None else orjson.dumps(filters, option=orjson.OPT_SORT_KEYS)
        key = hashlib.sha256(written).digest()
        known = self.selections.get(key)
        if known is not None:
            self.selections.move_to_end(key)
            return known
        if filters is None:
            made = Selection(frozenset(self.files))
        elif len(self.files) * len(written) <= _AT_ONCE:
            made = _selection(self.files.values(), filters)
        else:
            made = await asyncio.to_thread(_selection, list(self.files.values()), filters)
        return self._remembered(key, made)

    def _remembered(self, key: bytes, made: Selection) -> Selection:
        """The first that was made for this key: others may have made it meanwhile."""
        if key not in self.selections:
            self.selections[key] = made
            self.selection_bytes += _selection_bytes(made)
        while len(self.selections) > _MOST_SELECTIONS:
            self.selection_bytes -= _selection_bytes(self.selections.popitem(last=False)[1])
        return self.selections[key]


class Shelf:
    """The contents of many stores."""

    def __init__(self, stores: VectorStores) -> None:
        self._stores = stores
        self._known: OrderedDict[_Key, Contents] = OrderedDict()
        self._bytes = 0
        self._reading: dict[_Key, asyncio.Task[Contents]] = {}

    async def select(
        self, row: VectorStoreRow, filters: dict[str, Any] | None, now: float
    ) -> tuple[Contents, Selection]:
        """What can be found in a store now, and what of it passes."""
        contents = await self.contents(row, now)
        selection = await contents.select(filters)
        self._count((row.project, row.id), contents)
        return contents, selection

    async def contents(self, row: VectorStoreRow, now: float) -> Contents:
        """What can be found in a store now."""
        key = (row.project, row.id)
        contents = self._known.get(key)
        if contents is not None:
            self._known.move_to_end(key)
        while contents is None or not contents.are_of(row.version, now):
            reading = self._reading.get(key)
            if reading is None:
                return await asyncio.shield(self._read(key, row.version, now))
            contents = await asyncio.shield(reading)
        return contents

    def forget(self, project: str, store_id: str) -> None:
        """The project has no such store."""
        self._drop(self._known.pop((project, store_id), None))

    def _read(self, key: _Key, version: int, now: float) -> asyncio.Task[Contents]:
        """One for all who ask: none of them can cancel it."""
        task = asyncio.create_task(self._fresh(key, version, now), name="store-contents")
        self._reading[key] = task
        task.add_done_callback(lambda _: self._reading.pop(key))
        return task

    async def _fresh(self, key: _Key, version: int, now: float) -> Contents:
        before = self._known.get(key) or Contents()
        news = News(before.version, [])
        if before.version < version:
            news = await self._stores.news(key[1], before.version)
        if news.version < version:
            self.forget(*key)  # it has gone since `version` was seen
            return Contents(version)
        if len(before.files) + len(news.files) <= _MERGED_AT_ONCE:
            fresh = _merged(before, news, now)
        else:
            fresh = await asyncio.to_thread(_merged, before, news, now)
        self.forget(*key)
        self._known[key] = fresh
        self._count(key, fresh)
        return fresh

    def _count(self, key: _Key, contents: Contents) -> None:
        """Bring the sum up to date, and keep to the bound."""
        if self._known.get(key) is contents:
            self._bytes += contents.weight - contents.counted
            contents.counted = contents.weight
        while self._bytes > _MOST_BYTES and len(self._known) > 1:
            self._drop(self._known.popitem(last=False)[1])

    def _drop(self, contents: Contents | None) -> None:
        if contents is not None:
            self._bytes -= contents.counted


def _merged(before: Contents, news: News, now: float) -> Contents:
    """A new object: who searches with the old one is not disturbed."""
    files, file_bytes = dict(before.files), before.file_bytes
    present = news.present
    if present is not None or now >= before.until:
        for number, file in before.files.items():
            if (present is not None and number not in present) or _has_expired(file, now):
                del files[number]
                file_bytes -= _file_bytes(file)
    for file in news.files:
        old = files.pop(file.number, None)
        if old is not None:
            file_bytes -= _file_bytes(old)
        if not _has_expired(file, now):
            files[file.number] = file
            file_bytes += _file_bytes(file)
    ends = (file.expires_at for file in files.values() if file.expires_at is not None)
    return Contents(news.version, files, min(ends, default=float("inf")), file_bytes)


def _has_expired(file: Searchable, now: float) -> bool:
    return file.expires_at is not None and file.expires_at <= now


def _file_bytes(file: Searchable) -> int:
    """Keys of attributes count for each file, though most are shared."""
    values = (file.number, file.file_id, file.filename, file.expires_at, file.attributes)
    attributes = (*file.attributes, *file.attributes.values())
    return getsizeof(file) + sum(map(getsizeof, values)) + sum(map(getsizeof, attributes))


def _selection_bytes(selection: Selection) -> int:
    return _SELECTION_BYTES + getsizeof(selection.numbers)


def _selection(files: Iterable[Searchable], filters: dict[str, Any]) -> Selection:
    passes = matcher(filters)
    return Selection(frozenset(file.number for file in files if passes(file.attributes)))
