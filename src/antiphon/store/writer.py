"""The one writer of a SQLite file: a thread that commits in groups (design §7, decision 0003).

Rules
1. Everything that is queued when the thread wakes goes into one transaction, in the order in which
   it was asked for. A future is resolved after its commit, all of a group in one call to the loop.
2. A group that holds a durable write is flushed to the disk (synchronous=FULL); others are not.
   Under load a group waits a few milliseconds for company: a commit costs about as much as five
   rows, and every one of them takes the interpreter from the event loop. A lone write never waits.
3. A mistaken write fails alone. Trouble fails the group with 503, and the next group finds a new
   connection: the writer heals by itself.
4. A write is a statement, or a `Step`: several that belong together, with an answer. A step is
   undone alone when it is mistaken, and may be run twice: it does nothing but ask the connection.
5. Only this connection writes; so only this one checkpoints.
"""

import asyncio
import math
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeAlias, TypeVar

import structlog

from antiphon.store import sqlite
from antiphon.store.turns import Turns

Value: TypeAlias = str | int | bytes | None
#: What is bound to a statement: by name or by place.
Parameters: TypeAlias = Mapping[str, Value] | Sequence[Value]
_T = TypeVar("_T")
Step: TypeAlias = Callable[[sqlite3.Connection], _T]
#: The number of rows that changed or the answer of a step; or why there is none.
Outcome: TypeAlias = object | Exception

#: More than this waiting (bytes of rows) and new writes are turned away: a lock of 10 s at full
#: load must not fill the memory (lessons §1 rule 5).
MOST_QUEUED: Final = 64 * 1024 * 1024
#: Seconds that a group waits for each write but one of the group before it, and at most.
_LINGER_EACH: Final = 0.0005
_LINGER_MOST: Final = 0.005
#: Seconds that a group waits for a lock while the store is in trouble.
_SHORT_PATIENCE: Final = 1.0
#: What a queued write weighs beside its row, in bytes.
_OVERHEAD: Final = 1024
#: What may go wrong in a step beside its statements.
_MISTAKES: Final = (*sqlite.MISTAKES, LookupError, AttributeError)

#: FULL is what `_full` starts from; deleted text is overwritten (R-59); a log that grew under load
#: is cut back to this many bytes; the first question opens the log.
_SETTINGS: Final = """
    PRAGMA synchronous = FULL;
    PRAGMA secure_delete = ON;
    PRAGMA journal_size_limit = 67108864;
    SELECT count(*) FROM sqlite_master;
"""

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class Write:
    """One statement or step; `weight` in bytes; `counted`: the number of rows is of interest;
    `told`: those who wait for news hear of its commit."""

    work: str | Step[object]
    parameters: Parameters
    durable: bool
    counted: bool
    told: bool
    weight: int
    future: "asyncio.Future[Any]"


