"""What ``antiphon files add`` does: from files of this machine to files of a vector store.

Rules
1. A file is known by its name and its bytes: one that its store has is not added again. One that
   could not be read there is read again, and with `again` so is every one; it is never there twice.
2. Files of the store that have the name of one which is added, and were not given to this command
   themselves, are its older versions. They stay, and are named; with `replace` they leave the
   store, but not before the new one can be found.
3. What goes wrong with one file is its outcome; the others go on.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NamedTuple

from antiphon.blobs.base import BlobMissing
from antiphon.cli.found import Found, Outcome, failed
from antiphon.engine.files import FileService
from antiphon.engine.vector_stores import VectorStoreService
from antiphon.errors import APIError, NotFoundError
from antiphon.protocol.files import clean_filename
from antiphon.protocol.vector_stores import NewVectorStore
from antiphon.store.base import (
    MOST_FILES,
    Attributes,
    FileListing,
    FileRow,
    FileStatus,
    NewFile,
    Runs,
    StoreFile,
    VectorStoreRow,
    Window,
)

#: Bytes that are read at a time.
_PIECE: Final = 1024 * 1024
_PAGE: Final = 1_000
#: Seconds between two looks at what is being read, at least and at most.
_PAUSE: Final = 0.1
_LOOK: Final = 1.0
PURPOSE: Final = "assistants"


@dataclass(frozen=True, slots=True)
class Terms:
    """How files are put into the store; sizes in tokens. `again`: also those that it has;
    `replace`: instead of their older versions."""

    project: str
    attributes: Attributes
    chunk_size: int
    chunk_overlap: int
    again: bool = False
    replace: bool = False

    def file(self, file_id: str) -> NewFile:
        """A file on these terms."""
        return NewFile(file_id, self.attributes, self.chunk_size, self.chunk_overlap)


class _Held(NamedTuple):
    """A file of the store; `size` in bytes."""

    id: str
    size: int
    status: FileStatus


class StoreTrouble(ValueError):
    """No store, or more than one, is meant."""


# -- the store -----------------------------------------------------------------------------------


async def store_of(
    stores: VectorStoreService, project: str, named: str, *, make: bool
) -> VectorStoreRow:
    """The store with that id or name, which is made if it may be. Raises `StoreTrouble` or
    `APIError`."""
    if named.startswith("vs_"):
        return await stores.get(project, named)
    rows = [row async for row in _stores(stores, project) if row.name == named]
    if len(rows) > 1:
        ids = ", ".join(row.id for row in rows[:3])
        raise StoreTrouble(f"{len(rows)} stores are called '{named}' ({ids} …): say the id")
    if rows:
        return rows[0]
    if not make:
        raise StoreTrouble(f"no vector store is called '{named}' in project '{project}'")
    return await stores.create(project, NewVectorStore(name=named))


async def _stores(stores: VectorStoreService, project: str) -> AsyncIterator[VectorStoreRow]:
    """Those that can still be searched."""
    after = None
    more = True
    while more:
        rows, more = await stores.page(project, Window(_PAGE, after=after))
        for row in rows:
            if not row.is_expired(stores.now()):
                yield row
        after = rows[-1].id if rows else None


async def files_of(
    stores: VectorStoreService, project: str, store_id: str, status: FileStatus | None = None
) -> dict[str, StoreFile]:
    """The files of a store by their ids."""
    found, _ = await stores.files(project, store_id, Window(MOST_FILES), status)
    return {file.file_id: file for file in found}


async def all_files(files: FileService, project: str) -> AsyncGenerator[FileRow, None]:
    """The files of a project, newest first."""
    after = None
    more = True
    while more:
        rows, more = await files.listed(project, FileListing(after=after))
        for row in rows:
            yield row
        after = rows[-1].id if rows else None


# -- adding --------------------------------------------------------------------------------------


class Adder:
    """Adds files to one store of a project; `open` it first."""

    def __init__(
        self, files: FileService, stores: VectorStoreService, store_id: str, terms: Terms
    ) -> None:
        self._files = files
        self._stores = stores
        self._store_id = store_id
        self._terms = terms
        #: Name → files of the store that have it.
        self._known: dict[str, list[_Held]] = {}
        #: File id → where it came from, of those that are to be read.
        self._waiting: dict[str, Path] = {}
        #: Files of the store that were given to this command.
        self._given: set[str] = set()
        #: Name → where the file comes from whose older versions count.
        self._current: dict[str, Path] = {}
        #: Names under which something went wrong: what there is of them may still be needed.
        self._broken: set[str] = set()

    async def open(self) -> None:
        """Learn what the store has."""
        project = self._terms.project
        held = await files_of(self._stores, project, self._store_id)
        async with aclosing(all_files(self._files, project)) as rows:
            async for row in rows:
                if (file := held.get(row.id)) is not None:
                    self._know(row, file.status)

    def _know(self, row: FileRow, status: FileStatus) -> None:
        self._known.setdefault(row.filename, []).append(_Held(row.id, row.bytes, status))

    async def add(self, found: Found) -> Outcome:
        """Store one file, unless it is there, and have it read."""
        try:
            return await self._added(found)
        except OSError as error:
            outcome = failed(found.path, error)
        except APIError as error:
            outcome = Outcome(found.path, "failed", error.message)
        self._broken.add(_name(found.path))
        return outcome

    async def _added(self, found: Found) -> Outcome:
        terms = self._terms
        there = await self._there(found)
        id_ = await self._new(found) if there is None else there.id
        self._given.add(id_)
        if there is None or terms.replace:
            self._current.setdefault(_name(found.path), found.path)
        if there is not None:
            if id_ in self._waiting or (there.status == "completed" and not terms.again):
                return Outcome(found.path, "unchanged", id_)
            if terms.again or there.status != "in_progress":
                await self._stores.add_file(terms.project, self._store_id, terms.file(id_))
        self._waiting[id_] = found.path
        return Outcome(found.path, "stored", id_)

    async def _there(self, found: Found) -> _Held | None:
        """The file of the store that has this name and these bytes."""
        for held in self._known.get(_name(found.path), ()):
            if held.size == found.size and await self._is_same(held.id, found.path):
                return held
        return None

    async def _is_same(self, id_: str, path: Path) -> bool:
        with path.open("rb") as file:
            try:
                return await _holds(file, self._files.blobs.read(id_))
            except BlobMissing:
                return False

    async def _new(self, found: Found) -> str:
        project = self._terms.project
        name = _name(found.path)
        with found.path.open("rb") as file:
            async with self._files.arriving(project) as arrival:
                await arrival.take(_pieces(file))
                row = await self._files.add(project, arrival, name, PURPOSE, None)
        try:
            await self._stores.add_file(project, self._store_id, self._terms.file(row.id))
        except APIError:
            await self._files.delete(project, row.id)  # nobody would know of it
            raise
        self._know(row, "in_progress")
        return row.id

    # -- waiting ------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """How many are still to be read."""
        return len(self._waiting)

    async def ended(self, runs: Runs) -> AsyncGenerator[Outcome, None]:
        """What became of those that were to be read, whoever reads them."""
        project = self._terms.project
        while self._waiting:
            held = await files_of(self._stores, project, self._store_id, "in_progress")
            done = [id_ for id_ in self._waiting if id_ not in held]
            for id_ in done:
                yield await self._end_of(id_, self._waiting.pop(id_))
            if self._waiting:
                await runs.wait(_LOOK)
                await asyncio.sleep(_PAUSE)

    async def _end_of(self, id_: str, path: Path) -> Outcome:
        try:
            file = await self._stores.file(self._terms.project, self._store_id, id_)
        except APIError:
            why = "it was deleted meanwhile"
        else:
            if file.status == "completed":
                return Outcome(path, "read", id_)
            why = file.error[1] if file.error else "it was cancelled"
        self._broken.add(_name(path))
        return Outcome(path, "failed", why)

    # -- older versions -----------------------------------------------------------------------

    async def older(self) -> AsyncGenerator[Outcome, None]:
        """What becomes of them, when all else is done (rule 2)."""
        for name in sorted(self._current.keys() - self._broken):
            for held in self._known[name]:
                if held.id not in self._given:
                    yield await self._parted(self._current[name], held.id)

    async def _parted(self, path: Path, id_: str) -> Outcome:
        if not self._terms.replace:
            return Outcome(path, "stored beside an older version", id_)
        with suppress(NotFoundError):  # somebody was faster
            await self._stores.remove_file(self._terms.project, self._store_id, id_)
        return Outcome(path, "replaced", id_)


def _name(path: Path) -> str:
    """What its file is called."""
    return clean_filename(path.name)


async def _holds(file: IO[bytes], read: AsyncGenerator[bytes, None]) -> bool:
    """Whether the rest of a file is just what is read there."""
    async with aclosing(read) as pieces:
        async for piece in pieces:
            if await asyncio.to_thread(file.read, len(piece)) != piece:
                return False
    return not await asyncio.to_thread(file.read, 1)


async def _pieces(file: IO[bytes]) -> AsyncGenerator[bytes, None]:
    while piece := await asyncio.to_thread(file.read, _PIECE):
        yield piece
