"""One GGUF model in memory: loaded when it is needed, gone when it is not.

Rules
1. It runs in a process of its own (`child.py`), which is asked over HTTP: ``xllamacpp`` holds
   Python's lock while it loads, for seconds or minutes in which this server would answer nobody;
   what breaks it breaks one model and not the server; and all memory comes back with its end.
2. It is loaded once, however many wait for it; who does not wait any more stops nothing.
3. A process that has ended by itself is said in the log; who comes next loads it again.
4. With `idle_unload` it ends when nobody has used it for so many seconds.
5. It gets neither the server's environment nor its terminal's signals, and ends with the server.
"""

import asyncio
import contextlib
import os
import secrets
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import orjson
import structlog

from antiphon.backends.faults import printable
from antiphon.backends.local.header import read_header
from antiphon.errors import UpstreamError

_log = structlog.get_logger(__name__)

#: Tokens that a turn has, and a text of which a vector is made, unless the configuration says more:
#: models are trained for a hundred thousand, and each of them costs memory from the start.
_WINDOW: Final = 8_192
_WINDOW_OF_VECTORS: Final = 2_048
#: Seconds until a model is loaded.
_LOADING: Final = 600.0
#: All of the server's environment that the process sees; the last ones choose the graphics card.
_ENVIRONMENT: Final = (
    *("LANG", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TEMP", "TMPDIR"),
    *("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"),
)
#: It closes connections that were used once, and says so late.
ONCE: Final = MappingProxyType({"Connection": "close"})
_MODULE: Final = "antiphon.backends.local.child"


@dataclass(frozen=True, slots=True)
class Load:
    """What is loaded, as the process is told. `window`: tokens of each of so many turns that run at
    once (`parallel`); `vectors`: it makes vectors and does not talk, and `pooling` says whether the
    model knows how."""

    path: str
    window: int
    parallel: int
    mmproj: str | None = None
    threads: int | None = None
    vectors: bool = False
    pooling: bool = False
    key: str = field(default="", repr=False)


def load_of(
    path: Path,
    window: int | None,
    parallel: int,
    *,
    mmproj: Path | None = None,
    threads: int | None = None,
    vectors: bool = False,
) -> Load:
    """What to load of a file. No `window` is larger than what the model was trained for. One that
    says how it makes vectors does nothing else; others do if they are to (`vectors`). Raises
    OSError or `NotGGUF`."""
    header = read_header(path)
    vectors = vectors or header.pooling
    asked = window or (_WINDOW_OF_VECTORS if vectors else _WINDOW)
    most = min(asked, header.context_length or asked)
    if mmproj is not None:
        read_header(mmproj)
    seen = None if mmproj is None else str(mmproj)
    return Load(str(path), most, parallel, seen, threads, vectors, header.pooling)


class Address(NamedTuple):
    """Where it is asked, with the version (``http://127.0.0.1:40001/v1``), and with which key."""

    url: str
    key: str


class _Running(NamedTuple):
    process: asyncio.subprocess.Process
    address: Address
    said: asyncio.Task[None]


class Engine:
    """A model; `aclose` it."""

    def __init__(self, name: str, load: Load, idle_unload: float | None = None) -> None:
        """`name`: for the log."""
        self._name = name
        self._load = load
        self._idle_unload = idle_unload
        self._running: _Running | None = None
        self._loading: asyncio.Task[_Running] | None = None
        self._users = 0
        self._timer: asyncio.TimerHandle | None = None

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncGenerator[Address, None]:
        """Where it is asked, while it is. Raises `UpstreamError` when it cannot be loaded."""
        self._users += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            yield (await self._loaded()).address
        finally:
            self._users -= 1
            self._rest()

    def preload(self) -> None:
        """Begin to load it, unless it is there."""
        if self._running is None and self._loading is None:
            self._loading = asyncio.create_task(self._started(), name=f"load-{self._name}")
            self._loading.add_done_callback(_seen)

    async def aclose(self) -> None:
        """End it."""
        if self._timer is not None:
            self._timer.cancel()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        running = self._running
        self._unload()
        if running is not None:
            await running.process.wait()
            await running.said

    async def _loaded(self) -> _Running:
        running = self._running
        if running is not None and running.process.returncode is not None:
            _log.error("local_model_ended", backend=self._name, status=running.process.returncode)
            self._running = None
        if self._running is None:
            self.preload()
        if self._loading is not None:
            await asyncio.shield(self._loading)
        if self._running is None:
            raise UpstreamError  # it was unloaded while it was waited for: the server ends
        return self._running

    async def _started(self) -> _Running:
        """The process, as soon as it can be asked. Raises `UpstreamError`."""
        began = time.monotonic()
        try:
            running = await self._spawned()
        finally:
            self._loading = None
        self._running = running
        self._rest()  # who wanted it may have left
        seconds = round(time.monotonic() - began, 1)
        _log.info("local_model_loaded", backend=self._name, path=self._load.path, seconds=seconds)
        return running

    async def _spawned(self) -> _Running:
        key = secrets.token_urlsafe(32)
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _MODULE),
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            env=environment,
            start_new_session=True,
        )
        said = asyncio.create_task(self._overheard(process), name=f"log-{self._name}")
        answer: dict[str, str] = {}
        try:
            answer = await self._told(process, {**asdict(self._load), "key": key})
        finally:
            if "url" not in answer:
                _end(process)
        if "url" in answer:
            return _Running(process, Address(f"{answer['url']}/v1", key), said)
        await said
        why = printable(answer.get("error", "it ended"))
        _log.error("local_model_failed", backend=self._name, path=self._load.path, reason=why)
        raise UpstreamError

    async def _told(
        self, process: asyncio.subprocess.Process, load: dict[str, Any]
    ) -> dict[str, str]:
        """What it says of what it is to load; an empty answer: nothing."""
        if process.stdin is None or process.stdout is None:
            raise AssertionError("it has pipes")
        with contextlib.suppress(OSError):
            process.stdin.write(orjson.dumps(load) + b"\n")
            await process.stdin.drain()
        try:
            async with asyncio.timeout(_LOADING):
                line = await process.stdout.readline()
        except TimeoutError:
            return {"error": f"not loaded within {_LOADING:.0f} seconds"}
        answer: dict[str, str] = orjson.loads(line or b"{}")
        return answer

    async def _overheard(self, process: asyncio.subprocess.Process) -> None:
        """What it prints is for the log."""
        if process.stderr is None:
            raise AssertionError("it has a pipe")
        while piece := await process.stderr.read(4096):
            text = printable(piece.decode(errors="replace").strip())
            _log.warning("local_model_says", backend=self._name, text=text)

    def _rest(self) -> None:
        """Rule 4."""
        if self._users == 0 and self._running is not None and self._idle_unload is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._idle_unload, self._unload)

    def _unload(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            _end(running.process)
            _log.info("local_model_unloaded", backend=self._name, path=self._load.path)


def _end(process: asyncio.subprocess.Process) -> None:
    """At once: it has nothing to keep."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()


def _seen(task: asyncio.Task[_Running]) -> None:
    """Who waited knows what went wrong, and the log does; if nobody did, that is no fault."""
    if not task.cancelled():
        task.exception()
