"""All that has to do with files and uploads, in one process, and blobs that cannot be removed."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from antiphon.blobs.local import LocalBlobs
from antiphon.engine.files import FileOptions, FileService
from antiphon.engine.orphans import Orphans
from antiphon.engine.uploads import UploadService
from antiphon.errors import Overloaded
from antiphon.protocol.files import NewUpload
from antiphon.store.base import FileRow, UploadRow
from antiphon.store.memory import MemoryStore
from tests.blobs.putting import listed, pieces
from tests.store.rows import Clock

LATER: Final = 10.0**12
OPTIONS: Final = FileOptions(max_file=100, max_upload=50, max_project=150)


class World:
    """All of it; `orphans` looks at everything, however young."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self.store = MemoryStore(clock=self.clock)
        self.rows = self.store.files
        self.blobs = LocalBlobs(folder)
        self.files = FileService(self.rows, self.blobs, OPTIONS, self.clock)
        self.uploads = UploadService(self.files)
        self.orphans = Orphans(
            self.rows, self.store.containers, self.store.images, self.blobs, lambda: LATER
        )

    async def add(
        self, content: bytes = b"x", project: str = "alpha", lifetime: int | None = None
    ) -> FileRow:
        """A new file."""
        async with self.files.arriving(project) as arrival:
            await arrival.take(pieces(content))
            return await self.files.add(project, arrival, "a.txt", "user_data", lifetime)

    async def begin(self, size: int = 4) -> UploadRow:
        """A new upload."""
        new = NewUpload(bytes=size, filename="b.txt", mime_type="a/b", purpose="user_data")
        return await self.uploads.begin("alpha", new)

    async def part(self, upload: UploadRow, content: bytes) -> str:
        """A new part."""
        async with await self.uploads.part_arriving("alpha", upload.id) as arrival:
            await arrival.take(pieces(content))
            return (await self.uploads.add_part("alpha", upload.id, arrival)).id

    async def ids(self) -> set[str]:
        """The blobs that there are."""
        return await listed(self.blobs, LATER)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[World]:
    """With its blobs in `folder`."""
    made = World(folder)
    yield made
    await made.files.aclose()
    await made.blobs.aclose()
    await made.store.close()


class Troubled:
    """Blobs that cannot be removed: those of `ids`, None: all. `tried` says which were."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ids: Collection[str] | None = None
        self.tried: list[str] = []
        self._delete = world.blobs.delete
        monkeypatch.setattr(world.blobs, "delete", self.delete)

    async def delete(self, id_: str) -> None:
        self.tried.append(id_)
        if self.ids is None or id_ in self.ids:
            raise Overloaded("Access denied.")
        await self._delete(id_)


def said_of_stuck(logs: Iterable[Mapping[str, object]]) -> list[tuple[object, object]]:
    """What the log says of blobs that are left: how many, and the first of them."""
    return [
        (entry["count"], entry["first"])
        for entry in logs
        if entry["event"] == "blobs_not_removed" and entry["error"] == "Access denied."
    ]
