"""The port to containers and their files: what is known of them; bytes of files are blobs.

Rules
1. A container that has expired is remembered for a day, so that it can be told from one that never
   was (R-110). Nothing changes it any more, and its files go before it does.
2. A file has the same id as long as there is one at its path. A blob never changes, so new bytes
   are a new blob; who replaces or removes one gets the old blob, which no row names any more.
3. A blob that no row names is an orphan: `known` says which are none (R-104).
4. What has to be true when a row is written is asked in the step that writes it.
5. Times are Unix seconds; who asks says what time it is.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from antiphon.protocol.containers import DEFAULT_MEMORY, MOST_MINUTES
from antiphon.protocol.hosted_tools import MemoryLimit
from antiphon.store.base.vector_stores import Window

#: Files of one container.
MOST_CONTAINER_FILES: Final = 1_000
#: Seconds that an expired container is remembered.
CONTAINER_MEMORY: Final = 86_400

#: Who made a file: whoever uses the API, or code.
Source: TypeAlias = Literal["user", "assistant"]


@dataclass(frozen=True, slots=True)
class ContainerRow:
    """``cntr_…``. `owner`: the process that has its live session; `used`: code ran in it;
    `busy_until`: the owner runs code in it, and has said so until then."""

    id: str
    project: str
    name: str
    created_at: int
    last_active_at: int
    expires_minutes: int = MOST_MINUTES
    memory_limit: MemoryLimit = DEFAULT_MEMORY
    owner: str | None = None
    used: bool = False
    busy_until: int = 0

    def is_expired(self, now: float) -> bool:
        """Whether it is over."""
        return self.last_active_at + self.expires_minutes * 60 <= now


@dataclass(frozen=True, slots=True)
class ContainerFile:
    """``cfile_…``: a file at a `path` of a container; `blob` has its bytes. `changed`: the
    sandbox's mark of its last change, which means nothing to anybody else."""

    id: str
    container_id: str
    path: str
    created_at: int
    bytes: int
    source: Source
    changed: int
    blob: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What was true of a container before it was claimed. `busy`: another owner runs code in it,
    so that it was not claimed."""

    owner: str | None
    used: bool
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """A file as it is now, and the blob that it had before."""

    file: ContainerFile
    old_blob: str | None


@dataclass(frozen=True, slots=True)
class Fence:
    """What is asked of a container before a file of code is put: that `owner` has claimed it last,
    and that at the path is nothing, or the `blob` that the code had there."""

    owner: str
    blob: str | None


#: Why a file was not put: `gone`: there is no such container, or it has expired; `too_many`: it has
#: `MOST_CONTAINER_FILES`; `no_room`: they would be too large together; `taken`, `replaced`: see
#: `Fence`.
NotPut: TypeAlias = Literal["gone", "too_many", "no_room", "taken", "replaced"]


class Containers(Protocol):
    """Rows of containers and of their files."""

    async def add(self, row: ContainerRow, most: int) -> bool:
        """Store a new container; False: the project has so many that are not over."""
        ...

    async def get(self, project: str, id: str) -> ContainerRow | None:  # noqa: A002
        """One container, expired or not."""
        ...

    async def touch(self, project: str, id: str, now: int) -> ContainerRow | None:  # noqa: A002
        """Note that a container is used, unless it has expired; as it is then."""
        ...

    async def claim(
        self,
        project: str,
        id: str,  # noqa: A002
        owner: str,
        now: int,
        busy_until: int,
    ) -> Claim | None:
        """Say that `owner` runs code in it from now on, unless another one does. None: there is
        none, or it has expired."""
        ...

    async def hold(
        self,
        project: str,
        id: str,  # noqa: A002
        owner: str,
        now: int,
        busy_until: int,
    ) -> bool:
        """Say that `owner`, who has claimed it, still runs code in it; `now`: no more, and that it
        did. The container is used. False: it is somebody else's now, or gone."""
        ...

    async def listed(
        self, project: str, window: Window, name: str | None, now: int
    ) -> tuple[list[ContainerRow], bool] | None:
        """A page of those that have not expired, with that name if there is one; and whether there
        is more. None: the cursor is unknown."""
        ...

    async def delete(self, project: str, id: str) -> list[str] | None:  # noqa: A002
        """Forget a container and its files: their blobs. None: there is none."""
        ...

    async def put(
        self,
        project: str,
        file: ContainerFile,
        most_bytes: int,
        now: int,
        fence: Fence | None = None,
    ) -> Put | NotPut:
        """Store a file, or what is new of the one at its path, which keeps `id` and `created_at`.
        `most_bytes`: what all files of the container may have together. The container is used."""
        ...

    async def file(self, project: str, container_id: str, id: str) -> ContainerFile | None:  # noqa: A002
        """One file."""
        ...

    async def files(
        self, project: str, container_id: str, window: Window
    ) -> tuple[list[ContainerFile], bool] | None:
        """A page of the files, and whether there is more; None: the cursor is unknown."""
        ...

    async def all_files(self, project: str, container_id: str) -> list[ContainerFile]:
        """All of them, the oldest first."""
        ...

    async def remove(
        self,
        project: str,
        container_id: str,
        id: str,  # noqa: A002
        blob: str | None = None,
    ) -> str | None:
        """Forget a file, if it still has that `blob`: its blob. None: there is none."""
        ...

    async def given(self, project: str, id: str) -> set[str]:  # noqa: A002
        """Ids of the files of the Files API that it was given, whatever became of the copies."""
        ...

    async def give(self, project: str, id: str, file_ids: Collection[str]) -> None:  # noqa: A002
        """Note that it was given these, too."""
        ...

    async def size(self, project: str, container_id: str, besides: str = "") -> int:
        """Bytes of all files of a container, but that of the one at the path `besides`."""
        ...

    async def known(self, blobs: Collection[str]) -> set[str]:
        """Those of `blobs` that files have, of whatever project."""
        ...

    async def expire(self, now: int, limit: int) -> tuple[list[str], int]:
        """Forget at most `limit` files of expired containers: their blobs; and as many containers
        that are over for `CONTAINER_MEMORY`: how many."""
        ...
