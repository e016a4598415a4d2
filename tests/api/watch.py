"""Watches a server from outside: who has to wait, how much memory and how many files it holds."""

import http.client
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.live import LiveServer

#: Seconds between two questions.
_PAUSE: Final = 0.002


def cpu_seconds(server: LiveServer) -> float:
    """CPU time of all threads of the server so far."""
    return cpu_seconds_of(server.process.pid)


def cpu_seconds_of(pid: int) -> float:
    """The same for any program."""
    tasks = Path(f"/proc/{pid}/task")
    times = (path.read_text().split()[0] for path in tasks.glob("*/schedstat"))
    return sum(int(nanoseconds) for nanoseconds in times) / 1e9


def resident_mib(server: LiveServer) -> float:
    """Resident memory in MiB."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


def open_files(server: LiveServer) -> int:
    """Open file descriptors, sockets included."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


class Waiting:
    """Asks ``/health/live`` again and again on a connection of its own, in a thread (R-118).

    `times` has for each answer the seconds for which the server itself kept it waiting: no longer
    than the server computed meanwhile. On a busy machine everybody waits for the processor, and
    that is nobody's fault here.
    """

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.times: list[float] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join(30)
        self._connection.close()

    @property
    def worst(self) -> float:
        """Seconds."""
        return max(self.times, default=0.0)

    def _ask(self) -> None:
        while not self._stop.is_set():
            worked, began = cpu_seconds(self._server), time.monotonic()
            self._connection.request("GET", "/health/live")
            reply = self._connection.getresponse()
            reply.read()
            waited = time.monotonic() - began
            assert reply.status == 200
            self.times.append(min(waited, cpu_seconds(self._server) - worked))
            time.sleep(_PAUSE)
