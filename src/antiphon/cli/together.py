"""Several server processes on one port and one database (``antiphon serve --workers N``).

Rules (decision 0014)
1. This process serves nothing. It makes what is made once (the schema; the first key, once all
   serve), binds the sockets, starts the workers (`together_worker.py`) and looks after them.
2. Each worker has a socket of its own at the same address, and the kernel divides connections among
   them. The socket stays open here: what waits in it waits for the next worker in that place.
3. A worker that dies is replaced. If one in some place dies more than `MOST_DEATHS` times within
   `WITHIN` seconds, or before all have started for the first time, all are ended.
4. Signals are passed on, and mean what they mean to one server (`server.py`). No worker outlives
   this process, however that ends.
"""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import structlog
from click.exceptions import Exit

from antiphon.app import Antiphon
from antiphon.app.sharing import Share
from antiphon.cli.common import build, refused, say_checked
from antiphon.cli.server import Signals, banner
from antiphon.errors import APIError
from antiphon.settings import Settings
from antiphon.store.base import StoreError
from antiphon.store.registry import open_store
from antiphon.workers_side import end_with_parent

#: Deaths of workers in one place, and seconds.
MOST_DEATHS: Final = 5
WITHIN: Final = 60.0
#: Seconds before the successor of a worker that died before it could serve.
_PAUSE: Final = 1.0
#: Seconds that workers have to end after a second signal: as long as they need for it.
_FORCED: Final = 3.0
#: What a worker says when it serves.
READY: Final = b"ready\n"
_WORKER: Final = "antiphon.cli.together_worker"
#: Of a process that could not start serving, as uvicorn has it.
_NOT_STARTED: Final = 3

_log = structlog.get_logger(__name__)


def serve_together(settings: Settings, *, only_check: bool) -> None:
    """Serve with `settings.workers` processes until they are told to end."""
    if settings.database_url.startswith("memory:"):
        raise refused(ValueError("memory:// is the memory of one process; --workers needs a file"))
    if sys.platform != "linux":
        raise refused(ValueError("--workers needs Linux, which divides connections among them"))
    with ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="antiphon-workers-"))
        folder = Path(made)
        antiphon = build(settings, Share(0, settings.workers, folder))
        if only_check:
            say_checked(settings)
            return
        try:
            sockets = bound(settings.host, settings.port, settings.workers)
        except OSError as error:
            refused(error)
            raise Exit(_NOT_STARTED) from error
        for one in sockets:
            stack.callback(one.close)
        try:
            status = asyncio.run(_Together(antiphon, settings, folder, sockets).run())
        except (StoreError, APIError) as error:
            raise refused(error) from error
    if status:
        raise Exit(status)


def bound(host: str, port: int, count: int) -> list[socket.socket]:
    """So many sockets at one address, for one process each. Raises OSError, also when somebody else
    listens there, whom the kernel would let share."""
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = found[0]
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        address = probe.getsockname()
    sockets = []
    for _ in range(count):
        one = socket.socket(family)
        sockets.append(one)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(address)
    return sockets


@dataclass(slots=True, eq=False)
class _Worker:
    """A process that serves, or is about to."""

    process: asyncio.subprocess.Process
    is_ready: bool = False

    def signal(self, sig: int) -> None:
        """It may be dead already."""
        with suppress(ProcessLookupError):
            self.process.send_signal(sig)


