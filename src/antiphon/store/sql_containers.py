"""Containers and their files in SQLite (`store.base.containers`).

Rules
1. What is checked and what is changed are one step of the writer.
2. What a client is told of is durable; that a container was used is not worth a flush, and is
   written once a second at most.
"""

import sqlite3
import sys
from collections.abc import Collection
from dataclasses import astuple, replace
from typing import Any, Final

import orjson

from antiphon.protocol.containers import MOST_MINUTES
from antiphon.store import container_statements as sql
from antiphon.store.base.containers import (
    CONTAINER_MEMORY,
    MOST_CONTAINER_FILES,
    Claim,
    ContainerFile,
    ContainerRow,
    Fence,
    NotPut,
    Put,
)
from antiphon.store.base.vector_stores import Window
from antiphon.store.steps import Questions, Steps
from antiphon.store.writer import Value

#: Before which the newest, and behind which the oldest stand.
_ENDS: Final = {True: sys.maxsize, False: -1}


class SqliteContainers:
    """See `Containers`."""

    def __init__(self, writer: Steps, readers: Questions) -> None:
        self._writer = writer
        self._readers = readers

    async def add(self, row: ContainerRow, most: int) -> bool:
        """See `Containers.add`."""
        values = dict(zip(sql.FIELDS, astuple(row), strict=True))

        def step(connection: sqlite3.Connection) -> bool:
            bounds = {"project": row.project, **_times(row.created_at)}
            (live,) = connection.execute(sql.COUNT, bounds).fetchone()
            if live >= most:
                return False
            connection.execute(sql.ADD, values)
            return True

        return await self._writer.run(step, durable=True, told=False)

    async def get(self, project: str, id: str) -> ContainerRow | None:  # noqa: A002
        """See `Containers.get`."""
        return await self._readers.ask(lambda connection: _get(connection, project, id))

    async def touch(self, project: str, id: str, now: int) -> ContainerRow | None:  # noqa: A002
        """See `Containers.touch`."""
        row = await self.get(project, id)
        if row is None or row.is_expired(now) or row.last_active_at >= now:
            return row

        def step(connection: sqlite3.Connection) -> ContainerRow | None:
            connection.execute(sql.TOUCH, {**_this(project, id), "now": now})
            return _get(connection, project, id)

        return await self._writer.run(step, durable=False, told=False)

    async def claim(
        self,
        project: str,
        id: str,  # noqa: A002
        owner: str,
        now: int,
        busy_until: int,
    ) -> Claim | None:
        """See `Containers.claim`."""
        values: dict[str, Value] = {**_this(project, id), "owner": owner, "now": now}
        values["busy_until"] = busy_until

        def step(connection: sqlite3.Connection) -> Claim | None:
            held = connection.execute(sql.HELD, values).fetchone()
            if held is None:
                return None
            last, used, until = held
            if last not in (None, owner) and until > now:
                return Claim(last, bool(used), busy=True)
            connection.execute(sql.TOUCH, values)
            connection.execute(sql.CLAIM, values)
            return Claim(last, bool(used))

        return await self._writer.run(step, durable=True, told=False)

    async def hold(
        self,
        project: str,
        id: str,  # noqa: A002
        owner: str,
        now: int,
        busy_until: int,
    ) -> bool:
        """See `Containers.hold`."""
        values: dict[str, Value] = {**_this(project, id), "owner": owner, "now": now}
        values["busy_until"] = busy_until
        changed = await self._writer.run(
            lambda connection: connection.execute(sql.HOLD, values).rowcount,
            durable=False,
            told=False,
        )
        return changed > 0

    async def listed(
        self, project: str, window: Window, name: str | None, now: int
    ) -> tuple[list[ContainerRow], bool] | None:
        """See `Containers.listed`."""

        def question(connection: sqlite3.Connection) -> tuple[list[ContainerRow], bool] | None:
            place = _place(connection, sql.PLACE, window, _this(project, window.after))
            if place is None:
                return None
            values: dict[str, Value] = {"project": project, "name": name, **_times(now)}
            page = _page(connection, sql.PAGES[window.newest_first], window, {**values, **place})
            return [_row(found) for found in page[: window.limit]], len(page) > window.limit

        return await self._readers.ask(question)

    async def delete(self, project: str, id: str) -> list[str] | None:  # noqa: A002
        """See `Containers.delete`."""
        values = _this(project, id)

        def step(connection: sqlite3.Connection) -> list[str] | None:
            if not connection.execute(sql.DELETE, values).rowcount:
                return None
            return [blob for (blob,) in connection.execute(sql.REMOVE_ALL, values).fetchall()]

        return await self._writer.run(step, durable=True, told=False)

    async def put(
        self,
        project: str,
        file: ContainerFile,
        most_bytes: int,
        now: int,
        fence: Fence | None = None,
    ) -> Put | NotPut:
        """See `Containers.put`."""
        this: dict[str, Value] = {**_this(project, file.container_id), "now": now}
        values = dict(zip(sql.FILE_FIELDS, astuple(file), strict=True))

        def step(connection: sqlite3.Connection) -> Put | NotPut:
            held = connection.execute(sql.HELD, this).fetchone()
            there = connection.execute(sql.AT_PATH, values).fetchone()
            old = ContainerFile(*there) if there else None
            if held is None:
                return "gone"
            if fence is not None and held[0] != fence.owner:
                return "taken"
            if fence is not None and old is not None and old.blob != fence.blob:
                return "replaced"
            count, size = connection.execute(sql.EXTENT, {**this, "path": file.path}).fetchone()
            if count >= MOST_CONTAINER_FILES:
                return "too_many"
            if size + file.bytes > most_bytes:
                return "no_room"
            connection.execute(sql.TOUCH, this)
            connection.execute(sql.REPLACE if old else sql.ADD_FILE, values)
            if old is None:
                return Put(file, None)
            return Put(replace(file, id=old.id, created_at=old.created_at), old.blob)

        return await self._writer.run(step, durable=True, told=False)

    async def file(self, project: str, container_id: str, id: str) -> ContainerFile | None:  # noqa: A002
        """See `Containers.file`."""
        values: dict[str, Value] = {**_this(project, container_id), "file_id": id}

        def question(connection: sqlite3.Connection) -> ContainerFile | None:
            if not _has(connection, project, container_id):
                return None
            found = connection.execute(sql.FILE, values).fetchone()
            return ContainerFile(*found) if found else None

        return await self._readers.ask(question)

    async def files(
        self, project: str, container_id: str, window: Window
    ) -> tuple[list[ContainerFile], bool] | None:
        """See `Containers.files`."""
        this = _this(project, container_id)

        def question(connection: sqlite3.Connection) -> tuple[list[ContainerFile], bool] | None:
            named: dict[str, Value] = {**this, "file_id": window.after}
            place = _place(connection, sql.FILE_PLACE, window, named)
            if place is None or not _has(connection, project, container_id):
                return None
            page = _page(connection, sql.FILE_PAGES[window.newest_first], window, {**this, **place})
            files = [ContainerFile(*found) for found in page[: window.limit]]
            return files, len(page) > window.limit

        return await self._readers.ask(question)

    async def all_files(self, project: str, container_id: str) -> list[ContainerFile]:
        """See `Containers.all_files`."""
        this = _this(project, container_id)

        def question(connection: sqlite3.Connection) -> list[ContainerFile]:
            if not _has(connection, project, container_id):
                return []
            return [ContainerFile(*found) for found in connection.execute(sql.FILES, this)]

        return await self._readers.ask(question)

    async def remove(
        self,
        project: str,
        container_id: str,
        id: str,  # noqa: A002
        blob: str | None = None,
    ) -> str | None:
        """See `Containers.remove`."""
        values: dict[str, Value] = {**_this(project, container_id), "file_id": id, "blob": blob}

        def step(connection: sqlite3.Connection) -> str | None:
            if not _has(connection, project, container_id):
                return None
            gone = connection.execute(sql.REMOVE, values).fetchall()
            return gone[0][0] if gone else None

        return await self._writer.run(step, durable=True, told=False)

    async def given(self, project: str, id: str) -> set[str]:  # noqa: A002
        """See `Containers.given`."""
        return await self._readers.ask(lambda connection: _given(connection, project, id))

    async def give(self, project: str, id: str, file_ids: Collection[str]) -> None:  # noqa: A002
        """See `Containers.give`."""

        def step(connection: sqlite3.Connection) -> None:
            given = sorted(_given(connection, project, id).union(file_ids))
            connection.execute(sql.GIVE, {**_this(project, id), "given": orjson.dumps(given)})

        await self._writer.run(step, durable=True, told=False)

    async def size(self, project: str, container_id: str, besides: str = "") -> int:
        """See `Containers.size`."""
        values = {**_this(project, container_id), "path": besides}

        def question(connection: sqlite3.Connection) -> int:
            if not _has(connection, project, container_id):
                return 0
            _, size = connection.execute(sql.EXTENT, values).fetchone()
            return int(size)

        return await self._readers.ask(question)

    async def known(self, blobs: Collection[str]) -> set[str]:
        """See `Containers.known`."""
        values = {"blobs": orjson.dumps(list(blobs)).decode()}
        return await self._readers.ask(
            lambda connection: {blob for (blob,) in connection.execute(sql.KNOWN, values)}
        )

    async def expire(self, now: int, limit: int) -> tuple[list[str], int]:
        """See `Containers.expire`."""
        found = await self._readers.ask(
            lambda connection: connection.execute(
                sql.STALE, {"now": now, "limit": limit}
            ).fetchall()
        )

        def step(connection: sqlite3.Connection) -> tuple[list[str], int]:
            blobs: list[str] = []
            for (number,) in found:
                gone = connection.execute(sql.DROP_STALE, {"number": number, "now": now})
                blobs += [blob for (blob,) in gone.fetchall()]
            until = {"until": now - CONTAINER_MEMORY, "limit": limit}
            return blobs, connection.execute(sql.FORGET, until).rowcount

        return await self._writer.run(step, durable=True, told=False)


