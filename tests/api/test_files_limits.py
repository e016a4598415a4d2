"""Files under load and in trouble: size, quota, disk, memory, clients and servers that die (R-102,
R-104, R-118)."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2
import pytest

from antiphon.blobs.local import LocalBlobs
from antiphon.engine.orphans import Orphans
from antiphon.store.sql import SqliteStore
from tests.api.forms import TYPE, field, file, form, made, post, uploaded
from tests.api.raw import eventually, read_all, replies
from tests.api.talk import client_of, error_of
from tests.blobs.s3 import BUCKET, serving
from tests.live import KEY, LiveServer, launch, serve

MIB: Final = 1024 * 1024
PURPOSE: Final = field("purpose", "user_data")


def stored(folder: Path) -> list[Path]:
    """All files with bytes, temporary ones too."""
    return [path for path in (folder / "data" / "files").rglob("*") if path.is_file()]


def listed(client: httpx2.Client) -> list[str]:
    return [one["id"] for one in made(client.get("/v1/files"))["data"]]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[LiveServer]:
    """A file has 1 MiB, a project 2 MiB."""
    env = {"ANTIPHON_MAX_FILE_BYTES": str(MIB), "ANTIPHON_MAX_PROJECT_BYTES": str(2 * MIB)}
    with serve(tmp_path, None, env) as live:
        yield live


@pytest.mark.parametrize("chunked", [True, False])
def test_a_file_that_is_too_large(small: LiveServer, chunked: bool) -> None:
    body = form(PURPOSE, file(bytes(MIB + 1)))
    with client_of(small) as client:
        made(post(client, PURPOSE, file(bytes(MIB))))
        reply = client.post(
            "/v1/files", content=iter([body]) if chunked else body, headers={"content-type": TYPE}
        )
        assert reply.status_code == 413
        error = error_of(reply)
        assert error["message"] == f"The file is too large: the limit is {MIB} bytes."
        assert error["code"] == "request_too_large"
        assert len(listed(client)) == 1
    assert len(stored(small.folder)) == 1


def test_what_is_said_to_be_too_large_is_not_read(small: LiveServer) -> None:
    with _connected(small) as sock:
        sock.sendall(_head(10**12))
        [reply] = replies(read_all(sock))
    assert reply.status == 413
    assert reply.headers["connection"] == "close"


def test_what_follows_the_form_is_bounded(small: LiveServer) -> None:
    body = form(PURPOSE, file(b"x")) + bytes(3 * MIB)
    with client_of(small) as client:
        reply = client.post("/v1/files", content=iter([body]), headers={"content-type": TYPE})
        assert reply.status_code == 413
        assert listed(client) == []
    assert stored(small.folder) == []


def test_a_project_has_so_many_bytes(small: LiveServer) -> None:
    """R-102; parts count, and other projects do not."""
    with client_of(small) as client:
        first = uploaded(client, bytes(MIB))["id"]
        upload = {"filename": "a", "bytes": MIB, "mime_type": "a/b", "purpose": "user_data"}
        id_ = made(client.post("/v1/uploads", json=upload))["id"]
        path = f"/v1/uploads/{id_}/parts"
        part = made(post(client, file(bytes(MIB), name="data"), path=path))["id"]
        for reply in (
            post(client, PURPOSE, file(b"x")),
            post(client, file(b"x", name="data"), path=path),
        ):
            assert reply.status_code == 413
            assert error_of(reply)["code"] == "storage_quota_exceeded"
        made(client.post(f"/v1/uploads/{id_}/complete", json={"part_ids": [part]}))
        client.delete(f"/v1/files/{first}")
        uploaded(client, b"x")
        assert len(listed(client)) == 2
    assert len(stored(small.folder)) == 2


def test_a_full_disk(tmp_path: Path) -> None:
    """Without a word about the disk of this machine (R-129)."""
    with serve(tmp_path, None, {"ANTIPHON_MIN_FREE_DISK": str(2**60)}) as live:
        with client_of(live) as client:
            reply = post(client, PURPOSE, file(b"x"))
            assert reply.status_code == 503
            assert "too little space" in error_of(reply)["message"]
            assert reply.headers["x-should-retry"] == "false"
            assert listed(client) == []
        assert stored(tmp_path) == []


@contextmanager
def _connected(live: LiveServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as sock:
        yield sock


def _head(length: int) -> bytes:
    return (
        f"POST /v1/files HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {KEY}\r\n"
        f"Content-Type: {TYPE}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def _half(live: LiveServer, sock: socket.socket) -> None:
    """Send half of a file, and wait until some of it is on the disk."""
    body = form(PURPOSE, file(bytes(8 * MIB)))
    sock.sendall(_head(len(body)) + body[: 4 * MIB])
    assert eventually(lambda: any(path.stat().st_size >= MIB for path in stored(live.folder)))


def test_who_leaves_half_way_leaves_nothing(small: LiveServer) -> None:
    with serve(small.folder) as live, client_of(live) as client:
        with _connected(live) as sock:
            _half(live, sock)
        assert eventually(lambda: stored(live.folder) == [])
        assert listed(client) == []
    assert "Traceback" not in live.log()


def test_a_client_that_stands_still(tmp_path: Path) -> None:
    """R-18: 408, and nothing is left."""
    with serve(tmp_path, None, {"ANTIPHON_BODY_TIMEOUT": "0.5"}) as live:
        with _connected(live) as sock:
            _half(live, sock)
            [reply] = replies(read_all(sock))
        assert reply.status == 408
        assert eventually(lambda: stored(tmp_path) == [])


def test_a_kill_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    """R-104: nothing that can be seen, and the sweep takes the rest."""
    with serve(tmp_path) as live, client_of(live) as client, _connected(live) as sock:
        whole = uploaded(client, b"whole")["id"]
        _half(live, sock)
        live.kill()
    assert len(stored(tmp_path)) == 2
    with serve(tmp_path) as live, client_of(live) as client:
        assert listed(client) == [whole]
        assert client.get(f"/v1/files/{whole}/content").content == b"whole"
    old = time.time() - 7200
    for path in stored(tmp_path):
        os.utime(path, (old, old))
    asyncio.run(_collected(tmp_path))
    assert [path.name for path in stored(tmp_path)] == [whole]


async def _collected(folder: Path) -> None:
    """Two rounds."""
    store = SqliteStore(f"sqlite+aiosqlite:///{folder}/antiphon.db")
    blobs = LocalBlobs(folder / "data" / "files")
    await store.open()
    orphans = Orphans(store.files, store.containers, store.images, blobs)
    for _ in range(2):
        await orphans.collect()
    await blobs.aclose()
    await store.close()


def test_large_files_are_not_held_in_memory(tmp_path: Path) -> None:
    """300 MiB up and down; the reader is slow at first."""
    size, piece = 300 * MIB, os.urandom(MIB)
    head, tail = form(PURPOSE, file(b"|")).split(b"|")

    def body() -> Iterator[bytes]:
        yield head
        for _ in range(size // MIB):
            yield piece
        yield tail

    with serve(tmp_path) as live, client_of(live, timeout=120) as client:
        uploaded(client, b"warm")
        before = live.memory("VmRSS")
        length = str(len(head) + size + len(tail))
        headers = {"content-type": TYPE, "content-length": length}
        new = made(client.post("/v1/files", content=body(), headers=headers))
        assert new["bytes"] == size
        received = 0
        with client.stream("GET", f"/v1/files/{new['id']}/content") as reply:
            for chunk in reply.iter_raw():
                if received == 0:
                    time.sleep(1)
                received += len(chunk)
        assert received == size
        assert live.memory("VmHWM") - before < 48 * MIB


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    with serve(tmp_path) as live, client_of(live) as client:
        id_ = uploaded(client, bytes(32 * MIB))["id"]

        def open_files() -> int:
            fds = Path(f"/proc/{live.process.pid}/fd")
            return sum("data/files" in os.readlink(fd) for fd in fds.iterdir() if fd.is_symlink())

        for _ in range(5):
            with client.stream("GET", f"/v1/files/{id_}/content") as reply:
                assert next(reply.iter_raw())
        assert eventually(lambda: open_files() == 0)
        # Somebody deletes it while another reads: that one goes on.
        with client.stream("GET", f"/v1/files/{id_}/content") as reply:
            with client_of(live) as second:
                made(second.delete(f"/v1/files/{id_}"))
            assert len(reply.read()) == 32 * MIB
        assert stored(tmp_path) == []


def test_bytes_that_are_gone_are_a_file_that_is_not_there(tmp_path: Path) -> None:
    with serve(tmp_path) as live, client_of(live) as client:
        id_ = uploaded(client, b"x")["id"]
        [path] = stored(tmp_path)
        path.unlink()
        reply = client.get(f"/v1/files/{id_}/content")
        assert (reply.status_code, error_of(reply)["param"]) == (404, "id")


def test_a_memory_store_leaves_no_files(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    env = {"ANTIPHON_DATABASE_URL": "memory://", "TMPDIR": str(tmp_path / "tmp")}
    with serve(tmp_path, None, env) as live, client_of(live) as client:
        id_ = uploaded(client, b"x")["id"]
        assert client.get(f"/v1/files/{id_}/content").content == b"x"
        [folder] = (tmp_path / "tmp").iterdir()
        assert folder.stat().st_mode & 0o077 == 0
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "data").exists()


def test_files_in_a_bucket(tmp_path: Path) -> None:
    with serving() as bucket:
        env = {
            "ANTIPHON_BLOBS": f"s3://{BUCKET}/here",
            "AWS_ENDPOINT_URL": bucket.endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
        with serve(tmp_path, None, env) as live, client_of(live) as client:
            whole = os.urandom(20 * MIB)
            id_ = uploaded(client, whole)["id"]
            database = (tmp_path / "data" / "database-id").read_text().strip()
            assert list(bucket.objects) == [f"here/{database}/{id_}"]
            assert client.get(f"/v1/files/{id_}/content").content == whole
            bucket.trouble = 403
            reply = client.get(f"/v1/files/{id_}/content")
            assert reply.status_code == 503
            assert BUCKET not in reply.text
            assert post(client, PURPOSE, file(b"x")).status_code == 503
            bucket.trouble = None
            made(client.delete(f"/v1/files/{id_}"))
            assert bucket.objects == {}
        assert "Traceback" not in live.log()


@pytest.mark.parametrize(
    ("place", "database", "said"),
    [
        ("gs://x", "sqlite:///a.db", "it is s3://BUCKET/PREFIX, or empty"),
        ("s3://x/y", "memory://", "a memory store would forget what is there"),
    ],
)
def test_a_place_that_is_none(tmp_path: Path, place: str, database: str, said: str) -> None:
    """R-132: said at start, in one line."""
    env = {"ANTIPHON_BLOBS": place, "ANTIPHON_DATABASE_URL": database}
    started = launch(tmp_path, ["antiphon.cli", "serve"], None, env)
    assert started.process.wait(20) == 2
    assert f"ANTIPHON_BLOBS: {said}" in started.log()
    started.stop()
