"""API keys and the keys of sealed contents in memory (`store.base.responses`)."""

from dataclasses import replace

from antiphon.store.base import EncryptionKey, KeyRow


class MemoryKeys:
    """The part of `Responses` that is about keys."""

    def __init__(self) -> None:
        #: By hash.
        self._keys: dict[str, KeyRow] = {}
        #: By id, in the order in which they came.
        self._encryption_keys: dict[str, EncryptionKey] = {}

    async def add_key(self, key: KeyRow) -> None:
        """See `Responses.add_key`."""
        if key.hash in self._keys or any(key.id == other.id for other in self._keys.values()):
            raise ValueError("A key with this id or hash exists.")
        self._keys[key.hash] = replace(key)

    async def key(self, hash: str) -> KeyRow | None:  # noqa: A002
        """See `Responses.key`."""
        found = self._keys.get(hash)
        return replace(found) if found else None

    async def keys(self, project: str | None = None) -> list[KeyRow]:
        """See `Responses.keys`."""
        found = [replace(k) for k in self._keys.values() if project in (None, k.project)]
        return sorted(found, key=lambda key: (-key.created_at, key.id))

    async def revoke_key(self, id: str, now: int) -> bool:  # noqa: A002
        """See `Responses.revoke_key`."""
        for key in self._keys.values():
            if key.id == id and key.revoked_at is None:
                key.revoked_at = now
                return True
        return False

    async def encryption_keys(self) -> list[EncryptionKey]:
        """See `Responses.encryption_keys`."""
        return list(reversed(self._encryption_keys.values()))

    async def add_encryption_key(self, key: EncryptionKey, *, first: bool) -> bool:
        """See `Responses.add_encryption_key`."""
        if key.id in self._encryption_keys or (first and self._encryption_keys):
            return False
        self._encryption_keys[key.id] = key
        return True

    async def drop_encryption_key(self, id: str) -> bool:  # noqa: A002
        """See `Responses.drop_encryption_key`."""
        return self._encryption_keys.pop(id, None) is not None