def _this(project: str, id_: str | None) -> dict[str, Value]:
    return {"project": project, "id": id_}


def _times(now: int) -> dict[str, Value]:
    return {"now": now, "since": now - MOST_MINUTES * 60}


def _row(found: Any) -> ContainerRow:
    row = ContainerRow(*found)
    return replace(row, used=bool(row.used))


def _get(connection: sqlite3.Connection, project: str, id_: str) -> ContainerRow | None:
    found = connection.execute(sql.GET, _this(project, id_)).fetchone()
    return _row(found) if found else None


def _given(connection: sqlite3.Connection, project: str, id_: str) -> set[str]:
    found = connection.execute(sql.GIVEN, _this(project, id_)).fetchone()
    return set(orjson.loads(found[0])) if found and found[0] else set()


def _has(connection: sqlite3.Connection, project: str, container_id: str) -> bool:
    found = connection.execute(sql.PLACE, _this(project, container_id)).fetchone()
    return found is not None


def _place(
    connection: sqlite3.Connection, statement: str, window: Window, values: dict[str, Value]
) -> dict[str, Value] | None:
    """Where a page begins; None: the cursor is unknown."""
    if window.after is None:
        return {"place": _ENDS[window.newest_first]}
    found = connection.execute(statement, values).fetchone()
    return {"place": found[0]} if found else None


def _page(
    connection: sqlite3.Connection, statement: str, window: Window, values: dict[str, Value]
) -> list[Any]:
    """Its rows, and one more if there is one."""
    return connection.execute(statement, {**values, "limit": window.limit + 1}).fetchall()
