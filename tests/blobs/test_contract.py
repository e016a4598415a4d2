"""What every place for blobs does: one suite, run on each (R-96, R-104, R-118)."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from antiphon.blobs.base import BlobMissing, Blobs
from tests.blobs.putting import content, listed, pieces, put

MIB = 1024 * 1024


async def test_what_is_put_comes_back(blobs: Blobs) -> None:
    assert await put(blobs, "file-1", b"one ", b"", b"two") == 7
    assert await content(blobs, "file-1") == b"one two"
    assert await content(blobs, "file-1") == b"one two"


@pytest.mark.parametrize("given", [(), (b"",)])
async def test_a_blob_may_be_empty(blobs: Blobs, given: tuple[bytes, ...]) -> None:
    assert await put(blobs, "file-1", *given) == 0
    assert await content(blobs, "file-1") == b""
    assert await content(blobs, "file-1", 0, 0) == b""


@pytest.mark.parametrize("size", [MIB - 1, MIB, MIB + 1, 8 * MIB, 17 * MIB + 5])
async def test_large_blobs(blobs: Blobs, size: int) -> None:
    whole = (bytes(range(256)) * (size // 256 + 1))[:size]
    cut = 65_537
    given = [whole[at : at + cut] for at in range(0, size, cut)]
    assert await put(blobs, "file-1", *given) == size
    assert await content(blobs, "file-1") == whole
    assert await content(blobs, "file-1", size - 3) == whole[-3:]
    assert await content(blobs, "file-1", MIB - 5, MIB - 1) == whole[MIB - 5 : MIB - 1]


@pytest.mark.parametrize(("start", "end"), [(0, 3), (2, 3), (3, 99), (6, None), (7, 9), (5, 5)])
async def test_a_range(blobs: Blobs, start: int, end: int | None) -> None:
    await put(blobs, "file-1", b"0123456")
    assert await content(blobs, "file-1", start, end) == b"0123456"[start:end]


async def test_what_is_not_there(blobs: Blobs) -> None:
    with pytest.raises(BlobMissing):
        await content(blobs, "file-1")
    with pytest.raises(BlobMissing):
        await content(blobs, "file-1", 0, 0)
    with pytest.raises(BlobMissing):
        async with blobs.local("file-1"):
            pass
    await blobs.delete("file-1")


async def test_a_deleted_blob_is_gone(blobs: Blobs) -> None:
    await put(blobs, "file-1", b"one")
    await put(blobs, "file-2", b"two")
    await blobs.delete("file-1")
    await blobs.delete("file-1")
    with pytest.raises(BlobMissing):
        await content(blobs, "file-1")
    assert await listed(blobs, time.time() + 10) == {"file-2"}


async def test_a_file_with_the_bytes(blobs: Blobs) -> None:
    await put(blobs, "file-1", b"one " * MIB, b"two")
    async with blobs.local("file-1") as path:
        assert path.read_bytes() == b"one " * MIB + b"two"
    assert await content(blobs, "file-1", 0, 4) == b"one "


class LeftError(Exception):
    """The source of the bytes broke off."""


@pytest.mark.parametrize("size", [0, 10, 20 * MIB])
async def test_what_breaks_off_leaves_nothing(blobs: Blobs, size: int) -> None:
    async def broken() -> AsyncIterator[bytes]:
        for _ in range(0, size, MIB):
            yield b"x" * min(size, MIB)
        raise LeftError

    with pytest.raises(LeftError):
        await blobs.put("file-1", broken())
    with pytest.raises(BlobMissing):
        await content(blobs, "file-1")
    assert await listed(blobs, time.time() + 10) == set()
    await put(blobs, "file-1", b"again")
    assert await content(blobs, "file-1") == b"again"


async def test_blobs_are_listed_by_age(blobs: Blobs) -> None:
    """R-104."""
    names = {f"file-{number}" for number in range(5)} | {"part_a-B"}
    for name in names:
        await put(blobs, name, b"x")
    assert await listed(blobs, time.time() + 10) == names
    assert await listed(blobs, time.time() - 10) == set()


async def test_nobody_has_listed_nothing(blobs: Blobs) -> None:
    assert await listed(blobs, time.time()) == set()


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_reader_may_leave(blobs: Blobs, tmp_path: Path) -> None:
    await put(blobs, "file-1", b"x" * (20 * MIB))
    before = _open_files()
    for _ in range(10):
        reading = blobs.read("file-1")
        assert await anext(reading)
        await reading.aclose()
    assert _open_files() <= before + 3


async def test_the_source_is_read_as_fast_as_it_is_written(blobs: Blobs) -> None:
    """Rule 3 of the port: nothing waits in memory."""
    ahead = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal ahead
        for _ in range(64):
            ahead += 1
            yield bytes(MIB)

    assert await blobs.put("file-1", source()) == 64 * MIB
    assert ahead == 64
    reading = blobs.read("file-1")
    assert len(await anext(reading)) <= 8 * MIB
    await reading.aclose()


async def test_pieces_are_put_together(blobs: Blobs) -> None:
    many = [bytes([number % 256]) for number in range(5_000)]
    assert await blobs.put("file-1", pieces(*many)) == 5_000
    assert await content(blobs, "file-1") == b"".join(many)
