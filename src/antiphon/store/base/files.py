"""The port to files and uploads: what is known of them; their bytes are blobs (decision 0008).

Rules
1. An expired file is unknown from the second of its expiry, swept or not. Its row stays until it is
   deleted, and with it what it counts.
2. A blob that no row names is an orphan: `known` says which are none (R-104).
3. What has to be true when a row is written is asked in the step that writes it: room in the
   project, room in the upload, and that the upload still takes parts.
4. Times are Unix seconds; who asks says what time it is.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from antiphon.protocol.files import MAX_PARTS

#: Parts of one upload.
MOST_PARTS: Final = MAX_PARTS
#: Pending uploads of one project.
MOST_PENDING: Final = 1_000
#: Seconds that an upload is remembered after it has expired.
UPLOAD_MEMORY: Final = 86_400

UploadStatus: TypeAlias = Literal["pending", "completed", "cancelled"]
#: What became of a part: `ended`: the upload takes none any more; `too_large`: it would have more
#: bytes than were announced; `too_many`: it has `MOST_PARTS`; `no_room`: the project is full.
PartOutcome: TypeAlias = Literal["added", "ended", "too_large", "too_many", "no_room"]


@dataclass(frozen=True, slots=True)
class FileRow:
    """``file-…``: a file whose bytes are the blob of that id."""

    id: str
    project: str
    created_at: int
    expires_at: int | None
    bytes: int
    filename: str
    purpose: str


@dataclass(frozen=True, slots=True)
class UploadRow:
    """``upload_…``: a file that comes in parts; `bytes` were announced. `file_lifetime`: seconds
    that the file will be kept, None: for ever. `parts_key` says of which parts it was made."""

    id: str
    project: str
    created_at: int
    expires_at: int
    bytes: int
    filename: str
    purpose: str
    file_lifetime: int | None = None
    status: UploadStatus = "pending"
    file_id: str | None = None
    parts_key: str | None = None


@dataclass(frozen=True, slots=True)
class PartRow:
    """``part_…``: some bytes of an upload, a blob of that id."""

    id: str
    upload_id: str
    project: str
    created_at: int
    bytes: int


@dataclass(frozen=True, slots=True)
class FileListing:
    """Which files of a project are wanted; `after`: behind the file with this id."""

    purpose: str | None = None
    after: str | None = None
    limit: int = 10_000
    order: Literal["asc", "desc"] = "desc"


class Files(Protocol):
    """Rows of files and of uploads. `most_bytes`: what a project may have in all, 0: no limit."""

    async def add(self, row: FileRow, most_bytes: int = 0) -> bool:
        """Store a new file; whether there was room. ValueError when its id is taken."""
        ...

    async def get(self, project: str, id: str, now: int) -> FileRow | None:  # noqa: A002
        """One file."""
        ...

    async def listed(
        self, project: str, wanted: FileListing, now: int
    ) -> tuple[list[FileRow], bool] | None:
        """A page, and whether there is more; None when `after` is unknown."""
        ...

    async def delete(self, project: str, id: str) -> bool:  # noqa: A002
        """Forget a file, and whatever the store knows of it; whether it was there, expired or
        not."""
        ...

    async def expired(self, now: int, limit: int) -> list[tuple[str, str]]:
        """Project and id of files that can be deleted."""
        ...

    async def used(self, project: str) -> int:
        """Bytes that a project has: its files, the parts of its uploads, and its images."""
        ...

    async def known(self, ids: Collection[str]) -> set[str]:
        """Those of `ids` that are files or parts, of whatever project."""
        ...

    async def begin(self, upload: UploadRow) -> bool:
        """Store a new upload; False: the project has `MOST_PENDING` of them."""
        ...

    async def upload(self, project: str, id: str) -> UploadRow | None:  # noqa: A002
        """One upload, also one that is over, until it is forgotten."""
        ...

    async def add_part(self, part: PartRow, most_bytes: int = 0) -> PartOutcome:
        """Add a part to its upload, at the time at which it was made."""
        ...

    async def parts(self, project: str, upload_id: str) -> dict[str, int]:
        """The parts of an upload: id → bytes."""
        ...

    async def complete(self, upload: UploadRow, file: FileRow) -> list[str] | None:
        """Store the file, write down its id and `parts_key` of `upload`, and forget the parts:
        their ids. None, and nothing is done, if it is not pending at the time of the file."""
        ...

    async def cancel(self, project: str, id: str, now: int) -> list[str] | None:  # noqa: A002
        """End a pending upload and forget its parts: their ids. None if it is not pending."""
        ...

    async def end_uploads(self, now: int, limit: int) -> tuple[list[str], int]:
        """Forget at most `limit` parts of uploads that have expired: their ids; and as many uploads
        that are over for `UPLOAD_MEMORY`: how many."""
        ...
