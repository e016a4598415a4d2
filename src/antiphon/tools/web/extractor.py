"""Makes text of pages without being held up, or broken, by them (R-118).

Rules
1. Parsers of HTML hold Python's lock, take quadratic time over some pages and cannot be stopped:
   they run in processes (`text_worker.py`), which are killed when they take too long or when nobody
   waits any more (R-58).
2. A few at once; who comes later waits, and projects take turns (`turns.py`). A process that has
   had nothing to do for a while ends.
"""

import asyncio
import contextlib
import os
import sys
from dataclasses import dataclass
from typing import Final

import orjson
import structlog

from antiphon.errors import ToolFailed
from antiphon.tools.web.text import MOST_BYTES, MOST_TEXT, PageText
from antiphon.tools.web.text_worker import ANSWER, REQUEST
from antiphon.tools.web.turns import Turns

_log = structlog.get_logger(__name__)

#: Processes.
MOST: Final = 2
#: Seconds for one page, and for a process to be ready for its first one.
PATIENCE: Final = 5.0
_START: Final = 15.0
#: Seconds after which a process that has nothing to do ends.
IDLE: Final = 60.0
#: Bytes of an answer: characters of six bytes in JSON, and some more.
_MOST_ANSWER: Final = 6 * MOST_TEXT + 64 * 1024
#: All of the server's environment that a process sees.
_ENVIRONMENT: Final = ("LANG", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TEMP", "TMPDIR")
_BROKEN: Final = "The page cannot be read."


@dataclass(slots=True)
class _Worker:
    """A process, with its pipes."""

    process: asyncio.subprocess.Process
    sink: asyncio.StreamWriter
    source: asyncio.StreamReader
    retirement: asyncio.TimerHandle | None = None
    is_ready: bool = False

    async def get_ready(self) -> None:
        """Have it import its parser, which is not the first page's fault."""
        if not self.is_ready:
            with contextlib.suppress(ToolFailed):  # there is none
                await self.ask(b"<p>x</p>", "text/html")
            self.is_ready = True

    async def ask(self, body: bytes, content_type: str) -> PageText:
        """Raises `ToolFailed`, or OSError or EOFError when the process is no more."""
        name = content_type.encode("utf-8", "replace")[:1_000]
        body = body[:MOST_BYTES]
        self.sink.write(REQUEST.pack(len(name), len(body)) + name)
        self.sink.write(body)
        await self.sink.drain()
        (length,) = ANSWER.unpack(await self.source.readexactly(ANSWER.size))
        if length > _MOST_ANSWER:
            raise EOFError
        answer = orjson.loads(await self.source.readexactly(length))
        if "problem" in answer:
            raise ToolFailed(answer["problem"])
        return PageText(answer["title"], answer["text"])


class Extractor:
    """The processes of one server; `aclose` it."""

    def __init__(self, *, most: int = MOST, patience: float = PATIENCE, idle: float = IDLE) -> None:
        """`patience` and `idle` in seconds."""
        self._turns = Turns(most)
        self._patience = patience
        self._idle_time = idle
        self._idle: list[_Worker] = []
        self._ending: set[asyncio.Task[int]] = set()

    async def text(self, project: str, body: bytes, content_type: str) -> PageText:
        """Title and text of a page that a project reads. Raises `ToolFailed`."""
        async with self._turns.turn(project):
            worker: _Worker | None = None
            whole = False
            try:
                async with asyncio.timeout(_START):
                    worker = await self._worker()
                    await worker.get_ready()
                async with asyncio.timeout(self._patience):
                    text = await worker.ask(body, content_type)
                whole = True
            except ToolFailed:
                whole = True
                raise
            except TimeoutError:
                raise ToolFailed("It takes too long to read the page.") from None
            except (OSError, EOFError, orjson.JSONDecodeError) as error:
                _log.warning("page_parser_broke", error=type(error).__name__)
                raise ToolFailed(_BROKEN) from None
            finally:
                if worker is not None:
                    self._rest(worker) if whole else self._end(worker)
            return text

    async def aclose(self) -> None:
        """End all processes."""
        while self._idle:
            self._end(self._idle.pop())
        if self._ending:
            await asyncio.wait(self._ending)

    async def _worker(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.retirement is not None:
                worker.retirement.cancel()
            if worker.process.returncode is None:
                return worker
            self._end(worker)
        return await _start()

    def _rest(self, worker: _Worker) -> None:
        loop = asyncio.get_running_loop()
        worker.retirement = loop.call_later(self._idle_time, self._retire, worker)
        self._idle.append(worker)

    def _retire(self, worker: _Worker) -> None:
        self._idle.remove(worker)
        self._end(worker)

    def _end(self, worker: _Worker) -> None:
        if worker.retirement is not None:
            worker.retirement.cancel()
        worker.sink.close()
        with contextlib.suppress(ProcessLookupError):
            worker.process.kill()
        ending = asyncio.create_task(worker.process.wait())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)


async def _start() -> _Worker:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",
        "-m",
        "antiphon.tools.web.text_worker",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    )
    if process.stdin is None or process.stdout is None:
        raise OSError("no pipes")
    return _Worker(process, process.stdin, process.stdout)
