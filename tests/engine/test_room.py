"""Bytes of files that all requests have in memory (R-118)."""

import asyncio
import gc
import time
from collections.abc import Iterator

import pytest

from antiphon.documents.base import Fetched
from antiphon.engine import room
from antiphon.engine.room import Held, Room
from antiphon.errors import InvalidRequestError, Overloaded
from antiphon.protocol.inline import inlined
from tests.engine.attaching import DATA_URLS, Bench, by_id, image
from tests.protocol.test_images import png


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nor does the garbage collector help."""
    monkeypatch.setattr(room, "_PATIENCE", 0.01)
    gc.disable()
    yield
    gc.enable()


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.engine.attachments.MOST_HELD", 200)
    monkeypatch.setattr("antiphon.engine.attachments.MOST_HELD_EACH", 150)


async def taken(room_: Room, project: str, *sizes: int) -> Held:
    held = room_.hold(project)
    for size in sizes:
        await held.take(size)
    return held


async def test_who_gets_none_is_told_to_come_back() -> None:
    bytes_ = Room(10, 10)
    first, second = await taken(bytes_, "p", 2, 4, -1), await taken(bytes_, "q", 4)
    with pytest.raises(Overloaded) as caught:
        await taken(bytes_, "r", 1)
    assert caught.value.retry_after is not None
    del first
    third = await taken(bytes_, "r", 6)
    with pytest.raises(Overloaded):
        await third.take(1)
    del second, third
    await taken(bytes_, "p", 10)
    assert len(await asyncio.gather(*(taken(bytes_, "p", 0) for _ in range(3)))) == 3


async def test_one_project_has_not_all() -> None:
    """R-118: the others would wait for what one has asked for."""
    bytes_ = Room(10, 7)
    held = [await taken(bytes_, "p", 5)]
    with pytest.raises(Overloaded):
        await taken(bytes_, "p", 3)
    held.append(await taken(bytes_, "q", 5))


async def test_who_waits_gets_what_others_give_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_PATIENCE", 60)
    bytes_ = Room(10, 10)
    held = [await taken(bytes_, "p", 10)]
    waiting = asyncio.create_task(taken(bytes_, "q", 10))
    await asyncio.sleep(0)
    assert not waiting.done()
    await asyncio.to_thread(held.clear)
    begun = time.monotonic()
    await waiting
    assert time.monotonic() - begun < 30


@pytest.mark.usefixtures("_small")
async def test_a_file_is_held_for_as_long_as_its_request() -> None:
    """Also when it was refused half-way."""
    bench = Bench()
    await bench.add("file-1", png(2, 2) + bytes(76), "a.png")
    await bench.add("file-t", b"x" * 100)
    for part in (image(file_id="file-1"), by_id("file-t")):
        held = await bench.filled(part)
        with pytest.raises(Overloaded):
            await bench.seen(part)
        del held
        assert len(await bench.seen(part)) == 1
        for _ in range(3):
            with pytest.raises(Overloaded):
                await bench.seen(part, part)
            with pytest.raises(Overloaded):
                await bench.seen(part, part, sent=False)
        assert len(await bench.seen(part)) == 1


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("sent", [True, False])
async def test_what_is_refused_is_not_held(*, sent: bool) -> None:
    """R-118: neither by the error, nor by the note of a file of history."""
    bench = Bench()
    await bench.add("file-1", bytes(140), "a.png")
    await bench.add("file-2", png(9_000, 9) + bytes(100), "a.png")
    for part in (
        image(file_id="file-1"),
        image(file_id="file-2"),
        {"type": "input_file", "file_data": "!" * 180},
    ):
        for _ in range(3):
            if sent:
                with pytest.raises(InvalidRequestError):
                    await bench.seen(part)
            else:
                assert (await bench.seen(part, sent=False))[0]["type"] == "input_text"


@pytest.mark.usefixtures("_small")
async def test_bytes_have_room_before_they_come() -> None:
    """R-118: those of addresses and of the request itself, and texts that are longer than their
    files."""
    bench = Bench()
    bench.web.held["https://a.example/b"] = Fetched(png(2, 2) + bytes(76), "b")
    await bench.add("file-1", b"1", "a.txt")
    bench.reader.answer = "x" * 80  # and what Python adds to it
    for part in (
        image(image_url="https://a.example/b"),
        {"type": "input_file", "file_data": inlined("image/png", png(2, 2) + bytes(76))},
        by_id("file-1"),
    ):
        first = await bench.filled(part, media=DATA_URLS)
        with pytest.raises(Overloaded):
            await bench.filled(part, media=DATA_URLS)
        del first
        await bench.filled(part, media=DATA_URLS)


async def test_a_long_text_counts_as_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """R-89: a small file may have a long text, and a request may name it often."""
    monkeypatch.setattr("antiphon.engine.attachments.MOST_BYTES", 1_000)
    monkeypatch.setattr("tests.engine.attaching.MOST_BYTES", 1_000)
    bench = Bench()
    await bench.add("file-1", b"1", "a.docx")
    bench.reader.answer = "x" * 300
    assert len(await bench.seen(*[by_id("file-1")] * 3)) == 3
    with pytest.raises(InvalidRequestError) as caught:
        await bench.seen(*[by_id("file-1")] * 4)
    assert (caught.value.code, caught.value.param) == (
        "file_too_large",
        "input[0].content[3].file_id",
    )
