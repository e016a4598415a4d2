"""SQLite in memory, for the parts of the memory store that need no second implementation.

Rules
1. It has the methods of `Writer` and `Readers` that `Sqlite…` classes use (`store.steps`), and runs
   everything at once where it is asked: nothing here touches a disk.
2. The schema is that of the tables, triggers too. It is made when somebody asks for the first time.
"""

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from antiphon.store.schema import statements
from antiphon.store.writer import Step

_T = TypeVar("_T")


class MemorySql:
    """One private connection, until `close`."""

    def __init__(self, on_news: Callable[[], None] = lambda: None) -> None:
        """`on_news` is called after the commit of a step that is `told`."""
        self._on_news = on_news
        self._opened: sqlite3.Connection | None = None

    async def run(
        self,
        step: Step[_T],
        *,
        durable: bool,  # noqa: ARG002  nothing here is
        told: bool = True,
        weight: int = 0,  # noqa: ARG002  nothing is queued
    ) -> _T:
        """See `Writer.run`."""
        with self._connection() as connection:  # commits, or rolls back what raised
            connection.execute("BEGIN")
            answer = step(connection)
        if told:
            self._on_news()
        return answer

    async def ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        """See `Readers.ask`."""
        return question(self._connection())

    def close(self) -> None:
        """Forget everything."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False
            )
            for statement in statements():
                self._opened.execute(statement)
        return self._opened
