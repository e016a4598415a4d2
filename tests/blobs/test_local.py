"""Blobs in a folder: what only they have (R-96, R-97, R-104, R-118)."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from structlog.testing import capture_logs

from antiphon.blobs.base import BlobMissing
from antiphon.blobs.local import ABANDONED, LocalBlobs, _Opened
from antiphon.errors import Overloaded
from tests.blobs.putting import content, listed, put

MIB: Final = 1024 * 1024


@pytest.fixture
async def blobs(tmp_path: Path) -> AsyncIterator[LocalBlobs]:
    made = LocalBlobs(tmp_path / "files")
    with capture_logs():
        yield made
    await made.aclose()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "id_", ["", "..", "../x", "a/b", "a\\b", "/etc/passwd", "a.b", "a\0", "é", "x" * 129, "a\n"]
)
async def test_only_an_id_is_a_name(blobs: LocalBlobs, id_: str, tmp_path: Path) -> None:
    """R-96."""
    with pytest.raises(ValueError, match="not the id"):
        await put(blobs, id_, b"x")
    with pytest.raises(ValueError, match="not the id"):
        await content(blobs, id_)
    with pytest.raises(ValueError, match="not the id"):
        await blobs.delete(id_)
    assert files(tmp_path) == []


async def test_only_the_owner_can_read_them(blobs: LocalBlobs, tmp_path: Path) -> None:
    await put(blobs, "file-1", b"x")
    [path] = files(tmp_path)
    assert path.name == "file-1"
    for one in (path, path.parent, path.parent.parent):
        assert one.stat().st_mode & 0o077 == 0


async def test_a_link_is_not_followed(blobs: LocalBlobs, tmp_path: Path) -> None:
    """R-97: neither in the place of a blob nor of a folder."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    await put(blobs, "file-1", b"x")
    [path] = files(tmp_path / "files")
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(Overloaded):
        await content(blobs, "file-1")
    with pytest.raises(Overloaded):
        async with blobs.local("file-1"):
            pass
    path.unlink()
    path.parent.rmdir()
    outside = tmp_path / "files-and-more"
    outside.mkdir()
    (outside / "file-1").write_bytes(b"precious")
    path.parent.symlink_to(outside)
    with pytest.raises(Overloaded):
        await content(blobs, "file-1")
    with pytest.raises(Overloaded):
        await put(blobs, "file-1", b"x")
    with pytest.raises(Overloaded):
        await blobs.delete("file-1")
    assert (outside / "file-1").read_bytes() == b"precious"
    assert await listed(blobs, time.time() + 10) == set()


async def test_what_was_abandoned_goes_with_a_listing(blobs: LocalBlobs, tmp_path: Path) -> None:
    await put(blobs, "file-1", b"x")
    [path] = files(tmp_path)
    old, young = path.with_name(".new-1"), path.with_name(".new-2")
    for one in (old, young):
        one.write_bytes(b"half")
    before = time.time() - ABANDONED - 60
    os.utime(old, (before, before))
    assert await listed(blobs, time.time() + 10) == {"file-1"}
    assert sorted(files(tmp_path)) == [young, path]


async def test_who_is_cancelled_leaves_nothing(blobs: LocalBlobs, tmp_path: Path) -> None:
    """In whatever step: the file is closed behind it."""
    for wait in (0, 0.0005, 0.002, 0.01, 0.05):

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield bytes(MIB)

        putting = asyncio.create_task(blobs.put("file-1", endless()))
        await asyncio.sleep(wait)
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert files(tmp_path) == []
    await put(blobs, "file-1", bytes(MIB))
    reading = asyncio.create_task(content(blobs, "file-1"))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


