"""The statements on API keys and on the keys of sealed contents; parameters by name
(store/statements.py)."""

from typing import Final

from sqlalchemy import bindparam, delete, exists, literal_column, or_, select, update
from sqlalchemy.dialects.sqlite import insert

from antiphon.store.statements import compiled
from antiphon.store.tables import api_keys, encryption_keys

_KEY: Final = api_keys.c
_SEAL: Final = encryption_keys.c

ADD_KEY: Final = compiled(insert(api_keys).values({c.name: bindparam(c.name) for c in _KEY}))

KEY: Final = compiled(select(api_keys).where(_KEY.hash == bindparam("hash")))

KEYS: Final = compiled(
    select(api_keys)
    .where(or_(bindparam("project").is_(None), _KEY.project == bindparam("project")))
    .order_by(_KEY.created_at.desc(), _KEY.id)
)

REVOKE_KEY: Final = compiled(
    update(api_keys)
    .where(_KEY.id == bindparam("id_"), _KEY.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)

#: The fields of an `EncryptionKey`. Which is the newest says their order, no clock.
ENCRYPTION_KEYS: Final = compiled(
    select(_SEAL.id, _SEAL.key, _SEAL.created_at).order_by(_SEAL.number.desc())
)

#: Only if its id is free; and if it is to be the `:first`, only if there is none.
ADD_ENCRYPTION_KEY: Final = compiled(
    insert(encryption_keys)
    .from_select(
        ["id", "key", "created_at"],
        select(bindparam("id"), bindparam("key"), bindparam("created_at")).where(
            (bindparam("first") == literal_column("0")) | ~exists(select(_SEAL.number))
        ),
    )
    .on_conflict_do_nothing()
)

DROP_ENCRYPTION_KEY: Final = compiled(delete(encryption_keys).where(_SEAL.id == bindparam("id_")))
