"""The statements on containers and their files; parameters by name (store/statements.py).

Rules
1. A statement for a client names the project, or a container that was found by one that does, in
   the same step or question (R-29).
2. A container that is over at `:now` is not `_LIVE`, whether it was swept or not. Those that are
   live are found by an index: none of them was used before `:since`, `MOST_MINUTES` ago.
"""

from dataclasses import fields
from typing import Any, Final

from sqlalchemy import (
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.sql.elements import BindParameter, ColumnClause, ColumnElement

from antiphon.store.base.containers import ContainerFile, ContainerRow
from antiphon.store.statements import compiled
from antiphon.store.tables import container_files, containers

_BOX: Final = containers.c
_FILE: Final = container_files.c
#: Of an offset, too: without one a parameter would be compiled in.
_ZERO: Final[ColumnClause[int]] = literal_column("0")
FIELDS: Final = tuple(field.name for field in fields(ContainerRow))
FILE_FIELDS: Final = tuple(field.name for field in fields(ContainerFile))
_COLUMNS: Final = tuple(_BOX[name] for name in FIELDS)
_FILE_COLUMNS: Final = tuple(_FILE[name] for name in FILE_FIELDS)


def _expired_at(time: str) -> ColumnElement[bool]:
    """The first condition finds it in the index."""
    moment: BindParameter[int] = bindparam(time)
    lifetime = _BOX.expires_minutes * literal_column("60")
    return (_BOX.last_active_at <= moment) & (_BOX.last_active_at + lifetime <= moment)


_OURS: Final = _BOX.project == bindparam("project")
_THIS: Final = (_BOX.id == bindparam("id")) & _OURS
_LIVE: Final = ~_expired_at("now")
_ACTIVE: Final = _OURS & (_BOX.last_active_at > bindparam("since")) & _LIVE
_INSIDE: Final = _FILE.container_id == bindparam("id")

# -- containers -------------------------------------------------------------------------------

ADD: Final = compiled(insert(containers).values({name: bindparam(name) for name in FIELDS}))
GET: Final = compiled(select(*_COLUMNS).where(_THIS))
COUNT: Final = compiled(select(func.count()).select_from(containers).where(_ACTIVE))
TOUCH: Final = compiled(
    update(containers)
    .where(_THIS, _LIVE, _BOX.last_active_at < bindparam("now"))
    .values(last_active_at=bindparam("now"))
)
HELD: Final = compiled(select(_BOX.owner, _BOX.used, _BOX.busy_until).where(_THIS, _LIVE))
CLAIM: Final = compiled(
    update(containers)
    .where(_THIS)
    .values(owner=bindparam("owner"), busy_until=bindparam("busy_until"))
)
#: Whose time is over has ended.
HOLD: Final = compiled(
    update(containers)
    .where(_THIS, _BOX.owner == bindparam("owner"))
    .values(
        busy_until=bindparam("busy_until"),
        last_active_at=func.max(_BOX.last_active_at, bindparam("now")),
        used=func.max(_BOX.used, bindparam("busy_until") <= bindparam("now")),
    )
)
#: The ids of the files that it was given, as JSON.
GIVEN: Final = compiled(select(_BOX.given).where(_THIS))
GIVE: Final = compiled(update(containers).where(_THIS).values(given=bindparam("given")))
DELETE: Final = compiled(delete(containers).where(_THIS))
PLACE: Final = compiled(select(_BOX.number).where(_THIS))


def _paged(statement: Any, number: ColumnElement[int], newest_first: bool) -> str:
    """Rows behind ``:place``."""
    place: BindParameter[int] = bindparam("place")
    beyond = number < place if newest_first else number > place
    order = number.desc() if newest_first else number.asc()
    page = statement.where(beyond).order_by(order)
    return compiled(page.limit(bindparam("limit")).offset(_ZERO))


def _page(*, newest_first: bool) -> str:
    name: BindParameter[str] = bindparam("name")
    wanted = or_(name.is_(None), _BOX.name == name)
    return _paged(select(*_COLUMNS).where(_ACTIVE, wanted), _BOX.number, newest_first)


#: By whether the newest come first.
PAGES: Final = {newest: _page(newest_first=newest) for newest in (True, False)}

# -- files ------------------------------------------------------------------------------------

ADD_FILE: Final = compiled(
    insert(container_files).values({name: bindparam(name) for name in FILE_FIELDS})
)
#: With the parameters of `ADD_FILE`.
AT_PATH: Final = compiled(
    select(*_FILE_COLUMNS).where(
        _FILE.container_id == bindparam("container_id"), _FILE.path == bindparam("path")
    )
)
#: The same.
REPLACE: Final = compiled(
    update(container_files)
    .where(_FILE.container_id == bindparam("container_id"), _FILE.path == bindparam("path"))
    .values({name: bindparam(name) for name in ("bytes", "source", "changed", "blob")})
)
#: How many files a container has beside the one at a path, and their bytes.
EXTENT: Final = compiled(
    select(func.count(), func.coalesce(func.sum(_FILE.bytes), _ZERO)).where(
        _INSIDE, _FILE.path != bindparam("path")
    )
)
FILE: Final = compiled(select(*_FILE_COLUMNS).where(_INSIDE, _FILE.id == bindparam("file_id")))
FILE_PLACE: Final = compiled(select(_FILE.number).where(_INSIDE, _FILE.id == bindparam("file_id")))
FILES: Final = compiled(select(*_FILE_COLUMNS).where(_INSIDE).order_by(_FILE.number))
#: By whether the newest come first.
FILE_PAGES: Final = {
    newest: _paged(select(*_FILE_COLUMNS).where(_INSIDE), _FILE.number, newest)
    for newest in (True, False)
}
#: `:blob` may be null: whatever it has.
REMOVE: Final = compiled(
    delete(container_files)
    .where(
        _INSIDE,
        _FILE.id == bindparam("file_id"),
        _FILE.blob == func.coalesce(bindparam("blob"), _FILE.blob),
    )
    .returning(_FILE.blob)
)
REMOVE_ALL: Final = compiled(delete(container_files).where(_INSIDE).returning(_FILE.blob))
#: `:blobs` is a JSON array.
KNOWN: Final = (
    "SELECT value FROM json_each(:blobs) WHERE value IN (SELECT blob FROM container_files)"
)

# -- the sweep --------------------------------------------------------------------------------

#: Files of containers that are over.
STALE: Final = compiled(
    select(_FILE.number)
    .join(containers, _BOX.id == _FILE.container_id)
    .where(_expired_at("now"))
    .limit(bindparam("limit"))
    .offset(_ZERO)
)
#: One of them, if that is still so.
DROP_STALE: Final = compiled(
    delete(container_files)
    .where(
        _FILE.number == bindparam("number"),
        select(_BOX.number).where(_BOX.id == _FILE.container_id, _expired_at("now")).exists(),
    )
    .returning(_FILE.blob)
)
#: Containers that have no file any more.
FORGET: Final = compiled(
    delete(containers).where(
        _BOX.number.in_(
            select(_BOX.number)
            .where(
                _expired_at("until"),
                ~select(_FILE.number).where(_FILE.container_id == _BOX.id).exists(),
            )
            .limit(bindparam("limit"))
            .offset(_ZERO)
        )
    )
)
