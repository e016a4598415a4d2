"""Every statement of the SQL store, compiled once from the tables (design §5, R-28, R-29).

Rules
1. Parameters are bound, never put into the text: by name (`:project`), but in `SAVE`, which is
   the hot one, by place: the fields of a `ResponseRow` in their order.
2. A terminal or deleted row is never changed: the condition is part of the upsert (R-57, R-59).
3. A row that is deleted or expired at `:now` is not `LIVE`, whether it was swept or not. Nor is one
   that is kept for its twins only; and one that is kept for polling is no part of a history.
"""

from dataclasses import fields
from typing import Any, Final

from sqlalchemy import bindparam, literal_column, or_, select, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import ClauseElement, ColumnClause

from antiphon.store.base import RUNNING, ResponseRow
from antiphon.store.tables import responses

_BY_NAME: Final = sqlite.dialect(paramstyle="named")
_BY_PLACE: Final = sqlite.dialect(paramstyle="qmark")
_ROW: Final = responses.c
ANYBODYS: Final = (_ROW.deleted == literal_column("0")) & or_(
    _ROW.expires_at.is_(None), _ROW.expires_at > bindparam("now")
)
LIVE: Final = (
    ANYBODYS & (_ROW.project == bindparam("project")) & (_ROW.kept != literal_column("'replayed'"))
)
CHAINED: Final = LIVE & (_ROW.kept == literal_column("'stored'"))
#: Words for words the condition of its index, or the whole table would be read.
IS_RUNNING: Final = _ROW.status.in_([literal_column(f"'{status}'") for status in RUNNING])
#: The columns are the fields of a `ResponseRow`.
COLUMNS: Final = tuple(_ROW[field.name] for field in fields(ResponseRow))
_EMPTY: Final[ColumnClause[bytes]] = literal_column("x''")


def compiled(statement: ClauseElement, dialect: Dialect = _BY_NAME) -> str:
    """The text of a statement."""
    return str(statement.compile(dialect=dialect))


def _save() -> ClauseElement:
    new = insert(responses).values(
        {field.name: bindparam(field.name) for field in fields(ResponseRow)}
    )
    changed: dict[str, Any] = {
        name: new.excluded[name] for name in ("status", "expires_at", "body", "input", "told")
    }
    return new.on_conflict_do_update(
        index_elements=[_ROW.id],
        set_=changed,
        where=IS_RUNNING
        & (_ROW.deleted == literal_column("0"))
        & (_ROW.project == new.excluded.project)
        & _ROW.owner.is_not_distinct_from(new.excluded.owner)
        & (_ROW.attempt == new.excluded.attempt),
    )


def _probe() -> ClauseElement:
    zeros: ColumnClause[bytes] = literal_column("zeroblob(65536)")
    row = {"id": "probe", "project": "", "status": "probe"}
    new = insert(responses).values(
        {name: literal_column(f"'{value}'") for name, value in row.items()}
        | {"created_at": literal_column("0"), "deleted": literal_column("1")}
        | {"body": zeros, "input": _EMPTY}
    )
    new = new.inline()  # else: RETURNING
    return new.on_conflict_do_update(index_elements=[_ROW.id], set_={"body": zeros})


SAVE: Final = compiled(_save(), _BY_PLACE)

GET: Final = compiled(select(*COLUMNS).where(_ROW.id == bindparam("id"), LIVE))

#: Leaves a tombstone that expires at `:forget_at`; triggers take its metadata and what was told.
DELETE: Final = compiled(
    update(responses)
    .where(_ROW.id == bindparam("id"), LIVE)
    .values(
        deleted=literal_column("1"),
        body=_EMPTY,
        input=_EMPTY,
        expires_at=bindparam("forget_at"),
    )
)

#: The responses whose ids begin with `:first` and come before `:beyond`: the primary key finds
#: them, an index of their partitions would cost every save 5 µs.
PARTITION: Final = compiled(
    select(_ROW.input, _ROW.body, _ROW.told).where(
        _ROW.id >= bindparam("first"), _ROW.id < bindparam("beyond"), CHAINED
    )
)

#: Writes 64 KiB, more than the gaps that a failed write leaves on a full disk, into a row that
#: nobody can see: whether a write works (R-71).
PROBE: Final = compiled(_probe())
