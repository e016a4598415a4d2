"""Processes that do what must not be done here: it takes long, or somebody else wrote it (R-100,
R-118).

Rules
1. A worker is a module (``python -P -m <module>``) that answers questions on its pipes
   (`workers_side.py`). It gets neither the server's environment nor its terminal's signals.
2. A few of them at once; who comes later waits, and projects take turns (`turns.py`).
3. A worker that takes too long, breaks, or has nobody left who waits for its answer (R-58) is
   killed; so is one that has nothing to do for a while or has answered many questions, because what
   libraries keep and lose adds up. The next question gets another one.
4. How long a worker takes to start is not its first question's fault.
5. Between two frames of an answer others have their turn, however many there are.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import orjson
import structlog

from antiphon.turns import Turns
from antiphon.workers_side import ANSWER, KILLED, QUESTION, TOOK_TOO_LONG

_log = structlog.get_logger(__name__)

#: All of the server's environment that a worker sees.
_ENVIRONMENT: Final = ("LANG", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TEMP", "TMPDIR")
#: Seconds in which a process whose pipe has ended tells what it died of.
_LAST_WORD: Final = 1.0
#: Bytes that are thrown away at a time.
_PIECE: Final = 64 * 1024


class WorkerFailed(Exception):
    """There is no answer."""


class NotStarted(WorkerFailed):
    """No worker took the question, or there are none any more."""


class TookTooLong(WorkerFailed):
    """The answer did not come in time."""


class Broke(WorkerFailed):
    """The worker ended, or said what is no answer."""


class Killed(Broke):
    """Somebody else has killed the worker: the question need not be the reason."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Which workers there are. `most`: processes; `answer`: bytes of an answer; seconds:
    `patience` for an answer, `start` until a worker is ready, `idle` until one that has nothing to
    do ends; `questions`: after so many a worker is replaced."""

    module: str
    answer: int
    patience: float
    most: int = 2
    start: float = 15.0
    idle: float = 60.0
    questions: int = 1_000


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, with its pipes."""

    process: asyncio.subprocess.Process
    sink: asyncio.StreamWriter
    source: asyncio.StreamReader
    retirement: asyncio.TimerHandle | None = None
    is_ready: bool = False
    answered: int = 0

    async def get_ready(self) -> None:
        """Raises OSError or EOFError when the process is no more."""
        if not self.is_ready:
            self.is_ready = await self.source.readexactly(ANSWER.size) == ANSWER.pack(0)
            if not self.is_ready:
                raise EOFError

    async def ask(self, head: bytes, body: bytes, most: int) -> Any:
        """The same, or JSONDecodeError."""
        self.sink.write(QUESTION.pack(len(head), len(body)) + head)
        self.sink.write(body)
        await self.sink.drain()
        async with contextlib.aclosing(self._frames(most)) as frames:
            answer = await anext(frames)
            parts: dict[str, list[Any]] = {}
            async for key, part in frames:
                parts.setdefault(key, []).append(part)
        for key, several in parts.items():
            is_text = isinstance(several[0], str)
            answer[key] = "".join(several) if is_text else list(chain.from_iterable(several))
        self.answered += 1
        return answer

    async def _frames(self, most: int) -> AsyncGenerator[Any, None]:
        """The frames of an answer of `most` bytes, at least one."""
        left = most
        while length := ANSWER.unpack(await self.source.readexactly(ANSWER.size))[0]:
            left -= length
            if left < 0:
                raise EOFError
            yield orjson.loads(await self.source.readexactly(length))
            await asyncio.sleep(0)
        if left == most:
            raise EOFError

    async def died_of(self) -> int | None:
        """Its exit status; None if it has not ended."""
        if self.source.at_eof():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), _LAST_WORD)
        return self.process.returncode

    def kill(self) -> None:
        """It may be dead already."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def end(self) -> None:
        """`wait` is not over before the pipe is: what nobody has read of it is thrown away."""
        with contextlib.suppress(OSError):
            while await self.source.read(_PIECE):
                pass
        await self.process.wait()


class Workers:
    """The processes of one module; `aclose` them."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._turns = Turns(terms.most)
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        #: Somebody has left his worker.
        self._left = asyncio.Event()
        self._ending: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def ask(self, project: str, head: Any, body: bytes = b"") -> Any:
        """The answer to a question of a project: `head` is JSON and small, `body` may be large.
        Raises `WorkerFailed`."""
        async with self._turns.turn(project), self._worker() as worker:
            try:
                async with asyncio.timeout(self._terms.start):
                    await worker.get_ready()
            except (OSError, EOFError) as error:
                raise NotStarted(self._failure(error)) from None
            try:
                async with asyncio.timeout(self._terms.patience):
                    return await worker.ask(orjson.dumps(head), body, self._terms.answer)
            except TimeoutError:
                raise TookTooLong from None
            except (OSError, EOFError, orjson.JSONDecodeError) as error:
                if self._is_closed:
                    raise NotStarted from None
                status = await worker.died_of()
                if status in TOOK_TOO_LONG:
                    raise TookTooLong from None
                failure = self._failure(error)
                raise (Killed if status in KILLED else Broke)(failure) from None

    async def aclose(self) -> None:
        """End all processes, also those that still have a question."""
        self._is_closed = True
        while self._idle:
            self._end(self._idle.pop())
        for worker in self._busy:
            worker.kill()
        while self._busy:  # who waits for their answers ends them
            self._left.clear()
            await self._left.wait()
        if self._ending:
            await asyncio.wait(self._ending)

    @contextlib.asynccontextmanager
    async def _worker(self) -> AsyncGenerator[_Worker, None]:
        """A worker that lives on only if all goes well. Raises `NotStarted`."""
        worker = self._rested()
        if worker is None:
            if self._is_closed:
                raise NotStarted
            try:
                worker = await _start(self._terms.module)
            except OSError as error:
                raise NotStarted(self._failure(error)) from None
        self._busy.add(worker)
        is_whole = False
        try:
            yield worker
            is_whole = worker.answered < self._terms.questions
        finally:
            self._busy.discard(worker)
            self._left.set()
            self._rest(worker) if is_whole and not self._is_closed else self._end(worker)

    def _rested(self) -> _Worker | None:
        while self._idle:
            worker = self._idle.pop()
            if worker.retirement is not None:
                worker.retirement.cancel()
            if worker.process.returncode is None:
                return worker
            self._end(worker)
        return None

    def _rest(self, worker: _Worker) -> None:
        loop = asyncio.get_running_loop()
        worker.retirement = loop.call_later(self._terms.idle, self._retire, worker)
        self._idle.append(worker)

    def _retire(self, worker: _Worker) -> None:
        self._idle.remove(worker)
        self._end(worker)

    def _end(self, worker: _Worker) -> None:
        if worker.retirement is not None:
            worker.retirement.cancel()
        worker.sink.close()
        worker.kill()
        ending = asyncio.create_task(worker.end())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    def _failure(self, error: Exception) -> str:
        name = type(error).__name__
        _log.warning("worker_failed", module=self._terms.module, error=name)
        return name


async def _start(module: str) -> _Worker:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    if process.stdin is None or process.stdout is None:
        raise OSError("no pipes")
    return _Worker(process, process.stdin, process.stdout)
