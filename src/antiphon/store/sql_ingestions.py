"""The work on files of vector stores, in SQLite (`store.base.vector_stores.Ingestions`).

Rules
1. Projects take turns: the one behind that which was served last is next.
2. A claim is not durable: after a power cut its owner is gone as well. What came of it is.
3. Two may read one file, when one of them was taken for dead. Its chunks are the same and have the
   same number: who comes too late must not take them from the other.
4. A file over which an owner has died may be the reason. It is claimed alone, so that the next
   death counts against no other.
5. What was put off is in nobody's way: it is in another index, until a claim finds it due. All that
   is due is woken before the claim, in small steps: the order is that of the numbers again.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import Final

from antiphon.store import vector_store_statements as statements
from antiphon.store.base.vector_stores import Ingestion, Leftover
from antiphon.store.steps import Questions, Steps
from antiphon.store.writer import Value

#: Files that are woken in one step.
_WOKEN: Final = 500


class SqliteIngestions:
    """See `Ingestions`."""

    def __init__(self, writer: Steps, readers: Questions) -> None:
        self._writer = writer
        self._readers = readers
        #: The project that was served last.
        self._served = ""

    async def claim(
        self, owner: str, most: int, now: int, *, alone: bool = True
    ) -> list[Ingestion]:
        """See `Ingestions.claim`."""
        await self._wake(now)
        served = self._served

        def is_any(connection: sqlite3.Connection) -> bool:
            first = next(_claimable(connection, owner, served), None)
            return first is not None and (alone or not first.deaths)

        if not await self._readers.ask(is_any):
            return []

        def step(connection: sqlite3.Connection) -> list[Ingestion]:
            connection.execute(statements.KNOW_OWNER, {"owner": owner})
            claimed: list[Ingestion] = []
            for file in _claimable(connection, owner, served):
                if file.deaths and (claimed or not alone):
                    break
                claimed.append(file)
                connection.execute(statements.CLAIM, {**_mine(file), "deaths": file.deaths})
                if file.deaths or len(claimed) == most:
                    break
            return claimed

        claimed = await self._writer.run(step, durable=False, told=False)
        if claimed:
            self._served = claimed[-1].project
        return claimed

    async def _wake(self, now: int) -> None:
        values = {"now": now, "most": _WOKEN}
        while await self._readers.ask(
            lambda connection: connection.execute(statements.ANY_DUE, values).fetchone()[0]
        ):
            await self._writer.run(
                lambda connection: connection.execute(statements.WAKE, values).rowcount,
                durable=False,
                told=False,
            )

    async def complete(self, claimed: Ingestion, usage_bytes: int, now: int) -> bool:
        """See `Ingestions.complete`."""
        values = {**_mine(claimed), "usage_bytes": usage_bytes}
        late = {"store_id": claimed.store_id, "number": claimed.number}

        def step(connection: sqlite3.Connection) -> bool:
            if not connection.execute(statements.COMPLETE, values).rowcount:
                connection.execute(statements.LATE, late)
                return False
            connection.execute(statements.NEXT_VERSION, {"store_id": claimed.store_id})
            named = {"project": claimed.project, "id": claimed.store_id, "now": now}
            connection.execute(statements.TOUCH, named)
            return True

        return await self._writer.run(step, durable=True)

    async def fail(self, claimed: Ingestion, code: str, message: str) -> bool:
        """See `Ingestions.fail`."""
        return await self._said(
            statements.FAIL, {**_mine(claimed), "code": code, "message": message}
        )

    async def put_off(self, claimed: Ingestion, due_at: int) -> bool:
        """See `Ingestions.put_off`. That is no news: there is nothing more to claim."""
        values = {**_mine(claimed), "due_at": due_at}
        return await self._said(statements.PUT_OFF, values, told=False)

    async def hand_back(self, owner: str) -> None:
        """See `Ingestions.hand_back`."""
        await self._writer.run(
            lambda connection: connection.execute(statements.HAND_BACK, {"owner": owner}).rowcount,
            durable=False,
        )

    async def leftovers(self, most: int, after: int = 0) -> list[Leftover]:
        """See `Ingestions.leftovers`."""
        values = {"most": most, "after": after}
        return await self._readers.ask(
            lambda connection: [
                Leftover(*row) for row in connection.execute(statements.LEFTOVERS, values)
            ]
        )

    async def clear(self, store_id: str, most: int) -> int:
        """See `Ingestions.clear`."""
        named: dict[str, Value] = {"store_id": store_id, "most": most}

        def step(connection: sqlite3.Connection) -> int:
            if connection.execute(statements.KNOWN, named).fetchone() is not None:
                return 0
            removed = connection.execute(statements.DELETE_FILES, named).rowcount
            rest = {**named, "most": most - removed}
            return removed + connection.execute(statements.DELETE_BATCHES, rest).rowcount

        return await self._writer.run(step, durable=False, told=False)

    async def forgotten(self, ids: Sequence[int]) -> None:
        """See `Ingestions.forgotten`."""
        values = [{"id": id_} for id_ in ids]
        await self._writer.run(
            lambda connection: connection.executemany(statements.FORGOTTEN, values).rowcount,
            durable=False,
            told=False,
        )

    async def _said(self, sql: str, values: dict[str, Value], *, told: bool = True) -> bool:
        changed = await self._writer.run(
            lambda connection: connection.execute(sql, values).rowcount, durable=True, told=told
        )
        return changed > 0


def _mine(claimed: Ingestion) -> dict[str, Value]:
    return {"number": claimed.number, "owner": claimed.owner, "attempt": claimed.attempt}


def _claimable(connection: sqlite3.Connection, owner: str, served: str) -> Iterator[Ingestion]:
    """Free files that are ready, as `owner` would claim them, one of each project in turn."""
    projects = _projects_behind(connection, served)
    places = dict.fromkeys(projects, 0)
    while projects:
        project = projects.pop(0)
        values = {"project": project, "number": places[project], "one": 1}
        row = connection.execute(statements.CLAIMABLE, values).fetchone()
        if row is None:
            continue
        places[project] = row[0]
        projects.append(project)
        had, attempt, deaths, tries = row[7:]
        lease = (owner, attempt + 1, deaths + (had is not None), tries)
        yield Ingestion(*(*row[:7], *lease))


def _projects_behind(connection: sqlite3.Connection, served: str) -> list[str]:
    """The projects that have something to read, each found by one look into the index."""
    projects: list[str] = []
    project = ""
    while True:
        found = connection.execute(statements.NEXT_PROJECT, {"project": project}).fetchone()[0]
        if found is None:
            return [p for p in projects if p > served] + [p for p in projects if p <= served]
        projects.append(found)
        project = found
