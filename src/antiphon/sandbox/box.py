"""A sandbox as the server has it: a process with pipes (`sandbox.base`, `sandbox/inside.py`).

Rules
1. What comes out of the pipe is read in frames of bounded size, and counted: a sandbox that says
   too much, or what is no answer, is ended.
2. Who waits no more interrupts the run. Before the next question that has to have an end; when it
   has none soon the session is started anew, and when that does not help the sandbox is ended.
3. The process is a child of this one, and dies with it (R-113); it leads a group (`orphans.py`).
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Collection
from dataclasses import replace
from typing import Any, Final, Literal, TypeAlias

import orjson

from antiphon.sandbox.base import (
    BoxFile,
    Ending,
    Limits,
    Picture,
    Ran,
    SandboxGone,
    SandboxRefused,
    Shown,
    Text,
)
from antiphon.sandbox.orphans import end

Json: TypeAlias = dict[str, Any]

#: Bytes of a line, and of all that a run shows, which `inside` keeps to.
MOST_LINE: Final = 64 * 1024
_MOST_TEXT: Final = 1024 * 1024
_MOST_IMAGES: Final = 16 * 1024 * 1024
_MOST_SHOWN: Final = 10_000
#: Bytes of a list of files.
_MOST_LIST: Final = 2 * 1024 * 1024
_PIECE: Final = 256 * 1024
#: Seconds: until an interrupted run has ended; until a session has been started anew; until a
#: question that runs no code is answered.
_GRACE: Final = 2.0
_AGAIN: Final = 20.0
_PATIENCE: Final = 300.0
#: Times that it may be too large before it is ended.
_LOOKS: Final = 4
#: What a pipe says at its end; RuntimeError: `close` has come to read it first.
_UNREADABLE: Final = (OSError, EOFError, RuntimeError)
#: What ends well, as it is said; all else is the end of the session.
_ENDINGS: Final[dict[str, Ending]] = {"ok": "ok", "error": "error"}


class Box:
    """See `Sandbox`."""

    def __init__(self, program: asyncio.subprocess.Process, limits: Limits) -> None:
        """`program` has pipes, a limit of `MOST_LINE` for lines, and a session of its own."""
        self.limits = limits
        self._program = program
        self._turn = asyncio.Lock()
        self._gone = False
        #: How often it has had something to do.
        self.turns = 0
        #: What the last run shows, and what is still to be read of one that nobody waits for.
        self._reading: asyncio.Task[Ran] | None = None
        self._rest: asyncio.Task[None] | None = None
        #: Why somebody else ended the session that runs (`too_large`).
        self._reason: Literal["memory"] | None = None
        self._looks = 0
        #: Variables are lost by a run that nobody waited for; who runs next does not know.
        self._is_anew = False

    # -- what it is ---------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._program.pid

    @property
    def is_alive(self) -> bool:
        """See `Sandbox`."""
        return not self._gone and self._program.returncode is None

    @property
    def is_busy(self) -> bool:
        """Something is done in it."""
        return self._turn.locked() or self._is_running

    @property
    def _is_running(self) -> bool:
        """Code runs in it, whether somebody waits for that or not."""
        return self._reading is not None and not self._reading.done()

    async def get_ready(self, seconds: float) -> None:
        """Wait for its first word. Raises `SandboxGone`."""
        async with self._asking(seconds):
            await self._word()

    def too_large(self) -> None:
        """Its processes have more memory than they may. It may take them some looks to end; only
        what runs code is told to, others would take the word for a piece of a file."""
        self._looks += 1
        if self.is_busy and self._looks <= _LOOKS:
            if self._is_running and self._reason is None:
                self._reason = "memory"
                with contextlib.suppress(SandboxGone):  # who waits for the run sees its end
                    self._write({"do": "restart"})
        else:
            self.kill()

    def kill(self) -> None:
        """End it now; nobody waits for that."""
        self._gone = True
        if self._program.returncode is not None:
            return
        end(self._program.pid)

    async def close(self) -> None:
        """See `Sandbox`."""
        self.kill()
        if self._program.stdin is not None:
            self._program.stdin.close()
        with contextlib.suppress(OSError):
            while not self._source.at_eof():
                await self._skip()
        await self._program.wait()
        if self._rest is not None:
            await asyncio.wait((self._rest,))

    async def _skip(self) -> None:
        """What nobody has read: asyncio sees the end of a program after that of its pipes."""
        try:
            await self._source.read(_PIECE)
        except RuntimeError:  # somebody waits for it, and will see the end
            await asyncio.sleep(0.01)

    # -- runs ---------------------------------------------------------------------------------

    async def run(self, code: str, seconds: float) -> Ran:
        """See `Sandbox`."""
        async with self._turn:
            self.turns += 1
            await self._settle()
            self._reason = None
            self._looks = 0
            try:
                self._write({"do": "run"}, code.encode(errors="replace"))
            except SandboxGone:
                self.kill()
                raise
            self._reading = reading = asyncio.create_task(self._read())
            try:
                ran = await self._limited(reading, seconds)
            except asyncio.CancelledError:
                self._rest = asyncio.create_task(self._leave(reading))
                raise
            is_anew, self._is_anew = self._is_anew, False
            return replace(ran, renewed=ran.renewed or is_anew)

    async def _limited(self, reading: "asyncio.Task[Ran]", seconds: float) -> Ran:
        """Its end, whatever it takes."""
        done, _ = await asyncio.wait((reading,), timeout=seconds)
        if done:
            ran = self._end(reading)
            return ran if self._reason is None else _with(ran, self._reason)
        ran = await self._stop(reading)
        return replace(_with(ran, "timeout"), renewed=ran.renewed or ran.ending == "died")

    async def _stop(self, reading: "asyncio.Task[Ran]") -> Ran:
        """Interrupt the run; if that is not heard, start the session anew."""
        for asked, seconds in (("interrupt", _GRACE), ("restart", _AGAIN)):
            with contextlib.suppress(SandboxGone):  # whose end `reading` sees
                self._write({"do": asked})
            done, _ = await asyncio.wait((reading,), timeout=seconds)
            if done:
                return self._end(reading)
        reading.cancel()
        self.kill()
        raise SandboxGone

    async def _leave(self, reading: "asyncio.Task[Ran]") -> None:
        with contextlib.suppress(SandboxGone):
            ran = await self._stop(reading)
            self._is_anew |= ran.renewed or ran.ending == "died"

    def _end(self, reading: "asyncio.Task[Ran]") -> Ran:
        try:
            return reading.result()
        except SandboxGone:
            self.kill()
            raise

    async def _settle(self) -> None:
        """Wait for the end of a run that somebody has left."""
        if self._rest is not None:
            await asyncio.wait((self._rest,))
            self._rest = None
        if not self.is_alive:
            raise SandboxGone

    async def _read(self) -> Ran:
        """What a run shows, up to its end."""
        shown: list[Shown] = []
        texts: list[str] = []
        text, images = _MOST_TEXT, _MOST_IMAGES
        for _ in range(_MOST_SHOWN):
            word = await self._word()
            if texts and word.get("shown") != "text":
                shown.append(Text("".join(texts)))
                texts.clear()
            if "end" in word:
                ending = _ENDINGS.get(str(word["end"]), "died")
                cut, renewed = word.get("cut") is True, word.get("renewed") is True
                return Ran(ending, shown, cut=cut, renewed=renewed)
            body = await self._body(word, text if word.get("shown") == "text" else images)
            if word.get("shown") == "text":
                text -= len(body)
                texts.append(body.decode(errors="replace"))
            else:
                images -= len(body)
                shown.append(Picture(body, _media_type(body)))
        raise SandboxGone

    # -- files --------------------------------------------------------------------------------

    async def put(self, path: str, size: int, pieces: AsyncIterable[bytes]) -> None:
        """See `Sandbox`."""
        async with self._asking(_PATIENCE):
            self._write({"do": "put", "path": path, "size": size})
            left = size
            async for piece in pieces:
                left -= len(piece)
                if left < 0:
                    break
                self._send(piece)
                await self._drain()
            if left:  # the rest of the question will never come
                raise SandboxGone
            await self._answer()

    async def get(self, path: str, most: int) -> AsyncGenerator[bytes, None]:
        """See `Sandbox`."""
        async with self._asking(_PATIENCE):
            word = await self._asked({"do": "get", "path": path, "most": most})
            left = word.get("size", 0)
            if type(left) is not int or not 0 <= left <= most:
                raise SandboxGone
            try:
                while left:
                    piece = await self._piece(min(left, _PIECE))
                    left -= len(piece)
                    yield piece
            finally:
                while left and self.is_alive:
                    left -= len(await self._piece(min(left, _PIECE)))

    async def delete(self, path: str) -> None:
        """See `Sandbox`."""
        async with self._asking(_PATIENCE):
            await self._asked({"do": "delete", "path": path})

    async def files(self) -> list[BoxFile]:
        """See `Sandbox`."""
        async with self._asking(_PATIENCE):
            word = await self._asked({"do": "list"})
            listed = orjson.loads(await self._body(word, _MOST_LIST) or b"[]")
            if not isinstance(listed, list):
                raise SandboxGone
            return [_file(*row) for row in listed]

    async def lacking(self, paths: Collection[str]) -> set[str]:
        """See `Sandbox`."""
        async with self._asking(_PATIENCE):
            self._write({"do": "lacking"}, orjson.dumps(list(paths)))
            gone = orjson.loads(await self._body(await self._answer(), _MOST_LIST) or b"[]")
            return set(paths).intersection(gone)

    # -- words --------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _asking(self, seconds: float) -> AsyncGenerator[None, None]:
        """A question that runs no code. What is left in the middle ends the sandbox: nobody would
        know what belongs to what."""
        async with self._turn:
            self.turns += 1
            await self._settle()
            is_whole = False
            try:
                async with asyncio.timeout(seconds):
                    yield
                is_whole = True
            except (SandboxRefused, GeneratorExit):
                is_whole = True
                raise
            except (SandboxGone, TimeoutError, ValueError, TypeError):
                raise SandboxGone from None
            finally:
                if not is_whole:
                    self.kill()

    async def _asked(self, question: Json) -> Json:
        self._write(question)
        return await self._answer()

    async def _answer(self) -> Json:
        word = await self._word()
        if word.get("end"):
            said = str(word["end"])[:200]
            raise SandboxRefused(said if said.isprintable() else "It cannot be done")
        return word

    def _write(self, question: Json, body: bytes = b"") -> None:
        if body:
            question["size"] = len(body)
        self._send(orjson.dumps(question) + b"\n" + body)

    def _send(self, content: bytes) -> None:
        """Raises `SandboxGone`: some loops say so at once, as RuntimeError."""
        sink = self._program.stdin
        if sink is None or sink.is_closing():
            raise SandboxGone
        try:
            sink.write(content)
        except (OSError, RuntimeError):
            raise SandboxGone from None

    async def _drain(self) -> None:
        try:
            if self._program.stdin is not None:
                await self._program.stdin.drain()
        except (OSError, RuntimeError):
            raise SandboxGone from None

    async def _word(self) -> Json:
        """The next line."""
        try:
            line = await self._source.readuntil(b"\n")
            word = orjson.loads(line)
        except (*_UNREADABLE, asyncio.LimitOverrunError, ValueError):
            raise SandboxGone from None
        if not isinstance(word, dict):
            raise SandboxGone
        return word

    async def _body(self, word: Json, most: int) -> bytes:
        """The bytes behind a line."""
        size = word.get("size", 0)
        if type(size) is not int or not 0 <= size <= most:
            raise SandboxGone
        return await self._piece(size)

    async def _piece(self, size: int) -> bytes:
        try:
            return await self._source.readexactly(size)
        except _UNREADABLE:
            raise SandboxGone from None

    @property
    def _source(self) -> asyncio.StreamReader:
        if self._program.stdout is None:
            raise SandboxGone
        return self._program.stdout


def _with(ran: Ran, ending: Literal["timeout", "memory"]) -> Ran:
    return Ran(ending, ran.shown, cut=ran.cut, renewed=ran.renewed)


def _media_type(body: bytes) -> str:
    """What an image is, its bytes say; who shows it decides what is none."""
    return "image/jpeg" if body.startswith(b"\xff\xd8\xff") else "image/png"


def _file(path: Any, size: Any, changed: Any) -> BoxFile:
    are_numbers = all(type(one) is int and 0 <= one < 1 << 63 for one in (size, changed))
    if not isinstance(path, str) or not are_numbers:
        raise TypeError
    return BoxFile(path, size, changed)
