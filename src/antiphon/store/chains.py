"""Chains of responses in SQLite, of which the newest stay decoded: a long chain is read once, then
turn by turn.

Rules
1. Every question asks the database first: for the response itself, and whether anything was deleted
   since what is remembered was read (`removals`). The database counts by itself, so what another
   process deletes is gone here too, whatever its version (R-59, R-74).
2. Only what can no longer change is remembered: chains whose last turn has ended. What expires is
   gone at its second: a chain knows when, and no sweep has to be counted, whoever makes it.
3. A chain shares its turns with the chain that it continues, so nobody changes their items. It is
   counted whole all the same: the bound is never exceeded, and the older ones of a chain go first.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from antiphon.store import chain_statements as sql
from antiphon.store import items
from antiphon.store.base import RUNNING, Turn
from antiphon.store.kept import MOST_BYTES, Kept
from antiphon.store.readers import Readers
from antiphon.store.writer import Value

_NEVER: Final = 2**62


@dataclass(frozen=True, slots=True)
class Link:
    """A turn, what it follows, when it expires (Unix seconds), and its bytes."""

    turn: Turn
    previous: str | None
    expires_at: int
    size: int


@dataclass(frozen=True, slots=True)
class Chain:
    """Turns, oldest first, when the first of them expires, and their bytes."""

    turns: list[Turn]
    expires_at: int = _NEVER
    size: int = 0

    def longer(self, *links: Link) -> "Chain":
        """The same and what continues it."""
        return Chain(
            [*self.turns, *(link.turn for link in links)],
            min(self.expires_at, *(link.expires_at for link in links)),
            self.size + sum(link.size for link in links),
        )


class Chains:
    """Reads chains; keeps at most `most_bytes` of them decoded."""

    def __init__(self, readers: Readers, most_bytes: int = MOST_BYTES) -> None:
        self._readers = readers
        self._kept: Kept[Chain] = Kept(most_bytes)
        self._removals = -1

    async def read(self, project: str, child: str, now: int) -> list[Turn] | None:
        """See `Responses.chain`."""
        known = (project, child) in self._kept
        values: dict[str, Value] = {"project": project, "id": child, "now": now}
        removals, link = await self._readers.ask(lambda c: _newest(c, values, known=known))
        if removals != self._removals:
            self._kept.clear()
            self._removals = removals
        chain = self._remembered(project, child, link)
        if chain is None or chain.expires_at <= now:
            links = await self._readers.ask(lambda c: _links(c, child, values))
            if links is None:
                return None
            chain = Chain([]).longer(*links)
        if (project, child) in self._kept or removals != self._removals:
            return chain.turns  # one of them may have been deleted since it was read
        if chain.turns[-1].status not in RUNNING:
            self._kept.put((project, child), chain, chain.size)
        return chain.turns

    def _remembered(self, project: str, child: str, link: Link | None) -> Chain | None:
        """The chain, if it or all before its last `link` is there."""
        if link is None:
            return self._kept.get((project, child))
        if link.previous is None:
            return Chain([]).longer(link)
        before = self._kept.get((project, link.previous))
        return None if before is None else before.longer(link)


def _newest(
    connection: sqlite3.Connection, values: dict[str, Value], *, known: bool
) -> tuple[int, Link | None]:
    """How often something was deleted, and only then the response; None: it is `known`, or not
    there."""
    (removals,) = connection.execute(sql.REMOVALS).fetchone()
    row = None if known else connection.execute(sql.LINK, values).fetchone()
    return removals, None if row is None else _link(row)


def _links(
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
    id_, previous, expires_at, encoded_input, body, told = row
    turn = items.turn(id_, encoded_input, body, told)
    size = len(encoded_input) + len(body) + len(told or b"")
    return Link(turn, previous, _NEVER if expires_at is None else expires_at, size)
