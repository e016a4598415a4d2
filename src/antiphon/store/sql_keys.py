"""API keys and the keys of sealed contents in SQLite (`store.base.responses`)."""

import sqlite3
from dataclasses import asdict

from antiphon.store import key_statements as statements
from antiphon.store.base import EncryptionKey, KeyRow
from antiphon.store.readers import Readers
from antiphon.store.writer import Writer


class SqliteKeys:
    """The part of `Responses` that is about keys. All writes are durable: a key that is gone after
    a power cut takes with it what it was for."""

    def __init__(self, writer: Writer, readers: Readers) -> None:
        self._writer = writer
        self._readers = readers

    async def add_key(self, key: KeyRow) -> None:
        """See `Responses.add_key`."""
        try:
            await self._writer.write(statements.ADD_KEY, asdict(key), durable=True)
        except sqlite3.IntegrityError as error:
            raise ValueError("A key with this id or hash exists.") from error

    async def key(self, hash: str) -> KeyRow | None:  # noqa: A002
        """See `Responses.key`."""
        found = await self._readers.ask(
            lambda connection: connection.execute(statements.KEY, {"hash": hash}).fetchone()
        )
        return KeyRow(*found) if found else None

    async def keys(self, project: str | None = None) -> list[KeyRow]:
        """See `Responses.keys`."""
        return await self._readers.ask(
            lambda connection: [
                KeyRow(*row) for row in connection.execute(statements.KEYS, {"project": project})
            ]
        )

    async def revoke_key(self, id: str, now: int) -> bool:  # noqa: A002
        """See `Responses.revoke_key`."""
        changed = await self._writer.write(
            statements.REVOKE_KEY, {"id_": id, "now": now}, durable=True
        )
        return changed > 0

    async def encryption_keys(self) -> list[EncryptionKey]:
        """See `Responses.encryption_keys`."""
        return await self._readers.ask(
            lambda connection: [
                EncryptionKey(*row) for row in connection.execute(statements.ENCRYPTION_KEYS)
            ]
        )

    async def add_encryption_key(self, key: EncryptionKey, *, first: bool) -> bool:
        """See `Responses.add_encryption_key`: one statement, so no other comes between its question
        and its answer."""
        values = asdict(key) | {"first": int(first)}
        return await self._writer.write(statements.ADD_ENCRYPTION_KEY, values, durable=True) > 0

    async def drop_encryption_key(self, id: str) -> bool:  # noqa: A002
        """See `Responses.drop_encryption_key`."""
        changed = await self._writer.write(
            statements.DROP_ENCRYPTION_KEY, {"id_": id}, durable=True
        )
        return changed > 0
