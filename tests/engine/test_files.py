"""Files and uploads between their rows and their blobs: what breaks off where (R-102, R-104)."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from antiphon.engine.files import FileOptions, FileService
from antiphon.engine.orphans import Orphans
from antiphon.engine.uploads import LIFETIME, UploadService
from antiphon.errors import (
    APIError,
    InvalidRequestError,
    NoSuchFile,
    Overloaded,
    PayloadTooLarge,
    RateLimitError,
    UploadNotFound,
)
from antiphon.store.base import FileListing, FileRow
from antiphon.store.base.files import UPLOAD_MEMORY
from tests.blobs.putting import pieces
from tests.engine.filing import Troubled, World, opened, said_of_stuck

_T = TypeVar("_T")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        yield made


def instead(
    call: Callable[..., Awaitable[_T]], before: Callable[[], Awaitable[object]]
) -> Callable[..., Awaitable[_T]]:
    """`call`, with something that happens just before."""

    async def both(*given: object) -> _T:
        await before()
        return await call(*given)

    return both


async def _broken(world: World) -> None:
    """A file that does not come to its end."""
    async with world.files.arriving("alpha") as arrival:
        await arrival.take(pieces(b"x"))
        raise ZeroDivisionError


async def content(world: World, row: FileRow) -> bytes:
    return b"".join([piece async for piece in world.files.content(row, 0, row.bytes)])


async def test_a_file_has_its_bytes(world: World) -> None:
    row = await world.add(b"Hello")
    assert row.bytes == 5
    assert await content(world, row) == b"Hello"
    assert await world.files.get("alpha", row.id) == row
    assert await world.files.listed("alpha", FileListing()) == ([row], False)
    await world.files.delete("alpha", row.id)
    assert await world.ids() == set()
    with pytest.raises(NoSuchFile):
        await content(world, row)
    with pytest.raises(InvalidRequestError, match="not found"):
        await world.files.listed("alpha", FileListing(after=row.id))


async def test_of_two_who_delete_one_hears_that_it_is_gone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = await world.add()
    rows = world.rows
    first = rows.delete
    monkeypatch.setattr(rows, "delete", instead(first, lambda: first("alpha", row.id)))
    with pytest.raises(NoSuchFile):
        await world.files.delete("alpha", row.id)


async def test_limits(world: World) -> None:
    """R-102."""
    await world.add(bytes(100))
    with pytest.raises(PayloadTooLarge, match="limit is 100 bytes"):
        await world.add(bytes(101), project="beta")
    with pytest.raises(PayloadTooLarge, match="may store 150 bytes"):
        await world.add(bytes(51))
    await world.add(bytes(50))
    assert len(await world.ids()) == 2


async def test_two_who_share_the_last_room(world: World) -> None:
    """The step that writes the row decides; the other blob goes."""
    await world.add(bytes(90))
    both = await asyncio.gather(world.add(bytes(40)), world.add(bytes(40)), return_exceptions=True)
    assert sorted(type(one).__name__ for one in both) == ["FileRow", "PayloadTooLarge"]
    assert len(await world.ids()) == 2


async def test_without_a_row_there_is_no_blob(world: World) -> None:
    with pytest.raises(ZeroDivisionError):
        await _broken(world)
    async with world.files.arriving("alpha"):
        pass
    assert await world.ids() == set()


async def test_a_blob_that_cannot_be_removed_is_nobodys_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-104: who deletes a file has deleted it, and an upload fails for its own reason; what is
    left is an orphan."""
    row = await world.add()
    trouble = Troubled(world, monkeypatch)
    with capture_logs() as logs:
        await world.files.delete("alpha", row.id)
        with pytest.raises(PayloadTooLarge, match="limit is 100 bytes"):
            await world.add(bytes(101))
        with pytest.raises(ZeroDivisionError):
            await _broken(world)
    assert [count for count, _ in said_of_stuck(logs)] == [1, 1]
    with pytest.raises(NoSuchFile):
        await world.files.delete("alpha", row.id)
    trouble.ids = frozenset()
    assert [await world.orphans.collect() for _ in range(2)] == [0, 2]