class Writer:
    """Writes to the file at `path` in a thread of its own, from `start` to `close`."""

    def __init__(self, path: Path, on_news: Callable[[], None] = lambda: None) -> None:
        """`on_news` is called on the loop after the commit of a write that is `told`."""
        self._path = path
        self._on_news = on_news
        self._turns = Turns(path)
        self._queue: SimpleQueue[Write | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: sqlite3.Connection | None = None
        self._identity: sqlite.Identity | None = None
        self._full = False
        #: Seconds that the connection waits for a lock.
        self._wait = 0.0
        self._queued = 0
        self._in_trouble = False
        #: Seconds to wait for company before the next group is closed.
        self._linger = 0.0
        #: Transactions committed so far.
        self.commits = 0

    async def start(self) -> None:
        """Connect, before any reader does: the side files of SQLite get the rights of who comes
        first. Then start the thread; futures belong to the running loop."""
        self._loop = asyncio.get_running_loop()
        with suppress(*sqlite.TROUBLE):  # the first write will say it
            await asyncio.to_thread(self._connect)
        self._thread = threading.Thread(
            target=self._run, args=(self._loop,), name="store-writer", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        """Write what is queued, then stop."""
        thread, self._thread, self._loop = self._thread, None, None
        if thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(thread.join)

    def write(
        self,
        sql: str,
        parameters: Parameters,
        *,
        durable: bool,
        counted: bool = True,
        told: bool = False,
        weight: int = 0,
    ) -> "asyncio.Future[int]":
        """Ask for a write. The future gives the number of rows that it changed (if `counted`)."""
        loop = self._open_loop()
        future: asyncio.Future[int] = loop.create_future()
        self._put(Write(sql, parameters, durable, counted, told, weight, future))
        return future

    def run(
        self, step: Step[_T], *, durable: bool, told: bool = True, weight: int = 0
    ) -> "asyncio.Future[_T]":
        """Ask for a step. The future gives its answer."""
        loop = self._open_loop()
        future: asyncio.Future[_T] = loop.create_future()
        self._put(Write(step, (), durable, True, told, weight, future))
        return future

    def _open_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None or self._queued > MOST_QUEUED:
            raise sqlite.overloaded()
        return self._loop

    def _put(self, write: Write) -> None:
        write.weight += _OVERHEAD
        self._queued += write.weight
        self._queue.put(write)

    # The loop's side ends here; below is the thread's.

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        while group := self._next_group():
            loop.call_soon_threadsafe(self._resolve, group, self._commit(group))
        # The last connection to close folds the log into the file.
        with suppress(*sqlite.TROUBLE), self._turns.turn():
            self._disconnect()
        self._disconnect()
        self._turns.close()

    def _next_group(self) -> list[Write]:
        """All that is queued, waiting for the first; empty at the end."""
        group: list[Write] = []
        write = self._queue.get()
        time.sleep(self._linger)
        while write is not None:
            group.append(write)
            if self._queue.empty():
                break
            write = self._queue.get()
        else:
            self._queue.put(None)
            if not group:
                return []
        self._linger = min(_LINGER_MOST, _LINGER_EACH * (len(group) - 1))
        return group

    def _commit(self, group: list[Write]) -> list[Outcome]:
        began = time.monotonic()
        try:
            with self._turns.turn(self._patience):
                connection = self._connect()
                self._bound_wait(connection, time.monotonic() - began)
                self._begin(connection, durable=any(write.durable for write in group))
                outcomes = _apply(connection, group)
                connection.execute("COMMIT")
        except sqlite.TROUBLE as error:
            self._report(error)
            self._disconnect()
            return [sqlite.overloaded() for _ in group]
        self.commits += 1
        if self._in_trouble:
            self._in_trouble = False
            _log.info("store_healed", path=str(self._path))
        return outcomes

    @property
    def _patience(self) -> float:
        """Seconds to wait for a lock. Who was queued behind a group that has waited in vain has
        waited as long (R-70)."""
        return min(sqlite.BUSY_TIMEOUT, _SHORT_PATIENCE if self._in_trouble else math.inf)

    def _bound_wait(self, connection: sqlite3.Connection, waited: float) -> None:
        """Who has `waited` for the turn waits the less for SQLite's lock: whoever had the turn
        waited for the same lock."""
        wait = round(max(self._patience - waited, min(self._patience, _SHORT_PATIENCE)), 1)
        if wait != self._wait:
            connection.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}")
            self._wait = wait

    def _connect(self) -> sqlite3.Connection:
        found = sqlite.identity(self._path)
        if self._connection is not None and found == self._identity:
            return self._connection
        self._disconnect()
        self._wait = self._patience
        self._connection = sqlite.connect(self._path, "rw", self._wait)
        self._identity = found
        self._full = True
        self._connection.executescript(_SETTINGS)
        return self._connection

    def _begin(self, connection: sqlite3.Connection, *, durable: bool) -> None:
        if durable != self._full:
            connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._full = durable
        connection.execute("BEGIN IMMEDIATE")

    def _disconnect(self) -> None:
        """Close; what was not committed is rolled back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _report(self, error: BaseException) -> None:
        if not self._in_trouble:
            self._in_trouble = True
            _log.error("store_trouble", path=str(self._path), reason=sqlite.reason(error))

    def _resolve(self, group: list[Write], outcomes: list[Outcome]) -> None:
        """On the loop: answer everyone who still waits."""
        news = False
        for write, outcome in zip(group, outcomes, strict=True):
            self._queued -= write.weight
            news |= write.told and not isinstance(outcome, Exception)
            if write.future.done():
                continue
            if isinstance(outcome, Exception):
                write.future.set_exception(outcome)
            else:
                write.future.set_result(outcome)
        if news:
            self._on_news()


def _apply(connection: sqlite3.Connection, group: list[Write]) -> list[Outcome]:
    """Run all in the open transaction: together, or one by one when one of them is mistaken."""
    outcomes: list[Outcome] = []
    try:
        for (work, counted), run in groupby(group, key=lambda write: (write.work, write.counted)):
            if not isinstance(work, str):
                outcomes += [_take(connection, work) for _ in run]
            elif counted:
                outcomes += [connection.execute(work, write.parameters).rowcount for write in run]
            else:
                rows = [write.parameters for write in run]
                connection.executemany(work, rows)
                outcomes += [1] * len(rows)
    except sqlite.MISTAKES:
        connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        return [_apply_alone(connection, write) for write in group]
    return outcomes


def _apply_alone(connection: sqlite3.Connection, write: Write) -> Outcome:
    """A mistaken statement changes nothing and leaves the transaction open."""
    if not isinstance(write.work, str):
        return _take(connection, write.work)
    try:
        return connection.execute(write.work, write.parameters).rowcount
    except sqlite.MISTAKES as error:
        return error


def _take(connection: sqlite3.Connection, step: Step[object]) -> Outcome:
    """A mistaken step is undone whole."""
    connection.execute("SAVEPOINT step")
    try:
        answer = step(connection)
    except _MISTAKES as error:
        connection.execute("ROLLBACK TO step")
        connection.execute("RELEASE step")
        return error
    connection.execute("RELEASE step")
    return answer
