"""How many requests may run at once (reliability R-115): the others are turned away at once.

Rules
1. Nobody waits here. A server or a project that is full says so, and when to come back; a queue
   would turn a burst into long waits for everybody.
2. Every `enter` has one `leave`, however the request ends.
3. Those who are turned away together do not come back together: the times are spread.
"""

from types import TracebackType
from typing import Final, Self

from antiphon.engine.metrics import SHED
from antiphon.errors import Overloaded, RateLimitError

#: Seconds after which those turned away may come back: the first, and steps of how long to the
#: last of so many.
_SOONEST: Final = 1.0
_STEP: Final = 0.25
_STEPS: Final = 9


class Place:
    """The right to run; `leave` gives it back (again: no effect). Also a context."""

    __slots__ = ("_admission", "_outlives", "_project")

    def __init__(self, admission: "Admission", project: str) -> None:
        self._admission: Admission | None = admission
        self._project = project
        self._outlives = False

    def stay(self) -> None:
        """The end of the block is not the end of the request: somebody will call `leave`."""
        self._outlives = True

    def leave(self) -> None:
        """The request has ended."""
        admission, self._admission = self._admission, None
        if admission is not None:
            admission.give_back(self._project)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._outlives:
            self.leave()


class Admission:
    """Counts what runs: `most` in all, `most_per_project` of one project."""

    def __init__(self, most: int, most_per_project: int) -> None:
        self._most = most
        self._most_per_project = most_per_project
        self._running: dict[str, int] = {}
        self._refused = 0
        #: How many run now.
        self.total = 0

    def enter(self, project: str) -> Place:
        """A place for one request; `RateLimitError` (429) when the project has all of its own,
        `Overloaded` (503) when the server has no more."""
        running = self._running.get(project, 0)
        if running >= self._most_per_project:
            SHED.labels("project").inc()
            raise RateLimitError(
                f"Rate limit reached: {running} requests of this project are running. "
                "Please try again later.",
                retry_after=self._later(),
            )
        if self.total >= self._most:
            SHED.labels("server").inc()
            raise Overloaded(retry_after=self._later())
        self._running[project] = running + 1
        self.total += 1
        return Place(self, project)

    def give_back(self, project: str) -> None:
        """For `Place.leave` only."""
        self.total -= 1
        left = self._running.pop(project) - 1
        if left:
            self._running[project] = left

    def _later(self) -> float:
        self._refused += 1
        return _SOONEST + _STEP * (self._refused % _STEPS)