class Gate:
    """Holds threads up that open a blob; `opened`: descriptors."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._real = os.open
        self.opened: list[int] = []
        self.reached = threading.Event()
        self.free = threading.Event()
        patch.setattr(os, "open", self._open)

    def _open(self, path: Path, flags: int) -> int:
        self.reached.set()
        assert self.free.wait(10)
        self.opened.append(self._real(path, flags))
        return self.opened[-1]


@pytest.mark.parametrize("way", ["read", "local"])
async def test_who_leaves_while_a_blob_is_opened_leaves_it_closed(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """R-58: else the server has no descriptors left some day."""
    await put(blobs, "file-1", b"x")
    gate = Gate(monkeypatch)

    async def use() -> None:
        if way == "read":
            await content(blobs, "file-1")
        else:
            async with blobs.local("file-1"):
                raise AssertionError

    using = asyncio.create_task(use())
    assert await asyncio.to_thread(gate.reached.wait, 10)
    using.cancel()
    await asyncio.sleep(0.05)  # so the last step is behind the one that runs
    gate.free.set()
    with pytest.raises(asyncio.CancelledError):
        await using
    await blobs.aclose()  # what was begun is finished
    (fd,) = gate.opened
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_what_is_closed_is_not_opened(blobs: LocalBlobs, tmp_path: Path) -> None:
    """A step that a thread has taken, but not begun with, when somebody leaves."""
    await put(blobs, "file-1", b"x")
    [path] = files(tmp_path)
    opened = _Opened(path, tmp_path)
    opened.close()
    opened.open()
    assert opened.read(0, 1) == b""


async def test_a_place_that_is_gone(blobs: LocalBlobs, tmp_path: Path) -> None:
    """The answer says nothing about this machine, the log does (R-129)."""
    (tmp_path / "files").write_text("no folder")
    with capture_logs() as logs, pytest.raises(Overloaded) as caught:
        await put(blobs, "file-1", b"x")
    assert str(tmp_path) not in str(caught.value.body())
    assert [line["event"] for line in logs] == ["blobs_trouble"]
    assert caught.value.retry_after == 1


async def test_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    blobs = LocalBlobs(tmp_path / "files", min_free=free - 64 * MIB)
    await put(blobs, "file-1", b"x")
    full = LocalBlobs(tmp_path / "files", min_free=2**60)
    with capture_logs(), pytest.raises(Overloaded, match="too little space"):
        await put(full, "file-2", b"x")
    assert [path.name for path in files(tmp_path)] == ["file-1"]
    for one in (blobs, full):
        await one.aclose()


async def test_the_loop_never_waits_for_the_disk(
    blobs: LocalBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-118."""
    threads: set[str] = set()
    for name in ("open", "write", "pread", "fsync", "statvfs"):
        real = vars(os)[name]

        def watched(*given: object, _real: object = real, **more: object) -> object:
            threads.add(threading.current_thread().name)
            return _real(*given, **more)  # type: ignore[operator]

        monkeypatch.setattr(os, name, watched)
    await put(blobs, "file-1", bytes(3 * MIB))
    assert len(await content(blobs, "file-1")) == 3 * MIB
    assert all(name.startswith("blobs") for name in threads)
    assert threads


async def test_after_the_end(tmp_path: Path) -> None:
    """What still comes is refused, and leaves nothing."""
    blobs = LocalBlobs(tmp_path / "files")
    await put(blobs, "file-1", b"x" * 3 * MIB)
    reading = blobs.read("file-1")
    assert await anext(reading)
    await blobs.aclose()
    await reading.aclose()
    with pytest.raises(RuntimeError):
        await put(blobs, "file-2", b"x")
    assert [path.name for path in files(tmp_path)] == ["file-1"]


async def test_a_blob_that_goes_while_it_is_read(blobs: LocalBlobs) -> None:
    await put(blobs, "file-1", bytes(3 * MIB))
    reading = blobs.read("file-1")
    size = len(await anext(reading))
    await blobs.delete("file-1")
    async for piece in reading:
        size += len(piece)
    assert size == 3 * MIB
    with pytest.raises(BlobMissing):
        await content(blobs, "file-1")
