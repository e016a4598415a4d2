"""Webhook endpoints and their outbox in SQLite (spec §2.5, reliability R-93).

Rules
1. `enqueue` is called inside the transaction that ends a response: the end and its notices are
   committed together or not at all.
"""

import secrets
import sqlite3
from typing import Final

import orjson
from sqlalchemy import bindparam, insert, select
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.elements import ClauseElement

from antiphon.store.base import Notice
from antiphon.store.tables import webhook_deliveries, webhook_endpoints

_ENDPOINT: Final = webhook_endpoints.c
_BY_NAME: Final = sqlite.dialect(paramstyle="named")


def compiled(statement: ClauseElement) -> str:
    """The text of a statement with parameters by name."""
    return str(statement.compile(dialect=_BY_NAME))


#: Those who may want a notice: the list of types is a text here, read by who asks.
LISTENERS: Final = compiled(
    select(_ENDPOINT.id, _ENDPOINT.event_types).where(
        _ENDPOINT.project == bindparam("project"), _ENDPOINT.disabled_at.is_(None)
    )
)

ENQUEUE: Final = compiled(
    insert(webhook_deliveries).values({c.name: bindparam(c.name) for c in webhook_deliveries.c})
)


def new_delivery_id() -> str:
    """A ``webhook-id``, the same for every try."""
    return "wh_" + secrets.token_hex(24)


def enqueue(connection: sqlite3.Connection, project: str, notice: Notice) -> None:
    """Put a notice into the outbox, in the transaction that is open: one delivery for each
    endpoint of the project that wants its type and is not disabled, due at once."""
    found = connection.execute(LISTENERS, {"project": project}).fetchall()
    connection.executemany(
        ENQUEUE,
        [
            {
                "id": new_delivery_id(),
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
