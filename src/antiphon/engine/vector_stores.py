"""Vector stores: what the API and the tool `file_search` ask for (spec §2.4, decision 0008).

Rules
1. Whatever is asked is asked for a project; what it does not have is unknown (R-29, R-30).
2. Putting files into a store is a row for each: reading them is the business of `ingestion.py`.
3. When the embedding model does not answer, a search is one of words, and says so (`degraded`).
"""

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from antiphon.engine.searchable import Shelf
from antiphon.errors import APIError, InvalidRequestError, NotFoundError
from antiphon.protocol.file_search import Passage, Wish
from antiphon.protocol.validation import echo
from antiphon.protocol.vector_stores import ChangedVectorStore, NewVectorStore, chunk_sizes
from antiphon.retrieval.base import Embedder, Index, Place, Question, Vectors, Weights
from antiphon.store.base import (
    MOST_FILES,
    FileBatch,
    FileStatus,
    NewFile,
    Searchable,
    StoreChange,
    StoreFile,
    StoreFull,
    UnknownFile,
    VectorStoreRow,
    VectorStores,
    Window,
)

_log = structlog.get_logger(__name__)

#: Seconds within which the use of a store need not be noted again.
_TOUCHED: Final = 60
#: Stores with the same file for which as many passages are found as were asked for.
_COPIES: Final = 4


@dataclass(frozen=True, slots=True)
class Searched:
    """The passages, best first; `degraded`: vectors could not be asked for."""

    passages: list[Passage]
    degraded: bool = False


