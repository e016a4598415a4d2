"""The statements of chains (see `statements` for the rules of all)."""

from typing import Final, TypeAlias

from sqlalchemy import bindparam, select
from sqlalchemy.sql.elements import ClauseElement

from antiphon.store.statements import CHAINED, compiled
from antiphon.store.tables import removals, responses

#: (id, previous response, expiry, input, body, told)
Row: TypeAlias = tuple[str, str | None, int | None, bytes, bytes, bytes | None]

_ROW: Final = responses.c
_LINK: Final = (
    *(_ROW.id, _ROW.previous_response_id, _ROW.expires_at),
    *(_ROW.input, _ROW.body, _ROW.told),
)


def _chain() -> ClauseElement:
    """All ancestors in one query, in no order; `union` (not all) ends a cycle."""
    child = (
        select(_ROW.id, _ROW.previous_response_id)
        .where(_ROW.id == bindparam("id"), CHAINED)
        .cte("ancestors", recursive=True)
    )
    ancestors = child.union(
        select(_ROW.id, _ROW.previous_response_id)
        .join(child, _ROW.id == child.c.previous_response_id)
        .where(CHAINED)
    )
    return select(*_LINK).join(ancestors, _ROW.id == ancestors.c.id)


LINK: Final = compiled(select(*_LINK).where(_ROW.id == bindparam("id"), CHAINED))

CHAIN: Final = compiled(_chain())

#: Another number than before: chains that are remembered have to be read again. A trigger counts.
REMOVALS: Final = compiled(select(removals.c.number))
