"""``/health``: what an operator's machines are told (R-122)."""

import asyncio
import contextlib
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from structlog.testing import capture_logs

from antiphon.api.health import InThread
from antiphon.app import Antiphon
from antiphon.engine import loops
from antiphon.settings import Settings
from antiphon.store.migrate import downgrade
from tests.api.raw import eventually
from tests.api.talk import client_of
from tests.live import serve


@contextlib.asynccontextmanager
async def asking(antiphon: Antiphon) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server that was not started, with its store open."""
    transport = httpx2.ASGITransport(app=antiphon.asgi)
    await antiphon.store.open()
    async with httpx2.AsyncClient(transport=transport, base_url="http://antiphon") as client:
        yield client
    await antiphon.router.aclose()
    await antiphon.store.close()


def server(folder: Path, url: str | None = None, **settings: Any) -> Antiphon:
    settings["database_url"] = url or f"sqlite+aiosqlite:///{folder}/antiphon.db"
    return Antiphon(Settings(config=folder / "none.toml", discover=False, **settings))


async def test_a_sweep_that_breaks_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R-137: whatever it was, and the log says so."""
    antiphon = server(tmp_path, "memory://")
    monkeypatch.setattr(loops, "PAUSE", 0.01)
    swept = asyncio.Event()
    broken = [ZeroDivisionError()]

    async def sweep(_now: int, _limit: int) -> int:
        if broken:
            raise broken.pop()
        swept.set()
        return 0

    monkeypatch.setattr(antiphon._library, "sweep", sweep)
    with capture_logs() as logs:
        async with antiphon.working():
            await asyncio.wait_for(swept.wait(), 10)
    assert [entry["loop"] for entry in logs if entry["event"] == "loop_broke"] == ["sweep"]


async def test_ready_until_the_shutdown_begins(tmp_path: Path) -> None:
    """R-73, R-122: no new requests for a server that turns them away; it lives on."""
    antiphon = server(tmp_path, "memory://")
    async with asking(antiphon) as client:
        ready = await client.get("/health/ready")
        backends = {"ok": 1, "resting": 0}
        assert (ready.status_code, ready.json()) == (
            200,
            {"status": "ready", "backends": backends},
        )
        antiphon.engine.stopping = True
        refused = await client.get("/health/ready")
        assert (refused.status_code, refused.json()) == (503, {"status": "shutting down"})
        assert (await client.get("/health/live")).status_code == 200


async def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """R-71, R-122, R-129: what is missing, not where."""
    async with asking(server(tmp_path, min_free_disk=1 << 60)) as client:
        refused = await client.get("/health/ready")
        assert refused.status_code == 503
        assert refused.json() == {"status": "not ready", "failed": ["disk"]}
        assert (await client.get("/health/live")).status_code == 200
    async with asking(server(tmp_path, min_free_disk=0)) as client:
        assert (await client.get("/health/ready")).status_code == 200


async def test_an_older_schema_is_named(tmp_path: Path) -> None:
    """R-122: somebody restored an old backup beside the server. A newer schema is no trouble: that
    is how versions are changed while serving (R-74)."""
    antiphon = server(tmp_path)
    async with asking(antiphon) as client:
        assert (await client.get("/health/ready")).status_code == 200
        with contextlib.closing(sqlite3.connect(tmp_path / "antiphon.db")) as database:
            (now,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
            for revision, status in (("9999", 200), ("0001", 503), (now, 200)):
                database.execute("UPDATE alembic_version SET version_num = ?", [revision])
                database.commit()
                answer = await client.get("/health/ready")
                assert answer.status_code == status, revision
                if status == 503:
                    assert answer.json()["failed"] == ["schema"]


def test_a_downgraded_database_is_older(tmp_path: Path) -> None:
    """The same with a real downgrade, and a real server."""
    with serve(tmp_path) as live, client_of(live) as client:
        assert client.get("/health/ready").status_code == 200
        downgrade(f"sqlite+aiosqlite:///{tmp_path}/antiphon.db", "0001")
        assert "schema" in client.get("/health/ready").json()["failed"]


@pytest.mark.parametrize("gone", ["antiphon.db", "."])
def test_a_database_that_is_gone_is_named(tmp_path: Path, gone: str) -> None:
    """R-122: also when the whole folder is."""
    folder = tmp_path / "kept"
    folder.mkdir()
    env = {"ANTIPHON_DATABASE_URL": f"sqlite+aiosqlite:///{folder}/antiphon.db"}
    with serve(tmp_path, env=env) as live, client_of(live) as client:
        away = tmp_path / "away"
        (folder / gone).resolve().rename(away)
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert {"database", "schema"} <= set(answer.json()["failed"])
        assert str(tmp_path) not in answer.text
        assert client.get("/health/live").status_code == 200
        away.rename((folder / gone) if gone != "." else folder)
        assert eventually(lambda: client.get("/health/ready").status_code == 200)


def test_a_database_that_is_locked_is_named_in_time(tmp_path: Path) -> None:
    """R-70, R-122: the answer does not wait for the lock."""
    with serve(tmp_path) as live, client_of(live) as client:
        with contextlib.closing(sqlite3.connect(tmp_path / "antiphon.db")) as database:
            database.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            answer = client.get("/health/ready")
            assert time.monotonic() - began < 4
            assert answer.json() == {"status": "not ready", "failed": ["database"]}
        assert eventually(lambda: client.get("/health/ready").status_code == 200)


async def test_a_disk_that_hangs_is_looked_at_once() -> None:
    """R-122: however often somebody asks."""
    looks = 0
    done = threading.Event()

    def look() -> bool:
        nonlocal looks
        looks += 1
        return done.wait(10)

    check = InThread(look)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await check()
    assert looks == 1
    done.set()
    assert await check()


async def test_a_look_that_fails_is_bad() -> None:
    def look() -> bool:
        raise OSError("no such folder")

    assert not await InThread(look)()