class VectorStoreService:
    """See the rules; `clock` gives Unix seconds."""

    def __init__(
        self,
        stores: VectorStores,
        index: Index,
        embedder: Embedder | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._stores = stores
        self._index = index
        self._embedder = embedder
        self._clock = clock
        self._shelf = Shelf(stores)

    # -- stores -------------------------------------------------------------------------------

    async def create(self, project: str, body: NewVectorStore) -> VectorStoreRow:
        """A new store; its files are read from now on. Raises `APIError`."""
        size, overlap = chunk_sizes(body.chunking_strategy)
        now = self._now()
        row = VectorStoreRow(
            id="vs_" + secrets.token_hex(16),
            project=project,
            created_at=now,
            name=body.name or "",
            description=body.description,
            metadata=body.metadata or {},
            expires_days=body.expires_after["days"] if body.expires_after else None,
            last_active_at=now,
        )
        ids = dict.fromkeys(body.file_ids or ())
        try:
            await self._stores.add(row, [NewFile(id_, {}, size, overlap) for id_ in ids])
        except UnknownFile as unknown:
            raise unknown_file(unknown.file_id, "file_ids") from None
        return await self.get(project, row.id)

    async def get(self, project: str, store_id: str) -> VectorStoreRow:
        """One store. Raises `NotFoundError`."""
        row = await self._stores.get(project, store_id)
        if row is None:
            raise unknown_store(store_id)
        return row

    async def page(self, project: str, window: Window) -> tuple[list[VectorStoreRow], bool]:
        """A page of the stores. Raises `NotFoundError` for a cursor that is unknown."""
        page = await self._stores.listed(project, window)
        if page is None:
            raise _unknown_cursor(window, "vector store")
        return page

    async def change(self, project: str, store_id: str, body: ChangedVectorStore) -> VectorStoreRow:
        """The store as it is then. Raises `NotFoundError`."""
        await self._open(project, store_id)
        days = body.expires_after["days"] if body.expires_after else None
        if body.expires_after is None and "expires_after" in body.model_fields_set:
            days = 0
        change = StoreChange(body.name, body.description, body.metadata, days)
        if not await self._stores.change(project, store_id, change, self._now()):
            raise unknown_store(store_id)
        return await self.get(project, store_id)

    async def delete(self, project: str, store_id: str) -> None:
        """Forget a store; its files stay. Raises `NotFoundError`."""
        found = await self._stores.delete(project, store_id)
        self._shelf.forget(project, store_id)
        if not found:
            raise unknown_store(store_id)

    # -- files --------------------------------------------------------------------------------

    async def add_file(self, project: str, store_id: str, file: NewFile) -> StoreFile:
        """Put one file into a store. Raises `APIError`."""
        return (await self._put(project, store_id, [file], None, "file_id"))[0]

    async def add_batch(
        self, project: str, store_id: str, files: Sequence[NewFile], param: str
    ) -> FileBatch:
        """Put files into a store together; `param` names them. Raises `APIError`."""
        batch = FileBatch("vsfb_" + secrets.token_hex(16), store_id, self._now())
        await self._put(project, store_id, files, batch, param)
        return await self.batch(project, store_id, batch.id)

    async def _put(
        self,
        project: str,
        store_id: str,
        files: Sequence[NewFile],
        batch: FileBatch | None,
        param: str,
    ) -> list[StoreFile]:
        await self._open(project, store_id)
        try:
            put = await self._stores.put(project, store_id, files, batch, self._now())
        except UnknownFile as unknown:
            raise unknown_file(unknown.file_id, param) from None
        except StoreFull:
            raise InvalidRequestError(
                f"This vector store would have more than {MOST_FILES} files, which is the limit.",
                param=param,
            ) from None
        if put is None:
            raise unknown_store(store_id)
        return put

    async def file(self, project: str, store_id: str, file_id: str) -> StoreFile:
        """One file of a store. Raises `NotFoundError`."""
        file = await self._stores.file(project, store_id, file_id)
        if file is None:
            await self._check(project, store_id)
            raise unknown_in_store(file_id, store_id)
        return file

    async def files(
        self,
        project: str,
        store_id: str,
        window: Window,
        status: FileStatus | None,
        batch_id: str | None = None,
    ) -> tuple[list[StoreFile], bool]:
        """A page of the files. Raises `NotFoundError`."""
        await self._check(project, store_id)
        if batch_id is not None:
            await self.batch(project, store_id, batch_id)
        page = await self._stores.files(project, store_id, window, status, batch_id)
        if page is None:
            await self._check(project, store_id)  # it may have gone meanwhile
            raise _unknown_cursor(window, "file")
        return page

    async def set_attributes(
        self, project: str, store_id: str, file_id: str, attributes: dict[str, str | float | bool]
    ) -> StoreFile:
        """Replace the attributes of a file. Raises `NotFoundError`."""
        await self._check(project, store_id)
        if not await self._stores.set_attributes(project, store_id, file_id, attributes):
            raise unknown_in_store(file_id, store_id)
        return await self.file(project, store_id, file_id)

    async def remove_file(self, project: str, store_id: str, file_id: str) -> None:
        """Take a file out of a store. Raises `NotFoundError`."""
        await self._check(project, store_id)
        if not await self._stores.remove_file(project, store_id, file_id):
            raise unknown_in_store(file_id, store_id)

    async def content(self, project: str, store_id: str, file_id: str) -> list[str]:
        """The chunks of a file, none before it is completed. Raises `NotFoundError`."""
        file = await self.file(project, store_id, file_id)
        if file.status != "completed":
            return []
        return await self._index.texts(store_id, file.number)

    async def batch(self, project: str, store_id: str, batch_id: str) -> FileBatch:
        """One batch. Raises `NotFoundError`."""
        batch = await self._stores.batch(project, store_id, batch_id)
        if batch is None:
            await self._check(project, store_id)
            raise NotFoundError(
                f"No file batch found with id '{batch_id}' in vector store '{store_id}'."
            )
        return batch

    async def cancel_batch(self, project: str, store_id: str, batch_id: str) -> FileBatch:
        """Cancel what of a batch is not done; again: no effect. Raises `NotFoundError`."""
        batch = await self.batch(project, store_id, batch_id)
        if batch.counts.in_progress and not batch.cancelled:
            await self._stores.cancel_batch(project, store_id, batch_id)
        return await self.batch(project, store_id, batch_id)

    async def _open(self, project: str, store_id: str) -> VectorStoreRow:
        """A store that has not expired, without its counts."""
        row = await self._check(project, store_id)
        if row.is_expired(self._clock()):
            self._shelf.forget(project, store_id)
            raise _expired(store_id)
        return row

    async def _check(self, project: str, store_id: str) -> VectorStoreRow:
        row = await self._stores.head(project, store_id)
        if row is None:
            self._shelf.forget(project, store_id)
            raise unknown_store(store_id)
        return row

    # -- searching ----------------------------------------------------------------------------

    async def check(self, project: str, store_id: str) -> None:
        """Raises `NotFoundError`, and `InvalidRequestError` where it cannot be searched."""
        await self._open(project, store_id)

    async def search(self, project: str, wish: Wish) -> list[Passage]:
        """What is found in all stores of the wish, best first. Raises `APIError`."""
        return (await self.searched(project, wish)).passages

    async def searched(self, project: str, wish: Wish) -> Searched:
        """The same, and whether it is all that it could be."""
        stores = [await self._active(project, id_) for id_ in dict.fromkeys(wish.store_ids)]
        vectors = None
        degraded = False
        if self._embedder is not None and wish.vector_weight > 0:
            try:
                rows = await self._embedder.queries(project, wish.queries)
                vectors = Vectors(self._embedder.name, rows)
            except APIError as error:
                degraded = True
                _log.warning("query_without_vectors", error=error.message)
        # Who wants vectors alone and cannot have them gets what words find (rule 3).
        text_weight = wish.text_weight if vectors or wish.text_weight else 1.0
        question = Question(
            queries=wish.queries,
            vectors=vectors,
            limit=wish.limit,
            threshold=wish.threshold,
            weights=Weights(wish.vector_weight, text_weight),
        )
        return Searched(await self._in_stores(stores, wish, question), degraded)

    async def _active(self, project: str, store_id: str) -> VectorStoreRow:
        row = await self._open(project, store_id)
        now = self._now()
        if now - row.last_active_at > _TOUCHED:
            await self._stores.touch(project, store_id, now)
        return row

    async def _in_stores(
        self, rows: Sequence[VectorStoreRow], wish: Wish, question: Question
    ) -> list[Passage]:
        places: list[Place] = []
        shelves: list[Mapping[int, Searchable]] = []
        for row in rows:
            contents, selection = await self._shelf.select(row, wish.filters, self._clock())
            if selection.numbers:
                places.append(Place(row.id, selection))
                shelves.append(contents.files)
        if not places:
            return []
        # A file that is in several of the stores is found once.
        deeper = replace(question, limit=question.limit * min(len(places), _COPIES))
        once: dict[tuple[str, str], int] = {}
        passages: list[Passage] = []
        for chunk in await self._index.search(rows[0].project, places, deeper):
            file = next(files[chunk.number] for files in shelves if chunk.number in files)
            if once.setdefault((file.file_id, chunk.text), chunk.number) == chunk.number:
                passages.append(
                    Passage(
                        file.file_id,
                        file.filename,
                        chunk.score,
                        chunk.text,
                        file.attributes,
                        chunk.position,
                    )
                )
        return passages[: question.limit]

    def now(self) -> float:
        """Unix seconds, as stores expire by them."""
        return self._clock()

    def _now(self) -> int:
        return int(self._clock())


def unknown_store(store_id: str, param: str | None = None) -> NotFoundError:
    """A store that the project does not have."""
    return NotFoundError(f"Vector store with id '{echo(store_id)}' not found.", param=param)


def unknown_file(file_id: str, param: str) -> NotFoundError:
    """A file that the project does not have."""
    return NotFoundError(f"No such File object: {file_id}", param=param)


def unknown_in_store(file_id: str, store_id: str) -> NotFoundError:
    """A file that is not in that store."""
    return NotFoundError(f"No file found with id '{file_id}' in vector store '{store_id}'.")


def _expired(store_id: str) -> InvalidRequestError:
    return InvalidRequestError(f"Vector store with id '{store_id}' is expired.")


def _unknown_cursor(window: Window, what: str) -> InvalidRequestError:
    name = "after" if window.after is not None else "before"
    return InvalidRequestError(f"Invalid '{name}': there is no such {what}.", param=name)
