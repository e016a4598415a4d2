"""What `code_interpreter` needs of whoever has the containers."""

from typing import Protocol

from antiphon.protocol.code_interpreter import Executed
from antiphon.tools.base import Json, Stage


class Place(Protocol):
    """A container for one run of a response."""

    #: Of the container; it may be made when code runs for the first time.
    id: str

    async def run(self, code: str) -> Executed:
        """Run code. Raises `APIError`."""
        ...


class Running(Protocol):
    """Containers in which code runs. Those of another project are unknown (R-30). `wanted` is the
    `container` of a request's tool: an id, or ``{"type": "auto", …}``."""

    async def unusable(self) -> str | None:
        """Why no code can run here, for clients; None: it can."""
        ...

    async def check(self, project: str, wanted: str | Json, path: str) -> None:
        """Raises `APIError` for what cannot be had, at its place in `path`."""
        ...

    async def place(self, project: str, wanted: str | Json, stage: Stage) -> Place:
        """The container for a run, with the files that its context names. Raises `APIError`."""
        ...
