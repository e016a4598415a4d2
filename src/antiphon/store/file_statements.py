"""The statements on files, uploads and parts; parameters by name (store/statements.py).

Rules
1. Every statement names the project (R-29) but those of the sweep, which belong to no client, and
   those on the parts of an upload that was found by one that does, in the same step.
2. A file that is over at `:now` is not `_LIVE`, whether it was swept or not.
"""

from dataclasses import fields
from typing import Final

from sqlalchemy import bindparam, delete, func, insert, literal_column, or_, select, update
from sqlalchemy.sql.elements import BindParameter, ColumnClause, ColumnElement, UnaryExpression

from antiphon.store.base.files import FileRow, PartRow, UploadRow
from antiphon.store.statements import compiled
from antiphon.store.tables import files, images, upload_parts, uploads

_FILE: Final = files.c
#: Of an offset, too: without one a parameter would be compiled in.
_ZERO: Final[ColumnClause[int]] = literal_column("0")
_UPLOAD: Final = uploads.c
_PART: Final = upload_parts.c
FILE_FIELDS: Final = tuple(field.name for field in fields(FileRow))
UPLOAD_FIELDS: Final = tuple(field.name for field in fields(UploadRow))
PART_FIELDS: Final = tuple(field.name for field in fields(PartRow))
#: In the order of the fields of a `FileRow`.
_COLUMNS: Final = tuple(_FILE[name] for name in FILE_FIELDS)
_OURS: Final = _FILE.project == bindparam("project")
_LIVE: Final = _OURS & or_(_FILE.expires_at.is_(None), _FILE.expires_at > bindparam("now"))
_THIS: Final = (_UPLOAD.id == bindparam("id")) & (_UPLOAD.project == bindparam("project"))
_OPEN: Final = (_UPLOAD.status == literal_column("'pending'")) & (
    _UPLOAD.expires_at > bindparam("now")
)
_PENDING: Final = _THIS & _OPEN

ADD: Final = compiled(insert(files).values({name: bindparam(name) for name in FILE_FIELDS}))

GET: Final = compiled(select(*_COLUMNS).where(_FILE.id == bindparam("id"), _LIVE))

#: Where in the list of a project a file stands.
PLACE: Final = compiled(
    select(_FILE.created_at, _FILE.number).where(_FILE.id == bindparam("id"), _LIVE)
)

_TIME: Final[BindParameter[int]] = bindparam("created_at")
_NUMBER: Final[BindParameter[int]] = bindparam("number")


def _page(beyond: ColumnElement[bool], *order: UnaryExpression[int]) -> str:
    purpose: BindParameter[str] = bindparam("purpose")
    wanted = or_(purpose.is_(None), _FILE.purpose == purpose)
    page = select(*_COLUMNS).where(_LIVE, wanted, beyond)
    return compiled(page.order_by(*order).limit(bindparam("limit")).offset(_ZERO))


#: Files behind a place, newest or oldest first; the first condition finds it in the index.
NEWEST: Final = _page(
    (_FILE.created_at <= _TIME) & or_(_FILE.created_at < _TIME, _FILE.number < _NUMBER),
    _FILE.created_at.desc(),
    _FILE.number.desc(),
)
OLDEST: Final = _page(
    (_FILE.created_at >= _TIME) & or_(_FILE.created_at > _TIME, _FILE.number > _NUMBER),
    _FILE.created_at.asc(),
    _FILE.number.asc(),
)

DELETE: Final = compiled(delete(files).where(_FILE.id == bindparam("id"), _OURS))

EXPIRED: Final = compiled(
    select(_FILE.project, _FILE.id)
    .where(_FILE.expires_at.is_not(None), _FILE.expires_at <= bindparam("now"))
    .order_by(_FILE.expires_at)
    .limit(bindparam("limit"))
    .offset(_ZERO)
)

USED: Final = compiled(
    select(
        select(func.coalesce(func.sum(_FILE.bytes), _ZERO)).where(_OURS).scalar_subquery()
        + select(func.coalesce(func.sum(_PART.bytes), _ZERO))
        .where(_PART.project == bindparam("project"))
        .scalar_subquery()
        + select(func.coalesce(func.sum(images.c.bytes), _ZERO))
        .where(images.c.project == bindparam("project"))
        .scalar_subquery()
    )
)

#: `:ids` is a JSON array.
KNOWN: Final = (
    "SELECT value FROM json_each(:ids) WHERE value IN (SELECT id FROM files)"
    " OR value IN (SELECT id FROM upload_parts)"
)

BEGIN: Final = compiled(insert(uploads).values({name: bindparam(name) for name in UPLOAD_FIELDS}))

#: Reads the uploads of the last hour, whoever's they are.
COUNT_PENDING: Final = compiled(
    select(func.count()).where(_UPLOAD.project == bindparam("project"), _OPEN)
)

UPLOAD: Final = compiled(select(*(_UPLOAD[name] for name in UPLOAD_FIELDS)).where(_THIS))

#: The bytes that were announced, if it takes parts at `:now`.
PENDING: Final = compiled(select(_UPLOAD.bytes).where(_PENDING))

ADD_PART: Final = compiled(insert(upload_parts).values({n: bindparam(n) for n in PART_FIELDS}))

#: How many parts an upload has, and their bytes.
EXTENT: Final = compiled(
    select(func.count(), func.coalesce(func.sum(_PART.bytes), _ZERO)).where(
        _PART.upload_id == bindparam("id")
    )
)

PARTS: Final = compiled(
    select(_PART.id, _PART.bytes).where(
        _PART.upload_id == bindparam("id"), _PART.project == bindparam("project")
    )
)

DROP_PARTS: Final = compiled(
    delete(upload_parts).where(_PART.upload_id == bindparam("id")).returning(_PART.id)
)

COMPLETE: Final = compiled(
    update(uploads)
    .where(_PENDING)
    .values(
        status=literal_column("'completed'"),
        file_id=bindparam("file_id"),
        parts_key=bindparam("parts_key"),
    )
)

CANCEL: Final = compiled(
    update(uploads).where(_PENDING).values(status=literal_column("'cancelled'"))
)

#: Parts of uploads that are over at `:now`.
STALE_PARTS: Final = compiled(
    select(_PART.id)
    .join(uploads, _UPLOAD.id == _PART.upload_id)
    .where(_UPLOAD.expires_at <= bindparam("now"))
    .limit(bindparam("limit"))
    .offset(_ZERO)
)

DROP_PART: Final = compiled(delete(upload_parts).where(_PART.id == bindparam("id")))

#: Uploads that have no part any more.
FORGET_UPLOADS: Final = compiled(
    delete(uploads).where(
        _UPLOAD.id.in_(
            select(_UPLOAD.id)
            .where(
                _UPLOAD.expires_at <= bindparam("until"),
                ~select(_PART.id).where(_PART.upload_id == _UPLOAD.id).exists(),
            )
            .limit(bindparam("limit"))
            .offset(_ZERO)
        )
    )
)
