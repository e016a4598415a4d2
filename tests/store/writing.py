"""A process that uses the store; the tests start it, talk to it by lines, and kill it.

python -m tests.store.writing save PATH     save responses for ever, 16 at once; print each id
                                            once it is acknowledged
python -m tests.store.writing lock PATH     take the write lock, print "locked", wait for stdin
python -m tests.store.writing migrate PATH  bring the schema up to date, print the revision
python -m tests.store.writing die PATH      be killed between the migration and its commit
python -m tests.store.writing full PATH     save on a disk that fills up and is freed again
    python -m tests.store.writing rights PATH   save to a file that is read-only for a while
"""

import asyncio
import os
import resource
import signal
import sqlite3
import sys
from pathlib import Path

import structlog
from alembic import command
from alembic.config import Config

from antiphon.errors import Overloaded
from antiphon.store import migrate as migration
from antiphon.store.base import StoreError
from antiphon.store.sql import SqliteStore
from tests.store.rows import response

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


def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    task, path = sys.argv[1], str(Path(sys.argv[2]).absolute())
    match task:
        case "save":
            asyncio.run(save_for_ever(path))
        case "lock":
            lock(path)
        case "migrate":
            migrate(path)
        case "die":
            die(path)
        case "full":
            asyncio.run(fill(path))
        case "rights":
            asyncio.run(lose_rights(path))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
