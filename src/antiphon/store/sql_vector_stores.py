"""Vector stores in SQLite (`store.base.vector_stores`).

Rules
1. What is checked and what is changed are one step of the writer.
2. What a client is told of is durable; that a store was used is not worth a flush.
3. What goes with a file is a trigger's (`triggers.py`): who deletes one need not know of it.
   What goes with a store is left over, and cleared away in steps.
4. Questions that belong together see one moment (`_moment`).
"""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import orjson

from antiphon.store import vector_store_statements as statements
from antiphon.store.base.vector_stores import (
    MOST_FILES,
    Attributes,
    Counts,
    FileBatch,
    FileStatus,
    NewFile,
    News,
    Searchable,
    StoreChange,
    StoreFile,
    StoreFull,
    UnknownFile,
    VectorStoreRow,
    Window,
)
from antiphon.store.steps import Questions, Steps
from antiphon.store.writer import Value

#: Beyond every number.
_INFINITY: Final = 2**62
#: What a row of a file weighs beside its attributes, in bytes.
_ROW: Final = 512


class SqliteVectorStores:
    """See `VectorStores`; `clock` gives Unix seconds."""

    def __init__(
        self, writer: Steps, readers: Questions, clock: Callable[[], float] = time.time
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._clock = clock

    async def add(self, row: VectorStoreRow, files: Sequence[NewFile]) -> None:
        """See `VectorStores.add`."""
        unique = {file.file_id: file for file in files}.values()
        rows = _rows(row.project, row.id, unique, None, row.created_at)
        values: dict[str, Value] = {
            "id": row.id,
            "project": row.project,
            "created_at": row.created_at,
            "name": row.name,
            "description": row.description,
            "metadata": _encoded(row.metadata),
            "expires_days": row.expires_days,
            "last_active_at": row.last_active_at,
        }

        def step(connection: sqlite3.Connection) -> None:
            connection.execute(statements.ADD, values)
            _put(connection, rows)

        await self._writer.run(step, durable=True, told=bool(files), weight=_weight(rows))

    async def get(self, project: str, id: str) -> VectorStoreRow | None:  # noqa: A002
        """See `VectorStores.get`."""
        now = self._now()

        def question(connection: sqlite3.Connection) -> VectorStoreRow | None:
            with _moment(connection):
                found = connection.execute(statements.GET, _this(project, id)).fetchone()
                return _store(connection, found, _over(connection, project, now)) if found else None

        return await self._readers.ask(question)

    async def head(self, project: str, id: str) -> VectorStoreRow | None:  # noqa: A002
        """See `VectorStores.head`."""

        def question(connection: sqlite3.Connection) -> VectorStoreRow | None:
            found = connection.execute(statements.GET, _this(project, id)).fetchone()
            return _head(found) if found else None

        return await self._readers.ask(question)

    async def listed(
        self, project: str, window: Window
    ) -> tuple[list[VectorStoreRow], bool] | None:
        """See `VectorStores.listed`."""
        now = self._now()

        def number(connection: sqlite3.Connection, id_: str) -> int | None:
            found = connection.execute(statements.EXISTS, _this(project, id_)).fetchone()
            return found[0] if found else None

        def question(
            connection: sqlite3.Connection,
        ) -> tuple[list[VectorStoreRow], bool] | None:
            bounds = _bounds(window, lambda id_: number(connection, id_))
            if bounds is None:
                return None
            sql = statements.stores_page(newest_first=window.reads_newest_first)
            with _moment(connection):
                rows = connection.execute(sql, {**bounds, "project": project}).fetchall()
                over = _over(connection, project, now)
                page = [_store(connection, row, over) for row in _cut(window, rows)]
            return page, len(rows) > window.limit

        return await self._readers.ask(question)

    async def change(self, project: str, id: str, change: StoreChange, now: int) -> bool:  # noqa: A002
        """See `VectorStores.change`."""
        metadata = None if change.metadata is None else _encoded(change.metadata)
        values: dict[str, Value] = {
            **_this(project, id),
            "name": change.name,
            "description": change.description,
            "metadata": metadata,
            "expires_days": change.expires_days,
            "now": now,
        }
        return await self._changed(statements.CHANGE, values)

    async def touch(self, project: str, id: str, now: int) -> None:  # noqa: A002
        """See `VectorStores.touch`."""
        values: dict[str, Value] = {**_this(project, id), "now": now}
        await self._writer.run(
            lambda connection: connection.execute(statements.TOUCH, values).rowcount,
            durable=False,
            told=False,
        )

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """See `VectorStores.delete`."""
        return await self._changed(statements.DELETE, _this(project, id), told=True)

    async def put(
        self,
        project: str,
        store_id: str,
        files: Sequence[NewFile],
        batch: FileBatch | None,
        now: int,
    ) -> list[StoreFile] | None:
        """See `VectorStores.put`."""
        batch_id = None if batch is None else batch.id
        unique = {file.file_id: file for file in files}.values()
        rows = _rows(project, store_id, unique, batch_id, now)

        def step(connection: sqlite3.Connection) -> list[int] | None:
            if not _has(connection, project, store_id):
                return None
            if batch is not None:
                made = {"id": batch.id, "store_id": store_id, "created_at": batch.created_at}
                connection.execute(statements.ADD_BATCH, made)
            numbers = _put(connection, rows)
            connection.execute(statements.TOUCH, {**_this(project, store_id), "now": now})
            return numbers

        numbers = await self._writer.run(step, durable=True, weight=_weight(rows))
        if numbers is None:
            return None
        return [
            StoreFile(
                *(number, store_id, file.file_id, now, "in_progress", 0),
                *(file.chunk_size, file.chunk_overlap, file.attributes, None, batch_id),
            )
            for number, file in zip(numbers, unique, strict=True)
        ]

    async def file(self, project: str, store_id: str, file_id: str) -> StoreFile | None:
        """See `VectorStores.file`."""
        now = self._now()

        def question(connection: sqlite3.Connection) -> StoreFile | None:
            if not _has(connection, project, store_id):
                return None
            return _file(connection, store_id, file_id, now)

        return await self._readers.ask(question)

    async def files(
        self,
        project: str,
        store_id: str,
        window: Window,
        status: FileStatus | None = None,
        batch_id: str | None = None,
    ) -> tuple[list[StoreFile], bool] | None:
        """See `VectorStores.files`."""
        now = self._now()

        def number(connection: sqlite3.Connection, id_: str) -> int | None:
            found = _file(connection, store_id, id_, now)
            return found.number if found else None

        def question(connection: sqlite3.Connection) -> tuple[list[StoreFile], bool] | None:
            bounds = _bounds(window, lambda id_: number(connection, id_))
            if bounds is None or not _has(connection, project, store_id):
                return None
            sql = statements.files_page(
                newest_first=window.reads_newest_first,
                status=status is not None,
                batch=batch_id is not None,
            )
            named: dict[str, Value] = {"store_id": store_id, "status": status, "now": now}
            rows = connection.execute(sql, {**bounds, **named, "batch_id": batch_id}).fetchall()
            return [_read_file(row) for row in _cut(window, rows)], len(rows) > window.limit

        return await self._readers.ask(question)

    async def set_attributes(
        self, project: str, store_id: str, file_id: str, attributes: Attributes
    ) -> bool:
        """See `VectorStores.set_attributes`."""

        def step(connection: sqlite3.Connection) -> bool:
            if not _has(connection, project, store_id):
                return False
            named: dict[str, Value] = {"store_id": store_id, "file_id": file_id}
            values = {**named, "attributes": _encoded(attributes), "now": self._now()}
            if not connection.execute(statements.SET_ATTRIBUTES, values).rowcount:
                return False
            connection.execute(statements.NEXT_VERSION, named)
            return True

        return await self._writer.run(step, durable=True, told=False)

    async def remove_file(self, project: str, store_id: str, file_id: str) -> bool:
        """See `VectorStores.remove_file`."""

        def step(connection: sqlite3.Connection) -> bool:
            if not _has(connection, project, store_id):
                return False
            named = {"store_id": store_id, "file_id": file_id, "now": self._now()}
            return connection.execute(statements.DELETE_LIVE_FILE, named).rowcount > 0

        return await self._writer.run(step, durable=True)

    async def batch(self, project: str, store_id: str, id: str) -> FileBatch | None:  # noqa: A002
        """See `VectorStores.batch`."""
        now = self._now()

        def question(connection: sqlite3.Connection) -> FileBatch | None:
            named = {"store_id": store_id, "batch_id": id}
            found = connection.execute(statements.BATCH, named).fetchone()
            if found is None or not _has(connection, project, store_id):
                return None
            with _moment(connection):
                rows = connection.execute(statements.BATCH_COUNTS, named).fetchall()
                over = _over(connection, project, now)
            rows += [(status, -count) for _, batch, status, count, _ in over if batch == id]
            return FileBatch(found[0], found[1], found[2], bool(found[3]), _counts(rows))

        return await self._readers.ask(question)

    async def cancel_batch(self, project: str, store_id: str, id: str) -> bool:  # noqa: A002
        """See `VectorStores.cancel_batch`."""

        def step(connection: sqlite3.Connection) -> bool:
            named = {"store_id": store_id, "batch_id": id}
            if not _has(connection, project, store_id):
                return False
            if not connection.execute(statements.CANCEL_BATCH, named).rowcount:
                return False
            connection.execute(statements.CANCEL_FILES, named)
            return True

        return await self._writer.run(step, durable=True)

    async def news(self, store_id: str, since: int) -> News:
        """See `VectorStores.news`."""

        def question(connection: sqlite3.Connection) -> News:
            with _moment(connection):
                named: dict[str, Value] = {"store_id": store_id}
                found = connection.execute(statements.VERSIONS, named).fetchone()
                if found is None:
                    return News(0, [], frozenset())
                version, removed = found
                rows = connection.execute(statements.NEWS, {**named, "since": since})
                files = [_searchable(row) for row in rows]
                gone = 0 <= since < removed
                present = _numbers(connection, statements.COMPLETED, named) if gone else None
            return News(version, files, present)

        return await self._readers.ask(question)

    async def numbers(self, store_id: str) -> frozenset[int]:
        """See `VectorStores.numbers`."""
        return await self._numbers(statements.NUMBERS, store_id)

    async def completed(self, store_id: str) -> frozenset[int]:
        """See `VectorStores.completed`."""
        return await self._numbers(statements.COMPLETED, store_id)

    async def _numbers(self, sql: str, store_id: str) -> frozenset[int]:
        named: dict[str, Value] = {"store_id": store_id}
        return await self._readers.ask(lambda connection: _numbers(connection, sql, named))

    async def read_again(self, store_id: str, numbers: Sequence[int]) -> None:
        """See `VectorStores.read_again`."""
        values = [{"store_id": store_id, "number": number} for number in numbers]
        await self._writer.run(
            lambda connection: connection.executemany(statements.READ_AGAIN, values).rowcount,
            durable=False,
        )

    async def ids(self) -> frozenset[str]:
        """See `VectorStores.ids`."""
        return await self._readers.ask(
            lambda connection: frozenset(id_ for (id_,) in connection.execute(statements.IDS))
        )

    async def expire(self, now: int, limit: int) -> int:
        """See `VectorStores.expire`."""

        stores = await self._readers.ask(
            lambda connection: connection.execute(
                statements.EXPIRED, {"now": now, "most": limit}
            ).fetchall()
        )

        def step(connection: sqlite3.Connection) -> int:
            room = limit
            for (id_,) in stores:
                named: dict[str, Value] = {"store_id": id_, "now": now, "most": room}
                if room and connection.execute(statements.STILL_EXPIRED, named).fetchone():
                    room -= connection.execute(statements.DELETE_FILES, named).rowcount
            return limit - room

        return await self._writer.run(step, durable=False) if stores else 0

    async def _changed(self, sql: str, values: Mapping[str, Value], *, told: bool = False) -> bool:
        changed = await self._writer.run(
            lambda connection: connection.execute(sql, values).rowcount, durable=True, told=told
        )
        return changed > 0

    def _now(self) -> int:
        return int(self._clock())


@contextmanager
def _moment(connection: sqlite3.Connection) -> Iterator[None]:
    """All questions see the same state."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


def _this(project: str, id_: str) -> dict[str, Value]:
    return {"project": project, "id": id_}


def _encoded(value: Mapping[str, Any]) -> str:
    return orjson.dumps(value).decode()


def _has(connection: sqlite3.Connection, project: str, store_id: str) -> bool:
    found = connection.execute(statements.EXISTS, _this(project, store_id)).fetchone()
    return found is not None


def _rows(
    project: str, store_id: str, files: Iterable[NewFile], batch_id: str | None, now: int
) -> list[dict[str, Value]]:
    return [
        {
            "store_id": store_id,
            "file_id": file.file_id,
            "project": project,
            "created_at": now,
            "status": "in_progress",
            "chunk_size": file.chunk_size,
            "chunk_overlap": file.chunk_overlap,
            "attributes": _encoded(file.attributes),
            "batch_id": batch_id,
        }
        for file in files
    ]


def _weight(rows: Sequence[Mapping[str, Value]]) -> int:
    return sum(_ROW + len(str(row["attributes"])) for row in rows)


def _put(connection: sqlite3.Connection, rows: Sequence[Mapping[str, Value]]) -> list[int]:
    """The numbers of the files. Raises `UnknownFile` and `StoreFull`."""
    numbers: list[int] = []
    for row in rows:
        if connection.execute(statements.FILE_EXISTS, row).fetchone() is None:
            raise UnknownFile(str(row["file_id"]))
        connection.execute(statements.DELETE_FILE, row)
        numbers.append(connection.execute(statements.ADD_FILE, row).lastrowid or 0)
    if rows:
        grown = {"store_id": rows[0]["store_id"], "more": len(rows)}
        ((count,),) = connection.execute(statements.GROW, grown).fetchall()
        if count > MOST_FILES:
            raise StoreFull
    return numbers


def _cut(window: Window, rows: list[Any]) -> list[Any]:
    """The page, in the order of the list."""
    page = rows[: window.limit]
    return page if window.reads_newest_first == window.newest_first else page[::-1]


def _bounds(window: Window, number: Any) -> dict[str, Value] | None:
    """The numbers that a page lies between; None: a cursor is unknown."""
    low, high = -1, _INFINITY
    for cursor, is_after in ((window.after, True), (window.before, False)):
        if cursor is None:
            continue
        found = number(cursor)
        if found is None:
            return None
        if is_after == window.newest_first:
            high = min(high, found)
        else:
            low = max(low, found)
    return {"low": low, "high": high, "most": window.limit + 1}


def _over(connection: sqlite3.Connection, project: str, now: int) -> list[Any]:
    """The files of a project that are over: store, batch, state, how many, and their bytes."""
    return connection.execute(statements.OVER_COUNTS, {"project": project, "now": now}).fetchall()


def _store(
    connection: sqlite3.Connection, row: Sequence[Any], over: Iterable[Sequence[Any]]
) -> VectorStoreRow:
    store = _head(row)
    rows = connection.execute(statements.COUNTS, {"store_id": store.id}).fetchall()
    rows += [(status, -count, -used) for id_, _, status, count, used in over if id_ == store.id]
    store.counts = _counts([(status, count) for status, count, _ in rows])
    store.usage_bytes = sum(used for _, _, used in rows)
    return store


def _head(row: Sequence[Any]) -> VectorStoreRow:
    store = VectorStoreRow(*row)
    store.metadata = orjson.loads(row[5])
    return store


def _counts(rows: Sequence[tuple[str, int]]) -> Counts:
    by_status: Counter[str] = Counter()
    for status, count in rows:
        by_status[status] += count
    return Counts(
        *(by_status[name] for name in ("in_progress", "completed", "cancelled", "failed"))
    )


def _file(
    connection: sqlite3.Connection, store_id: str, file_id: str, now: int
) -> StoreFile | None:
    named = {"store_id": store_id, "file_id": file_id, "now": now}
    row = connection.execute(statements.FILE, named).fetchone()
    return _read_file(row) if row else None


def _read_file(row: Sequence[Any]) -> StoreFile:
    values = list(row)
    code, message = values[9:11]
    values[8:11] = [orjson.loads(row[8]), None if code is None else (code, message)]
    return StoreFile(*values)


def _numbers(
    connection: sqlite3.Connection, sql: str, named: Mapping[str, Value]
) -> frozenset[int]:
    return frozenset(number for (number,) in connection.execute(sql, named))


def _searchable(row: Sequence[Any]) -> Searchable:
    number, file_id, filename, attributes, expires_at = row
    return Searchable(number, file_id, filename, orjson.loads(attributes), expires_at)
