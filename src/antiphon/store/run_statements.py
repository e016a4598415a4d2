"""The statements of runs: leases, events, jobs, keys (see `statements` for the rules of all).

Rules
1. Every write to a response has the lease in its condition: `_HELD` (R-57, R-59).
"""

from dataclasses import fields
from typing import Final

from sqlalchemy import (
    LargeBinary,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.sql.elements import ColumnClause, ColumnElement

from antiphon.store.base import ResponseRow
from antiphon.store.statements import ANYBODYS, COLUMNS, IS_RUNNING, LIVE, compiled
from antiphon.store.tables import events, idempotency_keys, jobs, owners, responses

_ROW: Final = responses.c
_JOB: Final = jobs.c
_KEY: Final = idempotency_keys.c
_EVENT: Final = events.c
_ZERO: Final[ColumnClause[int]] = literal_column("0")
_ONE: Final[ColumnClause[int]] = literal_column("1")
_THERE: Final = _ROW.deleted == _ZERO
_IS_JOB: Final = exists().where(_JOB.response_id == _ROW.id)


def _is(column: ColumnElement[str]) -> ColumnElement[bool]:
    return column == bindparam("id")


#: The lease (:id, :owner, :attempt) is that of a response that runs; '' is the owner of those that
#: have none (what `Runs.release` returns).
_HELD: Final = (
    _is(_ROW.id)
    & (func.coalesce(_ROW.owner, literal_column("''")) == bindparam("owner"))
    & (_ROW.attempt == bindparam("attempt"))
    & IS_RUNNING
    & _THERE
)

HELD: Final = compiled(select(_ROW.project, _ROW.conversation).where(_HELD))

ADMIT: Final = compiled(
    insert(responses).values({f.name: bindparam(f.name) for f in fields(ResponseRow)})
)

ADD_JOB: Final = compiled(
    insert(jobs).values(
        response_id=bindparam("id"),
        project=bindparam("project"),
        request=bindparam("request"),
        progress=literal_column("x''"),
        deaths=_ZERO,
    )
)

#: The jobs without an owner, oldest first; only those that can still be made.
WAITING: Final = compiled(
    select(_JOB.project, _JOB.response_id)
    .join(responses, _ROW.id == _JOB.response_id)
    .where(_JOB.owner.is_(None), IS_RUNNING, ANYBODYS)
    .order_by(_JOB.number)
    .limit(bindparam("most"))
    .offset(_ZERO)
)

QUEUED: Final = compiled(select(func.count()).select_from(jobs).where(_JOB.owner.is_(None)))

TAKE: Final = compiled(
    update(responses)
    .where(_is(_ROW.id), LIVE, IS_RUNNING, _IS_JOB)
    .values(owner=bindparam("owner"), attempt=_ROW.attempt + _ONE)
)

TAKE_JOB: Final = compiled(
    update(jobs).where(_is(_JOB.response_id)).values(owner=bindparam("owner"))
)

#: The fields of a `ResponseRow`, then those of a `Job`.
JOB: Final = compiled(
    select(*COLUMNS, _JOB.request, _JOB.progress, _JOB.deaths)
    .join(jobs, _JOB.response_id == _ROW.id)
    .where(_is(_ROW.id))
)

DROP_JOB: Final = compiled(delete(jobs).where(_is(_JOB.response_id)))

_batch = insert(events).from_select(
    ["response_id", "first", "frames"],
    select(_ROW.id, bindparam("first"), bindparam("frames", type_=LargeBinary)).where(_HELD),
)
#: A batch whose answer never arrived is asked for again, with what came since at its end; what is
#: there is never replaced by anything else (R-63).
ADD_EVENTS: Final = compiled(
    _batch.on_conflict_do_update(
        index_elements=[_EVENT.response_id, _EVENT.first],
        set_={"frames": _batch.excluded.frames},
        where=func.substr(_batch.excluded.frames, _ONE, func.length(_EVENT.frames))
        == _EVENT.frames,
    )
)

SNAPSHOT: Final = compiled(
    update(responses).where(_HELD).values(status=bindparam("new_status"), body=bindparam("body"))
)

PROGRESS: Final = compiled(
    update(jobs).where(_is(_JOB.response_id)).values(progress=bindparam("progress"))
)

FINISH: Final = compiled(
    update(responses)
    .where(_HELD)
    .values(
        status=bindparam("new_status"),
        body=bindparam("body"),
        expires_at=bindparam("expires_at"),
        log_until=bindparam("log_until"),
        told=bindparam("told"),
    )
)

_earlier = events.alias("earlier")
#: The batches that hold what is above :after, while their log is kept.
READ: Final = compiled(
    select(_EVENT.first, _EVENT.frames)
    .where(
        _is(_EVENT.response_id),
        _EVENT.first
        >= func.coalesce(
            select(func.max(_earlier.c.first))
            .where(_is(_earlier.c.response_id), _earlier.c.first <= bindparam("after") + _ONE)
            .scalar_subquery(),
            _ZERO,
        ),
        exists().where(
            _is(_ROW.id),
            ANYBODYS,
            or_(_ROW.log_until.is_(None), _ROW.log_until > bindparam("now")),
        ),
    )
    .order_by(_EVENT.first)
)

STATUS: Final = compiled(select(_ROW.status).where(_is(_ROW.id), ANYBODYS))

FIND: Final = compiled(select(*COLUMNS).where(_is(_ROW.id), ANYBODYS))

TWIN: Final = compiled(
    select(_KEY.response_id, _KEY.fingerprint)
    .join(responses, _ROW.id == _KEY.response_id)
    .where(
        _KEY.project == bindparam("project"),
        _KEY.key == bindparam("key"),
        _KEY.expires_at > bindparam("now"),
        ANYBODYS,
    )
)

_key = insert(idempotency_keys).values({c.name: bindparam(c.name) for c in _KEY})
PUT_KEY: Final = compiled(
    _key.on_conflict_do_update(
        index_elements=[_KEY.project, _KEY.key],
        set_={name: _key.excluded[name] for name in ("fingerprint", "response_id", "expires_at")},
    )
)

DROP_KEY: Final = compiled(delete(idempotency_keys).where(_is(_KEY.response_id)))

_beat = insert(owners).values(id=bindparam("owner"), beat=_ONE)
BEAT: Final = compiled(
    _beat.on_conflict_do_update(index_elements=[owners.c.id], set_={"beat": owners.c.beat + _ONE})
)

_known = select(owners.c.id)
_UNKNOWN: Final = _ROW.owner.is_not(None) & _ROW.owner.not_in(_known)

#: Those that beat, and those that never did (or were forgotten) but own something.
OWNERS: Final = compiled(
    select(owners.c.id, owners.c.beat).union_all(
        select(_ROW.owner, _ZERO).where(IS_RUNNING, _THERE, _UNKNOWN).distinct()
    )
)

OWNED: Final = compiled(select(_ROW.id).where(_ROW.owner == bindparam("owner"), IS_RUNNING, _THERE))

#: Only if its last heartbeat is :beat, when there is one.
DROP_OWNER: Final = compiled(
    delete(owners).where(
        owners.c.id == bindparam("owner"),
        or_(bindparam("beat").is_(None), owners.c.beat == bindparam("beat")),
    )
)

HAND_BACK: Final = compiled(update(responses).where(_HELD, _IS_JOB).values(owner=null()))

HAND_BACK_JOB: Final = compiled(update(jobs).where(_is(_JOB.response_id)).values(owner=null()))

#: All jobs whose owner is not known.
HAND_BACK_ALL: Final = compiled(
    update(responses).where(_UNKNOWN, IS_RUNNING, _IS_JOB).values(owner=null())
)

HAND_BACK_ALL_JOBS: Final = compiled(
    update(jobs)
    .where(_JOB.owner.is_not(None), _JOB.owner.not_in(_known))
    .values(owner=null(), deaths=_JOB.deaths + bindparam("died"))
)

#: What nobody makes any more, and nobody will.
LEFT: Final = compiled(
    select(*COLUMNS).where(or_(_ROW.owner.is_(None), _UNKNOWN), IS_RUNNING, _THERE, ~_IS_JOB)
)

# What goes with a response, or before it.

DUE: Final = compiled(
    select(_ROW.id)
    .where(_ROW.expires_at <= bindparam("now"))
    .order_by(_ROW.expires_at)
    .limit(bindparam("limit"))
    .offset(_ZERO)
)

DROP: Final = compiled(delete(responses).where(_is(_ROW.id)))

DROP_EVENTS: Final = compiled(
    delete(events).where(
        literal_column("rowid").in_(
            select(literal_column("rowid"))
            .select_from(events)
            .where(_is(_EVENT.response_id))
            .limit(bindparam("most"))
            .offset(_ZERO)
        )
    )
)

LOGS_DUE: Final = compiled(
    select(_ROW.id)
    .where(_ROW.log_until <= bindparam("now"))
    .limit(bindparam("limit"))
    .offset(_ZERO)
)

LOG_IS_GONE: Final = compiled(update(responses).where(_is(_ROW.id)).values(log_until=null()))

DROP_KEYS_DUE: Final = compiled(
    delete(idempotency_keys).where(
        literal_column("rowid").in_(
            select(literal_column("rowid"))
            .select_from(idempotency_keys)
            .where(_KEY.expires_at <= bindparam("now"))
            .limit(bindparam("limit"))
            .offset(_ZERO)
        )
    )
)

#: Jobs of responses that a process of the version before ended or removed.
DROP_LOST_JOBS: Final = compiled(
    delete(jobs).where(
        _JOB.number.in_(
            select(_JOB.number)
            .where(~exists().where(_ROW.id == _JOB.response_id, IS_RUNNING, _THERE))
            .limit(bindparam("limit"))
            .offset(_ZERO)
        )
    )
)
