"""Chains of responses in SQLite, of which the newest stay decoded: a long chain is read once, then
turn by turn.

Rules
1. Every question asks the database first: for the response itself, and whether anything was removed
   since what is remembered was read (`removals`). What another process removes is gone here too.
2. Only what can no longer change is remembered: turns that have ended, bounded by bytes; who was
   not needed for longest goes first. What expires is gone at its second.
3. Turns are shared: nobody changes their items.
"""

import sqlite3
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from antiphon.store import chain_statements as sql
from antiphon.store import items
from antiphon.store.base import RUNNING, Turn
from antiphon.store.readers import Readers
from antiphon.store.writer import Value

#: Bytes of stored turns that stay decoded, at most; in memory they are about three times as much.
MOST_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Link:
    """A turn, what it follows, and until when it is there."""

    turn: Turn
    previous: str | None
    expires_at: int | None
    size: int


class Chains:
    """Reads chains; keeps at most `most_bytes` of them decoded."""

    def __init__(self, readers: Readers, most_bytes: int = MOST_BYTES) -> None:
        self._readers = readers
        self._most_bytes = most_bytes
        self._links: OrderedDict[tuple[str, str], Link] = OrderedDict()
        self._bytes = 0
        self._removals = -1

    async def read(self, project: str, child: str, now: int) -> list[Turn] | None:
        """See `Responses.chain`."""
        known = (project, child) in self._links
        values: dict[str, Value] = {"project": project, "id": child, "now": now}
        removals, link = await self._readers.ask(lambda c: _newest(c, values, known=known))
        if removals != self._removals:
            self._forget()
            self._removals = removals
        if link is not None:
            self._keep(project, link)
        turns = self._walk(project, child, now)
        if turns is not None:
            return turns
        links = await self._readers.ask(lambda c: _chain(c, child, values))
        if links is None:
            return None
        for link in links:
            self._keep(project, link)
        return [link.turn for link in links]

    def _walk(self, project: str, child: str, now: int) -> list[Turn] | None:
        """The chain as it is remembered, oldest first; None: not all of it is."""
        turns: list[Turn] = []
        step: str | None = child
        while step is not None:
            link = self._links.get((project, step))
            if link is None or (link.expires_at is not None and link.expires_at <= now):
                return None
            self._links.move_to_end((project, step))
            turns.append(link.turn)
            step = link.previous
        turns.reverse()
        return turns

    def _keep(self, project: str, link: Link) -> None:
        if link.turn.status in RUNNING or (project, link.turn.id) in self._links:
            return
        self._links[project, link.turn.id] = link
        self._bytes += link.size
        while self._bytes > self._most_bytes:
            _, oldest = self._links.popitem(last=False)
            self._bytes -= oldest.size

    def _forget(self) -> None:
        self._links.clear()
        self._bytes = 0


def _newest(
    connection: sqlite3.Connection, values: dict[str, Value], *, known: bool
) -> tuple[int, Link | None]:
    """How often something was removed, and only then the response; None: it is `known`, or not
    there."""
    (removals,) = connection.execute(sql.REMOVALS).fetchone()
    row = None if known else connection.execute(sql.LINK, values).fetchone()
    return removals, None if row is None else _link(row)


def _chain(
    connection: sqlite3.Connection, child: str, values: dict[str, Value]
) -> list[Link] | None:
    """From the root to the child; None: an ancestor is gone."""
    rows = {row[0]: row for row in connection.execute(sql.CHAIN, values)}
    links = [_link(row) for row in _steps(rows, child)]
    if not links or links[-1].previous is not None:
        return None
    links.reverse()
    return links


def _steps(rows: dict[str, sql.Row], child: str) -> Iterator[sql.Row]:
    """From the child up; a cycle ends where it closes."""
    step: str | None = child
    while step is not None and (row := rows.pop(step, None)) is not None:
        yield row
        step = row[1]


def _link(row: sql.Row) -> Link:
    id_, previous, expires_at, encoded_input, body = row
    turn = items.turn(id_, encoded_input, body)
    return Link(turn, previous, expires_at, len(encoded_input) + len(body))
