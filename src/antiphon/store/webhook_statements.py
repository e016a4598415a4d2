"""The statements on webhook endpoints and their outbox; parameters by name (store/statements.py).

Rules
1. What a project asks for names it (R-29); only the deliverer sees all.
2. A delivery exists as long as its endpoint does and is not disabled.
"""

from dataclasses import fields
from typing import Any, Final

from sqlalchemy import bindparam, case, delete, func, insert, literal_column, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.sql.elements import ClauseElement

from antiphon.store.base import Endpoint
from antiphon.store.statements import compiled
from antiphon.store.tables import webhook_deliveries, webhook_endpoints

_ENDPOINT: Final = webhook_endpoints.c
_DELIVERY: Final = webhook_deliveries.c
_FIELDS: Final = tuple(field.name for field in fields(Endpoint))
#: In the order of the fields of an `Endpoint`.
_COLUMNS: Final = tuple(_ENDPOINT[name] for name in _FIELDS)
_NULL: Final[Any] = literal_column("NULL")
_NOT_DISABLED: Final = _ENDPOINT.disabled_at.is_(None)
#: Fixed ones are nobody's to change.
_CHANGEABLE: Final = (
    (_ENDPOINT.id == bindparam("id_"))
    & (_ENDPOINT.project == bindparam("project_"))
    & (_ENDPOINT.fixed == literal_column("0"))
)

COUNT: Final = compiled(
    select(func.count())
    .select_from(webhook_endpoints)
    .where(_ENDPOINT.project == bindparam("project"))
)

ADD: Final = compiled(insert(webhook_endpoints).values({name: bindparam(name) for name in _FIELDS}))

GET: Final = compiled(
    select(*_COLUMNS).where(
        _ENDPOINT.id == bindparam("id"), _ENDPOINT.project == bindparam("project")
    )
)

#: Of those of one second the one that came last is the newest.
LIST: Final = compiled(
    select(*_COLUMNS)
    .where(_ENDPOINT.project == bindparam("project"))
    .order_by(_ENDPOINT.created_at.desc(), literal_column("rowid").desc())
)

CHANGE: Final = compiled(
    update(webhook_endpoints)
    .where(_CHANGEABLE)
    .values(
        {name: bindparam(name) for name in ("name", "url", "event_types", "updated_at")}
        | {"failing_since": _NULL, "disabled_at": _NULL}
    )
)

#: The old secret stays if there is a `:keep_until`.
ROTATE: Final = compiled(
    update(webhook_endpoints)
    .where(_CHANGEABLE)
    .values(
        old_secret=case((bindparam("keep_until").is_not(None), _ENDPOINT.secret)),
        old_secret_until=bindparam("keep_until"),
        secret=bindparam("secret"),
        updated_at=bindparam("now"),
    )
)

DELETE: Final = compiled(delete(webhook_endpoints).where(_CHANGEABLE))

FIXED: Final = compiled(select(_ENDPOINT.id).where(_ENDPOINT.fixed != literal_column("0")))

DELETE_FIXED: Final = compiled(delete(webhook_endpoints).where(_ENDPOINT.id == bindparam("id_")))

EMPTY: Final = compiled(delete(webhook_deliveries).where(_DELIVERY.endpoint_id == bindparam("id_")))

#: Those who may want a notice: the list of types is a text, read by who asks.
LISTENERS: Final = compiled(
    select(_ENDPOINT.id, _ENDPOINT.event_types).where(
        _ENDPOINT.project == bindparam("project"), _NOT_DISABLED
    )
)

ENQUEUE: Final = compiled(
    insert(webhook_deliveries).values({c.name: bindparam(c.name) for c in _DELIVERY})
)

NEXT_DUE: Final = compiled(select(func.min(_DELIVERY.due_at)))

CLAIM: Final = compiled(
    update(webhook_deliveries)
    .where(_DELIVERY.id == bindparam("id_"))
    .values(due_at=bindparam("until"))
)

FORGET: Final = compiled(delete(webhook_deliveries).where(_DELIVERY.id == bindparam("id_")))

LATER: Final = compiled(
    update(webhook_deliveries)
    .where(_DELIVERY.id == bindparam("id_"))
    .values(due_at=bindparam("again_at"), attempts=_DELIVERY.attempts + literal_column("1"))
)

WORKS: Final = compiled(
    update(webhook_endpoints)
    .where(_ENDPOINT.id == bindparam("id_"), _ENDPOINT.failing_since.is_not(None))
    .values(failing_since=_NULL)
)

FAILS: Final = compiled(
    update(webhook_endpoints)
    .where(_ENDPOINT.id == bindparam("id_"), _ENDPOINT.failing_since.is_(None))
    .values(failing_since=bindparam("now"))
)

DISABLE: Final = compiled(
    update(webhook_endpoints)
    .where(_ENDPOINT.id == bindparam("id_"), _ENDPOINT.failing_since <= bindparam("since"))
    .values(disabled_at=bindparam("now"))
)


def _set_fixed() -> ClauseElement:
    new = upsert(webhook_endpoints).values({name: bindparam(name) for name in _FIELDS})
    changed = {name: new.excluded[name] for name in _FIELDS if name not in ("id", "created_at")}
    return new.on_conflict_do_update(index_elements=[_ENDPOINT.id], set_=changed)


SET_FIXED: Final = compiled(_set_fixed())


def _due() -> ClauseElement:
    """The delivery that waits longest of each endpoint: two steps in an index for each."""
    other = webhook_deliveries.alias()
    first = (
        select(other.c.id)
        .where(other.c.endpoint_id == _ENDPOINT.id, other.c.due_at <= bindparam("now"))
        .order_by(other.c.due_at)
        .limit(literal_column("1"))
        .offset(literal_column("0"))
        .correlate(webhook_endpoints)
        .scalar_subquery()
    )
    return (
        select(
            _DELIVERY.id,
            _DELIVERY.attempts,
            _DELIVERY.notice_id,
            _DELIVERY.type,
            _DELIVERY.created_at,
            _DELIVERY.body,
            *_COLUMNS,
        )
        .select_from(webhook_endpoints.join(webhook_deliveries, _DELIVERY.id == first))
        .where(_NOT_DISABLED)
        .order_by(_DELIVERY.due_at)
    )


DUE: Final = compiled(_due())
