"""A database that is locked, full, gone or replaced while background jobs run (issue 2/8, must
show 5; R-70, R-71): 503 meanwhile, and nothing that was answered is lost."""

import resource
import shutil
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final

import httpx2
import pytest

from antiphon.testing import assert_valid_log
from tests.api.background import Background, path_of, slowly
from tests.api.raw import eventually
from tests.api.talk import client_of, create, error_of
from tests.backends.upstream import ChatUpstream, Reply
from tests.durability.verdict import assert_sound
from tests.live import CHAT_TOML, PROGRAM, LiveServer, launch, serve

JOBS: Final = 4
#: SQLite waits so long for a lock (R-70), in seconds.
PATIENCE: Final = 10.0
BODY: Final = {"model": "m", "input": "Hi", "background": True}


class Site:
    """A server whose database is in a folder of its own, with jobs that run."""

    def __init__(self, folder: Path, upstream: ChatUpstream, stack: ExitStack) -> None:
        self.folder = folder / "db"
        self.folder.mkdir()
        self.database = self.folder / "antiphon.db"
        self.upstream = upstream
        self.live: LiveServer = stack.enter_context(
            serve(
                folder,
                CHAT_TOML.format(base_url=upstream.base_url),
                {"ANTIPHON_DATABASE_URL": f"sqlite+aiosqlite:///{self.database}"},
            )
        )
        self.client = stack.enter_context(client_of(self.live))
        self.jobs = Background(self.client)

    def begin(self, pause: float) -> list[str]:
        """Jobs that say ten words, with `pause` seconds between them; each has begun."""
        self.upstream.script(slowly(*"0123456789", pause=pause))
        ids = [self.jobs.start() for _ in range(JOBS)]
        for id_ in ids:
            self.jobs.say(id_, "0")
        self.upstream.script(Reply.chat("Hello"))
        return ids

    def assert_made_once(self, ids: list[str], others: int) -> None:
        """All are whole, and the upstream was asked once for each of them."""
        for id_ in ids:
            assert self.jobs.reach(id_, "completed")["output_text"] == "0123456789"
            assert_valid_log(self.jobs.log(id_))
        assert len(self.upstream.requests) == len(ids) + others

    def ready(self) -> int:
        """What its readiness says."""
        return self.client.get(f"{self.live.root_url}/health/ready").status_code

    def assert_refuses(self) -> None:
        """A clear 503 for what must be stored; what need not be works, and the server lives."""
        reply = self.client.post("/v1/responses", json=BODY)
        assert_is_503(reply)
        unstored = create(self.client, "m", store=False)
        assert unstored["output_text"] == "Hello"
        assert self.client.get(f"{self.live.root_url}/health/live").status_code == 200
        assert self.ready() == 503


def assert_is_503(reply: httpx2.Response) -> None:
    assert reply.status_code == 503, reply.text
    assert error_of(reply)["code"] == "server_is_overloaded"
    assert int(reply.headers["retry-after"]) >= 1


class Unlock:
    """Ends a lock that began `at`, by the monotonic clock."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        self.at = time.monotonic()
        self._connection = connection

    def __call__(self) -> None:
        self._connection.execute("ROLLBACK")


@contextmanager
def locked(path: Path) -> Iterator[Unlock]:
    """Another process has the database for itself."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield Unlock(connection)


@pytest.fixture
def site(tmp_path: Path, upstream: ChatUpstream) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, upstream, stack)
    assert "Traceback" not in (tmp_path / "stderr.log").read_text()


def test_a_lock_of_four_seconds_is_waited_for(site: Site) -> None:
    """R-70: what runs goes on afterwards, and reading never stops."""
    ids = site.begin(pause=0.2)
    with ThreadPoolExecutor(1) as pool, locked(site.database) as unlock:
        posting = pool.submit(site.client.post, "/v1/responses", json=BODY)
        assert site.ready() == 503
        assert site.jobs.get(ids[0])["status"] == "in_progress"
        time.sleep(max(0, unlock.at + 4 - time.monotonic()))
        assert not posting.done()
        unlock()
        made = posting.result()
    assert made.status_code == 200
    assert site.jobs.reach(made.json()["id"], "completed")["output_text"] == "Hello"
    site.assert_made_once(ids, others=1)
    assert eventually(lambda: site.ready() == 200)
    assert_sound(site.folder)


