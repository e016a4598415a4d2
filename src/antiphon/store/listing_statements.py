"""The statements that list stored responses (store/statements.py has the rules of all).

Rules
1. With a filter, one of its pairs leads, through the index that has the pair and the order; the
   others are looked up one by one.
2. The order is that of coming: (created_at, rowid). Both indexes end with the rowid, and both
   tables have the same order, since what is noted of a response is noted when it comes. No rowid is
   kept anywhere: a backup may number the rows anew, and keeps their order.
3. A page begins behind the place of a response: what comes or goes meanwhile moves nothing. The
   index leads to the second of that place; what came before within it is passed over: 0.15 µs each,
   1 µs with a filter, so that the busiest second (3,000) costs less than 5 ms.
"""

from functools import cache
from typing import Final, Literal

from sqlalchemy import Select, bindparam, exists, func, literal_column, select, tuple_
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.sql.elements import ColumnElement

from antiphon.store.statements import CHAINED, compiled
from antiphon.store.tables import response_metadata, responses

_ROW: Final = responses.c
_PAIR: Final = response_metadata.c
_ROWID: Final[ColumnElement[int]] = literal_column("responses.rowid")
_PAIR_ROWID: Final[ColumnElement[int]] = literal_column("response_metadata.rowid")

NOTE: Final = compiled(
    insert(response_metadata)
    .values({c.name: bindparam(c.name) for c in _PAIR})
    .on_conflict_do_nothing()
)

#: Where a response stands in the order.
PLACE: Final = compiled(select(_ROW.created_at, _ROWID).where(_ROW.id == bindparam("id"), CHAINED))

_few = (
    select(literal_column("1"))
    .where(
        _PAIR.project == bindparam("project"),
        _PAIR.key == bindparam("key"),
        _PAIR.value == bindparam("value"),
    )
    .limit(bindparam("most"))
    .offset(literal_column("0"))
    .subquery()
)
#: How many responses have a pair, counted to `:most`.
COMMON: Final = compiled(select(func.count()).select_from(_few))


def _stored(order: Literal["asc", "desc"], *, behind: bool) -> Select[tuple[str, bytes]]:
    """All of a project."""
    return _page(
        select(_ROW.id, _ROW.body).where(CHAINED), _ROW.created_at, _ROWID, order, behind=behind
    )


def _noted(pairs: int, order: Literal["asc", "desc"], *, behind: bool) -> Select[tuple[str, bytes]]:
    """Those with so many pairs."""
    found = (
        select(_ROW.id, _ROW.body)
        .join_from(response_metadata, responses, _ROW.id == _PAIR.response_id)
        .where(
            _PAIR.project == bindparam("project"),
            _PAIR.key == bindparam("key0"),
            _PAIR.value == bindparam("value0"),
            CHAINED,
        )
    )
    for number in range(1, pairs):
        other = response_metadata.alias()
        found = found.where(
            exists().where(
                other.c.response_id == _PAIR.response_id,
                other.c.key == bindparam(f"key{number}"),
                other.c.value == bindparam(f"value{number}"),
            )
        )
    return _page(found, _PAIR.created_at, _PAIR_ROWID, order, behind=behind)


def _page(
    found: Select[tuple[str, bytes]],
    time: ColumnElement[int],
    number: ColumnElement[int],
    order: Literal["asc", "desc"],
    *,
    behind: bool,
) -> Select[tuple[str, bytes]]:
    here, end = tuple_(time, _ROWID), tuple_(bindparam("at"), bindparam("after"))
    if behind:
        found = found.where(here > end if order == "asc" else here < end)
    ordered = (time, number) if order == "asc" else (time.desc(), number.desc())
    return found.order_by(*ordered).limit(bindparam("limit")).offset(literal_column("0"))


@cache
def listed(pairs: int, order: Literal["asc", "desc"], *, behind: bool) -> str:
    """Ids and bodies of those with the metadata `:key0`: `:value0`, `:key1`: `:value1` …; `behind`
    (`:at`, `:after`)."""
    if pairs == 0:
        return compiled(_stored(order, behind=behind))
    return compiled(_noted(pairs, order, behind=behind))
