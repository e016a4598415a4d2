"""What a part of the store asks for: who runs its steps, and who answers its questions."""

import sqlite3
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from antiphon.store.writer import Step

_T = TypeVar("_T")


class Steps(Protocol):
    """`Writer`, or what stands in for it."""

    def run(
        self, step: Step[_T], *, durable: bool, told: bool = True, weight: int = 0
    ) -> Awaitable[_T]:
        """Ask for a step, all or nothing of it; its answer."""
        ...


class Questions(Protocol):
    """`Readers`, or what stands in for them."""

    async def ask(self, question: Callable[[sqlite3.Connection], _T]) -> _T:
        """The answer to `question`, which changes nothing."""
        ...