class _Together:
    """The workers of one server, by their places, which begin with 1."""

    def __init__(
        self, antiphon: Antiphon, settings: Settings, folder: Path, sockets: list[socket.socket]
    ) -> None:
        """`settings`: of all of them together; what each has of that is its own business."""
        self._antiphon = antiphon
        # Whoever is started later reads what those before have read.
        self._config: bytes | None = None
        with suppress(FileNotFoundError):
            self._config = settings.config.read_bytes()
        self._settings = settings.model_copy(update={"config": folder / "antiphon.toml"})
        self._folder = folder
        self._sockets = dict(enumerate(sockets, 1))
        self._workers: dict[int, _Worker] = {}
        self._came = Signals()
        self._all_ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._status = 0

    async def run(self) -> int:
        """Until all have ended: the exit status."""
        await self._antiphon.prepare()
        loop = asyncio.get_running_loop()
        for sig in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(sig, self._on_signal, sig)
        keeping = [asyncio.create_task(self._keep(place)) for place in self._sockets]
        announcing = asyncio.create_task(self._announce())
        await asyncio.gather(*keeping)
        announcing.cancel()
        return self._status

    async def _announce(self) -> None:
        await self._all_ready.wait()
        host, port = self._sockets[1].getsockname()[:2]
        store = open_store(self._settings.database_url)
        try:
            await store.open()
            await self._antiphon.ensure_key(store)
            await store.close()
            banner(self._antiphon, host, port)
        except (StoreError, APIError) as error:
            _log.error("no_first_key", error=str(error))
            self._end(1)

    async def _keep(self, place: int) -> None:
        """See that there is a worker in this place, until all are to end."""
        loop = asyncio.get_running_loop()
        deaths: deque[float] = deque(maxlen=MOST_DEATHS + 1)
        while not self._stopping.is_set():
            was_ready, status = await self._serve(place)
            if self._stopping.is_set():
                if was_ready and status:
                    self._status = self._status or 1
                return
            deaths.append(loop.time())
            _log.error("worker_died", worker=place, status=status)
            if not self._all_ready.is_set():
                self._end(status if status > 0 else 1)
            elif len(deaths) > MOST_DEATHS and deaths[-1] - deaths[0] < WITHIN:
                _log.error("workers_die_too_often", worker=place, deaths=len(deaths))
                self._end(1)
            elif not was_ready:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), _PAUSE)

    async def _serve(self, place: int) -> tuple[bool, int]:
        """Whether a worker has served, and its exit status, when it has ended."""
        try:
            worker = await self._start(place)
        except OSError as error:  # no memory, or too many processes
            _log.error("worker_not_started", worker=place, error=str(error))
            return False, 1
        status = await worker.process.wait()
        del self._workers[place]
        return worker.is_ready, status

    async def _start(self, place: int) -> _Worker:
        """A worker that serves, or has ended. Raises OSError."""
        copied = self._settings.config
        # Who tidies up /tmp may have taken it, and somebody else have put something in its place.
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.lstat().st_uid != os.getuid():
            raise PermissionError(f"{self._folder} is somebody else's")
        if self._config is not None and not copied.exists():
            copied.write_bytes(self._config)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _WORKER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[self._sockets[place].fileno()],
            preexec_fn=end_with_parent,  # before all imports: it has the socket already
        )
        worker = self._workers[place] = _Worker(process)
        if self._stopping.is_set():
            worker.signal(signal.SIGTERM)
        elif process.stdin is not None and process.stdout is not None:
            with suppress(OSError):
                process.stdin.write(orjson.dumps(self._told(place)) + b"\n")
                await process.stdin.drain()
            while (line := await process.stdout.readline()) and line != READY:
                pass  # what a library printed when it was imported
            worker.is_ready = line == READY
            if sum(one.is_ready for one in self._workers.values()) == len(self._sockets):
                self._all_ready.set()
        return worker

    def _told(self, place: int) -> dict[str, Any]:
        return {
            "parent": os.getpid(),
            "socket": self._sockets[place].fileno(),
            "share": [place, len(self._sockets), str(self._folder)],
            "settings": self._settings.model_dump(mode="json"),
        }

    def _on_signal(self, sig: int) -> None:
        which = self._came()
        if which == "first":
            self._end(0, sig)
        elif which == "second":
            self._status = 128 + sig
            self._send(sig)
            asyncio.get_running_loop().call_later(_FORCED, self._send, signal.SIGKILL)

    def _end(self, status: int, sig: int = signal.SIGTERM) -> None:
        """Begin to end all, with this status if nothing else goes wrong."""
        if not self._stopping.is_set():
            self._status = status
            self._stopping.set()
            for one in self._sockets.values():
                one.close()
            self._send(sig)

    def _send(self, sig: int) -> None:
        for worker in self._workers.values():
            worker.signal(sig)
