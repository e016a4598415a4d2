"""What goes with a response when it goes: events, job, key (R-59, R-137).

Rules
1. Both functions are steps of the writer: what they remove, they remove in one transaction.
2. A sweep is bounded by rows and by events, since a log may be longer than all else; a response
   whose log is too long for one sweep goes with the sweep that removes the rest of it.
3. What was noted of its metadata goes by triggers (store/triggers.py), since a process of the
   version before removes responses too. A sweep that looks for what such a one left would read the
   whole table each time: 3 s of the writer for a million pairs.
"""

import sqlite3
from collections.abc import Iterator
from typing import Final

from antiphon.store import run_statements as sql
from antiphon.store import statements
from antiphon.store.sql_approvals import DROP_APPROVALS_DUE
from antiphon.store.writer import Value

#: Batches of events that one sweep removes: about 20 ms of the writer.
MOST_BATCHES: Final = 2_000
_ALL: Final = -1
#: What has the id of the response but for its events.
_WITH_IT: Final = (sql.DROP_JOB, sql.DROP_KEY)


def delete(connection: sqlite3.Connection, values: dict[str, Value]) -> bool:
    """Leave a tombstone and nothing else; whether there was a response."""
    if connection.execute(statements.DELETE, values).rowcount == 0:
        return False
    gone = {"id": values["id"]}
    connection.execute(sql.DROP_EVENTS, gone | {"most": _ALL})
    for statement in _WITH_IT:
        connection.execute(statement, gone)
    return True


def expire(connection: sqlite3.Connection, now: int, limit: int) -> int:
    """Remove what is over at `now`; `limit` means that there may be more."""
    removed, room = 0, MOST_BATCHES
    for id_, is_log in _due(connection, now, limit):
        room -= connection.execute(sql.DROP_EVENTS, {"id": id_, "most": room}).rowcount
        if room == 0:
            return limit
        if is_log:
            connection.execute(sql.LOG_IS_GONE, {"id": id_})
        else:
            for statement in (sql.DROP, *_WITH_IT):
                connection.execute(statement, {"id": id_})
        removed += 1
    for statement in (sql.DROP_KEYS_DUE, sql.DROP_LOST_JOBS, DROP_APPROVALS_DUE):
        values = {"now": now, "limit": limit - removed}
        removed += connection.execute(statement, values).rowcount
    return removed


def _due(connection: sqlite3.Connection, now: int, limit: int) -> Iterator[tuple[str, bool]]:
    """At most `limit` responses of which everything goes, or (True) the log only."""
    count = 0
    for statement, is_log in ((sql.DUE, False), (sql.LOGS_DUE, True)):
        values = {"now": now, "limit": limit - count}
        for (id_,) in connection.execute(statement, values).fetchall():
            count += 1
            yield id_, is_log
