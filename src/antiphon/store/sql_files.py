"""Files and uploads in SQLite (`store.base.files`).

Rules
1. What must be true of a new row is asked in the step of the writer that adds it: who comes at the
   same time has been written before, or is written after.
2. What a client is told of is durable.
"""

import sqlite3
import sys
from collections.abc import Collection
from dataclasses import astuple
from typing import Final

import orjson

from antiphon.store import file_statements as sql
from antiphon.store.base.files import (
    MOST_PARTS,
    MOST_PENDING,
    UPLOAD_MEMORY,
    FileListing,
    FileRow,
    PartOutcome,
    PartRow,
    UploadRow,
)
from antiphon.store.steps import Questions, Steps
from antiphon.store.writer import Value

#: Before which the newest, and behind which the oldest stand.
_ENDS: Final = {"desc": (sys.maxsize, sys.maxsize), "asc": (-1, -1)}
_PAGES: Final = {"desc": sql.NEWEST, "asc": sql.OLDEST}


class SqliteFiles:
    """See `Files`."""

    def __init__(self, writer: Steps, readers: Questions) -> None:
        self._writer = writer
        self._readers = readers

    async def add(self, row: FileRow, most_bytes: int = 0) -> bool:
        """See `Files.add`."""

        def step(connection: sqlite3.Connection) -> bool:
            if not has_room(connection, row.project, row.bytes, most_bytes):
                return False
            connection.execute(sql.ADD, _file(row))
            return True

        try:
            return await self._writer.run(step, durable=True, told=False)
        except sqlite3.IntegrityError as error:
            raise ValueError("A file with this id exists.") from error

    async def get(self, project: str, id: str, now: int) -> FileRow | None:  # noqa: A002
        """See `Files.get`."""
        values = {"project": project, "id": id, "now": now}
        row = await self._readers.ask(lambda c: c.execute(sql.GET, values).fetchone())
        return FileRow(*row) if row else None

    async def listed(
        self, project: str, wanted: FileListing, now: int
    ) -> tuple[list[FileRow], bool] | None:
        """See `Files.listed`."""
        values = {"project": project, "purpose": wanted.purpose, "now": now}

        def question(connection: sqlite3.Connection) -> tuple[list[FileRow], bool] | None:
            place = _ENDS[wanted.order]
            if wanted.after is not None:
                found = connection.execute(sql.PLACE, {**values, "id": wanted.after}).fetchone()
                if found is None:
                    return None
                place = found
            bounds = {"created_at": place[0], "number": place[1], "limit": wanted.limit + 1}
            page = connection.execute(_PAGES[wanted.order], {**values, **bounds}).fetchall()
            rows = [FileRow(*row) for row in page[: wanted.limit]]
            return rows, len(page) > wanted.limit

        return await self._readers.ask(question)

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """See `Files.delete`."""
        return await self._writer.run(
            lambda connection: _drop(connection, project, id), durable=True, told=False
        )

    async def expired(self, now: int, limit: int) -> list[tuple[str, str]]:
        """See `Files.expired`."""
        values = {"now": now, "limit": limit}
        return await self._readers.ask(lambda c: c.execute(sql.EXPIRED, values).fetchall())

    async def used(self, project: str) -> int:
        """See `Files.used`."""
        return await self._readers.ask(lambda connection: _used(connection, project))

    async def known(self, ids: Collection[str]) -> set[str]:
        """See `Files.known`."""
        values = {"ids": orjson.dumps(list(ids)).decode()}
        return await self._readers.ask(
            lambda connection: {id_ for (id_,) in connection.execute(sql.KNOWN, values)}
        )

    async def begin(self, upload: UploadRow) -> bool:
        """See `Files.begin`."""
        whose: dict[str, Value] = {"project": upload.project, "now": upload.created_at}
        values = dict(zip(sql.UPLOAD_FIELDS, astuple(upload), strict=True))

        def step(connection: sqlite3.Connection) -> bool:
            (pending,) = connection.execute(sql.COUNT_PENDING, whose).fetchone()
            if pending >= MOST_PENDING:
                return False
            connection.execute(sql.BEGIN, values)
            return True

        return await self._writer.run(step, durable=True, told=False)

    async def upload(self, project: str, id: str) -> UploadRow | None:  # noqa: A002
        """See `Files.upload`."""
        values = {"project": project, "id": id}
        row = await self._readers.ask(lambda c: c.execute(sql.UPLOAD, values).fetchone())
        return UploadRow(*row) if row else None

    async def add_part(self, part: PartRow, most_bytes: int = 0) -> PartOutcome:
        """See `Files.add_part`."""
        whose = {"project": part.project, "id": part.upload_id, "now": part.created_at}

        def step(connection: sqlite3.Connection) -> PartOutcome:
            announced = connection.execute(sql.PENDING, whose).fetchone()
            if announced is None:
                return "ended"
            count, size = connection.execute(sql.EXTENT, {"id": part.upload_id}).fetchone()
            if size + part.bytes > announced[0]:
                return "too_large"
            if count >= MOST_PARTS:
                return "too_many"
            if not has_room(connection, part.project, part.bytes, most_bytes):
                return "no_room"
            connection.execute(sql.ADD_PART, dict(zip(sql.PART_FIELDS, astuple(part), strict=True)))
            return "added"

        return await self._writer.run(step, durable=True, told=False)

    async def parts(self, project: str, upload_id: str) -> dict[str, int]:
        """See `Files.parts`."""
        values = {"project": project, "id": upload_id}
        return await self._readers.ask(lambda c: dict(c.execute(sql.PARTS, values).fetchall()))

    async def complete(self, upload: UploadRow, file: FileRow) -> list[str] | None:
        """See `Files.complete`."""
        values: dict[str, Value] = {
            "project": upload.project,
            "id": upload.id,
            "now": file.created_at,
            "file_id": file.id,
            "parts_key": upload.parts_key,
        }

        def step(connection: sqlite3.Connection) -> list[str] | None:
            if not connection.execute(sql.COMPLETE, values).rowcount:
                return None
            connection.execute(sql.ADD, _file(file))
            return _drop_parts(connection, upload.id)

        return await self._writer.run(step, durable=True, told=False)

    async def cancel(self, project: str, id: str, now: int) -> list[str] | None:  # noqa: A002
        """See `Files.cancel`."""
        values = {"project": project, "id": id, "now": now}

        def step(connection: sqlite3.Connection) -> list[str] | None:
            if not connection.execute(sql.CANCEL, values).rowcount:
                return None
            return _drop_parts(connection, id)

        return await self._writer.run(step, durable=True, told=False)

    async def end_uploads(self, now: int, limit: int) -> tuple[list[str], int]:
        """See `Files.end_uploads`."""

        def step(connection: sqlite3.Connection) -> tuple[list[str], int]:
            found = connection.execute(sql.STALE_PARTS, {"now": now, "limit": limit}).fetchall()
            connection.executemany(sql.DROP_PART, [{"id": id_} for (id_,) in found])
            until = now - UPLOAD_MEMORY
            forgotten = connection.execute(sql.FORGET_UPLOADS, {"until": until, "limit": limit})
            return [id_ for (id_,) in found], forgotten.rowcount

        return await self._writer.run(step, durable=True, told=False)


def _drop(connection: sqlite3.Connection, project: str, id_: str) -> bool:
    """Forget a file. What hangs on it goes in the same step (by triggers, store/triggers.py)."""
    return connection.execute(sql.DELETE, {"project": project, "id": id_}).rowcount > 0


def _drop_parts(connection: sqlite3.Connection, upload_id: str) -> list[str]:
    gone = connection.execute(sql.DROP_PARTS, {"id": upload_id}).fetchall()
    return [id_ for (id_,) in gone]


def has_room(connection: sqlite3.Connection, project: str, size: int, most_bytes: int) -> bool:
    """Whether a project may store so many bytes more."""
    return not most_bytes or _used(connection, project) + size <= most_bytes


def _used(connection: sqlite3.Connection, project: str) -> int:
    (used,) = connection.execute(sql.USED, {"project": project}).fetchone()
    return int(used)


def _file(row: FileRow) -> dict[str, Value]:
    return dict(zip(sql.FILE_FIELDS, astuple(row), strict=True))
