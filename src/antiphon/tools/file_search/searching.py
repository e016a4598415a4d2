"""What `file_search` needs of whoever has the vector stores."""

from collections.abc import Sequence
from typing import Protocol

from antiphon.protocol.file_search import Passage, Wish


class Searching(Protocol):
    """Vector stores. Those of another project are unknown (R-30)."""

    async def check(self, project: str, store_id: str) -> None:
        """Raises `NotFoundError` where the project does not have it, and `InvalidRequestError`
        where it cannot be searched any more."""
        ...

    async def search(self, project: str, wish: Wish) -> Sequence[Passage]:
        """What was found in all its stores, best first. Raises `APIError`."""
        ...