def test_a_lock_that_stays_is_503(site: Site) -> None:
    """R-70: who asks waits for what is being written, and then for a moment more at most."""
    ids = site.begin(pause=0.1)
    with client_of(site.live, timeout=3 * PATIENCE) as client, locked(site.database) as unlock:
        time.sleep(0.5)  # by now the jobs wait to write
        assert_is_503(client.post("/v1/responses", json=BODY))
        assert PATIENCE - 1 < time.monotonic() - unlock.at < PATIENCE + 2
        assert create(client, "m", store=False)["output_text"] == "Hello"
        assert site.jobs.get(ids[0])["status"] == "in_progress"
        unlock()
    site.assert_made_once(ids, others=1)
    assert eventually(lambda: site.ready() == 200)
    assert create(site.client, "m")["output_text"] == "Hello"
    assert_sound(site.folder)


def test_a_start_on_a_locked_database_says_so(tmp_path: Path) -> None:
    """R-70: in one line, and not with a trace."""
    with serve(tmp_path):
        pass
    with locked(tmp_path / "antiphon.db"):
        refused = launch(tmp_path, [PROGRAM, "serve"])
        refused.process.communicate(timeout=6 * PATIENCE)
    assert refused.process.returncode == 2
    log = refused.log()
    assert log.splitlines()[-1].endswith("antiphon.db takes no writes (see the log).")
    assert "reason=SQLITE_BUSY" in log
    assert "Traceback" not in log


def test_a_full_disk(site: Site) -> None:
    """R-71: a limit on the size of files stands for it."""
    ids = site.begin(pause=0.1)
    pid, none = site.live.process.pid, resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (16384, none))
    time.sleep(0.3)
    site.assert_refuses()
    assert site.jobs.get(ids[0])["status"] == "in_progress"
    assert site.client.delete(path_of(ids[0])).status_code == 503
    assert site.client.post(path_of(ids[0]) + "/cancel").status_code == 503
    time.sleep(1.0)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (none, none))
    assert eventually(lambda: site.ready() == 200)
    site.assert_made_once(ids, others=1)
    assert_sound(site.folder)


def test_a_database_that_is_gone_and_comes_back(site: Site) -> None:
    ids = site.begin(pause=0.1)
    away = site.folder.with_name("away")
    site.folder.rename(away)
    time.sleep(0.3)
    site.assert_refuses()
    assert_is_503(site.client.get(path_of(ids[0])))
    time.sleep(1.0)
    assert not site.folder.exists()
    away.rename(site.folder)
    assert eventually(lambda: site.ready() == 200)
    site.assert_made_once(ids, others=1)
    assert_sound(site.folder)


def test_a_backup_that_is_put_in_its_place(site: Site) -> None:
    """What it knows is what there is: jobs that it does not know are given up, those that it has in
    the middle are made from there, and the server goes on."""
    (known,) = ids = site.begin(pause=0.2)[:1]
    backup = site.folder / "backup.db"
    with (
        closing(sqlite3.connect(site.database)) as source,
        closing(sqlite3.connect(backup)) as target,
    ):
        source.backup(target)
    unknown = site.begin(pause=5)
    for suffix in ("", "-wal", "-shm"):
        site.database.with_name(f"antiphon.db{suffix}").unlink(missing_ok=True)
    shutil.move(backup, site.database)
    for request in site.upstream.requests[-len(unknown) :]:
        assert request.left.wait(3)
    for id_ in unknown:
        assert site.client.get(path_of(id_)).status_code == 404
    final = site.jobs.reach(known, "completed")
    assert final["output_text"] in ("0123456789", "Hello")
    assert assert_valid_log(site.jobs.log(known)) == final
    assert create(site.client, "m", background=True)["status"] == "queued"
    assert ids
