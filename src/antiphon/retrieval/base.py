"""The port to what finds chunks of text: full text always, vectors where there are any
(decision 0008).

Rules
1. A vector store has an index of its own. A file in a store has a `number` there, which no other
   file of any store has or will have; its chunks are numbered from 0.
2. Who asks says in which files is searched (`Selection`): that is decided before anything is
   ranked, and what is in an index but in no selection is never seen.
3. Scores are from 0 to 1, and say the same in whatever store a chunk is. Vectors are float32,
   those of files float16, little endian, of length 1; only those of the same model and length are
   compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Selection:
    """The files in which is searched, by number; that they are all that a store has costs
    nothing."""

    numbers: frozenset[int]


@dataclass(frozen=True, slots=True)
class Place:
    """A vector store, and what of it is searched."""

    store_id: str
    selection: Selection


@dataclass(frozen=True, slots=True)
class Vectors:
    """One vector for each of some texts, by the model of this name (`Embedder.name`). A vector of
    zeros, or with what is no number in it, is none. `halves`: they are float16."""

    model: str
    rows: Sequence[bytes]
    halves: bool = False


@dataclass(frozen=True, slots=True)
class Weights:
    """What vectors and full text count; one of them may be 0."""

    vectors: float = 1.0
    text: float = 1.0


@dataclass(frozen=True, slots=True)
class Question:
    """A search. Each of `queries` is asked, in words and, where `vectors` has one for each, by
    vector; a chunk counts as its best query says. At most `limit` chunks are found, none with a
    score below `threshold`."""

    queries: Sequence[str]
    vectors: Vectors | None = None
    limit: int = 10
    threshold: float = 0.0
    weights: Weights = Weights()


@dataclass(frozen=True, slots=True)
class Found:
    """A chunk of the file with this number."""

    number: int
    position: int
    score: float
    text: str


class Index(Protocol):
    """The indexes of all vector stores. Trouble is `Overloaded`."""

    async def put(
        self,
        store_id: str,
        number: int,
        title: str,
        chunks: Sequence[str],
        vectors: Vectors | None,
    ) -> None:
        """All chunks of a file, in the place of those that it had; durable when it returns. Words
        of the `title` count as words of each chunk, if less."""
        ...

    async def drop(self, store_id: str, numbers: Sequence[int]) -> None:
        """Forget files. Raises `Overloaded`, too, when somebody reads for so long that what they
        had is still on the disk: to be done again (R-104)."""
        ...

    async def remove(self, store_id: str) -> None:
        """Forget a store."""
        ...

    async def numbers(self, store_id: str) -> frozenset[int]:
        """The files that it has, whoever still knows of them (R-104). An index that is damaged is
        removed, and has none."""
        ...

    async def stores(self) -> frozenset[str]:
        """The stores that have an index."""
        ...

    async def texts(self, store_id: str, number: int) -> list[str]:
        """The chunks of a file, in order; none if it is not there."""
        ...

    async def let_go(self) -> None:
        """Keep nothing of stores that another process removed; to be done now and then (R-104)."""
        ...

    async def search(
        self, project: str, places: Sequence[Place], question: Question
    ) -> list[Found]:
        """What was found in all of them, best first; no store is in two places. Projects take
        turns (R-118)."""
        ...

    async def aclose(self) -> None:
        """The server ends."""
        ...


class TooManyVectors(Exception):
    """A file has more chunks than may have vectors; the message is for clients."""


class Embedder(Protocol):
    """A model that makes vectors of text."""

    #: Only vectors of the same name can be compared.
    name: str

    async def documents(self, texts: Sequence[str]) -> list[bytes]:
        """The vector of each text of a file, as float16. Raises `APIError`; `TooManyVectors` before
        all were made."""
        ...

    async def queries(self, project: str, texts: Sequence[str]) -> list[bytes]:
        """The vector of each text that is looked for; kept a while for this project, and for no
        other (R-33). Raises `APIError`."""
        ...

    async def aclose(self) -> None:
        """The server ends."""
        ...
