"""A process that uses the store; the tests start it, talk to it by lines, and kill it.

python -m tests.store.writing save PATH     save responses for ever, 16 at once; print each id
                                            once it is acknowledged
python -m tests.store.writing lock PATH     take the write lock, print "locked", wait for stdin
python -m tests.store.writing migrate PATH  bring the schema up to date, print the revision
python -m tests.store.writing die PATH      be killed between the migration and its commit
python -m tests.store.writing full PATH     save on a disk that fills up and is freed again
python -m tests.store.writing rights PATH   save to a file that is read-only for a while
python -m tests.store.writing log PATH      own a job and write its log for ever; print the owner,
                                            the id, then each number once it is acknowledged
python -m tests.store.writing family PATH   own nothing, but have children; print the owner
python -m tests.store.writing say PATH      save a response for each line of stdin, print when
python -m tests.store.writing fill-log PATH write a log on a disk that fills up and is freed again
"""

import asyncio
import os
import random
import resource
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config

from antiphon.errors import Overloaded
from antiphon.store import migrate as migration
from antiphon.store.base import Snapshot, StoreError
from antiphon.store.sql import SqliteStore
from tests.store.rows import batch, ending, enqueue, key, log_of, response, start

NOBODY = 65534


def url(path: str) -> str:
    return f"sqlite+aiosqlite:///{path}"


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def save_for_ever(path: str) -> None:
    store = SqliteStore(url(path))
    await store.open()

    async def client() -> None:
        while True:
            row = response("x" * 3000, expires_at=None)
            await store.save(row)
            say(row.id)

    await asyncio.gather(*(client() for _ in range(16)))


def lock(path: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    say("locked")
    sys.stdin.readline()
    connection.execute("ROLLBACK")
    say("free")


def migrate(path: str) -> None:
    migration.migrate(url(path))
    say(str(migration.current_revision(url(path))))


def die(path: str) -> None:
    upgrade = command.upgrade

    def upgrade_and_die(
        config: Config, revision: str, sql: bool = False, tag: str | None = None
    ) -> None:
        upgrade(config, revision, sql, tag)
        os.kill(os.getpid(), signal.SIGKILL)

    migration.migrate(url(path), "0001")
    command.upgrade = upgrade_and_die
    migration.migrate(url(path))


async def fill(path: str) -> None:
    """A limit on the size of files stands for a full disk; its end, for room that was made."""
    store = SqliteStore(url(path))
    await store.open()
    saved, refused = [], 0
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    for _ in range(200):
        row = response("x" * 10_000, expires_at=None)
        try:
            await store.save(row)
            saved.append(row.id)
        except Overloaded:
            refused += 1
    say(f"saved {len(saved) > 0} refused {refused > 0} ready {await store.ready()}")
    readable = [await store.get("alpha", id_) for id_ in saved]
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    row = response("x" * 10_000)
    await store.save(row)
    healed = await store.ready() and await store.get("alpha", row.id) == row
    await store.close()
    with sqlite3.connect(path) as connection:
        check = connection.execute("PRAGMA integrity_check").fetchone()[0]
        rows = connection.execute("SELECT count(*) FROM responses WHERE deleted = 0").fetchone()[0]
    connection.close()
    say(f"readable {all(readable)} healed {healed} check {check} lost {len(saved) + 1 - rows}")


async def log_for_ever(path: str) -> None:
    store = SqliteStore(url(path))
    await store.open()
    owner = f"child-{os.getpid()}"
    await store.runs.beat(owner)
    if await store.runs.queued() == 0:
        await enqueue(store)
    (job,) = await store.runs.claim(owner, 1)
    say(owner)
    say(job.row.id)
    number = len(await log_of(store, job.row.id))
    while True:
        events = batch(number, number + random.randint(1, 20), owner)
        snapshot = Snapshot("in_progress", b"{}", b"p") if random.random() < 0.2 else None
        assert await store.runs.append(job.lease, events, snapshot)
        number += len(events.frames)
        say(str(number - 1))


async def have_children(path: str) -> None:
    """Whose lives are longer than their parent's: one by fork, one by exec."""
    store = SqliteStore(url(path))
    await store.open()
    owner = f"child-{os.getpid()}"
    await store.runs.beat(owner)
    if os.fork() == 0:
        signal.sigtimedwait([], 3)  # sleeps
        os._exit(0)
    await asyncio.create_subprocess_exec("sleep", "3", close_fds=False)
    say(owner)
    await asyncio.sleep(60)


async def save_when_told(path: str) -> None:
    store = SqliteStore(url(path))
    await store.open()
    say("ready")
    while sys.stdin.readline():
        await store.save(response())
        say(str(time.monotonic()))


async def fill_log(path: str) -> None:
    """Refused means that nothing of it is there, and that it can be asked for again."""
    store = SqliteStore(url(path))
    await store.open()
    job, lease = await start(store)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    number, refused = 2, 0
    for _ in range(200):
        try:
            assert await store.runs.append(lease, batch(number, number + 1, "x" * 10_000))
            number += 1
        except Overloaded:
            refused += 1
    others = 0
    for write in (
        lambda: enqueue(store, key=key()),
        lambda: store.runs.finish(lease, batch(number, number + 9, "x" * 10_000), ending()),
    ):
        try:
            await write()
        except Overloaded:
            others += 1
    contiguous = await log_of(store, job.row.id) == list(range(number))
    say(f"refused {refused > 0} {others} said {number > 10} contiguous {contiguous}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await enqueue(store, key=key())
    assert await store.runs.finish(lease, batch(number, number + 9, "x" * 10_000), ending())
    contiguous = await log_of(store, job.row.id) == list(range(number + 9))
    say(f"queued {await store.runs.queued()} contiguous {contiguous}")
    await store.close()


async def lose_rights(path: str) -> None:
    """A database that may not be written, then may again; root gives up its power first. What is
    open stays open, so the file is moved away once for the rights to count."""
    if os.geteuid() == 0:
        os.chown(os.path.dirname(path), NOBODY, NOBODY)
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    store = SqliteStore(url(path))
    await store.open()
    row = response(expires_at=None)
    await store.save(row)
    os.chmod(path, 0o400)
    os.rename(path, path + ".away")
    refused = [await refuses(store)]
    os.rename(path + ".away", path)
    refused.append(await refuses(store))
    readable = await store.get("alpha", row.id) == row
    say(f"refused {refused} ready {await store.ready()} readable {readable}")
    os.chmod(path, 0o600)
    say(f"refused {await refuses(store)} ready {await store.ready()}")
    await store.close()
    os.chmod(path, 0o400)
    try:
        await SqliteStore(url(path)).open()
    except StoreError as error:
        say(str(error))


async def refuses(store: SqliteStore) -> bool:
    try:
        await store.save(response())
    except Overloaded:
        return True
    return False


TASKS: dict[str, Callable[[str], object]] = {
    "save": lambda path: asyncio.run(save_for_ever(path)),
    "lock": lock,
    "migrate": migrate,
    "die": die,
    "full": lambda path: asyncio.run(fill(path)),
    "rights": lambda path: asyncio.run(lose_rights(path)),
    "log": lambda path: asyncio.run(log_for_ever(path)),
    "family": lambda path: asyncio.run(have_children(path)),
    "say": lambda path: asyncio.run(save_when_told(path)),
    "fill-log": lambda path: asyncio.run(fill_log(path)),
}


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    TASKS[sys.argv[1]](str(Path(sys.argv[2]).absolute()))


if __name__ == "__main__":
    main()
