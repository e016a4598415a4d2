"""Images in SQLite (`store.base.images`). What a client is told of is durable."""

import sqlite3
from collections.abc import Collection
from dataclasses import asdict

import orjson

from antiphon.store import image_statements as sql
from antiphon.store.base.images import UNCLAIMED, ImageRow
from antiphon.store.sql_files import has_room
from antiphon.store.steps import Questions, Steps
from antiphon.store.writer import Value


class SqliteImages:
    """See `Images`."""

    def __init__(self, writer: Steps, readers: Questions) -> None:
        self._writer = writer
        self._readers = readers

    async def add(self, row: ImageRow, most_bytes: int = 0) -> bool:
        """See `Images.add`."""
        values = {**asdict(row), "check_at": row.created_at + UNCLAIMED}

        def step(connection: sqlite3.Connection) -> bool:
            if not has_room(connection, row.project, row.bytes, most_bytes):
                return False
            connection.execute(sql.ADD, values)
            return True

        return await self._writer.run(step, durable=True, told=False)

    async def find(self, project: str, blobs: Collection[str]) -> dict[str, ImageRow]:
        """See `Images.find`."""
        values = {"project": project, **_among(blobs)}
        rows = await self._readers.ask(lambda c: c.execute(sql.FIND, values).fetchall())
        return {row[0]: ImageRow(*row) for row in rows}

    async def known(self, blobs: Collection[str]) -> set[str]:
        """See `Images.known`."""
        rows = await self._readers.ask(lambda c: c.execute(sql.KNOWN, _among(blobs)).fetchall())
        return {blob for (blob,) in rows}

    async def expire(self, now: int, limit: int) -> tuple[list[str], int]:
        """See `Images.expire`."""
        values = {"now": now, "limit": limit}
        due = await self._readers.ask(lambda c: c.execute(sql.DUE, values).fetchall())
        if not due:
            return [], 0

        def step(connection: sqlite3.Connection) -> list[str]:
            gone = []
            for (blob,) in due:
                one: dict[str, Value] = {"blob": blob, "now": now}
                if connection.execute(sql.DROP_UNNEEDED, one).rowcount:
                    gone.append(blob)
                else:
                    connection.execute(sql.SETTLE, one)
            return gone

        return await self._writer.run(step, durable=True, told=False), len(due)


def _among(blobs: Collection[str]) -> dict[str, Value]:
    return {"blobs": orjson.dumps(list(blobs)).decode()}
