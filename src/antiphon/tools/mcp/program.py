"""A program of the operator that speaks MCP over its pipes (the extra `mcp`).

Rules
1. Of our environment it gets what the SDK thinks safe (``PATH``, ``HOME`` and the like) and what
   the operator named (reliability R-92).
2. A line is bounded, in bytes and in values: one that is not ends the session (R-89, R-118).
3. It is the first of a process group, and nothing of that outlives the session, however the program
   ended. When we are killed, nobody is left to do so: a program should end with its input.
4. The end of what it said to stderr is for the log of the operator, without the values of `env`.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, cast

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from antiphon.protocol.untrusted import visible
from antiphon.tools.mcp.exchange import EXCHANGE, MOST_BODY
from antiphon.tools.mcp.faults import TooLarge
from antiphon.tools.mcp.redaction import Redaction
from antiphon.tools.mcp.servers import Local
from antiphon.tools.mcp.weight import check_weight

Incoming: TypeAlias = SessionMessage | Exception

#: Seconds for it to end when its input has, and then when it was asked to.
_LEAVE_TIMEOUT: Final = 2.0
_END_TIMEOUT: Final = 2.0
_POLL: Final = 0.01
#: Characters of stderr that are logged; more is kept, so that no value is cut before it is removed.
_MOST_LAST_WORDS: Final = 2_000
_MOST_KEPT: Final = 16_000

_log = structlog.get_logger(__name__)


@asynccontextmanager
async def pipes(local: Local) -> AsyncIterator[Any]:
    """Start it, and end it. Raises `OSError`."""
    process = await asyncio.create_subprocess_exec(
        *local.command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=get_default_environment() | dict(local.env),
        cwd=local.cwd,
        start_new_session=True,
        limit=MOST_BODY,
    )
    program = _Program(process)
    said, incoming = anyio.create_memory_object_stream[Incoming](0)
    outgoing, to_say = anyio.create_memory_object_stream[SessionMessage](0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(program.hear, said)
        tasks.start_soon(program.say, to_say, said)
        tasks.start_soon(program.listen)
        try:
            yield incoming, outgoing
        finally:
            with anyio.CancelScope(shield=True):
                for stream in (incoming, outgoing):
                    stream.close()
                await program.end()
            tasks.cancel_scope.cancel()
            program.report(local)


class _Program:
    """One that runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._input = cast("asyncio.StreamWriter", process.stdin)
        self._output = cast("asyncio.StreamReader", process.stdout)
        self._errors = cast("asyncio.StreamReader", process.stderr)
        self._last_words = b""
        #: It went, or had to be made to.
        self._failed = False
        self._ending = False

    async def hear(self, said: MemoryObjectSendStream[Incoming]) -> None:
        """What it says, line by line; after the session what it says is read, and nobody's."""
        async with said:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                while line := await _line(self._output):
                    await said.send(_message(line))
        self._failed = not self._ending
        while await self._output.read(1 << 16):
            pass

    async def say(
        self,
        to_say: MemoryObjectReceiveStream[SessionMessage],
        said: MemoryObjectSendStream[Incoming],
    ) -> None:
        """What it is told; where that fails, the session is over."""
        try:
            async with to_say:
                async for message in to_say:
                    text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                    self._input.write(text.encode() + b"\n")
                    await self._input.drain()
        except OSError:
            said.close()
        self._input.close()

    async def listen(self) -> None:
        """What it says to stderr."""
        while words := await self._errors.read(1 << 16):
            self._last_words = (self._last_words + words)[-_MOST_KEPT:]

    async def end(self) -> None:
        """End it, and all that it started (rule 3)."""
        self._ending = True
        if not await self._ended(_LEAVE_TIMEOUT):
            self._failed = True
            self._signal(signal.SIGTERM)
            await self._ended(_END_TIMEOUT)
        self._signal(signal.SIGKILL)
        await self._ended(_END_TIMEOUT)

    def report(self, local: Local) -> None:
        """For the log, if it did not just end when its input did."""
        if not self._failed:
            return
        words = Redaction(local.env.values()).text(self._last_words.decode(errors="replace"))
        _log.warning(
            "mcp_program_failed",
            connector=local.name,
            status=self._process.returncode,
            said=visible(words)[-_MOST_LAST_WORDS:],
        )

    async def _ended(self, seconds: float) -> bool:
        """Not `wait`: that waits for the pipes as well, which a child of it may hold."""
        with anyio.move_on_after(seconds):
            while self._process.returncode is None:  # noqa: ASYNC110
                await anyio.sleep(_POLL)
        return self._process.returncode is not None

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


async def _line(output: asyncio.StreamReader) -> bytes:
    """The next line; nothing: there is none, or none that is read."""
    try:
        line = await output.readline()
        check_weight(line)
    except (ValueError, TooLarge):
        EXCHANGE.get().fault = TooLarge()
        return b""
    return line


def _message(line: bytes) -> Incoming:
    """A line that is no message is an exception, which is nobody's."""
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error
