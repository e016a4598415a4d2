"""Vector stores for the tests of `file_search`: they find what they are told to."""

from collections.abc import Mapping, Set

from antiphon.errors import APIError, NotFoundError
from antiphon.protocol.file_search import Passage, Wish

OTTERS = Passage("file-1", "otters.md", 0.9, "Otters swim.", {}, 0)
STONES = Passage("file-2", "stones.pdf", 0.5, "Stones sink.", {}, 7)
ANIMALS = Passage("file-1", "otters.md", 0.25, "Otters are animals.", {}, 2)


class FakeStores:
    """See `tools.file_search.searching.Searching`; it keeps what it was asked."""

    def __init__(self, *found: Passage, known: Mapping[str, Set[str]] | None = None) -> None:
        """`known`: project → its stores; without it, each has all."""
        self.found = list(found)
        self.wishes: list[tuple[str, Wish]] = []
        self.trouble: APIError | None = None
        self._known = known

    async def check(self, project: str, store_id: str) -> None:
        """All but those that `known` lacks."""
        if self._known is not None and store_id not in self._known.get(project, frozenset()):
            raise NotFoundError(f"Vector store with id '{store_id}' not found.")

    async def search(self, project: str, wish: Wish) -> list[Passage]:
        """All that there is, or the trouble."""
        self.wishes.append((project, wish))
        if self.trouble is not None:
            raise self.trouble
        return self.found
