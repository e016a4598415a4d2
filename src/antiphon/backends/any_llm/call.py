"""One turn at the library, as an `Answer`: chunks become the events of a chat-completions stream.

Rules
1. A task of its own asks and reads, a little ahead of who reads here; where the SDK blocks, in a
   thread with a loop of its own, so that the server's loop and its pool of threads stay free.
2. It has begun when the first chunk or the first error is there: before that it can be tried again.
3. `close` ends it wherever it is: it cancels the task, and where that is blocked it ends the
   connection below.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from types import MappingProxyType
from typing import Any, Final, TypeVar, final

from antiphon.backends.any_llm.faults import Fault, event_of, fault_of
from antiphon.backends.any_llm.library import SOURCE, Chunk, Library, Source

#: Chunks that wait to be read.
_AHEAD: Final = 64
_T = TypeVar("_T")


class Said:
    """An `Answer` that is whole: a refusal."""

    content_type: Final = "application/json"

    def __init__(self, fault: Fault) -> None:
        self.status = fault.status
        self.headers = fault.headers
        self._left = fault.body

    @property
    def content(self) -> "Said":
        """See `Answer.content`."""
        return self

    async def read(self, n: int = -1) -> bytes:  # noqa: ARG002
        """See `Body.read`."""
        data, self._left = self._left, b""
        return data

    def at_eof(self) -> bool:
        """See `Body.at_eof`."""
        return not self._left

    def close(self) -> None:
        """There is nothing to close."""


@final
class Call:
    """An `Answer` that is being said. Use `begun`."""

    status = 200
    content_type: Final = "text/event-stream"
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, library: Library, body: dict[str, Any], seconds: float) -> None:
        """`seconds`: for all of it."""
        self._library = library
        self._body = body
        self._loop = asyncio.get_running_loop()
        self._said: asyncio.Queue[bytes | Fault | OSError | None] = asyncio.Queue(_AHEAD)
        self._first: bytes | None = None
        self._early = True
        self._closed = False
        self._at_end = False
        #: Who asks and reads, and where that runs.
        self._reading: tuple[asyncio.Task[None], asyncio.AbstractEventLoop] | None = None
        self._source: Source | None = None
        self._timer = self._loop.call_later(seconds, self._end, TimeoutError("it took too long"))

    async def begun(self) -> "Call | Said":
        """The answer, as soon as there is one. Raises OSError."""
        if self._library.traits.blocks:
            threading.Thread(target=self._run, name="any-llm-call", daemon=True).start()
        else:
            self._reading = (self._loop.create_task(self._pump(), name="any-llm-call"), self._loop)
        begun = False
        try:
            first = await self._said.get()
            if isinstance(first, Fault):
                return Said(first)
            if isinstance(first, OSError):
                raise first
            self._first, begun = first or b"", True
            self._at_end = first is None
            return self
        finally:
            if not begun:
                self.close()

    @property
    def content(self) -> "Call":
        """See `Answer.content`."""
        return self

    async def read(self, n: int = -1) -> bytes:  # noqa: ARG002
        """See `Body.read`: all that waits."""
        pieces = [self._first] if self._first else []
        self._first = None
        while not self._at_end and (not pieces or not self._said.empty()):
            piece = await self._said.get()
            match piece:
                case None:
                    self._at_end = True
                case bytes():
                    pieces.append(piece)
                case Fault():
                    pieces.append(event_of(piece))
                    self._at_end = True
                case OSError() if pieces:
                    self._said.put_nowait(piece)
                    break
                case OSError():
                    raise piece
        return b"".join(pieces)

    def at_eof(self) -> bool:
        """See `Body.at_eof`."""
        return self._at_end and not self._first

    def close(self) -> None:
        """See `Answer.close`."""
        self._end(ConnectionResetError("closed"))

    def _end(self, why: OSError) -> None:
        self._timer.cancel()
        if self._closed:
            return
        self._closed = True
        while not self._said.empty():
            self._said.get_nowait()
        self._said.put_nowait(why)
        if self._reading is not None:
            task, loop = self._reading
            with contextlib.suppress(RuntimeError):  # its loop has ended just now
                loop.call_soon_threadsafe(task.cancel)
        if self._source is not None:
            with contextlib.suppress(OSError, ValueError):
                self._source.shutdown()

    # -- in the task, or in the thread ------------------------------------------------------------

    def _run(self) -> None:
        """The thread."""
        with asyncio.Runner() as runner, contextlib.suppress(asyncio.CancelledError):
            runner.get_loop().set_default_executor(_Here())
            runner.run(self._pump_here())

    async def _pump_here(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._reading = (task, asyncio.get_running_loop())
        SOURCE.set(self._read_from)
        if not self._closed:
            await self._pump()

    async def _pump(self) -> None:
        last: Fault | OSError | None = ConnectionError("it ended without an end")
        try:
            async with aclosing(await self._library.provider.acompletion(**self._body)) as chunks:
                await self._pass_on(chunks)
            last = None
        except self._library.errors as error:
            last = fault_of(error, early=self._early)
        finally:
            if self._source is not None:
                self._source.close()
            if not self._closed:
                await self._hand(last)

    async def _pass_on(self, chunks: AsyncGenerator[Chunk, None]) -> None:
        async for chunk in chunks:
            self._early = False
            written = chunk.model_dump_json(exclude_none=True).encode()
            await self._hand(b"data: " + written + b"\n\n")

    async def _hand(self, piece: bytes | Fault | OSError | None) -> None:
        if asyncio.get_running_loop() is self._loop:
            await self._said.put(piece)
        else:
            put = asyncio.run_coroutine_threadsafe(self._said.put(piece), self._loop)
            await asyncio.wrap_future(put)

    def _read_from(self, source: Source) -> None:
        self._source = source
        if self._closed:
            source.shutdown()


class _Here(ThreadPoolExecutor):
    """Runs what it is given at once: the thread is the call's own."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **options: Any) -> Future[_T]:
        """See `Executor.submit`."""
        done: Future[_T] = Future()
        done.set_result(fn(*args, **options))
        return done