async def test_a_row_that_may_have_been_written_keeps_its_blob(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-104: nobody knows, so the sweep decides."""
    add = world.rows.add

    async def lost(row: FileRow, most_bytes: int = 0) -> bool:
        await add(row, most_bytes)
        raise Overloaded

    monkeypatch.setattr(world.rows, "add", lost)
    with pytest.raises(Overloaded):
        await world.add(b"here")
    [row], _ = await world.files.listed("alpha", FileListing())
    assert await content(world, row) == b"here"


async def test_without_a_limit(world: World) -> None:
    files = FileService(world.rows, world.blobs, FileOptions(), world.clock)
    async with files.arriving("alpha") as arrival:
        assert arrival.limit == 512 * 1024 * 1024
    with pytest.raises(NoSuchFile):
        await files.get("alpha", arrival.id)


# -- uploads -------------------------------------------------------------------------------------


async def test_parts_become_a_file(world: World) -> None:
    upload = await world.begin()
    parts = [await world.part(upload, data) for data in (b"cd", b"ab", b"")]
    complete, order = world.uploads.complete, [parts[1], parts[0]]
    with pytest.raises(InvalidRequestError, match="named twice"):
        await complete("alpha", upload.id, [parts[0], parts[0]], None)
    with pytest.raises(InvalidRequestError, match="have 2 bytes"):
        await complete("alpha", upload.id, parts[1:], None)
    with pytest.raises(InvalidRequestError, match="checksum"):
        await complete("alpha", upload.id, order, "0" * 32)
    md5 = hashlib.md5(b"abcd", usedforsecurity=False).hexdigest()
    done, file = await complete("alpha", upload.id, order, md5)
    assert done.status == "completed"
    assert file is not None
    assert await content(world, file) == b"abcd"
    assert await complete("alpha", upload.id, order, md5) == (done, file)
    await world.files.aclose()
    assert await world.ids() == {file.id}
    other = await world.begin()
    assert await world.uploads.cancel("alpha", other.id) == await world.uploads.cancel(
        "alpha", other.id
    )


@pytest.mark.parametrize("at", ["parts", "complete"])
async def test_two_processes_complete_an_upload_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Both answer with the one file; the second one finds no parts, or no pending upload."""
    upload = await world.begin()
    parts = [await world.part(upload, content) for content in (b"ab", b"cd")]
    other, others = UploadService(world.files), []
    methods: dict[str, Callable[..., Any]] = {
        "parts": world.rows.parts,
        "complete": world.rows.complete,
    }

    async def late(*args: Any) -> Any:
        monkeypatch.undo()
        others.append(await other.complete("alpha", upload.id, parts, None))
        return await methods[at](*args)

    monkeypatch.setattr(world.rows, at, late)
    assert await world.uploads.complete("alpha", upload.id, parts, None) == others[0]
    await world.files.aclose()
    _, file = others[0]
    assert file is not None
    assert await world.ids() == {file.id}
    with pytest.raises(InvalidRequestError, match="is completed"):
        await world.uploads.complete("alpha", upload.id, parts[::-1], None)


async def test_two_processes_cancel_an_upload_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await world.begin()
    await world.part(upload, b"ab")
    cancel = world.rows.cancel

    async def late(*args: Any) -> Any:
        await cancel(*args)
        return await cancel(*args)

    monkeypatch.setattr(world.rows, "cancel", late)
    assert (await world.uploads.cancel("alpha", upload.id)).status == "cancelled"


async def test_parts_that_cannot_be_added(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the reason: the blob goes."""
    upload = await world.begin()
    kept = await world.part(upload, b"ab")
    with pytest.raises(PayloadTooLarge, match="than the 4 bytes"):
        await world.part(upload, b"cde")
    monkeypatch.setattr("antiphon.store.sql_files.MOST_PARTS", 1)
    with pytest.raises(InvalidRequestError, match="at most 10000 parts"):
        await world.part(upload, b"c")
    monkeypatch.undo()
    used = world.rows.used

    async def nothing(_: str) -> int:
        return 0

    await world.add(bytes(100))
    await world.add(bytes(48))
    monkeypatch.setattr(world.rows, "used", nothing)
    with pytest.raises(PayloadTooLarge, match="may store"):
        await world.part(upload, b"c")
    assert await used("alpha") == 150
    assert len(await world.ids()) == 3
    assert kept in await world.ids()


async def test_a_part_that_comes_too_late(world: World) -> None:
    upload = await world.begin()

    async def cancelled() -> None:
        async with await world.uploads.part_arriving("alpha", upload.id) as arrival:
            await arrival.take(pieces(b"ab"))
            await world.uploads.cancel("alpha", upload.id)
            await world.uploads.add_part("alpha", upload.id, arrival)

    with pytest.raises(InvalidRequestError, match="is cancelled"):
        await cancelled()
    assert await world.ids() == set()


async def test_an_upload_expires(world: World) -> None:
    upload = await world.begin()
    part = await world.part(upload, b"abcd")
    world.clock.now += LIFETIME
    assert world.uploads.status(upload) == "expired"
    with pytest.raises(InvalidRequestError, match="is expired"):
        await world.part(upload, b"")
    with pytest.raises(InvalidRequestError, match="is expired"):
        await world.uploads.complete("alpha", upload.id, [part], None)
    with pytest.raises(InvalidRequestError, match="is expired"):
        await world.uploads.cancel("alpha", upload.id)
    world.orphans = Orphans(
        world.rows, world.store.containers, world.store.images, world.blobs, world.clock
    )
    assert await world.orphans.sweep(10) == 1
    assert await world.ids() == set()
    world.clock.now += UPLOAD_MEMORY
    await world.orphans.sweep(10)
    with pytest.raises(UploadNotFound):
        await world.uploads.cancel("alpha", upload.id)


async def test_what_ends_while_it_is_completed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the row is written, and while the bytes are read: no file, no blob."""
    for name in ("complete", "parts"):
        upload = await world.begin()
        part = await world.part(upload, b"abcd")

        def cancel(id_: str = upload.id) -> Awaitable[object]:
            return world.uploads.cancel("alpha", id_)

        if name == "complete":
            late = instead(world.rows.complete, cancel)
            monkeypatch.setattr(world.rows, "complete", late)
        else:
            sizes = await world.rows.parts("alpha", upload.id)

            async def parts(*_: str, cancel: Callable[[], Awaitable[object]] = cancel) -> object:
                await cancel()
                return sizes  # noqa: B023

            monkeypatch.setattr(world.rows, "parts", parts)
        with pytest.raises(InvalidRequestError, match="is cancelled"):
            await world.uploads.complete("alpha", upload.id, [part], None)
        monkeypatch.undo()
    assert await world.ids() == set()


async def test_a_part_whose_bytes_are_lost(world: World) -> None:
    """That is our fault, and said so."""
    upload = await world.begin()
    part = await world.part(upload, b"abcd")
    await world.blobs.delete(part)
    with pytest.raises(APIError) as caught:
        await world.uploads.complete("alpha", upload.id, [part], None)
    assert caught.value.status == 500
    assert await world.ids() == set()


async def test_an_announcement_that_is_too_large(world: World) -> None:
    with pytest.raises(InvalidRequestError, match=r"value <= 50, but got 51"):
        await world.begin(51)


async def test_parts_go_behind_the_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it was completed or cancelled: nobody waits for 10,000 of them."""
    upload, other = await world.begin(), await world.begin()
    part, lost = await world.part(upload, b"abcd"), await world.part(other, b"ab")
    gate, delete = asyncio.Event(), world.blobs.delete

    async def slow(id_: str) -> None:
        await gate.wait()
        await delete(id_)

    monkeypatch.setattr(world.blobs, "delete", slow)
    async with asyncio.timeout(5):
        _, file = await world.uploads.complete("alpha", upload.id, [part], None)
        await world.uploads.complete("alpha", upload.id, [part], None)
        await world.uploads.cancel("alpha", other.id)
    assert file is not None
    assert await world.ids() == {file.id, part, lost}
    gate.set()
    await world.files.aclose()
    assert await world.ids() == {file.id}


async def test_the_end_does_not_wait_for_ever(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-104: what is left then are orphans."""
    upload = await world.begin()
    part = await world.part(upload, b"abcd")
    monkeypatch.setattr("antiphon.engine.files._LAST_REMOVALS", 0.01)
    monkeypatch.setattr(world.blobs, "delete", lambda _: asyncio.Event().wait())
    await world.uploads.cancel("alpha", upload.id)
    await world.files.aclose()
    monkeypatch.undo()
    assert await world.ids() == {part}
    assert [await world.orphans.collect() for _ in range(2)] == [0, 1]


async def test_too_many_pending_uploads(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """R-102, R-115."""
    monkeypatch.setattr("antiphon.store.sql_files.MOST_PENDING", 1)
    upload = await world.begin()
    with pytest.raises(RateLimitError, match="1000 pending uploads") as caught:
        await world.begin()
    assert caught.value.should_retry is False
    await world.uploads.cancel("alpha", upload.id)
    await world.begin()
