"""Used approvals in SQLite (`store.base.approvals`)."""

import sqlite3
from typing import Final

from sqlalchemy import bindparam, delete, literal_column, select
from sqlalchemy.dialects.sqlite import insert

from antiphon.store.readers import Readers
from antiphon.store.statements import compiled
from antiphon.store.tables import used_approvals
from antiphon.store.writer import Value, Writer

_USED: Final = used_approvals.c

_USE: Final = compiled(
    insert(used_approvals)
    .values({column.name: bindparam(column.name) for column in _USED})
    .on_conflict_do_nothing()
)
_USER: Final = compiled(
    select(_USED.response_id).where(
        _USED.project == bindparam("project"), _USED.id == bindparam("id")
    )
)
#: At most `:limit` whose time was over at `:now`.
DROP_APPROVALS_DUE: Final = compiled(
    delete(used_approvals).where(
        literal_column("rowid").in_(
            select(literal_column("rowid"))
            .select_from(used_approvals)
            .where(_USED.expires_at <= bindparam("now"))
            .limit(bindparam("limit"))
            .offset(literal_column("0"))
        )
    )
)


class SqliteApprovals:
    """See `UsedApprovals`."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def use(self, project: str, id: str, response_id: str, expires_at: int) -> str:  # noqa: A002
        """See `UsedApprovals.use`: question and answer are one transaction."""
        values: dict[str, Value] = {
            "project": project,
            "id": id,
            "response_id": response_id,
            "expires_at": expires_at,
        }

        def step(connection: sqlite3.Connection) -> str:
            connection.execute(_USE, values)
            (user,) = connection.execute(_USER, values).fetchone()
            return str(user)

        return await self._writer.run(step, durable=True)

    async def user(self, project: str, id: str) -> str | None:  # noqa: A002
        """See `UsedApprovals.user`."""
        values: dict[str, Value] = {"project": project, "id": id}
        found = await self._readers.ask(
            lambda connection: connection.execute(_USER, values).fetchone()
        )
        return str(found[0]) if found else None
