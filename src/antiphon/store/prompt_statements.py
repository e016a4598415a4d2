"""The statements on prompts and their versions; parameters by name (store/statements.py).

Rules
1. Every statement names the project but those on the versions of a prompt that was found by one
   that does, in the same step or question (R-29).
"""

from dataclasses import fields
from typing import Final

from sqlalchemy import bindparam, delete, func, insert, literal_column, select, update

from antiphon.store.base import PromptRow
from antiphon.store.statements import compiled
from antiphon.store.tables import prompt_versions, prompts

_PROMPT: Final = prompts.c
_VERSION: Final = prompt_versions.c
_FIELDS: Final = tuple(field.name for field in fields(PromptRow))
#: In the order of the fields of a `PromptRow`.
_COLUMNS: Final = tuple(_PROMPT[name] for name in _FIELDS)
#: The same without the draft, which is the last one and may be large.
_HEAD: Final = _COLUMNS[:-1]
_THIS: Final = (_PROMPT.id == bindparam("id")) & (_PROMPT.project == bindparam("project"))

ADD: Final = compiled(insert(prompts).values({name: bindparam(name) for name in _FIELDS}))

ADD_VERSION: Final = compiled(
    insert(prompt_versions).values({c.name: bindparam(c.name) for c in _VERSION})
)

COUNT: Final = compiled(
    select(func.count()).select_from(prompts).where(_PROMPT.project == bindparam("project"))
)

GET: Final = compiled(select(*_COLUMNS).where(_THIS))

HEAD: Final = compiled(select(*_HEAD).where(_THIS))

#: Of those of one second the one that came last is the newest.
ALL: Final = compiled(
    select(*_HEAD)
    .where(_PROMPT.project == bindparam("project"))
    .order_by(_PROMPT.created_at.desc(), literal_column("rowid").desc())
)

CHANGE: Final = compiled(
    update(prompts)
    .where(_THIS)
    .values(
        {
            name: bindparam(name)
            for name in ("name", "updated_at", "default_version", "versions", "draft")
        }
    )
)

#: The fields of a `PromptVersion`.
_version = select(_VERSION.prompt_id, _VERSION.version, _VERSION.created_at, _VERSION.template)

VERSION: Final = compiled(
    _version.where(_VERSION.prompt_id == bindparam("id"), _VERSION.version == bindparam("version"))
)

VERSIONS: Final = compiled(
    _version.where(_VERSION.prompt_id == bindparam("id")).order_by(_VERSION.version.desc())
)

DATES: Final = compiled(
    select(_VERSION.created_at)
    .where(_VERSION.prompt_id == bindparam("id"))
    .order_by(_VERSION.version)
)

DELETE: Final = compiled(delete(prompts).where(_THIS))

DELETE_VERSIONS: Final = compiled(
    delete(prompt_versions).where(_VERSION.prompt_id == bindparam("id"))
)
