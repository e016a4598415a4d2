"""Lists of stored responses in SQLite, and what they are found by (`store.base.responses`).

Rules
1. What is looked for is noted in `response_metadata` in the transaction that brings the row, and
   goes, by a trigger, in the one that takes it away. A row without metadata costs nothing.
2. Of several pairs the rarest leads, so that a common one does not cost a walk through all.
3. Bodies are read one by one, and no further than the page goes.
"""

import sqlite3
from contextlib import closing
from typing import Final

import orjson

from antiphon.store import listing_statements as statements
from antiphon.store.base import Listing, Page, ResponseRow
from antiphon.store.statements import SAVE
from antiphon.store.writer import Parameters, Step, Value

#: Up to how many responses a pair is counted, until one has less.
_COUNTED: Final = (100, 1_000, 10_000)


def note(connection: sqlite3.Connection, row: ResponseRow) -> None:
    """Let a row that was just written be found by its metadata, if it is one that is listed."""
    if row.metadata is None or row.kept != "stored":
        return
    whose = {"response_id": row.id, "project": row.project, "created_at": row.created_at}
    connection.executemany(
        statements.NOTE,
        [whose | {"key": key, "value": value} for key, value in orjson.loads(row.metadata).items()],
    )


def saving(row: ResponseRow, values: Parameters) -> Step[bool]:
    """See `Responses.save`; `values` are the fields of the row."""

    def step(connection: sqlite3.Connection) -> bool:
        saved = connection.execute(SAVE, values).rowcount > 0
        if saved:
            note(connection, row)
        return saved or row.owner is None

    return step


def listed(connection: sqlite3.Connection, project: str, listing: Listing, now: int) -> Page | None:
    """See `Responses.listed`."""
    values: dict[str, Value] = {"project": project, "now": now, "limit": listing.limit + 1}
    if listing.after is not None:
        place = connection.execute(statements.PLACE, values | {"id": listing.after}).fetchone()
        if place is None:
            return None
        values["at"], values["after"] = place
    for number, (key, value) in enumerate(_rarest_first(connection, project, listing.metadata)):
        values[f"key{number}"], values[f"value{number}"] = key, value
    question = statements.listed(
        len(listing.metadata), listing.order, behind=listing.after is not None
    )
    # A question that is left half answered would keep its snapshot, and the WAL would grow.
    with closing(connection.execute(question, values)) as found:
        return Page.of(found, listing)


def _rarest_first(
    connection: sqlite3.Connection, project: str, metadata: dict[str, str]
) -> list[tuple[str, str]]:
    pairs = list(metadata.items())
    counts: list[int] = []
    for most in _COUNTED if len(pairs) > 1 else ():
        values = [
            {"project": project, "key": key, "value": value, "most": most} for key, value in pairs
        ]
        counts = [int(connection.execute(statements.COMMON, one).fetchone()[0]) for one in values]
        if min(counts) < most:
            break
    return [pair for _, pair in sorted(zip(counts, pairs, strict=True))] if counts else pairs
