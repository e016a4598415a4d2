"""The indexes of all vector stores, each a file in one folder: an `Index`.

Rules
1. SQLite and numpy work in threads of our own; writers wait for each other and for the disk, so
   searches have others. One project never has all of these, nor a store all of its project's, and
   one store has one writer at a time, for a few files: a large one is in nobody's way (R-118).
2. A search sees one moment of an index: its words, its vectors, and its files. Vectors in memory
   are compared while words are looked for. Texts are read when it is known which, of files that are
   still the same.
3. Who waits may leave: the thread ends what it does, and gives back what it has, its turn among it.
   It is not interrupted: others may need what it reads, and it takes tens of milliseconds.
4. Where the disk is nearly full nothing is put; to drop and to remove is allowed.
"""

import asyncio
import functools
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeAlias, TypeVar

import structlog

from antiphon.errors import Overloaded
from antiphon.retrieval import full_text, index_file, vectors
from antiphon.retrieval.base import Found, Place, Question, Vectors
from antiphon.retrieval.combined import Answer, combined, depth
from antiphon.retrieval.connections import Connections
from antiphon.retrieval.full_text import Words
from antiphon.retrieval.fusion import Ranking
from antiphon.retrieval.index_file import POSITION_BITS
from antiphon.retrieval.inventory import Chosen, Inventory, choose, inventory
from antiphon.retrieval.matrices import MOST_BYTES, Matrices
from antiphon.turns import Turns

_log = structlog.get_logger(__name__)

#: They work outside of the interpreter's lock most of the time.
_READERS: Final = 5
_WRITERS: Final = 2
#: For what is soon done, and should not wait for searches.
_OTHERS: Final = 2
#: Files that are dropped in one turn, and seconds until the next: other processes look for theirs
#: every two milliseconds.
_DROPPED: Final = 4
_BETWEEN: Final = 0.005
#: Stores of which is known what they have.
_KNOWN: Final = 256

#: Of each query.
_Comparison: TypeAlias = Callable[[], Sequence[Ranking]]
_P = ParamSpec("_P")
_T = TypeVar("_T")


