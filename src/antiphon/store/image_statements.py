"""The statements on images; parameters by name (store/statements.py).

Rules
1. A statement for a client names the project (R-29).
2. `check_at` says when to ask whether anybody needs an image; triggers set it when a response or a
   conversation goes (store/triggers.py). So nobody who is needed is looked at twice.
"""

from dataclasses import fields
from typing import Final

from sqlalchemy import bindparam, insert, literal_column, select
from sqlalchemy.sql.elements import ColumnClause

from antiphon.store.base.images import ImageRow
from antiphon.store.statements import compiled
from antiphon.store.tables import images

_IMAGE: Final = images.c
_ZERO: Final[ColumnClause[int]] = literal_column("0")
FIELDS: Final = tuple(field.name for field in fields(ImageRow))
_COLUMNS: Final = tuple(_IMAGE[name] for name in FIELDS)
#: `:blobs` is a JSON array.
_AMONG: Final = "blob IN (SELECT value FROM json_each(:blobs))"
_NAMES: Final = ", ".join(FIELDS)

ADD: Final = compiled(
    insert(images).values({name: bindparam(name) for name in (*FIELDS, "check_at")})
)

FIND: Final = f"SELECT {_NAMES} FROM images WHERE {_AMONG} AND project = :project"  # noqa: S608

KNOWN: Final = f"SELECT blob FROM images WHERE {_AMONG}"  # noqa: S608

ALL: Final = compiled(select(*_COLUMNS))

#: Whose time has come, the earliest first.
DUE: Final = compiled(
    select(_IMAGE.blob)
    .where(_IMAGE.check_at <= bindparam("now"))
    .order_by(_IMAGE.check_at)
    .limit(bindparam("limit"))
    .offset(_ZERO)
)

#: One of them, if nobody needs it.
DROP_UNNEEDED: Final = (
    "DELETE FROM images WHERE blob = :blob AND check_at <= :now"
    " AND NOT EXISTS (SELECT 1 FROM responses WHERE id = images.response_id AND deleted = 0)"
    " AND NOT EXISTS (SELECT 1 FROM conversations WHERE id = images.conversation_id)"
)

#: It is needed until somebody says that this may have changed.
SETTLE: Final = "UPDATE images SET check_at = NULL WHERE blob = :blob AND check_at <= :now"

DROP: Final = "DELETE FROM images WHERE blob = :blob"
