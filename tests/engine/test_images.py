"""Images that were made here: kept, shown, loaded for a model (R-30, R-102, R-104)."""

import base64
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, Final

import orjson
import pytest

from antiphon.blobs.base import BlobMissing
from antiphon.engine.album import Album
from antiphon.engine.images import ProjectImages
from antiphon.engine.room import Room
from antiphon.errors import InvalidRequestError, NotFoundError, Overloaded, PayloadTooLarge
from antiphon.protocol.image_references import Loaded, blob_of
from antiphon.protocol.inline import inlined
from antiphon.protocol.items.base import Item, Seen, turn_of
from antiphon.store.memory import MemoryStore
from antiphon.tools.base import Scope
from tests.blobs.putting import put
from tests.engine.attaching import Drawer
from tests.engine.filing import World
from tests.protocol.test_image_references import drawn
from tests.store.rows import NOW, Clock

SCOPE: Final = Scope("p", response_id="resp_1", conversation_id="conv_1")
BODY: Final = bytes(range(20))
B64: Final = base64.b64encode(BODY).decode()
NOBODYS: Final = "antiphon-image:" + "0f" * 16


class Bench:
    """Images on blobs in memory; a project may have 50 bytes."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.blobs = Drawer()
        self.clock = Clock()
        self.images = ProjectImages(self.store.images, self.blobs, 50, self.clock)
        self.spent: list[int] = []

    async def keep(self, body: bytes = BODY) -> str:
        return await self.images.keep(SCOPE, body, "image/png")

    async def shown(self, *results: str | None, project: str = "p") -> list[str | None]:
        """The results of items as a project is shown them."""
        body = orjson.dumps({"output": [drawn(result) for result in results]})
        answer = await self.images.shown(project, body)
        return [item["result"] for item in orjson.loads(answer)["output"]]

    def album(self, project: str = "p", most: int = 50, room: Room | None = None) -> Album:
        def spend(size: int) -> None:
            self.spent.append(size)
            if sum(self.spent) > most:
                raise InvalidRequestError("Too many.")

        return Album(self.images, project, room or Room(1_000, 1_000), spend)


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_is_kept(bench: Bench) -> None:
    reference = await bench.keep()
    row = await bench.images.find("p", reference)
    assert (row.response_id, row.conversation_id) == ("resp_1", "conv_1")
    assert (row.created_at, row.bytes, row.media_type) == (NOW, 20, "image/png")
    assert bench.blobs.held == {row.blob: BODY}
    assert await bench.images.load(row) == BODY
    with pytest.raises(ValueError, match="not stored"):
        await bench.images.keep(replace(SCOPE, response_id=None), BODY, "image/png")


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 9, 20])
async def test_an_image_is_shown_as_base64(bench: Bench, size: int) -> None:
    """However its bytes come."""
    reference = await bench.keep(BODY[:size])
    expected = base64.b64encode(BODY[:size]).decode()
    assert await bench.shown(reference, "QUJD", None, reference) == [
        expected,
        "QUJD",
        None,
        expected,
    ]
    assert bench.blobs.open == 0


async def test_nobody_else_is_shown_it(bench: Bench) -> None:
    """R-30; nor what is not there any more."""
    reference = await bench.keep()
    assert await bench.shown(reference, project="other") == [None]
    with pytest.raises(NotFoundError):
        await bench.images.find("other", reference)
    assert await bench.shown(NOBODYS) == [None]
    row = await bench.images.find("p", reference)
    bench.blobs.held.clear()
    assert await bench.shown(reference) == [None]
    with pytest.raises(NotFoundError, match="not available any more"):
        await bench.images.load(row)


async def test_a_body_without_images_is_the_same_object(bench: Bench) -> None:
    body = orjson.dumps({"output": [drawn("QUJD")]})
    assert await bench.images.shown("p", body) is body


async def test_a_project_that_is_full(bench: Bench) -> None:
    """R-102: nothing is left of what found no room."""
    await bench.keep(bytes(31))
    with pytest.raises(PayloadTooLarge) as caught:
        await bench.keep()
    assert caught.value.code == "storage_quota_exceeded"
    assert len(bench.blobs.held) == 1


async def test_a_stream_waits_for_blobs_in_trouble(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.engine.images._RETRY", 0)
    reference, read, tries = await bench.keep(), bench.blobs.read, 0

    async def troubled(*asked: Any) -> AsyncGenerator[bytes, None]:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Overloaded
        async for piece in read(*asked):
            yield piece

    monkeypatch.setattr(bench.blobs, "read", troubled)
    assert await bench.shown(reference) == [B64]
    tries = -1_000
    monkeypatch.setattr("antiphon.engine.images._PATIENCE", -1)
    with pytest.raises(Overloaded):
        await bench.shown(reference)


async def test_an_image_that_goes_while_it_is_read_is_null(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And never half of one: the answer is made anew."""
    monkeypatch.setattr("antiphon.engine.images._RETRY", 0)
    reference, read = await bench.keep(), bench.blobs.read

    async def going(id_: str, *more: Any) -> AsyncGenerator[bytes, None]:
        async for piece in read(id_, *more):
            yield piece
            bench.blobs.held.clear()
            raise BlobMissing(id_)

    monkeypatch.setattr(bench.blobs, "read", going)
    assert await bench.shown(reference) == [None]


