"""Webhook endpoints and their outbox in SQLite (spec §2.5, reliability R-93).

Rules
1. `enqueue` is called inside the transaction that ends a response: the end and its notices are
   committed together or not at all.
2. What a client is told of is durable. What the deliverer notes down is safe from a kill only: a
   power cut may repeat a delivery, with the same ``webhook-id``.
"""

import secrets
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import astuple, fields
from typing import Any, Final

import orjson

from antiphon.store import webhook_statements as statements
from antiphon.store.base import Change, Delivery, Endpoint, Notice
from antiphon.store.readers import Readers
from antiphon.store.writer import Value, Writer

_FIELDS: Final = tuple(field.name for field in fields(Endpoint))


def enqueue(connection: sqlite3.Connection, project: str, notice: Notice) -> None:
    """Put a notice into the outbox, in the transaction that is open: one delivery for each
    endpoint of the project that wants its type and is not disabled, due at once."""
    found = connection.execute(statements.LISTENERS, {"project": project}).fetchall()
    connection.executemany(
        statements.ENQUEUE,
        [
            {
                "id": "wh_" + secrets.token_hex(24),
                "project": project,
                "endpoint_id": endpoint_id,
                "notice_id": notice.id,
                "type": notice.type,
                "created_at": notice.created_at,
                "body": notice.body,
                "attempts": 0,
                "due_at": notice.created_at,
            }
            for endpoint_id, event_types in found
            if notice.type in orjson.loads(event_types)
        ],
    )


