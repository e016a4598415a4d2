"""Attachments on fakes: blobs, documents and a web in memory."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

from antiphon.backends.base import Media
from antiphon.blobs.base import BlobMissing
from antiphon.documents.base import Chunking, Fetched, Unreadable
from antiphon.engine.attachments import MOST_BYTES, Asker, Attachments, media_of
from antiphon.engine.images import ProjectImages
from antiphon.errors import InvalidRequestError
from antiphon.protocol.inline import inlined
from antiphon.protocol.items.base import Item
from antiphon.protocol.items.content import seen_of
from antiphon.store.base import FileRow
from antiphon.store.memory import MemoryStore
from tests.protocol.test_images import app, jpeg, png

Json: TypeAlias = dict[str, Any]
PDF: Final = b"%PDF-1.7\nsome pages"
NOW: Final = 1_000
TEXTS_ONLY: Final = Media()
PDF_TOO: Final = Media(frozenset({"application/pdf"}))
DATA_URLS: Final = Media(image_urls=False)
BLIND: Final = Media(images=False)


class Drawer:
    """`Blobs` in memory; `read_at_all`: which were read, and up to where."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.reads: list[int | None] = []
        self.open = 0

    def claim(self, database: str) -> None:
        raise AssertionError(database)

    async def read(
        self,
        id: str,  # noqa: A002
        start: int = 0,
        end: int | None = None,
    ) -> AsyncGenerator[bytes, None]:
        if id not in self.held:
            raise BlobMissing(id)
        self.reads.append(end)
        self.open += 1
        try:
            yield self.held[id][start:end][:7]
            await asyncio.sleep(0)
            yield self.held[id][start:end][7:]
        finally:
            self.open -= 1

    @asynccontextmanager
    async def local(self, id: str) -> AsyncIterator[Path]:  # noqa: A002
        if id not in self.held:
            raise BlobMissing(id)
        yield Path("/blobs") / id

    async def put(self, id: str, pieces: AsyncIterable[bytes]) -> int:  # noqa: A002
        self.held[id] = b"".join([piece async for piece in pieces])
        return len(self.held[id])

    async def delete(self, id: str) -> None:  # noqa: A002
        del self.held[id]

    def ids(self, older_than: float) -> AsyncGenerator[str, None]:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing is open."""


class Reader:
    """`Documents` that reads everything as "text of NAME"; `problem` is raised instead."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Path | bytes, str]] = []
        self.bodies: list[bytes] = []
        self.problem: Unreadable | None = None
        self.answer = "text of {name}"

    async def text(self, project: str, file: Path | bytes, filename: str) -> str:
        self.asked.append((project, file, filename))
        if isinstance(file, bytes):
            self.bodies.append(file)
        await asyncio.sleep(0)
        if self.problem is not None:
            raise self.problem
        return self.answer.format(name=filename)

    async def chunks(
        self, project: str, path: Path, filename: str, chunking: Chunking
    ) -> list[str]:
        raise NotImplementedError

    async def aclose(self) -> None:
        """Nothing is open."""


class Web:
    """`Fetcher` of what it has; everything else cannot be downloaded."""

    def __init__(self) -> None:
        self.held: dict[str, Fetched | None] = {}
        self.asked: list[str] = []

    async def fetch(
        self, url: str, most_bytes: int, take: Callable[[int], Awaitable[None]]
    ) -> Fetched:
        assert most_bytes == MOST_BYTES
        self.asked.append(url)
        if url not in self.held:
            raise InvalidRequestError("Error while downloading the file at the URL.")
        found = self.held[url]
        if found is None:
            await asyncio.sleep(3_600)
            raise AssertionError
        await take(len(found.body))
        return found


class Bench:
    """Attachments on fakes, and a store in memory."""

    def __init__(self) -> None:
        store = MemoryStore()
        self.files = store.files
        self.blobs = Drawer()
        self.reader = Reader()
        self.web = Web()
        images = ProjectImages(store.images, self.blobs)
        self.attachments = Attachments(self.files, images, self.blobs, self.reader, self.web)

    async def add(
        self,
        id_: str,
        body: bytes,
        name: str = "a.txt",
        project: str = "p",
        size: int | None = None,
    ) -> None:
        """A file of a project; `size`: what its row says."""
        length = len(body) if size is None else size
        row = FileRow(
            id_, project, 1, NOW if id_ == "file-old" else None, length, name, "user_data"
        )
        assert await self.files.add(row)
        self.blobs.held[id_] = body

    async def seen(
        self, *parts: Json, media: Media = TEXTS_ONLY, sent: bool = True, project: str = "p"
    ) -> list[Json]:
        """What the model sees of the parts of a message."""
        return list(
            map(seen_of, await self.filled(*parts, media=media, sent=sent, project=project))
        )

    async def filled(
        self, *parts: Json, media: Media = TEXTS_ONLY, sent: bool = True, project: str = "p"
    ) -> list[Json]:
        """The parts of a message with what the model sees of them."""
        items = [said(*parts)]
        before = [dict(part) for part in parts]
        paths = {key: "input[0].content" for key, _ in media_of(items[0])} if sent else {}
        made = await self.attachments.fill(items, paths, Asker(project, media, NOW))
        assert items[0]["content"] == before, "what is stored stays as it was"
        assert made[0]["content"] == before, "and so does what is shown"
        parts_made: list[Json] = made[0]["content"]
        return parts_made


def said(*parts: Json) -> Item:
    return {"type": "message", "role": "user", "id": "msg_1", "content": list(parts)}


def by_id(id_: str, **more: Any) -> Json:
    return {"type": "input_file", "file_id": id_, **more}


def image(**source: Any) -> Json:
    return {"type": "input_image", **source}


def text(words: str) -> Json:
    return {"type": "input_text", "text": words}


#: Images that are too large, however they are written.
TOO_LARGE: Final = {
    "a side": inlined("image/png", png(8_001, 1)),
    "the whole": inlined("image/jpeg", jpeg(7_999, 7_999)),
    "after metadata": inlined("image/jpeg", jpeg(8_001, 1, app(60_000))),
    "after spaces": "data:image/png;base64,"
    + " " * 9_000
    + base64.b64encode(png(9_000, 1)).decode(),
    "with lines": "data:image/png;base64,\n" + base64.encodebytes(png(9_000, 1)).decode(),
    "with escapes": "data:image/png;base64,%69" + base64.b64encode(png(9_000, 1)).decode()[1:],
    "without base64": "data:image/png,"
    + "".join(f"%{byte:02x}" for byte in png(9_000, 1) + b"pixels"),
}
