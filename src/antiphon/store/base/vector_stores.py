"""The port to vector stores: their files, and how far these are (spec §2.4, decision 0008).

Rules
1. A file that is put into a store gets a new `number`: that is what its chunks are known by. Put in
   again it is another one, and the old one is gone.
2. A file that is ``in_progress`` belongs to who has claimed it, or to nobody when `Runs` does not
   know that owner (any more). The last word on it names (owner, attempt), or it is refused.
3. What an index must forget is written down in the step that makes it so (`leftovers`), whoever
   deletes what: a file, a file of a store, a store.
4. Rows of another project are unknown (R-29); so is a file that has expired, from that second on:
   it is in no page and no count. What can be found says when it expires (`Searchable`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

FileStatus: TypeAlias = Literal["in_progress", "completed", "cancelled", "failed"]
Attributes: TypeAlias = dict[str, str | float | bool]
Json: TypeAlias = dict[str, Any]

#: Files of one store.
MOST_FILES = 100_000
DAY = 86_400


class UnknownFile(LookupError):
    """A file that the project does not have."""

    def __init__(self, file_id: str) -> None:
        super().__init__(file_id)
        self.file_id = file_id


class StoreFull(ValueError):
    """The store would have more than `MOST_FILES` files."""


@dataclass(frozen=True, slots=True)
class Counts:
    """How many files are in which state."""

    in_progress: int = 0
    completed: int = 0
    cancelled: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.in_progress + self.completed + self.cancelled + self.failed


@dataclass(slots=True)
class VectorStoreRow:
    """A store; times in Unix seconds, `usage_bytes` of its chunks. `version` grows with each change
    of what can be found in it."""

    id: str
    project: str
    created_at: int
    name: str
    description: str | None
    metadata: dict[str, str]
    expires_days: int | None
    last_active_at: int
    version: int = 0
    counts: Counts = field(default_factory=Counts)
    usage_bytes: int = 0

    @property
    def expires_at(self) -> int | None:
        """None: never."""
        return None if self.expires_days is None else self.last_active_at + self.expires_days * DAY

    def is_expired(self, now: float) -> bool:
        """Whether nothing can be found in it any more."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class StoreChange:
    """What `change` sets; None: as it is. `expires_days` 0: never."""

    name: str | None = None
    description: str | None = None
    metadata: dict[str, str] | None = None
    expires_days: int | None = None


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that is put into a store; sizes in tokens."""

    file_id: str
    attributes: Attributes
    chunk_size: int
    chunk_overlap: int


@dataclass(slots=True)
class StoreFile:
    """A file of a store. `error`: code and message of a failed one."""

    number: int
    store_id: str
    file_id: str
    created_at: int
    status: FileStatus
    usage_bytes: int
    chunk_size: int
    chunk_overlap: int
    attributes: Attributes
    error: tuple[str, str] | None
    batch_id: str | None


@dataclass(frozen=True, slots=True)
class FileBatch:
    """Files that were put into a store together."""

    id: str
    store_id: str
    created_at: int
    cancelled: bool = False
    counts: Counts = Counts()


@dataclass(frozen=True, slots=True)
class Window:
    """One page of a list: at most `limit` behind `after` and before `before`, ids of its rows.
    `before` alone: the page that ends just there."""

    limit: int
    newest_first: bool = True
    after: str | None = None
    before: str | None = None

    @property
    def reads_newest_first(self) -> bool:
        """The order that begins at the cursor."""
        backwards = self.before is not None and self.after is None
        return self.newest_first != backwards


@dataclass(frozen=True, slots=True)
class Ingestion:
    """A file that is to be read, by who has claimed it. `deaths`: owners that died over it;
    `tries`: how often it was put off."""

    number: int
    project: str
    store_id: str
    file_id: str
    filename: str
    chunk_size: int
    chunk_overlap: int
    owner: str
    attempt: int
    deaths: int
    tries: int


@dataclass(frozen=True, slots=True)
class Searchable:
    """A file that can be found."""

    number: int
    file_id: str
    filename: str
    attributes: Attributes
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class News:
    """What changed in a store since a version; `present`: the numbers of all there are, if
    something went."""

    version: int
    files: list[Searchable]
    present: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Leftover:
    """What the index of a store must forget: a file, or, without a number, all."""

    id: int
    store_id: str
    number: int | None


class VectorStores(Protocol):
    """Stores and their files. What a client is told of is durable."""

    async def add(self, row: VectorStoreRow, files: Sequence[NewFile]) -> None:
        """A new store with its first files. Raises `UnknownFile`; then there is none."""
        ...

    async def get(self, project: str, id: str) -> VectorStoreRow | None:  # noqa: A002
        """One store."""
        ...

    async def head(self, project: str, id: str) -> VectorStoreRow | None:  # noqa: A002
        """The same without its counts: cheap, whatever it has."""
        ...

    async def listed(
        self, project: str, window: Window
    ) -> tuple[list[VectorStoreRow], bool] | None:
        """A page, and whether there is more; None: a cursor is unknown."""
        ...

    async def change(self, project: str, id: str, change: StoreChange, now: int) -> bool:  # noqa: A002
        """Whether there is such a store."""
        ...

    async def touch(self, project: str, id: str, now: int) -> None:  # noqa: A002
        """It was used; one that has expired stays so."""
        ...

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """Whether there was one. Its files stay, but in no store."""
        ...

    async def put(
        self,
        project: str,
        store_id: str,
        files: Sequence[NewFile],
        batch: FileBatch | None,
        now: int,
    ) -> list[StoreFile] | None:
        """Put files into a store, all or none; None: there is no such store. Raises `UnknownFile`
        and `StoreFull`."""
        ...

    async def file(self, project: str, store_id: str, file_id: str) -> StoreFile | None:
        """One file."""
        ...

    async def files(
        self,
        project: str,
        store_id: str,
        window: Window,
        status: FileStatus | None = None,
        batch_id: str | None = None,
    ) -> tuple[list[StoreFile], bool] | None:
        """A page of those in that state, or of that batch; None: a cursor is unknown."""
        ...

    async def set_attributes(
        self, project: str, store_id: str, file_id: str, attributes: Attributes
    ) -> bool:
        """Whether there is such a file."""
        ...

    async def remove_file(self, project: str, store_id: str, file_id: str) -> bool:
        """Take a file out of a store; whether it was there."""
        ...

    async def batch(self, project: str, store_id: str, id: str) -> FileBatch | None:  # noqa: A002
        """One batch, with the counts of now."""
        ...

    async def cancel_batch(self, project: str, store_id: str, id: str) -> bool:  # noqa: A002
        """Cancel what of it is not done; whether there is such a batch."""
        ...

    async def news(self, store_id: str, since: int) -> News:
        """What can be found in a store, as far as that changed after version `since`; -1: all."""
        ...

    async def numbers(self, store_id: str) -> frozenset[int]:
        """The files of which its index may have chunks (R-104)."""
        ...

    async def completed(self, store_id: str) -> frozenset[int]:
        """The files of which its index must have the chunks (R-104)."""
        ...

    async def read_again(self, store_id: str, numbers: Sequence[int]) -> None:
        """Files that were completed, and are not in the index, are in progress again."""
        ...

    async def ids(self) -> frozenset[str]:
        """All stores of all projects (R-104)."""
        ...

    async def expire(self, now: int, limit: int) -> int:
        """Take files out of stores that have expired; how many there were, at most `limit`."""
        ...


class Ingestions(Protocol):
    """The work on files of stores, and what indexes must forget."""

    async def claim(
        self, owner: str, most: int, now: int, *, alone: bool = True
    ) -> list[Ingestion]:
        """Become the owner of files that nobody has and that are due; projects take turns. One over
        which an owner has died comes alone, and nothing comes before it: not even itself, unless
        the owner has no other (`alone`)."""
        ...

    async def complete(self, claimed: Ingestion, usage_bytes: int, now: int) -> bool:
        """It can be found now. False: it was claimed by another, taken out or cancelled; where
        nobody needs its chunks any more they are left over."""
        ...

    async def fail(self, claimed: Ingestion, code: str, message: str) -> bool:
        """It could not be read; the same."""
        ...

    async def put_off(self, claimed: Ingestion, due_at: int) -> bool:
        """Nobody's again, and not before `due_at`; the same. Its `tries` grow."""
        ...

    async def hand_back(self, owner: str) -> None:
        """All that `owner` has is nobody's again, without a death."""
        ...

    async def leftovers(self, most: int, after: int = 0) -> list[Leftover]:
        """What indexes must forget, oldest first, behind the id `after`."""
        ...

    async def clear(self, store_id: str, most: int) -> int:
        """Remove what is left of a store that is gone; how many rows there were, at most `most`."""
        ...

    async def forgotten(self, ids: Sequence[int]) -> None:
        """Leftovers that are no more."""
        ...