class SqliteWebhooks:
    """See `Webhooks`."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def add(self, endpoint: Endpoint, most: int) -> bool:
        """See `Webhooks.add`."""

        def step(connection: sqlite3.Connection) -> bool:
            count = connection.execute(statements.COUNT, {"project": endpoint.project}).fetchone()
            if count[0] < most:
                connection.execute(statements.ADD, _row(endpoint))
            return bool(count[0] < most)

        return await self._writer.run(step, durable=True, told=False)

    async def endpoint(self, project: str, id: str) -> Endpoint | None:  # noqa: A002
        """See `Webhooks.endpoint`."""
        return await self._readers.ask(lambda connection: _endpoint(connection, project, id))

    async def endpoints(self, project: str) -> list[Endpoint]:
        """See `Webhooks.endpoints`."""
        return await self._readers.ask(
            lambda connection: [
                _read(row) for row in connection.execute(statements.LIST, {"project": project})
            ]
        )

    async def change(self, project: str, id: str, change: Change, now: int) -> bool:  # noqa: A002
        """See `Webhooks.change`."""

        def step(connection: sqlite3.Connection) -> bool:
            known = _endpoint(connection, project, id)
            if known is None or known.fixed:
                return False
            before = (known.name, known.url, known.event_types)
            wanted = (change.name, change.url, change.event_types)
            after = [old if new is None else new for old, new in zip(before, wanted, strict=True)]
            values: dict[str, Value] = {
                "id_": id,
                "project_": project,
                "name": str(after[0]),
                "url": str(after[1]),
                "event_types": orjson.dumps(after[2]).decode(),
                "updated_at": known.updated_at if after == [*before] else now,
            }
            return connection.execute(statements.CHANGE, values).rowcount > 0

        return await self._writer.run(step, durable=True, told=False)

    async def rotate(
        self,
        project: str,
        id: str,  # noqa: A002
        secret: str,
        now: int,
        keep_until: int | None,
    ) -> bool:
        """See `Webhooks.rotate`."""
        values: dict[str, Value] = {
            "id_": id,
            "project_": project,
            "secret": secret,
            "now": now,
            "keep_until": keep_until,
        }
        return await self._writer.write(statements.ROTATE, values, durable=True) > 0

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """See `Webhooks.delete`."""

        def step(connection: sqlite3.Connection) -> bool:
            whose = {"id_": id, "project_": project}
            gone = connection.execute(statements.DELETE, whose).rowcount > 0
            if gone:
                connection.execute(statements.EMPTY, {"id_": id})
            return gone

        return await self._writer.run(step, durable=True, told=False)

    async def set_fixed(self, endpoints: list[Endpoint]) -> None:
        """See `Webhooks.set_fixed`."""
        wanted = {endpoint.id for endpoint in endpoints}

        def step(connection: sqlite3.Connection) -> None:
            for (id_,) in connection.execute(statements.FIXED).fetchall():
                if id_ not in wanted:
                    connection.execute(statements.DELETE_FIXED, {"id_": id_})
                    connection.execute(statements.EMPTY, {"id_": id_})
            connection.executemany(statements.SET_FIXED, map(_row, endpoints))

        await self._writer.run(step, durable=True, told=False)

    async def due(
        self, now: int, until: int, limit: int, busy: Collection[str] = ()
    ) -> list[Delivery]:
        """See `Webhooks.due`."""

        def step(connection: sqlite3.Connection) -> list[Delivery]:
            rows = connection.execute(statements.DUE, {"now": now}).fetchall()
            found = [_delivery(row) for row in rows]
            claimed = [one for one in found if one.endpoint.id not in busy][:limit]
            connection.executemany(
                statements.CLAIM, [{"id_": one.id, "until": until} for one in claimed]
            )
            return claimed

        return await self._writer.run(step, durable=False, told=False)

    async def next_due(self) -> int | None:
        """See `Webhooks.next_due`."""

        def question(connection: sqlite3.Connection) -> int | None:
            found: int | None = connection.execute(statements.NEXT_DUE).fetchone()[0]
            return found

        return await self._readers.ask(question)

    async def delivered(self, delivery: Delivery) -> None:
        """See `Webhooks.delivered`."""

        def step(connection: sqlite3.Connection) -> None:
            connection.execute(statements.FORGET, {"id_": delivery.id})
            connection.execute(statements.WORKS, {"id_": delivery.endpoint.id})

        await self._writer.run(step, durable=False, told=False)

    async def failed(self, delivery: Delivery, now: int, again_at: int | None) -> None:
        """See `Webhooks.failed`."""

        def step(connection: sqlite3.Connection) -> None:
            connection.execute(statements.FAILS, {"id_": delivery.endpoint.id, "now": now})
            if again_at is None:
                connection.execute(statements.FORGET, {"id_": delivery.id})
            else:
                connection.execute(statements.LATER, {"id_": delivery.id, "again_at": again_at})

        await self._writer.run(step, durable=False, told=False)

    async def disable(self, id: str, now: int, since: int) -> bool:  # noqa: A002
        """See `Webhooks.disable`."""

        def step(connection: sqlite3.Connection) -> bool:
            values = {"id_": id, "now": now, "since": since}
            disabled = connection.execute(statements.DISABLE, values).rowcount > 0
            if disabled:
                connection.execute(statements.EMPTY, {"id_": id})
            return disabled

        return await self._writer.run(step, durable=True, told=False)


def _endpoint(connection: sqlite3.Connection, project: str, id_: str) -> Endpoint | None:
    row = connection.execute(statements.GET, {"project": project, "id": id_}).fetchone()
    return _read(row) if row else None


def _row(endpoint: Endpoint) -> dict[str, Value]:
    values: dict[str, Value] = dict(zip(_FIELDS, astuple(endpoint), strict=True))
    return values | {"event_types": orjson.dumps(endpoint.event_types).decode()}


def _read(row: Sequence[Any]) -> Endpoint:
    endpoint = Endpoint(*row)
    endpoint.event_types = orjson.loads(row[_FIELDS.index("event_types")])
    endpoint.fixed = bool(endpoint.fixed)
    return endpoint


def _delivery(row: Sequence[Any]) -> Delivery:
    id_, attempts, *notice = row[:6]
    return Delivery(id_, _read(row[6:]), Notice(*notice), attempts)
