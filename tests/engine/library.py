"""All that has to do with vector stores, in one process: a real store, and fakes around it.

Rules
1. A fake does what its port says, quickly and in memory, until it has `trouble`: that is raised
   instead, once for each entry.
2. The text of a file is its content; a chunk is a line of it.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from antiphon.blobs.base import BlobMissing
from antiphon.documents.base import Chunking
from antiphon.engine.ingestion import Ingester, IngestionOptions, Places
from antiphon.engine.vector_stores import VectorStoreService
from antiphon.protocol.vector_stores import NewVectorStore
from antiphon.retrieval.base import Embedder, Found, Place, Question, Vectors
from antiphon.store.base import (
    FileRow,
    Ingestion,
    Ingestions,
    Leftover,
    StoreFile,
    VectorStoreRow,
    Window,
)
from antiphon.store.sql import SqliteStore
from tests.store.rows import Clock

ALL: Final = Window(100, newest_first=False)


class Troubled:
    """Something that may be in trouble."""

    def __init__(self) -> None:
        self.trouble: list[Exception] = []

    def check(self) -> None:
        """Raise the next trouble, if there is one."""
        if self.trouble:
            raise self.trouble.pop(0)


class FakeBlobs(Troubled):
    """`Blobs` of files in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def claim(self, database: str) -> None:
        """See `Blobs`."""

    async def put(self, id: str, pieces: AsyncIterable[bytes]) -> int:  # noqa: A002
        """See `Blobs`."""
        return (self.folder / id).write_bytes(b"".join([piece async for piece in pieces]))

    async def read(
        self,
        id: str,  # noqa: A002
        start: int = 0,
        end: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        """See `Blobs`."""
        yield (self.folder / id).read_bytes()[start:end]

    @asynccontextmanager
    async def local(self, id: str) -> AsyncIterator[Path]:  # noqa: A002
        """See `Blobs`."""
        self.check()
        path = self.folder / id
        if not path.exists():
            raise BlobMissing(id)
        yield path

    async def delete(self, id: str) -> None:  # noqa: A002
        """See `Blobs`."""
        (self.folder / id).unlink(missing_ok=True)

    async def ids(self, older_than: float) -> AsyncGenerator[str, None]:
        """See `Blobs`."""
        for path in self.folder.iterdir():
            yield path.name

    async def aclose(self) -> None:
        """Nothing is open."""


class FakeDocuments(Troubled):
    """`Documents` that read one line a chunk; `gate` holds them back, `reading` are the names of
    what they read now, and `most` is how many that ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()
        self.reading: list[str] = []
        self.most = 0

    async def text(self, project: str, file: Path | bytes, filename: str) -> str:
        """See `Documents`."""
        assert isinstance(file, Path)
        return "\n".join(await self.chunks(project, file, filename, Chunking()))

    async def chunks(
        self,
        project: str,
        path: Path,
        filename: str,
        chunking: Chunking,
    ) -> list[str]:
        """See `Documents`."""
        self.reading.append(filename)
        self.most = max(self.most, len(self.reading))
        try:
            await self.gate.wait()
            self.check()
            return path.read_text().splitlines()  # noqa: ASYNC240 - a few bytes
        finally:
            self.reading.remove(filename)

    async def aclose(self) -> None:
        """Nothing is open."""


class FakeIndex(Troubled):
    """`Index` that finds what has a word of a query; the score is the share of its words."""

    def __init__(self) -> None:
        super().__init__()
        #: Store → number → title, chunks, vectors.
        self.kept: dict[str, dict[int, tuple[str, Sequence[str], Vectors | None]]] = {}
        self.questions: list[Question] = []
        self.let_gone = False
        #: Stores whose index is damaged: each use of it is this.
        self.damaged: dict[str, Exception] = {}

    def _use(self, store_id: str) -> None:
        self.check()
        if store_id in self.damaged:
            raise self.damaged[store_id]

    async def put(
        self,
        store_id: str,
        number: int,
        title: str,
        chunks: Sequence[str],
        vectors: Vectors | None,
    ) -> None:
        """See `Index`."""
        self._use(store_id)
        self.kept.setdefault(store_id, {})[number] = (title, chunks, vectors)

    async def drop(self, store_id: str, numbers: Sequence[int]) -> None:
        """See `Index`."""
        self._use(store_id)
        for number in numbers:
            self.kept.get(store_id, {}).pop(number, None)

    async def remove(self, store_id: str) -> None:
        """See `Index`."""
        self.kept.pop(store_id, None)

    async def numbers(self, store_id: str) -> frozenset[int]:
        """See `Index`."""
        self._use(store_id)
        return frozenset(self.kept.get(store_id, {}))

    async def stores(self) -> frozenset[str]:
        """See `Index`."""
        return frozenset(self.kept)

    async def texts(self, store_id: str, number: int) -> list[str]:
        """See `Index`."""
        return list(self.kept[store_id][number][1])

    async def let_go(self) -> None:
        """See `Index`."""
        self.let_gone = True

    async def search(
        self, project: str, places: Sequence[Place], question: Question
    ) -> list[Found]:
        """See `Index`."""
        self.questions.append(question)
        asked = [set(query.split()) for query in question.queries]
        found = []
        for place in places:
            self._use(place.store_id)
            found += self._in(place, asked, question)
        return sorted(found, key=lambda one: -one.score)[: question.limit]

    def _in(self, place: Place, asked: list[set[str]], question: Question) -> list[Found]:
        found = []
        for number in sorted(place.selection.numbers):
            for position, text in enumerate(self.kept[place.store_id][number][1]):
                words = set(text.split())
                score = max(len(words & query) / len(query) for query in asked)
                if score > question.threshold:
                    found.append(Found(number, position, score, text))
        return found

    async def aclose(self) -> None:
        """Nothing is open."""


class FakeEmbedder(Troubled):
    """`Embedder` of vectors of four bytes."""

    name = "small"

    async def documents(self, texts: Sequence[str]) -> list[bytes]:
        """See `Embedder`."""
        self.check()
        return [b"\0\0\0\0" for _ in texts]

    async def queries(self, project: str, texts: Sequence[str]) -> list[bytes]:
        """See `Embedder`."""
        return await self.documents(texts)

    async def aclose(self) -> None:
        """Nothing is open."""


class TroubledIngestions(Troubled):
    """`Ingestions` that may be out of reach: calls named in `deaf` meet the trouble."""

    def __init__(self, real: Ingestions) -> None:
        super().__init__()
        self.real = real
        self.deaf: set[str] = set()
        self.said: list[str] = []

    def _call(self, name: str) -> None:
        if name in self.deaf:
            self.check()
        self.said.append(name)

    async def claim(
        self, owner: str, most: int, now: int, *, alone: bool = True
    ) -> list[Ingestion]:
        """See `Ingestions`."""
        self._call("claim")
        return await self.real.claim(owner, most, now, alone=alone)

    async def complete(self, claimed: Ingestion, usage_bytes: int, now: int) -> bool:
        """See `Ingestions`."""
        self._call("complete")
        return await self.real.complete(claimed, usage_bytes, now)

    async def fail(self, claimed: Ingestion, code: str, message: str) -> bool:
        """See `Ingestions`."""
        self._call("fail")
        return await self.real.fail(claimed, code, message)

    async def put_off(self, claimed: Ingestion, due_at: int) -> bool:
        """See `Ingestions`."""
        self._call("put_off")
        return await self.real.put_off(claimed, due_at)

    async def hand_back(self, owner: str) -> None:
        """See `Ingestions`."""
        self._call("hand_back")
        await self.real.hand_back(owner)

    async def leftovers(self, most: int, after: int = 0) -> list[Leftover]:
        """See `Ingestions`."""
        self._call("leftovers")
        return await self.real.leftovers(most, after)

    async def clear(self, store_id: str, most: int) -> int:
        """See `Ingestions`."""
        self._call("clear")
        return await self.real.clear(store_id, most)

    async def forgotten(self, ids: Sequence[int]) -> None:
        """See `Ingestions`."""
        self._call("forgotten")
        await self.real.forgotten(ids)


class Library:
    """One process, and its project ``p``."""

    def __init__(self, folder: Path) -> None:
        self.store = SqliteStore(f"sqlite+aiosqlite:///{folder / 'antiphon.db'}")
        (folder / "files").mkdir()
        self.clock = Clock()
        self.blobs = FakeBlobs(folder / "files")
        self.documents = FakeDocuments()
        self.index = FakeIndex()
        self.ingestions = TroubledIngestions(self.store.ingestions)

    def service(self, embedder: Embedder | None = None) -> VectorStoreService:
        """What the API asks."""
        return VectorStoreService(self.store.vector_stores, self.index, embedder, self.clock)

    def ingester(
        self, owner: str = "one", *, most: int = 2, embedder: Embedder | None = None
    ) -> Ingester:
        """What reads files."""
        places = Places(self.blobs, self.documents, self.index, embedder)
        options = IngestionOptions(most=most, clock=self.clock)
        return Ingester(self.ingestions, self.store.runs, owner, places, options)

    @asynccontextmanager
    async def reading(
        self, owner: str = "one", *, most: int = 2, embedder: Embedder | None = None
    ) -> AsyncIterator[Ingester]:
        """One that works."""
        await self.store.runs.beat(owner)
        ingester = self.ingester(owner, most=most, embedder=embedder)
        ingester.start()
        try:
            yield ingester
        finally:
            await ingester.close()

    async def file(self, text: str = "one line", expires_at: int | None = None) -> str:
        """The id of a new file."""
        id_ = f"file-{secrets.token_hex(16)}"
        (self.blobs.folder / id_).write_text(text)
        now = int(self.clock())
        row = FileRow(id_, "p", now, expires_at, len(text), f"{text[:20]}.txt", "assistants")
        await self.store.files.add(row)
        return id_

    async def shelf(self, *file_ids: str, days: int | None = None) -> VectorStoreRow:
        """A new vector store."""
        body: dict[str, object] = {"file_ids": list(file_ids)}
        if days is not None:
            body["expires_after"] = {"anchor": "last_active_at", "days": days}
        return await self.service().create("p", NewVectorStore.model_validate(body))

    async def files(self, store_id: str) -> list[StoreFile]:
        """Those of a store, in order."""
        page = await self.store.vector_stores.files("p", store_id, ALL)
        assert page is not None
        return page[0]

    async def read(self, store_id: str) -> list[StoreFile]:
        """The same, when none is in progress."""
        async with asyncio.timeout(10):
            while any(file.status == "in_progress" for file in await self.files(store_id)):
                await self.store.runs.wait(0.1)
        return await self.files(store_id)

    async def filled(self, *texts: str) -> VectorStoreRow:
        """A store with files that are read."""
        row = await self.shelf(*[await self.file(text) for text in texts])
        async with self.reading():
            await self.read(row.id)
        return row
