"""A server of two workers on one port, and clients that know which of them serves them.

Rules
1. A client has one connection, which stays with the worker that accepted it.
2. Which one that is stands in the access log: each line has the request's id and the worker.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx2

from tests.api.raw import eventually
from tests.api.talk import client_of
from tests.live import LiveServer, serve

WORKERS: Final = (1, 2)
_ENV: Final = {"ANTIPHON_WORKERS": "2", "ANTIPHON_ACCESS_LOG": "true", "ANTIPHON_LEASE": "2"}


@contextmanager
def serving(
    folder: Path, toml: str | None = None, env: Mapping[str, str] | None = None
) -> Iterator["Together"]:
    """``antiphon serve`` with two workers."""
    with serve(folder, toml, {**_ENV, **(env or {})}) as live, ExitStack() as stack:
        yield Together(live, stack)


class Together:
    """The server, and those that were made by `client`."""

    def __init__(self, server: LiveServer, stack: ExitStack) -> None:
        self.server = server
        self._stack = stack

    @property
    def pids(self) -> list[int]:
        """The workers that there are now."""
        return children(self.server.process.pid)

    def client(self, worker: int) -> httpx2.Client:
        """One that is served by this worker. Connections are divided by chance."""
        for _ in range(64):
            client = self._stack.enter_context(client_of(self.server))
            if self.worker_of(client.get("/health/live")) == worker:
                return client
        raise AssertionError(f"worker {worker} gets no connections")

    def clients(self) -> list[httpx2.Client]:
        """One of each worker."""
        return [self.client(worker) for worker in WORKERS]

    def worker_of(self, reply: httpx2.Response) -> int:
        """Who has answered."""
        line = re.compile(rf"request_id={reply.headers['x-request-id']} .*worker=(\d+)")
        assert eventually(lambda: line.search(self.server.log()) is not None)
        found = line.search(self.server.log())
        assert found is not None
        return int(found[1])


def children(pid: int) -> list[int]:
    """The processes that it has started, and that live."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in found.split()]


def lives(pid: int) -> bool:
    """Whether there is such a process, and not only what its parent has yet to hear of it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
