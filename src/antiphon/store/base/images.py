"""The port to images that were made here: what is known of them; their bytes are blobs (decision
0010).

Rules
1. An image is its project's; whoever names it says of which project (R-29, R-30).
2. Somebody needs an image as long as the response that made it is there, or the conversation that
   the response belongs to. Whoever deletes these need not know of it.
3. An image may come before its response: a day after it came it is asked for the first time whether
   there is one.
4. A blob that no row names is an orphan: `known` says which are none (R-104).
5. Times are Unix seconds; who asks says what time it is.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

#: Seconds in which an image gets its response, and more.
UNCLAIMED: Final = 86_400


@dataclass(frozen=True, slots=True)
class ImageRow:
    """``iblob_…``: the blob of an image, and who made it."""

    blob: str
    project: str
    response_id: str
    conversation_id: str | None
    created_at: int
    bytes: int
    media_type: str

    def made_for(self) -> set[str | None]:
        """Who needs it (rule 2)."""
        return {self.response_id, self.conversation_id}


class Images(Protocol):
    """Rows of images."""

    async def add(self, row: ImageRow, most_bytes: int = 0) -> bool:
        """Store a new image; whether there was room. `most_bytes`: what a project may have in all,
        with its files, 0: no limit."""
        ...

    async def find(self, project: str, blobs: Collection[str]) -> dict[str, ImageRow]:
        """Those of `blobs` that are images of the project."""
        ...

    async def known(self, blobs: Collection[str]) -> set[str]:
        """Those of `blobs` that are images of whatever project."""
        ...

    async def expire(self, now: int, limit: int) -> tuple[list[str], int]:
        """Look at no more than `limit` images that somebody may have stopped to need, and forget
        those that nobody needs: their blobs; and how many were looked at."""
        ...