async def test_blobs_without_rows_are_orphans(tmp_path: Any) -> None:
    """R-104: the process died between the blob and the row; and what the sweep removes."""
    world = World(tmp_path)
    images = ProjectImages(world.store.images, world.blobs, 0, world.clock)
    kept = blob_of(await images.keep(SCOPE, BODY, "image/png"))
    await put(world.blobs, "iblob_" + "0f" * 16, BODY)
    assert [await world.orphans.collect() for _ in range(3)] == [0, 1, 0]
    assert await world.ids() == {kept}
    assert await images.sweep(int(world.clock.now), 9) == 0
    assert await images.sweep(int(world.clock.now) + 86_400, 9) == 1
    assert await world.ids() == set()


# -- what a model sees ---------------------------------------------------------------------------


async def test_a_model_is_shown_images_once_loaded(bench: Bench) -> None:
    reference, album = await bench.keep(), bench.album()
    items: list[Item] = [drawn(reference), {"type": "message"}, Seen(drawn(reference), 3)]
    filled = await album.fill(items)
    image = {"type": "input_image", "image_url": inlined("image/png", BODY), "detail": "auto"}
    for item in (filled[0], filled[2]):
        assert isinstance(item["result"], Loaded)
        assert item["result"].seen == image
    assert turn_of(filled[2]) == 3
    assert filled == items, "in JSON it is the same"
    assert not isinstance(items[0]["result"], Loaded)
    assert await album.fill(filled) is filled
    assert await album.fill(items) == filled
    assert bench.spent == [20]


async def test_what_cannot_be_shown_is_a_note(bench: Bench) -> None:
    """The newest come first, and another project's is not there (R-30)."""
    old, new = await bench.keep(), await bench.keep()
    filled = await bench.album(most=30).fill([drawn(old), drawn(NOBODYS), drawn(new)])
    assert [item["result"].seen.get("text") for item in filled] == [
        "[The image cannot be shown. Too many.]",
        "[The image cannot be shown. The image is not available any more.]",
        None,
    ]
    filled = await bench.album("other").fill([drawn(new)])
    assert "not available" in filled[0]["result"].seen["text"]


async def test_nobody_waits_for_memory_once_an_image(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wait for all of them; the next turn tries again."""
    monkeypatch.setattr("antiphon.engine.room._PATIENCE", 0.5)
    items = [drawn(await bench.keep()) for _ in range(2)]
    room = Room(40, 40)
    other = room.hold("p")
    await other.take(10)
    album = bench.album(room=room)
    began = time.monotonic()
    filled = await album.fill(items)
    assert 0.5 <= time.monotonic() - began < 0.95
    texts = [item["result"].seen.get("text", "") for item in filled]
    assert all("in use at the moment" in text for text in texts), texts
    assert bench.spent == [20]
    del other
    filled = await album.fill(items)
    assert [item["result"].seen["type"] for item in filled] == ["input_text", "input_image"]
