"""The port to stored responses and keys.

Rules
1. Every row belongs to a project, every question names the project: another project's id answers
   like an unknown one (reliability R-29).
2. When an awaited write returns, it is committed; a write that a client was told of is on the disk
   (R-67). Writes of one response are applied in the order in which they were asked for.
3. A response row holds its own input and output only; history is followed through
   `previous_response_id` (issue: chains stay linear in size).
4. Trouble of the database is `antiphon.errors.Overloaded` (503), never a driver's exception; it
   ends by itself when its cause does (R-70, R-71). Only `open` may say `StoreError`: that is for
   the operator, no client sees it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final, Literal, Protocol, Self, TypeAlias

from antiphon.protocol.items.base import Item

#: A response with one of these still changes; every other status is for ever (R-57).
RUNNING: Final = ("queued", "in_progress")

#: What a row is kept for. ``stored``: everything (`store: true`). ``polled``: a background response
#: with `store: false`, which is neither chained nor referred to. ``replayed``: any other with
#: `store: false`, kept for its Idempotency-Key only: every question but `runs` finds nothing.
Kept: TypeAlias = Literal["stored", "polled", "replayed"]


class StoreError(Exception):
    """The store cannot be opened; the message says why and what to do."""


class CorruptStoreError(StoreError):
    """The database file is damaged; it is never recreated silently (R-78)."""


class NewerStoreError(StoreError):
    """The database was migrated by a newer version of antiphon."""


@dataclass(slots=True)
class ResponseRow:
    """A stored response. `body` is the encoded Response, `input` the encoded list of its own input
    items (all with ids); times in Unix seconds."""

    id: str
    project: str
    status: str
    created_at: int
    #: None: kept for ever.
    expires_at: int | None
    previous_response_id: str | None
    body: bytes
    input: bytes
    kept: Kept = "stored"
    #: The process that makes it, or that made it. None: nobody does yet.
    owner: str | None = None
    #: How often somebody took it over; with `owner` it fences off those who had it before.
    attempt: int = 0
    #: The conversation that it belongs to, which is busy while it runs.
    conversation: str | None = None
    #: Its `metadata` as a JSON object, to be listed by; None: it has none.
    metadata: str | None = None
    #: What the model was told of the calls in it (`protocol/told.py`), for those that continue it;
    #: None: no more than its items say.
    told: bytes | None = None


@dataclass(slots=True)
class Turn:
    """One ancestor of a chain; its items know what the model was told of them."""

    id: str
    status: str
    input: list[Item]
    output: list[Item]


@dataclass(slots=True)
class KeyRow:
    """An API key as it is stored: `hash` is the SHA-256 of the key, `hint` its last four."""

    id: str
    project: str
    name: str
    hash: str
    hint: str
    created_at: int
    revoked_at: int | None = None


@dataclass(frozen=True, slots=True)
class EncryptionKey:
    """What `encrypted_content` is sealed with: 32 bytes, and the id that stands in each seal."""

    id: str
    key: bytes
    created_at: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Which stored responses are wanted: those with all of `metadata`, behind the one with the id
    `after`, newest first unless `order` is "asc"."""

    metadata: dict[str, str]
    after: str | None = None
    limit: int = 20
    order: Literal["asc", "desc"] = "desc"
    #: A page ends before it has more bytes, but has one response at least: `limit` of the largest
    #: would be more than a server can answer beside others (R-115).
    most_bytes: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: the ids of responses and their bodies, and whether there are more."""

    ids: list[str]
    bodies: list[bytes]
    has_more: bool

    @classmethod
    def of(cls, found: Iterable[tuple[str, bytes]], listing: Listing) -> Self:
        """The page that `found`, ids and bodies in order, begins with; no more of it is read than
        one response beyond."""
        ids: list[str] = []
        bodies: list[bytes] = []
        room = listing.most_bytes
        for id_, body in found:
            room -= len(body)
            if len(ids) == listing.limit or (ids and room < 0):
                return cls(ids, bodies, has_more=True)
            ids.append(id_)
            bodies.append(body)
        return cls(ids, bodies, has_more=False)


class Responses(Protocol):
    """Responses and keys."""

    async def open(self) -> None:
        """Connect and, if the store has a schema, bring it up to date; or raise `StoreError`."""
        ...

    async def close(self) -> None:
        """Finish the writes that were asked for, then disconnect."""
        ...

    async def ready(self) -> bool:
        """Whether a write would work now."""
        ...

    async def save(self, row: ResponseRow) -> bool:
        """Insert or replace a response; but a row whose status is terminal, that was deleted while
        it ran, or that has another owner or attempt, stays as it is (R-57, R-59). Whether it was
        written; without an owner this is not asked, and the answer is always True."""
        ...

    async def get(self, project: str, id: str) -> ResponseRow | None:  # noqa: A002
        """A response that is neither deleted nor expired."""
        ...

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """Forget a response; whether there was one."""
        ...

    async def chain(self, project: str, id: str) -> list[Turn] | None:  # noqa: A002
        """The response and all its ancestors, oldest first; None when one of them is gone."""
        ...

    async def items(self, project: str, ids: Collection[str]) -> dict[str, Item]:
        """Input and output items of any stored responses, and items of conversations, by id
        (`item_reference`), with what the model was told of them; an id that is not found is not
        there. One read and one decoding for each response that is meant."""
        ...

    async def listed(self, project: str, listing: Listing) -> Page | None:
        """Stored responses (`kept` is "stored"); None: `after` is none of them."""
        ...

    async def expire(self, now: int, limit: int) -> int:
        """Remove at most `limit` rows (and tombstones) whose time was over at `now`, with all that
        belongs to them, and logs and keys whose own time was; how many there were. Call again while
        it answers `limit`: then there may be more (R-137)."""
        ...

    async def add_key(self, key: KeyRow) -> None:
        """Store a new key; ValueError when its id or its hash is taken."""
        ...

    async def key(self, hash: str) -> KeyRow | None:  # noqa: A002
        """The key with this SHA-256 (hex), revoked or not."""
        ...

    async def keys(self, project: str | None = None) -> list[KeyRow]:
        """All keys, newest first."""
        ...

    async def revoke_key(self, id: str, now: int) -> bool:  # noqa: A002
        """Mark a key as revoked; whether it exists and was not revoked before."""
        ...

    async def encryption_keys(self) -> list[EncryptionKey]:
        """All keys of sealed contents, newest first."""
        ...

    async def add_encryption_key(self, key: EncryptionKey, *, first: bool) -> bool:
        """Store a new key; `first`: only if there is none yet. Whether it was stored."""
        ...

    async def drop_encryption_key(self, id: str) -> bool:  # noqa: A002
        """Forget a key: what was sealed with it cannot be opened any more. Whether it was there."""
        ...
