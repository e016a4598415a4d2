"""A store that forgets: for tests, and for `memory://`.

Rules
1. Same contract as the SQL store (tests/store/test_contract.py runs on both).
2. Bounded by number, size and time; the oldest response goes first (lessons §1 rule 17).
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from antiphon.protocol.ids import partition_of
from antiphon.protocol.items.base import Item
from antiphon.store import items
from antiphon.store.base import RUNNING, KeyRow, ResponseRow, Turn


@dataclass(slots=True)
class _Kept:
    row: ResponseRow
    expires_at: float
    deleted: bool = False

    @property
    def size(self) -> int:
        return len(self.row.body) + len(self.row.input)


class MemoryStore:
    """Keeps at most `most_rows` responses of `most_bytes` in all, each for at most `ttl` seconds;
    `clock` gives Unix seconds."""

    def __init__(
        self,
        *,
        most_rows: int = 10_000,
        most_bytes: int = 256 * 1024 * 1024,
        ttl: int = 86_400,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._ttl = ttl
        self._clock = clock
        self._bytes = 0
        self._rows: dict[str, _Kept] = {}
        self._partitions: dict[str, str] = {}
        self._keys: dict[str, KeyRow] = {}
        #: Responses that went before their time, for want of room.
        self.evicted = 0

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def ready(self) -> bool:
        """Always."""
        return True

    async def save(self, row: ResponseRow) -> bool:
        """See `Store.save`."""
        expires_at = self._clock() + self._ttl
        if row.expires_at is not None:
            expires_at = min(expires_at, row.expires_at)
        old = self._rows.get(row.id)
        if old is not None:
            if old.deleted or old.row.status not in RUNNING or old.row.project != row.project:
                return False
            self._bytes -= old.size
        kept = self._rows[row.id] = _Kept(replace(row), expires_at)
        self._bytes += kept.size
        partition = partition_of(row.id)
        if partition is not None:
            self._partitions[partition] = row.id
        self._make_room()
        return True

    async def get(self, project: str, id: str) -> ResponseRow | None:  # noqa: A002
        """See `Store.get`."""
        row = self._live(project, id)
        return replace(row) if row else None

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """See `Store.delete`."""
        if self._live(project, id) is None:
            return False
        kept = self._rows[id]
        self._bytes -= kept.size
        kept.row = replace(kept.row, body=b"", input=b"")
        kept.deleted = True
        return True

    async def chain(self, project: str, id: str) -> list[Turn] | None:  # noqa: A002
        """See `Store.chain`."""
        turns: list[Turn] = []
        seen: set[str] = set()
        step: str | None = id
        while step is not None:
            row = self._live(project, step)
            if row is None or step in seen:
                return None
            seen.add(step)
            turns.append(items.turn(row.id, row.input, row.body))
            step = row.previous_response_id
        turns.reverse()
        return turns

    async def items(self, project: str, ids: Collection[str]) -> dict[str, Item]:
        """See `Store.items`."""
        found: dict[str, Item] = {}
        for partition, wanted in items.by_partition(ids).items():
            holder = self._partitions.get(partition)
            if holder is not None and (row := self._live(project, holder)) is not None:
                found |= items.find(wanted, [(row.input, row.body)])
        return found

    async def unfinished(self, limit: int) -> list[ResponseRow]:
        """See `Store.unfinished`."""
        kept = (kept for kept in self._rows.values() if not kept.deleted)
        rows = [replace(entry.row) for entry in kept if entry.row.status in RUNNING]
        return rows[:limit]

    async def expire(self, now: int, limit: int) -> int:
        """See `Store.expire`."""
        due = [name for name, kept in self._rows.items() if kept.expires_at <= now][:limit]
        for name in due:
            self._drop(name)
        return len(due)

    async def add_key(self, key: KeyRow) -> None:
        """See `Store.add_key`."""
        if key.hash in self._keys or any(key.id == other.id for other in self._keys.values()):
            raise ValueError("A key with this id or hash exists.")
        self._keys[key.hash] = replace(key)

    async def key(self, hash: str) -> KeyRow | None:  # noqa: A002
        """See `Store.key`."""
        found = self._keys.get(hash)
        return replace(found) if found else None

    async def keys(self, project: str | None = None) -> list[KeyRow]:
        """See `Store.keys`."""
        found = [replace(k) for k in self._keys.values() if project in (None, k.project)]
        return sorted(found, key=lambda key: (-key.created_at, key.id))

    async def revoke_key(self, id: str, now: int) -> bool:  # noqa: A002
        """See `Store.revoke_key`."""
        for key in self._keys.values():
            if key.id == id and key.revoked_at is None:
                key.revoked_at = now
                return True
        return False

    def _live(self, project: str, id: str) -> ResponseRow | None:  # noqa: A002
        kept = self._rows.get(id)
        if kept is None or kept.deleted or kept.row.project != project:
            return None
        return kept.row if kept.expires_at > self._clock() else None

    def _make_room(self) -> None:
        while len(self._rows) > self._most_rows or self._bytes > self._most_bytes:
            self._drop(next(iter(self._rows)))
            self.evicted += 1

    def _drop(self, id: str) -> None:  # noqa: A002
        kept = self._rows.pop(id)
        self._bytes -= kept.size
        self._partitions.pop(partition_of(id) or "", None)