class _Known:
    """What was read of an index; only whoever has the lock may look."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inventory: Inventory | None = None


class Indexes:
    """See `antiphon.retrieval.base.Index`."""

    def __init__(self, folder: Path, *, vector_bytes: int = MOST_BYTES, min_free: int = 0) -> None:
        """`vector_bytes`: what vectors take in memory at most. `min_free`: with fewer bytes left on
        the disk nothing is put."""
        self._folder = folder.absolute()
        self._min_free = min_free
        self._connections = Connections(folder)
        self._matrices = Matrices(vector_bytes)
        self._lock = threading.Lock()
        #: The store that was asked last is at the end.
        self._known: dict[str, _Known] = {}
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="index-reader")
        self._comparers = ThreadPoolExecutor(_READERS, thread_name_prefix="index-vectors")
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="index-writer")
        self._others = ThreadPoolExecutor(_OTHERS, thread_name_prefix="index")
        self._projects = Turns(_READERS, each=_READERS - 1)
        self._stores = Turns(sys.maxsize, each=_READERS - 2)
        self._writing = Turns(_WRITERS, each=1)
        self._closed = False

    async def put(
        self,
        store_id: str,
        number: int,
        title: str,
        chunks: Sequence[str],
        vectors: Vectors | None,
    ) -> None:
        """See `Index.put`."""
        if vectors is not None and len(vectors.rows) != len(chunks):
            raise ValueError("a chunk has one vector")
        await self._written(store_id, self._put, number, title, chunks, vectors)

    async def drop(self, store_id: str, numbers: Sequence[int]) -> None:
        """See `Index.drop`. Others come in between."""
        for first in range(0, len(numbers), _DROPPED):
            await self._written(store_id, self._drop, numbers[first : first + _DROPPED])
            await asyncio.sleep(_BETWEEN)
        await self._written(store_id, self._erase)

    async def remove(self, store_id: str) -> None:
        """See `Index.remove`."""
        await self._written(store_id, self._remove)

    async def numbers(self, store_id: str) -> frozenset[int]:
        """See `Index.numbers`."""
        return await self._run(self._others, self._numbers, store_id)

    async def stores(self) -> frozenset[str]:
        """See `Index.stores`."""
        return await self._run(self._others, self._connections.stores)

    async def texts(self, store_id: str, number: int) -> list[str]:
        """See `Index.texts`."""
        return await self._run(self._others, self._texts, store_id, number)

    async def let_go(self) -> None:
        """See `Index.let_go`."""
        await self._run(self._others, self._let_go)

    async def search(
        self, project: str, places: Sequence[Place], question: Question
    ) -> list[Found]:
        """See `Index.search`. One store after the other: others have their turns in between."""
        asked = question.vectors
        if asked is not None and len(asked.rows) != len(question.queries):
            raise ValueError("a query has one vector")
        answers = [
            await _alone(self._asked(project, place, question), "index-search") for place in places
        ]
        return await self._run(self._others, self._found, places, answers, question)

    async def aclose(self) -> None:
        """See `Index.aclose`: what was begun is finished."""
        self._closed = True
        for threads in (self._readers, self._comparers, self._writers, self._others):
            await asyncio.to_thread(threads.shutdown)
        await asyncio.to_thread(self._connections.close)

    async def _asked(self, project: str, place: Place, question: Question) -> Answer:
        """The turn of the store comes first: who waits for it takes nothing of his project."""
        async with self._stores.turn(place.store_id), self._projects.turn(project):
            return await _to_the_end(self._run(self._readers, self._answer, place, question))

    async def _written(
        self,
        store_id: str,
        work: Callable[Concatenate[str, _P], _T],
        *args: _P.args,
        **named: _P.kwargs,
    ) -> _T:
        async def turn() -> _T:
            async with self._writing.turn(store_id):
                return await _to_the_end(self._run(self._writers, work, store_id, *args, **named))

        return await _alone(turn(), "index-write")

    async def _run(
        self,
        threads: ThreadPoolExecutor,
        work: Callable[_P, _T],
        *args: _P.args,
        **named: _P.kwargs,
    ) -> _T:
        if self._closed:
            raise Overloaded
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, functools.partial(work, *args, **named))

    def _put(
        self,
        store_id: str,
        number: int,
        title: str,
        chunks: Sequence[str],
        rows: Vectors | None,
    ) -> None:
        self._check_room()
        packed = vectors.pack(rows) if rows is not None and chunks else None
        with self._connections.writing(store_id, make=True) as connection:
            if connection is not None:
                index_file.put(connection, number, title, chunks, packed)

    def _check_room(self) -> None:
        if not self._min_free:
            return
        there = next(path for path in (self._folder, *self._folder.parents) if path.exists())
        if shutil.disk_usage(there).free < self._min_free:
            _log.warning("index_disk_full", folder=str(self._folder))
            raise Overloaded(
                "There is too little space for this file at the moment. Please try again later."
            )

    def _drop(self, store_id: str, numbers: Sequence[int]) -> None:
        with self._connections.writing(store_id, make=False) as connection:
            if connection is not None:
                index_file.forget(connection, numbers)

    def _erase(self, store_id: str) -> None:
        with self._connections.writing(store_id, make=False) as connection:
            erased = connection is None or index_file.erased(connection)
        if not erased:
            raise Overloaded("The log of the index is being read, and still has what was dropped.")

    def _remove(self, store_id: str) -> None:
        self._connections.remove(store_id)
        self._forget(store_id)

    def _forget(self, store_id: str) -> None:
        self._matrices.forget(store_id)
        with self._lock:
            self._known.pop(store_id, None)

    def _let_go(self) -> None:
        self._connections.let_go()
        with self._lock:
            known = list(self._known)
        for store_id in known:
            if not self._connections.has(store_id):
                self._forget(store_id)

    def _numbers(self, store_id: str) -> frozenset[int]:
        try:
            return self._held(store_id)
        except Overloaded:
            self._connections.mend(store_id)
            return self._held(store_id)

    def _held(self, store_id: str) -> frozenset[int]:
        with self._connections.reading(store_id) as connection:
            return frozenset() if connection is None else index_file.numbers(connection)

    def _texts(self, store_id: str, number: int) -> list[str]:
        with self._connections.reading(store_id) as connection:
            return [] if connection is None else index_file.texts(connection, number)

    def _answer(self, place: Place, question: Question) -> Answer:
        with self._connections.reading(place.store_id) as connection:
            if connection is not None:
                with index_file.snapshot(connection):
                    return self._rankings(place, connection, question)
        return _nothing(place.store_id, question)

    def _rankings(self, place: Place, connection: sqlite3.Connection, question: Question) -> Answer:
        store_id = place.store_id
        wanted = question.vectors if question.weights.vectors > 0 else None
        kind = vectors.kind_of(wanted) if wanted is not None and vectors.available() else None
        known = self._knowledge(store_id)
        with known.lock:
            stock = known.inventory = inventory(connection, known.inventory)
            view = self._matrices.view(store_id, connection, kind, stock) if kind else None
        chosen = choose(stock, place.selection.numbers)
        if not chosen.chunks:
            return _nothing(store_id, question)
        compare: _Comparison | None = None
        if wanted is not None and kind is not None:
            views = vectors.blocks(connection, kind) if view is None else [view]
            compare = functools.partial(
                vectors.nearest, views, wanted.rows, chosen, depth(question)
            )
            if view is not None:
                compare = self._comparers.submit(compare).result
        by_words = [
            _by_words(connection, query, stock, chosen, question) for query in question.queries
        ]
        by_vector = compare() if compare else [()] * len(by_words)
        return Answer(store_id, stock.files, by_words, by_vector)

    def _found(
        self, places: Sequence[Place], answers: Sequence[Answer], question: Question
    ) -> list[Found]:
        ranking = combined(answers, question)
        texts: dict[int, str] = {}
        for place, answer in zip(places, answers, strict=True):
            # A number that is only in another selection is that of nobody's file here.
            selected = place.selection.numbers
            ids = [id_ for id_, _ in ranking if id_ >> POSITION_BITS in selected]
            texts |= self._texts_of(answer, ids)
        return [
            Found(id_ >> POSITION_BITS, id_ & (1 << POSITION_BITS) - 1, score, texts[id_])
            for id_, score in ranking
            if id_ in texts
        ]

    def _texts_of(self, answer: Answer, ranked: Sequence[int]) -> Mapping[int, str]:
        """Of those chunks that are there, and the same as when they were ranked."""
        ids = [id_ for id_ in ranked if id_ >> POSITION_BITS in answer.files]
        if not ids:
            return {}
        with self._connections.reading(answer.store_id) as connection:
            if connection is None:
                return {}
            with index_file.snapshot(connection):
                marks = index_file.marks(connection, {id_ >> POSITION_BITS for id_ in ids})
                texts = index_file.texts_of(connection, ids)
        return {
            id_: text
            for id_, text in texts.items()
            if marks.get(id_ >> POSITION_BITS) == answer.files[id_ >> POSITION_BITS].mark
        }

    def _knowledge(self, store_id: str) -> _Known:
        with self._lock:
            known = self._known.pop(store_id, None) or _Known()
            self._known[store_id] = known
            while len(self._known) > _KNOWN:
                del self._known[next(iter(self._known))]
        return known


async def _alone(job: Coroutine[Any, Any, _T], name: str) -> _T:
    """Its result; who is cancelled leaves at once, and it ends by itself."""
    task = asyncio.create_task(job, name=name)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        raise


async def _to_the_end(work: Coroutine[Any, Any, _T]) -> _T:
    """Its result; who is cancelled waits: the thread has the turn until it ends."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # nobody asks for it
        raise


def _by_words(
    connection: sqlite3.Connection,
    query: str,
    stock: Inventory,
    chosen: Chosen,
    question: Question,
) -> Words:
    if question.weights.text <= 0:
        return Words()
    want = (question.limit, depth(question))
    return full_text.ranked(connection, query, stock.chunks, chosen, want)


def _nothing(store_id: str, question: Question) -> Answer:
    count = len(question.queries)
    return Answer(store_id, {}, [Words()] * count, [()] * count)
