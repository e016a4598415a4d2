"""What the SQLite store costs: CPU of the whole process per operation, medians of five rounds.

    python -m tests.store.cost DIRECTORY

The rows are 2.9 KB, as a short answer with one tool echoed; 64 callers at once, each waiting for
its own commit. Decision 0003 holds the figures.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import count, cycle
from pathlib import Path

import structlog

from antiphon.store.base import Batch, Job, ResponseRow
from antiphon.store.bell import RECENT
from antiphon.store.sql import SqliteStore
from tests.store.rows import (
    NOW,
    batch,
    ending,
    enqueue,
    frame,
    item_id,
    new_partition,
    response,
)

CALLERS = 64
EACH = 100
ROUNDS = 5


LIKE = response("x" * 300, expires_at=2**31)
BODY = LIKE.body[:-1] + b',"pad":"' + b"y" * (2600 - len(LIKE.body)) + b'"}'


def row(previous: str | None = None) -> ResponseRow:
    id_ = item_id(new_partition(), "resp")
    return ResponseRow(id_, "alpha", "completed", NOW, 2**31, previous, BODY, LIKE.input)


async def cost(label: str, operations: int, work: Callable[[], Awaitable[object]]) -> None:
    cpu, wall = [], []
    for _ in range(ROUNDS):
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        await work()
        cpu.append((time.process_time() - cpu_start) / operations * 1e6)
        wall.append((time.perf_counter() - wall_start) / operations * 1e6)
    sys.stdout.write(
        f"{label:44} {statistics.median(cpu):8.1f} µs CPU {statistics.median(wall):9.1f} µs wall\n"
    )


async def at_once(step: Callable[[], Awaitable[object]], each: int = EACH) -> None:
    async def caller() -> None:
        for _ in range(each):
            await step()

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


async def measure(directory: Path) -> None:
    store = SqliteStore(f"sqlite+aiosqlite:///{directory / 'cost.db'}")
    await store.open()

    async def nothing() -> None:
        row()
        await asyncio.sleep(0)

    async def one_by_one() -> None:
        for _ in range(200):
            await store.save(row())

    await cost("making a row (part of the next lines)", CALLERS * EACH, lambda: at_once(nothing))
    commits = store.commits
    await cost("save, 64 at once", CALLERS * EACH, lambda: at_once(lambda: store.save(row())))
    rows = ROUNDS * CALLERS * EACH / (store.commits - commits)
    sys.stdout.write(f"{'rows in a commit':44} {rows:8.1f}\n")
    await cost("save, one at a time", 200, one_by_one)
    chain = [row()]
    for _ in range(999):
        chain.append(row(chain[-1].id))
    await asyncio.gather(*(store.save(turn) for turn in chain))
    last = chain[-1].id
    await cost("get, 64 at once", CALLERS * EACH, lambda: at_once(lambda: store.get("alpha", last)))
    await cost("chain of 10 turns", 1, lambda: store.chain("alpha", chain[9].id))
    await cost("chain of 1,000 turns", 1, lambda: store.chain("alpha", last))
    await measure_runs(store)
    await store.close()


async def measure_runs(store: SqliteStore) -> None:
    """Background runs, 64 at once: events of 250 bytes, one or ten a batch."""
    runs, jobs = store.runs, list[Job]()

    async def admit_and_claim() -> None:
        await enqueue(store)
        jobs.extend(await runs.claim("one", 1))

    await cost("admit and claim, 64 at once", CALLERS * EACH, lambda: at_once(admit_and_claim))
    leases = cycle([job.lease for job in jobs[:CALLERS]])
    number = count(2)
    for size in (1, 10):

        async def append(size: int = size) -> None:
            events = Batch(next(number) * 10, [frame(0, "x" * 180)] * size)
            assert await runs.append(next(leases), events)

        await cost(f"append {size}, 64 at once", CALLERS * EACH, lambda: at_once(append))
    ended = iter(jobs[CALLERS:])

    async def finish() -> None:
        assert await runs.finish(next(ended).lease, batch(2, 4), ending())

    await cost("finish, 64 at once", CALLERS * 90, lambda: at_once(finish, 90))
    log = jobs[0].row.id
    await cost("read 128 KiB", 1, lambda: runs.read(log, -1, 128 * 1024))
    await runs.wait(0.1)
    await asyncio.sleep(2 * RECENT)
    await cost("200 wait for a second, all", 1, lambda: wait_at_once(store))


async def wait_at_once(store: SqliteStore) -> None:
    await asyncio.gather(*(store.runs.wait(1.0) for _ in range(200)))


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    asyncio.run(measure(Path(sys.argv[1])))
