"""The statements on vector stores and their files; parameters by name (store/statements.py).

Rules
1. A statement for a client names the project, or a store that was found by one that does, in the
   same step or question (R-29).
2. Files whose store is gone are still to be removed: who did not ask for the store takes no notice
   of them (`_THERE`).
3. What a client reads of a file says that it is not over at `:now` (`_LIVE`). Counts are made of an
   index that does not know it, so what is over, and not swept yet, is counted apart.
"""

from typing import Any, Final

from sqlalchemy import (
    and_,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.sql.elements import ColumnClause, ColumnElement

from antiphon.store.statements import compiled
from antiphon.store.tables import (
    files,
    index_leftovers,
    owners,
    vector_store_batches,
    vector_store_files,
    vector_stores,
)

_STORE: Final = vector_stores.c
_FILE: Final = vector_store_files.c
_BATCH: Final = vector_store_batches.c
_LEFT: Final = index_leftovers.c


def _word(status: str) -> ColumnElement[str]:
    """Word for word as in the conditions of indexes."""
    return literal_column(f"'{status}'")


_NULL: Final[ColumnClause[str]] = literal_column("NULL")
_ZERO: Final[ColumnClause[int]] = literal_column("0")
_UNREAD: Final = _FILE.status == _word("in_progress")
_THIS: Final = and_(_STORE.id == bindparam("id"), _STORE.project == bindparam("project"))
_THERE: Final = select(_STORE.number).where(_STORE.id == _FILE.store_id).exists()
_over_file = and_(files.c.expires_at.is_not(None), files.c.expires_at <= bindparam("now"))
_LIVE: Final = ~select(files.c.number).where(files.c.id == _FILE.file_id, _over_file).exists()
_MINE: Final = and_(
    _FILE.number == bindparam("number"),
    _FILE.owner == bindparam("owner"),
    _FILE.attempt == bindparam("attempt"),
    _UNREAD,
    _THERE,
)

# -- stores -----------------------------------------------------------------------------------

_STORE_FIELDS: Final = (
    *("id", "project", "created_at", "name", "description", "metadata", "expires_days"),
    "last_active_at",
)
ADD: Final = compiled(
    insert(vector_stores).values({name: bindparam(name) for name in _STORE_FIELDS}).inline()
)
_STORE_COLUMNS: Final = (*(_STORE[name] for name in _STORE_FIELDS), _STORE.version)
GET: Final = compiled(select(*_STORE_COLUMNS).where(_THIS))
EXISTS: Final = compiled(select(_STORE.number).where(_THIS))
CHANGE: Final = compiled(
    update(vector_stores)
    .where(_THIS)
    .values(
        name=func.coalesce(bindparam("name"), _STORE.name),
        description=func.coalesce(bindparam("description"), _STORE.description),
        metadata=func.coalesce(bindparam("metadata"), _STORE.metadata),
        expires_days=func.nullif(
            func.coalesce(bindparam("expires_days"), _STORE.expires_days), literal_column("0")
        ),
        last_active_at=bindparam("now"),
    )
)
_alive = or_(
    _STORE.expires_days.is_(None),
    _STORE.last_active_at + _STORE.expires_days * literal_column("86400") > bindparam("now"),
)
TOUCH: Final = compiled(
    update(vector_stores).where(_THIS, _alive).values(last_active_at=bindparam("now"))
)
DELETE: Final = compiled(delete(vector_stores).where(_THIS))
NEXT_VERSION: Final = compiled(
    update(vector_stores)
    .where(_STORE.id == bindparam("store_id"))
    .values(version=_STORE.version + literal_column("1"))
)
COUNTS: Final = compiled(
    select(_FILE.status, func.count(), func.sum(_FILE.usage_bytes))
    .where(_FILE.store_id == bindparam("store_id"))
    .group_by(_FILE.status)
)
#: The same of files that are over, in all stores and batches of a project. There are few: they are
#: asked for by their time, whoever's they are.
OVER_COUNTS: Final = compiled(
    select(
        *(_FILE.store_id, _FILE.batch_id, _FILE.status, func.count()),
        func.sum(_FILE.usage_bytes),
    )
    .select_from(files)
    .join(vector_store_files, _FILE.file_id == files.c.id)
    .where(_over_file, _FILE.project == bindparam("project"))
    .group_by(_FILE.store_id, _FILE.batch_id, _FILE.status)
)
_over = and_(
    _STORE.expires_days.is_not(None),
    _STORE.last_active_at + _STORE.expires_days * literal_column("86400") <= bindparam("now"),
)
#: Expired stores that still have files.
EXPIRED: Final = compiled(
    select(_STORE.id)
    .where(_over, select(_FILE.number).where(_FILE.store_id == _STORE.id).exists())
    .limit(bindparam("most"))
    .offset(_ZERO)
)
STILL_EXPIRED: Final = compiled(select(_STORE.id).where(_STORE.id == bindparam("store_id"), _over))
#: Whether the store is there, whoever's it is.
KNOWN: Final = compiled(select(_STORE.number).where(_STORE.id == bindparam("store_id")))
#: How many files it has now that `:more` were put in: a count would read all of them.
GROW: Final = compiled(
    update(vector_stores)
    .where(_STORE.id == bindparam("store_id"))
    .values(file_count=_STORE.file_count + bindparam("more"))
    .returning(_STORE.file_count)
)
IDS: Final = compiled(select(_STORE.id))


def stores_page(*, newest_first: bool) -> str:
    """The stores of a project between two of them."""
    return compiled(
        _paged(select(*_STORE_COLUMNS), _STORE.number, newest_first).where(
            _STORE.project == bindparam("project")
        )
    )


def _paged(statement: Any, number: ColumnElement[int], newest_first: bool) -> Any:
    """Rows with a number between ``:low`` and ``:high``, without both."""
    order = number.desc() if newest_first else number
    between = and_(number > bindparam("low"), number < bindparam("high"))
    return statement.where(between).order_by(order).limit(bindparam("most")).offset(_ZERO)


# -- files ------------------------------------------------------------------------------------

_NEW_FILE: Final = (
    *("store_id", "file_id", "project", "created_at", "status", "chunk_size", "chunk_overlap"),
    *("attributes", "batch_id"),
)
ADD_FILE: Final = compiled(
    insert(vector_store_files).values({name: bindparam(name) for name in _NEW_FILE}).inline()
)
#: The fields of a `StoreFile`, its error in two.
FILE_COLUMNS: Final = tuple(
    _FILE[name]
    for name in (
        *("number", "store_id", "file_id", "created_at", "status", "usage_bytes", "chunk_size"),
        *("chunk_overlap", "attributes", "error_code", "error_message", "batch_id"),
    )
)
_IN_STORE: Final = _FILE.store_id == bindparam("store_id")
_THIS_FILE: Final = and_(_IN_STORE, _FILE.file_id == bindparam("file_id"))
FILE: Final = compiled(select(*FILE_COLUMNS).where(_THIS_FILE, _LIVE))
DELETE_FILE: Final = compiled(delete(vector_store_files).where(_THIS_FILE))
DELETE_LIVE_FILE: Final = compiled(delete(vector_store_files).where(_THIS_FILE, _LIVE))
DELETE_FILES: Final = compiled(
    delete(vector_store_files).where(
        _FILE.number.in_(
            select(_FILE.number).where(_IN_STORE).limit(bindparam("most")).offset(_ZERO)
        )
    )
)
NUMBERS: Final = compiled(
    select(_FILE.number).where(
        _IN_STORE,
        or_(_FILE.status == _word("completed"), _FILE.status == _word("in_progress")),
        select(_STORE.number).where(_STORE.id == bindparam("store_id")).exists(),
    )
)
COMPLETED: Final = compiled(
    select(_FILE.number).where(_IN_STORE, _FILE.status == _word("completed"))
)
READ_AGAIN: Final = compiled(
    update(vector_store_files)
    .where(_IN_STORE, _FILE.number == bindparam("number"), _FILE.status == _word("completed"))
    .values(status=_word("in_progress"), usage_bytes=_ZERO, deaths=_ZERO, tries=_ZERO, due_at=_ZERO)
)
#: Whether the project has a file, expired ones not; with the parameters of `ADD_FILE`.
FILE_EXISTS: Final = compiled(
    select(files.c.id).where(
        files.c.id == bindparam("file_id"),
        files.c.project == bindparam("project"),
        or_(files.c.expires_at.is_(None), files.c.expires_at > bindparam("created_at")),
    )
)
#: `NEXT_VERSION` follows if there was such a file.
_next_version = (
    select(_STORE.version + literal_column("1"))
    .where(_STORE.id == vector_store_files.c.store_id)
    .scalar_subquery()
)
SET_ATTRIBUTES: Final = compiled(
    update(vector_store_files)
    .where(_THIS_FILE, _LIVE)
    .values(attributes=bindparam("attributes"), version=_next_version)
)


def files_page(*, newest_first: bool, status: bool, batch: bool) -> str:
    """The files of a store, between two of them; of one state, of one batch."""
    statement = _paged(select(*FILE_COLUMNS), _FILE.number, newest_first).where(_IN_STORE, _LIVE)
    if status:
        statement = statement.where(_FILE.status == bindparam("status"))
    if batch:
        statement = statement.where(_FILE.batch_id == bindparam("batch_id"))
    return compiled(statement)


# -- batches ----------------------------------------------------------------------------------

ADD_BATCH: Final = compiled(
    insert(vector_store_batches)
    .values({name: bindparam(name) for name in ("id", "store_id", "created_at")})
    .inline()
)
BATCH: Final = compiled(
    select(_BATCH.id, _BATCH.store_id, _BATCH.created_at, _BATCH.cancelled).where(
        _BATCH.id == bindparam("batch_id"), _BATCH.store_id == bindparam("store_id")
    )
)
BATCH_COUNTS: Final = compiled(
    select(_FILE.status, func.count())
    .where(_FILE.batch_id == bindparam("batch_id"))
    .group_by(_FILE.status)
)
CANCEL_BATCH: Final = compiled(
    update(vector_store_batches)
    .where(_BATCH.id == bindparam("batch_id"), _BATCH.store_id == bindparam("store_id"))
    .values(cancelled=literal_column("1"))
)
DELETE_BATCHES: Final = compiled(
    delete(vector_store_batches).where(
        _BATCH.id.in_(
            select(_BATCH.id)
            .where(_BATCH.store_id == bindparam("store_id"))
            .limit(bindparam("most"))
            .offset(_ZERO)
        )
    )
)
CANCEL_FILES: Final = compiled(
    update(vector_store_files)
    .where(_FILE.batch_id == bindparam("batch_id"), _UNREAD)
    .values(status=_word("cancelled"), owner=_NULL)
)

# -- the work ---------------------------------------------------------------------------------

KNOW_OWNER: Final = "INSERT OR IGNORE INTO owners (id, beat) VALUES (:owner, 0)"
_free = or_(_FILE.owner.is_(None), _FILE.owner.not_in(select(owners.c.id)))
#: Word for word as in the conditions of indexes, like `_UNREAD`; what an owner has is ready.
_READY: Final = and_(_UNREAD, _FILE.due_at == _ZERO)
_DUE: Final = and_(_UNREAD, _FILE.due_at > _ZERO, _FILE.due_at <= bindparam("now"))
ANY_DUE: Final = compiled(select(select(_FILE.number).where(_DUE).exists()))
#: At most so many of those that were put off, and are due.
WAKE: Final = compiled(
    update(vector_store_files)
    .where(
        _FILE.number.in_(select(_FILE.number).where(_DUE).limit(bindparam("most")).offset(_ZERO))
    )
    .values(due_at=_ZERO)
)
NEXT_PROJECT: Final = compiled(
    select(func.min(_FILE.project)).where(_READY, _FILE.project > bindparam("project"))
)
_files_name = (
    select(files.c.filename).where(files.c.id == vector_store_files.c.file_id).scalar_subquery()
)
#: The first free file of a project behind a number that is ready, and who had it.
CLAIMABLE: Final = compiled(
    select(
        *(_FILE.number, _FILE.project, _FILE.store_id, _FILE.file_id, _files_name),
        *(_FILE.chunk_size, _FILE.chunk_overlap, _FILE.owner, _FILE.attempt, _FILE.deaths),
        _FILE.tries,
    )
    .where(
        _READY,
        _FILE.project == bindparam("project"),
        _FILE.number > bindparam("number"),
        _free,
        _THERE,
    )
    .order_by(_FILE.number)
    .limit(bindparam("one"))
    .offset(_ZERO)
)
CLAIM: Final = compiled(
    update(vector_store_files)
    .where(_FILE.number == bindparam("number"))
    .values({name: bindparam(name) for name in ("owner", "attempt", "deaths")})
)
COMPLETE: Final = compiled(
    update(vector_store_files)
    .where(_MINE)
    .values(
        status=_word("completed"),
        usage_bytes=bindparam("usage_bytes"),
        version=_next_version,
        owner=_NULL,
    )
)
FAIL: Final = compiled(
    update(vector_store_files)
    .where(_MINE)
    .values(
        status=_word("failed"),
        error_code=bindparam("code"),
        error_message=bindparam("message"),
        owner=_NULL,
    )
)
PUT_OFF: Final = compiled(
    update(vector_store_files)
    .where(_MINE)
    .values(owner=_NULL, due_at=bindparam("due_at"), tries=_FILE.tries + literal_column("1"))
)
HAND_BACK: Final = compiled(
    update(vector_store_files).where(_READY, _FILE.owner == bindparam("owner")).values(owner=_NULL)
)
#: Of a file whose reader came too late; without a store its index must go as a whole.
LATE: Final = (
    "INSERT INTO index_leftovers (store_id, number) SELECT :store_id, CASE WHEN EXISTS"
    " (SELECT 1 FROM vector_stores WHERE id = :store_id) THEN :number END WHERE NOT EXISTS"
    " (SELECT 1 FROM vector_store_files WHERE number = :number"
    " AND status IN ('in_progress', 'completed')"
    " AND store_id IN (SELECT id FROM vector_stores))"
)
LEFTOVERS: Final = compiled(
    select(_LEFT.id, _LEFT.store_id, _LEFT.number)
    .where(_LEFT.id > bindparam("after"))
    .order_by(_LEFT.id)
    .limit(bindparam("most"))
    .offset(_ZERO)
)
FORGOTTEN: Final = compiled(delete(index_leftovers).where(_LEFT.id == bindparam("id")))

# -- searching --------------------------------------------------------------------------------

VERSIONS: Final = compiled(
    select(_STORE.version, _STORE.removed).where(_STORE.id == bindparam("store_id"))
)
NEWS: Final = compiled(
    select(*(_FILE.number, _FILE.file_id, files.c.filename, _FILE.attributes, files.c.expires_at))
    .join(files, files.c.id == _FILE.file_id)
    .where(_IN_STORE, _FILE.version > bindparam("since"), _FILE.status == _word("completed"))
)
